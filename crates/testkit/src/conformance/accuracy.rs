//! How far a backend may be from the reference: one table.

use backprop_core::{Class, DType, Scalar};

use crate::draw::decode;

/// What a result may differ by from the reference, which computes in `f64` and rounds once an
/// instruction.
///
/// | result | difference |
/// |---|---|
/// | integers, truth values | none |
/// | copies, lookups, random numbers ([`Bits`](Accuracy::Bits)) | none, in bits |
/// | what IEEE 754 rounds correctly ([`Exact`](Accuracy::Exact)) | none (a NaN is a NaN, 0 is -0) |
/// | other functions, of `f32` and `f64` | 6 units in the last place |
/// | other functions, of 16-bit floats | 1 unit in the last place |
/// | `digamma` and `polygamma`, that of order 0, whose terms cancel where it passes 0 | the same units, of 1 at least |
/// | a sum of `n` terms of size `s` | `(n + 8) s` units of the accumulator at 1, and 2 in the last place |
/// | a row program over `n` points of size `s` | as such a sum, and 16 units of its type at `s` |
///
/// Results of functions below the smallest normal number of their type may be flushed to zero.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Accuracy {
    /// The same bits.
    Bits,
    /// The same numbers.
    Exact,
    /// A function of the scalar table.
    Function(Scalar),
    /// A sum of so many terms of so large an absolute value; and what is computed from it without
    /// making errors larger.
    Sum { terms: usize, scale: f64 },
    /// A row program over so many points, of numbers of so large an absolute value.
    Rows { points: usize, scale: f64 },
}

/// The distance from 1 to the next number, and the smallest normal number.
fn unit(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F32 => (f64::from(f32::EPSILON), f64::from(f32::MIN_POSITIVE)),
        DType::F16 => (
            half::f16::EPSILON.to_f64(),
            half::f16::MIN_POSITIVE.to_f64(),
        ),
        DType::BF16 => (
            half::bf16::EPSILON.to_f64(),
            half::bf16::MIN_POSITIVE.to_f64(),
        ),
        _ => (f64::EPSILON, f64::MIN_POSITIVE),
    }
}

/// Whether every implementation gives the one correctly rounded result.
fn is_exact(function: Scalar) -> bool {
    use Scalar::{Add, Ceil, Div, Floor, Mul, Reciprocal, Round, Sqrt, Sub, Trunc};
    match function {
        Add | Sub | Mul | Div | Sqrt | Reciprocal | Floor | Ceil | Round | Trunc => true,
        _ => function.class() != Class::Real,
    }
}

impl Accuracy {
    /// How far from `expected` a number of this type may be.
    fn slack(self, dtype: DType, expected: f64) -> f64 {
        let (epsilon, smallest) = unit(dtype);
        // At most twice a unit in the last place of the number, and never less than one.
        let last_place = |x: f64| epsilon * x.abs();
        match self {
            _ if !dtype.is_float() => 0.0,
            Accuracy::Bits | Accuracy::Exact => 0.0,
            Accuracy::Function(function) if is_exact(function) => 0.0,
            Accuracy::Function(function) => {
                let units = if dtype.size() == 2 { 1.0 } else { 6.0 };
                let size = match function {
                    Scalar::Digamma | Scalar::Polygamma => expected.abs().max(1.0),
                    _ => expected,
                };
                units * last_place(size) + smallest
            }
            Accuracy::Sum { terms, scale } => {
                let (accumulator, _) = unit(dtype.accumulator());
                (terms + 8) as f64 * scale * accumulator + 2.0 * last_place(expected) + smallest
            }
            Accuracy::Rows { points, scale } => {
                let sum = Accuracy::Sum {
                    terms: points,
                    scale,
                };
                sum.slack(dtype, expected) + 16.0 * scale * epsilon
            }
        }
    }

    /// The first element that is too far off, if there is one.
    pub(crate) fn compare(self, dtype: DType, got: &[u8], expected: &[u8]) -> Result<(), String> {
        if got == expected {
            return Ok(());
        }
        let numbers = (decode(dtype, got), decode(dtype, expected));
        let bytes = got.chunks(dtype.size()).zip(expected.chunks(dtype.size()));
        let pairs = numbers.0.iter().zip(&numbers.1);
        for (i, ((&g, &e), (got, expected))) in pairs.zip(bytes).enumerate() {
            let same = match self {
                Accuracy::Bits => false,
                _ if dtype.is_float() => g == e || g.is_nan() && e.is_nan(),
                _ => false,
            };
            let near = dtype.is_float() && (g - e).abs() <= self.slack(dtype, e);
            if got != expected
                && !same
                && !(near && e.is_finite() && !matches!(self, Accuracy::Bits))
            {
                return Err(format!("element {i} is {g}, not {e}"));
            }
        }
        Ok(())
    }
}
