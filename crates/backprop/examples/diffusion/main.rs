//! Learns to draw handwritten digits out of noise, and has a network that was trained to read digits
//! tell what it has drawn. `--help` lists the options.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to its terminal"
)]

#[path = "../digits/data.rs"]
mod data;
mod denoiser;
mod learn;
#[path = "../digits/model.rs"]
mod model;
#[path = "../cnn/network.rs"]
mod network;
mod noise;
mod options;
mod program;
mod sheet;
#[path = "../digits/shift.rs"]
mod shift;
#[path = "../support/mod.rs"]
mod support;
#[path = "../digits/train.rs"]
mod train;
mod unet;

fn main() -> std::process::ExitCode {
    program::main()
}
