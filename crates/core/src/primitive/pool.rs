//! Pooling and its vjp.

use std::fmt;

use super::window::check_windows;
use super::{Check, Reduction, Source, TensorType, Window, ensure};
use crate::Shape;

/// The reduction of each window of the trailing axes, or the vjp of that. Optional.
///
/// - [`Primitive::Pool`](super::Primitive::Pool) reads `x` and writes
///   `y[.., q] = reduction of x[.., p]` over the positions `p` that the window at place `q` visits;
///   over none, as [`Reduction`] says.
/// - [`Primitive::PoolVjp`](super::Primitive::PoolVjp) writes a tensor of the shape of `x`. For sums
///   it reads the cotangent `g` of `y`, and each position gets the sum of `g[.., q]` over the windows
///   that visit it. For maxima and minima it reads `x` and `g`, and `g[.., q]` goes to the first of
///   the window's positions (in row-major order of taps) that holds the result. Cotangents add up in
///   row-major order of places, in [the type's accumulator](crate::DType::accumulator).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pool {
    /// How windows are reduced.
    pub reduction: Reduction,
    /// The shape of `x`.
    pub input: Shape,
    /// The shape of `y`.
    pub output: Shape,
    /// The windows along the trailing axes.
    pub windows: Vec<Window>,
    /// What is read, each viewed from its own shape.
    pub operands: Vec<Source>,
    /// What is written.
    pub result: TensorType,
}

impl Pool {
    /// The number of trailing axes with a window.
    #[must_use]
    pub fn spatial(&self) -> usize {
        self.windows.len()
    }

    pub(super) fn check(&self) -> Check {
        self.check_parts(&[self.input], self.output)
    }

    pub(super) fn check_vjp(&self) -> Check {
        match self.reduction {
            Reduction::Sum => self.check_parts(&[self.output], self.input),
            _ => self.check_parts(&[self.input, self.output], self.input),
        }
    }

    fn check_parts(&self, operands: &[Shape], result: Shape) -> Check {
        check_windows(&self.windows, self.output)?;
        let leading = self.output.rank() - self.windows.len();
        let spatial = |axis| axis >= leading;
        let same_rank = self.input.rank() == self.output.rank();
        let shapes = same_rank
            && self.input.filter(|axis| !spatial(axis))
                == self.output.filter(|axis| !spatial(axis));
        ensure(shapes, || format!("{} into {}", self.input, self.output))?;
        ensure(operands.len() == self.operands.len(), || {
            format!("{} operands", self.operands.len())
        })?;
        for (operand, &shape) in self.operands.iter().zip(operands) {
            operand.check(shape)?;
            ensure(operand.tensor.dtype == self.result.dtype, || {
                format!("{operand} into {}", self.result)
            })?;
        }
        ensure(self.result.shape.count() == result.count(), || {
            format!("{result} as {}", self.result)
        })
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taps: Shape = self.windows.iter().map(|window| window.size).collect();
        write!(
            f,
            "{} by {} of {taps} into {}",
            self.input, self.reduction, self.output
        )
    }
}
