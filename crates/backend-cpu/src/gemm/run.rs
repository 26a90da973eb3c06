//! Following a prepared product.
//!
//! A product is cut into tasks that share nothing: some rows by some columns of one element of the
//! batch, over one part of K. Each worker packs what its tasks need into memory of its own, small
//! enough to stay in its second-level cache. Some of B is packed more than once that way, but
//! nobody waits, and no packed line travels from the cache of one core to another, which costs
//! more.

use std::ops::Range;

use super::ahead::{Ahead, is_far};
use super::gather::Gathered;
use super::kernel::{Onto, Tile};
use super::pack::Panel;
use super::vector::{Line, LineFn};
use super::{Access, Blocking, Gemm, Number, Order, Route, Source, Strides};
use crate::memory::LINE;
use crate::pool::{Worker, share};

/// Where finished sums go.
#[derive(Clone, Copy)]
pub(crate) enum Sink<'a, T> {
    /// To C, dense.
    Store(*mut T),
    /// To this function: the sums of a range of C's elements in row-major order, contiguous. Every
    /// element is handed over exactly once, by the worker that has it.
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

/// Some rows by some columns of C, over a part of K.
struct Task<'a, T, E> {
    left: *const E,
    right: *const E,
    /// Blocks of K.
    blocks: Range<usize>,
    rows: Range<usize>,
    columns: Range<usize>,
    /// Elements of C before this element of the batch.
    base: usize,
    /// C of this element of the batch, or where parts are collected; or a function, and room for
    /// sums.
    sink: Sink<'a, T>,
    room: Room<T>,
}

/// A worker's scratch memory.
#[derive(Clone, Copy)]
struct Room<T> {
    right: *mut T,
    left: *mut T,
    tile: *mut T,
}

/// Rows and columns whose sums are completed together.
#[derive(Clone)]
struct Area<T> {
    rows: Range<usize>,
    columns: Range<usize>,
    /// The first element, and elements from a row to the next.
    c: *mut T,
    c_row: usize,
}

/// The rows of an area over a block of K.
#[derive(Clone, Copy)]
enum Left<T, E> {
    InPlace(*const E),
    Packed(*mut T),
}

impl<T, E> Task<'_, T, E> {
    /// The rows whose sums are completed one after the other.
    fn parts(&self, cut: &Blocking<T>) -> impl Iterator<Item = Range<usize>> + use<T, E> {
        let rows = self.rows.clone();
        let count = rows.len().div_ceil(cut.height);
        (0..count).map(move |i| {
            let part = share(rows.len(), i, count);
            rows.start + part.start..rows.start + part.end
        })
    }

    /// Where some of the rows are held, over a block of K.
    fn held(&self, rows: &Range<usize>, k: &Range<usize>) -> *mut T {
        let before = self.rows.len() * k.start + (rows.start - self.rows.start) * k.len();
        self.room.left.wrapping_add(before)
    }
}

/// Calls `pack` with the lines of each of several panels of `pitch` lines, one after the other.
fn each_panel<T>(
    (lines, k): (Range<usize>, &Range<usize>),
    (to, pitch): (*mut T, usize),
    pack: impl Fn(Range<usize>, *mut T),
) {
    for first in lines.clone().step_by(pitch) {
        let to = to.wrapping_add((first - lines.start) * k.len());
        pack(first..lines.end.min(first + pitch), to);
    }
}

/// One block of K for an area.
struct Step {
    /// Its number.
    block: usize,
    k: Range<usize>,
    onto: Onto,
}

impl<T: Number, E: Source<T>> Gemm<T, E> {
    /// Does one worker's share. Every worker of the job must call it.
    ///
    /// # Safety
    /// The memory of `call` must be as the problem says, C and the scratch memory touched by no one
    /// else, the job's workers no more than the problem's threads (one, if [`Gemm::workers`] is
    /// one).
    pub(crate) unsafe fn run(&self, worker: Worker<'_>, call: &Call<'_, T, E>) {
        let (down, across) = self.grid;
        let tasks = self.problem.units() * self.parts * down * across;
        let mut held = None;
        for task in worker.items(tasks) {
            let task = self.task(task, worker.id(), call);
            if task.rows.is_empty() || task.columns.is_empty() {
                continue;
            }
            // SAFETY: tasks are disjoint, and this worker has its slot of the scratch memory to
            // itself.
            unsafe {
                match &self.route {
                    Route::Vector(line) => self.vector(&task, *line),
                    Route::Tiles(cut) => {
                        let lines = Some((task.left, task.rows.clone()));
                        if cut.left == Access::Held && held != lines {
                            self.hold(&task, cut);
                            held = lines;
                        }
                        self.tiles(&task, cut);
                    }
                }
            }
        }
        if self.parts > 1 {
            worker.barrier();
            // SAFETY: all parts are done.
            unsafe { self.combine(worker, call) };
        }
    }

