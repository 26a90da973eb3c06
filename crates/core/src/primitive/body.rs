//! The common part of every fused primitive: a program with its operands and results.

use std::{fmt, iter};

use super::{Check, TensorType, ensure};
use crate::{Axes, DType, Inst, MAX_RANK, Program, Register, Shape, View};

/// How many values become one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reduction {
    /// The sum; 0 over nothing. Summed in fixed blocks, whose sums are added in block order.
    Sum,
    /// The largest value; NaN if any is. Over nothing: the lowest value of the type.
    Max,
    /// The smallest value; NaN if any is. Over nothing: the highest value of the type.
    Min,
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reduction::Sum => "sum",
            Reduction::Max => "max",
            Reduction::Min => "min",
        })
    }
}

/// A tensor in memory and the view through which a kernel visits it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Source {
    /// What lies in memory.
    pub tensor: TensorType,
    /// The map from the kernel's index space to the tensor's elements (counted in row-major order
    /// of its shape, whatever its layout).
    pub view: View,
}

impl Source {
    /// A dense tensor visited in order.
    #[must_use]
    pub fn dense(tensor: TensorType) -> Source {
        let view = View::dense(tensor.shape);
        Source { tensor, view }
    }

    pub(super) fn check(&self, space: Shape) -> Check {
        ensure(self.view.shape == space, || {
            format!("a view of {} in a space of {space}", self.view.shape)
        })?;
        let inside = match self.view.bounds() {
            Some((_, high)) => high < self.tensor.shape.count(),
            None => space.count() == 0,
        };
        ensure(inside, || {
            format!("view {} leaves {}", self.view, self.tensor)
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.tensor)?;
        if !self.view.is_dense() || self.view.shape != self.tensor.shape {
            write!(f, " as {}", self.view)?;
        }
        Ok(())
    }
}

/// An operand of a contraction: a tensor, or a program over several (the prologue).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Operand {
    /// What is read, viewed from the operand's index space.
    pub inputs: Vec<Source>,
    /// The operand's value at each point: the program's last register.
    pub program: Program,
}

impl Operand {
    /// A tensor as it is.
    #[must_use]
    pub fn plain(source: Source) -> Operand {
        Operand {
            program: Program::identity(source.tensor.dtype),
            inputs: vec![source],
        }
    }

    /// The tensor, where there is no prologue.
    #[must_use]
    pub fn as_plain(&self) -> Option<&Source> {
        match (self.inputs.as_slice(), self.program.code()) {
            ([source], [(Inst::Input(0), dtype)]) if *dtype == source.tensor.dtype => Some(source),
            _ => None,
        }
    }

    pub(super) fn check(&self, space: Shape) -> Check {
        ensure(!self.program.is_empty(), || "an empty prologue".into())?;
        check_program(&self.program, &self.inputs, space, None)?;
        check_pointwise(&self.program)
    }
}

/// Where a result goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sink {
    /// Stored at every point of the space (in [`Rows`](super::Rows), a value per row is stored once
    /// a row, densely over the other axes).
    Store,
    /// Reduced over these axes, and stored densely over the others.
    Reduce(Reduction, Axes),
    /// Stored at every point of the space, with other registers beside it.
    Concat(Concat),
}

/// Registers that are stored beside another along an axis: what is written has the points of the
/// space once for each of them, one after the other along that axis.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Concat {
    axis: u8,
    count: u8,
    others: [Register; Concat::MOST - 1],
}

impl Concat {
    /// The most registers that one output stores, the first among them.
    pub const MOST: usize = 8;

    /// The registers after the first, in order; `None` where there are too many.
    #[must_use]
    pub fn new(axis: usize, others: &[Register]) -> Option<Concat> {
        let mut held = [Register(0); Concat::MOST - 1];
        held.get_mut(..others.len())?.copy_from_slice(others);
        Some(Concat {
            axis: u8::try_from(axis).ok()?,
            count: others.len() as u8,
            others: held,
        })
    }

