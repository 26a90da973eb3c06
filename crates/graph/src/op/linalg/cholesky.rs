//! Symmetric positive definite matrices as products of a triangular one with its transpose.

use std::panic::Location;

use crate::composite::{Composite, Sample, Vjp};
use crate::op::catalogue::{Entry, entries, reals};
use crate::op::linalg::triangular::solve;
use crate::op::linalg::{Triangle, identity, regular, square, symmetric};
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// The lower triangular `l` of `l transposed(l) = a`, for symmetric positive definite matrices
    /// `[.., n, n]`; of a matrix that is not symmetric, the symmetric part is taken. A matrix that
    /// is not positive definite is an error of the step. 16-bit types are computed in `f32`.
    #[track_caller]
    #[must_use]
    pub fn cholesky(self) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "cholesky");
        self.graph.compose(name, &[self], place, || {
            square(name, self)?;
            let factor = self.graph.apply_one(Cholesky, &[self.widened()]);
            Ok(factor.cast(self.dtype()))
        })
    }
}

#[derive(Debug)]
struct Cholesky;

impl Composite for Cholesky {
    fn name(&self) -> &str {
        "cholesky"
    }

    /// Column after column; the state is what they leave of the rows and columns after them.
    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let a = inputs[0];
        let n = a.shape().size(a.rank() - 1);
        let (mut rest, mut columns) = (symmetric(a), Vec::with_capacity(n));
        for k in 0..n {
            let left = n - k;
            let first = rest.narrow(-1, 0, 1);
            let column = first / first.narrow(-2, 0, 1).sqrt();
            let mut above = vec![0; a.rank()];
            above[a.rank() - 2] = k;
            columns.push(column.pad(above, vec![0; a.rank()], 0.0));
            if left > 1 {
                let below = column.narrow(-2, 1, left);
                let corner = rest.narrow(-2, 1, left).narrow(-1, 1, left);
                rest = corner - below * below.t();
            }
        }
        let factor = match columns.as_slice() {
            [] => a,
            [only] => *only,
            _ => a.graph.concat(&columns, -1),
        };
        let positive = factor.diagonal(0, -2, -1).gt(0.0);
        vec![factor.require(positive, "the matrix is not positive definite")]
    }

    /// Murray, "Differentiation of the Cholesky decomposition" (arXiv:1602.07527), section 3.
    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (l, g) = (cx.outputs[0], cx.cotangents[0]?);
        let product = l.t().matmul(g).tril(0);
        let diagonal = identity(l.graph, l.shape(), l.dtype());
        let halved = product * (1.0 - diagonal * 0.5);
        let left = solve(l.t(), halved, Triangle::Upper);
        let both = solve(l.t(), left.t(), Triangle::Upper);
        Some(vec![Some(symmetric(both))])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[3, 3]])]
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        cholesky reals(&[&[2, 3, 3]]) => |x| regular(x[0]).cholesky();
        cholesky_of_product reals(&[&[4, 4]]) => |x| {
            regular(x[0].matmul(x[0].t())).cholesky()
        };
    }
}
