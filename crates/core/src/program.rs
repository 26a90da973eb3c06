//! Straight-line programs over one point of an index space: what a fused launch computes.

use std::fmt;

use crate::{DType, Reduction, Scalar};

/// The result of an instruction, named by its position.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Register(pub u16);

impl Register {
    /// The position of the instruction.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// One instruction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Inst {
    /// The value of an input at this point.
    Input(u16),
    /// A constant, as the bits of an `f64`.
    Constant(u64),
    /// The coordinate of this point along an axis.
    Coordinate(u8),
    /// A function of the scalar table; operands beyond its arity repeat the first.
    Apply(Scalar, [Register; 3]),
    /// Conversion to the instruction's type: rounded to nearest even between floats, cut off
    /// towards zero and saturated from floats to integers, 0 or 1 (is it not zero) to truth values.
    Cast(Register),
    /// The reduction of a row-valued register to one value a row. Only in [`Rows`](crate::Rows).
    Reduce(Reduction, Register),
}

impl Inst {
    /// The registers read.
    #[must_use]
    pub fn operands(&self) -> &[Register] {
        match self {
            Inst::Input(_) | Inst::Constant(_) | Inst::Coordinate(_) => &[],
            Inst::Apply(function, operands) => &operands[..function.arity()],
            Inst::Cast(operand) | Inst::Reduce(_, operand) => std::slice::from_ref(operand),
        }
    }
}

/// A straight-line program in single assignment form: instruction `i` defines register `i` from
/// registers below `i`. Each register has an element type; a value is rounded to that type when it
/// is defined, so that fused and separate launches give the same bits.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Program {
    code: Vec<(Inst, DType)>,
}

impl Program {
    /// The program that returns its only input, of type `dtype`.
    #[must_use]
    pub fn identity(dtype: DType) -> Program {
        Program {
            code: vec![(Inst::Input(0), dtype)],
        }
    }

    /// Appends an instruction whose result is of type `dtype`. `None` if the program is full (2^16
    /// instructions), an operand is not yet defined, or the types do not fit the instruction.
    pub fn push(&mut self, inst: Inst, dtype: DType) -> Option<Register> {
        let index = u16::try_from(self.code.len()).ok()?;
        let mut types = [DType::F32; 3];
        for (slot, operand) in types.iter_mut().zip(inst.operands()) {
            *slot = self.code.get(operand.index())?.1;
        }
        let fits = match inst {
            Inst::Apply(function, _) => function.result(&types[..function.arity()]) == Some(dtype),
            Inst::Reduce(..) => types[0] == dtype,
            Inst::Coordinate(_) => dtype == DType::I64,
            Inst::Input(_) | Inst::Constant(_) | Inst::Cast(_) => true,
        };
        fits.then(|| {
            self.code.push((inst, dtype));
            Register(index)
        })
    }

    /// The instructions with the types of their results.
    #[must_use]
    pub fn code(&self) -> &[(Inst, DType)] {
        &self.code
    }

    /// The number of instructions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.code.len()
    }

    /// Whether there is no instruction.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.code.is_empty()
    }

    /// The type of a register.
    #[must_use]
    pub fn dtype(&self, register: Register) -> Option<DType> {
        self.code.get(register.index()).map(|&(_, dtype)| dtype)
    }

    /// The names of the functions applied, in order, for a one-line description.
    pub fn functions(&self) -> impl Iterator<Item = String> {
        self.code.iter().filter_map(|(inst, dtype)| match inst {
            Inst::Apply(function, _) => Some(function.name()),
            Inst::Cast(_) => Some(format!("to_{dtype}")),
            Inst::Reduce(reduction, _) => Some(format!("row_{reduction}")),
            Inst::Input(_) | Inst::Constant(_) | Inst::Coordinate(_) => None,
        })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (inst, dtype)) in self.code.iter().enumerate() {
            write!(f, "  r{i}: {dtype} = ")?;
            match inst {
                Inst::Input(input) => writeln!(f, "input {input}")?,
                Inst::Constant(bits) => writeln!(f, "{}", f64::from_bits(*bits))?,
                Inst::Coordinate(axis) => writeln!(f, "coordinate {axis}")?,
                Inst::Apply(function, _) => {
                    write!(f, "{}", function.name())?;
                    for operand in inst.operands() {
                        write!(f, " {operand}")?;
                    }
                    writeln!(f)?;
                }
                Inst::Cast(operand) => writeln!(f, "cast {operand}")?,
                Inst::Reduce(reduction, operand) => writeln!(f, "row {reduction} {operand}")?,
            }
        }
        Ok(())
    }
}
