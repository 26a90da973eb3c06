//! Counter-based random numbers.

use std::fmt;

use super::{Check, TensorType, ensure};
use crate::DType;

/// Uniform random numbers in `[0, 1)` by [`philox`](crate::philox) 4x32-10, the same on every
/// backend.
///
/// Reads a key of two `i64`: a seed and a stream number. Element `i` of an `f32` tensor is the top
/// 24 bits of word `i % 4` of block `i / 4`; of an `f64` tensor, the top 53 bits of the words
/// `2 (i % 2)` (low) and `2 (i % 2) + 1` (high) of block `i / 2`. A block is `philox` of the seed
/// and the counter `[block low, block high, stream low, stream high]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Random {
    /// The key: `i64[2]`.
    pub key: TensorType,
    /// What is written: `f32` or `f64`, dense.
    pub output: TensorType,
}

impl Random {
    pub(super) fn check(&self) -> Check {
        let key = self.key.dtype == DType::I64 && self.key.shape.count() == 2;
        ensure(key, || format!("a key of {}", self.key))?;
        let output = matches!(self.output.dtype, DType::F32 | DType::F64);
        ensure(output && self.output.layout.is_dense(), || {
            format!("uniform numbers as {}", self.output)
        })
    }
}

impl fmt::Display for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.output)
    }
}
