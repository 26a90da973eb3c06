//! 128-bit registers of aarch64.

use std::arch::aarch64::*;

use super::{Float, Float32, Mask, Simd, Vector, by_lane};

/// Advanced SIMD, which every aarch64 has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon;

impl Simd for Neon {
    type F32 = F32;
    type F64 = F64;
}

/// Four f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct F32(pub(crate) float32x4_t);

/// Two f64.
#[derive(Debug, Clone, Copy)]
pub(crate) struct F64(pub(crate) float64x2_t);

/// Truth of four lanes, all bits of a lane alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask32(uint32x4_t);

/// Truth of two lanes, all bits of a lane alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask64(uint64x2_t);

/// Calls an intrinsic of the level.
macro_rules! have {
    ($e:expr) => {{
        // SAFETY: every aarch64 has the instruction, and the caller vouches
        // for the pointers.
        #[allow(unused_unsafe, reason = "only intrinsics that touch memory are unsafe")]
        unsafe {
            $e
        }
    }};
}

macro_rules! mask {
    ($name:ident, $word:ty, $and:ident, $or:ident, $xor:ident, $set:ident, $horizontal:expr) => {
        impl $name {
            #[inline(always)]
            fn inverse(self) -> Self {
                Self(have!($xor(self.0, $set(<$word>::MAX))))
            }
        }

        impl Mask for $name {
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                Self(have!($and(self.0, other.0)))
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                Self(have!($or(self.0, other.0)))
            }
            #[inline(always)]
            fn any(self) -> bool {
                have!(vmaxvq_u32($horizontal(self.0))) != 0
            }
        }
    };
}
mask!(
    Mask32,
    u32,
    vandq_u32,
    vorrq_u32,
    veorq_u32,
    vdupq_n_u32,
    std::convert::identity
);
mask!(
    Mask64,
    u64,
    vandq_u64,
    vorrq_u64,
    veorq_u64,
    vdupq_n_u64,
    vreinterpretq_u32_u64
);

macro_rules! vector {
    ($name:ident: $element:ty, $word:ty, $maskty:ident, $lanes:literal;
     $($method:ident = $intrinsic:ident),*; $($unary:ident = $one:ident),*;
     set $set:ident, load $load:ident, store $store:ident, load_mask $loadm:ident, store_mask $storem:ident,
     fma $fma:ident, lt $lt:ident, le $le:ident, equal $eq:ident, blend $blend:ident,
     sign $sign:ident, first $first:ident, swap $swap:ident) => {
        impl Float for $name {
            type Element = $element;
            type Mask = $maskty;

            #[inline(always)]
            fn like(self, x: $element) -> Self {
                // SAFETY: `self` exists, so its instructions do.
                unsafe { Self::splat(x) }
            }
            $(#[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(have!($intrinsic(self.0, other.0)))
            })*
            $(#[inline(always)]
            fn $unary(self) -> Self {
                Self(have!($one(self.0)))
            })*
            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                Self(have!($fma(addend.0, self.0, factor.0)))
            }
            #[inline(always)]
            fn copysign(self, sign: Self) -> Self {
                Self(have!($blend($sign(1 << (<$word>::BITS - 1)), sign.0, self.0)))
            }
            #[inline(always)]
            fn at_least(self, limit: Self) -> Self {
                self.max(limit)
            }
            #[inline(always)]
            fn at_most(self, limit: Self) -> Self {
                self.min(limit)
            }
            #[inline(always)]
            fn lt(self, other: Self) -> $maskty {
                $maskty(have!($lt(self.0, other.0)))
            }
            #[inline(always)]
            fn le(self, other: Self) -> $maskty {
                $maskty(have!($le(self.0, other.0)))
            }
            #[inline(always)]
            fn equal(self, other: Self) -> $maskty {
                $maskty(have!($eq(self.0, other.0)))
            }
            #[inline(always)]
            fn ne(self, other: Self) -> $maskty {
                self.equal(other).inverse()
            }
            #[inline(always)]
            fn select(mask: $maskty, yes: Self, no: Self) -> Self {
                Self(have!($blend(mask.0, yes.0, no.0)))
            }
        }

        impl Vector for $name {
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn splat(x: $element) -> Self {
                Self(have!($set(x)))
            }
            #[inline(always)]
            unsafe fn load(from: *const $element) -> Self {
                Self(have!($load(from)))
            }
            #[inline(always)]
            unsafe fn load_first(from: *const $element, n: usize) -> Self {
                let mut lanes = [0.0; $lanes];
                for (i, lane) in lanes.iter_mut().enumerate().take(n) {
                    *lane = have!(from.add(i).read_unaligned());
                }
                Self(have!($load(lanes.as_ptr())))
            }
            #[inline(always)]
            unsafe fn load_mask(from: *const u8) -> $maskty {
                let mut lanes = [0; $lanes];
                for (i, lane) in lanes.iter_mut().enumerate() {
                    *lane = if have!(from.add(i).read()) != 0 { <$word>::MAX } else { 0 };
                }
                $maskty(have!($loadm(lanes.as_ptr())))
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $element) {
                have!($store(to, self.0))
            }
            #[inline(always)]
            unsafe fn store_first(self, to: *mut $element, n: usize) {
                let mut lanes = [0.0; $lanes];
                have!($store(lanes.as_mut_ptr(), self.0));
                for (i, lane) in lanes.into_iter().enumerate().take(n) {
                    have!(to.add(i).write_unaligned(lane));
                }
            }
            #[inline(always)]
            unsafe fn store_mask(mask: $maskty, to: *mut u8) {
                let mut lanes = [0; $lanes];
                have!($storem(lanes.as_mut_ptr(), mask.0));
                for (i, lane) in lanes.into_iter().enumerate() {
                    have!(to.add(i).write((lane & 1) as u8));
                }
            }
            #[inline(always)]
            fn swap(self, distance: usize) -> Self {
                Self($swap(self.0, distance))
            }
            #[inline(always)]
            fn first(self) -> $element {
                have!($first::<0>(self.0))
            }
        }
    };
}

