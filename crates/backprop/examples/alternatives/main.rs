//! One small network, trained to read handwritten digits by backpropagation and by four methods
//! that do without: what accuracy each reaches, after how many forward passes, in what time.
//! `--help` lists the options.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to its terminal"
)]

mod backpropagation;
#[path = "../digits/data.rs"]
#[allow(dead_code, reason = "the files of MNIST are not read here")]
mod data;
mod differences;
mod equilibrium;
mod forward_forward;
mod learner;
mod method;
mod network;
mod options;
mod perturbation;
mod program;
mod pupil;
#[path = "../support/mod.rs"]
mod support;

use options::About;

const ABOUT: About = About {
    example: "alternatives",
    purpose: "Trains one network by backpropagation and by methods that do without.",
};

fn main() -> std::process::ExitCode {
    ABOUT.main(program::run)
}
