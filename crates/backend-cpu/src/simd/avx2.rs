//! 256-bit registers with fused multiply-add.

use std::arch::x86_64::*;

use super::{Float, Float32, Mask, Simd, Vector, by_lane};

/// AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2;

impl Simd for Avx2 {
    type F32 = F32;
    type F64 = F64;
}

/// Eight f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct F32(pub(crate) __m256);

/// Four f64.
#[derive(Debug, Clone, Copy)]
pub(crate) struct F64(pub(crate) __m256d);

/// Calls an intrinsic of the level.
macro_rules! have {
    ($e:expr) => {{
        // SAFETY: a register of this level exists or the caller vouched for
        // the level, so the instruction is available.
        unsafe { $e }
    }};
}

/// All bits of a lane are set where it is true.
macro_rules! mask {
    ($name:ident, $and:ident, $or:ident, $bits:ident) => {
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
                have!($bits(self.0)) != 0
            }
        }
    };
}
mask!(F32, _mm256_and_ps, _mm256_or_ps, _mm256_movemask_ps);
mask!(F64, _mm256_and_pd, _mm256_or_pd, _mm256_movemask_pd);

/// Ones, then zeros: the eight words from `8 - n` on select the first `n` f32.
static FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// Selects the first `n` lanes of `width` f32-sized words each.
#[inline(always)]
fn first_words(n: usize, width: usize) -> __m256i {
    // SAFETY: `n * width` is at most 8, so the eight words lie in the table.
    unsafe { _mm256_loadu_si256(FIRST.as_ptr().add(8 - n * width).cast()) }
}

