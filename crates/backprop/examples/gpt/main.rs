//! Trains a small transformer to continue a text, character by character: any text file, or the
//! source of this project. `--help` lists the options.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to its terminal"
)]

mod batches;
mod corpus;
mod model;
mod network;
mod options;
mod program;
mod source;
#[path = "../support/mod.rs"]
mod support;
mod train;

fn main() -> std::process::ExitCode {
    program::main()
}
