//! The row primitive: softmax, norms, cross-entropy and their vjps in one pass.

use std::fmt;

use super::body::check_axes;
use super::{Body, Check, Sink, ensure};
use crate::{Axes, Inst, Register, Shape};

/// A program over rows of an index space, in which a row may be reduced and the result used again.
///
/// A row is the points that differ in the coordinates of `axes`. A register is row-valued (one
/// value a point) or has one value a row: reductions have, and whatever depends only on such
/// registers, constants and inputs whose view does not move along `axes`. A stored register with
/// one value a row is written once a row, densely over the other axes.
///
/// All inputs of a row are loaded before any result of it is stored. A row reduction gives the same
/// bits as a [`Sweep`](super::Sweep) that reduces the same values over the same axes. Optional: a
/// backend may support it for trailing `axes` only, or not at all.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rows {
    /// The index space.
    pub space: Shape,
    /// The axes that make a row.
    pub axes: Axes,
    /// What happens in each row. All outputs are [`Sink::Store`].
    pub body: Body,
}

impl Rows {
    /// For each register, whether it is row-valued (rather than one value a row).
    #[must_use]
    pub fn row_valued(&self) -> Vec<bool> {
        let mut valued: Vec<bool> = Vec::with_capacity(self.body.program.len());
        for (inst, _) in self.body.program.code() {
            valued.push(match *inst {
                Inst::Input(i) => self.moves_along_row(usize::from(i)),
                Inst::Coordinate(axis) => self.axes.contains(usize::from(axis)),
                Inst::Constant(_) | Inst::Reduce(..) => false,
                Inst::Apply(..) | Inst::Cast(_) => inst
                    .operands()
                    .iter()
                    .any(|operand| valued[operand.index()]),
            });
        }
        valued
    }

    fn moves_along_row(&self, input: usize) -> bool {
        let view = &self.body.inputs[input].view;
        let moves = |axis: usize| self.space.size(axis) > 1 && view.strides[axis] != 0;
        self.axes.iter().any(moves)
    }

    /// The number of rows.
    #[must_use]
    pub fn count(&self) -> usize {
        self.space.without(self.axes).count()
    }

    /// The number of points in a row.
    #[must_use]
    pub fn len(&self) -> usize {
        self.space.filter(|axis| self.axes.contains(axis)).count()
    }

    /// Whether a row has no points.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many points the stored `register` has in the whole space.
    #[must_use]
    pub fn stored(&self, register: Register, row_valued: &[bool]) -> usize {
        let full = row_valued.get(register.index()) == Some(&true);
        if full {
            self.space.count()
        } else {
            self.count()
        }
    }

    /// Row-valued results as in a sweep; a value per row may take the place of an input with one
    /// element per row, in the same order.
    pub(super) fn may_overwrite(&self, write: usize, read: usize) -> bool {
        let (Some(output), Some(input)) =
            (self.body.outputs.get(write), self.body.inputs.get(read))
        else {
            return false;
        };
        if self.row_valued()[output.register.index()] {
            return self.body.may_overwrite(self.space, write, read);
        }
        let kept = self.space.without(self.axes);
        let mut dense = kept.strides().into_iter();
        let in_order = (0..self.space.rank()).all(|axis| {
            let along = self.axes.contains(axis);
            let stride = if along { 0 } else { dense.next().unwrap_or(0) };
            self.space.size(axis) == 1 || input.view.strides[axis] == stride
        });
        in_order
            && input.view.offset == 0
            && input.tensor.dtype == output.tensor.dtype
            && input.tensor.layout == output.tensor.layout
            && input.tensor.shape.count() == self.count()
    }

    pub(super) fn check(&self) -> Check {
        self.body.check(self.space, None)?;
        check_axes(self.axes, self.space)?;
        let stored = self.body.outputs.iter().all(|o| o.sink == Sink::Store);
        ensure(stored, || "a reduced output in rows".into())?;
        let valued = self.row_valued();
        for (inst, _) in self.body.program.code() {
            if let Inst::Reduce(_, operand) = inst {
                ensure(valued[operand.index()], || {
                    format!("{operand} has one value a row already")
                })?;
            }
        }
        self.body
            .check_counts(|output| self.stored(output.register, &valued))
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {} ", self.space, self.axes)?;
        fmt::Display::fmt(&self.body, f)
    }
}
