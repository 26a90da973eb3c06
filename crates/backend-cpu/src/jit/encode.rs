//! Instructions of x86-64 with AVX2 as bytes.
//!
//! Only what [`emit`](super::emit) needs, in the plainest form: the three-byte VEX prefix, full
//! displacements. Formats and opcodes are those of the "Intel 64 and IA-32 Architectures Software
//! Developer's Manual", volume 2.

/// A vector register, by number.
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
    /// Elements of so many bytes (as a power of two) from a pointer on, at the running index.
    Indexed(Pointer, u8),
}

/// An operand that may be in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Register(Register),
    Memory(Memory),
}

/// An opcode with what belongs to it in the prefix: the map (1 for 0F, 2 for 0F38, 3 for 0F3A), the
/// implied prefix (1 for 66), W.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opcode {
    pub(super) map: u8,
    pub(super) prefix: u8,
    pub(super) wide: u8,
    pub(super) code: u8,
}

impl Opcode {
    pub(super) const fn new(map: u8, prefix: u8, code: u8) -> Opcode {
        Opcode {
            map,
            prefix,
            wide: 0,
            code,
        }
    }
}

/// The bits of a register that an instruction works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Half = 0,
    Whole = 1,
}

/// Bytes of a register, and of a constant in the pool.
pub(super) const REGISTER: usize = 32;

/// Machine code under construction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    bytes: Vec<u8>,
    /// Lanes of the pool's constants, repeated to fill a register when it is laid out.
    pool: Vec<u64>,
    /// Where a constant's distance goes, and bytes of the instruction after it.
    distances: Vec<(usize, usize, u32)>,
    /// Where the frame's size goes.
    frame: usize,
}

impl Assembler {
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
        (opcode, length): (Opcode, Length),
        (target, left): (Register, Register),
        right: Source,
        immediate: Option<u8>,
    ) {
        let base = match right {
            Source::Register(register) => register,
            Source::Memory(Memory::At(p) | Memory::Indexed(p, _)) => p.0,
            Source::Memory(_) => 0,
        };
        let inverse = |register: u8, bit: u8| (!register >> 3 & 1) << bit;
        let second = opcode.wide << 7 | (!left & 15) << 3 | (length as u8) << 2 | opcode.prefix;
        self.bytes.extend([
            0xc4,
            inverse(target, 7) | 1 << 6 | inverse(base, 5) | opcode.map,
            second,
            opcode.code,
        ]);
        self.operand(target & 7, right, usize::from(immediate.is_some()));
        self.bytes.extend(immediate);
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
                self.long(slot * REGISTER as u32);
            }
            Source::Memory(Memory::At(pointer)) => self.bytes.push(field | pointer.0 & 7),
            Source::Memory(Memory::Indexed(pointer, scale)) => {
                self.bytes
                    .extend([field | 4, scale << 6 | 1 << 3 | pointer.0 & 7]);
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

    /// Saves registers, makes room for a frame that is aligned like a register.
    pub(super) fn enter(&mut self) {
        // push rbx; push r14; push r15; mov rdx, rsp; sub rsp, frame; and rsp, -32
        self.bytes
            .extend([0x53, 0x41, 0x56, 0x41, 0x57, 0x48, 0x89, 0xe2]);
        self.bytes.extend([0x48, 0x81, 0xec]);
        self.frame = self.bytes.len();
        self.long(0);
        self.bytes.extend([0x48, 0x83, 0xe4, 0xe0]);
    }

    /// Sets the running index to 0; returns where the loop begins.
    pub(super) fn begin(&mut self) -> usize {
        // xor ecx, ecx
        self.bytes.extend([0x31, 0xc9]);
        self.bytes.len()
    }

    /// Goes back to where the loop begins until the index has reached the count, then returns.
    pub(super) fn end(&mut self, start: usize, lanes: usize) {
        // add rcx, lanes; cmp rcx, rsi; jb start
        self.bytes
            .extend([0x48, 0x83, 0xc1, lanes as u8, 0x48, 0x39, 0xf1, 0x0f, 0x82]);
        let distance = start as i64 - (self.bytes.len() + 4) as i64;
        self.long(distance as u32);
        // vzeroupper; mov rsp, rdx; pop r15; pop r14; pop rbx; ret
        self.bytes.extend([0xc5, 0xf8, 0x77, 0x48, 0x89, 0xd4]);
        self.bytes.extend([0x41, 0x5f, 0x41, 0x5e, 0x5b, 0xc3]);
    }

    /// The code with its constants behind it, for a frame of `slots` registers and lanes of `size`
    /// bytes.
    pub(super) fn finish(mut self, slots: u32, size: usize) -> Vec<u8> {
        let room = (slots + 1) * REGISTER as u32;
        self.bytes[self.frame..self.frame + 4].copy_from_slice(&room.to_le_bytes());
        let pool = self.bytes.len().next_multiple_of(64);
        for (at, after, constant) in self.distances {
            let target = pool + constant as usize * REGISTER;
            let distance = (target - (at + 4 + after)) as u32;
            self.bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.bytes.resize(pool, 0xcc);
        for bits in self.pool {
            let lane = &bits.to_le_bytes()[..size];
            self.bytes.extend(lane.iter().cycle().take(REGISTER));
        }
        self.bytes
    }
}
