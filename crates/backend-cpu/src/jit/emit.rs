//! From a record to a loop in machine code.
//!
//! Operations keep their order. Registers are handed out on the way: where none is free, the value
//! that is wanted again last gives its one up, and waits in the stack frame if it has no other home.
//! Constants are read where they lie whenever an instruction can do so.

use super::encode::{Assembler, Length, Memory, Opcode, POINTERS, RAX, Register, Source};
use super::tape::{One, Op, Two, Value, Width};

/// Registers that hold values; one more is scratch.
const REGISTERS: usize = 15;
const SCRATCH: Register = 15;

/// Slots of a frame, which the page that guards a stack must not be smaller than.
const SLOTS: u32 = 120;

/// Where a value is.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    register: Option<Register>,
    /// Where it is besides, or instead.
    home: Option<Memory>,
}

struct Emitter<'a> {
    assembler: Assembler,
    ops: &'a [Op],
    width: Width,
    /// For each value, the operations that read it, last one first.
    uses: Vec<Vec<usize>>,
    places: Vec<Place>,
    registers: [Option<Value>; REGISTERS],
    /// Slots of the frame in use so far, and those given back.
    slots: u32,
    free: Vec<u32>,
}

/// The loop over the points of a record. `None` if it has too many values.
pub(super) fn emit(ops: &[Op], width: Width) -> Option<Vec<u8>> {
    let mut emitter = Emitter {
        assembler: Assembler::default(),
        ops,
        width,
        uses: uses(ops),
        places: vec![Place::default(); ops.len()],
        registers: [None; REGISTERS],
        slots: 0,
        free: Vec::new(),
    };
    emitter.prologue();
    let start = emitter.assembler.begin();
    for at in 0..ops.len() {
        emitter.operation(at);
    }
    let Emitter {
        mut assembler,
        slots,
        ..
    } = emitter;
    assembler.end(start, width.lanes());
    (slots <= SLOTS).then(|| assembler.finish(slots, width.size()))
}

/// For each value, the operations that read it, last one first. What no store depends on is not read.
fn uses(ops: &[Op]) -> Vec<Vec<usize>> {
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
fn packed(code: u8, width: Width) -> Opcode {
    Opcode::new(1, u8::from(width == Width::Double), code)
}

/// An instruction whose W tells the widths apart.
fn wide(map: u8, code: u8, width: Width) -> Opcode {
    Opcode {
        wide: u8::from(width == Width::Double),
        ..Opcode::new(map, 1, code)
    }
}

/// The instruction that chooses by a mask.
fn blend(width: Width) -> Opcode {
    Opcode::new(3, 1, 0x4a + u8::from(width == Width::Double))
}

/// The instruction of a function of two operands, and its immediate.
fn instruction(two: Two, width: Width) -> (Opcode, Option<u8>) {
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
        Two::AddWhole => return (Opcode::new(1, 1, 0xfe), None),
        Two::SubWhole => return (Opcode::new(1, 1, 0xfa), None),
    };
    // Ordered and quiet, not-equal alone unordered.
    let predicate = match two {
        Two::Less => Some(0x11),
        Two::LessOrEqual => Some(0x12),
        Two::Equal => Some(0x00),
        Two::NotEqual => Some(0x04),
        _ => None,
    };
    (packed(code, width), predicate)
}

/// Whether operands may be exchanged (it can matter which of two NaN comes out).
fn commutes(two: Two) -> bool {
    use Two::{Add, AddWhole, And, Equal, Mul, NotEqual, Or, Xor};
    matches!(
        two,
        Add | Mul | And | Or | Xor | Equal | NotEqual | AddWhole
    )
}

