//! What is done to rows of scores, in registers.
//!
//! Rows are as long as a multiple of a register; scores beyond the keys there are, are minus
//! infinity. Sums of a row go register by register, then lane by lane, so their order follows from
//! the number of keys and the level.

use backprop_core::DType;

use crate::gemm::Number;
use crate::math;
use crate::simd::{Float, MAX_LANES, Simd, Vector, by_level};

/// A type with exponentials and logarithms.
pub(super) trait Transcendental: Number {
    const DTYPE: DType;
    const ZERO: Self;
    const ONE: Self;
    /// Minus infinity.
    const LOWEST: Self;
    /// Infinity.
    const HIGHEST: Self;

    fn from_f64(x: f64) -> Self;
    fn exp<S: Simd>(x: Self::In<S>) -> Self::In<S>;
    fn log<S: Simd>(x: Self::In<S>) -> Self::In<S>;
}

impl Transcendental for f32 {
    const DTYPE: DType = DType::F32;
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const LOWEST: f32 = f32::NEG_INFINITY;
    const HIGHEST: f32 = f32::INFINITY;

    fn from_f64(x: f64) -> f32 {
        x as f32
    }

    #[inline(always)]
    fn exp<S: Simd>(x: S::F32) -> S::F32 {
        math::exp(x)
    }

    #[inline(always)]
    fn log<S: Simd>(x: S::F32) -> S::F32 {
        math::log(x)
    }
}

impl Transcendental for f64 {
    const DTYPE: DType = DType::F64;
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const LOWEST: f64 = f64::NEG_INFINITY;
    const HIGHEST: f64 = f64::INFINITY;

    fn from_f64(x: f64) -> f64 {
        x
    }

    #[inline(always)]
    fn exp<S: Simd>(x: S::F64) -> S::F64 {
        by_lane(x, libm::exp)
    }

    #[inline(always)]
    fn log<S: Simd>(x: S::F64) -> S::F64 {
        by_lane(x, libm::log)
    }
}

#[inline(always)]
fn by_lane<V: Vector<Element = f64>>(x: V, function: fn(f64) -> f64) -> V {
    let mut lanes = [0.0; 8];
    // SAFETY: no register has more than 8 lanes of f64, and `x` exists, so its instructions do.
    unsafe {
        x.store(lanes.as_mut_ptr());
        for lane in &mut lanes[..V::LANES] {
            *lane = function(*lane);
        }
        V::load(lanes.as_ptr())
    }
}

/// Replaces each of `n` elements.
#[inline(always)]
unsafe fn map<S: Simd, T: Number>(x: *mut T, n: usize, function: impl Fn(T::In<S>) -> T::In<S>) {
    let lanes = T::In::<S>::LANES;
    let whole = n - n % lanes;
    // SAFETY: the caller promises `n` elements.
    unsafe {
        for i in (0..whole).step_by(lanes) {
            function(T::In::<S>::load(x.add(i))).store(x.add(i));
        }
        if whole < n {
            let rest = T::In::<S>::load_first(x.add(whole), n - whole);
            function(rest).store_first(x.add(whole), n - whole);
        }
    }
}

by_level! {
    /// Multiplies `n` elements by a factor.
    pub(super) fn scale[T: Transcendental][T](x: *mut T, n: usize, factor: T) = scale_at;
}

#[inline(always)]
unsafe fn scale_at<S: Simd, T: Transcendental>(x: *mut T, n: usize, factor: T) {
    // SAFETY: the caller promises the level and `n` elements.
    unsafe {
        let factor = T::In::<S>::splat(factor);
        map::<S, T>(x, n, |x| x.mul(factor));
    }
}

by_level! {
    /// Adds `y` to `x`, in whole registers up to the `n`-th element.
    pub(super) fn add[T: Transcendental][T](x: *mut T, y: *const T, n: usize) = add_at;
}

#[inline(always)]
unsafe fn add_at<S: Simd, T: Transcendental>(x: *mut T, y: *const T, n: usize) {
    for i in (0..n).step_by(T::In::<S>::LANES) {
        // SAFETY: the caller promises the level and rows of whole registers.
        unsafe {
            let sum = T::In::<S>::load(x.add(i)).add(T::In::<S>::load(y.add(i)));
            sum.store(x.add(i));
        }
    }
}

by_level! {
    /// Makes minus infinity of scores whose byte is zero, in whole registers up to the `n`-th.
    pub(super) fn hide[T: Transcendental][T](x: *mut T, seen: *const u8, n: usize) = hide_at;
}

