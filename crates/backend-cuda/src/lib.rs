//! The CUDA backend of the backprop engine.
#![allow(dead_code, unused_imports)]

mod lowered;
mod pack;
mod schedule;
mod source;
mod sweep;
