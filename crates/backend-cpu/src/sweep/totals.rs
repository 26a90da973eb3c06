//! Reductions along the last axis: rows become totals.
//!
//! A row is reduced as [`Reducer::row`](crate::tile::Reducer::row) does it,
//! tile by tile. Where other axes are reduced too, or a row is shared out to
//! several threads, the totals of rows (or of their chunks) wait in scratch
//! memory and are combined in their order.

use std::ops::Range;

use backprop_core::Reduction;

use super::{Fold, REDUCTIONS, Reduced, Residence};
use crate::memory::Operands;
use crate::pool::Worker;
use crate::tile::{CHUNK, Code, Frame, TILE, Total, store};

/// A reduction of rows.
#[derive(Debug)]
pub(super) struct Totals {
    fold: Fold,
    reductions: Vec<Reduced>,
    /// Chunks in a row.
    chunks: usize,
    /// Rows that are one worker's at a time; 1 where rows have chunks.
    group: usize,
    residence: Residence,
}

/// A total for each reduction.
type All = [Total; REDUCTIONS];

impl Totals {
    pub(super) fn new(fold: Fold, reductions: Vec<Reduced>, residence: Residence) -> Totals {
        let chunks = fold.width.div_ceil(CHUNK);
        let group = (CHUNK / fold.width).max(1);
        Totals {
            fold,
            reductions,
            chunks,
            group,
            residence,
        }
    }

    /// Whether a row's total is a result.
    fn is_direct(&self) -> bool {
        self.chunks == 1 && self.fold.reduced.0.is_empty()
    }

    pub(super) fn tile_points(&self) -> usize {
        let width = self.fold.width.min(TILE);
        (TILE / width * width).min(self.fold.rows() * self.fold.width)
    }

    pub(super) fn partial_bytes(&self) -> usize {
        if self.is_direct() {
            return 0;
        }
        self.reductions.len() * self.partials() * size_of::<u64>()
    }

    /// Partial results of one reduction.
    fn partials(&self) -> usize {
        self.fold.rows() * self.chunks
    }

    /// # Safety
    /// As for [`Sweep::work`](super::Sweep), with room for the partial results.
    pub(super) unsafe fn sum(
        &self,
        code: &Code,
        frame: &Frame,
        (worker, operands): (Worker<'_>, &Operands<'_>),
        partials: *mut u8,
    ) {
        let (rows, width) = (self.fold.rows(), self.fold.width);
        // SAFETY: rows and chunks are shared out, so are the places of their
        // totals.
        unsafe {
            let put = |place: usize, totals: &All| self.put(place, totals, operands, partials);
            if self.chunks > 1 {
                for piece in worker.items(rows * self.chunks) {
                    let (row, chunk) = (piece / self.chunks, piece % self.chunks);
                    let start = row * width + chunk * CHUNK;
                    let end = (start + CHUNK).min((row + 1) * width);
                    put(piece, &self.long(code, frame, start..end));
                }
                return;
            }
            for group in worker.items(rows.div_ceil(self.group)) {
                let end = rows.min((group + 1) * self.group);
                let mut row = group * self.group;
                if width > TILE {
                    for row in row..end {
                        put(row, &self.long(code, frame, row * width..(row + 1) * width));
                    }
                    continue;
                }
                while row < end {
                    let count = (TILE / width).min(end - row);
                    code.tile(frame, row * width..(row + count) * width, 0..0);
                    self.short(code, frame, row..row + count, (operands, partials));
                    row += count;
                }
            }
        }
    }

