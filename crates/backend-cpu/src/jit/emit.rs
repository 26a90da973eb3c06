//! From a record to a loop in machine code.
//!
//! Operations keep their order. Registers are handed out on the way: where none is free, the value
//! that is wanted again last gives its one up, and waits in the stack frame if it has no other home.
//! Constants are read where they lie whenever an instruction can do so.

use super::abreast::{Abreast, most_abreast};
use super::encode::{Assembler, Memory, Opcode, POINTERS, RAX, Register, Source};
use super::tape::{One, Op, Tape, Two, Value, Width};
use super::{Encoding, masks};

/// Bytes of a frame, which the page that guards a stack must not be smaller than.
const FRAME: usize = 3840;

/// Where a value is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) register: Option<Register>,
    /// The mask register that it is in, if it is a truth value that can be in one.
    pub(super) mask: Option<Register>,
    /// Where it is besides, or instead.
    pub(super) home: Option<Memory>,
}

/// The body of a loop under construction.
pub(super) struct Emitter<'a> {
    pub(super) assembler: &'a mut Assembler,
    encoding: Encoding,
    pub(super) width: Width,
    pub(super) body: Abreast,
    /// Whether a value is a truth value in a mask register.
    pub(super) is_mask: Vec<bool>,
    /// For each value, the operations that read it, last one first.
    pub(super) uses: Vec<Vec<usize>>,
    pub(super) places: Vec<Place>,
    registers: Vec<Option<Value>>,
    pub(super) masks: [Option<Value>; masks::REGISTERS],
    /// Slots of the frame in use so far, and those given back.
    slots: u32,
    free: Vec<u32>,
}

/// The loop over the points of a record: several registers' worth at a time while there are as many,
/// then one. `None` if it has too many values.
pub(super) fn emit(tape: &Tape) -> Option<Vec<u8>> {
    let (encoding, width) = (tape.encoding(), tape.width());
    let ops = tape.ops();
    let mut assembler = Assembler::new(encoding);
    assembler.enter();
    let homes = prologue(&mut assembler, &ops, encoding);
    let mut slots = homes.len() as u32;
    let most = most_abreast(&ops, encoding.registers());
    for abreast in [most, 1].into_iter().take(most.min(2)) {
        let points = abreast * tape.lanes();
        let around = assembler.begin(points);
        let body = Abreast::new(&ops, abreast);
        let used = Emitter::new(&mut assembler, tape, (body, &homes)).run();
        slots = slots.max(used);
        assembler.again(around, points);
    }
    assembler.leave();
    (slots as usize * encoding.bytes() <= FRAME).then(|| assembler.finish(slots, width.size()))
}

/// Brings uniform streams into the frame, and the addresses of the first streams into registers.
/// Returns which streams they are, in the order of their slots.
fn prologue(assembler: &mut Assembler, ops: &[Op], encoding: Encoding) -> Vec<u32> {
    let scratch = encoding.registers() as Register;
    let mut homes = Vec::new();
    for op in ops {
        if let Op::Uniform(stream) = *op {
            assembler.pointer(RAX, stream);
            let [load, store] = [0x10, 0x11].map(|code| Opcode::new(1, 0, code));
            let home = Memory::Frame(homes.len() as u32);
            for (move_, at) in [(load, Memory::At(RAX)), (store, home)] {
                assembler.vector(move_, (scratch, 0), Source::Memory(at), None);
            }
            homes.push(stream);
        }
    }
    for (stream, &pointer) in (0..).zip(&POINTERS) {
        let mut streams = ops.iter().copied();
        if streams.any(|mut op| op.stream_mut().is_some_and(|s| *s == stream)) {
            assembler.pointer(pointer, stream);
        }
    }
    homes
}

/// For each value, the operations that read it, last one first. What no store depends on is not read.
pub(super) fn uses(ops: &[Op]) -> Vec<Vec<usize>> {
    let mut uses = vec![Vec::new(); ops.len()];
    for (at, op) in ops.iter().enumerate().rev() {
        if op.is_store() || !uses[at].is_empty() {
            for operand in op.operands().into_iter().flatten() {
                uses[operand.index()].push(at);
            }
        }
    }
    uses
}

/// An instruction of packed floating point in the 0F map, for either width.
pub(super) fn packed(code: u8, width: Width) -> Opcode {
    let is_double = width == Width::Double;
    Opcode::new(1, u8::from(is_double), code).wide(is_double)
}

