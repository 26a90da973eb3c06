//! Truth values with AVX-512: a bit a lane, in mask registers.
//!
//! All that works on such values is here. A truth value that is a constant has the lanes of a number,
//! and goes to a mask register where one is wanted.

use super::emit::{Emitter, packed, predicate, value_of, wanted_last};
use super::encode::{Memory, Opcode, Register, Source};
use super::tape::{Op, Two, Value, Width};

/// Mask registers. The first one cannot choose lanes, and is left alone.
pub(super) const REGISTERS: usize = 8;
const FIRST: Register = 0;

/// Which operations give a truth value in a mask register.
pub(super) fn are_masks(ops: &[Op]) -> Vec<bool> {
    let mut masks: Vec<bool> = Vec::with_capacity(ops.len());
    let is_truth = |value: Value, masks: &[bool]| {
        masks[value.index()] || matches!(ops[value.index()], Op::Constant(0 | u64::MAX))
    };
    for op in ops {
        let is_mask = match *op {
            Op::LoadTruths(_) => true,
            Op::Two(two, ..) if predicate(two).is_some() => true,
            Op::Two(Two::And, a, b) => {
                let either = masks[a.index()] || masks[b.index()];
                either && is_truth(a, &masks) && is_truth(b, &masks)
            }
            Op::Two(Two::Or | Two::Xor, a, b) => masks[a.index()] || masks[b.index()],
            _ => false,
        };
        masks.push(is_mask);
    }
    masks
}

impl Emitter<'_> {
    /// Emits operation `at` if it works on truth values in mask registers.
    pub(super) fn with_masks(&mut self, at: usize, op: Op) -> bool {
        match op {
            Op::LoadTruths(stream) => self.load_mask(at, stream),
            Op::StoreTruths(stream, value) => self.store_mask(at, stream, value),
            Op::Blend(operands) => self.choose(at, operands),
            Op::Two(two, a, b) if predicate(two).is_some() => self.compare(at, two, (a, b)),
            Op::Two(two, a, b) if self.is_mask[at] => self.combine(at, two, (a, b)),
            Op::Two(Two::And, a, b) if self.is_mask[a.index()] => self.or_zero(at, (a, b)),
            Op::Two(Two::And, a, b) if self.is_mask[b.index()] => self.or_zero(at, (b, a)),
            _ => return false,
        }
        true
    }

    fn wide(&self) -> bool {
        self.width == Width::Double
    }

    /// A mask register to write to, other than the pinned one.
    fn fresh_mask(&mut self, pinned: Register) -> Register {
        let mask = wanted_last(&self.masks, &self.uses, &[FIRST, pinned]);
        if let Some(value) = self.masks[usize::from(mask)].take() {
            self.places[value.index()].mask = None;
            if let Some(home) = self.new_home(value) {
                let store = Opcode::new(1, 0, 0x91).few();
                self.assembler.masks(store, (mask, 0), Source::Memory(home));
            }
        }
        mask
    }

    fn put_mask(&mut self, value: Value, mask: Register) {
        self.masks[usize::from(mask)] = Some(value);
        self.places[value.index()].mask = Some(mask);
    }

    /// A truth value in a mask register, other than the pinned one where it has to be brought there.
    fn mask(&mut self, value: Value, pinned: Register) -> Register {
        let place = self.places[value.index()];
        if let Some(mask) = place.mask {
            return mask;
        }
        let mask = self.fresh_mask(pinned);
        match place.home {
            Some(home) if self.is_mask[value.index()] => {
                let load = Opcode::new(1, 0, 0x90).few();
                self.assembler.masks(load, (mask, 0), Source::Memory(home));
                self.put_mask(value, mask);
            }
            _ => {
                let from = Source::Register(self.register(value, &[]));
                let signs = Opcode::new(2, 2, 0x39).wide(self.wide());
                self.assembler.vector(signs, (mask, 0), from, None);
            }
        }
        mask
    }

    /// A mask register for the result of operation `at`.
    fn mask_result(&mut self, at: usize) -> Register {
        self.used(at);
        let mask = self.fresh_mask(FIRST);
        self.put_mask(value_of(at), mask);
        mask
    }

    fn compare(&mut self, at: usize, two: Two, (a, b): (Value, Value)) {
        let pinned = self.places[b.index()].register;
        let left = self.register(a, pinned.as_slice());
        let right = self.source(b);
        let to = self.mask_result(at);
        let opcode = packed(0xc2, self.width);
        self.assembler
            .vector(opcode, (to, left), right, predicate(two));
    }

    fn combine(&mut self, at: usize, two: Two, (a, b): (Value, Value)) {
        let left = self.mask(a, FIRST);
        if two == Two::Xor && matches!(self.body.ops[b.index()], Op::Constant(u64::MAX)) {
            let to = self.mask_result(at);
            let not = Opcode::new(1, 0, 0x44).few();
            return self.assembler.masks(not, (to, 0), Source::Register(left));
        }
        let right = Source::Register(self.mask(b, left));
        let to = self.mask_result(at);
        let code = match two {
            Two::And => 0x41,
            Two::Or => 0x45,
            _ => 0x47,
        };
        self.assembler
            .masks(Opcode::new(1, 0, code), (to, left), right);
    }

    /// The number where the mask is true, else zero.
    fn or_zero(&mut self, at: usize, (mask, number): (Value, Value)) {
        let mask = self.mask(mask, FIRST);
        let from = self.source(number);
        let to = self.result(at, &[]);
        let opcode = packed(0x10, self.width).or_zero(mask);
        self.assembler.vector(opcode, (to, 0), from, None);
    }

    fn choose(&mut self, at: usize, [mask, yes, no]: [Value; 3]) {
        let mask = self.mask(mask, FIRST);
        let pinned = self.places[yes.index()].register;
        let no = self.register(no, pinned.as_slice());
        let yes = self.source(yes);
        let to = self.result(at, &[]);
        let opcode = Opcode::new(2, 1, 0x65).wide(self.wide()).choosing(mask);
        self.assembler.vector(opcode, (to, no), yes, None);
    }

    fn load_mask(&mut self, at: usize, stream: u32) {
        let from = Source::Memory(self.stream(at, stream, 1));
        let scratch = self.scratch();
        let to = self.mask_result(at);
        let widen = Opcode::new(2, 1, 0x31 + u8::from(self.wide()));
        self.assembler.vector(widen, (scratch, 0), from, None);
        let test = Opcode::new(2, 1, 0x27).wide(self.wide());
        let scratch = (scratch, Source::Register(scratch));
        self.assembler
            .vector(test, (to, scratch.0), scratch.1, None);
    }

    /// Stores bytes of 1 where the mask is true.
    fn store_mask(&mut self, at: usize, stream: u32, value: Value) {
        let mask = self.mask(value, FIRST);
        let ones = Memory::Pool(self.assembler.constant(0x0101_0101_0101_0101));
        let to = Source::Memory(self.stream(at, stream, 1));
        let scratch = (self.scratch(), 0);
        let bytes = Opcode::new(1, 3, 0x6f).few().or_zero(mask);
        self.assembler
            .vector(bytes, scratch, Source::Memory(ones), None);
        let store = match self.width {
            Width::Single => Opcode::new(1, 0, 0x11),
            Width::Double => Opcode::new(1, 1, 0xd6).wide(true),
        };
        self.assembler.vector(store.few(), scratch, to, None);
        self.used(at);
    }
}
