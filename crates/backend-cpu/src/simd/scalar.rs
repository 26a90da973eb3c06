//! One lane: portable Rust.

use super::{Float, Float32, Mask, Simd, Vector};

/// No vector instructions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

impl Simd for Scalar {
    type F32 = f32;
    type F64 = f64;
}

impl Mask for bool {
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
        self
    }
}

/// A number is its own register.
macro_rules! vector {
    ($t:ty) => {
        impl Float for $t {
            type Element = $t;
            type Mask = bool;

            #[inline(always)]
            fn like(self, x: $t) -> Self {
                x
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self - other
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                self / other
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                <$t>::mul_add(self, factor, addend)
            }
            #[inline(always)]
            fn neg(self) -> Self {
                -self
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
            #[inline(always)]
            fn copysign(self, sign: Self) -> Self {
                <$t>::copysign(self, sign)
            }
            #[inline(always)]
            fn floor(self) -> Self {
                <$t>::floor(self)
            }
            #[inline(always)]
            fn ceil(self) -> Self {
                <$t>::ceil(self)
            }
            #[inline(always)]
            fn round(self) -> Self {
                <$t>::round_ties_even(self)
            }
            #[inline(always)]
            fn trunc(self) -> Self {
                <$t>::trunc(self)
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if self > other || self != self {
                    self
                } else {
                    other
                }
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                if self < other || self != self {
                    self
                } else {
                    other
                }
            }
            #[inline(always)]
            fn at_least(self, limit: Self) -> Self {
                if limit > self { limit } else { self }
            }
            #[inline(always)]
            fn at_most(self, limit: Self) -> Self {
                if limit < self { limit } else { self }
            }
            #[inline(always)]
            fn lt(self, other: Self) -> bool {
                self < other
            }
            #[inline(always)]
            fn le(self, other: Self) -> bool {
                self <= other
            }
            #[inline(always)]
            fn equal(self, other: Self) -> bool {
                self == other
            }
            #[inline(always)]
            fn ne(self, other: Self) -> bool {
                self != other
            }
            #[inline(always)]
            fn select(mask: bool, yes: Self, no: Self) -> Self {
                if mask { yes } else { no }
            }
        }

        impl Vector for $t {
            const LANES: usize = 1;

            #[inline(always)]
            unsafe fn splat(x: $t) -> Self {
                x
            }
            #[inline(always)]
            unsafe fn load(from: *const $t) -> Self {
                // SAFETY: the caller vouches for one readable element.
                unsafe { from.read_unaligned() }
            }
            #[inline(always)]
            unsafe fn load_first(_: *const $t, _: usize) -> Self {
                0.0
            }
            #[inline(always)]
            unsafe fn load_mask(from: *const u8) -> bool {
                // SAFETY: the caller vouches for one readable byte.
                unsafe { from.read() != 0 }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $t) {
                // SAFETY: the caller vouches for one writable element.
                unsafe { to.write_unaligned(self) }
            }
            #[inline(always)]
            unsafe fn store_first(self, _: *mut $t, _: usize) {}
            #[inline(always)]
            unsafe fn store_mask(mask: bool, to: *mut u8) {
                // SAFETY: the caller vouches for one writable byte.
                unsafe { to.write(u8::from(mask)) }
            }
            #[inline(always)]
            fn swap(self, _: usize) -> Self {
                self
            }
            #[inline(always)]
            fn first(self) -> $t {
                self
            }
        }
    };
}
vector!(f32);
vector!(f64);

/// `2^n` for integral `n` in [-126, 127].
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

impl Float32 for f32 {
    #[inline(always)]
    fn by_lane(self, function: fn(f64) -> f64) -> Self {
        function(f64::from(self)) as f32
    }
    /// In two steps, of which the first is exact.
    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        let n = n.at_least(-252.0).at_most(254.0) as i32;
        let half = n >> 1;
        self * power_of_two(half) * power_of_two(n - half)
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        power_of_two(self as i32)
    }

    #[inline(always)]
    fn split(self) -> (Self, Self) {
        let tiny = self < f32::MIN_POSITIVE;
        let bits = if tiny { self * 8_388_608.0 } else { self }.to_bits();
        let bias = if tiny { 127 + 23 } else { 127 };
        let mantissa = f32::from_bits(bits & 0x007f_ffff | 0x3f80_0000);
        (mantissa, ((bits >> 23) as i32 - bias) as f32)
    }
}
