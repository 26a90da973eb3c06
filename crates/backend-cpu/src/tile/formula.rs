//! What the loop of a step computes, said so that it can be recorded.

use backprop_core::{DType, Scalar};

use super::Lane;
use super::chain::Side;
use super::functions::{algebra_of, comparison_of, curve_of};
use crate::jit::{Bits, Condition, Tape, Traced, Value, Width};
use crate::simd::{Float, Mask};

/// A loop by its meaning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Formula {
    /// A function of operands of a type (that of the last one).
    Apply(Scalar, DType),
    /// An inner and an outer function of operands of a type.
    Pair((Scalar, Scalar), Side, DType),
    /// From a type to another one.
    Cast(DType, DType),
}

/// How a register of the record says what an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    /// All bits of a lane, or none.
    Truth,
}

impl Kind {
    fn of(dtype: DType) -> Kind {
        match dtype {
            DType::Bool => Kind::Truth,
            _ => Kind::Number,
        }
    }
}

/// The lanes of values of a type: `Some(None)` for truth values, which take on any, `None` for a type
/// that is not recorded.
fn width(dtype: DType) -> Option<Option<Width>> {
    match Lane::of(dtype) {
        _ if dtype == DType::Bool => Some(None),
        Lane::F32 => Some(Some(Width::Single)),
        Lane::F64 => Some(Some(Width::Double)),
        _ => None,
    }
}

impl Formula {
    /// The lanes of the record that this can be part of: `Some(None)` for any.
    pub(super) fn width(self) -> Option<Option<Width>> {
        match self {
            Formula::Apply(_, dtype) | Formula::Pair(_, _, dtype) => width(dtype),
            Formula::Cast(from, to) => match (width(from)?, width(to)?) {
                (from, None) => Some(from),
                (None, to) => Some(to),
                (from, to) => (from == to).then_some(from),
            },
        }
    }

    /// What the operands are, as many as there are.
    pub(super) fn operands(self) -> ([Kind; 3], usize) {
        match self {
            Formula::Apply(Scalar::Where, dtype) => {
                let kind = Kind::of(dtype);
                ([Kind::Truth, kind, kind], 3)
            }
            Formula::Apply(scalar, dtype) => ([Kind::of(dtype); 3], scalar.arity()),
            Formula::Pair((inner, outer), ..) => {
                let square = usize::from(inner == Scalar::Square);
                (
                    [Kind::Number; 3],
                    inner.arity() + square + outer.arity() - 1,
                )
            }
            Formula::Cast(from, _) => ([Kind::of(from); 3], 1),
        }
    }

    /// What the result is.
    pub(super) fn result(self) -> Kind {
        match self {
            Formula::Apply(scalar, dtype) => {
                use Scalar::{Eq, Ge, Gt, Le, Lt, Ne};
                match scalar {
                    Eq | Ne | Lt | Le | Gt | Ge => Kind::Truth,
                    _ => Kind::of(dtype),
                }
            }
            Formula::Pair(..) => Kind::Number,
            Formula::Cast(_, to) => Kind::of(to),
        }
    }

    /// Records the computation. `None` if it cannot be recorded; the record may have got longer.
    pub(super) fn record(self, tape: &Tape, operands: [Value; 3]) -> Option<Value> {
        let value = match tape.width() {
            Width::Single => self.with(tape, operands, single),
            Width::Double => self.with::<f64>(tape, operands, algebra_of),
        };
        value.filter(|_| !tape.take_refused())
    }

    fn with<'a, T: Bits + From<f32>>(
        self,
        tape: &'a Tape,
        operands: [Value; 3],
        function: impl Fn(Scalar, [Traced<'a, T>; 3]) -> Option<Traced<'a, T>>,
    ) -> Option<Value> {
        let x = operands.map(|value| Traced::<T>::new(tape, value));
        let truth = operands.map(|value| Condition::new(tape, value));
        match self {
            Formula::Apply(Scalar::Where, _) => Some(Traced::select(truth[0], x[1], x[2]).value()),
            Formula::Apply(scalar, DType::Bool) => match scalar {
                Scalar::And => Some(truth[0].and(truth[1]).value()),
                Scalar::Or => Some(truth[0].or(truth[1]).value()),
                Scalar::Not => Some(truth[0].not().value()),
                _ => None,
            },
            Formula::Apply(scalar, _) => comparison_of(scalar, x[0], x[1])
                .map(Condition::value)
                .or_else(|| function(scalar, x).map(Traced::value)),
            Formula::Pair((inner, outer), side, _) => {
                let square = usize::from(inner == Scalar::Square);
                let first = function(inner, x)?;
                let other = x[(inner.arity() + square).min(2)];
                let both = match side {
                    Side::Left => [first, other, other],
                    Side::Right => [other, first, first],
                };
                function(outer, both).map(Traced::value)
            }
            Formula::Cast(from, to) => match (from, to) {
                (DType::Bool, DType::Bool) => Some(operands[0]),
                (DType::Bool, _) => Some(truth[0].number::<T>().value()),
                (_, DType::Bool) => Some(x[0].ne(x[0].like(0.0.into())).value()),
                // All 16-bit values are f32 inside of a tile.
                _ => (from == to || to == DType::F32).then_some(operands[0]),
            },
        }
    }
}

/// A function of f32.
fn single<'a>(scalar: Scalar, x: [Traced<'a, f32>; 3]) -> Option<Traced<'a, f32>> {
    algebra_of(scalar, x).or_else(|| curve_of(scalar, x[0]))
}
