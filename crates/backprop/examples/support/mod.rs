//! What the examples share: how they draw and tabulate. None of it belongs to a training engine.

pub(crate) mod confusion;
pub(crate) mod plot;
