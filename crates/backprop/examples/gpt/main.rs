//! Trains a small transformer to continue a text, character by character: any text file, or the
//! source of this project. `--help` lists the options.
//!
//! Takes about @GPT minutes of a core. The last line is `validation loss: @LOSS (unigram entropy
//! @ENT)`, in nats per character: what is left to guess with all the text before, and with none.
//! For seeds 1, 2 and 3 of an earlier state of the source it was 1.71, 1.69 and 1.72.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to its terminal"
)]

mod batches;
mod corpus;
mod model;
mod network;
mod program;
mod source;
#[path = "../support/mod.rs"]
mod support;
mod train;

fn main() -> std::process::ExitCode {
    support::command::main::<program::Program>()
}