vector! { F32: f32, u32, Mask32, 4;
    add = vaddq_f32, sub = vsubq_f32, mul = vmulq_f32, div = vdivq_f32, max = vmaxq_f32, min = vminq_f32;
    sqrt = vsqrtq_f32, neg = vnegq_f32, abs = vabsq_f32, floor = vrndmq_f32, ceil = vrndpq_f32,
    round = vrndnq_f32, trunc = vrndq_f32;
    set vdupq_n_f32, load vld1q_f32, store vst1q_f32, load_mask vld1q_u32, store_mask vst1q_u32,
    fma vfmaq_f32, lt vcltq_f32, le vcleq_f32, equal vceqq_f32, blend vbslq_f32,
    sign vdupq_n_u32, first vgetq_lane_f32, swap swap_f32
}

vector! { F64: f64, u64, Mask64, 2;
    add = vaddq_f64, sub = vsubq_f64, mul = vmulq_f64, div = vdivq_f64, max = vmaxq_f64, min = vminq_f64;
    sqrt = vsqrtq_f64, neg = vnegq_f64, abs = vabsq_f64, floor = vrndmq_f64, ceil = vrndpq_f64,
    round = vrndnq_f64, trunc = vrndq_f64;
    set vdupq_n_f64, load vld1q_f64, store vst1q_f64, load_mask vld1q_u64, store_mask vst1q_u64,
    fma vfmaq_f64, lt vcltq_f64, le vcleq_f64, equal vceqq_f64, blend vbslq_f64,
    sign vdupq_n_u64, first vgetq_lane_f64, swap swap_f64
}

#[inline(always)]
fn swap_f32(x: float32x4_t, distance: usize) -> float32x4_t {
    match distance {
        1 => have!(vrev64q_f32(x)),
        _ => have!(vextq_f32::<2>(x, x)),
    }
}

#[inline(always)]
fn swap_f64(x: float64x2_t, _: usize) -> float64x2_t {
    have!(vextq_f64::<1>(x, x))
}

/// `2^n` for integral `n` in [-126, 127].
#[inline(always)]
fn power_of_two(n: int32x4_t) -> float32x4_t {
    have!(vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(
        n,
        vdupq_n_s32(127)
    ))))
}

impl Float32 for F32 {
    #[inline(always)]
    fn by_lane(self, function: fn(f64) -> f64) -> Self {
        by_lane(self, function)
    }
    /// In two steps, of which the first is exact.
    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        let n = n.at_least(self.like(-252.0)).at_most(self.like(254.0));
        let n = have!(vcvtq_s32_f32(n.0));
        let half = have!(vshrq_n_s32::<1>(n));
        let rest = have!(vsubq_s32(n, half));
        self.mul(Self(power_of_two(half)))
            .mul(Self(power_of_two(rest)))
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(power_of_two(have!(vcvtq_s32_f32(self.0))))
    }

    #[inline(always)]
    fn split(self) -> (Self, Self) {
        let tiny = self.lt(self.like(f32::MIN_POSITIVE));
        let normal = Self::select(tiny, self.mul(self.like(8_388_608.0)), self);
        let bits = have!(vreinterpretq_u32_f32(normal.0));
        let biased = Self(have!(vcvtq_f32_u32(vshrq_n_u32::<23>(bits))));
        let bias = Self::select(tiny, self.like(127.0 + 23.0), self.like(127.0));
        let fraction = have!(vandq_u32(bits, vdupq_n_u32(0x007f_ffff)));
        let mantissa = have!(vorrq_u32(fraction, vdupq_n_u32(0x3f80_0000)));
        (
            Self(have!(vreinterpretq_f32_u32(mantissa))),
            biased.sub(bias),
        )
    }
}
