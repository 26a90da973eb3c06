//! 512-bit registers.

use std::arch::x86_64::*;

use super::{Float, Float32, Mask, Simd, Vector, by_lane};

/// AVX-512 F, DQ, VL and BW.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512;

impl Simd for Avx512 {
    type F32 = F32;
    type F64 = F64;
}

/// Sixteen f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct F32(pub(crate) __m512);

/// Eight f64.
#[derive(Debug, Clone, Copy)]
pub(crate) struct F64(pub(crate) __m512d);

/// Calls an intrinsic of the level.
macro_rules! have {
    ($e:expr) => {{
        // SAFETY: a register of this level exists or the caller vouched for
        // the level, so the instruction is available.
        unsafe { $e }
    }};
}

macro_rules! mask {
    ($bits:ty) => {
        impl Mask for $bits {
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                self & other
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }
            #[inline(always)]
            fn any(self) -> bool {
                self != 0
            }
        }
    };
}
mask!(__mmask8);
mask!(__mmask16);

macro_rules! vector {
    ($name:ident: $element:ty, $mask:ty, $lanes:literal;
     $($method:ident = $intrinsic:ident),*;
     set $set:ident, load $load:ident, load_first $loadz:ident, store $store:ident, store_first $storez:ident,
     fma $fma:ident, abs $abs:ident, xor $xor:ident, and $and:ident, andnot $andnot:ident, or $or:ident,
     round $round:ident, cmp $cmp:ident, max $max:ident, min $min:ident, blend $blend:ident,
     bytes $load8:ident $store8:ident, sqrt $sqrt:ident, first $first:ident, swap $swap:ident,
     pick $pick:ident) => {
        impl Float for $name {
            type Element = $element;
            type Mask = $mask;

            #[inline(always)]
            fn like(self, x: $element) -> Self {
                // SAFETY: `self` exists, so its instructions do.
                unsafe { Self::splat(x) }
            }
            $(#[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(have!($intrinsic(self.0, other.0)))
            })*
            #[inline(always)]
            fn sqrt(self) -> Self {
                Self(have!($sqrt(self.0)))
            }
            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                Self(have!($fma(self.0, factor.0, addend.0)))
            }
            #[inline(always)]
            fn neg(self) -> Self {
                Self(have!($xor(self.0, $set(-0.0))))
            }
            #[inline(always)]
            fn abs(self) -> Self {
                Self(have!($abs(self.0)))
            }
            #[inline(always)]
            fn copysign(self, sign: Self) -> Self {
                let bit = self.like(-0.0).0;
                Self(have!($or($andnot(bit, self.0), $and(bit, sign.0))))
            }
            #[inline(always)]
            fn floor(self) -> Self {
                Self(have!($round::<0x09>(self.0)))
            }
            #[inline(always)]
            fn ceil(self) -> Self {
                Self(have!($round::<0x0a>(self.0)))
            }
            #[inline(always)]
            fn round(self) -> Self {
                Self(have!($round::<0x08>(self.0)))
            }
            #[inline(always)]
            fn trunc(self) -> Self {
                Self(have!($round::<0x0b>(self.0)))
            }
            // The instruction gives its second operand if either is NaN.
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                Self::select(self.ne(self), self, Self(have!($max(self.0, other.0))))
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                Self::select(self.ne(self), self, Self(have!($min(self.0, other.0))))
            }
            #[inline(always)]
            fn at_least(self, limit: Self) -> Self {
                Self(have!($max(limit.0, self.0)))
            }
            #[inline(always)]
            fn at_most(self, limit: Self) -> Self {
                Self(have!($min(limit.0, self.0)))
            }
            #[inline(always)]
            fn lt(self, other: Self) -> $mask {
                have!($cmp::<_CMP_LT_OQ>(self.0, other.0))
            }
            #[inline(always)]
            fn le(self, other: Self) -> $mask {
                have!($cmp::<_CMP_LE_OQ>(self.0, other.0))
            }
            #[inline(always)]
            fn equal(self, other: Self) -> $mask {
                have!($cmp::<_CMP_EQ_OQ>(self.0, other.0))
            }
            #[inline(always)]
            fn ne(self, other: Self) -> $mask {
                have!($cmp::<_CMP_NEQ_UQ>(self.0, other.0))
            }
            #[inline(always)]
            fn select(mask: $mask, yes: Self, no: Self) -> Self {
                Self(have!($blend(mask, no.0, yes.0)))
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
                Self(have!($loadz(((1u32 << n) - 1) as $mask, from)))
            }
            #[inline(always)]
            unsafe fn load_every_other(from: *const $element) -> Self {
                let (a, b) = have!(($load(from), $load(from.add($lanes - 1))));
                Self($pick(a, EVERY_OTHER, b))
            }
            #[inline(always)]
            fn interleave(self, other: Self) -> (Self, Self) {
                let pick = |which| Self($pick(self.0, which, other.0));
                (pick(LOW_BY_TURNS), pick(HIGH_BY_TURNS))
            }
            #[inline(always)]
            unsafe fn load_mask(from: *const u8) -> $mask {
                have!(_mm_cmpneq_epu8_mask($load8(from.cast()), _mm_setzero_si128()) as $mask)
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $element) {
                have!($store(to, self.0))
            }
            #[inline(always)]
            unsafe fn store_first(self, to: *mut $element, n: usize) {
                have!($storez(to, ((1u32 << n) - 1) as $mask, self.0))
            }
            #[inline(always)]
            unsafe fn store_mask(mask: $mask, to: *mut u8) {
                have!($store8(to.cast(), _mm_maskz_set1_epi8(u16::from(mask), 1)))
            }
            #[inline(always)]
            fn swap(self, distance: usize) -> Self {
                Self($swap(self.0, distance))
            }
            #[inline(always)]
            fn first(self) -> $element {
                have!($first(self.0))
            }
        }
    };
}

