//! Trains a small transformer to continue a text, character by character: any text file, or the
//! source of this project. `--help` lists the options.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to its terminal"
)]

mod batches;
mod corpus;
#[path = "../support/exit.rs"]
mod exit;
mod model;
mod network;
mod options;
#[path = "../support/plot/mod.rs"]
mod plot;
mod program;
#[path = "../support/progress.rs"]
mod progress;
#[path = "../support/random.rs"]
mod random;
mod source;
mod train;

fn main() -> std::process::ExitCode {
    program::main()
}