    /// The totals of at most a chunk of a row.
    unsafe fn long(&self, code: &Code, frame: &Frame, range: Range<usize>) -> All {
        let mut totals = [Total::Whole(0); REDUCTIONS];
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + TILE);
            // SAFETY: handed on.
            unsafe {
                if self.residence == Residence::Memory {
                    code.prefetch(frame, end..range.end.min(end + TILE));
                }
                code.tile(frame, start..end, 0..0);
            }
            for (i, (reduced, total)) in self.reductions.iter().zip(&mut totals).enumerate() {
                // SAFETY: the tile has a value for each of its points.
                let block = unsafe { reduced.reducer.block(code.reduced(frame, i), end - start) };
                *total = if start == range.start {
                    block
                } else {
                    total.then(reduced.reducer.reduction(), block)
                };
            }
            start = end;
        }
        totals
    }

    /// The totals of the whole rows of a tile.
    unsafe fn short(
        &self,
        code: &Code,
        frame: &Frame,
        rows: Range<usize>,
        (operands, partials): (&Operands<'_>, *mut u8),
    ) {
        let n = rows.len();
        for (i, reduced) in self.reductions.iter().enumerate() {
            let mut totals = [0; TILE];
            // SAFETY: the tile has the values of the rows.
            unsafe {
                let from = code.reduced(frame, i);
                reduced
                    .reducer
                    .blocks(from, (self.fold.width, n), totals.as_mut_ptr());
                if self.is_direct() {
                    results(reduced, &totals[..n], operands, rows.start);
                } else {
                    let to = partials.cast::<u64>().add(i * self.partials() + rows.start);
                    std::ptr::copy_nonoverlapping(totals.as_ptr(), to, n);
                }
            }
        }
    }

    /// Writes totals to where they wait, or to the result.
    unsafe fn put(&self, place: usize, all: &All, operands: &Operands<'_>, partials: *mut u8) {
        for (i, (reduced, total)) in self.reductions.iter().zip(all).enumerate() {
            if self.is_direct() {
                // SAFETY: there is a result for each row (P4).
                unsafe { results(reduced, &[total.bits()], operands, place) };
                continue;
            }
            let slot = partials
                .cast::<u64>()
                .wrapping_add(i * self.partials() + place);
            // SAFETY: the scratch memory has a place for each partial result.
            unsafe { slot.write(total.bits()) };
        }
    }

    /// Combines the partial results, after all workers have summed.
    ///
    /// # Safety
    /// As for [`Totals::sum`].
    pub(super) unsafe fn combine(
        &self,
        worker: Worker<'_>,
        operands: &Operands<'_>,
        partials: *const u8,
    ) {
        if self.is_direct() {
            return;
        }
        let partials: *const u64 = partials.cast();
        for kept in worker.share(self.fold.kept.count()) {
            let first = self.fold.kept.at(kept);
            for (i, reduced) in self.reductions.iter().enumerate() {
                let (reducer, start) = (&reduced.reducer, i * self.partials());
                let rows = (0..self.fold.reduced.count()).map(|r| first + self.fold.reduced.at(r));
                let places = rows.flat_map(|row| row * self.chunks..(row + 1) * self.chunks);
                // SAFETY: every partial result has been written.
                let totals = places.map(|p| reducer.total(unsafe { *partials.add(start + p) }));
                let reduction: Reduction = reducer.reduction();
                if let Some(total) = totals.reduce(|a, b| a.then(reduction, b)) {
                    // SAFETY: there is a result for each kept place (P4).
                    unsafe { results(reduced, &[total.bits()], operands, kept) };
                }
            }
        }
    }
}

/// # Safety
/// The elements of the output from `at` on must be this worker's.
unsafe fn results(reduced: &Reduced, totals: &[u64], operands: &Operands<'_>, at: usize) {
    let mut lanes = [0u64; TILE];
    let lanes: *mut u8 = lanes.as_mut_ptr().cast();
    // SAFETY: eight bytes hold any lane, and there are at most a tile's worth.
    unsafe {
        reduced.reducer.put(totals, reduced.dtype, lanes);
        let to = operands.write(reduced.write).add(at * reduced.dtype.size());
        store(reduced.dtype, to, lanes, totals.len());
    }
}
