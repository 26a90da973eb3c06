//! The training steps on which this engine is timed, as functions that build and compile them.
#![forbid(unsafe_code)]

pub mod fsrs;
pub mod measure;
pub mod peer;
pub mod workload;
