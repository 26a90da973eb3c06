//! The plan that the guide shows is the one that is compiled.
#![allow(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use backprop::nn::{Activation, Block, TransformerBlock};
use backprop::prelude::*;
use backprop::{Level, Mask};
use expect_test::expect_file;

/// Columns of a line that the guide shows.
const WIDTH: usize = 100;

#[test]
fn the_block_of_the_guide_has_this_plan() {
    let g = Graph::new();
    let x = g.input("x", [8, 16, 32], F32);
    let sizes = Block {
        width: 32,
        heads: 4,
        hidden: 128,
        activation: Activation::GeluTanh,
    };
    let block = TransformerBlock::new(&g, "block", sizes, F32);
    let loss = block.forward(x, Mask::Causal).square().mean(..);
    let parameters = block.parameters();
    let gradients = g.grad(loss, &parameters).unwrap();
    let updates = optim::sgd(&g, &parameters, &gradients, Sgd::default());
    let cpu = Cpu::builder().threads(2).level(Level::Scalar).build();
    let session = Session::compile(&g, cpu.unwrap(), &[loss.key()], updates).unwrap();
    let shown = |line: &str| {
        let line = line.split("  //").next().unwrap_or(line);
        let cut: String = line.chars().take(WIDTH).collect();
        cut.trim_end().to_owned()
    };
    let lines: Vec<String> = session.plan_text().lines().skip(2).map(shown).collect();
    expect_file!["../guide/performance/block.txt"].assert_eq(&(lines.join("\n") + "\n"));
}
