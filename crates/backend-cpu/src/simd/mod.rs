//! Vector registers behind one trait, so that a kernel is written once.
//!
//! A kernel is a generic function over [`Simd`], marked `#[inline(always)]`.
//! [`by_level!`] wraps it once per instruction set in a function that enables
//! the instructions, and returns the wrapper for a [`Level`](crate::Level); a
//! kernel picks its wrapper when it is prepared, never when it is launched.
//!
//! Making a register out of nothing ([`Vector::splat`], [`Vector::load`]) is
//! unsafe: the instructions must exist. A register that exists is the proof of
//! that, so everything that starts from one is safe, [`Float::like`] (a
//! constant) among it. Hence the transcendental functions need no `unsafe`, and
//! nothing of a register but that it is a [`Float`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use scalar::Scalar;

/// One instruction set.
pub(crate) trait Simd: Copy + 'static {
    /// Its register of f32.
    type F32: Float32 + Vector<Element = f32>;
    /// Its register of f64.
    type F64: Vector<Element = f64>;
}

/// An element that fills registers: f32 or f64.
pub(crate) trait Real: Copy + PartialOrd + 'static {
    /// The register of this element at an instruction set.
    type In<S: Simd>: Vector<Element = Self>;
}

impl Real for f32 {
    type In<S: Simd> = S::F32;
}

impl Real for f64 {
    type In<S: Simd> = S::F64;
}

/// The outcome of a comparison, one truth value per lane.
pub(crate) trait Mask: Copy {
    /// Lanes true in both.
    fn and(self, other: Self) -> Self;
    /// Lanes true in either.
    fn or(self, other: Self) -> Self;
    /// Whether any lane is true.
    fn any(self) -> bool;
}

/// Numbers to compute with: a register full of them, or the record of a computation that is to be
/// done later.
///
/// Every method is exactly rounded where IEEE 754 defines the operation, and
/// means the same at every level, NaN included.
pub(crate) trait Float: Copy {
    /// What a lane holds.
    type Element: Copy;
    /// What a comparison gives.
    type Mask: Mask;

    /// All lanes `x`, vouched for by a register that exists.
    fn like(self, x: Self::Element) -> Self;

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn sqrt(self) -> Self;
    /// `self * factor + addend`, rounded once.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    /// The magnitude of `self` with the sign of `sign`.
    fn copysign(self, sign: Self) -> Self;
    fn floor(self) -> Self;
    fn ceil(self) -> Self;
    /// To the nearest integer, ties to even.
    fn round(self) -> Self;
    fn trunc(self) -> Self;

    /// The larger lane; NaN if either is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller lane; NaN if either is NaN.
    fn min(self, other: Self) -> Self;
    /// `self`, or `limit` where that is larger. `limit` is not NaN; a NaN of
    /// `self` stays.
    fn at_least(self, limit: Self) -> Self;
    /// `self`, or `limit` where that is smaller. `limit` is not NaN; a NaN of
    /// `self` stays.
    fn at_most(self, limit: Self) -> Self;

    /// False where either is NaN, like all comparisons but [`ne`](Self::ne).
    fn lt(self, other: Self) -> Self::Mask;
    fn le(self, other: Self) -> Self::Mask;
    fn equal(self, other: Self) -> Self::Mask;
    /// True where either is NaN.
    fn ne(self, other: Self) -> Self::Mask;
    /// `yes` where `mask` is true, else `no`.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
}

/// The most lanes of any register.
pub(crate) const MAX_LANES: usize = 16;

/// A register of `LANES` elements.
pub(crate) trait Vector: Float {
    /// Lanes in a register, a power of two.
    const LANES: usize;

    /// All lanes `x`.
    ///
    /// # Safety
    /// The instructions of the level must be available.
    unsafe fn splat(x: Self::Element) -> Self;

    /// `LANES` elements from `from`, which needs no alignment.
    ///
    /// # Safety
    /// The instructions must be available, and the elements readable.
    unsafe fn load(from: *const Self::Element) -> Self;

