//! Machine code for elementwise programs.
//!
//! A computation is first recorded ([`Tape`]): the functions of the library are generic over what
//! they compute with, so a [`Traced`] value instead of a register makes each of them write down its
//! operations, and no function is defined twice. The record then becomes one loop over the points
//! that keeps values in registers ([`emit`]), encoded for x86-64 with AVX2 and FMA, and goes to
//! memory that is executable and never writable at the same time ([`Executable`]).
//!
//! An operation becomes the instruction that [`simd::avx2`](crate::simd) has for it. Rounding,
//! order and special values are thus those of the loops it takes the place of; only which of two
//! NaN a result is may differ.

mod emit;
mod encode;
mod memory;
mod tape;
#[cfg(test)]
mod tests;

pub(crate) use memory::Executable;
pub(crate) use tape::{Bits, Condition, Op, Tape, Traced, Value, Width};

/// Operands in memory that a loop can have.
pub(crate) const STREAMS: usize = 64;

/// The loop over a finished record. Streams are numbered below [`STREAMS`].
///
/// `None` if it needs more than there is, or this machine cannot run it.
pub(crate) fn compile(tape: &Tape) -> Option<Executable> {
    Executable::new(&emit::emit(&tape.ops(), tape.width())?)
}