#[inline(always)]
unsafe fn hide_at<S: Simd, T: Transcendental>(x: *mut T, seen: *const u8, n: usize) {
    for i in (0..n).step_by(T::In::<S>::LANES) {
        // SAFETY: the caller promises the level and rows of whole registers.
        unsafe {
            let score = T::In::<S>::load(x.add(i));
            let seen = T::In::<S>::load_mask(seen.add(i));
            T::In::<S>::select(seen, score, score.like(T::LOWEST)).store(x.add(i));
        }
    }
}

/// Rows of scores of a block of keys, and what is known of their queries from earlier blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<T> {
    pub(super) rows: usize,
    pub(super) scores: *mut T,
    /// From a row of scores to the next.
    pub(super) pitch: usize,
    /// Scores of a row; a multiple of a register.
    pub(super) columns: usize,
    /// The largest score of each row.
    pub(super) peaks: *mut T,
    /// The sum of `exp(score - peak)` of each row.
    pub(super) sums: *mut T,
    /// The sum of `exp(score - peak) * value` of each row, which is as long as `width`.
    pub(super) out: *mut T,
    pub(super) width: usize,
}

by_level! {
    /// Scores become `exp(score - peak)`, with peaks and sums of all keys up to now; earlier sums
    /// are scaled to that (Milakov and Gimelshein, 2018, arXiv:1805.02867).
    pub(super) fn soften[T: Transcendental][T](block: &Block<T>) = soften_at;
}

#[inline(always)]
unsafe fn soften_at<S: Simd, T: Transcendental>(block: &Block<T>) {
    let lanes = T::In::<S>::LANES;
    for first in (0..block.rows).step_by(lanes) {
        let rows = lanes.min(block.rows - first);
        // SAFETY: the caller promises the level and the rows, of which there are as many as lanes.
        unsafe {
            let row = |i: usize| block.scores.wrapping_add((first + i) * block.pitch);
            let mut tops = [T::LOWEST; MAX_LANES];
            for (i, top) in tops.iter_mut().enumerate().take(rows) {
                *top = largest::<S, T>(row(i), block.columns);
            }
            let (shifts, fadings) = fade::<S, T>(block, (first, rows), &tops);
            for i in 0..rows {
                let shift = T::In::<S>::splat(shifts[i]);
                let added = weights::<S, T>(row(i), block.columns, shift);
                let sum = block.sums.add(first + i);
                sum.write(shift.like(sum.read()).add(shift.like(added)).first());
                let fading = shift.like(fadings[i]);
                let out = block.out.add((first + i) * block.width);
                map::<S, T>(out, block.width, |x| x.mul(fading));
            }
        }
    }
}

/// Takes in the largest scores of at most a register of rows. Returns what is subtracted from the
/// rows' scores, and what earlier weights are multiplied by; the rows' sums are.
#[inline(always)]
unsafe fn fade<S: Simd, T: Transcendental>(
    block: &Block<T>,
    (first, rows): (usize, usize),
    tops: &[T; MAX_LANES],
) -> ([T; MAX_LANES], [T; MAX_LANES]) {
    let is_whole = rows == T::In::<S>::LANES;
    // SAFETY: the caller promises the level and the rows; no register has more lanes than the arrays.
    unsafe {
        let [peaks, sums] = [block.peaks, block.sums].map(|of| of.add(first));
        let [before, sum] = [peaks, sums].map(|of| match is_whole {
            true => T::In::<S>::load(of),
            false => T::In::<S>::load_first(of, rows),
        });
        let after = before.max(T::In::<S>::load(tops.as_ptr()));
        // As long as nothing is seen, exponentials are to be 0 and not NaN.
        let unseen = after.equal(after.like(T::LOWEST));
        let shift = T::In::<S>::select(unseen, after.like(T::ZERO), after);
        let fading = T::exp::<S>(before.sub(shift));
        for (to, x) in [(peaks, after), (sums, sum.mul(fading))] {
            match is_whole {
                true => x.store(to),
                false => x.store_first(to, rows),
            }
        }
        let mut arrays = ([T::ZERO; MAX_LANES], [T::ZERO; MAX_LANES]);
        shift.store(arrays.0.as_mut_ptr());
        fading.store(arrays.1.as_mut_ptr());
        arrays
    }
}

/// Scores become weights; returns their sum.
#[inline(always)]
unsafe fn weights<S: Simd, T: Transcendental>(
    scores: *mut T,
    columns: usize,
    shift: T::In<S>,
) -> T {
    let mut sum = shift.like(T::ZERO);
    for i in (0..columns).step_by(T::In::<S>::LANES) {
        // SAFETY: the caller promises the level and the row.
        unsafe {
            let score = T::In::<S>::load(scores.add(i));
            let weight = T::exp::<S>(score.sub(shift));
            sum = sum.add(weight);
            weight.store(scores.add(i));
        }
    }
    sum.sum()
}

