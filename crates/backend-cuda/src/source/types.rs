//! Element types in CUDA C: in memory, and as values, where 16-bit floats are `float`.

use backprop_core::DType;

/// The type of an element in memory.
pub(crate) fn storage(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "bp_f16",
        DType::BF16 => "bp_bf16",
        DType::Bool => "unsigned char",
        _ => value(dtype),
    }
}

/// The type of a value in a register.
pub(crate) fn value(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "double",
        DType::I32 => "int",
        DType::I64 => "long long",
        DType::U8 => "unsigned char",
        DType::Bool => "bool",
        _ => "float",
    }
}

/// The value of an element.
pub(crate) fn load(dtype: DType, element: &str) -> String {
    match dtype {
        DType::F16 | DType::BF16 => format!("bp_value({element})"),
        DType::Bool => format!("({element} != 0)"),
        _ => element.to_owned(),
    }
}

/// The element that holds a value of its type; 16-bit floats are rounded.
pub(crate) fn store(dtype: DType, value: &str) -> String {
    match dtype {
        DType::F16 => format!("bp_to_f16({value})"),
        DType::BF16 => format!("bp_to_bf16({value})"),
        DType::Bool => format!("(unsigned char)({value})"),
        _ => value.to_owned(),
    }
}

/// A value rounded to its type, where the type of registers holds more.
pub(crate) fn rounded(dtype: DType, value: &str) -> String {
    match dtype {
        DType::F16 => format!("bp_value(bp_to_f16({value}))"),
        DType::BF16 => format!("bp_value(bp_to_bf16({value}))"),
        _ => value.to_owned(),
    }
}

/// The integer that counts this many elements.
pub(crate) fn index_type(count: usize) -> &'static str {
    // Kernels add a block's worth of threads to a count before they compare it.
    match count < (1 << 31) - (1 << 20) {
        true => "int",
        false => "long long",
    }
}
