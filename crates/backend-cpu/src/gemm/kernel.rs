//! The inner kernel: a tile of C held in registers while a block of K goes by.
//!
//! The tile is `ROWS` rows by `SPAN` registers. Its height is the largest for which accumulators,
//! one row of B and a broadcast fit the register file; every smaller height exists too, so that
//! panels can be cut evenly (11 + 11 + 10 rows instead of 14 + 14 + 4).
//!
//! Each element of C is one chain of fused multiply-adds in ascending k, started at zero for each
//! block of K and added to what the earlier blocks gave. No tile height, packing or instruction set
//! changes that.

use std::sync::atomic::{Ordering, compiler_fence};

use super::Number;
use crate::Level;
use crate::simd::{Float, Scalar, Simd, Vector, by_level, fetch_first};

/// Registers of a row of the wide tile. The narrow one, for the last few columns, has a single one.
pub(super) const SPAN: usize = 2;
/// The tallest tile of any level.
pub(super) const MAX_ROWS: usize = 14;

/// Steps along K between two decisions of the loop.
const UNROLL: usize = 4;

/// The rows of a tile up to which it pays to know that they are contiguous. Of more, the compiler
/// loads what later steps need, and spills sums for it.
const DENSE_ROWS: usize = 8;

/// An instruction set with the size of its register file.
pub(super) trait Registers: Simd {
    /// Rows of the tallest tile.
    const ROWS: usize;
}

impl Registers for Scalar {
    const ROWS: usize = 4;
}
#[cfg(target_arch = "x86_64")]
impl Registers for crate::simd::Avx2 {
    const ROWS: usize = 6;
}
#[cfg(target_arch = "x86_64")]
impl Registers for crate::simd::Avx512 {
    const ROWS: usize = 14;
}
#[cfg(target_arch = "aarch64")]
impl Registers for crate::simd::Neon {
    const ROWS: usize = 12;
}

/// What becomes of the old content of C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onto {
    /// It is overwritten: this is the first block of K.
    Nothing,
    /// The tile is added to it.
    Sum,
}

/// One call of the kernel. Strides count elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile<T> {
    /// Steps along K.
    pub(super) depth: usize,
    pub(super) a: *const T,
    /// From a row of A to the next; 1 in a packed panel.
    pub(super) a_row: isize,
    /// From a column of A to the next; the height in a packed panel.
    pub(super) a_step: isize,
    pub(super) b: *const T,
    /// From a row of B to the next. A row has all lanes of the tile.
    pub(super) b_step: isize,
    pub(super) c: *mut T,
    /// From a row of C to the next.
    pub(super) c_row: usize,
    /// Columns of C, at most the tile's.
    pub(super) columns: usize,
    pub(super) onto: Onto,
}

/// An instance of the kernel.
pub(super) type TileFn<T> = unsafe fn(&Tile<T>);

/// The kernel at every height from 1 to [`MAX_ROWS`] (first index: height - 1).
#[derive(Debug)]
pub(super) struct Tiles<T> {
    pub(super) wide: [TileFn<T>; MAX_ROWS],
    pub(super) narrow: [TileFn<T>; MAX_ROWS],
}

const _: () = assert!(MAX_ROWS == 14, "`each_row` counts to the last row");

