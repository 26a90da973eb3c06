//! One small network, trained to read handwritten digits by backpropagation and by four methods
//! that do without: what accuracy each reaches, after how many forward passes, in what time.
//! `--help` lists the options.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to its terminal"
)]

mod backpropagation;
mod differences;
mod equilibrium;
mod forward_forward;
mod learner;
mod method;
mod network;
mod perturbation;
mod program;
mod pupil;
#[path = "../support/mod.rs"]
mod support;

fn main() -> std::process::ExitCode {
    support::command::main::<program::Program>()
}
