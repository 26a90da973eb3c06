//! Copying a panel of an operand into the order in which the kernel reads it.
//!
//! A panel is a few rows of A, or a few columns of B, over a block of K; packed, the elements of
//! one k stand together. Any strides are taken here, so a transposed operand costs no pass of its
//! own: where neighbours lie along K, blocks are transposed in registers.

use std::hint::black_box;
use std::ops::Range;

use super::Number;
use super::source::Source;
use crate::simd::{MAX_LANES, Simd, Vector, by_level, fetch_first};

/// What to pack. A line is a row of A or a column of B. Strides count elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel<E, T> {
    pub(crate) from: *const E,
    /// From a line to the next.
    pub(crate) across: isize,
    /// From an element of a line to the next, along K.
    pub(crate) along: isize,
    /// Where there are more than the pitch, they make several panels, one after the other.
    pub(crate) lines: usize,
    /// Elements of each line.
    pub(crate) depth: usize,
    pub(crate) to: *mut T,
    /// Elements written for each step along K: the lines, then anything.
    pub(crate) pitch: usize,
}

impl<E, T> Panel<E, T> {
    /// Calls `pack` with each of several panels.
    #[inline(always)]
    fn each(&self, pack: impl Fn(&Self)) {
        for (i, line) in (0..self.lines).step_by(self.pitch).enumerate() {
            pack(&Self {
                from: self.from.wrapping_offset(line as isize * self.across),
                lines: self.pitch.min(self.lines - line),
                to: self.to.wrapping_add(i * self.pitch * self.depth),
                ..*self
            });
        }
    }

    /// Where a line of a row is in the panel, and how much of the panel is left from there on. What is
    /// written past the row is overwritten by the rows after it.
    #[inline(always)]
    fn room(&self, k: usize, line: usize) -> (usize, usize) {
        let at = k * self.pitch + line;
        (at, self.depth * self.pitch - at)
    }
}

pub(crate) type PackFn<E, T> = unsafe fn(&Panel<E, T>);

by_level! {
    /// The packing function of a level. It reads `lines x depth` elements and writes `depth x
    /// pitch`.
    pub(crate) fn packer[T: Number, E: Source<T>][T, E](panel: &Panel<E, T>) = pack_at;
}

#[inline(always)]
unsafe fn pack_at<S: Simd, T: Number, E: Source<T>>(panel: &Panel<E, T>) {
    // SAFETY: the caller promises readable lines and a writable panel.
    unsafe {
        match (panel.across, panel.along) {
            (1, _) => copy::<S, T, E>(panel),
            (_, 1) => panel.each(|panel| turn::<S, T, E>(panel)),
            _ => panel.each(|panel| collect(panel)),
        }
    }
}

/// Rows of the panels that are copied together: a panel then gets a long piece at a time, and few rows
/// of the operand, which may lie a power of two apart, wait in cache for the next panel.
const ROWS: usize = 8;
/// How many rows ahead the operand is fetched: its rows are too short for the hardware to see where they
/// lead.
const AHEAD: usize = 2 * ROWS;

/// Neighbouring lines: a row of the panels is contiguous in the operand.
#[inline(always)]
unsafe fn copy<S: Simd, T: Number, E: Source<T>>(panel: &Panel<E, T>) {
    let lanes = T::In::<S>::LANES;
    let width = panel.pitch.next_multiple_of(lanes);
    for first in (0..panel.depth).step_by(ROWS) {
        let rows = first..panel.depth.min(first + ROWS);
        let from = panel.from.wrapping_offset(first as isize * panel.along);
        let fits = panel.room(rows.end - 1, 0).1 >= width;
        let (mut to, mut done) = (panel.to, 0);
        while done < panel.lines {
            // SAFETY: at most the lines there are are read; rows are written in their order.
            unsafe {
                let from = from.wrapping_add(done);
                if fits && panel.lines - done >= width {
                    whole_rows::<S, T, E>((panel, from), rows.clone(), to);
                } else {
                    rows_in_part::<S, T, E>((panel, from), rows.clone(), (to, done));
                }
            }
            done += panel.pitch;
            to = to.wrapping_add(panel.pitch * panel.depth);
        }
    }
}

