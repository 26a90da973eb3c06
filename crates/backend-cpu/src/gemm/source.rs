//! Element types of the operands, and the type in which their products are summed.

use std::fmt::Debug;

use half::{bf16, f16};

use crate::simd::{MAX_LANES, Real, Simd, Vector};

/// A type in which products are summed: f32 or f64.
pub(crate) trait Number: Real + Default + Debug + Send + Sync {}
impl Number for f32 {}
impl Number for f64 {}

/// An operand's element, which widens exactly to `T`.
pub(crate) trait Source<T: Number>: Copy + Default + Debug + Send + Sync + 'static {
    /// Whether it is `T` itself, so that kernels can read operands where they lie.
    const IS_WIDE: bool = false;

    /// The same number in `T`.
    fn widen(self) -> T;

    /// A register of elements, widened.
    ///
    /// # Safety
    /// As for [`Vector::load`].
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> T::In<S> {
        let mut lanes = [T::default(); MAX_LANES];
        for (i, lane) in lanes.iter_mut().take(T::In::<S>::LANES).enumerate() {
            // SAFETY: the caller promises as many readable elements as the register has lanes.
            *lane = unsafe { from.add(i).read() }.widen();
        }
        // SAFETY: a register has at most MAX_LANES lanes.
        unsafe { T::In::<S>::load(lanes.as_ptr()) }
    }

    /// The first `n < LANES` elements, widened; the other lanes are zero.
    ///
    /// # Safety
    /// As for [`Vector::load_first`].
    #[inline(always)]
    unsafe fn load_first<S: Simd>(from: *const Self, n: usize) -> T::In<S> {
        // Copied first, to be widened without a loop of so many rounds.
        let mut first = [Self::default(); MAX_LANES];
        // SAFETY: the caller promises `n` readable elements, fewer than MAX_LANES.
        unsafe {
            std::ptr::copy_nonoverlapping(from, first.as_mut_ptr(), n);
            Self::load::<S>(first.as_ptr())
        }
    }
}

macro_rules! wide {
    ($t:ty) => {
        impl Source<$t> for $t {
            const IS_WIDE: bool = true;

            #[inline(always)]
            fn widen(self) -> $t {
                self
            }
            #[inline(always)]
            unsafe fn load<S: Simd>(from: *const $t) -> <$t as Real>::In<S> {
                // SAFETY: the same contract.
                unsafe { <$t as Real>::In::<S>::load(from) }
            }
            #[inline(always)]
            unsafe fn load_first<S: Simd>(from: *const $t, n: usize) -> <$t as Real>::In<S> {
                // SAFETY: the same contract.
                unsafe { <$t as Real>::In::<S>::load_first(from, n) }
            }
        }
    };
}
wide!(f32);
wide!(f64);

/// An element that widens to f32, and by way of it to f64.
macro_rules! narrow {
    ($t:ty, $widen:expr) => {
        impl Source<f32> for $t {
            #[inline(always)]
            fn widen(self) -> f32 {
                $widen(self)
            }
        }
        impl Source<f64> for $t {
            #[inline(always)]
            fn widen(self) -> f64 {
                f64::from($widen(self))
            }
        }
    };
}
narrow!(f16, from_half);
narrow!(bf16, from_brain);

impl Source<f64> for f32 {
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }
}

#[inline(always)]
fn from_brain(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// Without branches or look-ups, so that it vectorises: the bits are shifted into place, and the
/// exponent's bias corrected by a multiplication, which is exact and puts subnormals right as well.
#[inline(always)]
fn from_half(x: f16) -> f32 {
    const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let bits = u32::from(x.to_bits());
    let (sign, magnitude) = (bits >> 15 << 31, bits & 0x7fff);
    let finite = f32::from_bits(magnitude << 13) * REBIAS;
    let special = f32::from_bits(magnitude << 13 | 0x7f80_0000);
    let value = if magnitude >= 0x7c00 { special } else { finite };
    f32::from_bits(value.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_widen_exactly() {
        for bits in (0..=u16::MAX).step_by(if cfg!(miri) { 251 } else { 1 }) {
            let (f, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            let same = |got: f32, want: f32| got == want || (got.is_nan() && want.is_nan());
            assert!(same(from_half(f), f.to_f32()), "f16 {bits:#x}");
            assert!(same(from_brain(b), b.to_f32()), "bf16 {bits:#x}");
            assert_eq!(from_half(f).is_sign_negative(), f.is_sign_negative());
        }
    }
}
