//! Reductions over rows: the last axis is kept.
//!
//! Rows are added up element by element, in blocks of [`BLOCK`] rows. The sums
//! of blocks, where there are several, wait in scratch memory and are combined
//! in their order in f64 (integers: in i64). Columns are independent, so they
//! are shared out to threads besides the blocks.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::{Fold, REDUCTIONS, Reduced, Residence};
use crate::memory::Operands;
use crate::pool::Worker;
use crate::simd;
use crate::tile::{Code, Frame, Lane, TILE, Total, Values, store};

/// Rows that are added up before their sum is put aside.
const BLOCK: usize = 64;

/// How many tiles ahead operands are fetched that wait in memory: rows of a strip are short, and
/// apart.
const AHEAD: usize = 3;

/// A reduction of rows into one row.
#[derive(Debug)]
pub(super) struct Columns {
    fold: Fold,
    reductions: Vec<Reduced>,
    /// Blocks of rows for each kept place.
    blocks: usize,
    /// Columns in a tile, and how many tiles abreast make a row.
    columns: usize,
    strips: usize,
    residence: Residence,
}

/// A running row for each reduction; any lane fits.
type Running = [MaybeUninit<[u64; TILE]>; REDUCTIONS];

/// One strip of one block of rows.
#[derive(Clone, Copy)]
struct Piece {
    kept: usize,
    block: usize,
    /// The first column, and how many.
    column: usize,
    columns: usize,
}

impl Columns {
    pub(super) fn new(fold: Fold, reductions: Vec<Reduced>, residence: Residence) -> Columns {
        let columns = fold.width.min(TILE);
        let strips = fold.width.div_ceil(columns);
        let blocks = fold.reduced.count().div_ceil(BLOCK);
        Columns {
            fold,
            reductions,
            blocks,
            columns,
            strips,
            residence,
        }
    }

    pub(super) fn tile_points(&self) -> usize {
        TILE / self.columns * self.columns
    }

    pub(super) fn partial_bytes(&self) -> usize {
        if self.blocks == 1 {
            return 0;
        }
        self.reductions.len() * self.partials()
    }

    /// Bytes of the partial results of one reduction.
    fn partials(&self) -> usize {
        self.fold.kept.count() * self.blocks * self.fold.width * size_of::<u64>()
    }

    fn piece(&self, number: usize) -> Piece {
        let (rest, strip) = (number / self.strips, number % self.strips);
        let column = strip * self.columns;
        Piece {
            kept: rest / self.blocks,
            block: rest % self.blocks,
            column,
            columns: self.columns.min(self.fold.width - column),
        }
    }

    /// Where the sum of a piece waits.
    fn partial(&self, reduction: usize, piece: Piece, lane: Lane) -> usize {
        let row = piece.kept * self.blocks + piece.block;
        reduction * self.partials() + (row * self.fold.width + piece.column) * lane.size()
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
        let mut running: Running = [const { MaybeUninit::uninit() }; REDUCTIONS];
        for number in worker.share(self.fold.kept.count() * self.blocks * self.strips) {
            let piece = self.piece(number);
            // SAFETY: pieces are shared out, and so are the places of their sums.
            unsafe {
                self.block(code, frame, piece, &mut running);
                for (i, (reduced, row)) in self.reductions.iter().zip(&running).enumerate() {
                    let row: *const u8 = row.as_ptr().cast();
                    let lane = reduced.reducer.lane();
                    if self.blocks == 1 {
                        self.result(reduced, piece, row, operands);
                    } else {
                        let to = partials.add(self.partial(i, piece, lane));
                        std::ptr::copy_nonoverlapping(row, to, piece.columns * lane.size());
                    }
                }
            }
        }
    }

    /// How many rows a tile has that begins with row `at` of a piece, up to row `end`, and its points.
    fn tile(&self, piece: Piece, at: usize, end: usize) -> (usize, Range<usize>) {
        let row = self.fold.kept.at(piece.kept) + self.fold.reduced.at(at);
        // Rows of the innermost reduced axis follow each other in memory.
        let neighbours = self.fold.reduced.0.last().map_or(1, |&(size, _)| size);
        let abreast = match self.strips {
            1 => TILE / self.columns,
            _ => 1,
        };
        let count = abreast.min(end - at).min(neighbours - at % neighbours);
        let start = row * self.fold.width + piece.column;
        let points = match count {
            1 => piece.columns,
            _ => count * self.fold.width,
        };
        (count, start..start + points)
    }