impl Emitter<'_> {
    /// Brings uniform streams into the frame, and the addresses of the first streams into registers.
    fn prologue(&mut self) {
        self.assembler.enter();
        for (at, op) in self.ops.iter().enumerate() {
            if let Op::Uniform(stream) = *op
                && !self.uses[at].is_empty()
            {
                let home = Memory::Frame(self.slots);
                self.slots += 1;
                self.assembler.pointer(RAX, stream);
                self.load(SCRATCH, Memory::At(RAX));
                self.store(SCRATCH, home);
                self.places[at].home = Some(home);
            }
        }
        for (stream, &pointer) in (0..).zip(&POINTERS) {
            let mut streams = self.ops.iter().copied();
            if streams.any(|mut op| op.stream_mut().is_some_and(|s| *s == stream)) {
                self.assembler.pointer(pointer, stream);
            }
        }
    }

    fn load(&mut self, to: Register, from: Memory) {
        let move_in = (Opcode::new(1, 0, 0x10), Length::Whole);
        self.assembler
            .vector(move_in, (to, 0), Source::Memory(from), None);
    }

    fn store(&mut self, from: Register, to: Memory) {
        let move_out = (Opcode::new(1, 0, 0x11), Length::Whole);
        self.assembler
            .vector(move_out, (from, 0), Source::Memory(to), None);
    }

    /// The running elements of a stream.
    fn stream(&mut self, stream: u32, size: usize) -> Memory {
        let pointer = match POINTERS.get(stream as usize) {
            Some(&pointer) => pointer,
            None => {
                self.assembler.pointer(RAX, stream);
                RAX
            }
        };
        Memory::Indexed(pointer, size.trailing_zeros() as u8)
    }

    fn next_use(&self, value: Value) -> Option<usize> {
        self.uses[value.index()].last().copied()
    }

    /// A register to write to, other than the pinned ones.
    fn fresh(&mut self, pinned: &[Register]) -> Register {
        let wanted = |held: Option<Value>| held.and_then(|v| self.next_use(v));
        let candidates = (0..REGISTERS).filter(|&r| !pinned.contains(&(r as Register)));
        let distance = |&r: &usize| match self.registers[r] {
            None => usize::MAX,
            held => wanted(held).unwrap_or(usize::MAX - 1),
        };
        let register = candidates.max_by_key(distance).unwrap_or(0);
        if let Some(value) = self.registers[register].take() {
            self.evict(value, register as Register);
        }
        register as Register
    }

    /// Takes a value out of its register, to the frame if it is wanted again and nowhere else.
    fn evict(&mut self, value: Value, register: Register) {
        let place = &mut self.places[value.index()];
        place.register = None;
        if place.home.is_some() || self.uses[value.index()].is_empty() {
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        place.home = Some(Memory::Frame(slot));
        self.store(register, Memory::Frame(slot));
    }

    fn put(&mut self, value: Value, register: Register) {
        self.registers[usize::from(register)] = Some(value);
        self.places[value.index()].register = Some(register);
    }

    /// A value in a register, other than the pinned ones where it has to be brought there.
    fn register(&mut self, value: Value, pinned: &[Register]) -> Register {
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
    fn source(&self, value: Value) -> Source {
        let place = self.places[value.index()];
        match (place.register, place.home) {
            (Some(register), _) => Source::Register(register),
            (None, Some(home)) => Source::Memory(home),
            (None, None) => Source::Register(SCRATCH),
        }
    }

    fn in_register(&self, value: Value) -> bool {
        self.places[value.index()].register.is_some()
    }

    /// Strikes off the uses by operation `at`, and gives back what nobody wants any more.
    fn used(&mut self, at: usize) {
        for value in self.ops[at].operands().into_iter().flatten() {
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
            let is_spilled = !matches!(self.ops[value.index()], Op::Uniform(_));
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
        let op = self.ops[at];
        if self.uses[at].is_empty() && !op.is_store() {
            return;
        }
        match op {
            Op::Nothing | Op::Uniform(_) => {}
            Op::Constant(bits) => {
                let constant = self.assembler.constant(bits);
                self.places[at].home = Some(Memory::Pool(constant));
            }
            Op::Load(stream) => {
                let from = self.stream(stream, self.width.size());
                let to = self.result(at, &[]);
                self.load(to, from);
            }
            Op::LoadTruths(stream) => self.load_truths(at, stream),
            Op::One(one, a) => self.one(at, one, a),
            Op::Two(two, a, b) => self.two(at, two, (a, b)),
            Op::Fma(operands) => self.fma(at, operands),
            Op::Blend([mask, yes, no]) => {
                let no = self.register(no, &[]);
                let mask = self.register(mask, &[no]);
                let yes = self.source(yes);
                let to = self.result(at, &[]);
                let length = (blend(self.width), Length::Whole);
                self.assembler
                    .vector(length, (to, no), yes, Some(mask << 4));
            }
            Op::Store(stream, value) => {
                let from = self.register(value, &[]);
                let to = self.stream(stream, self.width.size());
                self.store(from, to);
                self.used(at);
            }
            Op::StoreTruths(stream, value) => self.store_truths(at, stream, value),
        }
    }

    /// A register for the result of operation `at`, whose operands have been brought where they are
    /// read: it may be one of theirs, unless pinned.
    fn result(&mut self, at: usize, pinned: &[Register]) -> Register {
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
            let opcode = (Opcode::new(1, 1, 0x72), Length::Whole);
            let source = Source::Register(from);
            return self
                .assembler
                .vector(opcode, (field, to), source, Some(count));
        }
        let round = Opcode::new(3, 1, 0x08 + u8::from(self.width == Width::Double));
        let (opcode, immediate) = match one {
            One::Floor => (round, Some(0x09)),
            One::Ceil => (round, Some(0x0a)),
            One::Round => (round, Some(0x08)),
            One::Trunc => (round, Some(0x0b)),
            One::ToWhole => (Opcode::new(1, 1, 0x5b), None),
            One::FromWhole => (Opcode::new(1, 0, 0x5b), None),
            _ => (packed(0x51, self.width), None),
        };
        let from = self.source(a);
        let to = self.result(at, &[]);
        self.assembler
            .vector((opcode, Length::Whole), (to, 0), from, immediate);
    }

    fn two(&mut self, at: usize, two: Two, (mut a, mut b): (Value, Value)) {
        if commutes(two) && !self.in_register(a) && self.in_register(b) {
            (a, b) = (b, a);
        }
        let pinned = self.places[b.index()].register;
        let left = self.register(a, pinned.as_slice());
        let right = self.source(b);
        let to = self.result(at, &[]);
        let (opcode, immediate) = instruction(two, self.width);
        let opcode = (opcode, Length::Whole);
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
        let opcode = (wide(2, code, self.width), Length::Whole);
        self.assembler.vector(opcode, (target, second), third, None);
    }

    /// A copy of a register in another one.
    fn copy(&mut self, from: Register, pinned: &[Register]) -> Register {
        let to = self.fresh(pinned);
        let opcode = (Opcode::new(1, 0, 0x28), Length::Whole);
        self.assembler
            .vector(opcode, (to, 0), Source::Register(from), None);
        to
    }

    fn load_truths(&mut self, at: usize, stream: u32) {
        let from = self.stream(stream, 1);
        let to = self.result(at, &[]);
        let scratch = Source::Register(SCRATCH);
        let (widen, greater) = match self.width {
            Width::Single => (Opcode::new(2, 1, 0x31), Opcode::new(1, 1, 0x66)),
            Width::Double => (Opcode::new(2, 1, 0x32), Opcode::new(2, 1, 0x37)),
        };
        let clear = Opcode::new(1, 1, 0xef);
        let steps = [
            (widen, (to, 0), Source::Memory(from)),
            (clear, (SCRATCH, SCRATCH), scratch),
            (greater, (to, to), scratch),
        ];
        for (opcode, registers, source) in steps {
            self.assembler
                .vector((opcode, Length::Whole), registers, source, None);
        }
    }

    /// Packs lanes of all or no bits to bytes of 1 or 0.
    fn store_truths(&mut self, at: usize, stream: u32, value: Value) {
        let from = self.register(value, &[]);
        let ones = Memory::Pool(self.assembler.constant(0x0101_0101_0101_0101));
        let to = self.stream(stream, 1);
        let scratch = Source::Register(SCRATCH);
        let half = Length::Half;
        let upper = (Opcode::new(3, 1, 0x39), Length::Whole);
        self.assembler.vector(upper, (from, 0), scratch, Some(1));
        let words = Opcode::new(1, 1, 0x6b);
        let store = match self.width {
            Width::Single => {
                self.assembler
                    .vector((words, half), (SCRATCH, from), scratch, None);
                Opcode::new(1, 1, 0xd6)
            }
            Width::Double => {
                let even = (Opcode::new(1, 0, 0xc6), half);
                self.assembler
                    .vector(even, (SCRATCH, from), scratch, Some(0x88));
                self.assembler
                    .vector((words, half), (SCRATCH, SCRATCH), scratch, None);
                Opcode::new(1, 1, 0x7e)
            }
        };
        let bytes = Opcode::new(1, 1, 0x63);
        self.assembler
            .vector((bytes, half), (SCRATCH, SCRATCH), scratch, None);
        let and = (Opcode::new(1, 1, 0xdb), half);
        self.assembler
            .vector(and, (SCRATCH, SCRATCH), Source::Memory(ones), None);
        self.assembler
            .vector((store, half), (SCRATCH, 0), Source::Memory(to), None);
        self.used(at);
    }
}

/// The value that operation `at` defines.
fn value_of(at: usize) -> Value {
    Value::at(at)
}
