//! Backpropagation: static graphs, exact gradients of any order, whole training steps compiled into one plan.
#![forbid(unsafe_code)]

pub mod idx;

pub use backprop_core::{Error, ErrorKind, Result};
