//! What the examples share: how they end, count, draw and tabulate. None of it belongs to a training
//! engine.
#![allow(dead_code, reason = "no example needs all of it")]

pub(crate) mod confusion;
pub(crate) mod exit;
pub(crate) mod plot;
pub(crate) mod progress;
pub(crate) mod random;
