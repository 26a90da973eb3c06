//! How far the gradient gets in networks of fifty layers, and what becomes of those that learn by
//! it: sigmoid, tanh and ReLU, with and without residual connections and layer norms. `--help` lists
//! the options.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to its terminal"
)]

#[path = "../digits/data.rs"]
#[allow(dead_code, reason = "the files of MNIST are not read here")]
mod data;
mod network;
#[path = "../alternatives/options.rs"]
mod options;
mod program;
#[path = "../alternatives/pupil.rs"]
mod pupil;
mod study;
#[path = "../support/mod.rs"]
mod support;

use options::About;

const ABOUT: About = About {
    example: "vanishing",
    purpose: "Shows how gradients vanish in deep networks, and what helps.",
};

fn main() -> std::process::ExitCode {
    ABOUT.main(program::run)
}