vector! { F32: f32, __mmask16, 16;
    add = _mm512_add_ps, sub = _mm512_sub_ps, mul = _mm512_mul_ps, div = _mm512_div_ps;
    set _mm512_set1_ps, load _mm512_loadu_ps, load_first _mm512_maskz_loadu_ps,
    store _mm512_storeu_ps, store_first _mm512_mask_storeu_ps,
    fma _mm512_fmadd_ps, abs _mm512_abs_ps, xor _mm512_xor_ps, and _mm512_and_ps,
    andnot _mm512_andnot_ps, or _mm512_or_ps, round _mm512_roundscale_ps,
    cmp _mm512_cmp_ps_mask, max _mm512_max_ps, min _mm512_min_ps, blend _mm512_mask_blend_ps,
    bytes _mm_loadu_si128 _mm_storeu_si128, sqrt _mm512_sqrt_ps, first _mm512_cvtss_f32,
    swap swap_f32, pick pick_f32
}

vector! { F64: f64, __mmask8, 8;
    add = _mm512_add_pd, sub = _mm512_sub_pd, mul = _mm512_mul_pd, div = _mm512_div_pd;
    set _mm512_set1_pd, load _mm512_loadu_pd, load_first _mm512_maskz_loadu_pd,
    store _mm512_storeu_pd, store_first _mm512_mask_storeu_pd,
    fma _mm512_fmadd_pd, abs _mm512_abs_pd, xor _mm512_xor_pd, and _mm512_and_pd,
    andnot _mm512_andnot_pd, or _mm512_or_pd, round _mm512_roundscale_pd,
    cmp _mm512_cmp_pd_mask, max _mm512_max_pd, min _mm512_min_pd, blend _mm512_mask_blend_pd,
    bytes _mm_loadl_epi64 _mm_storel_epi64, sqrt _mm512_sqrt_pd, first _mm512_cvtsd_f64,
    swap swap_f64, pick pick_f64
}

/// Which lanes make a register, of two others: those of the second one count on from those of the
/// first. A table for each number of lanes.
struct Picks {
    of_16: [i32; 16],
    of_8: [i64; 8],
}

/// The even lanes of the first, then the odd ones of the second.
const EVERY_OTHER: Picks = Picks {
    of_16: [0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31],
    of_8: [0, 2, 4, 6, 9, 11, 13, 15],
};
/// The lower lanes of both by turns.
const LOW_BY_TURNS: Picks = Picks {
    of_16: [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23],
    of_8: [0, 8, 1, 9, 2, 10, 3, 11],
};
/// The upper ones.
const HIGH_BY_TURNS: Picks = Picks {
    of_16: [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31],
    of_8: [4, 12, 5, 13, 6, 14, 7, 15],
};

#[inline(always)]
fn pick_f32(a: __m512, lanes: Picks, b: __m512) -> __m512 {
    have!(_mm512_permutex2var_ps(
        a,
        _mm512_loadu_si512(lanes.of_16.as_ptr().cast()),
        b
    ))
}

#[inline(always)]
fn pick_f64(a: __m512d, lanes: Picks, b: __m512d) -> __m512d {
    have!(_mm512_permutex2var_pd(
        a,
        _mm512_loadu_si512(lanes.of_8.as_ptr().cast()),
        b
    ))
}

#[inline(always)]
fn swap_f32(x: __m512, distance: usize) -> __m512 {
    match distance {
        1 => have!(_mm512_permute_ps::<0xb1>(x)),
        2 => have!(_mm512_permute_ps::<0x4e>(x)),
        4 => have!(_mm512_shuffle_f32x4::<0xb1>(x, x)),
        _ => have!(_mm512_shuffle_f32x4::<0x4e>(x, x)),
    }
}

#[inline(always)]
fn swap_f64(x: __m512d, distance: usize) -> __m512d {
    match distance {
        1 => have!(_mm512_permute_pd::<0x55>(x)),
        2 => have!(_mm512_shuffle_f64x2::<0xb1>(x, x)),
        _ => have!(_mm512_shuffle_f64x2::<0x4e>(x, x)),
    }
}

impl Float32 for F32 {
    #[inline(always)]
    fn by_lane(self, function: fn(f64) -> f64) -> Self {
        by_lane(self, function)
    }
    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        Self(have!(_mm512_scalef_ps(self.0, n.0)))
    }
    #[inline(always)]
    fn power_of_two(self) -> Self {
        self.like(1.0).scale(self)
    }
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        let mantissa = have!(_mm512_getmant_ps::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_SRC>(
            self.0
        ));
        (Self(mantissa), Self(have!(_mm512_getexp_ps(self.0))))
    }
}