macro_rules! vector {
    ($name:ident: $element:ty, $lanes:literal, words $words:literal;
     $($method:ident = $intrinsic:ident),*;
     set $set:ident, load $load:ident, load_first $loadz:ident, store $store:ident, store_first $storez:ident,
     fma $fma:ident, xor $xor:ident, and $and:ident, andnot $andnot:ident, or $or:ident,
     round $round:ident, cmp $cmp:ident, max $max:ident, min $min:ident, blend $blend:ident,
     every_other $every_other:ident, interleave $interleave:ident,
     bytes $load8:ident $store8:ident, sqrt $sqrt:ident, first $first:ident, swap $swap:ident) => {
        impl Float for $name {
            type Element = $element;
            type Mask = Self;

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
                Self(have!($andnot($set(-0.0), self.0)))
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
            fn lt(self, other: Self) -> Self {
                Self(have!($cmp::<_CMP_LT_OQ>(self.0, other.0)))
            }
            #[inline(always)]
            fn le(self, other: Self) -> Self {
                Self(have!($cmp::<_CMP_LE_OQ>(self.0, other.0)))
            }
            #[inline(always)]
            fn equal(self, other: Self) -> Self {
                Self(have!($cmp::<_CMP_EQ_OQ>(self.0, other.0)))
            }
            #[inline(always)]
            fn ne(self, other: Self) -> Self {
                Self(have!($cmp::<_CMP_NEQ_UQ>(self.0, other.0)))
            }
            #[inline(always)]
            fn select(mask: Self, yes: Self, no: Self) -> Self {
                Self(have!($blend(no.0, yes.0, mask.0)))
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
                Self(have!($loadz(from, first_words(n, $words))))
            }
            #[inline(always)]
            unsafe fn load_every_other(from: *const $element) -> Self {
                let (a, b) = have!(($load(from), $load(from.add($lanes - 1))));
                Self($every_other(a, b))
            }
            #[inline(always)]
            fn interleave(self, other: Self) -> (Self, Self) {
                let (low, high) = $interleave(self.0, other.0);
                (Self(low), Self(high))
            }
            #[inline(always)]
            unsafe fn load_mask(from: *const u8) -> Self {
                Self(have!($load8(from)))
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $element) {
                have!($store(to, self.0))
            }
            #[inline(always)]
            unsafe fn store_first(self, to: *mut $element, n: usize) {
                have!($storez(to, n, self.0))
            }
            #[inline(always)]
            unsafe fn store_mask(mask: Self, to: *mut u8) {
                have!($store8(mask.0, to))
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

vector! { F32: f32, 8, words 1;
    add = _mm256_add_ps, sub = _mm256_sub_ps, mul = _mm256_mul_ps, div = _mm256_div_ps;
    set _mm256_set1_ps, load _mm256_loadu_ps, load_first _mm256_maskload_ps,
    store _mm256_storeu_ps, store_first store_first_f32,
    fma _mm256_fmadd_ps, xor _mm256_xor_ps, and _mm256_and_ps,
    andnot _mm256_andnot_ps, or _mm256_or_ps, round _mm256_round_ps,
    cmp _mm256_cmp_ps, max _mm256_max_ps, min _mm256_min_ps, blend _mm256_blendv_ps,
    every_other every_other_f32, interleave interleave_f32,
    bytes bytes_to_f32 f32_to_bytes, sqrt _mm256_sqrt_ps, first _mm256_cvtss_f32,
    swap swap_f32
}

vector! { F64: f64, 4, words 2;
    add = _mm256_add_pd, sub = _mm256_sub_pd, mul = _mm256_mul_pd, div = _mm256_div_pd;
    set _mm256_set1_pd, load _mm256_loadu_pd, load_first _mm256_maskload_pd,
    store _mm256_storeu_pd, store_first store_first_f64,
    fma _mm256_fmadd_pd, xor _mm256_xor_pd, and _mm256_and_pd,
    andnot _mm256_andnot_pd, or _mm256_or_pd, round _mm256_round_pd,
    cmp _mm256_cmp_pd, max _mm256_max_pd, min _mm256_min_pd, blend _mm256_blendv_pd,
    every_other every_other_f64, interleave interleave_f64,
    bytes bytes_to_f64 f64_to_bytes, sqrt _mm256_sqrt_pd, first _mm256_cvtsd_f64,
    swap swap_f64
}

// The masked store of AVX takes some 20 to 40 micro-operations on AMD's processors of this level (A.
// Fog, "Instruction tables", `VMASKMOVPS m, y, y`), where halves and quarters take one each.

/// Writes the first `n < 8` lanes.
///
/// # Safety
/// `n` elements must be writable.
#[inline(always)]
unsafe fn store_first_f32(mut to: *mut f32, n: usize, x: __m256) {
    // SAFETY: the parts that are stored have `n` elements in all; the level is the caller's promise.
    unsafe {
        let mut part = _mm256_castps256_ps128(x);
        if n & 4 != 0 {
            _mm_storeu_ps(to, part);
            to = to.add(4);
            part = _mm256_extractf128_ps::<1>(x);
        }
        if n & 2 != 0 {
            _mm_storel_pd(to.cast(), _mm_castps_pd(part));
            to = to.add(2);
            part = _mm_movehl_ps(part, part);
        }
        if n & 1 != 0 {
            _mm_store_ss(to, part);
        }
    }
}

/// Writes the first `n < 4` lanes.
///
/// # Safety
/// `n` elements must be writable.
#[inline(always)]
unsafe fn store_first_f64(mut to: *mut f64, n: usize, x: __m256d) {
    // SAFETY: as for `f32`.
    unsafe {
        let mut part = _mm256_castpd256_pd128(x);
        if n & 2 != 0 {
            _mm_storeu_pd(to, part);
            to = to.add(2);
            part = _mm256_extractf128_pd::<1>(x);
        }
        if n & 1 != 0 {
            _mm_store_sd(to, part);
        }
    }
}

/// The even lanes of `a`, then the odd ones of `b`.
#[inline(always)]
fn every_other_f32(a: __m256, b: __m256) -> __m256 {
    let halves = have!(_mm256_castps_pd(_mm256_shuffle_ps::<0xd8>(a, b)));
    have!(_mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(halves)))
}

/// The even lanes of `a`, then the odd ones of `b`.
#[inline(always)]
fn every_other_f64(a: __m256d, b: __m256d) -> __m256d {
    have!(_mm256_permute4x64_pd::<0xd8>(_mm256_shuffle_pd::<0xa>(
        a, b
    )))
}

#[inline(always)]
fn interleave_f32(a: __m256, b: __m256) -> (__m256, __m256) {
    let (low, high) = have!((_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)));
    have!((
        _mm256_permute2f128_ps::<0x20>(low, high),
        _mm256_permute2f128_ps::<0x31>(low, high)
    ))
}

#[inline(always)]
fn interleave_f64(a: __m256d, b: __m256d) -> (__m256d, __m256d) {
    let (low, high) = have!((_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b)));
    have!((
        _mm256_permute2f128_pd::<0x20>(low, high),
        _mm256_permute2f128_pd::<0x31>(low, high)
    ))
}

#[inline(always)]
fn swap_f32(x: __m256, distance: usize) -> __m256 {
    match distance {
        1 => have!(_mm256_permute_ps::<0xb1>(x)),
        2 => have!(_mm256_permute_ps::<0x4e>(x)),
        _ => have!(_mm256_permute2f128_ps::<0x01>(x, x)),
    }
}

#[inline(always)]
fn swap_f64(x: __m256d, distance: usize) -> __m256d {
    match distance {
        1 => have!(_mm256_permute_pd::<0x5>(x)),
        _ => have!(_mm256_permute2f128_pd::<0x01>(x, x)),
    }
}

/// # Safety
/// Eight bytes must be readable.
#[inline(always)]
unsafe fn bytes_to_f32(from: *const u8) -> __m256 {
    let words = have!(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())));
    have!(_mm256_castsi256_ps(_mm256_cmpgt_epi32(
        words,
        _mm256_setzero_si256()
    )))
}

