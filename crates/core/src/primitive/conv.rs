//! Convolution and its two vjps.

use std::fmt;

use super::window::check_windows;
use super::{Body, Check, Operand, TensorType, Window, ensure};
use crate::{DType, Shape};

/// One of the three tensors of a convolution, computed from the other two.
///
/// With `x` the input `[batch, channels, ..axes]`, `w` the filter
/// `[out channels, channels / groups, ..taps]` and `y` the output `[batch, out channels, ..places]`,
/// all three are derivatives of the trilinear sum of `x[b, c, p] * w[o, c', t] * y[b, o, q]` over
/// all places `q` and taps `t`, where tap `t` at place `q` visits position `p` ([`Window`]), and
/// channel `c` is number `c'` of the group of output channel `o`:
///
/// - [`Primitive::Conv`](super::Primitive::Conv): the derivative by `y`, which is the
///   cross-correlation of `x` (left) with `w` (right);
/// - [`Primitive::ConvVjpInput`](super::Primitive::ConvVjpInput): the derivative by `x`, from the
///   cotangent of `y` (left) and `w` (right); as an operation of its own, the transposed convolution;
/// - [`Primitive::ConvVjpFilter`](super::Primitive::ConvVjpFilter): the derivative by `w`, from `x`
///   (left) and the cotangent of `y` (right).
///
/// Products are summed in type `accumulator`, in an order that depends on the shape alone. The sum
/// becomes input 0 of the epilogue's program, whose own inputs are numbered from 1 and whose index
/// space `space` has the points of the result in order. Optional.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Conv {
    /// The shape of the input.
    pub input: Shape,
    /// The shape of the filter.
    pub filter: Shape,
    /// The shape of the output.
    pub output: Shape,
    /// How the filter moves along each spatial axis.
    pub windows: Vec<Window>,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Viewed from its own shape.
    pub left: Operand,
    /// Viewed from its own shape.
    pub right: Operand,
    /// The type in which products are summed.
    pub accumulator: DType,
    /// The index space of the epilogue.
    pub space: Shape,
    /// What becomes of the sums.
    pub epilogue: Body,
}

/// Which tensor of a [`Conv`] is computed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum ConvResult {
    Output,
    Input,
    Filter,
}

impl Conv {
    /// Whether both operands are tensors as they are and the epilogue only stores the sums (rounded
    /// to the result's type).
    #[must_use]
    pub fn is_unfused(&self) -> bool {
        self.left.as_plain().is_some()
            && self.right.as_plain().is_some()
            && self.epilogue.is_store()
    }

    pub(super) fn reads(&self) -> impl Iterator<Item = &TensorType> {
        let operands = self.left.inputs.iter().chain(&self.right.inputs);
        operands.map(|s| &s.tensor).chain(self.epilogue.reads())
    }

    pub(super) fn may_overwrite(&self, write: usize, read: usize) -> bool {
        let operands = self.left.inputs.len() + self.right.inputs.len();
        read.checked_sub(operands)
            .is_some_and(|read| self.epilogue.may_overwrite(self.space, write, read))
    }

    /// The shapes of the left and right operand and of the result.
    fn roles(&self, result: ConvResult) -> [Shape; 3] {
        match result {
            ConvResult::Output => [self.input, self.filter, self.output],
            ConvResult::Input => [self.output, self.filter, self.input],
            ConvResult::Filter => [self.input, self.output, self.filter],
        }
    }

    pub(super) fn check(&self, result: ConvResult) -> Check {
        self.check_geometry()?;
        let [left, right, result] = self.roles(result);
        self.left.check(left)?;
        self.right.check(right)?;
        ensure(self.space.count() == result.count(), || {
            format!("{result} in a space of {}", self.space)
        })?;
        self.epilogue
            .check_pointwise(self.space, Some(self.accumulator))
    }

    fn check_geometry(&self) -> Check {
        let Conv {
            input,
            filter,
            output,
            windows,
            groups,
            ..
        } = self;
        let wrong = || format!("{input} by {filter} in {groups} groups into {output}");
        let rank = windows.len() + 2;
        let ranks = [input, filter, output].map(|shape| shape.rank() == rank);
        ensure(ranks == [true; 3] && *groups > 0, wrong)?;
        let channels = filter.size(1).checked_mul(*groups) == Some(input.size(1))
            && filter.size(0).is_multiple_of(*groups)
            && filter.size(0) == output.size(1)
            && input.size(0) == output.size(0);
        let taps = windows.iter().zip(&filter.sizes()[2..]);
        ensure(
            channels && taps.into_iter().all(|(w, &n)| w.size == n),
            wrong,
        )?;
        check_windows(windows, *output)
    }
}

impl fmt::Display for Conv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {} into {}", self.input, self.filter, self.output)?;
        if self.groups > 1 {
            write!(f, " in {} groups", self.groups)?;
        }
        if !self.epilogue.to_string().is_empty() {
            f.write_str(" then ")?;
        }
        fmt::Display::fmt(&self.epilogue, f)
    }
}