/// Copies rows of a panel of which whole registers can be read and written.
#[inline(always)]
unsafe fn whole_rows<S: Simd, T: Number, E: Source<T>>(
    (panel, from): (&Panel<E, T>, *const E),
    rows: Range<usize>,
    to: *mut T,
) {
    let to = to.wrapping_add(rows.start * panel.pitch);
    // A loop each for rows of one and of two registers, which have none inside.
    // SAFETY: the caller's promise.
    unsafe {
        match panel.pitch.div_ceil(T::In::<S>::LANES) {
            1 => registers::<S, T, E>((panel, from), rows.len(), (to, 1)),
            2 => registers::<S, T, E>((panel, from), rows.len(), (to, 2)),
            count => registers::<S, T, E>((panel, from), rows.len(), (to, count)),
        }
    }
}

/// Copies so many rows of so many registers.
#[inline(always)]
unsafe fn registers<S: Simd, T: Number, E: Source<T>>(
    (panel, mut from): (&Panel<E, T>, *const E),
    rows: usize,
    (mut to, count): (*mut T, usize),
) {
    let lanes = T::In::<S>::LANES;
    for _ in 0..rows {
        fetch_first(from.wrapping_offset(AHEAD as isize * panel.along));
        for i in 0..count {
            // SAFETY: the caller's promise.
            unsafe { E::load::<S>(from.add(i * lanes)).store(to.add(i * lanes)) };
        }
        from = from.wrapping_offset(panel.along);
        to = to.wrapping_add(panel.pitch);
    }
}

/// Copies rows of a panel of which only some elements exist, or the last row.
#[inline(always)]
unsafe fn rows_in_part<S: Simd, T: Number, E: Source<T>>(
    (panel, mut from): (&Panel<E, T>, *const E),
    rows: Range<usize>,
    (to, done): (*mut T, usize),
) {
    let lanes = T::In::<S>::LANES;
    for k in rows {
        for line in (0..panel.pitch).step_by(lanes) {
            let have = (panel.lines - done).saturating_sub(line);
            // SAFETY: the caller's promise.
            unsafe {
                let row = if have >= lanes {
                    E::load::<S>(from.wrapping_add(line))
                } else {
                    E::load_first::<S>(from.wrapping_add(line), have)
                };
                put::<S, T>(row, to, panel.room(k, line));
            }
        }
        from = from.wrapping_offset(panel.along);
    }
}

/// Lines that are contiguous themselves: blocks of registers are transposed.
#[inline(always)]
unsafe fn turn<S: Simd, T: Number, E: Source<T>>(panel: &Panel<E, T>) {
    let lanes = T::In::<S>::LANES;
    // Backwards, since a block may reach into the first lines of the rows after its own.
    for line in (0..panel.pitch).step_by(lanes).rev() {
        let have = panel.lines.saturating_sub(line).clamp(1, lanes);
        let from = line.min(panel.lines - 1) as isize * panel.across;
        let lines = Lines::new(panel.from.wrapping_offset(from), panel.across, have);
        let mut k = 0;
        // SAFETY: so many lines and elements are there; rows lie inside of the panel.
        unsafe {
            while k + lanes <= panel.depth && panel.room(k + lanes - 1, line).1 >= lanes {
                let mut to = panel.to.add(panel.room(k, line).0);
                let rows = lines.block::<S, T>(k);
                for row in rows.into_iter().take(lanes) {
                    row.store(to);
                    to = to.wrapping_add(panel.pitch);
                }
                k += lanes;
            }
            while k < panel.depth {
                let deep = (panel.depth - k).min(lanes);
                block::<S, T, E>(
                    lines.first.wrapping_add(k),
                    panel.across,
                    (have, deep),
                    |j, row| {
                        put::<S, T>(row, panel.to, panel.room(k + j, line));
                    },
                );
                k += lanes;
            }
        }
    }
}

/// Where the lines of a block begin. The last line stands in for missing ones, without a branch.
struct Lines<E> {
    first: *const E,
    all: [*const E; MAX_LANES],
}

impl<E> Lines<E> {
    #[inline(always)]
    fn new(first: *const E, across: isize, lines: usize) -> Self {
        let line = |i: usize| first.wrapping_offset(i.min(lines - 1) as isize * across);
        Self {
            first,
            all: std::array::from_fn(line),
        }
    }