    /// The first `n < LANES` elements from `from`; the other lanes are zero.
    ///
    /// # Safety
    /// The instructions must be available, and `n` elements readable.
    unsafe fn load_first(from: *const Self::Element, n: usize) -> Self;

    /// `LANES` elements, every other one from `from`.
    ///
    /// # Safety
    /// The instructions must be available, and `2 LANES - 1` elements readable.
    #[inline(always)]
    unsafe fn load_every_other(from: *const Self::Element) -> Self {
        // SAFETY: the same contract; no register has more than 16 lanes.
        unsafe {
            let mut lanes = [from.read(); MAX_LANES];
            for (i, lane) in lanes.iter_mut().enumerate().take(Self::LANES) {
                *lane = from.add(2 * i).read();
            }
            Self::load(lanes.as_ptr())
        }
    }

    /// The lanes of both by turns, beginning with lane 0 of `self`: two registers full.
    #[inline(always)]
    fn interleave(self, other: Self) -> (Self, Self) {
        let mut lanes = [self.first(); 2 * MAX_LANES];
        // SAFETY: `self` exists, so its instructions do; no register has more than 16 lanes.
        unsafe {
            let (mut even, mut odd) = ([self.first(); MAX_LANES], [self.first(); MAX_LANES]);
            self.store(even.as_mut_ptr());
            other.store(odd.as_mut_ptr());
            for (i, pair) in lanes.chunks_exact_mut(2).enumerate() {
                (pair[0], pair[1]) = (even[i], odd[i]);
            }
            (
                Self::load(lanes.as_ptr()),
                Self::load(lanes.as_ptr().add(Self::LANES)),
            )
        }
    }

    /// Lanes true where the byte is not zero.
    ///
    /// # Safety
    /// The instructions must be available, and `LANES` bytes readable.
    unsafe fn load_mask(from: *const u8) -> Self::Mask;

    /// Writes all lanes to `to`, which needs no alignment.
    ///
    /// # Safety
    /// `LANES` elements must be writable.
    unsafe fn store(self, to: *mut Self::Element);

    /// Writes the first `n < LANES` lanes to `to`.
    ///
    /// # Safety
    /// `n` elements must be writable.
    unsafe fn store_first(self, to: *mut Self::Element, n: usize);

    /// Writes one byte per lane, 1 where true and 0 where false.
    ///
    /// # Safety
    /// `mask` must come from this level, and `LANES` bytes must be writable.
    unsafe fn store_mask(mask: Self::Mask, to: *mut u8);

    /// Lane `i` of the result is lane `i ^ distance`; `distance` is a power of
    /// two below `LANES`, known when the kernel is compiled.
    fn swap(self, distance: usize) -> Self;

    /// The element in lane 0.
    fn first(self) -> Self::Element;

    /// The sum of all lanes: halves are added on to each other until one lane
    /// is left, so lane `i` meets lane `i + LANES/2` first.
    #[inline(always)]
    fn sum(self) -> Self::Element {
        let (mut total, mut distance) = (self, Self::LANES / 2);
        while distance > 0 {
            total = total.add(total.swap(distance));
            distance /= 2;
        }
        total.first()
    }

    /// The largest lane, in the order of [`sum`](Self::sum); NaN if any is.
    #[inline(always)]
    fn largest(self) -> Self::Element {
        let (mut top, mut distance) = (self, Self::LANES / 2);
        while distance > 0 {
            top = top.max(top.swap(distance));
            distance /= 2;
        }
        top.first()
    }

    /// The smallest lane, in the order of [`sum`](Self::sum); NaN if any is.
    #[inline(always)]
    fn smallest(self) -> Self::Element {
        let (mut low, mut distance) = (self, Self::LANES / 2);
        while distance > 0 {
            low = low.min(low.swap(distance));
            distance /= 2;
        }
        low.first()
    }
}