/// Does something for each row, by a constant number: the compiler leaves loops over many rows as
/// they are, and sums in memory with them.
macro_rules! each_row {
    ($i:ident < $rows:expr => $body:expr) => {
        each_row!($i < $rows => $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    ($i:ident < $rows:expr => $body:expr, $($number:literal)*) => {{
        $(if $number < $rows {
            let $i: usize = $number;
            $body
        })*
    }};
}

/// How the rows of A are found.
trait Left<T>: Copy {
    unsafe fn new(tile: &Tile<T>) -> Self;
    /// The element in row `i`, `k` columns behind the current one.
    unsafe fn at(&self, i: usize, k: usize) -> T;
    /// Moves on by so many columns.
    unsafe fn next(&mut self, columns: usize);
}

/// Columns of `ROWS` neighbours, one after the other.
#[derive(Clone, Copy)]
struct Packed<T, const ROWS: usize>(*const T);

impl<T: Copy, const ROWS: usize> Left<T> for Packed<T, ROWS> {
    #[inline(always)]
    unsafe fn new(tile: &Tile<T>) -> Self {
        Self(tile.a)
    }
    #[inline(always)]
    unsafe fn at(&self, i: usize, k: usize) -> T {
        // SAFETY: row `i < ROWS` of a column inside of the panel.
        unsafe { *self.0.add(k * ROWS + i) }
    }
    #[inline(always)]
    unsafe fn next(&mut self, columns: usize) {
        self.0 = self.0.wrapping_add(columns * ROWS);
    }
}

/// Any strides, or with `DENSE` rows that are contiguous. A pointer for every third row: those between
/// are reached by address arithmetic for free, and a pointer for each would not fit the general
/// registers.
#[derive(Clone, Copy)]
struct Strided<T, const DENSE: bool> {
    rows: [*const T; MAX_ROWS.div_ceil(3)],
    row: isize,
    step: isize,
}

impl<T: Copy, const DENSE: bool> Left<T> for Strided<T, DENSE> {
    #[inline(always)]
    unsafe fn new(tile: &Tile<T>) -> Self {
        let mut rows = [tile.a; MAX_ROWS.div_ceil(3)];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = tile.a.wrapping_offset(3 * i as isize * tile.a_row);
        }
        Self {
            rows,
            row: tile.a_row,
            step: if DENSE { 1 } else { tile.a_step },
        }
    }
    #[inline(always)]
    unsafe fn at(&self, i: usize, k: usize) -> T {
        // SAFETY: row `i` of the tile, in a column inside of A.
        unsafe { *self.rows[i / 3].offset((i % 3) as isize * self.row + k as isize * self.step) }
    }
    #[inline(always)]
    unsafe fn next(&mut self, columns: usize) {
        for row in &mut self.rows {
            *row = row.wrapping_offset(columns as isize * self.step);
        }
    }
}

/// # Safety
/// `tile` must point to `ROWS x depth` elements of A, `depth` rows of `SPAN` registers of B and
/// `ROWS x columns` elements of C, which nothing else touches meanwhile.
#[inline(always)]
unsafe fn multiply<S, T, A, const ROWS: usize, const SPAN: usize>(tile: &Tile<T>)
where
    S: Registers,
    T: Number,
    A: Left<T>,
{
    // Heights that a level does not use compile to nothing.
    if ROWS > S::ROWS {
        return;
    }
    let lanes = T::In::<S>::LANES;
    // SAFETY: as the caller promises; the level is available to whoever has this instance.
    unsafe {
        let mut sums = [[T::In::<S>::splat(T::default()); SPAN]; ROWS];
        let mut c = tile.c.cast_const();
        for _ in 0..ROWS {
            fetch_first(c);
            fetch_first(c.wrapping_add(lanes));
            fetch_first(c.wrapping_add(SPAN * lanes - 1));
            c = c.wrapping_add(tile.c_row);
        }
        let mut a = A::new(tile);
        let mut b = tile.b;
        // The loop's own instructions count where two threads share a core's front end.
        for _ in 0..tile.depth / UNROLL {
            for k in 0..UNROLL {
                step::<S, T, A, ROWS, SPAN>(&mut sums, (&a, k), b);
                b = b.wrapping_offset(tile.b_step);
                // Loads of a later step that come early push sums out of their registers.
                compiler_fence(Ordering::SeqCst);
            }
            a.next(UNROLL);
        }
        for _ in 0..tile.depth % UNROLL {
            step::<S, T, A, ROWS, SPAN>(&mut sums, (&a, 0), b);
            b = b.wrapping_offset(tile.b_step);
            a.next(1);
        }
        put::<S, T, ROWS, SPAN>(tile, 0, &sums);
        if SPAN > 1 {
            put::<S, T, ROWS, SPAN>(tile, SPAN - 1, &sums);
        }
    }
}

/// One step along K, `k` columns behind where `a` is.
///
/// # Safety
/// That column must lie inside of A, `b` be at the row of B.
#[inline(always)]
unsafe fn step<S: Simd, T: Number, A: Left<T>, const ROWS: usize, const SPAN: usize>(
    sums: &mut [[T::In<S>; SPAN]; ROWS],
    (a, k): (&A, usize),
    b: *const T,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut row = [T::In::<S>::splat(T::default()); SPAN];
        for (s, part) in row.iter_mut().enumerate() {
            *part = T::In::<S>::load(b.add(s * T::In::<S>::LANES));
        }
        each_row!(i < ROWS => {
            let x = T::In::<S>::splat(a.at(i, k));
            for s in 0..SPAN {
                sums[i][s] = x.mul_add(row[s], sums[i][s]);
            }
        });
    }
}

