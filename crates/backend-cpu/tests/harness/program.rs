//! Small programs to test with.

use backprop_core::{
    Axes, Body, DType, Inst, Output, Primitive, Program, Reduction, Register, Scalar, Shape, Sink,
    Source, Sweep, TensorType,
};

use super::tensor;

pub(crate) fn shape(sizes: &[usize]) -> Shape {
    Shape::new(sizes).unwrap()
}

/// A program under construction.
#[derive(Default)]
pub(crate) struct Code(pub(crate) Program);

impl Code {
    pub(crate) fn push(&mut self, inst: Inst, dtype: DType) -> Register {
        self.0.push(inst, dtype).unwrap()
    }
    pub(crate) fn input(&mut self, input: u16, dtype: DType) -> Register {
        self.push(Inst::Input(input), dtype)
    }
    pub(crate) fn constant(&mut self, value: f64, dtype: DType) -> Register {
        self.push(Inst::Constant(value.to_bits()), dtype)
    }
    /// A function of registers of one type (a choice by truth values apart).
    pub(crate) fn apply(&mut self, function: Scalar, operands: &[Register]) -> Register {
        let types: Vec<DType> = operands.iter().map(|&r| self.0.dtype(r).unwrap()).collect();
        let mut registers = [operands[0]; 3];
        registers[..operands.len()].copy_from_slice(operands);
        let dtype = function.result(&types).unwrap();
        self.push(Inst::Apply(function, registers), dtype)
    }
}

pub(crate) fn stored(register: Register, dtype: DType, sizes: &[usize]) -> Output {
    Output {
        register,
        sink: Sink::Store,
        tensor: tensor(dtype, sizes),
    }
}

pub(crate) fn reduced(
    register: Register,
    dtype: DType,
    reduction: Reduction,
    (space, axes): (Shape, Axes),
) -> Output {
    let tensor = TensorType::dense(dtype, space.without(axes));
    Output {
        register,
        sink: Sink::Reduce(reduction, axes),
        tensor,
    }
}

pub(crate) fn sweep(
    space: Shape,
    inputs: Vec<Source>,
    code: Code,
    outputs: Vec<Output>,
) -> Primitive {
    let body = Body {
        inputs,
        program: code.0,
        outputs,
    };
    Primitive::Sweep(Sweep { space, body })
}

pub(crate) fn dense(dtype: DType, sizes: &[usize]) -> Source {
    Source::dense(tensor(dtype, sizes))
}
