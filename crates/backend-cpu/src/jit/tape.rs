//! Records of computations.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::marker::PhantomData;

use super::Encoding;
use crate::simd::{Float, Float32, Mask};

/// The result of an operation, named by its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Value(u32);

impl Value {
    pub(crate) fn at(operation: usize) -> Value {
        Value(operation as u32)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The lanes of all registers of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// Of 32 bits.
    Single,
    /// Of 64 bits.
    Double,
}

impl Width {
    /// Bytes of a lane.
    pub(crate) fn size(self) -> usize {
        match self {
            Width::Single => 4,
            Width::Double => 8,
        }
    }
}

/// An operation of two operands, lane by lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Two {
    Add,
    Sub,
    Mul,
    Div,
    /// The second operand if either is NaN, or if they are equal.
    Max,
    Min,
    And,
    /// The bits of the second operand that the first has not.
    AndNot,
    Or,
    Xor,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    AddWhole,
    SubWhole,
    /// The first times two to the power of the second, an integral f32; with [`Encoding::Evex`] only.
    Scale,
}

/// An operation of one operand, lane by lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum One {
    Sqrt,
    Floor,
    Ceil,
    /// To the nearest integer, ties to even.
    Round,
    Trunc,
    /// From f32 to the nearest i32.
    ToWhole,
    FromWhole,
    ShiftLeft(u8),
    ShiftRight(u8),
    /// Shifts sign bits in.
    ShiftRightSigned(u8),
    /// The part of a positive f32 that is not a power of two, in [1, 2); with [`Encoding::Evex`] only.
    Mantissa,
    /// The exponent of the power of two, as an f32; with [`Encoding::Evex`] only.
    Exponent,
}

/// One entry of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    /// Nothing: what has been taken back.
    Nothing,
    /// These bits in every lane.
    Constant(u64),
    /// What one stream has for all points: a register's worth of equal elements.
    Uniform(u32),
    /// The elements of a stream.
    Load(u32),
    /// All bits of a lane where a byte of the stream is not zero.
    LoadTruths(u32),
    One(One, Value),
    Two(Two, Value, Value),
    /// The first times the second plus the third, rounded once.
    Fma([Value; 3]),
    /// By the mask the second or, where it is false, the third.
    Blend([Value; 3]),
    Store(u32, Value),
    /// Writes bytes, 1 where the mask is true.
    StoreTruths(u32, Value),
}

impl Op {
    /// The values read; those beyond the first ones are `None`.
    pub(crate) fn operands(&self) -> [Option<Value>; 3] {
        let mut op = *self;
        op.operands_mut().map(|operand| operand.copied())
    }

    /// The same, to be changed.
    pub(crate) fn operands_mut(&mut self) -> [Option<&mut Value>; 3] {
        match self {
            Op::Nothing | Op::Constant(_) | Op::Uniform(_) | Op::Load(_) | Op::LoadTruths(_) => {
                [None, None, None]
            }
            Op::One(_, a) | Op::Store(_, a) | Op::StoreTruths(_, a) => [Some(a), None, None],
            Op::Two(_, a, b) => [Some(a), Some(b), None],
            Op::Fma(all) | Op::Blend(all) => all.each_mut().map(Some),
        }
    }

    /// The stream that the operation goes to, and where its number stands.
    pub(crate) fn stream_mut(&mut self) -> Option<&mut u32> {
        match self {
            Op::Uniform(stream)
            | Op::Load(stream)
            | Op::LoadTruths(stream)
            | Op::Store(stream, _)
            | Op::StoreTruths(stream, _) => Some(stream),
            _ => None,
        }
    }

    /// Whether the value is the same for all points, and lies in memory.
    pub(crate) fn is_level(&self) -> bool {
        matches!(self, Op::Constant(_) | Op::Uniform(_))
    }

    pub(crate) fn is_store(&self) -> bool {
        matches!(self, Op::Store(..) | Op::StoreTruths(..))
    }
}

/// A computation that is being written down. What is the same is written once.
#[derive(Debug)]
pub(crate) struct Tape {
    encoding: Encoding,
    width: Width,
    ops: RefCell<Vec<Op>>,
    known: RefCell<HashMap<Op, Value>>,
    /// Whether a function wanted what a record cannot give, such as a look at a value.
    refused: Cell<bool>,
}

impl Tape {
    pub(crate) fn new(encoding: Encoding, width: Width) -> Tape {
        Tape {
            encoding,
            width,
            ops: RefCell::default(),
            known: RefCell::default(),
            refused: Cell::new(false),
        }
    }