    /// A register of each line from `k` on, transposed.
    #[inline(always)]
    unsafe fn block<S: Simd, T: Number>(&self, k: usize) -> [T::In<S>; MAX_LANES]
    where
        E: Source<T>,
    {
        // SAFETY: the caller promises a register's worth of readable elements.
        unsafe {
            let mut rows = [T::In::<S>::splat(T::default()); MAX_LANES];
            for (row, line) in rows.iter_mut().zip(self.all).take(T::In::<S>::LANES) {
                *row = E::load::<S>(line.add(k));
            }
            transpose(&mut rows);
            rows
        }
    }
}

/// Loads `lines` lines of `depth` elements, at most a register each, transposes them, and hands
/// over row `j` for each `j < depth`: element `j` of every line. The last line stands in for
/// missing ones, without a branch.
///
/// All loops run over the lanes of a register, so that they unroll and the block stays in
/// registers.
#[inline(always)]
pub(crate) unsafe fn block<S: Simd, T: Number, E: Source<T>>(
    from: *const E,
    across: isize,
    (lines, depth): (usize, usize),
    mut each: impl FnMut(usize, T::In<S>),
) {
    let lanes = T::In::<S>::LANES;
    // SAFETY: the caller promises `lines x depth` readable elements.
    unsafe {
        let mut rows = [T::In::<S>::splat(T::default()); MAX_LANES];
        let line = |i: usize| from.wrapping_offset(i.min(lines - 1) as isize * across);
        if depth == lanes {
            for (i, row) in rows.iter_mut().enumerate().take(lanes) {
                *row = E::load::<S>(line(i));
            }
        } else {
            for (i, row) in rows.iter_mut().enumerate().take(lanes) {
                *row = E::load_first::<S>(line(i), depth);
            }
        }
        transpose(&mut rows);
        for (j, row) in rows.into_iter().enumerate().take(lanes) {
            if depth == lanes || j < depth {
                each(j, row);
            }
        }
    }
}

/// Transposes the first rows, as many as a register has lanes.
#[inline(always)]
unsafe fn transpose<V: Vector>(rows: &mut [V; MAX_LANES]) {
    // SAFETY: the caller has the level.
    unsafe {
        exchange::<V, 8>(rows);
        exchange::<V, 4>(rows);
        exchange::<V, 2>(rows);
        exchange::<V, 1>(rows);
    }
}

/// One stage of a transposition: swaps the off-diagonal halves of all `2 x DISTANCE` blocks.
#[inline(always)]
unsafe fn exchange<V: Vector, const DISTANCE: usize>(rows: &mut [V; MAX_LANES]) {
    if DISTANCE >= V::LANES {
        return;
    }
    // SAFETY: the pattern has a byte for each lane.
    let low = unsafe { V::load_mask(const { low_halves(DISTANCE) }.as_ptr()) };
    for i in 0..V::LANES {
        if i & DISTANCE == 0 {
            let (a, b) = (rows[i], rows[i + DISTANCE]);
            rows[i] = V::select(low, a, b.swap(DISTANCE));
            rows[i + DISTANCE] = V::select(low, a.swap(DISTANCE), b);
        }
    }
}

/// True in the lower half of every `2 x distance` lanes.
const fn low_halves(distance: usize) -> [u8; MAX_LANES] {
    let mut pattern = [0; MAX_LANES];
    let mut lane = 0;
    while lane < MAX_LANES {
        pattern[lane] = (lane & distance == 0) as u8;
        lane += 1;
    }
    pattern
}

/// Stores as many lanes as there is room for.
#[inline(always)]
unsafe fn put<S: Simd, T: Number>(row: T::In<S>, panel: *mut T, (at, room): (usize, usize)) {
    // SAFETY: the caller promises `room` writable elements there.
    unsafe {
        if room >= T::In::<S>::LANES {
            row.store(panel.add(at));
        } else {
            row.store_first(panel.add(at), room);
        }
    }
}

/// Strides on both axes: element by element.
#[inline(always)]
unsafe fn collect<T: Number, E: Source<T>>(panel: &Panel<E, T>) {
    for k in 0..panel.depth {
        for line in 0..panel.lines {
            // Rare, and none the faster unrolled.
            black_box(());
            let step = line as isize * panel.across + k as isize * panel.along;
            // SAFETY: existing lines are read, the panel is written.
            unsafe {
                let x = panel.from.offset(step).read().widen();
                panel.to.add(k * panel.pitch + line).write(x);
            }
        }
    }
}