/// The predicate of a comparison: ordered and quiet, not-equal alone unordered.
pub(super) fn predicate(two: Two) -> Option<u8> {
    match two {
        Two::Less => Some(0x11),
        Two::LessOrEqual => Some(0x12),
        Two::Equal => Some(0x00),
        Two::NotEqual => Some(0x04),
        _ => None,
    }
}

/// The instruction of a function of two operands.
fn instruction(two: Two, width: Width) -> Opcode {
    let code = match two {
        Two::Add => 0x58,
        Two::Mul => 0x59,
        Two::Sub => 0x5c,
        Two::Min => 0x5d,
        Two::Div => 0x5e,
        Two::Max => 0x5f,
        Two::And => 0x54,
        Two::AndNot => 0x55,
        Two::Or => 0x56,
        Two::Xor => 0x57,
        Two::Less | Two::LessOrEqual | Two::Equal | Two::NotEqual => 0xc2,
        Two::AddWhole => return Opcode::new(1, 1, 0xfe),
        Two::SubWhole => return Opcode::new(1, 1, 0xfa),
        Two::Scale => return Opcode::new(2, 1, 0x2c),
    };
    packed(code, width)
}

/// Whether operands may be exchanged (it can matter which of two NaN comes out).
fn commutes(two: Two) -> bool {
    use Two::{Add, AddWhole, And, Equal, Mul, NotEqual, Or, Xor};
    matches!(
        two,
        Add | Mul | And | Or | Xor | Equal | NotEqual | AddWhole
    )
}

/// The register to give away next, other than the pinned ones: a free one, or that of the value which
/// is wanted again last.
pub(super) fn wanted_last(
    held: &[Option<Value>],
    uses: &[Vec<usize>],
    pinned: &[Register],
) -> Register {
    let next_use = |value: Value| uses[value.index()].last().copied();
    let candidates = (0..held.len()).filter(|&r| !pinned.contains(&(r as Register)));
    let distance = |&r: &usize| match held[r] {
        None => usize::MAX,
        Some(value) => next_use(value).unwrap_or(usize::MAX - 1),
    };
    candidates.max_by_key(distance).unwrap_or(0) as Register
}