/// Stores register `s` of every row.
#[inline(always)]
unsafe fn put<S: Simd, T: Number, const ROWS: usize, const SPAN: usize>(
    tile: &Tile<T>,
    s: usize,
    sums: &[[T::In<S>; SPAN]; ROWS],
) {
    let first = s * T::In::<S>::LANES;
    let columns = tile.columns.saturating_sub(first);
    let c = tile.c.wrapping_add(first);
    let row = |i: usize| c.wrapping_add(i * tile.c_row);
    // SAFETY: row by row, only the columns that C has are touched.
    unsafe {
        match (columns >= T::In::<S>::LANES, tile.onto) {
            (true, Onto::Nothing) => each_row!(i < ROWS => sums[i][s].store(row(i))),
            (true, Onto::Sum) => each_row!(i < ROWS => {
                T::In::<S>::load(row(i)).add(sums[i][s]).store(row(i));
            }),
            (false, Onto::Nothing) => each_row!(i < ROWS => {
                sums[i][s].store_first(row(i), columns);
            }),
            (false, Onto::Sum) => each_row!(i < ROWS => {
                let old = T::In::<S>::load_first(row(i), columns);
                old.add(sums[i][s]).store_first(row(i), columns);
            }),
        }
    }
}

#[inline(always)]
unsafe fn packed_at<S: Registers, T: Number, const ROWS: usize, const SPAN: usize>(tile: &Tile<T>) {
    // SAFETY: the same contract.
    unsafe { multiply::<S, T, Packed<T, ROWS>, ROWS, SPAN>(tile) }
}

#[inline(always)]
unsafe fn strided_at<S: Registers, T: Number, const ROWS: usize, const SPAN: usize>(
    tile: &Tile<T>,
) {
    // SAFETY: the same contract.
    unsafe {
        if ROWS <= DENSE_ROWS && tile.a_step == 1 {
            multiply::<S, T, Strided<T, true>, ROWS, SPAN>(tile);
        } else {
            multiply::<S, T, Strided<T, false>, ROWS, SPAN>(tile);
        }
    }
}

by_level! {
    fn packed_tile[T: Number, const ROWS: usize, const SPAN: usize][T, ROWS, SPAN](tile: &Tile<T>) = packed_at;
}
by_level! {
    fn strided_tile[T: Number, const ROWS: usize, const SPAN: usize][T, ROWS, SPAN](tile: &Tile<T>) = strided_at;
}

macro_rules! every_height {
    ($tile:ident, $level:expr, $span:expr) => {
        [
            $tile::<T, 1, { $span }>($level),
            $tile::<T, 2, { $span }>($level),
            $tile::<T, 3, { $span }>($level),
            $tile::<T, 4, { $span }>($level),
            $tile::<T, 5, { $span }>($level),
            $tile::<T, 6, { $span }>($level),
            $tile::<T, 7, { $span }>($level),
            $tile::<T, 8, { $span }>($level),
            $tile::<T, 9, { $span }>($level),
            $tile::<T, 10, { $span }>($level),
            $tile::<T, 11, { $span }>($level),
            $tile::<T, 12, { $span }>($level),
            $tile::<T, 13, { $span }>($level),
            $tile::<T, 14, { $span }>($level),
        ]
    };
}

impl<T: Number> Tiles<T> {
    /// Kernels that read A from packed panels.
    pub(super) fn packed(level: Level) -> Self {
        Self {
            wide: every_height!(packed_tile, level, SPAN),
            narrow: every_height!(packed_tile, level, 1),
        }
    }

    /// Kernels that read A where it lies.
    pub(super) fn strided(level: Level) -> Self {
        Self {
            wide: every_height!(strided_tile, level, SPAN),
            narrow: every_height!(strided_tile, level, 1),
        }
    }
}

/// Rows of the tallest tile, and elements in a register.
pub(super) fn tile_size<T: Number>(level: Level) -> (usize, usize) {
    fn of<S: Registers, T: Number>() -> (usize, usize) {
        (S::ROWS, T::In::<S>::LANES)
    }
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => of::<crate::simd::Avx512, T>(),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => of::<crate::simd::Avx2, T>(),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => of::<crate::simd::Neon, T>(),
        _ => of::<Scalar, T>(),
    }
}
