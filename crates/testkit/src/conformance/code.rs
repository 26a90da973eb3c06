//! Short ways to write specs.

use backprop_core::{
    Axes, Body, Concat, DType, Inst, Output, Primitive, Program, Reduction, Register, Rows, Scalar,
    Shape, Sink, Source, Sweep, TensorType, View,
};

pub(crate) fn shape(sizes: &[usize]) -> Shape {
    sizes.iter().copied().collect()
}

pub(crate) fn tensor(dtype: DType, sizes: &[usize]) -> TensorType {
    TensorType::dense(dtype, shape(sizes))
}

pub(crate) fn dense(dtype: DType, sizes: &[usize]) -> Source {
    Source::dense(tensor(dtype, sizes))
}

/// A tensor of these sizes, seen through a view of its elements in order.
pub(crate) fn seen(dtype: DType, sizes: &[usize], view: impl FnOnce(View) -> View) -> Source {
    Source {
        tensor: tensor(dtype, sizes),
        view: view(View::dense(shape(sizes))),
    }
}

/// A way to store a tensor of given sizes.
pub(crate) type Stored<'a> = &'a dyn Fn(&[usize]) -> Source;

pub(crate) fn axes(list: &[usize]) -> Axes {
    list.iter().copied().collect()
}

/// A program under construction. What does not fit gives a register that no program has, so that
/// the spec's own check refuses it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Code {
    program: Program,
    outputs: Vec<Output>,
}

impl Code {
    pub(crate) fn push(&mut self, inst: Inst, dtype: DType) -> Register {
        self.program.push(inst, dtype).unwrap_or(Register(u16::MAX))
    }

    pub(crate) fn input(&mut self, input: usize, dtype: DType) -> Register {
        self.push(Inst::Input(input as u16), dtype)
    }

    pub(crate) fn constant(&mut self, value: f64, dtype: DType) -> Register {
        self.push(Inst::Constant(value.to_bits()), dtype)
    }

    pub(crate) fn coordinate(&mut self, axis: u8) -> Register {
        self.push(Inst::Coordinate(axis), DType::I64)
    }

    pub(crate) fn cast(&mut self, register: Register, dtype: DType) -> Register {
        self.push(Inst::Cast(register), dtype)
    }

    fn dtype(&self, register: Register) -> DType {
        self.program.dtype(register).unwrap_or(DType::F32)
    }

    pub(crate) fn apply(&mut self, function: Scalar, operands: &[Register]) -> Register {
        let types: Vec<DType> = operands.iter().map(|&r| self.dtype(r)).collect();
        let mut registers = [operands[0]; 3];
        registers[..operands.len()].copy_from_slice(operands);
        let dtype = function.result(&types).unwrap_or(types[0]);
        self.push(Inst::Apply(function, registers), dtype)
    }

    /// The reduction of a row.
    pub(crate) fn row(&mut self, reduction: Reduction, register: Register) -> Register {
        let dtype = self.dtype(register);
        self.push(Inst::Reduce(reduction, register), dtype)
    }

    pub(crate) fn store(&mut self, register: Register, sizes: &[usize]) -> &mut Code {
        self.output(register, Sink::Store, shape(sizes))
    }

    /// Stores registers beside each other along an axis of a space.
    pub(crate) fn concat(
        &mut self,
        registers: &[Register],
        (space, axis): (&[usize], usize),
    ) -> &mut Code {
        let mut whole = space.to_vec();
        whole[axis] *= registers.len();
        let sink = Concat::new(axis, &registers[1..]).map_or(Sink::Store, Sink::Concat);
        self.output(registers[0], sink, shape(&whole))
    }

    /// Reduces over axes of a space.
    pub(crate) fn reduce(
        &mut self,
        reduction: Reduction,
        register: Register,
        (space, axes): (&[usize], Axes),
    ) -> &mut Code {
        let kept = shape(space).without(axes);
        self.output(register, Sink::Reduce(reduction, axes), kept)
    }

    fn output(&mut self, register: Register, sink: Sink, shape: Shape) -> &mut Code {
        let tensor = TensorType::dense(self.dtype(register), shape);
        self.outputs.push(Output {
            register,
            sink,
            tensor,
        });
        self
    }

    pub(crate) fn program(self) -> Program {
        self.program
    }

    pub(crate) fn body(self, inputs: Vec<Source>) -> Body {
        Body {
            inputs,
            program: self.program,
            outputs: self.outputs,
        }
    }

    pub(crate) fn sweep(self, space: &[usize], inputs: Vec<Source>) -> Primitive {
        Primitive::Sweep(Sweep {
            space: shape(space),
            body: self.body(inputs),
        })
    }

    pub(crate) fn rows(self, space: &[usize], axes: Axes, inputs: Vec<Source>) -> Primitive {
        Primitive::Rows(Rows {
            space: shape(space),
            axes,
            body: self.body(inputs),
        })
    }
}
