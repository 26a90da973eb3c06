//! CUDA C, printed by pure functions: types, programs, and the addresses of operands.

mod address;
mod program;
mod types;

pub(crate) use address::{Fold, Operand, position};
pub(crate) use program::{Point, cast, constant, reduce, start, statements};
pub(crate) use types::{index_type, load, rounded, storage, store, value};

use std::fmt::Display;

use backprop_core::{Body, Primitive};

use crate::lowered::ENTRY;

/// The parameter list of a kernel over all operands of a primitive: `r0..`, then `w0..`. What a
/// write may overwrite is not promised to lie apart.
pub(crate) fn parameters(primitive: &Primitive) -> Vec<String> {
    let writes = primitive.writes();
    let reads = primitive.reads();
    let shared = |read: usize| (0..writes.len()).any(|w| primitive.may_overwrite(w, read));
    let read = |(i, tensor): (usize, &&backprop_core::TensorType)| {
        let apart = if shared(i) { "" } else { "__restrict__ " };
        format!("const {}* {apart}r{i}", storage(tensor.dtype))
    };
    let write = |(i, tensor): (usize, &&backprop_core::TensorType)| {
        format!("{}* w{i}", storage(tensor.dtype))
    };
    let reads = reads.iter().enumerate().map(read);
    reads.chain(writes.iter().enumerate().map(write)).collect()
}

/// The axes whose coordinates a body asks for.
pub(crate) fn coordinates(body: &Body) -> Vec<usize> {
    let code = body.program.code().iter();
    code.filter_map(|(inst, _)| match inst {
        backprop_core::Inst::Coordinate(axis) => Some(usize::from(*axis)),
        _ => None,
    })
    .collect()
}

/// The head of a kernel, which waits for the launch ahead of it.
pub(crate) fn head(parameters: &[String], threads: impl Display) -> String {
    signature(parameters, threads) + BEGIN
}

/// Waits for the launch ahead.
pub(crate) const BEGIN: &str = "BP_BEGIN();\n";

/// The head of a kernel that has yet to wait.
pub(crate) fn signature(parameters: &[String], threads: impl Display) -> String {
    let parameters = parameters.join(", ");
    format!("extern \"C\" __global__ void __launch_bounds__({threads}) {ENTRY}({parameters}) {{\n")
}