    /// Adds up the rows of a piece.
    unsafe fn block(&self, code: &Code, frame: &Frame, piece: Piece, running: &mut Running) {
        let rows = self.fold.reduced.count();
        let (mut at, end) = (piece.block * BLOCK, rows.min((piece.block + 1) * BLOCK));
        let start = at;
        while at < end {
            let (count, points) = self.tile(piece, at, end);
            let ahead = at + AHEAD * count;
            // SAFETY: handed on; a tile's worth of points of the space.
            unsafe {
                if self.residence == Residence::Memory && ahead < end {
                    code.prefetch(frame, self.tile(piece, ahead, end).1, simd::fetch_first);
                }
                code.tile(frame, points, 0..0);
            }
            for (i, (reduced, sums)) in self.reductions.iter().zip(running.iter_mut()).enumerate() {
                let size = piece.columns * reduced.reducer.lane().size();
                let sums: *mut u8 = sums.as_mut_ptr().cast();
                for k in 0..count {
                    // SAFETY: the tile has `count` rows, the running row one.
                    unsafe {
                        let row = code.reduced(frame, i).add(k * size);
                        if at + k == start {
                            std::ptr::copy_nonoverlapping(row, sums, size);
                        } else {
                            let operands = [sums, row, sums].map(Values::each);
                            (reduced.combine)(sums, operands, piece.columns);
                        }
                    }
                }
            }
            at += count;
        }
    }

    /// Stores a finished row.
    unsafe fn result(
        &self,
        reduced: &Reduced,
        piece: Piece,
        row: *const u8,
        operands: &Operands<'_>,
    ) {
        let dtype = reduced.dtype;
        let at = (piece.kept * self.fold.width + piece.column) * dtype.size();
        // SAFETY: there is a result for each kept place and column (P4).
        unsafe {
            store(
                dtype,
                operands.write(reduced.write).add(at),
                row,
                piece.columns,
            )
        }
    }

    /// Combines the sums of blocks, after all workers have summed.
    ///
    /// # Safety
    /// As for [`Columns::sum`].
    pub(super) unsafe fn combine(
        &self,
        worker: Worker<'_>,
        operands: &Operands<'_>,
        partials: *const u8,
    ) {
        if self.blocks == 1 {
            return;
        }
        for number in worker.share(self.fold.kept.count() * self.strips) {
            let (kept, strip) = (number / self.strips, number % self.strips);
            let piece = self.piece(kept * self.blocks * self.strips + strip);
            for (i, reduced) in self.reductions.iter().enumerate() {
                let lane = reduced.reducer.lane();
                let mut row = [0u64; TILE];
                let row: *mut u8 = row.as_mut_ptr().cast();
                let mut totals = [Total::Whole(0); TILE];
                let totals = &mut totals[..piece.columns];
                let reduction = reduced.reducer.reduction();
                // SAFETY: every block's sum has been written.
                unsafe {
                    for block in 0..self.blocks {
                        let from = partials.add(self.partial(i, Piece { block, ..piece }, lane));
                        for (column, total) in totals.iter_mut().enumerate() {
                            let sum = read(lane, from.add(column * lane.size()));
                            *total = if block == 0 {
                                sum
                            } else {
                                total.then(reduction, sum)
                            };
                        }
                    }
                    for (column, total) in totals.iter().enumerate() {
                        total.put(reduced.dtype, row.add(column * lane.size()));
                    }
                    self.result(reduced, piece, row, operands);
                }
            }
        }
    }
}

/// # Safety
/// An element of the lane must be readable.
#[inline]
unsafe fn read(lane: Lane, from: *const u8) -> Total {
    // SAFETY: handed on.
    unsafe {
        match lane {
            Lane::F32 => Total::Real(from.cast::<f32>().read_unaligned().into()),
            Lane::F64 => Total::Real(from.cast::<f64>().read_unaligned()),
            Lane::I32 => Total::Whole(from.cast::<i32>().read_unaligned().into()),
            Lane::I64 => Total::Whole(from.cast::<i64>().read_unaligned()),
            Lane::U8 => Total::Whole((*from).into()),
        }
    }
}
