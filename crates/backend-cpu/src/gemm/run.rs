//! Following a prepared product.

use std::ops::Range;

use super::kernel::{Onto, Tile};
use super::pack::Panel;
use super::vector::{Line, LineFn};
use super::{Access, Blocking, Gemm, Number, Order, Route, Sharing, Source};
use crate::pool::{Worker, share};

/// Where finished sums go.
#[derive(Clone, Copy)]
pub(crate) enum Sink<'a, T> {
    /// To C, dense.
    Store(*mut T),
    /// To this function: the sums of a range of C's elements in row-major order, contiguous. Every element is
    /// handed over exactly once, by the worker that has it.
    Hand(&'a dyn Fn(Range<usize>, *const T)),
}

/// The memory of one run, as a worker gets it.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a, T, E> {
    /// The element at coordinate zero.
    pub(crate) left: *const E,
    /// The element at coordinate zero.
    pub(crate) right: *const E,
    /// [`Gemm::scratch`] bytes, aligned to a cache line.
    pub(crate) scratch: *mut u8,
    pub(crate) sink: Sink<'a, T>,
}

/// One part of one element of the batch, on a team of workers.
struct Unit<'a, T, E> {
    team: Worker<'a>,
    left: *const E,
    right: *const E,
    /// Blocks of K, and the first k.
    blocks: Range<usize>,
    start: usize,
    /// Elements of C before this one's.
    base: usize,
    /// Where sums go, and whether they are handed over from there.
    to: To<'a, T>,
    packed_right: *mut T,
    packed_left: *mut T,
    tile: *mut T,
}

#[derive(Clone, Copy)]
enum To<'a, T> {
    Matrix(*mut T),
    Hand(&'a dyn Fn(Range<usize>, *const T)),
}

/// Columns of C whose part of B is packed together.
struct Chunk {
    columns: Range<usize>,
    /// Columns, zeros included, of the packed form.
    packed: usize,
}

impl<T: Number, E: Source<T>> Gemm<T, E> {
    /// Does one worker's share. Every worker of the job must call it.
    ///
    /// # Safety
    /// The memory of `call` must be as the problem says, C and the scratch memory touched by no one else, the
    /// job's workers no more than the problem's threads (one, if [`Gemm::workers`] is one).
    pub(crate) unsafe fn run(&self, worker: Worker<'_>, call: &Call<'_, T, E>) {
        let units = self.problem.units() * self.parts;
        match self.sharing {
            Sharing::Units => {
                for unit in worker.share(units) {
                    // SAFETY: nobody else has this unit or this slot.
                    unsafe { self.unit(Worker::alone(), worker.id(), unit, call) };
                }
            }
            Sharing::Cells => {
                for unit in 0..units {
                    if unit > 0 {
                        worker.barrier();
                    }
                    // SAFETY: the team divides the unit.
                    unsafe { self.unit(worker, worker.id(), unit, call) };
                }
            }
        }
        if self.parts > 1 {
            worker.barrier();
            // SAFETY: all parts are done.
            unsafe { self.combine(worker, call) };
        }
    }

    unsafe fn unit(&self, team: Worker<'_>, slot: usize, unit: usize, call: &Call<'_, T, E>) {
        let (problem, space) = (&self.problem, &self.space);
        let size = problem.m * problem.n;
        let (element, part) = (unit / self.parts, unit % self.parts);
        let blocks = share(self.blocks, part, self.parts);
        let (left, right) = self.operands(element, call);
        let scratch = call.scratch.cast::<T>();
        let slots = scratch.wrapping_add(space.partial);
        let own = space.left + space.tile;
        let (packed_right, packed_left) = match self.sharing {
            Sharing::Cells => (slots, slots.wrapping_add(space.right + slot * own)),
            Sharing::Units => {
                let own = slots.wrapping_add(slot * (space.right + own));
                (own, own.wrapping_add(space.right))
            }
        };
        let unit = Unit {
            team,
            left,
            right,
            start: self.block(blocks.start).start,
            blocks,
            base: element * size,
            to: match call.sink {
                _ if self.parts > 1 => {
                    To::Matrix(scratch.wrapping_add(part * self.size() + element * size))
                }
                Sink::Store(c) => To::Matrix(c.wrapping_add(element * size)),
                Sink::Hand(hand) => To::Hand(hand),
            },
            packed_right,
            packed_left,
            tile: packed_left.wrapping_add(space.left),
        };
        // SAFETY: the pointers are those of this unit; the scratch memory is laid out by `space`.
        unsafe {
            match &self.route {
                Route::Vector(line) => self.vector(&unit, *line),
                Route::Tiles(cut) => self.tiles(&unit, cut),
            }
        }
    }

