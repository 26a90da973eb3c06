//! Matrix times vector: bound by reading the matrix once, so nothing is packed.
//!
//! `y[j] = sum over k of x[k] * b[k, j]`, in the same order of sums as the tiles. Where the columns
//! are neighbours, several rows are read side by side, which keeps several hardware streams going
//! and touches `y` once for all of them; where K is contiguous, blocks are transposed in registers
//! on their way in.

use super::Number;
use super::kernel::Onto;
use super::pack::block;
use super::source::Source;
use crate::memory::LINE;
use crate::simd::{Float, Simd, Vector, by_level, fetch_first, keep_single};

/// Rows read side by side.
const STREAMS: usize = 8;

/// One block of K for some columns. Strides count elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<E, T> {
    /// `depth` elements, contiguous.
    pub(super) x: *const T,
    pub(super) depth: usize,
    pub(super) b: *const E,
    /// From a row of B to the next.
    pub(super) along: isize,
    /// From a column of B to the next.
    pub(super) across: isize,
    /// `columns` sums, contiguous.
    pub(super) y: *mut T,
    pub(super) columns: usize,
    pub(super) onto: Onto,
    /// Room for `columns` elements, used where the sums are added to something.
    pub(super) spare: *mut T,
}

pub(super) type LineFn<E, T> = unsafe fn(&Line<E, T>);

by_level! {
    /// Columns that are neighbours (`across == 1`).
    pub(super) fn by_rows[T: Number, E: Source<T>][T, E](line: &Line<E, T>) = by_rows_at;
}
by_level! {
    /// Columns that are contiguous along K (`along == 1`).
    pub(super) fn by_columns[T: Number, E: Source<T>][T, E](line: &Line<E, T>) = by_columns_at;
}
by_level! {
    /// `to[i] += from[i]`.
    pub(super) fn adder[T: Number][T](to: *mut T, from: *const T, n: usize) = add_at;
}

#[inline(always)]
unsafe fn by_rows_at<S: Simd, T: Number, E: Source<T>>(line: &Line<E, T>) {
    let y = match line.onto {
        Onto::Nothing => line.y,
        Onto::Sum => line.spare,
    };
    // SAFETY: the caller promises `depth` elements of x and rows of B, and `columns` of y and of
    // the spare.
    unsafe {
        let rows = |k: usize| (line.x.add(k), line.b.offset(k as isize * line.along));
        let mut k = line.depth % STREAMS;
        if k == 0 {
            k = STREAMS.min(line.depth);
            streams::<S, T, E, STREAMS>(line, rows(0), y, Onto::Nothing);
        } else {
            streams::<S, T, E, 1>(line, rows(0), y, Onto::Nothing);
            for k in 1..k {
                streams::<S, T, E, 1>(line, rows(k), y, Onto::Sum);
            }
        }
        while k < line.depth {
            streams::<S, T, E, STREAMS>(line, rows(k), y, Onto::Sum);
            k += STREAMS;
        }
        if line.onto == Onto::Sum {
            add_at::<S, T>(line.y, y, line.columns);
        }
    }
}

/// Continues the chains in `y`, or starts them, with `ROWS` rows of B.
#[inline(always)]
unsafe fn streams<S: Simd, T: Number, E: Source<T>, const ROWS: usize>(
    line: &Line<E, T>,
    (x, b): (*const T, *const E),
    y: *mut T,
    onto: Onto,
) {
    let lanes = T::In::<S>::LANES;
    // SAFETY: as for `by_rows_at`; `x` and `b` have `ROWS` more steps along K.
    unsafe {
        let zero = T::In::<S>::splat(T::default());
        let mut factors = [zero; ROWS];
        for (i, factor) in factors.iter_mut().enumerate() {
            *factor = T::In::<S>::splat(*x.add(i));
        }
        let row = |i: usize, j: usize| b.wrapping_offset(i as isize * line.along).wrapping_add(j);
        let whole = line.columns / lanes * lanes;
        for j in (0..whole).step_by(lanes) {
            keep_single(lanes);
            let mut sum = match onto {
                Onto::Nothing => zero,
                Onto::Sum => T::In::<S>::load(y.add(j)),
            };
            for (i, factor) in factors.iter().enumerate() {
                sum = factor.mul_add(E::load::<S>(row(i, j)), sum);
            }
            sum.store(y.add(j));
        }
        let rest = line.columns - whole;
        if rest > 0 {
            let mut sum = match onto {
                Onto::Nothing => zero,
                Onto::Sum => T::In::<S>::load_first(y.add(whole), rest),
            };
            for (i, factor) in factors.iter().enumerate() {
                sum = factor.mul_add(E::load_first::<S>(row(i, whole), rest), sum);
            }
            sum.store_first(y.add(whole), rest);
        }
    }
}

#[inline(always)]
unsafe fn by_columns_at<S: Simd, T: Number, E: Source<T>>(line: &Line<E, T>) {
    let lanes = T::In::<S>::LANES;
    for j in (0..line.columns).step_by(lanes) {
        let have = (line.columns - j).min(lanes);
        // SAFETY: the caller promises `columns x depth` elements of B, `depth` of x and `columns`
        // of y.
        unsafe {
            let b = line.b.offset(j as isize * line.across);
            let mut sum = T::In::<S>::splat(T::default());
            for k in (0..line.depth).step_by(lanes) {
                // Rows are short streams, which hardware finds too late: the same piece of the next
                // ones is asked for.
                if k * size_of::<E>() % LINE < lanes * size_of::<E>() {
                    for i in 0..lanes {
                        let next = (lanes + i) as isize * line.across;
                        fetch_first(b.wrapping_offset(next).wrapping_add(k));
                    }
                }
                let deep = (line.depth - k).min(lanes);
                let x = line.x.add(k);
                block::<S, T, E>(b.add(k), line.across, (have, deep), |i, row| {
                    sum = T::In::<S>::splat(*x.add(i)).mul_add(row, sum);
                });
            }
            let y = line.y.add(j);
            match line.onto {
                Onto::Nothing => put::<S, T>(sum, y, have),
                Onto::Sum => put::<S, T>(get::<S, T>(y, have).add(sum), y, have),
            }
        }
    }
}

#[inline(always)]
unsafe fn add_at<S: Simd, T: Number>(to: *mut T, from: *const T, n: usize) {
    let lanes = T::In::<S>::LANES;
    for i in (0..n).step_by(lanes) {
        let have = (n - i).min(lanes);
        // SAFETY: the caller promises `n` elements on both sides.
        unsafe {
            let sum = get::<S, T>(to.add(i), have).add(get::<S, T>(from.add(i), have));
            put::<S, T>(sum, to.add(i), have);
        }
    }
}

#[inline(always)]
unsafe fn get<S: Simd, T: Number>(from: *const T, n: usize) -> T::In<S> {
    // SAFETY: the caller promises `n` elements.
    unsafe {
        if n == T::In::<S>::LANES {
            T::In::<S>::load(from)
        } else {
            T::In::<S>::load_first(from, n)
        }
    }
}

#[inline(always)]
unsafe fn put<S: Simd, T: Number>(x: T::In<S>, to: *mut T, n: usize) {
    // SAFETY: the caller promises room for `n` elements.
    unsafe {
        if n == T::In::<S>::LANES {
            x.store(to);
        } else {
            x.store_first(to, n);
        }
    }
}
