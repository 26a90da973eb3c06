//! The CUDA backend of the backprop engine.
#![allow(dead_code, unused_imports)]

mod attention;
mod lowered;
mod pack;
mod pool;
mod schedule;
mod sort;
mod source;
mod sweep;