    /// The operands of an element of the batch, in prepared order.
    fn operands(&self, element: usize, call: &Call<'_, T, E>) -> (*const E, *const E) {
        let (mut left, mut right) = match self.order {
            Order::AsGiven => (call.left, call.right),
            Order::Swapped => (call.right, call.left),
        };
        let mut rest = element;
        for axis in self.problem.batch.iter().rev() {
            let at = (rest % axis.size) as isize;
            rest /= axis.size;
            left = left.wrapping_offset(at * axis.left);
            right = right.wrapping_offset(at * axis.right);
        }
        (left, right)
    }

    /// The range of k of a block.
    fn block(&self, index: usize) -> Range<usize> {
        share(self.problem.k, index, self.blocks)
    }

    unsafe fn tiles(&self, unit: &Unit<'_, T, E>, cut: &Blocking<T>) {
        let (n, team) = (self.problem.n, unit.team);
        let width = cut.width * cut.panel();
        for first in (0..n).step_by(width) {
            let columns = first..n.min(first + width);
            let packed = cut.packed_columns(columns.clone());
            let chunk = Chunk { columns, packed };
            if packed > 0 {
                if first > 0 {
                    team.barrier();
                }
                // SAFETY: the buffer is not in use: the team has met since.
                unsafe { self.pack_right(unit, cut, &chunk) };
                team.barrier();
            }
            let (down, across) = cut.grid;
            for cell in (team.id()..down * across).step_by(team.count()) {
                let rows = share(self.problem.m, cell % down, down);
                let panels = chunk.columns.len().div_ceil(cut.panel());
                let panels = share(panels, cell / down, across);
                // SAFETY: cells are disjoint, and B is packed.
                unsafe { self.cell(unit, cut, &chunk, rows, panels) };
            }
        }
    }

    /// Packs this worker's share of a chunk of B: whole, or the last few columns of one read in place.
    unsafe fn pack_right(&self, unit: &Unit<'_, T, E>, cut: &Blocking<T>, chunk: &Chunk) {
        let strides = self.problem.right;
        let panels = chunk.columns.len().div_ceil(cut.panel());
        let first = match cut.right {
            Access::Packed => 0,
            Access::InPlace => panels - 1,
        };
        let count = panels - first;
        for task in unit.team.share(count * unit.blocks.len()) {
            let panel = first + task % count;
            let k = self.block(unit.blocks.start + task / count);
            let column = chunk.columns.start + panel * cut.panel();
            let lines = (chunk.columns.end - column).min(cut.panel());
            let from = k.start as isize * strides.row + column as isize * strides.column;
            let panel = Panel {
                from: unit.right.wrapping_offset(from),
                across: strides.column,
                along: strides.row,
                lines,
                depth: k.len(),
                to: unit
                    .packed_right
                    .wrapping_add(packed_at(unit, cut, chunk, panel, &k)),
                pitch: lines.next_multiple_of(cut.lanes),
            };
            // SAFETY: the panel lies inside of B, and its packed form inside of the buffer.
            unsafe { (self.pack)(&panel) };
        }
    }

