//! The operations, one file a family: how each is built, and its vjp.
//!
//! Rules use the public builder alone, so that a gradient can be differentiated again. None of them
//! deals with accumulation or with whether a gradient is needed: the walker in `grad.rs` does.

mod activations;
mod arrange;
mod attention;
pub(crate) mod catalogue;
mod classification;
mod conv;
mod ctc;
mod cumulative;
mod diagonal;
mod einsum;
mod elementwise;
mod functions;
mod grid_sample;
mod im2col;
mod index;
mod interpolate;
mod linalg;
mod loss;
pub(crate) mod mask;
mod matmul;
mod metric_loss;
mod norm;
mod padding;
mod pool;
mod quantile;
mod random;
mod random_state;
mod range;
mod recurrent;
mod reduce;
pub(crate) mod require;
mod rotary;
mod running;
mod scatter;
mod shape;
mod shuffle;
mod similarity;
mod softmax;
mod sort;
mod statistics;
mod window;

use backprop_core::Place;

use crate::graph::{Graph, Problem, bad_attribute};
use crate::ir::{Node, Op};
use crate::tensor::Tensor;

pub use attention::{Mask, WeightDropout};
pub use catalogue::{Entry, catalogue};
pub use classification::{CrossEntropy, NegativeLogLikelihood};
pub use conv::Convolution;
pub use ctc::Ctc;
pub use grid_sample::{GridSample, Outside};
pub use im2col::Patches;
pub use interpolate::{Align, Interpolate, Resample};
pub use linalg::{Lu, Triangle};
pub use loss::Reduce;
pub use metric_loss::TripletMargin;
pub use norm::LocalResponse;
pub use padding::Padding;
pub use pool::{Divisor, Pool};
pub use quantile::Between;
pub use random_state::RandomState;
pub use recurrent::{Cell, Direction, Recurred, Recurrence, Recurrent};
pub use rotary::{Pairing, Rotary};
pub use running::RunningStatistics;
pub use scatter::{Combine, Scatter};
pub use window::{PerAxis, Rounding};

impl Graph {
    /// Builds an operation made of others: everything in it bears the operation's name and its
    /// caller's place, and a problem becomes an error that shows the operands. `build` sees only
    /// operands of this graph that are in order.
    pub(crate) fn compose<'g>(
        &'g self,
        operation: &str,
        operands: &[Tensor<'g>],
        place: Place,
        build: impl FnOnce() -> Result<Tensor<'g>, Problem>,
    ) -> Tensor<'g> {
        self.within(self.origin_of(operation, place), || {
            let sound = operands.iter().all(|x| self.is_sound(*x));
            let built = match sound {
                true => self.first_error(build),
                false => Err(bad_attribute(operation, "an operand failed to build")),
            };
            built.unwrap_or_else(|problem| self.refuse(operation, operands, place, problem))
        })
    }
}

/// The cotangent of each operand of a node, given the operands `x`, the result `y` and its
/// cotangent `g`.
pub(crate) fn vjp<'g>(
    node: &Node,
    x: &[Tensor<'g>],
    y: Tensor<'g>,
    g: Tensor<'g>,
) -> Vec<Option<Tensor<'g>>> {
    if let Some(parts) = mask::vjp(node, x, y, g) {
        return parts;
    }
    match &node.op {
        Op::Scalar(function) => elementwise::vjp(*function, x, y, g),
        Op::Cast => vec![Some(g.cast(x[0].dtype()))],
        Op::Reduce(reduction, axes) => vec![reduce::vjp(*reduction, *axes, x[0], y, g)],
        Op::Broadcast => vec![Some(shape::unbroadcast(x[0].shape(), g))],
        Op::Reshape => vec![Some(g.reshape_to(x[0].shape()))],
        Op::Permute(order) => vec![Some(shape::unpermute(order, g))],
        Op::Slice(stride) => vec![Some(g.pad_by(stride, 0.0, x[0].shape()))],
        Op::Pad(stride, _) => vec![Some(g.slice_by(stride, x[0].shape()))],
        Op::Concat(axis) => shape::unconcat(usize::from(*axis), x, g),
        Op::MatMul => matmul::vjp(x[0], x[1], g),
        Op::Gather(axis) => vec![Some(index::ungather(usize::from(*axis), x, g)), None],
        Op::ScatterAdd(axis) => vec![Some(index::unscatter(usize::from(*axis), x, g)), None],
        Op::Require(_) => vec![Some(g), None],
        Op::Input(_)
        | Op::Parameter(_)
        | Op::Constant(_)
        | Op::Data(_)
        | Op::Coordinate(_)
        | Op::Random
        | Op::Stop
        | Op::Custom(_)
        | Op::Output(_)
        | Op::Fused(_)
        | Op::Argument(..)
        | Op::Scan(_)
        | Op::Reserved(_)
        | Op::Unchosen(_)
        | Op::Poison => vec![None; x.len()],
    }
}

/// Whether a gradient can flow from the result of a node to its operand number `operand`.
pub(crate) fn is_differentiable(op: &Op, operand: usize) -> bool {
    match op {
        Op::Scalar(function) => function.is_differentiable(),
        Op::Gather(_) | Op::ScatterAdd(_) | Op::Require(_) => operand == 0,
        Op::Stop | Op::Random | Op::Poison => false,
        _ => true,
    }
}
