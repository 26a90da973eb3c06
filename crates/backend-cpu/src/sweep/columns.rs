//! Reductions over rows: the last axis is kept.
//!
//! Rows are added up element by element, in blocks of [`BLOCK`] rows; of short rows, several abreast
//! that are added up at the end of the block. The sums of blocks, where there are several, wait in
//! scratch memory and are combined in their order in f64 (integers: in i64). Columns are
//! independent, so they are shared out to threads besides the blocks.

use std::mem::MaybeUninit;
use std::ops::Range;

use backprop_core::Reduction;

use super::{Fold, Reduced, Residence};
use crate::memory::LINE;
use crate::memory::Operands;
use crate::pool::Worker;
use crate::tile::{Code, Frame, Lane, Request, Results, Total, Values, store};

/// Rows that are added up before their sum is put aside.
const BLOCK: usize = 64;

/// Points of a tile: long rows cost less by the point.
const TILE: usize = 512;

/// Columns whose running sums stay in cache while rows go by from end to end.
const STRIP: usize = 4096;

/// How many tiles ahead operands are fetched that wait in memory: what is left of rows that are shared
/// out is short, and apart.
const AHEAD: usize = 3;

/// A reduction of rows into one row.
#[derive(Debug)]
pub(super) struct Columns {
    fold: Fold,
    reductions: Vec<Reduced>,
    /// Blocks of rows for each kept place.
    blocks: usize,
    /// Columns in a strip, and how many strips abreast make a row.
    columns: usize,
    strips: usize,
    residence: Residence,
    threads: usize,
}

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
    pub(super) fn new(
        fold: Fold,
        reductions: Vec<Reduced>,
        (residence, threads): (Residence, usize),
    ) -> Columns {
        let blocks = fold.reduced.count().div_ceil(BLOCK);
        let tiles = fold.width.div_ceil(TILE);
        // As many strips as caches ask for, or threads.
        let busy = threads.div_ceil((fold.kept.count() * blocks).max(1));
        let strips = fold.width.div_ceil(STRIP).max(busy).min(tiles);
        let columns = (tiles.div_ceil(strips) * TILE).min(fold.width);
        Columns {
            strips: fold.width.div_ceil(columns),
            fold,
            reductions,
            blocks,
            columns,
            residence,
            threads,
        }
    }

    pub(super) fn tile_points(&self) -> usize {
        self.abreast() * self.columns.min(TILE)
    }

    /// Rows in a tile, at most.
    fn abreast(&self) -> usize {
        (TILE / self.fold.width).max(1)
    }

    /// Asks for a program that suits the tiles, and adds to the running sums.
    pub(super) fn ask(&self, request: &mut Request<'_>) {
        request.capacity = self.tile_points();
        request.within = (self.abreast() == 1).then_some(self.fold.width);
        request.results = Results::Added;
    }

    /// Bytes of scratch: the sums of blocks, then the running sums of each worker.
    pub(super) fn scratch(&self) -> usize {
        self.reductions.len() * (self.partials() + self.threads * self.running())
    }

    /// Whether there are sums of blocks to combine.
    pub(super) fn has_partials(&self) -> bool {
        self.blocks > 1
    }

    /// Bytes of the partial results of one reduction.
    fn partials(&self) -> usize {
        if !self.has_partials() {
            return 0;
        }
        let bytes = self.fold.kept.count() * self.blocks * self.fold.width * size_of::<u64>();
        bytes.next_multiple_of(LINE)
    }

    /// Bytes of the running sums of one reduction, of any lane.
    fn running(&self) -> usize {
        (self.abreast() * self.columns * size_of::<u64>()).next_multiple_of(LINE)
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
        let before = self.partials() + worker.id() * self.running();
        let running = partials.wrapping_add(self.reductions.len() * before);
        let pieces = self.fold.kept.count() * self.blocks * self.strips;
        for number in worker.items(pieces) {
            let piece = self.piece(number);
            // SAFETY: pieces are shared out, and so are the places of their sums.
            unsafe {
                self.block(code, frame, piece, running);
                for (i, reduced) in self.reductions.iter().enumerate() {
                    let row = running.add(i * self.running());
                    let lane = reduced.reducer.lane();
                    if self.has_partials() {
                        let to = partials.add(self.partial(i, piece, lane));
                        std::ptr::copy_nonoverlapping(row, to, piece.columns * lane.size());
                    } else {
                        self.result(reduced, piece, row, operands);
                    }
                }
            }
        }
    }

    /// How many rows a tile has that begins with row `at`, up to row `end`.
    fn rows(&self, at: usize, end: usize) -> usize {
        // Rows of the innermost reduced axis follow each other in memory.
        let neighbours = self.fold.reduced.0.last().map_or(1, |&(size, _)| size);
        self.abreast()
            .min(end - at)
            .min(neighbours - at % neighbours)
    }

    /// The points of a tile of so many rows from row `at` on, which begins so many columns into the
    /// piece.
    fn tile(&self, piece: Piece, (at, rows): (usize, usize), into: usize) -> Range<usize> {
        let row = self.fold.kept.at(piece.kept) + self.fold.reduced.at(at);
        let start = row * self.fold.width + piece.column + into;
        let points = match rows {
            1 => (piece.columns - into).min(TILE),
            _ => rows * self.fold.width,
        };
        start..start + points
    }

    /// Adds up the rows of a piece.
    unsafe fn block(&self, code: &Code, frame: &Frame, piece: Piece, running: *mut u8) {
        let all = self.fold.reduced.count();
        let (mut at, end) = (piece.block * BLOCK, all.min((piece.block + 1) * BLOCK));
        let tiles = piece.columns.div_ceil(TILE);
        let sums = |i: usize| running.wrapping_add(i * self.running());
        for (i, reduced) in self.reductions.iter().enumerate() {
            // SAFETY: there is room for the sums of all points of a row of tiles.
            unsafe {
                reduced
                    .reducer
                    .clear(sums(i), self.abreast() * piece.columns)
            };
        }
        while at < end {
            let rows = self.rows(at, end);
            for tile in 0..tiles {
                let (later, into) = ((tile + AHEAD) / tiles * rows, (tile + AHEAD) % tiles * TILE);
                for (i, reduced) in self.reductions.iter().enumerate() {
                    let into = tile * TILE * reduced.reducer.lane().size();
                    // SAFETY: as above.
                    unsafe { code.add_to(frame, i, sums(i).add(into)) };
                }
                // SAFETY: handed on; a tile's worth of points of the space.
                unsafe {
                    if self.residence == Residence::Memory && at + later < end {
                        let rows = self.rows(at + later, end);
                        let ahead = self.tile(piece, (at + later, rows), into);
                        code.prefetch(frame, ahead);
                    }
                    code.tile(frame, self.tile(piece, (at, rows), tile * TILE), 0..0);
                }
            }
            at += rows;
        }
        for (i, reduced) in self.reductions.iter().enumerate() {
            let size = piece.columns * reduced.reducer.lane().size();
            for row in 1..self.abreast() {
                let (to, from) = (sums(i), sums(i).wrapping_add(row * size));
                let operands = [to.cast_const(), from, to].map(Values::each);
                // SAFETY: there are sums for so many rows.
                unsafe { (reduced.combine)(to, operands, piece.columns) };
            }
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
        let tiles = self.fold.width.div_ceil(TILE);
        for number in worker.share(self.fold.kept.count() * tiles) {
            let column = number % tiles * TILE;
            let piece = Piece {
                kept: number / tiles,
                block: 0,
                column,
                columns: TILE.min(self.fold.width - column),
            };
            for (i, reduced) in self.reductions.iter().enumerate() {
                let (reduction, lane) = (reduced.reducer.reduction(), reduced.reducer.lane());
                let at =
                    |block| partials.wrapping_add(self.partial(i, Piece { block, ..piece }, lane));
                let sums = Sums {
                    blocks: self.blocks,
                    columns: piece.columns,
                    at: &at,
                };
                let then = |a: Total, b: Total| a.then(reduction, b);
                let mut row = [0u64; TILE];
                let row: *mut u8 = row.as_mut_ptr().cast();
                let put = |column: usize, total: Total| {
                    // SAFETY: a row has room for so many of any lane.
                    unsafe { total.put(reduced.dtype, row.add(column * lane.size())) };
                };
                // SAFETY: every block's sum has been written, in this lane.
                unsafe {
                    match (lane, reduction) {
                        (Lane::F32, Reduction::Sum) => {
                            let put = |column, total| put(column, Total::Real(total));
                            sums.combine(|x: f32| f64::from(x), |a, b| a + b, put);
                        }
                        (Lane::F32, _) => sums.combine(|x: f32| Total::Real(x.into()), then, put),
                        (Lane::F64, _) => sums.combine(Total::Real, then, put),
                        (Lane::I32, _) => sums.combine(|x: i32| Total::Whole(x.into()), then, put),
                        (Lane::I64, _) => sums.combine(Total::Whole, then, put),
                        (Lane::U8, _) => sums.combine(|x: u8| Total::Whole(x.into()), then, put),
                    }
                    self.result(reduced, piece, row, operands);
                }
            }
        }
    }
}

