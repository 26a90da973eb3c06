//! Counter-based random numbers: the bits of `core::philox`.

use std::fmt::Write;

use backprop_core::{DType, Primitive, Random};

use crate::lowered::{Launch, Lowered, THREADS, arguments};
use crate::source::{head, index_type, parameters};

/// A block of four words makes this many numbers.
fn numbers(dtype: DType) -> usize {
    match dtype {
        DType::F64 => 2,
        _ => 4,
    }
}

pub(crate) fn lower(spec: &Random) -> Lowered {
    let primitive = Primitive::Random(spec.clone());
    let (count, of) = (spec.output.shape.count(), numbers(spec.output.dtype));
    let number = match spec.output.dtype {
        DType::F64 => "bp_uniform_f64(words.at[2 * k], words.at[2 * k + 1])",
        _ => "bp_uniform_f32(words.at[k])",
    };
    let index = index_type(count);
    let mut text = head(&parameters(&primitive), THREADS);
    let _ = writeln!(
        text,
        "const {index} block = ({index})blockIdx.x * {THREADS} + threadIdx.x;\n\
         if (block >= {}) return;\n\
         const bp_pack<unsigned, 4> words = bp_philox(r0[0], r0[1], block);\n\
         for (int k = 0; k < {of} && block * {of} + k < {count}; ++k) w0[block * {of} + k] = {number};\n}}",
        count.div_ceil(of)
    );
    Lowered::one(Launch::each(
        &text,
        count.div_ceil(of),
        arguments(&primitive),
    ))
}
