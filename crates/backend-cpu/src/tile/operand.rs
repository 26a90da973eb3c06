//! How operands get into tiles: where they lie, in the frame as often as they are wanted, or piece by
//! piece.

use std::ops::Range;

use backprop_core::DType;

use super::functions::ABREAST;
use super::{Domain, Frame, Lane, Load, Place, Walk};

/// How an operand that does not simply slide along is brought into a tile.
#[derive(Debug)]
pub(super) struct Loader {
    pub(super) walk: Walk,
    /// Bytes from the start of the frame's tiles.
    pub(super) slot: usize,
    pub(super) source: Source,
}

#[derive(Debug)]
pub(super) enum Source {
    Memory {
        base: usize,
        load: Load,
        size: usize,
        native: bool,
        /// Whether elements that lie side by side may be read where they are.
        borrowed: bool,
    },
    /// One element for all points of a tile.
    Element {
        base: usize,
        load: Load,
        size: usize,
    },
    /// The numbers of the elements themselves.
    Coordinates,
}

/// A place that slides over an operand.
#[derive(Debug)]
pub(super) struct Slide {
    pub(super) place: Place,
    pub(super) base: usize,
    pub(super) size: usize,
    pub(super) offset: usize,
    pub(super) domain: Domain,
}

/// A place that slides over the same elements again and again: they lie in the frame, as many as a tile
/// and one round have, filled in when a worker starts.
#[derive(Debug)]
pub(super) struct Cycle {
    pub(super) place: Place,
    pub(super) base: usize,
    pub(super) load: Load,
    /// Bytes of an element, there and in the frame.
    pub(super) size: usize,
    pub(super) width: usize,
    /// The first element, how many there are, and the stride between them.
    pub(super) offset: usize,
    pub(super) period: usize,
    pub(super) stride: isize,
}

/// A place that holds one value everywhere, filled when a worker starts.
#[derive(Debug)]
pub(super) struct Uniform {
    pub(super) place: Place,
    /// Whether a whole tile of it is needed, and not just what a loop reads again and again.
    pub(super) whole: bool,
    pub(super) value: UniformValue,
}

#[derive(Debug)]
pub(super) enum UniformValue {
    Constant(DType, u64),
    /// An element of an operand, so many bytes from its start.
    Element {
        base: usize,
        load: Load,
        at: usize,
    },
}

impl Cycle {
    /// Writes so many elements to the frame.
    ///
    /// # Safety
    /// The frame has its bases, and its place room for as many.
    pub(super) unsafe fn fill(&self, frame: &Frame, count: usize) {
        for first in (0..count).step_by(self.period) {
            let n = self.period.min(count - first);
            // SAFETY: the elements lie inside of the operand (P1, P4); handed on.
            unsafe {
                let from = frame.base(self.base).add(self.offset * self.size);
                let to = frame.place(self.place).add(first * self.width);
                (self.load)(to, from, self.stride, n);
            }
        }
    }
}

impl Loader {
    /// # Safety
    /// As for [`Code::tile`]; `to` is the loader's place.
    pub(super) unsafe fn run(&self, frame: &Frame, to: Place, range: Range<usize>) {
        let n = range.len();
        // SAFETY: the walk visits elements inside of the operand (P1, P4), and
        // the slot has room for a tile.
        unsafe {
            let mut slot = frame.tiles.add(self.slot);
            frame.table.add(to).write(slot);
            match self.source {
                Source::Coordinates => self.walk.runs(range, |run| {
                    let first = run.start as i64;
                    for i in 0..run.len {
                        let value = first + i as i64 * run.stride as i64;
                        slot.cast::<i64>().add(i).write_unaligned(value);
                    }
                    slot = slot.add(run.len * 8);
                }),
                Source::Element { base, load, size } => {
                    self.walk.runs(range.start..range.start + 1, |run| {
                        load(slot, frame.base(base).add(run.start * size), 0, ABREAST);
                    });
                }
                Source::Memory {
                    base,
                    load,
                    size,
                    native,
                    borrowed,
                } => {
                    let base = frame.base(base);
                    let width = if native { size } else { Lane::F32.size() };
                    self.walk.runs(range, |run| {
                        let from = base.add(run.start * size);
                        if borrowed && run.len == n && run.stride == 1 {
                            frame.table.add(to).write(from);
                            return;
                        }
                        load(slot, from, run.stride, run.len);
                        slot = slot.add(run.len * width);
                    });
                }
            }
        }
    }
}
