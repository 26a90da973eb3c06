//! Exponentials of matrices.

use std::panic::Location;

use crate::axes::Keep;
use crate::composite::{Composite, Sample, Vjp};
use crate::op::catalogue::{Entry, entries, reals};
use crate::op::linalg::{identity, square};
use crate::tensor::Tensor;

/// The norm up to which the sum below is exact: what is left out of it is less than
/// `NORM^16 / 16!`.
const NORM: f64 = 0.5;
/// Elements of the sum are `FACTORS` blocks of as many powers.
const FACTORS: usize = 4;
/// The most squarings: the norm is at most `NORM * 2^SQUARINGS`.
const SQUARINGS: i32 = 16;

impl<'g> Tensor<'g> {
    /// `1 + a + a^2 / 2! + a^3 / 3! + ..` of square matrices `[.., n, n]`, by scaling and squaring
    /// (Moler and Van Loan, "Nineteen dubious ways to compute the exponential of a matrix", 2003).
    /// A matrix whose columns' magnitudes add up to more than 32768 is an error of the step.
    #[track_caller]
    #[must_use]
    pub fn matrix_exp(self) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "matrix_exp");
        self.graph.compose(name, &[self], place, || {
            square(name, self)?;
            let result = self.graph.apply_one(Exponential, &[self.widened()]);
            Ok(result.cast(self.dtype()))
        })
    }
}

#[derive(Debug)]
struct Exponential;

impl Composite for Exponential {
    fn name(&self) -> &str {
        "matrix_exp"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let a = inputs[0];
        if a.shape().count() == 0 {
            return vec![a];
        }
        let norm = a.stop_gradient().abs().sum(Keep(-2)).max(Keep(-1));
        let above = |k: i32| norm.gt(NORM * f64::from(k).exp2());
        let small = above(SQUARINGS).logical_not();
        let a = a.require(small, "the matrix is too large to exponentiate");
        let halve = |scale: Tensor<'g>, k: i32| above(k).select(scale * 0.5, scale);
        let scale = (0..SQUARINGS).fold(norm.number(1.0), halve);
        let squared = |x: Tensor<'g>, k: i32| above(k).select(x.matmul(x), x);
        vec![(0..SQUARINGS).fold(series(a * scale), squared)]
    }

    /// The gradient is the derivative at the transposed matrix in the direction of the cotangent,
    /// which stands beside the exponentials of a matrix of blocks (Van Loan, 1978).
    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (a, g) = (cx.inputs[0].t(), cx.cotangents[0]?);
        if a.shape().count() == 0 {
            return Some(vec![Some(g)]);
        }
        let n = a.shape().size(a.rank() - 1);
        // Linear in the direction, which is made small so as not to add squarings.
        let largest = g.stop_gradient().abs().max(Keep([-2, -1]));
        let size = largest.eq(0.0).select(1.0, largest) * n as f64;
        let (graph, zero) = (a.graph, a.number(0.0));
        let above = graph.concat(&[a, g / size], -1);
        let below = graph.concat(&[zero, a], -1);
        let both = graph.concat(&[above, below], -2);
        let result = graph.apply_one(Exponential, &[both]);
        let derivative = result.narrow(-2, 0, n).narrow(-1, n, 2 * n);
        Some(vec![Some(derivative * size)])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[3, 3]])]
    }
}

/// The first elements of the series, a polynomial in blocks (Paterson and Stockmeyer, 1973).
fn series(a: Tensor<'_>) -> Tensor<'_> {
    let mut powers = vec![identity(a.graph, a.shape(), a.dtype()), a];
    for _ in 2..FACTORS {
        let next = powers.last().map_or(a, |last| last.matmul(a));
        powers.push(next);
    }
    let step = powers.last().map_or(a, |last| last.matmul(a));
    let mut coefficients = vec![1.0];
    for k in 1..FACTORS * FACTORS {
        coefficients.push(coefficients[k - 1] / k as f64);
    }
    let block = |k: usize| {
        let own = coefficients.iter().skip(k * FACTORS);
        let terms = powers.iter().zip(own).map(|(&power, &c)| power * c);
        terms.reduce(|sum, term| sum + term).unwrap_or(a)
    };
    let last = block(FACTORS - 1);
    (0..FACTORS - 1)
        .rev()
        .fold(last, |sum, k| sum.matmul(step) + block(k))
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        matrix_exp reals(&[&[2, 3, 3]]) => |x| x[0].matrix_exp();
        matrix_exp_large reals(&[&[2, 2]]) => |x| (x[0] * 2.0 - 4.0).matrix_exp();
    }
}
