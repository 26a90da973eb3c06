//! Solves Burgers' equation by a network that is trained on nothing but the equation: its derivatives
//! with respect to its inputs have to fit together. `--help` lists the options.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to its terminal"
)]

mod burgers;
mod network;
mod options;
mod program;
mod solver;
#[path = "../support/mod.rs"]
mod support;

fn main() -> std::process::ExitCode {
    program::main()
}
