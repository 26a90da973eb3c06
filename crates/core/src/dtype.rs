//! Element types. A type is a run-time value, never a parameter of graphs or tensors; the sealed
//! trait [`Element`] appears only where bytes cross the API.

use std::fmt;

use half::{bf16, f16};

/// The type of a tensor's elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DType {
    /// 32-bit floating point, the default of training.
    F32,
    /// 64-bit floating point.
    F64,
    /// 16-bit IEEE floating point; computed and accumulated in `f32`.
    F16,
    /// 16-bit "brain" floating point; computed and accumulated in `f32`.
    BF16,
    /// 32-bit signed integer; arithmetic wraps.
    I32,
    /// 64-bit signed integer; arithmetic wraps.
    I64,
    /// 8-bit unsigned integer; arithmetic wraps.
    U8,
    /// Truth value, stored as one byte that is 0 or 1.
    Bool,
}

impl DType {
    /// All element types.
    pub const ALL: [DType; 8] = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::Bool,
    ];

    /// The size of one element in bytes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            DType::U8 | DType::Bool => 1,
            DType::F16 | DType::BF16 => 2,
            DType::F32 | DType::I32 => 4,
            DType::F64 | DType::I64 => 8,
        }
    }

    /// Whether elements are real numbers, so that a gradient can flow through them.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
    }

    /// Whether elements are integers (truth values are not).
    #[must_use]
    pub const fn is_integer(self) -> bool {
        matches!(self, DType::I32 | DType::I64 | DType::U8)
    }

    /// The type in which sums of this type are accumulated: `f32` for the 16-bit floats.
    #[must_use]
    pub const fn accumulator(self) -> DType {
        match self {
            DType::F16 | DType::BF16 => DType::F32,
            other => other,
        }
    }

    /// The name, as in `f32`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::Bool => "bool",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that can be copied into and out of tensors.
///
/// Sealed: the set of element types is fixed by [`DType`]. Truth values cross as `u8` or `bool`.
pub trait Element: sealed::Sealed + Copy + Default + fmt::Debug + Send + Sync + 'static {
    /// The element type that this Rust type stands for.
    const DTYPE: DType;
    /// The bytes of a slice, in the machine's order.
    fn bytes(values: &[Self]) -> &[u8];
    /// Overwrites `values` with `bytes`, which are as many as `values` takes.
    fn copy_from_bytes(values: &mut [Self], bytes: &[u8]);
    /// The value as `f64` (integers beyond 2^53 are rounded).
    fn to_f64(self) -> f64;
    /// The value nearest to `value`; integers are cut off towards zero and saturate.
    fn from_f64(value: f64) -> Self;
}

macro_rules! element {
    ($($type:ty = $dtype:ident, |$value:ident| $to:expr, |$from:ident| $back:expr;)*) => { $(
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            fn bytes(values: &[Self]) -> &[u8] { bytemuck::cast_slice(values) }
            fn copy_from_bytes(values: &mut [Self], bytes: &[u8]) {
                bytemuck::cast_slice_mut::<Self, u8>(values).copy_from_slice(bytes);
            }
            fn to_f64(self) -> f64 { let $value = self; $to }
            fn from_f64($from: f64) -> Self { $back }
        }
    )* };
}
element! {
    f32 = F32, |v| f64::from(v), |v| v as f32;
    f64 = F64, |v| v, |v| v;
    f16 = F16, |v| v.to_f64(), |v| f16::from_f64(v);
    bf16 = BF16, |v| v.to_f64(), |v| bf16::from_f64(v);
    i32 = I32, |v| f64::from(v), |v| v as i32;
    i64 = I64, |v| v as f64, |v| v as i64;
    u8 = U8, |v| f64::from(v), |v| v as u8;
}

impl sealed::Sealed for bool {}
impl Element for bool {
    const DTYPE: DType = DType::Bool;
    fn bytes(values: &[Self]) -> &[u8] {
        bytemuck::cast_slice(values)
    }
    fn copy_from_bytes(values: &mut [Self], bytes: &[u8]) {
        for (value, byte) in values.iter_mut().zip(bytes) {
            *value = *byte != 0;
        }
    }
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
    fn from_f64(value: f64) -> Self {
        value != 0.0
    }
}
