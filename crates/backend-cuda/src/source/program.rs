//! Programs as statements of CUDA C: one constant for each register.

use std::fmt::Write;

use backprop_core::{Class, DType, Inst, Number, Program, Reduction, Register, Scalar};

use super::{rounded, value};

/// What a program finds at a point.
pub(crate) trait Point {
    /// The value of an input.
    fn input(&self, input: usize) -> String;
    /// The coordinate along an axis.
    fn coordinate(&self, axis: usize) -> String;
    /// The name of a register.
    fn register(&self, register: Register) -> String {
        format!("v{}", register.0)
    }
}

/// One statement for each instruction that `wanted` picks.
pub(crate) fn statements(
    program: &Program,
    point: &dyn Point,
    wanted: &dyn Fn(Register) -> bool,
) -> String {
    let mut text = String::new();
    for (i, (inst, dtype)) in program.code().iter().enumerate() {
        let register = Register(i as u16);
        if !wanted(register) {
            continue;
        }
        let value_type = value(*dtype);
        let name = point.register(register);
        let expression = expression(program, point, (inst, *dtype));
        let _ = writeln!(text, "const {value_type} {name} = {expression};");
    }
    text
}

/// The value of an instruction. A row reduction is whatever its owner makes of it.
fn expression(program: &Program, point: &dyn Point, (inst, dtype): (&Inst, DType)) -> String {
    let type_of = |register: Register| program.dtype(register).unwrap_or(dtype);
    match *inst {
        Inst::Input(i) => point.input(usize::from(i)),
        Inst::Constant(bits) => constant(f64::from_bits(bits), dtype),
        Inst::Coordinate(axis) => format!("(long long)({})", point.coordinate(usize::from(axis))),
        Inst::Cast(operand) => cast(&point.register(operand), type_of(operand), dtype),
        Inst::Reduce(_, operand) => point.register(operand),
        Inst::Apply(function, _) => {
            let operands = inst.operands();
            let names: Vec<String> = operands.iter().map(|&r| point.register(r)).collect();
            let last = operands.last().map_or(dtype, |&r| type_of(r));
            rounded(dtype, &apply(function, &names, last))
        }
    }
}

/// A number as a literal of a type.
pub(crate) fn constant(number: f64, dtype: DType) -> String {
    match Number::Real(number).round(dtype) {
        Number::Whole(i) if dtype == DType::Bool => (i != 0).to_string(),
        // The lowest one has no literal of its own.
        Number::Whole(i64::MIN) => "(-9223372036854775807ll - 1)".to_owned(),
        Number::Whole(i) if dtype == DType::I64 => format!("{i}ll"),
        Number::Whole(i) if i == i64::from(i32::MIN) => "(-2147483647 - 1)".to_owned(),
        Number::Whole(i) => format!("({}){i}", value(dtype)),
        Number::Real(x) if dtype == DType::F64 && x.is_finite() => format!("{x:?}"),
        Number::Real(x) if dtype == DType::F64 => {
            format!("__longlong_as_double({:#x}ll)", x.to_bits())
        }
        Number::Real(x) if x.is_finite() => format!("{:?}f", x as f32),
        Number::Real(x) => format!("__int_as_float({:#x})", (x as f32).to_bits()),
    }
}

/// A function of the scalar table on operands of a type.
fn apply(function: Scalar, operands: &[String], dtype: DType) -> String {
    let template = match function.class() {
        Class::Arithmetic if !dtype.is_float() => whole(function, dtype),
        // That of floats loses digits near its zeros.
        Class::Real if function == Scalar::Lgamma && dtype != DType::F64 => {
            Some("(float)lgamma((double){0})".to_owned())
        }
        _ => None,
    };
    let mut text = template.unwrap_or_else(|| function.cuda().to_owned());
    for (i, operand) in operands.iter().enumerate() {
        text = text.replace(&format!("{{{i}}}"), operand);
    }
    text
}

/// The spelling on integers, where that of reals would not wrap, or divide by zero.
fn whole(function: Scalar, dtype: DType) -> Option<String> {
    let unsigned = match dtype {
        DType::I64 => "unsigned long long",
        _ => "unsigned",
    };
    let wrapping = |a: &str, operator: &str, b: &str| {
        let value = value(dtype);
        Some(format!(
            "({value})(({unsigned}){a} {operator} ({unsigned}){b})"
        ))
    };
    match function {
        Scalar::Neg => wrapping("0", "-", "{0}"),
        Scalar::Abs => Some(format!(
            "({{0}} < 0 ? ({})(0 - ({unsigned}){{0}}) : {{0}})",
            value(dtype)
        )),
        Scalar::Add => wrapping("{0}", "+", "{1}"),
        Scalar::Sub => wrapping("{0}", "-", "{1}"),
        Scalar::Mul => wrapping("{0}", "*", "{1}"),
        Scalar::Square => wrapping("{0}", "*", "{0}"),
        Scalar::Div => Some("bp_quotient({0}, {1})".to_owned()),
        Scalar::Rem => Some("bp_remainder({0}, {1})".to_owned()),
        _ => None,
    }
}

/// The conversion of a value, as [`Number::round`] says.
pub(crate) fn cast(given: &str, from: DType, to: DType) -> String {
    match to {
        _ if from == to => given.to_owned(),
        DType::Bool => format!("({given} != 0)"),
        DType::I32 if from.is_float() => format!("bp_to_i32({given})"),
        DType::I64 if from.is_float() => format!("bp_to_i64({given})"),
        DType::U8 if from.is_float() => format!("bp_to_u8({given})"),
        DType::F16 | DType::BF16 if from == DType::F64 || from.is_integer() => {
            rounded(to, &format!("bp_to_odd((double)({given}))"))
        }
        DType::F16 | DType::BF16 => rounded(to, &format!("(float)({given})")),
        _ => format!("({})({given})", value(to)),
    }
}

/// What a reduction of a type starts from.
pub(crate) fn start(reduction: Reduction, dtype: DType) -> String {
    match reduction {
        Reduction::Sum => constant(0.0, dtype),
        Reduction::Max => constant(lowest(dtype), dtype),
        Reduction::Min if dtype == DType::I64 => "9223372036854775807ll".to_owned(),
        Reduction::Min => constant(highest(dtype), dtype),
    }
}

fn lowest(dtype: DType) -> f64 {
    match dtype {
        DType::I32 => f64::from(i32::MIN),
        DType::I64 => i64::MIN as f64,
        DType::U8 | DType::Bool => 0.0,
        _ => f64::NEG_INFINITY,
    }
}

fn highest(dtype: DType) -> f64 {
    match dtype {
        DType::I32 => f64::from(i32::MAX),
        DType::U8 => 255.0,
        DType::Bool => 1.0,
        _ => f64::INFINITY,
    }
}

/// The reduction of a total and one more value.
pub(crate) fn reduce(reduction: Reduction, total: &str, next: &str, dtype: DType) -> String {
    let names = [total.to_owned(), next.to_owned()];
    let function = match reduction {
        Reduction::Sum => Scalar::Add,
        Reduction::Max => Scalar::Max,
        Reduction::Min => Scalar::Min,
    };
    apply(function, &names, dtype)
}
