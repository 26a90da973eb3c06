//! Runs of neighbours that are multiplied and summed.

use crate::conv::patches::neighbours;
use crate::gemm::{Number, Source};
use crate::memory::LINE;
use crate::simd::{Float, Simd, Vector, by_level};

/// Registers of sums that are kept at a time.
const ABREAST: usize = 4;
/// Taps whose cotangents are summed at a time.
const TAPS: usize = 5;

/// Sums in which the cotangent of a tap is formed.
pub(super) const fn lanes<T>() -> usize {
    LINE / size_of::<T>()
}

/// Runs of elements that meet.
#[derive(Debug)]
pub(super) struct Sums<'a, T> {
    /// The padded plane, and where each tap begins.
    pub(super) seen: *const T,
    pub(super) taps: &'a [(usize, isize)],
    pub(super) count: usize,
    /// Cotangents, or the filter's elements for each tap.
    pub(super) by: *const T,
    /// Sums of the places, or [`lanes`] for each tap.
    pub(super) sums: *mut T,
}

by_level! {
    /// The sum of [`lanes`] elements: halves are added on to each other.
    pub(super) fn totaller[T: Number][T](from: *const T) -> T = total_at;
}
by_level! {
    /// Copies neighbours.
    pub(super) fn copier[T: Number, E: Source<T>][T, E](to: *mut T, from: *const E, count: usize) = copy_at;
}
by_level! {
    /// Adds to sums what their taps see.
    pub(super) fn adder[T: Number][T](sums: &Sums<'_, T>) = add_at;
}
by_level! {
    /// Adds to the sums of taps what they see of each cotangent.
    pub(super) fn dotter[T: Number][T](sums: &Sums<'_, T>) = dot_at;
}

#[inline(always)]
unsafe fn total_at<S: Simd, T: Number>(from: *const T) -> T {
    let step = T::In::<S>::LANES;
    let count = lanes::<T>() / step;
    // SAFETY: the caller promises so many elements, of which no register has more.
    unsafe {
        let mut sums = [T::In::<S>::splat(T::default()); 16];
        for (i, sum) in sums.iter_mut().enumerate().take(count) {
            *sum = T::In::<S>::load(from.add(i * step));
        }
        let mut half = count / 2;
        while half > 0 {
            for i in 0..half {
                sums[i] = sums[i].add(sums[i + half]);
            }
            half /= 2;
        }
        sums[0].sum()
    }
}

#[inline(always)]
unsafe fn copy_at<S: Simd, T: Number, E: Source<T>>(to: *mut T, from: *const E, count: usize) {
    // SAFETY: the same contract.
    unsafe { neighbours::<S, T, E>(to, from, count) };
}

#[inline(always)]
unsafe fn add_at<S: Simd, T: Number>(run: &Sums<'_, T>) {
    let lanes = T::In::<S>::LANES;
    for first in (0..run.count).step_by(ABREAST * lanes) {
        let to = run.sums.wrapping_add(first);
        let from = run.seen.wrapping_add(first);
        // SAFETY: the caller promises elements for all taps, and some beyond the last ones.
        unsafe {
            let mut sums = [T::In::<S>::splat(T::default()); ABREAST];
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = T::In::<S>::load(to.add(i * lanes));
            }
            for (tap, &(at, _)) in run.taps.iter().enumerate() {
                let factor = T::In::<S>::splat(run.by.add(tap).read());
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = T::In::<S>::load(from.add(at + i * lanes)).mul_add(factor, *sum);
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                sum.store(to.add(i * lanes));
            }
        }
    }
}

#[inline(always)]
unsafe fn dot_at<S: Simd, T: Number>(run: &Sums<'_, T>) {
    for first in (0..run.taps.len()).step_by(TAPS) {
        // The last tap stands in for missing ones.
        let last = run.taps.len() - 1;
        let taps: [usize; TAPS] = std::array::from_fn(|i| (first + i).min(last));
        // SAFETY: the caller promises sums for all taps, cotangents that are zero beyond the last
        // ones, and elements for them.
        unsafe {
            match lanes::<T>() / T::In::<S>::LANES {
                1 => dots::<S, T, 1>(run, taps),
                2 => dots::<S, T, 2>(run, taps),
                4 => dots::<S, T, 4>(run, taps),
                8 => dots::<S, T, 8>(run, taps),
                _ => dots::<S, T, 16>(run, taps),
            }
        }
    }
}

/// Some taps, whose sums are so many registers each.
#[inline(always)]
unsafe fn dots<S: Simd, T: Number, const REGISTERS: usize>(run: &Sums<'_, T>, taps: [usize; TAPS]) {
    let (lanes, step) = (T::In::<S>::LANES, lanes::<T>());
    if REGISTERS * lanes != step {
        return;
    }
    // SAFETY: handed on.
    unsafe {
        let zero = T::In::<S>::splat(T::default());
        let mut sums = [[zero; REGISTERS]; TAPS];
        for (tap, sums) in taps.into_iter().zip(&mut sums) {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = T::In::<S>::load(run.sums.add(tap * step + i * lanes));
            }
        }
        let seen = taps.map(|tap| run.seen.wrapping_add(run.taps[tap].0));
        for first in (0..run.count).step_by(step) {
            for i in 0..REGISTERS {
                let at = first + i * lanes;
                let by = T::In::<S>::load(run.by.add(at));
                for (sums, seen) in sums.iter_mut().zip(seen) {
                    sums[i] = T::In::<S>::load(seen.add(at)).mul_add(by, sums[i]);
                }
            }
        }
        for (tap, sums) in taps.into_iter().zip(sums) {
            for (i, sum) in sums.into_iter().enumerate() {
                sum.store(run.sums.add(tap * step + i * lanes));
            }
        }
    }
}
