//! The CPU backend of the backprop engine.
#![allow(
    unsafe_code,
    reason = "kernels work on raw memory; each block cites the plan-check property it relies on"
)]
#![allow(
    dead_code,
    reason = "the primitives that use the registers are not here yet"
)]

mod level;
mod math;
mod simd;

pub use level::Level;
