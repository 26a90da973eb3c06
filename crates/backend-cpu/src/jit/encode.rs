//! Instructions of x86-64 as bytes.
//!
//! Only what [`emit`](super::emit) needs, in the plainest form: the three-byte VEX prefix or the EVEX
//! prefix, full displacements. Formats and opcodes are those of the "Intel 64 and IA-32 Architectures
//! Software Developer's Manual", volume 2.

use super::Encoding;

/// A vector register or a mask register, by number.
pub(super) type Register = u8;

/// A general register that holds an address, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pointer(u8);

/// Scratch for addresses.
pub(super) const RAX: Pointer = Pointer(0);
/// The table of streams, the first argument.
const RDI: Pointer = Pointer(7);

/// Registers that keep the addresses of the first streams. Those numbered 3, 14 and 15 are saved for
/// the caller. No number has 4 or 5 as its low bits, which mean something else in an address.
pub(super) const POINTERS: [Pointer; 7] = [
    Pointer(8),
    Pointer(9),
    Pointer(10),
    Pointer(11),
    Pointer(3),
    Pointer(14),
    Pointer(15),
];

/// An address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// A constant, by number.
    Pool(u32),
    /// A slot of the stack frame.
    Frame(u32),
    /// Where a pointer points.
    At(Pointer),
    /// Elements of so many bytes (as a power of two) from a pointer on, at the running index; and bytes
    /// from there.
    Indexed(Pointer, u8, u32),
}

/// An operand that may be in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Register(Register),
    Memory(Memory),
}

/// An opcode with what belongs to it in the prefix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opcode {
    /// 1 for 0F, 2 for 0F38, 3 for 0F3A.
    map: u8,
    /// The implied prefix: 1 for 66, 2 for F3, 3 for F2.
    prefix: u8,
    wide: u8,
    code: u8,
    length: Length,
    /// The mask register that chooses lanes, or 0 for all.
    mask: Register,
    /// Whether the other lanes become zero.
    zeroes: bool,
}

/// The bits of a register that an instruction works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// The first 128.
    Few,
    Whole,
}

impl Opcode {
    pub(super) const fn new(map: u8, prefix: u8, code: u8) -> Opcode {
        Opcode {
            map,
            prefix,
            wide: 0,
            code,
            length: Length::Whole,
            mask: 0,
            zeroes: false,
        }
    }

    /// With the bit W, which tells elements of 64 bits from those of 32 where the instruction cares.
    pub(super) const fn wide(self, is_wide: bool) -> Opcode {
        Opcode {
            wide: is_wide as u8,
            ..self
        }
    }

    /// On the first 128 bits.
    pub(super) const fn few(self) -> Opcode {
        Opcode {
            length: Length::Few,
            ..self
        }
    }

    /// With a mask that chooses between two operands.
    pub(super) const fn choosing(self, mask: Register) -> Opcode {
        Opcode { mask, ..self }
    }

    /// With zero where the mask is false.
    pub(super) const fn or_zero(self, mask: Register) -> Opcode {
        Opcode {
            mask,
            zeroes: true,
            ..self
        }
    }
}

/// A loop under construction: where it begins, and where the distance to its end goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loop {
    start: usize,
    skip: usize,
}

impl Source {
    /// The register, or the one that an address starts from, as far as its number goes into the prefix.
    fn base(self) -> u8 {
        match self {
            Source::Register(register) => register,
            Source::Memory(Memory::At(p) | Memory::Indexed(p, ..)) => p.0,
            Source::Memory(_) => 0,
        }
    }
}

/// A bit of a register's number, as prefixes have it.
fn inverse(register: u8, bit: u8) -> u8 {
    !register >> bit & 1
}

/// Machine code under construction.
#[derive(Debug)]
pub(super) struct Assembler {
    encoding: Encoding,
    bytes: Vec<u8>,
    /// Lanes of the pool's constants, repeated to fill a register when it is laid out.
    pool: Vec<u64>,
    /// Where a constant's distance goes, and bytes of the instruction after it.
    distances: Vec<(usize, usize, u32)>,
    /// Where the frame's size goes.
    frame: usize,
}

impl Assembler {
    pub(super) fn new(encoding: Encoding) -> Assembler {
        Assembler {
            encoding,
            bytes: Vec::new(),
            pool: Vec::new(),
            distances: Vec::new(),
            frame: 0,
        }
    }

    /// The number of a constant.
    pub(super) fn constant(&mut self, bits: u64) -> u32 {
        self.pool.push(bits);
        self.pool.len() as u32 - 1
    }

    fn long(&mut self, x: u32) {
        self.bytes.extend(x.to_le_bytes());
    }

    /// `opcode target, left, right` with an immediate byte where it has one. The second operand is 0
    /// for instructions that have none.
    pub(super) fn vector(
        &mut self,
        opcode: Opcode,
        registers: (Register, Register),
        right: Source,
        immediate: Option<u8>,
    ) {
        match self.encoding {
            Encoding::Vex => self.vex(opcode, registers, right),
            Encoding::Evex => self.evex(opcode, registers, right),
        }
        self.operand(registers.0 & 7, right, usize::from(immediate.is_some()));
        self.bytes.extend(immediate);
    }

    /// The same for instructions on mask registers, which are encoded in one way.
    pub(super) fn masks(&mut self, opcode: Opcode, registers: (Register, Register), right: Source) {
        self.vex(opcode, registers, right);
        self.operand(registers.0, right, 0);
    }

