//! The guide. Its examples are compiled and run as tests.
//!
//! 1. [`tutorial`]: from a line fitted to points to a network that trains.
//! 2. [`operations`]: what there is, by family; loops; what is an error when.
//! 3. [`layers`]: models of the usual layers, and weights from PyTorch.
//! 4. [`saving`]: checkpoints, the order of the data, and what a file is.
//! 5. [`architecture`]: crates, passes, invariants, and what a step does in memory.
//! 6. [`derivatives`]: rules, composites, higher orders, and how each is tested.
//! 7. [`mistakes`]: errors, warnings, the first NaN, gradients that are wrong, graphs to look at.
//! 8. [`performance`]: a step read off its plan; profiles; threads and instructions.
//! 9. [`memory`]: what takes the bytes of a step; budgets, checkpoints, and a drawing.
//! 10. [`cuda`]: on a GPU; how kernels are made, and checked without one.
//! 11. [`watching`]: records of a run; what is refused, and how that is tried.
//! 12. [`backends`]: writing a backend and proving it right.

#[doc = include_str!("../guide/tutorial.md")]
pub mod tutorial {}

#[doc = include_str!("../guide/operations.md")]
pub mod operations {}

#[doc = include_str!("../guide/layers.md")]
pub mod layers {}

#[doc = include_str!("../guide/saving.md")]
pub mod saving {}

#[doc = include_str!("../guide/architecture.md")]
pub mod architecture {}

#[doc = include_str!("../guide/derivatives.md")]
pub mod derivatives {}

#[doc = include_str!("../guide/mistakes.md")]
pub mod mistakes {}

#[doc = include_str!("../guide/performance/plan.md")]
#[doc = "```text"]
#[doc = include_str!("../guide/performance/block.txt")]
#[doc = "```"]
#[doc = include_str!("../guide/performance/profile.md")]
pub mod performance {}

#[doc = include_str!("../guide/memory.md")]
pub mod memory {}

#[doc = include_str!("../guide/cuda.md")]
pub mod cuda {}

#[doc = include_str!("../guide/watching.md")]
pub mod watching {}

#[doc = include_str!("../guide/backends.md")]
pub mod backends {}

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}
