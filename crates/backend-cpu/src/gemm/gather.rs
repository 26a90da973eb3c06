//! Operands whose elements are not a fixed number of others apart: they bring their own packing.

use std::fmt::Debug;
use std::ops::Range;

use super::Number;
use super::pack::{PackFn, Panel, packer};
use super::source::Source;
use crate::Level;

/// A panel to gather. A line is a row of A or a column of B.
#[derive(Debug, Clone)]
pub(crate) struct Gathered<E, T> {
    /// The operand of this element of the batch.
    pub(crate) from: *const E,
    pub(crate) lines: Range<usize>,
    pub(crate) k: Range<usize>,
    /// Where the first line's element at the first k goes.
    pub(crate) to: *mut T,
    /// Elements written for each k: those of the lines, then anything.
    pub(crate) pitch: usize,
    /// Room for another such panel; for operands on the right only.
    pub(crate) spare: *mut T,
}

/// Packs an operand.
pub(crate) trait Gather<E, T>: Debug + Send + Sync {
    /// Packs a panel.
    ///
    /// # Safety
    /// The operand must be readable, and the panel and the spare one writable.
    unsafe fn pack(&self, panel: Gathered<E, T>);
}

/// The packing of the operands that need one.
#[derive(Debug)]
pub(crate) struct Gathers<E, T> {
    pub(crate) left: Option<Box<dyn Gather<E, T>>>,
    pub(crate) right: Option<Box<dyn Gather<E, T>>>,
}

impl<E, T> Default for Gathers<E, T> {
    fn default() -> Self {
        Self {
            left: None,
            right: None,
        }
    }
}

/// An operand with several axes along K.
#[derive(Debug)]
pub(crate) struct Runs<E, T> {
    /// Sizes, and elements from one step to the next, slowest first; at least one axis.
    axes: Vec<(usize, isize)>,
    /// Elements from a line to the next.
    line: isize,
    pack: PackFn<E, T>,
}

impl<T: Number, E: Source<T>> Runs<E, T> {
    pub(crate) fn new(axes: Vec<(usize, isize)>, line: isize, level: Level) -> Self {
        Self {
            axes,
            line,
            pack: packer(level),
        }
    }

    /// Elements before number `k` along K.
    fn offset(&self, mut k: usize) -> isize {
        let mut offset = 0;
        for &(size, stride) in self.axes.iter().rev() {
            offset += (k % size) as isize * stride;
            k /= size;
        }
        offset
    }
}

impl<T: Number, E: Source<T>> Gather<E, T> for Runs<E, T> {
    unsafe fn pack(&self, panel: Gathered<E, T>) {
        let (size, along) = self.axes.last().copied().unwrap_or((1, 0));
        let from = panel
            .from
            .wrapping_offset(panel.lines.start as isize * self.line);
        let mut k = panel.k.start;
        while k < panel.k.end {
            let end = panel.k.end.min(k - k % size + size);
            let run = Panel {
                from: from.wrapping_offset(self.offset(k)),
                across: self.line,
                along,
                lines: panel.lines.len(),
                depth: end - k,
                to: panel.to.wrapping_add((k - panel.k.start) * panel.pitch),
                pitch: panel.pitch,
            };
            // SAFETY: the caller vouches for the operand and the panel, whose rows these are.
            unsafe { (self.pack)(&run) };
            k = end;
        }
    }
}