impl<'a> Emitter<'a> {
    /// A body whose uniform streams are at home in the first slots of the frame.
    fn new(
        assembler: &'a mut Assembler,
        tape: &Tape,
        (body, homes): (Abreast, &[u32]),
    ) -> Emitter<'a> {
        let mut places = vec![Place::default(); body.ops.len()];
        for (place, op) in places.iter_mut().zip(&body.ops) {
            if let Op::Uniform(stream) = op {
                let slot = homes.iter().position(|home| home == stream);
                place.home = slot.map(|slot| Memory::Frame(slot as u32));
            }
        }
        let encoding = tape.encoding();
        Emitter {
            assembler,
            encoding,
            width: tape.width(),
            is_mask: match encoding {
                Encoding::Vex => vec![false; body.ops.len()],
                Encoding::Evex => masks::are_masks(&body.ops),
            },
            uses: uses(&body.ops),
            body,
            places,
            registers: vec![None; encoding.registers()],
            masks: [None; masks::REGISTERS],
            slots: homes.len() as u32,
            free: Vec::new(),
        }
    }

    /// Emits all operations; returns the slots of the frame that they need.
    fn run(mut self) -> u32 {
        for at in 0..self.body.ops.len() {
            self.operation(at);
        }
        self.slots
    }

    /// The register that holds no value.
    pub(super) fn scratch(&self) -> Register {
        self.encoding.registers() as Register
    }

    fn load(&mut self, to: Register, from: Memory) {
        let move_in = Opcode::new(1, 0, 0x10);
        self.assembler
            .vector(move_in, (to, 0), Source::Memory(from), None);
    }

    fn store(&mut self, from: Register, to: Memory) {
        let move_out = Opcode::new(1, 0, 0x11);
        self.assembler
            .vector(move_out, (from, 0), Source::Memory(to), None);
    }

    /// The running elements of a stream for operation `at`.
    pub(super) fn stream(&mut self, at: usize, stream: u32, size: usize) -> Memory {
        let pointer = match POINTERS.get(stream as usize) {
            Some(&pointer) => pointer,
            None => {
                self.assembler.pointer(RAX, stream);
                RAX
            }
        };
        let lanes = self.encoding.bytes() / self.width.size();
        let further = self.body.turns[at] * lanes * size;
        Memory::Indexed(pointer, size.trailing_zeros() as u8, further as u32)
    }

    /// A register to write to, other than the pinned ones.
    fn fresh(&mut self, pinned: &[Register]) -> Register {
        let register = wanted_last(&self.registers, &self.uses, pinned);
        if let Some(value) = self.registers[usize::from(register)].take() {
            self.evict(value, register);
        }
        register
    }

    /// Takes a value out of its register, to the frame if it is wanted again and nowhere else.
    fn evict(&mut self, value: Value, register: Register) {
        self.places[value.index()].register = None;
        if let Some(home) = self.new_home(value) {
            self.store(register, home);
        }
    }

    /// A slot of the frame for a value that is wanted again and has none.
    pub(super) fn new_home(&mut self, value: Value) -> Option<Memory> {
        let place = &mut self.places[value.index()];
        if place.home.is_some() || self.uses[value.index()].is_empty() {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        place.home = Some(Memory::Frame(slot));
        place.home
    }

    fn put(&mut self, value: Value, register: Register) {
        self.registers[usize::from(register)] = Some(value);
        self.places[value.index()].register = Some(register);
    }

    /// A value in a register, other than the pinned ones where it has to be brought there.
    pub(super) fn register(&mut self, value: Value, pinned: &[Register]) -> Register {
        let place = self.places[value.index()];
        if let Some(register) = place.register {
            return register;
        }
        let register = self.fresh(pinned);
        if let Some(home) = place.home {
            self.load(register, home);
        }
        self.put(value, register);
        register
    }

    /// Where a value is, a register if it is in one.
    pub(super) fn source(&self, value: Value) -> Source {
        let place = self.places[value.index()];
        match (place.register, place.home) {
            (Some(register), _) => Source::Register(register),
            (None, Some(home)) => Source::Memory(home),
            (None, None) => Source::Register(self.scratch()),
        }
    }

    fn in_register(&self, value: Value) -> bool {
        self.places[value.index()].register.is_some()
    }

    /// Strikes off the uses by operation `at`, and gives back what nobody wants any more.
    pub(super) fn used(&mut self, at: usize) {
        for value in self.body.ops[at].operands().into_iter().flatten() {
            let uses = &mut self.uses[value.index()];
            while uses.last() == Some(&at) {
                uses.pop();
            }
            if !uses.is_empty() {
                continue;
            }
            let place = &mut self.places[value.index()];
            if let Some(register) = place.register.take() {
                self.registers[usize::from(register)] = None;
            }
            if let Some(mask) = place.mask.take() {
                self.masks[usize::from(mask)] = None;
            }
            let is_spilled = !matches!(self.body.ops[value.index()], Op::Uniform(_));
            if let Some(Memory::Frame(slot)) = place.home.take().filter(|_| is_spilled) {
                self.free.push(slot);
            }
        }
    }

    /// Whether operation `at` is the last that reads a value.
    fn dies(&self, value: Value, at: usize) -> bool {
        self.uses[value.index()].iter().all(|&user| user == at)
    }

    fn operation(&mut self, at: usize) {
        let op = self.body.ops[at];
        if self.uses[at].is_empty() && !op.is_store() {
            return;
        }
        if self.encoding == Encoding::Evex && self.with_masks(at, op) {
            return;
        }
        match op {
            Op::Nothing | Op::Uniform(_) => {}
            Op::Constant(bits) => {
                let constant = self.assembler.constant(bits);
                self.places[at].home = Some(Memory::Pool(constant));
            }
            Op::Load(stream) => {
                let from = self.stream(at, stream, self.width.size());
                let to = self.result(at, &[]);
                self.load(to, from);
            }
            Op::LoadTruths(stream) => self.load_truths(at, stream),
            Op::One(one, a) => self.one(at, one, a),
            Op::Two(two, a, b) => self.two(at, two, (a, b)),
            Op::Fma(operands) => self.fma(at, operands),
            Op::Blend(operands) => self.blend(at, operands),
            Op::Store(stream, value) => {
                let from = self.register(value, &[]);
                let to = self.stream(at, stream, self.width.size());
                self.store(from, to);
                self.used(at);
            }
            Op::StoreTruths(stream, value) => self.store_truths(at, stream, value),
        }
    }

    /// A register for the result of operation `at`, whose operands have been brought where they are
    /// read: it may be one of theirs, unless pinned.
    pub(super) fn result(&mut self, at: usize, pinned: &[Register]) -> Register {
        self.used(at);
        let register = self.fresh(pinned);
        self.put(value_of(at), register);
        register
    }

    fn one(&mut self, at: usize, one: One, a: Value) {
        let shift = |field, count| Some((field, count));
        let shift = match one {
            One::ShiftLeft(count) => shift(6, count),
            One::ShiftRight(count) => shift(2, count),
            One::ShiftRightSigned(count) => shift(4, count),
            _ => None,
        };
        if let Some((field, count)) = shift {
            let from = self.register(a, &[]);
            let to = self.result(at, &[]);
            let (opcode, source) = (Opcode::new(1, 1, 0x72), Source::Register(from));
            return self
                .assembler
                .vector(opcode, (field, to), source, Some(count));
        }
        let is_double = self.width == Width::Double;
        let round = Opcode::new(3, 1, 0x08 + u8::from(is_double)).wide(is_double);
        let (opcode, immediate) = match one {
            One::Floor => (round, Some(0x09)),
            One::Ceil => (round, Some(0x0a)),
            One::Round => (round, Some(0x08)),
            One::Trunc => (round, Some(0x0b)),
            One::ToWhole => (Opcode::new(1, 1, 0x5b), None),
            One::FromWhole => (Opcode::new(1, 0, 0x5b), None),
            One::Mantissa => (Opcode::new(3, 1, 0x26), Some(0)),
            One::Exponent => (Opcode::new(2, 1, 0x42), None),
            _ => (packed(0x51, self.width), None),
        };
        let from = self.source(a);
        let to = self.result(at, &[]);
        self.assembler.vector(opcode, (to, 0), from, immediate);
    }

    fn two(&mut self, at: usize, two: Two, (mut a, mut b): (Value, Value)) {
        if commutes(two) && !self.in_register(a) && self.in_register(b) {
            (a, b) = (b, a);
        }
        let pinned = self.places[b.index()].register;
        let left = self.register(a, pinned.as_slice());
        let right = self.source(b);
        let to = self.result(at, &[]);
        let (opcode, immediate) = (instruction(two, self.width), predicate(two));
        self.assembler.vector(opcode, (to, left), right, immediate);
    }

    /// The instruction overwrites one operand: one that nobody wants any more, or a copy.
    fn fma(&mut self, at: usize, [a, b, c]: [Value; 3]) {
        // One operand may be in memory, the addend before a factor.
        let (a, b) = if self.in_register(a) { (a, b) } else { (b, a) };
        let held: Vec<Register> = [a, b, c]
            .iter()
            .filter_map(|v| self.places[v.index()].register)
            .collect();
        let mut pinned = held;
        let left = self.register(a, &pinned);
        pinned.push(left);
        if !self.in_register(c) || self.in_register(b) {
            let factor = self.register(b, &pinned);
            pinned.push(factor);
        }
        let [x, y, z] = [a, b, c].map(|v| self.source(v));
        let [x_dies, y_dies, z_dies] = [a, b, c].map(|v| self.dies(v, at));
        // to = to * second + third; to = second * third + to; to = to * third + second.
        let (product, sum, mixed) = (0xa8, 0xb8, 0x98);
        use Source::Register as In;
        let (target, second, third, code) = match (x, y, z) {
            (In(x), In(y), z) if x_dies => (x, y, z, product),
            (In(x), In(y), z) if y_dies => (y, x, z, product),
            (In(x), y, In(z)) if z_dies => (z, x, y, sum),
            (In(x), y, In(z)) if x_dies && !matches!(y, In(_)) => (x, z, y, mixed),
            (In(x), In(y), z) => (self.copy(x, &pinned), y, z, product),
            (In(x), y, In(z)) => (self.copy(z, &pinned), x, y, sum),
            _ => return,
        };
        self.used(at);
        self.put(value_of(at), target);
        let opcode = Opcode::new(2, 1, code).wide(self.width == Width::Double);
        self.assembler.vector(opcode, (target, second), third, None);
    }

    /// A copy of a register in another one.
    fn copy(&mut self, from: Register, pinned: &[Register]) -> Register {
        let to = self.fresh(pinned);
        let opcode = Opcode::new(1, 0, 0x28);
        self.assembler
            .vector(opcode, (to, 0), Source::Register(from), None);
        to
    }
}

/// The value that operation `at` defines.
pub(super) fn value_of(at: usize) -> Value {
    Value::at(at)
}
