//! Machine code for elementwise programs.
//!
//! A computation is first recorded ([`Tape`]): the functions of the library are generic over what
//! they compute with, so a [`Traced`] value instead of a register makes each of them write down its
//! operations, and no function is defined twice. The record then becomes one loop over the points
//! that keeps values in registers ([`emit`]), encoded for x86-64 with AVX2 and FMA or with AVX-512
//! ([`Encoding`]), and goes to memory that is executable and never writable at the same time
//! ([`Executable`]).
//!
//! An operation becomes the instruction that the level's [`simd`](crate::simd) has for it. Rounding,
//! order and special values are thus those of the loops it takes the place of; only which of two
//! NaN a result is may differ.

mod abreast;
mod emit;
mod encode;
mod masks;
mod memory;
mod tape;
#[cfg(test)]
mod tests;
mod truths;

pub(crate) use memory::Executable;
pub(crate) use tape::{Bits, Condition, Op, Tape, Traced, Value, Width};

use crate::Level;

/// Operands in memory that a loop can have.
pub(crate) const STREAMS: usize = 64;

/// The form of instructions, and with it the registers they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// AVX2 and FMA: 16 registers of 256 bits. The truth of a lane is all of its bits, or none.
    Vex,
    /// AVX-512: 32 registers of 512 bits, and registers for a bit a lane.
    Evex,
}

impl Encoding {
    /// The instructions of a level, where code is made for it.
    pub(crate) fn of(level: Level) -> Option<Encoding> {
        match level {
            Level::Avx2 => Some(Encoding::Vex),
            Level::Avx512 => Some(Encoding::Evex),
            Level::Scalar | Level::Neon => None,
        }
    }

    /// Bytes of a register.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Encoding::Vex => Level::Avx2.bytes(),
            Encoding::Evex => Level::Avx512.bytes(),
        }
    }

    /// Registers for values; one more is scratch.
    fn registers(self) -> usize {
        match self {
            Encoding::Vex => 15,
            Encoding::Evex => 31,
        }
    }
}

/// The loop over a finished record. Streams are numbered below [`STREAMS`].
///
/// `None` if it needs more than there is, or this machine cannot run it.
pub(crate) fn compile(tape: &Tape) -> Option<Executable> {
    Executable::new(&emit::emit(tape)?)
}
