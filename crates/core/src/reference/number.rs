//! Numbers of any element type, and their way to and from bytes.

use half::{bf16, f16};

use crate::{DType, Element, Scalar, Shape, TensorType};

/// A value of any element type.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Number {
    /// A floating-point number.
    Real(f64),
    /// An integer, or a truth value as 0 or 1.
    Whole(i64),
}

impl Number {
    /// As `f64`.
    #[must_use]
    pub fn real(self) -> f64 {
        match self {
            Number::Real(x) => x,
            Number::Whole(i) => i as f64,
        }
    }

    /// As `i64`: reals are cut off towards zero and saturate.
    #[must_use]
    pub fn whole(self) -> i64 {
        match self {
            Number::Real(x) => x as i64,
            Number::Whole(i) => i,
        }
    }

    /// The product, of whole numbers wrapping.
    pub(super) fn product(self, other: Number) -> Number {
        match (self, other) {
            (Number::Whole(a), Number::Whole(b)) => Number::Whole(a.wrapping_mul(b)),
            (a, b) => Number::Real(a.real() * b.real()),
        }
    }

    /// The nearest number that `dtype` has. Integers wrap; reals to integers are cut off towards
    /// zero and saturate; to truth values: whether it is not zero.
    #[must_use]
    pub fn round(self, dtype: DType) -> Number {
        match (dtype, self) {
            (DType::F64, x) => Number::Real(x.real()),
            (DType::F32, Number::Whole(i)) => Number::Real(f64::from(i as f32)),
            (DType::F32, x) => Number::Real(f64::from(x.real() as f32)),
            (DType::F16, x) => Number::Real(f16::from_f64(x.real()).to_f64()),
            (DType::BF16, x) => Number::Real(bf16::from_f64(x.real()).to_f64()),
            (DType::I32, Number::Real(x)) => Number::Whole(i64::from(x as i32)),
            (DType::I32, Number::Whole(i)) => Number::Whole(i64::from(i as i32)),
            (DType::U8, Number::Real(x)) => Number::Whole(i64::from(x as u8)),
            (DType::U8, Number::Whole(i)) => Number::Whole(i64::from(i as u8)),
            (DType::I64, x) => Number::Whole(x.whole()),
            (DType::Bool, x) => Number::Whole(i64::from(x.real() != 0.0)),
        }
    }

    /// Applies a function to operands of one type, giving `dtype`.
    #[must_use]
    pub fn apply(function: Scalar, operands: &[Number], dtype: DType) -> Number {
        let mut whole = [0; 3];
        let mut real = [0.0; 3];
        for (k, x) in operands.iter().enumerate() {
            (whole[k], real[k]) = (x.whole(), x.real());
        }
        let integers = operands.iter().all(|x| matches!(x, Number::Whole(_)));
        let exact = if integers {
            function.eval_int(&whole[..operands.len()])
        } else {
            None
        };
        let value = match (exact, function, operands) {
            (Some(i), ..) => Number::Whole(i),
            (None, Scalar::Where, [c, a, b]) => {
                if c.whole() != 0 {
                    *a
                } else {
                    *b
                }
            }
            _ => Number::Real(function.eval(&real[..operands.len()])),
        };
        value.round(dtype)
    }
}

/// All points of a shape, in row-major order.
pub(super) fn points(shape: Shape) -> impl Iterator<Item = Vec<usize>> {
    let sizes = shape.sizes().to_vec();
    let mut next = Some(vec![0; sizes.len()]).filter(|_| shape.count() > 0);
    std::iter::from_fn(move || {
        let point = next.take()?;
        let mut after = point.clone();
        for axis in (0..sizes.len()).rev() {
            after[axis] += 1;
            if after[axis] < sizes[axis] {
                next = Some(after);
                break;
            }
            after[axis] = 0;
        }
        Some(point)
    })
}

fn positions(tensor: &TensorType) -> Box<dyn Iterator<Item = usize> + '_> {
    if tensor.layout.is_dense() {
        return Box::new(0..tensor.shape.count());
    }
    Box::new(points(tensor.shape).map(|point| tensor.layout.position(&tensor.shape, &point)))
}

/// The elements of a tensor in row-major order, whatever its layout.
pub(super) fn unpack(tensor: &TensorType, bytes: &[u8]) -> Vec<Number> {
    fn element<T: Element>(bytes: &[u8]) -> T {
        let mut value = [T::default()];
        T::copy_from_bytes(&mut value, bytes);
        value[0]
    }
    let size = tensor.dtype.size();
    positions(tensor)
        .map(|position| {
            let bytes = &bytes[position * size..(position + 1) * size];
            match tensor.dtype {
                DType::F32 => Number::Real(f64::from(element::<f32>(bytes))),
                DType::F64 => Number::Real(element(bytes)),
                DType::F16 => Number::Real(element::<f16>(bytes).to_f64()),
                DType::BF16 => Number::Real(element::<bf16>(bytes).to_f64()),
                DType::I32 => Number::Whole(i64::from(element::<i32>(bytes))),
                DType::I64 => Number::Whole(element(bytes)),
                DType::U8 | DType::Bool => Number::Whole(i64::from(bytes[0])),
            }
        })
        .collect()
}

/// Writes elements given in row-major order.
pub(super) fn pack(tensor: &TensorType, numbers: &[Number], bytes: &mut [u8]) {
    fn put<T: Element>(value: T, bytes: &mut [u8]) {
        bytes.copy_from_slice(T::bytes(&[value]));
    }
    let size = tensor.dtype.size();
    for (position, number) in positions(tensor).zip(numbers) {
        let bytes = &mut bytes[position * size..(position + 1) * size];
        match tensor.dtype {
            DType::F32 => put(number.real() as f32, bytes),
            DType::F64 => put(number.real(), bytes),
            DType::F16 => put(f16::from_f64(number.real()), bytes),
            DType::BF16 => put(bf16::from_f64(number.real()), bytes),
            DType::I32 => put(number.whole() as i32, bytes),
            DType::I64 => put(number.whole(), bytes),
            DType::U8 | DType::Bool => bytes[0] = number.whole() as u8,
        }
    }
}