    pub(crate) fn width(&self) -> Width {
        self.width
    }

    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Points that a register holds.
    pub(crate) fn lanes(&self) -> usize {
        self.encoding.bytes() / self.width.size()
    }

    pub(crate) fn ops(&self) -> std::cell::Ref<'_, Vec<Op>> {
        self.ops.borrow()
    }

    pub(crate) fn ops_mut(&mut self) -> &mut Vec<Op> {
        self.ops.get_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.ops.borrow().len()
    }

    /// Whether something could not be recorded since this was asked last.
    pub(crate) fn take_refused(&self) -> bool {
        self.refused.take()
    }

    /// Forgets what came after the first `len` operations.
    pub(crate) fn truncate(&self, len: usize) {
        self.ops.borrow_mut().truncate(len);
        self.known
            .borrow_mut()
            .retain(|_, value| value.index() < len);
    }

    /// Writes an operation down. One that only computes has the value it had before.
    pub(crate) fn push(&self, op: Op) -> Value {
        let mut ops = self.ops.borrow_mut();
        let next = Value(ops.len() as u32);
        let pure = !op.is_store() && !matches!(op, Op::Load(_) | Op::LoadTruths(_));
        if pure {
            let mut known = self.known.borrow_mut();
            let value = *known.entry(op).or_insert(next);
            if value != next {
                return value;
            }
        }
        ops.push(op);
        next
    }

    fn two(&self, two: Two, a: Value, b: Value) -> Value {
        self.push(Op::Two(two, a, b))
    }

    fn one(&self, one: One, a: Value) -> Value {
        self.push(Op::One(one, a))
    }

    /// All bits of every lane, or none.
    pub(crate) fn truth(&self, truth: bool) -> Value {
        self.push(Op::Constant(if truth { u64::MAX } else { 0 }))
    }
}

/// The bits of a lane.
pub(crate) trait Bits: Copy {
    fn bits(self) -> u64;
}

impl Bits for f32 {
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Bits for f64 {
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// A number of a computation that is recorded.
#[derive(Debug)]
pub(crate) struct Traced<'a, T> {
    tape: &'a Tape,
    value: Value,
    element: PhantomData<T>,
}

impl<T> Clone for Traced<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Traced<'_, T> {}

/// A truth value of a computation that is recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Condition<'a> {
    tape: &'a Tape,
    value: Value,
}

impl<'a> Condition<'a> {
    pub(crate) fn new(tape: &'a Tape, value: Value) -> Self {
        Condition { tape, value }
    }

    pub(crate) fn value(self) -> Value {
        self.value
    }

    pub(crate) fn not(self) -> Self {
        let value = self.tape.two(Two::Xor, self.value, self.tape.truth(true));
        Condition { value, ..self }
    }

    /// 1 where true, else 0.
    pub(crate) fn number<T: Bits + From<f32>>(self) -> Traced<'a, T> {
        let one = self.tape.push(Op::Constant(T::from(1.0).bits()));
        Traced::new(self.tape, self.tape.two(Two::And, self.value, one))
    }
}

impl Mask for Condition<'_> {
    fn and(self, other: Self) -> Self {
        let value = self.tape.two(Two::And, self.value, other.value);
        Condition { value, ..self }
    }

    fn or(self, other: Self) -> Self {
        let value = self.tape.two(Two::Or, self.value, other.value);
        Condition { value, ..self }
    }

    fn any(self) -> bool {
        self.tape.refused.set(true);
        false
    }
}

impl<'a, T> Traced<'a, T> {
    pub(crate) fn new(tape: &'a Tape, value: Value) -> Self {
        Traced {
            tape,
            value,
            element: PhantomData,
        }
    }

    pub(crate) fn value(self) -> Value {
        self.value
    }

    fn with(self, value: Value) -> Self {
        Traced { value, ..self }
    }

    fn one(self, one: One) -> Self {
        self.with(self.tape.one(one, self.value))
    }

    fn two(self, two: Two, other: Self) -> Self {
        self.with(self.tape.two(two, self.value, other.value))
    }

    fn compare(self, two: Two, other: Self) -> Condition<'a> {
        Condition::new(self.tape, self.tape.two(two, self.value, other.value))
    }

    /// These bits in every lane.
    fn bits(self, bits: u64) -> Self {
        self.with(self.tape.push(Op::Constant(bits)))
    }
}