/// The sums of the blocks of a piece.
struct Sums<'a> {
    blocks: usize,
    columns: usize,
    /// Where those of a block are.
    at: &'a dyn Fn(usize) -> *const u8,
}

impl Sums<'_> {
    /// Combines the blocks in their order, column by column.
    ///
    /// # Safety
    /// The sums of all blocks must be readable, and of type `T`.
    unsafe fn combine<T: Copy, W: Copy>(
        &self,
        widen: impl Fn(T) -> W,
        then: impl Fn(W, W) -> W,
        put: impl Fn(usize, W),
    ) {
        let mut totals = [const { MaybeUninit::<W>::uninit() }; TILE];
        let totals = &mut totals[..self.columns];
        for block in 0..self.blocks {
            let sums: *const T = (self.at)(block).cast();
            for (column, total) in totals.iter_mut().enumerate() {
                // SAFETY: the caller vouches for the sums; the first block writes all totals.
                unsafe {
                    let sum = widen(sums.add(column).read_unaligned());
                    let sum = if block == 0 {
                        sum
                    } else {
                        then(total.assume_init(), sum)
                    };
                    total.write(sum);
                }
            }
        }
        for (column, total) in totals.iter().enumerate() {
            // SAFETY: there is a block at least.
            put(column, unsafe { total.assume_init() });
        }
    }
}