    fn task<'a>(&self, index: usize, slot: usize, call: &Call<'a, T, E>) -> Task<'a, T, E> {
        let (problem, space) = (&self.problem, &self.space);
        let (down, across) = self.grid;
        let (unit, cell) = (index / (down * across), index % (down * across));
        let (element, part) = (unit / self.parts, unit % self.parts);
        let base = element * problem.m * problem.n;
        let (left, right) = self.operands(element, call);
        let scratch = call.scratch.cast::<T>();
        let own = scratch.wrapping_add(space.partial + slot * space.slot());
        Task {
            left,
            right,
            blocks: share(self.blocks, part, self.parts),
            rows: share(problem.m, cell % down, down),
            columns: self.columns(cell / down),
            base,
            sink: match call.sink {
                _ if self.parts > 1 => Sink::Store(scratch.wrapping_add(part * self.size() + base)),
                Sink::Store(c) => Sink::Store(c.wrapping_add(base)),
                hand @ Sink::Hand(_) => hand,
            },
            room: Room {
                right: own,
                left: own.wrapping_add(space.right),
                tile: own.wrapping_add(space.right + space.left),
            },
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

    /// Packs all of A.
    unsafe fn hold(&self, task: &Task<'_, T, E>, cut: &Blocking<T>) {
        for block in 0..self.blocks {
            let k = self.block(block);
            for rows in task.parts(cut) {
                let to = task.held(&rows, &k);
                // SAFETY: blocks are packed one after the other, and there is room for all.
                unsafe { self.pack_left(task, cut, (&rows, &k), to) };
            }
        }
    }

    unsafe fn tiles(&self, task: &Task<'_, T, E>, cut: &Blocking<T>) {
        let n = self.problem.n;
        for first in task.columns.clone().step_by(cut.width) {
            let columns = first..task.columns.end.min(first + cut.width);
            for rows in task.parts(cut) {
                let (c, c_row) = match task.sink {
                    Sink::Store(c) => (c.wrapping_add(rows.start * n + first), n),
                    Sink::Hand(_) => (task.room.tile, columns.len()),
                };
                let area = Area {
                    columns: columns.clone(),
                    rows,
                    c,
                    c_row,
                };
                for (i, block) in task.blocks.clone().enumerate() {
                    let step = Step {
                        block,
                        k: self.block(block),
                        onto: if i == 0 { Onto::Nothing } else { Onto::Sum },
                    };
                    // SAFETY: the area is this task's alone.
                    unsafe { self.step(task, cut, &area, &step) };
                }
                if let Sink::Hand(hand) = task.sink {
                    self.hand(task.base, &area, hand);
                }
            }
        }
    }

    /// Hands over an area, in as few pieces as are contiguous in C.
    fn hand(&self, base: usize, area: &Area<T>, hand: &dyn Fn(Range<usize>, *const T)) {
        let n = self.problem.n;
        let from = base + area.rows.start * n + area.columns.start;
        if area.c_row == n {
            return hand(from..from + area.rows.len() * n, area.c);
        }
        for i in 0..area.rows.len() {
            let from = from + i * n;
            hand(from..from + area.c_row, area.c.wrapping_add(i * area.c_row));
        }
    }

    /// One block of K: packs the rows of A, then as it goes the columns of B, a group of panels at
    /// a time.
    unsafe fn step(&self, task: &Task<'_, T, E>, cut: &Blocking<T>, area: &Area<T>, step: &Step) {
        let strides = self.problem.left;
        let start = area.rows.start as isize * strides.row + step.k.start as isize * strides.column;
        let a = match cut.left {
            Access::InPlace => Left::InPlace(task.left.wrapping_offset(start)),
            Access::Packed => {
                // SAFETY: there is room for a block.
                unsafe { self.pack_left(task, cut, (&area.rows, &step.k), task.room.left) };
                Left::Packed(task.room.left)
            }
            Access::Held => Left::Packed(task.held(&area.rows, &step.k)),
        };
        let group = cut.group * cut.panel();
        // A group that is all there is to pack stays as it is for the other rows.
        let keep =
            area.rows.start > task.rows.start && self.blocks == 1 && area.columns.len() <= group;
        for first in area.columns.clone().step_by(group) {
            let columns = first..area.columns.end.min(first + group);
            let ahead = self.ahead(task, cut, area, (step, &columns));
            // SAFETY: the columns lie inside of B, and the tiles inside of C.
            unsafe {
                if !keep {
                    self.pack_right(task, cut, &columns, &step.k);
                }
                self.multiply(task, cut, area, step, (a, columns, ahead));
            }
        }
    }

    /// The group of B that is packed after this one.
    fn ahead(
        &self,
        task: &Task<'_, T, E>,
        cut: &Blocking<T>,
        area: &Area<T>,
        (step, columns): (&Step, &Range<usize>),
    ) -> Ahead {
        let problem = &self.problem;
        let packs = cut.right == Access::Packed && self.gathers.right.is_none();
        if !packs || !is_far::<E>(problem.k, problem.n) {
            return Ahead::NOTHING;
        }
        let group = |first: usize, end: usize| first..end.min(first + cut.group * cut.panel());
        let more_rows = area.rows.end < task.rows.end;
        let (k, next) = if columns.end < area.columns.end {
            (step.k.clone(), group(columns.end, area.columns.end))
        } else if step.block + 1 < task.blocks.end {
            let k = self.block(step.block + 1);
            (k, group(area.columns.start, area.columns.end))
        } else if more_rows && self.blocks > 1 {
            let k = self.block(task.blocks.start);
            (k, group(area.columns.start, area.columns.end))
        } else if !more_rows && area.columns.end < task.columns.end {
            let k = self.block(task.blocks.start);
            (k, group(area.columns.end, task.columns.end))
        } else {
            return Ahead::NOTHING;
        };
        let strips = area.rows.len().div_ceil(cut.tallest);
        let tiles = strips * columns.len().div_ceil(cut.panel());
        Ahead::block(task.right, (&k, &next), problem.right, tiles)
    }

    /// Packs rows of A over a block of K.
    unsafe fn pack_left(
        &self,
        task: &Task<'_, T, E>,
        cut: &Blocking<T>,
        (rows, k): (&Range<usize>, &Range<usize>),
        to: *mut T,
    ) {
        let strides = self.problem.left;
        for (strip, height) in cut.even_strips(rows.len()) {
            let lines = rows.start + strip.start..rows.start + strip.end;
            let start = lines.start as isize * strides.row + k.start as isize * strides.column;
            let to = to.wrapping_add(strip.start * k.len());
            // SAFETY: the strips lie inside of A, and their packed form inside of the room for it.
            unsafe {
                if let Some(gather) = &self.gathers.left {
                    each_panel((lines, k), (to, height), |lines, to| {
                        gather.pack(Gathered {
                            from: task.left,
                            lines,
                            k: k.clone(),
                            to,
                            pitch: height,
                            spare: std::ptr::null_mut(),
                        });
                    });
                    continue;
                }
                (self.pack)(&Panel {
                    from: task.left.wrapping_offset(start),
                    across: strides.row,
                    along: strides.column,
                    lines: lines.len(),
                    depth: k.len(),
                    to,
                    pitch: height,
                });
            }
        }
    }

    /// Packs a group of columns of B: whole panels, unless they are read in place, and what is left
    /// over.
    unsafe fn pack_right(
        &self,
        task: &Task<'_, T, E>,
        cut: &Blocking<T>,
        columns: &Range<usize>,
        k: &Range<usize>,
    ) {
        let strides = self.problem.right;
        let whole = columns.len() / cut.panel() * cut.panel();
        let rest = columns.len() - whole;
        let pieces = [
            (0, whole, cut.panel()),
            (whole, rest, rest.next_multiple_of(cut.lanes)),
        ];
        for (first, lines, pitch) in pieces {
            if lines == 0 || (first == 0 && whole > 0 && cut.right == Access::InPlace) {
                continue;
            }
            let column = (columns.start + first) as isize;
            let from = k.start as isize * strides.row + column * strides.column;
            let to = task.room.right.wrapping_add(first * k.len());
            // SAFETY: the panels lie inside of B, and their packed form inside of the room for it.
            unsafe {
                if let Some(gather) = &self.gathers.right {
                    let first = columns.start + first;
                    let spare = cut.group * cut.panel() * k.len();
                    each_panel((first..first + lines, k), (to, pitch), |lines, to| {
                        gather.pack(Gathered {
                            from: task.right,
                            lines,
                            k: k.clone(),
                            to,
                            pitch,
                            spare: task.room.right.wrapping_add(spare),
                        });
                    });
                    continue;
                }
                (self.pack)(&Panel {
                    from: task.right.wrapping_offset(from),
                    across: strides.column,
                    along: strides.row,
                    lines,
                    depth: k.len(),
                    to,
                    pitch,
                });
            }
        }
    }

    /// All tiles of an area in a group of columns.
    unsafe fn multiply(
        &self,
        task: &Task<'_, T, E>,
        cut: &Blocking<T>,
        area: &Area<T>,
        step: &Step,
        (a, columns, mut ahead): (Left<T, E>, Range<usize>, Ahead),
    ) {
        let rows = area.rows.len();
        let strips = cut.strips(rows);
        for stack in cut.stacks(rows, step.k.len()) {
            for first in columns.clone().step_by(cut.panel()) {
                let panel = first..columns.end.min(first + cut.panel());
                let (b, b_step) = self.panel(task, cut, &step.k, (&panel, columns.start));
                let tiles = cut.tiles(panel.len());
                for strip in stack.clone().map(|i| strips.part(i)) {
                    let (a, a_row, a_step) = self.lines(a, &strip, step.k.len());
                    let at = strip.start * area.c_row + first - area.columns.start;
                    let tile = Tile {
                        depth: step.k.len(),
                        a,
                        a_row,
                        a_step,
                        b,
                        b_step,
                        c: area.c.wrapping_add(at),
                        c_row: area.c_row,
                        columns: panel.len(),
                        onto: step.onto,
                    };
                    // SAFETY: the tile lies inside of the area, and its operands are readable.
                    unsafe { tiles[strip.len() - 1](&tile) };
                    ahead.fetch();
                }
            }
        }
    }

    /// Where a panel of B is over a block of K, and elements from a row to the next. Packed ones lie
    /// behind those from column `packed` on.
    fn panel(
        &self,
        task: &Task<'_, T, E>,
        cut: &Blocking<T>,
        k: &Range<usize>,
        (panel, packed): (&Range<usize>, usize),
    ) -> (*const T, isize) {
        if cut.right == Access::InPlace && panel.len() == cut.panel() {
            let step = self.problem.right.row;
            let from = k.start as isize * step + panel.start as isize;
            return (task.right.wrapping_offset(from).cast(), step);
        }
        let before = (panel.start - packed) * k.len();
        let pitch = panel.len().next_multiple_of(cut.lanes);
        (task.room.right.wrapping_add(before), pitch as isize)
    }

    /// Where a strip of A is, with elements from a row, and from a column, to the next.
    fn lines(&self, a: Left<T, E>, strip: &Range<usize>, depth: usize) -> (*const T, isize, isize) {
        let Strides { row, column } = self.problem.left;
        match a {
            Left::InPlace(a) => {
                let a = a.wrapping_offset(strip.start as isize * row);
                (a.cast(), row, column)
            }
            Left::Packed(a) => (a.wrapping_add(strip.start * depth), 1, strip.len() as isize),
        }
    }

    /// Vector times matrix.
    unsafe fn vector(&self, task: &Task<'_, T, E>, line: LineFn<E, T>) {
        let problem = &self.problem;
        let (columns, room) = (task.columns.clone(), task.room);
        let start = self.block(task.blocks.start).start;
        let k = start..self.block(task.blocks.end - 1).end;
        let from = task
            .left
            .wrapping_offset(k.start as isize * problem.left.column);
        // SAFETY: the vector has `k.len()` elements, for which there is room.
        let x = unsafe { self.contiguous(from, problem.left.column, k.len(), room.left) };
        // Columns that are contiguous are read from end to end, a few at a time.
        let pace = match problem.right.column {
            1 => columns.len(),
            _ => LINE / size_of::<T>(),
        };
        let y = match task.sink {
            Sink::Store(c) => c.wrapping_add(columns.start),
            Sink::Hand(_) => room.tile,
        };
        for first in (0..columns.len()).step_by(pace) {
            let piece = first..columns.len().min(first + pace);
            for (i, block) in task.blocks.clone().enumerate() {
                let block = self.block(block);
                let right = block.start as isize * problem.right.row
                    + (columns.start + piece.start) as isize * problem.right.column;
                let call = Line {
                    x: x.wrapping_add(block.start - start),
                    depth: block.len(),
                    b: task.right.wrapping_offset(right),
                    along: problem.right.row,
                    across: problem.right.column,
                    y: y.wrapping_add(piece.start),
                    columns: piece.len(),
                    onto: if i == 0 { Onto::Nothing } else { Onto::Sum },
                    spare: room.right,
                };
                // SAFETY: the columns are this task's alone, and there is room for as many sums.
                unsafe { line(&call) };
            }
        }
        if let Sink::Hand(hand) = task.sink {
            let from = task.base + columns.start;
            hand(from..from + columns.len(), y);
        }
    }

    /// The vector itself, or a widened copy in `room` if its elements do not stand together in type
    /// `T`.
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
