//! Trains a network of fully connected layers to read handwritten digits, and shows how well it reads
//! those of other writers. `--help` lists the options.
//!
//! Takes about a second. The last line is `test accuracy: 93.3% (336/360)`; with AVX2 it reads 93.3%,
//! 93.9% and 93.3% of the test digits for seeds 1, 2 and 3.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to its terminal"
)]

mod model;
mod network;
mod program;
#[path = "../support/mod.rs"]
mod support;
mod train;

fn main() -> std::process::ExitCode {
    support::command::main::<program::Program>()
}