    fn vex(&mut self, opcode: Opcode, (target, left): (Register, Register), right: Source) {
        let length = u8::from(opcode.length == Length::Whole);
        self.bytes.extend([
            0xc4,
            inverse(target, 3) << 7 | 1 << 6 | inverse(right.base(), 3) << 5 | opcode.map,
            opcode.wide << 7 | (!left & 15) << 3 | length << 2 | opcode.prefix,
            opcode.code,
        ]);
    }

    fn evex(&mut self, opcode: Opcode, (target, left): (Register, Register), right: Source) {
        let length = u8::from(opcode.length == Length::Whole) << 1;
        let base = right.base();
        let high = inverse(target, 3) << 7 | inverse(base, 4) << 6 | inverse(base, 3) << 5;
        self.bytes.extend([
            0x62,
            high | inverse(target, 4) << 4 | opcode.map,
            opcode.wide << 7 | (!left & 15) << 3 | 1 << 2 | opcode.prefix,
            u8::from(opcode.zeroes) << 7 | length << 5 | inverse(left, 4) << 3 | opcode.mask,
            opcode.code,
        ]);
    }

    /// The bytes that say what `right` is, with the other register's number between.
    fn operand(&mut self, field: u8, right: Source, after: usize) {
        let field = field << 3;
        match right {
            Source::Register(register) => self.bytes.push(0xc0 | field | register & 7),
            Source::Memory(Memory::Pool(constant)) => {
                self.bytes.push(field | 5);
                self.distances.push((self.bytes.len(), after, constant));
                self.long(0);
            }
            Source::Memory(Memory::Frame(slot)) => {
                self.bytes.extend([0x80 | field | 4, 0x24]);
                self.long(slot * self.encoding.bytes() as u32);
            }
            Source::Memory(Memory::At(pointer)) => self.bytes.push(field | pointer.0 & 7),
            Source::Memory(Memory::Indexed(pointer, scale, further)) => {
                self.bytes
                    .extend([0x80 | field | 4, scale << 6 | 1 << 3 | pointer.0 & 7]);
                self.long(further);
            }
        }
    }

    /// Loads the address of a stream from the table.
    pub(super) fn pointer(&mut self, to: Pointer, stream: u32) {
        let rex = 0x48 | (to.0 >> 3) << 2;
        self.bytes
            .extend([rex, 0x8b, 0x80 | (to.0 & 7) << 3 | RDI.0]);
        self.long(stream * 8);
    }

    /// Saves registers, makes room for a frame that is aligned like a register, and sets the running
    /// index to 0.
    pub(super) fn enter(&mut self) {
        // push rbx; push r14; push r15; mov rdx, rsp; sub rsp, frame; and rsp, -register; xor ecx, ecx
        self.bytes
            .extend([0x53, 0x41, 0x56, 0x41, 0x57, 0x48, 0x89, 0xe2]);
        self.bytes.extend([0x48, 0x81, 0xec]);
        self.frame = self.bytes.len();
        self.long(0);
        let alignment = (self.encoding.bytes() as u8).wrapping_neg();
        self.bytes.extend([0x48, 0x83, 0xe4, alignment, 0x31, 0xc9]);
    }

    /// Begins a loop that goes on for as long as there are so many points left.
    pub(super) fn begin(&mut self, points: usize) -> Loop {
        self.compare(points);
        // ja skip
        self.bytes.extend([0x0f, 0x87]);
        self.long(0);
        let start = self.bytes.len();
        let skip = start - 4;
        Loop { start, skip }
    }

    /// Ends such a loop.
    pub(super) fn again(&mut self, Loop { start, skip }: Loop, points: usize) {
        // add rcx, points
        self.bytes.extend([0x48, 0x81, 0xc1]);
        self.long(points as u32);
        self.compare(points);
        // jbe start
        self.bytes.extend([0x0f, 0x86]);
        let here = self.bytes.len() + 4;
        self.long((start as i64 - here as i64) as u32);
        let over = (here - start) as u32;
        self.bytes[skip..start].copy_from_slice(&over.to_le_bytes());
    }

    /// Compares the index so many points further with the count.
    fn compare(&mut self, points: usize) {
        // lea rax, [rcx + points]; cmp rax, rsi
        self.bytes.extend([0x48, 0x8d, 0x81]);
        self.long(points as u32);
        self.bytes.extend([0x48, 0x39, 0xf0]);
    }

    /// Returns to the caller.
    pub(super) fn leave(&mut self) {
        // vzeroupper; mov rsp, rdx; pop r15; pop r14; pop rbx; ret
        self.bytes.extend([0xc5, 0xf8, 0x77, 0x48, 0x89, 0xd4]);
        self.bytes.extend([0x41, 0x5f, 0x41, 0x5e, 0x5b, 0xc3]);
    }

    /// The code with its constants behind it, for a frame of `slots` registers and lanes of `size`
    /// bytes.
    pub(super) fn finish(mut self, slots: u32, size: usize) -> Vec<u8> {
        let register = self.encoding.bytes();
        let room = (slots + 1) * register as u32;
        self.bytes[self.frame..self.frame + 4].copy_from_slice(&room.to_le_bytes());
        let pool = self.bytes.len().next_multiple_of(64);
        for (at, after, constant) in self.distances {
            let target = pool + constant as usize * register;
            let distance = (target - (at + 4 + after)) as u32;
            self.bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.bytes.resize(pool, 0xcc);
        for bits in self.pool {
            let lane = &bits.to_le_bytes()[..size];
            self.bytes.extend(lane.iter().cycle().take(register));
        }
        self.bytes
    }
}
