//! 16-bit floats to f32 and back, in integer arithmetic without branches, so
//! that the compiler turns loops of it into vector instructions of any level.
//! Values are those of the `half` crate (some bits of a NaN apart).

const INFINITY: u32 = 0x7f80_0000;
const MAGNITUDE: u32 = 0x7fff_ffff;

#[inline(always)]
fn select(condition: bool, yes: u32, no: u32) -> u32 {
    if condition { yes } else { no }
}

/// The nearest bf16, ties to even.
#[inline(always)]
pub(super) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // A NaN stays one whichever bits are dropped.
    select(bits & MAGNITUDE > INFINITY, bits | 0x0040_0000, rounded).wrapping_shr(16) as u16
}

#[inline(always)]
pub(super) fn from_bf16(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// The nearest f16, ties to even.
#[inline(always)]
pub(super) fn to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let (sign, size) = (bits >> 16 & 0x8000, bits & MAGNITUDE);
    // Adding 1/2 leaves a subnormal's digits, rounded, at the end of the word.
    let tiny = (f32::from_bits(size) + 0.5)
        .to_bits()
        .wrapping_sub(0.5f32.to_bits());
    let normal = size
        .wrapping_sub(112 << 23)
        .wrapping_add(0xfff + (size >> 13 & 1))
        >> 13;
    let large = select(size > INFINITY, 0x7e00, 0x7c00);
    let small = select(size < 0x3880_0000, tiny, normal);
    (sign | select(size >= 0x4780_0000, large, small)) as u16
}

#[inline(always)]
pub(super) fn from_f16(x: u16) -> f32 {
    let (sign, size) = (u32::from(x & 0x8000) << 16, u32::from(x & 0x7fff) << 13);
    // The exponent's bias changes by 112; subnormals fall into place by themselves.
    let finite = f32::from_bits(size) * f32::from_bits((127 + 112) << 23);
    let bits = select(size >= 0x7c00 << 13, size | INFINITY, finite.to_bits());
    f32::from_bits(bits | sign)
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::{from_bf16, from_f16, to_bf16, to_f16};

    #[test]
    fn all_16_bit_values_widen_and_come_back() {
        for bits in (0..=u16::MAX).step_by(if cfg!(miri) { 251 } else { 1 }) {
            let (h, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            if h.is_nan() {
                assert!(from_f16(bits).is_nan());
            } else {
                assert_eq!(from_f16(bits).to_bits(), h.to_f32().to_bits());
                assert_eq!(to_f16(from_f16(bits)), bits);
            }
            if b.is_nan() {
                assert!(from_bf16(bits).is_nan());
            } else {
                assert_eq!(to_bf16(from_bf16(bits)), bits);
            }
        }
    }

    #[test]
    fn f32_is_rounded_as_half_rounds_it() {
        for bits in (0..=u32::MAX).step_by(if cfg!(miri) { 40_000_003 } else { 4_001 }) {
            let x = f32::from_bits(bits);
            let (h, b) = (f16::from_bits(to_f16(x)), bf16::from_bits(to_bf16(x)));
            assert_eq!(x.is_nan(), h.is_nan() && b.is_nan(), "{bits:#x}");
            if !x.is_nan() {
                assert_eq!(h, f16::from_f32(x), "{bits:#x}");
                assert_eq!(b, bf16::from_f32(x), "{bits:#x}");
            }
        }
        let ties = [
            1.0 + 1.0 / 2048.0,
            1.0 + 3.0 / 2048.0,
            65519.0,
            65520.0,
            2e-8,
            3e-8,
            6.1e-5,
        ];
        for x in ties.into_iter().flat_map(|x: f32| [x, -x]) {
            assert_eq!(f16::from_bits(to_f16(x)), f16::from_f32(x), "{x}");
        }
    }
}