    /// The registers after the first.
    #[must_use]
    pub fn others(&self) -> &[Register] {
        &self.others[..usize::from(self.count)]
    }

    /// The axis of the space along which they lie beside each other.
    #[must_use]
    pub fn axis(&self) -> usize {
        usize::from(self.axis)
    }
}

/// One result of a body.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Output {
    /// The register stored.
    pub register: Register,
    /// Where it goes.
    pub sink: Sink,
    /// What is written; its elements in row-major order are the stored points in order.
    pub tensor: TensorType,
}

impl Output {
    /// The registers stored: one, or several beside each other.
    pub fn registers(&self) -> impl Iterator<Item = Register> {
        let others = match &self.sink {
            Sink::Concat(concat) => concat.others(),
            Sink::Store | Sink::Reduce(..) => &[],
        };
        iter::once(self.register).chain(others.iter().copied())
    }

    /// Where the points of `space` lie in what is written, for the register with this number among
    /// [`Output::registers`]: in order, unless there are several.
    #[must_use]
    pub fn place(&self, space: Shape, number: usize) -> View {
        let Sink::Concat(concat) = &self.sink else {
            return View::dense(space);
        };
        let (axis, count) = (concat.axis(), self.registers().count());
        let size = |a: usize| space.size(a) * if a == axis { count } else { 1 };
        let whole: Shape = (0..space.rank()).map(size).collect();
        let mut start = [0; MAX_RANK];
        start[axis] = number * space.size(axis);
        View::dense(whole).slice(&start, &[1; MAX_RANK], space)
    }
}

/// A program with its inputs and outputs, over an index space that its owner knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Body {
    /// What is read, viewed from the index space.
    pub inputs: Vec<Source>,
    /// What is computed at each point.
    pub program: Program,
    /// What is written.
    pub outputs: Vec<Output>,
}

impl Body {
    /// Stores input 0 of the program as it is: the epilogue of a plain contraction.
    #[must_use]
    pub fn store(tensor: TensorType) -> Body {
        Body {
            inputs: Vec::new(),
            program: Program::identity(tensor.dtype),
            outputs: vec![Output {
                register: Register(0),
                sink: Sink::Store,
                tensor,
            }],
        }
    }

    /// Stores input 0, which is of type `accumulator`, rounded to the type of `tensor`.
    #[must_use]
    pub fn store_rounded(accumulator: DType, tensor: TensorType) -> Body {
        let mut program = Program::identity(accumulator);
        let rounded = match accumulator == tensor.dtype {
            true => None,
            false => program.push(Inst::Cast(Register(0)), tensor.dtype),
        };
        Body {
            inputs: Vec::new(),
            program,
            outputs: vec![Output {
                register: rounded.unwrap_or(Register(0)),
                sink: Sink::Store,
                tensor,
            }],
        }
    }

    /// Whether input 0 is stored as it is, or rounded to the result's type, and nothing else happens.
    #[must_use]
    pub fn is_store(&self) -> bool {
        self.inputs.is_empty()
            && self.program.functions().all(|name| name.starts_with("to_"))
            && self.outputs.len() == 1
            && self.outputs[0].sink == Sink::Store
    }

    pub(super) fn reads(&self) -> impl Iterator<Item = &TensorType> {
        self.inputs.iter().map(|input| &input.tensor)
    }

    pub(super) fn writes(&self) -> impl Iterator<Item = &TensorType> {
        self.outputs.iter().map(|output| &output.tensor)
    }

    pub(super) fn may_overwrite(&self, space: Shape, write: usize, read: usize) -> bool {
        let (Some(output), Some(input)) = (self.outputs.get(write), self.inputs.get(read)) else {
            return false;
        };
        output.sink == Sink::Store
            && input.view.is_dense()
            && input.tensor.dtype == output.tensor.dtype
            && input.tensor.layout == output.tensor.layout
            && output.tensor.shape.count() == space.count()
            && input.tensor.shape.count() == space.count()
    }