/// # Safety
/// Four bytes must be readable.
#[inline(always)]
unsafe fn bytes_to_f64(from: *const u8) -> __m256d {
    let bytes = have!(_mm_cvtsi32_si128(from.cast::<i32>().read_unaligned()));
    let words = have!(_mm256_cvtepu8_epi64(bytes));
    have!(_mm256_castsi256_pd(_mm256_cmpgt_epi64(
        words,
        _mm256_setzero_si256()
    )))
}

/// # Safety
/// Eight bytes must be writable.
#[inline(always)]
unsafe fn f32_to_bytes(mask: __m256, to: *mut u8) {
    let words = have!(_mm256_castps_si256(mask));
    let (low, high) = have!((
        _mm256_castsi256_si128(words),
        _mm256_extracti128_si256::<1>(words)
    ));
    let bytes = have!(_mm_packs_epi16(
        _mm_packs_epi32(low, high),
        _mm_setzero_si128()
    ));
    have!(_mm_storel_epi64(
        to.cast(),
        _mm_and_si128(bytes, _mm_set1_epi8(1))
    ))
}

/// # Safety
/// Four bytes must be writable.
#[inline(always)]
unsafe fn f64_to_bytes(mask: __m256d, to: *mut u8) {
    let bits = have!(_mm256_movemask_pd(mask)) as u32;
    // Bit i of the mask becomes bit 8 i.
    let spread = (bits & 1) | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21;
    have!(to.cast::<u32>().write_unaligned(spread))
}

/// `2^n` for integral `n` in [-126, 127].
#[inline(always)]
fn power_of_two(n: __m256i) -> __m256 {
    have!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(
        _mm256_add_epi32(n, _mm256_set1_epi32(127))
    )))
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
        let n = have!(_mm256_cvtps_epi32(n.0));
        let half = have!(_mm256_srai_epi32::<1>(n));
        let rest = have!(_mm256_sub_epi32(n, half));
        self.mul(Self(power_of_two(half)))
            .mul(Self(power_of_two(rest)))
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(power_of_two(have!(_mm256_cvtps_epi32(self.0))))
    }

    #[inline(always)]
    fn split(self) -> (Self, Self) {
        let tiny = self.lt(self.like(f32::MIN_POSITIVE));
        let normal = Self::select(tiny, self.mul(self.like(8_388_608.0)), self);
        let bits = have!(_mm256_castps_si256(normal.0));
        let biased = have!(_mm256_cvtepi32_ps(_mm256_srli_epi32::<23>(bits)));
        let bias = Self::select(tiny, self.like(127.0 + 23.0), self.like(127.0));
        let fraction = have!(_mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff)));
        let mantissa = have!(_mm256_or_si256(fraction, _mm256_set1_epi32(0x3f80_0000)));
        (
            Self(have!(_mm256_castsi256_ps(mantissa))),
            Self(biased).sub(bias),
        )
    }
}
