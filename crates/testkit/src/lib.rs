//! Gradient checker, backend conformance suite and random graphs for the backprop engine.
//!
//! | to test | use |
//! |---|---|
//! | a backend against the reference | [`conformance!`] |
//! | two backends for the same bits | [`conformance::same_bits`] |
//! | the gradient of an operation | [`gradcheck`](fn@gradcheck) |
//! | what a compiler pass does to values and gradients | [`RandomGraph`] |
//! | how many launches and allocations a step takes | [`Counting`] |
//! | that fusion changes no result | [`Unfused`] |
//! | what inputs break a parser or a builder | [`fuzz`] |
#![forbid(unsafe_code)]

pub mod conformance;
pub mod fuzz;

mod draw;
mod every;
mod gradcheck;
mod random_graph;
mod wrap;

pub use every::{Checked, batched_all, compare_all, gradcheck_all};
pub use gradcheck::{Build, GradCheck, GradError, Slope, gradcheck};
pub use random_graph::{GraphError, RandomGraph};
pub use wrap::{Counting, Counts, Unfused};
