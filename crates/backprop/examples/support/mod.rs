//! What the examples share: how they draw and tabulate. None of it belongs to a training engine.

pub mod confusion;
pub mod plot;
