//! Solves Burgers' equation by a network that is trained on nothing but the equation: its derivatives
//! with respect to its inputs have to fit together. `--help` lists the options.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to its terminal"
)]

mod burgers;
#[path = "../support/exit.rs"]
mod exit;
mod network;
mod options;
#[path = "../support/plot/mod.rs"]
mod plot;
mod program;
#[path = "../support/progress.rs"]
mod progress;
mod solver;

fn main() -> std::process::ExitCode {
    program::main()
}
