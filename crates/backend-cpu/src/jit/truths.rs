//! Truth values with AVX2: all bits of a lane, or none.

use super::emit::Emitter;
use super::encode::{Memory, Opcode, Source};
use super::tape::{Value, Width};

impl Emitter<'_> {
    pub(super) fn blend(&mut self, at: usize, [mask, yes, no]: [Value; 3]) {
        let no = self.register(no, &[]);
        let mask = self.register(mask, &[no]);
        let yes = self.source(yes);
        let to = self.result(at, &[]);
        let opcode = Opcode::new(3, 1, 0x4a + u8::from(self.width == Width::Double));
        self.assembler
            .vector(opcode, (to, no), yes, Some(mask << 4));
    }

    pub(super) fn load_truths(&mut self, at: usize, stream: u32) {
        let from = self.stream(at, stream, 1);
        let to = self.result(at, &[]);
        let register = self.scratch();
        let scratch = Source::Register(register);
        let (widen, greater) = match self.width {
            Width::Single => (Opcode::new(2, 1, 0x31), Opcode::new(1, 1, 0x66)),
            Width::Double => (Opcode::new(2, 1, 0x32), Opcode::new(2, 1, 0x37)),
        };
        let clear = Opcode::new(1, 1, 0xef);
        let steps = [
            (widen, (to, 0), Source::Memory(from)),
            (clear, (register, register), scratch),
            (greater, (to, to), scratch),
        ];
        for (opcode, registers, source) in steps {
            self.assembler.vector(opcode, registers, source, None);
        }
    }

    /// Packs lanes of all or no bits to bytes of 1 or 0.
    pub(super) fn store_truths(&mut self, at: usize, stream: u32, value: Value) {
        let from = self.register(value, &[]);
        let ones = Memory::Pool(self.assembler.constant(0x0101_0101_0101_0101));
        let to = self.stream(at, stream, 1);
        let register = self.scratch();
        let scratch = Source::Register(register);
        let upper = Opcode::new(3, 1, 0x39);
        self.assembler.vector(upper, (from, 0), scratch, Some(1));
        let words = Opcode::new(1, 1, 0x6b).few();
        let store = match self.width {
            Width::Single => {
                self.assembler
                    .vector(words, (register, from), scratch, None);
                Opcode::new(1, 1, 0xd6)
            }
            Width::Double => {
                let even = Opcode::new(1, 0, 0xc6).few();
                self.assembler
                    .vector(even, (register, from), scratch, Some(0x88));
                self.assembler
                    .vector(words, (register, register), scratch, None);
                Opcode::new(1, 1, 0x7e)
            }
        };
        let bytes = Opcode::new(1, 1, 0x63).few();
        self.assembler
            .vector(bytes, (register, register), scratch, None);
        let and = Opcode::new(1, 1, 0xdb).few();
        self.assembler
            .vector(and, (register, register), Source::Memory(ones), None);
        self.assembler
            .vector(store.few(), (register, 0), Source::Memory(to), None);
        self.used(at);
    }
}
