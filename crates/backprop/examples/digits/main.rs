//! Trains a network to read handwritten digits, and shows how well it reads those of other writers.
//! `--help` lists the options.
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
