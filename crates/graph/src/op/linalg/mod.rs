//! Linear algebra of small matrices `[.., n, n]`, any number of them at once.
//!
//! Factorisations are eliminations out of plain operations, unrolled over the columns: a plan has
//! a handful of launches for each of the `n` columns, and each works on all that is left of all
//! matrices. Meant for `n` up to about 64. Gradients are the closed forms of Giles, "An extended
//! collection of matrix derivative results for forward and reverse mode algorithmic
//! differentiation" (2008), and take the operations themselves: nothing is differentiated through
//! an elimination, and a matrix is factored once for derivatives of every order.

mod cholesky;
mod exponential;
mod lu;
mod svd;
mod triangular;

use std::panic::Location;

use backprop_core::{DType, Shape};

use crate::axes::resolve;
use crate::graph::{Graph, Problem, bad_dtype, bad_shape};
use crate::op::catalogue::{Entry, entries, reals};
use crate::operand::Operand;
use crate::tensor::Tensor;

pub use lu::Lu;
pub use triangular::Triangle;

impl<'g> Tensor<'g> {
    /// The sum of the diagonal of matrices `[.., m, n]`.
    #[track_caller]
    #[must_use]
    pub fn trace(self) -> Tensor<'g> {
        self.graph
            .compose("trace", &[self], Location::caller(), || {
                resolve("trace", -2, self.rank())?;
                Ok(self.diagonal(0, -2, -1).sum(-1))
            })
    }

    /// The cross product of vectors of three elements along `axis`; other axes are broadcast.
    #[track_caller]
    #[must_use]
    pub fn cross(self, right: impl Operand<'g>, axis: i32) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "cross");
        let right = right.on(self.graph, Some(self.dtype()), place);
        self.graph.compose(name, &[self, right], place, || {
            let size = |x: Tensor<'g>| resolve(name, axis, x.rank()).map(|at| x.shape().size(at));
            if (size(self)?, size(right)?) != (3, 3) {
                let what = format!("{} and {} along axis {axis}", self.shape(), right.shape());
                return Err(bad_shape(name, what).help("the axis has three elements"));
            }
            let (a, b) = (self, right);
            let [first, second] =
                [(-1, -2), (-2, -1)].map(|(i, j)| a.roll(i, axis) * b.roll(j, axis));
            Ok(first - second)
        })
    }

    /// Square matrices `[.., n, n]` to a whole power, by squaring; negative powers are those of the
    /// [inverse](Tensor::inverse), and power 0 is the identity.
    #[track_caller]
    #[must_use]
    pub fn matrix_power(self, exponent: i32) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "matrix_power");
        self.graph.compose(name, &[self], place, || {
            square(name, self)?;
            let base = if exponent < 0 { self.inverse() } else { self };
            let (mut left, mut power) = (exponent.unsigned_abs(), base);
            let mut result = None;
            while left > 0 {
                if left % 2 == 1 {
                    result = Some(result.map_or(power, |r: Tensor<'g>| r.matmul(power)));
                }
                left /= 2;
                if left > 0 {
                    power = power.matmul(power);
                }
            }
            Ok(result.unwrap_or_else(|| identity(self.graph, self.shape(), self.dtype())))
        })
    }
}

/// The number of rows of square matrices.
fn square(operation: &str, a: Tensor<'_>) -> Result<usize, Problem> {
    let shape = a.shape();
    if !a.dtype().is_float() {
        let problem = bad_dtype(operation, format!("matrices of type {}", a.dtype()));
        return Err(problem.help("convert with `.cast(F64)`"));
    }
    match shape.sizes() {
        [.., rows, columns] if rows == columns => Ok(*rows),
        _ => Err(bad_shape(operation, format!("{shape} is not square"))),
    }
}

/// A matrix `[.., n, n]` and right sides `[.., n, m]` with the same batch axes. Right sides of one
/// axis become a column; the last result undoes that.
struct System<'g> {
    batch: Shape,
    right: Tensor<'g>,
    is_vector: bool,
}

impl<'g> System<'g> {
    fn new(operation: &str, a: Tensor<'g>, b: Tensor<'g>) -> Result<System<'g>, Problem> {
        let n = square(operation, a)?;
        let misfit = || {
            let what = format!("{} with right sides {}", a.shape(), b.shape());
            bad_shape(operation, what)
        };
        if a.dtype() != b.dtype() {
            let what = format!("{} and {}", a.dtype(), b.dtype());
            return Err(bad_dtype(operation, what));
        }
        let is_vector = b.rank() == 1;
        let right = if is_vector { b.unsqueeze(1) } else { b };
        let shape = right.shape();
        if shape.rank() < 2 || shape.size(shape.rank() - 2) != n {
            let help = format!("the right sides are vectors [{n}] or matrices [.., {n}, m]");
            return Err(misfit().help(help));
        }
        let batch = batch_of(a.shape()).broadcast(&batch_of(shape));
        let batch = batch.ok_or_else(misfit)?;
        let right = right.broadcast_to(matrices(batch, shape));
        Ok(System {
            batch,
            right,
            is_vector,
        })
    }

    /// The matrices `x` of the left side, for every member of the batch.
    fn spread(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.broadcast_to(matrices(self.batch, x.shape()))
    }

    /// The solution in the form of the right side.
    fn solution(&self, x: Tensor<'g>) -> Tensor<'g> {
        if self.is_vector { x.squeeze(-1) } else { x }
    }
}

/// All axes but the last two.
fn batch_of(shape: Shape) -> Shape {
    shape.filter(|axis| axis + 2 < shape.rank())
}

/// `batch` with the last two axes of `shape`.
fn matrices(batch: Shape, shape: Shape) -> Vec<usize> {
    [batch.sizes(), &shape.sizes()[shape.rank() - 2..]].concat()
}

/// Ones where the last two coordinates are equal, zeros elsewhere.
fn identity(graph: &Graph, shape: Shape, dtype: DType) -> Tensor<'_> {
    // Less than two axes are an error of `coordinate`.
    let back = |axis| graph.coordinate(shape, shape.rank().wrapping_sub(axis));
    back(1).eq(back(2)).cast(dtype)
}

fn symmetric(a: Tensor<'_>) -> Tensor<'_> {
    (a + a.t()) * 0.5
}

/// Pieces one below the other; `empty` where there are none.
fn stacked<'g>(rows: &[Tensor<'g>], empty: Tensor<'g>) -> Tensor<'g> {
    match rows {
        [] => empty,
        [only] => *only,
        _ => empty.graph.concat(rows, -2),
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let square = || reals(&[&[2, 3, 3]]);
    let own = entries! {
        trace reals(&[&[2, 3, 4]]) => |x| x[0].trace();
        cross reals(&[&[3, 2], &[4, 3, 1]]) => |x| x[0].cross(x[1], -2);
        matrix_power square() => |x| x[0].matrix_power(3);
        matrix_power_0 square() => |x| x[0].matrix_power(0) * x[0];
        matrix_power_negative square() => |x| regular(x[0]).matrix_power(-2);
    };
    [
        own,
        cholesky::entries(),
        exponential::entries(),
        lu::entries(),
        svd::entries(),
        triangular::entries(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Matrices far from singular ones, for samples.
fn regular(x: Tensor<'_>) -> Tensor<'_> {
    x + identity(x.graph, x.shape(), x.dtype()) * 5.0
}