    /// All of K for some rows and panels of columns.
    unsafe fn cell(
        &self,
        unit: &Unit<'_, T, E>,
        cut: &Blocking<T>,
        chunk: &Chunk,
        rows: Range<usize>,
        panels: Range<usize>,
    ) {
        if rows.is_empty() || panels.is_empty() {
            return;
        }
        let n = self.problem.n;
        let column = chunk.columns.start + panels.start * cut.panel();
        let end = chunk
            .columns
            .end
            .min(chunk.columns.start + panels.end * cut.panel());
        let count = rows.len().div_ceil(cut.height);
        for block in 0..count {
            let part = share(rows.len(), block, count);
            let rows = rows.start + part.start..rows.start + part.end;
            let (c, c_row) = match unit.to {
                To::Matrix(c) => (c.wrapping_add(rows.start * n + column), n),
                To::Hand(_) => (unit.tile, end - column),
            };
            // SAFETY: the rows and columns are this worker's alone.
            unsafe { self.rows(unit, cut, chunk, (&rows, &panels), (c, c_row)) };
            if let To::Hand(hand) = unit.to {
                let from = unit.base + rows.start * n + column;
                if end - column == n {
                    hand(from..from + rows.len() * n, c);
                } else {
                    for i in 0..rows.len() {
                        let from = from + i * n;
                        hand(from..from + c_row, c.wrapping_add(i * c_row));
                    }
                }
            }
        }
    }

    /// All of K for as many rows as are packed at a time.
    unsafe fn rows(
        &self,
        unit: &Unit<'_, T, E>,
        cut: &Blocking<T>,
        chunk: &Chunk,
        (rows, panels): (&Range<usize>, &Range<usize>),
        (c, c_row): (*mut T, usize),
    ) {
        let left = self.problem.left;
        let strips = rows.len().div_ceil(cut.tallest);
        for (i, block) in unit.blocks.clone().enumerate() {
            let k = self.block(block);
            let a = unit
                .left
                .wrapping_offset(rows.start as isize * left.row + k.start as isize * left.column);
            if cut.left == Access::Packed {
                for strip in (0..strips).map(|strip| share(rows.len(), strip, strips)) {
                    let panel = Panel {
                        from: a.wrapping_offset(strip.start as isize * left.row),
                        across: left.row,
                        along: left.column,
                        lines: strip.len(),
                        depth: k.len(),
                        to: unit.packed_left.wrapping_add(strip.start * k.len()),
                        pitch: strip.len(),
                    };
                    // SAFETY: the strip lies inside of A, and its packed form inside of this worker's buffer.
                    unsafe { (self.pack)(&panel) };
                }
            }
            for panel in panels.clone() {
                let at = chunk.columns.start + panel * cut.panel();
                let columns = (chunk.columns.end - at).min(cut.panel());
                let (b, b_step) = self.right_panel(unit, cut, chunk, panel, &k);
                let tiles = if columns > cut.lanes {
                    &cut.tiles.wide
                } else {
                    &cut.tiles.narrow
                };
                for strip in (0..strips).map(|strip| share(rows.len(), strip, strips)) {
                    let (a, a_row, a_step) = match cut.left {
                        Access::InPlace => (
                            a.wrapping_offset(strip.start as isize * left.row)
                                .cast::<T>(),
                            left.row,
                            left.column,
                        ),
                        Access::Packed => (
                            unit.packed_left
                                .wrapping_add(strip.start * k.len())
                                .cast_const(),
                            1,
                            strip.len() as isize,
                        ),
                    };
                    let tile = Tile {
                        depth: k.len(),
                        a,
                        a_row,
                        a_step,
                        b,
                        b_step,
                        c: c.wrapping_add(
                            strip.start * c_row + (panel - panels.start) * cut.panel(),
                        ),
                        c_row,
                        columns,
                        onto: if i == 0 { Onto::Nothing } else { Onto::Sum },
                    };
                    // SAFETY: the tile lies inside of C, and its operands are readable.
                    unsafe { tiles[strip.len() - 1](&tile) };
                }
            }
        }
    }