    /// Checks inputs, instructions and outputs. `accumulator` is the type of the program's input 0
    /// where that does not stand in `inputs`.
    pub(super) fn check(&self, space: Shape, accumulator: Option<DType>) -> Check {
        check_program(&self.program, &self.inputs, space, accumulator)?;
        ensure(!self.outputs.is_empty(), || "no output".into())?;
        for output in &self.outputs {
            for register in output.registers() {
                let dtype = self.program.dtype(register);
                ensure(dtype == Some(output.tensor.dtype), || {
                    format!("{register} stored as {}", output.tensor)
                })?;
            }
            match output.sink {
                Sink::Store => {}
                Sink::Reduce(_, axes) => check_axes(axes, space)?,
                Sink::Concat(concat) => check_axes([concat.axis()].into_iter().collect(), space)?,
            }
        }
        Ok(())
    }

    /// The same for a body without row reductions, with the sizes of its outputs.
    pub(super) fn check_pointwise(&self, space: Shape, accumulator: Option<DType>) -> Check {
        self.check(space, accumulator)?;
        check_pointwise(&self.program)?;
        self.check_counts(|output| match output.sink {
            Sink::Store => space.count(),
            Sink::Reduce(_, axes) => space.without(axes).count(),
            Sink::Concat(_) => space.count().saturating_mul(output.registers().count()),
        })
    }

    /// Checks that each stored tensor has as many elements as points are stored.
    pub(super) fn check_counts(&self, stored: impl Fn(&Output) -> usize) -> Check {
        self.outputs.iter().try_for_each(|output| {
            ensure(output.tensor.shape.count() == stored(output), || {
                format!("{} elements stored as {}", stored(output), output.tensor)
            })
        })
    }
}

/// Checks that a program finds inputs of its types, which stay inside of their tensors, and axes.
fn check_program(
    program: &Program,
    inputs: &[Source],
    space: Shape,
    accumulator: Option<DType>,
) -> Check {
    let types: Vec<DType> = accumulator
        .into_iter()
        .chain(inputs.iter().map(|input| input.tensor.dtype))
        .collect();
    for (inst, dtype) in program.code() {
        match *inst {
            Inst::Input(i) => ensure(types.get(usize::from(i)) == Some(dtype), || {
                format!("input {i} is missing or not {dtype}")
            })?,
            Inst::Coordinate(axis) => ensure(usize::from(axis) < space.rank(), || {
                format!("no axis {axis} in {space}")
            })?,
            _ => {}
        }
    }
    inputs.iter().try_for_each(|input| input.check(space))
}

/// Checks that every instruction belongs to one point.
fn check_pointwise(program: &Program) -> Check {
    let rows_only = |(inst, _): &(Inst, _)| matches!(inst, Inst::Reduce(..));
    ensure(!program.code().iter().any(rows_only), || {
        "a row reduction outside of rows".into()
    })
}

pub(super) fn check_axes(axes: Axes, space: Shape) -> Check {
    ensure(axes.iter().all(|axis| axis < space.rank()), || {
        format!("no axes {axes} in {space}")
    })
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions: Vec<String> = self.program.functions().collect();
        f.write_str(&functions.join(" "))?;
        let gap = if functions.is_empty() { "" } else { " " };
        for output in &self.outputs {
            match output.sink {
                Sink::Store => {}
                Sink::Reduce(reduction, axes) => write!(f, "{gap}{reduction} over {axes}")?,
                Sink::Concat(concat) => write!(f, "{gap}concat along {}", concat.axis())?,
            }
        }
        if f.alternate() {
            for (i, input) in self.inputs.iter().enumerate() {
                write!(f, "\n  input {i}: {input}")?;
            }
            write!(f, "\n{}", self.program)?;
            for output in &self.outputs {
                let registers: Vec<String> = output.registers().map(|r| r.to_string()).collect();
                writeln!(f, "  {} -> {}", registers.join(" "), output.tensor)?;
            }
        }
        Ok(())
    }
}