impl<'a, T: Bits + From<f32>> Float for Traced<'a, T> {
    type Element = T;
    type Mask = Condition<'a>;

    fn like(self, x: T) -> Self {
        self.bits(x.bits())
    }
    fn add(self, other: Self) -> Self {
        self.two(Two::Add, other)
    }
    fn sub(self, other: Self) -> Self {
        self.two(Two::Sub, other)
    }
    fn mul(self, other: Self) -> Self {
        self.two(Two::Mul, other)
    }
    fn div(self, other: Self) -> Self {
        self.two(Two::Div, other)
    }
    fn sqrt(self) -> Self {
        self.one(One::Sqrt)
    }
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        let operands = [self, factor, addend].map(|x| x.value);
        self.with(self.tape.push(Op::Fma(operands)))
    }
    fn neg(self) -> Self {
        self.two(Two::Xor, self.like((-0.0).into()))
    }
    fn abs(self) -> Self {
        self.like((-0.0).into()).two(Two::AndNot, self)
    }
    fn copysign(self, sign: Self) -> Self {
        let bit = self.like((-0.0).into());
        self.abs().two(Two::Or, bit.two(Two::And, sign))
    }
    fn floor(self) -> Self {
        self.one(One::Floor)
    }
    fn ceil(self) -> Self {
        self.one(One::Ceil)
    }
    fn round(self) -> Self {
        self.one(One::Round)
    }
    fn trunc(self) -> Self {
        self.one(One::Trunc)
    }
    fn max(self, other: Self) -> Self {
        Self::select(self.ne(self), self, self.two(Two::Max, other))
    }
    fn min(self, other: Self) -> Self {
        Self::select(self.ne(self), self, self.two(Two::Min, other))
    }
    fn at_least(self, limit: Self) -> Self {
        limit.two(Two::Max, self)
    }
    fn at_most(self, limit: Self) -> Self {
        limit.two(Two::Min, self)
    }
    fn lt(self, other: Self) -> Condition<'a> {
        self.compare(Two::Less, other)
    }
    fn le(self, other: Self) -> Condition<'a> {
        self.compare(Two::LessOrEqual, other)
    }
    fn equal(self, other: Self) -> Condition<'a> {
        self.compare(Two::Equal, other)
    }
    fn ne(self, other: Self) -> Condition<'a> {
        self.compare(Two::NotEqual, other)
    }
    fn select(mask: Condition<'a>, yes: Self, no: Self) -> Self {
        let operands = [mask.value, yes.value, no.value];
        yes.with(yes.tape.push(Op::Blend(operands)))
    }
}

/// `2^n` for integers `n` in [-126, 127].
fn power_of_two<'a>(n: Traced<'a, f32>) -> Traced<'a, f32> {
    n.two(Two::AddWhole, n.bits(127)).one(One::ShiftLeft(23))
}

impl Float32 for Traced<'_, f32> {
    fn by_lane(self, _: fn(f64) -> f64) -> Self {
        self.tape.refused.set(true);
        self
    }

    /// In two steps, of which the first is exact, where there is no instruction for it.
    fn scale(self, n: Self) -> Self {
        if self.tape.encoding == Encoding::Evex {
            return self.two(Two::Scale, n);
        }
        let n = n.at_least(self.like(-252.0)).at_most(self.like(254.0));
        let n = n.one(One::ToWhole);
        let half = n.one(One::ShiftRightSigned(1));
        let rest = n.two(Two::SubWhole, half);
        self.mul(power_of_two(half)).mul(power_of_two(rest))
    }

    fn power_of_two(self) -> Self {
        match self.tape.encoding {
            Encoding::Vex => power_of_two(self.one(One::ToWhole)),
            Encoding::Evex => self.like(1.0).scale(self),
        }
    }

    fn split(self) -> (Self, Self) {
        if self.tape.encoding == Encoding::Evex {
            return (self.one(One::Mantissa), self.one(One::Exponent));
        }
        let tiny = self.lt(self.like(f32::MIN_POSITIVE));
        let normal = Self::select(tiny, self.mul(self.like(8_388_608.0)), self);
        let biased = normal.one(One::ShiftRight(23)).one(One::FromWhole);
        let bias = Self::select(tiny, self.like(127.0 + 23.0), self.like(127.0));
        let fraction = normal.two(Two::And, self.bits(0x007f_ffff));
        let mantissa = fraction.two(Two::Or, self.bits(0x3f80_0000));
        (mantissa, biased.sub(bias))
    }
}
