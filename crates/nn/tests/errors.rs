//! Inputs that do not fit: each is one error, with the place of the caller.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::DType::{F64, I64};
use backprop_graph::{Convolution, Graph, Mask, Tensor};
use backprop_nn::{
    Activation, BatchNorm, Block, Cells, Conv, ConvTranspose, Dropout, Embedding, Features, Filter,
    GroupNorm, Groups, Gru, Heads, Layer, LayerNorm, Linear, MultiHeadAttention, RmsNorm, Rnn,
    Table, TransformerBlock,
};

/// An input of a shape that does not fit what `build` does with it, and what the first error says.
#[track_caller]
fn check(shape: &[usize], build: impl FnOnce(&Graph, Tensor<'_>) -> u32, says: &str) {
    let g = Graph::new();
    let x = g.input("x", shape, F64);
    let line = build(&g, x);
    let text = g.check().unwrap_err().to_string();
    assert!(text.starts_with(&format!("error: {says}")), "{text}");
    assert!(text.contains(&format!("tests/errors.rs:{line}:")), "{text}");
    assert!(!text.contains("nn/src"), "{text}");
    assert_eq!(text.matches("error: ").count(), 1, "{text}");
}

const FEATURES: Features = Features {
    input: 4,
    output: 3,
};

fn filter() -> Filter<2> {
    Filter {
        input: 4,
        output: 6,
        taps: [3, 3],
        how: Convolution::default(),
    }
}

#[test]
fn forward_names_its_caller() {
    let run = |g: &Graph, x: Tensor<'_>| {
        let _ = Linear::new(g, "fc", FEATURES, F64).forward(x).relu() + 1.0;
        line!() - 1
    };
    check(&[2, 5], run, "matmul: inner sizes differ, 5 and 4");
    let run = |g: &Graph, x: Tensor<'_>| {
        let _ = Conv::new(g, "c", filter(), F64).forward(x);
        line!() - 1
    };
    check(&[2, 5, 7, 7], run, "conv: ");
    let run = |g: &Graph, x: Tensor<'_>| {
        let _ = ConvTranspose::new(g, "c", filter(), F64).forward(x);
        line!() - 1
    };
    check(&[2, 5, 7, 7], run, "conv_transpose: ");
    let run = |g: &Graph, x: Tensor<'_>| {
        let table = Table { rows: 3, width: 4 };
        let _ = Embedding::new(g, "e", table, F64).forward(x);
        line!() - 1
    };
    check(&[2], run, "take: ");
    let run = |g: &Graph, x: Tensor<'_>| {
        let _ = Dropout { p: 1.0 }.train(x, g.random_key(0));
        line!() - 1
    };
    check(&[2], run, "dropout: a probability of 1");
}

/// An axis of size 1 would be broadcast to the weights, were it not for these errors.
#[test]
fn norms_are_not_broadcast() {
    let run = |g: &Graph, x: Tensor<'_>| {
        let _ = LayerNorm::new(g, "n", 4, F64).forward(x);
        line!() - 1
    };
    check(&[2, 1], run, "affine: [4] along axis 1 of [2, 1]");
    let run = |g: &Graph, x: Tensor<'_>| {
        let _ = RmsNorm::new(g, "n", 4, F64).forward(x);
        line!() - 1
    };
    check(&[2, 1], run, "gain: [4] along axis 1 of [2, 1]");
    let run = |g: &Graph, x: Tensor<'_>| {
        let groups = Groups {
            groups: 1,
            channels: 4,
        };
        let _ = GroupNorm::new(g, "n", groups, F64).forward(x);
        line!() - 1
    };
    check(&[2, 1, 3], run, "affine: [4] along axis 1 of [2, 1, 3]");
    let run = |g: &Graph, x: Tensor<'_>| {
        let _ = BatchNorm::new(g, "n", 4, F64).train(x);
        line!() - 1
    };
    check(&[2, 1, 3], run, "affine: [4] along axis 1 of [2, 1, 3]");
    let run = |g: &Graph, x: Tensor<'_>| {
        let _ = BatchNorm::new(g, "n", 4, F64).eval(x);
        line!() - 1
    };
    check(&[2, 1, 3], run, "batch_norm_by: ");
}

#[test]
fn sequences_name_their_caller() {
    let run = |g: &Graph, x: Tensor<'_>| {
        let heads = Heads { width: 4, heads: 3 };
        let _ = MultiHeadAttention::new(g, "a", heads, F64).forward(x, Mask::None);
        line!() - 1
    };
    // Three heads do not divide a width of four.
    check(&[2, 5, 4], run, "reshape: ");
    let run = |g: &Graph, x: Tensor<'_>| {
        let sizes = Block {
            width: 4,
            heads: 2,
            hidden: 8,
            activation: Activation::Silu,
        };
        let _ = TransformerBlock::new(g, "b", sizes, F64).forward(x, Mask::Causal);
        line!() - 1
    };
    check(&[2, 5, 3], run, "affine: [4] along axis 2 of [2, 5, 3]");
    let cells = Cells {
        input: 4,
        hidden: 3,
        layers: 2,
    };
    let run = |g: &Graph, x: Tensor<'_>| {
        let _ = Rnn::new(g, "r", cells, F64).forward(x);
        line!() - 1
    };
    check(&[2, 5, 3], run, "rnn_tanh: ");
    let run = |g: &Graph, x: Tensor<'_>| {
        let _ = Gru::new(g, "r", cells, F64).forward(x);
        line!() - 1
    };
    check(&[2, 5, 3], run, "gru: ");
}

#[test]
fn a_name_that_is_taken() {
    let run = |g: &Graph, _: Tensor<'_>| {
        g.parameter("fc.bias", [3], I64, backprop_graph::Init::Zeros);
        Linear::new(g, "fc", FEATURES, F64);
        line!() - 1
    };
    check(&[], run, "");
}
