//! What the examples share: how they are started and end, what they read, print, count and draw. None
//! of it belongs to a training engine.
#![allow(dead_code, reason = "no example needs all of it")]

pub(crate) mod command;
pub(crate) mod confusion;
pub(crate) mod data;
pub(crate) mod folder;
pub(crate) mod plot;
pub(crate) mod progress;
pub(crate) mod random;
pub(crate) mod shift;
pub(crate) mod step;
pub(crate) mod track;