/// The largest of `n` elements, a multiple of a register; NaN if any is.
#[inline(always)]
unsafe fn largest<S: Simd, T: Transcendental>(x: *const T, n: usize) -> T {
    const CHAINS: usize = 4;
    let lanes = T::In::<S>::LANES;
    // SAFETY: the caller promises the level and the elements.
    unsafe {
        let mut tops = [T::In::<S>::splat(T::LOWEST); CHAINS];
        let whole = n - n % (CHAINS * lanes);
        for i in (0..whole).step_by(CHAINS * lanes) {
            for (chain, top) in tops.iter_mut().enumerate() {
                *top = top.max(T::In::<S>::load(x.add(i + chain * lanes)));
            }
        }
        for i in (whole..n).step_by(lanes) {
            tops[0] = tops[0].max(T::In::<S>::load(x.add(i)));
        }
        let [a, b, c, d] = tops;
        a.max(b).max(c.max(d)).largest()
    }
}

by_level! {
    /// Divides results by the sums of their weights, and writes the logarithm of the sum of the
    /// exponentials of each row's scores: infinity where no score is above minus infinity, so that
    /// weights are 0 there.
    pub(super) fn finish[T: Transcendental][T](block: &Block<T>, lse: *mut T) = finish_at;
}

#[inline(always)]
unsafe fn finish_at<S: Simd, T: Transcendental>(block: &Block<T>, lse: *mut T) {
    for row in 0..block.rows {
        // SAFETY: the caller promises the level, the rows and as many places for logarithms.
        unsafe {
            let (peak, sum) = (block.peaks.add(row).read(), block.sums.add(row).read());
            let seen = peak != T::LOWEST;
            let sum = T::In::<S>::splat(if seen { sum } else { T::ONE });
            let out = block.out.add(row * block.width);
            map::<S, T>(out, block.width, |x| x.div(sum));
            let log = T::log::<S>(sum).add(sum.like(peak)).first();
            lse.add(row)
                .write_unaligned(if seen { log } else { T::HIGHEST });
        }
    }
}

/// Rows of scores and of the products of cotangents and values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<T> {
    pub(super) rows: usize,
    pub(super) scores: *mut T,
    pub(super) products: *mut T,
    /// From a row to the next.
    pub(super) pitch: usize,
    /// Elements of a row; a multiple of a register.
    pub(super) columns: usize,
    /// The log-sum-exp of each row.
    pub(super) lse: *const T,
    /// The product of result and cotangent of each row.
    pub(super) along: *const T,
}

by_level! {
    /// Scores become weights, and products the cotangents of scores.
    pub(super) fn weigh[T: Transcendental][T](pair: &Pair<T>) = weigh_at;
}

#[inline(always)]
unsafe fn weigh_at<S: Simd, T: Transcendental>(pair: &Pair<T>) {
    for row in 0..pair.rows {
        let start = row * pair.pitch;
        // SAFETY: the caller promises the level and the rows.
        unsafe {
            let lse = T::In::<S>::splat(pair.lse.add(row).read());
            let along = T::In::<S>::splat(pair.along.add(row).read());
            for i in (start..start + pair.columns).step_by(T::In::<S>::LANES) {
                let score = T::In::<S>::load(pair.scores.add(i));
                let product = T::In::<S>::load(pair.products.add(i));
                let weight = T::exp::<S>(score.sub(lse));
                weight.store(pair.scores.add(i));
                weight.mul(product.sub(along)).store(pair.products.add(i));
            }
        }
    }
}

by_level! {
    /// The product of two rows of `n` elements.
    pub(super) fn dot[T: Transcendental][T](x: *const T, y: *const T, n: usize) -> T = dot_at;
}

#[inline(always)]
unsafe fn dot_at<S: Simd, T: Transcendental>(x: *const T, y: *const T, n: usize) -> T {
    let lanes = T::In::<S>::LANES;
    let whole = n - n % lanes;
    // SAFETY: the caller promises the level and `n` elements.
    unsafe {
        let mut sum = T::In::<S>::splat(T::ZERO);
        for i in (0..whole).step_by(lanes) {
            let (x, y) = (T::In::<S>::load(x.add(i)), T::In::<S>::load(y.add(i)));
            sum = x.mul_add(y, sum);
        }
        if whole < n {
            let rest = |from: *const T| T::In::<S>::load_first(from.add(whole), n - whole);
            sum = rest(x).mul_add(rest(y), sum);
        }
        sum.sum()
    }
}