    /// Where a panel of B lies over a block of K, and the elements from one of its rows to the next.
    fn right_panel(
        &self,
        unit: &Unit<'_, T, E>,
        cut: &Blocking<T>,
        chunk: &Chunk,
        panel: usize,
        k: &Range<usize>,
    ) -> (*const T, isize) {
        let column = chunk.columns.start + panel * cut.panel();
        let whole = chunk.columns.end - column >= cut.panel();
        if cut.right == Access::InPlace && whole {
            let row = self.problem.right.row;
            let from = k.start as isize * row + column as isize;
            return (unit.right.wrapping_offset(from).cast(), row);
        }
        let pitch = (chunk.columns.end - column)
            .min(cut.panel())
            .next_multiple_of(cut.lanes);
        let at = packed_at(unit, cut, chunk, panel, k);
        (
            unit.packed_right.wrapping_add(at).cast_const(),
            pitch as isize,
        )
    }

    /// Vector times matrix, for this worker's share of the columns.
    unsafe fn vector(&self, unit: &Unit<'_, T, E>, line: LineFn<E, T>) {
        let problem = &self.problem;
        let columns = unit.team.share(problem.n);
        if columns.is_empty() {
            return;
        }
        let k = unit.start..self.block(unit.blocks.end - 1).end;
        let from = unit
            .left
            .wrapping_offset(k.start as isize * problem.left.column);
        // SAFETY: the vector has `k.len()` elements, for which this worker's slot has room.
        let x = unsafe { self.contiguous(from, problem.left.column, k.len(), unit.packed_left) };
        let y = match unit.to {
            To::Matrix(c) => c.wrapping_add(columns.start),
            To::Hand(_) => unit.tile,
        };
        for (i, block) in unit.blocks.clone().enumerate() {
            let block = self.block(block);
            let right = block.start as isize * problem.right.row
                + columns.start as isize * problem.right.column;
            let call = Line {
                x: x.wrapping_add(block.start - k.start),
                depth: block.len(),
                b: unit.right.wrapping_offset(right),
                along: problem.right.row,
                across: problem.right.column,
                y,
                columns: columns.len(),
                onto: if i == 0 { Onto::Nothing } else { Onto::Sum },
                spare: unit.tile.wrapping_add(problem.n),
            };
            // SAFETY: the columns are this worker's alone; the slot has room for two vectors of sums.
            unsafe { line(&call) };
        }
        if let To::Hand(hand) = unit.to {
            let from = unit.base + columns.start;
            hand(from..from + columns.len(), y);
        }
    }

    /// The vector itself, or a widened copy in `room` if its elements do not stand together in type `T`.
    unsafe fn contiguous(&self, x: *const E, step: isize, n: usize, room: *mut T) -> *const T {
        if E::IS_WIDE && step == 1 {
            return x.cast();
        }
        let panel = Panel {
            from: x,
            across: step,
            along: 0,
            lines: n,
            depth: 1,
            to: room,
            pitch: n,
        };
        // SAFETY: the caller promises `n` elements on both sides.
        unsafe { (self.pack)(&panel) };
        room
    }

    /// Adds up the parts, in order, for this worker's share of C.
    unsafe fn combine(&self, worker: Worker<'_>, call: &Call<'_, T, E>) {
        let size = self.size();
        let range = worker.share(size);
        let first = call.scratch.cast::<T>().wrapping_add(range.start);
        // SAFETY: the range is this worker's alone, and each part has `size` elements.
        unsafe {
            for part in 1..self.parts {
                (self.add)(first, first.wrapping_add(part * size), range.len());
            }
            match call.sink {
                Sink::Hand(_) if range.is_empty() => {}
                Sink::Hand(hand) => hand(range, first),
                Sink::Store(c) => first.copy_to_nonoverlapping(c.add(range.start), range.len()),
            }
        }
    }
}

/// Elements before a packed panel: the packed form has the blocks of K one after the other, and in each the
/// panels, so that what is read together stands together.
fn packed_at<T, E>(
    unit: &Unit<'_, T, E>,
    cut: &Blocking<T>,
    chunk: &Chunk,
    panel: usize,
    k: &Range<usize>,
) -> usize
where
    T: Number,
{
    let before = match cut.right {
        Access::Packed => panel * cut.panel(),
        Access::InPlace => 0,
    };
    (k.start - unit.start) * chunk.packed + before * k.len()
}
