//! What the examples share: how they draw and tabulate. None of it belongs to a training engine.
#![allow(dead_code, reason = "no example needs all of it")]

pub(crate) mod confusion;
pub(crate) mod plot;
