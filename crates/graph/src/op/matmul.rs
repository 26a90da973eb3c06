//! Products of matrices and vectors.

use std::panic::Location;

use backprop_core::{DType, Shape};

use crate::graph::{Problem, Type, bad_dtype, bad_shape};
use crate::ir::Op;
use crate::op::catalogue::{Entry, entries, reals};
use crate::operand::Operand;
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// The matrix product `[.., m, k] x [.., k, n] -> [.., m, n]`. Batch axes are broadcast; a tensor
    /// of one axis counts as a row on the left and as a column on the right, and loses that axis in
    /// the result.
    #[track_caller]
    #[must_use]
    pub fn matmul(self, right: impl Operand<'g>) -> Tensor<'g> {
        let place = Location::caller();
        let right = right.on(self.graph, Some(self.dtype()), place);
        let (left_rank, right_rank) = (self.rank(), right.rank());
        let batched = left_rank > 2 && right_rank <= 2 && right_rank > 0;
        self.graph.at(place, || match (left_rank, right_rank) {
            (1, 1..) => {
                let product = self.unsqueeze(0).matmul(right);
                product.squeeze(if right_rank == 1 { 0 } else { -2 })
            }
            (2.., 1) => self.matmul(right.unsqueeze(1)).squeeze(-1),
            // One matrix for the whole batch: a single product with the batch folded into rows, so
            // that its vjp is a single product too.
            _ if batched && self.shape().size(left_rank - 1) == right.shape().size(0) => {
                let shape = self.shape().with(left_rank - 1, right.shape().size(1));
                let rows = shape.filter(|axis| axis + 1 < left_rank).count() as isize;
                let folded = self.reshape([rows, right.shape().size(0) as isize]);
                folded.product(right).reshape_to(shape)
            }
            _ => self.product_of_batches(right),
        })
    }

    /// The products of every element of a vector `[m]` with every one of another `[n]`, as `[m, n]`.
    #[track_caller]
    #[must_use]
    pub fn outer(self, right: Tensor<'g>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "outer");
        self.graph.compose(name, &[self, right], place, || {
            if self.rank() != 1 || right.rank() != 1 {
                let what = format!("{} and {} are no vectors", self.shape(), right.shape());
                return Err(bad_shape(name, what));
            }
            Ok(self.unsqueeze(1) * right)
        })
    }

    /// The Kronecker product: every element of this, in its place, times all of `right`. Axes are
    /// aligned at the end; at most four.
    #[track_caller]
    #[must_use]
    pub fn kron(self, right: Tensor<'g>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "kron");
        self.graph.compose(name, &[self, right], place, || {
            let rank = self.rank().max(right.rank());
            let sizes = |x: Tensor<'g>| {
                let missing = std::iter::repeat_n(1, rank - x.rank());
                missing
                    .chain(x.shape().sizes().to_vec())
                    .collect::<Vec<_>>()
            };
            let (a, b) = (sizes(self), sizes(right));
            let pairs = || a.iter().zip(&b);
            let outer: Vec<isize> = a.iter().flat_map(|&a| [a as isize, 1]).collect();
            let inner: Vec<isize> = b.iter().flat_map(|&b| [1, b as isize]).collect();
            let merged: Vec<isize> = pairs()
                .map(|(&a, &b)| a.saturating_mul(b) as isize)
                .collect();
            Ok((self.reshape(outer) * right.reshape(inner)).reshape(merged))
        })
    }

    #[track_caller]
    fn product_of_batches(self, right: Tensor<'g>) -> Tensor<'g> {
        let (a, b) = (self.shape(), right.shape());
        if a.rank() < 2 || b.rank() < 2 || a.size(a.rank() - 1) != b.size(b.rank() - 2) {
            return self.product(right);
        }
        let batch = |shape: Shape| shape.filter(|axis| axis + 2 < shape.rank());
        let matrix = |shape: Shape, batch: Shape| {
            let sizes = batch
                .sizes()
                .iter()
                .chain(&shape.sizes()[shape.rank() - 2..]);
            sizes.copied().collect::<Vec<_>>()
        };
        match batch(a).broadcast(&batch(b)) {
            Some(common) => {
                let left = self.broadcast_to(matrix(a, common));
                left.product(right.broadcast_to(matrix(b, common)))
            }
            None => self.product(right),
        }
    }

    #[track_caller]
    fn product(self, right: Tensor<'g>) -> Tensor<'g> {
        self.graph
            .apply("matmul", &[self, right], Location::caller(), infer)
    }
}

fn infer(types: &[Type]) -> Result<(Op, Type), Problem> {
    let [(dtype, a), (other, b)] = [types[0], types[1]];
    if dtype != other {
        return Err(bad_dtype("matmul", format!("{dtype} and {other}")));
    }
    if dtype == DType::Bool {
        let problem = bad_dtype("matmul", "truth values have no products");
        return Err(problem.help("convert with `.cast(F32)` first"));
    }
    if a.rank() < 2 || b.rank() < 2 {
        return Err(bad_shape("matmul", format!("{a} and {b} are no matrices")));
    }
    let (m, k) = (a.size(a.rank() - 2), a.size(a.rank() - 1));
    let (inner, n) = (b.size(b.rank() - 2), b.size(b.rank() - 1));
    if k != inner {
        let problem = bad_shape("matmul", format!("inner sizes differ, {k} and {inner}"));
        return Err(match k == n {
            true => problem.help("the right side may be stored transposed: `x.matmul(w.t())`"),
            false => problem,
        });
    }
    if a.rank() != b.rank() || a.sizes()[..a.rank() - 2] != b.sizes()[..b.rank() - 2] {
        return Err(bad_shape(
            "matmul",
            format!("batch axes do not fit, {a} and {b}"),
        ));
    }
    let shape = a.with(a.rank() - 2, m).with(a.rank() - 1, n);
    Ok((Op::MatMul, (dtype, shape)))
}

pub(super) fn vjp<'g>(a: Tensor<'g>, b: Tensor<'g>, g: Tensor<'g>) -> Vec<Option<Tensor<'g>>> {
    let left = match is_transposed(a) {
        true => b.product(g.t()).t(),
        false => g.product(b.t()),
    };
    let right = match is_transposed(b) {
        true => g.t().product(a).t(),
        false => a.t().product(g),
    };
    vec![Some(left), Some(right)]
}

/// Whether a factor is a matrix transposed. Its cotangent is then better a product transposed, which
/// cancels: the gradient of a weight `[out, in]` is a product itself, and takes an optimizer's update
/// as its epilogue.
fn is_transposed(factor: Tensor<'_>) -> bool {
    let node = factor.graph.node(factor.id);
    let last = node.shape.rank().saturating_sub(2);
    match &node.op {
        Op::Permute(order) => {
            let swapped = order.iter().skip(last).map(|&axis| usize::from(axis));
            swapped.eq([last + 1, last])
        }
        _ => false,
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        matmul reals(&[&[3, 4], &[4, 2]]) => |x| x[0].matmul(x[1]);
        matmul_broadcast reals(&[&[2, 1, 2, 3], &[3, 3, 2]]) => |x| x[0].matmul(x[1]);
        outer reals(&[&[3], &[2]]) => |x| x[0].outer(x[1]);
        kron reals(&[&[2, 3], &[2]]) => |x| x[0].kron(x[1]);
        matmul_of_vectors reals(&[&[4], &[4]]) => |x| x[0].matmul(x[1]);
    }
}
