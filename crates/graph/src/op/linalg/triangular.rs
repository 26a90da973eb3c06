//! Systems of equations with a triangular matrix.

use std::panic::Location;

use crate::composite::{Composite, Sample, Vjp};
use crate::op::catalogue::{Entry, entries, reals};
use crate::op::linalg::{System, regular, stacked};
use crate::operand::Operand;
use crate::tensor::Tensor;

/// The part of a square matrix that counts; the rest is never read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Triangle {
    /// On and below the diagonal.
    Lower,
    /// On and above the diagonal.
    Upper,
    /// Below the diagonal, which is taken as ones.
    UnitLower,
    /// Above the diagonal, which is taken as ones.
    UnitUpper,
}

impl Triangle {
    /// The part in the transposed matrix.
    #[must_use]
    pub fn transposed(self) -> Triangle {
        match self {
            Triangle::Lower => Triangle::Upper,
            Triangle::Upper => Triangle::Lower,
            Triangle::UnitLower => Triangle::UnitUpper,
            Triangle::UnitUpper => Triangle::UnitLower,
        }
    }

    fn is_unit(self) -> bool {
        matches!(self, Triangle::UnitLower | Triangle::UnitUpper)
    }

    /// The elements of this part, zeros elsewhere (and on a diagonal of ones).
    fn of(self, x: Tensor<'_>) -> Tensor<'_> {
        match self {
            Triangle::Lower => x.tril(0),
            Triangle::Upper => x.triu(0),
            Triangle::UnitLower => x.tril(-1),
            Triangle::UnitUpper => x.triu(1),
        }
    }
}

impl<'g> Tensor<'g> {
    /// The `x` of `t x = b`, for the triangular matrices in `triangle` of this `[.., n, n]` and right
    /// sides `[.., n, m]` or `[n]`; batch axes are broadcast. A 0 on the diagonal is an error of
    /// the step. For `x t = b`, solve
    /// `t.t().solve_triangular(b.t(), triangle.transposed()).t()`.
    #[track_caller]
    #[must_use]
    pub fn solve_triangular(self, right: impl Operand<'g>, triangle: Triangle) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "solve_triangular");
        let right = right.on(self.graph, Some(self.dtype()), place);
        self.graph.compose(name, &[self, right], place, || {
            let system = System::new(name, self, right)?;
            let regular = match triangle.is_unit() {
                true => self,
                false => {
                    let diagonal = self.diagonal(0, -2, -1);
                    self.require(diagonal.ne(0.0), "the matrix is singular")
                }
            };
            let left = system.spread(regular.widened());
            let x = solve(left, system.right.widened(), triangle);
            Ok(system.solution(x).cast(self.dtype()))
        })
    }
}

/// The solution for matrices and right sides with the same batch axes.
pub(super) fn solve<'g>(t: Tensor<'g>, b: Tensor<'g>, triangle: Triangle) -> Tensor<'g> {
    t.graph.apply_one(SolveTriangular { triangle }, &[t, b])
}

/// Substitution: every row, once known, leaves the right side of all rows behind it.
pub(super) fn substitute<'g>(t: Tensor<'g>, b: Tensor<'g>, triangle: Triangle) -> Tensor<'g> {
    let n = t.shape().sizes().last().copied().unwrap_or(0);
    let downwards = matches!(triangle, Triangle::Lower | Triangle::UnitLower);
    let (mut rest, mut solved) = (b, Vec::with_capacity(n));
    for step in 0..n {
        let left = n - step;
        // The row to solve, the rows behind it among those left, and the same among all.
        let (k, at, behind, all) = match downwards {
            true => (step, 0, 1..left, step + 1..n),
            false => (left - 1, left - 1, 0..left - 1, 0..left - 1),
        };
        let column = t.narrow(-1, k, k + 1);
        let row = rest.narrow(-2, at, at + 1);
        let x = match triangle.is_unit() {
            true => row,
            false => row / column.narrow(-2, k, k + 1),
        };
        solved.push(x);
        if left > 1 {
            let factors = column.narrow(-2, all.start, all.end);
            rest = rest.narrow(-2, behind.start, behind.end) - factors * x;
        }
    }
    if !downwards {
        solved.reverse();
    }
    stacked(&solved, b)
}

#[derive(Debug)]
struct SolveTriangular {
    triangle: Triangle,
}

impl Composite for SolveTriangular {
    fn name(&self) -> &str {
        "solve_triangular"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        vec![substitute(inputs[0], inputs[1], self.triangle)]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (t, x, g) = (cx.inputs[0], cx.outputs[0], cx.cotangents[0]?);
        let right = solve(t.t(), g, self.triangle.transposed());
        let left = self.triangle.of(-right.matmul(x.t()));
        Some(vec![Some(left), Some(right)])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[2, 3, 3], &[2, 3, 2]])]
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        solve_triangular_lower reals(&[&[2, 3, 3], &[2, 3, 2]]) => |x| {
            regular(x[0]).solve_triangular(x[1], Triangle::Lower)
        };
        solve_triangular_upper reals(&[&[4, 4], &[4]]) => |x| {
            regular(x[0]).solve_triangular(x[1], Triangle::Upper)
        };
        solve_triangular_unit reals(&[&[3, 3], &[2, 3, 1]]) => |x| {
            x[0].solve_triangular(x[1], Triangle::UnitUpper)
        };
        solve_triangular_right reals(&[&[2, 3, 3], &[2, 3]]) => |x| {
            let triangle = Triangle::UnitLower.transposed();
            x[0].t().solve_triangular(x[1].t(), triangle).t()
        };
    }
}