/// What exp and log need besides: powers of two in f32.
pub(crate) trait Float32: Float<Element = f32> {
    /// `function` of every lane, computed in f64 and rounded once.
    fn by_lane(self, function: fn(f64) -> f64) -> Self;
    /// `self * 2^n`, rounded once, for |self| in [0.5, 2] and integral `n`.
    fn scale(self, n: Self) -> Self;
    /// `2^self` for an integral `self` in [-126, 127].
    fn power_of_two(self) -> Self;
    /// `(m, e)` with `self = m * 2^e` and `m` in [1, 2), for a positive finite
    /// `self`, subnormals included.
    fn split(self) -> (Self, Self);
}

/// `function` of every lane, computed in f64 and rounded once.
#[inline(always)]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "a single lane needs no loop")
)]
fn by_lane<V: Vector<Element = f32>>(x: V, function: fn(f64) -> f64) -> V {
    let mut lanes = [0.0f32; 16];
    // SAFETY: no register has more than 16 lanes, and `x` exists, so its
    // instructions do.
    unsafe {
        x.store(lanes.as_mut_ptr());
        for lane in &mut lanes[..V::LANES] {
            *lane = function(f64::from(*lane)) as f32;
        }
        V::load(lanes.as_ptr())
    }
}

/// Instantiates a generic kernel once per instruction set.
///
/// `by_level! { pub(crate) fn axpy(n: usize, x: *const f32) = axpy_at; }` makes
/// `axpy(level)`, which returns the instance of `axpy_at::<S>` for that level
/// as an `unsafe fn(usize, *const f32)`. Generic parameters come in brackets,
/// declared and then passed: `fn panel [const M: usize] [M] (..) = panel_at;`.
/// The pointer may be called where the level is available.
macro_rules! by_level {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $([$($declared:tt)*] [$($passed:tt)*])?
        ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $kernel:ident;) => {
        $(#[$meta])*
        $vis fn $name $(<$($declared)*>)? (level: $crate::Level) -> unsafe fn($($ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,bmi1,bmi2,popcnt")]
            unsafe fn avx512 $(<$($declared)*>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller vouches for the level and the arguments.
                unsafe { $kernel::<$crate::simd::Avx512 $(, $($passed)*)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2 $(<$($declared)*>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller vouches for the level and the arguments.
                unsafe { $kernel::<$crate::simd::Avx2 $(, $($passed)*)?>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            unsafe fn neon $(<$($declared)*>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller vouches for the level and the arguments.
                unsafe { $kernel::<$crate::simd::Neon $(, $($passed)*)?>($($arg),*) }
            }
            unsafe fn scalar $(<$($declared)*>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller vouches for the arguments.
                unsafe { $kernel::<$crate::simd::Scalar $(, $($passed)*)?>($($arg),*) }
            }
            match level {
                #[cfg(target_arch = "x86_64")]
                $crate::Level::Avx512 => avx512 $(::<$($passed)*>)?,
                #[cfg(target_arch = "x86_64")]
                $crate::Level::Avx2 => avx2 $(::<$($passed)*>)?,
                #[cfg(target_arch = "aarch64")]
                $crate::Level::Neon => neon $(::<$($passed)*>)?,
                _ => scalar $(::<$($passed)*>)?,
            }
        }
    };
}
pub(crate) use by_level;

/// Stands in a loop over registers of `lanes` lanes that is long: of single lanes the compiler would
/// make a loop of vectors again, although a fused multiply-add is a call for each of their lanes.
#[inline(always)]
pub(crate) fn keep_single(lanes: usize) {
    if lanes == 1 {
        std::hint::black_box(());
    }
}

/// Brings a line into the first-level cache, some time. A hint: the address need not be valid.
#[inline(always)]
pub(crate) fn fetch_first<T>(line: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction, which reads nothing itself.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// Brings a line into the second-level cache, some time. A hint: the address need not be valid.
#[inline(always)]
pub(crate) fn fetch_second<T>(line: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction, which reads nothing itself.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

#[cfg(test)]
mod tests;
