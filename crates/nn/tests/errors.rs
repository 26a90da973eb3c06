//! Inputs that do not fit: each is one error, with the place of the caller.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::DType::{F64, I64};
use backprop_core::Reference;
use backprop_graph::{Convolution, Graph, Mask, Session, Tensor, Updates, WeightDropout};
use backprop_nn::{
    Activation, BatchNorm, Block, Cells, Conv, ConvTranspose, Course, Dropout, Embedding, Features,
    Filter, GroupNorm, Groups, Gru, Heads, Layer, LayerNorm, Linear, Lstm, MultiHeadAttention,
    RmsNorm, Rnn, Table, TransformerBlock,
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
    let run = |g: &Graph, x: Tensor<'_>| {
        let heads = Heads { width: 4, heads: 2 };
        let (p, key) = (1.0, g.random_key(0));
        let attention = MultiHeadAttention::new(g, "a", heads, F64);
        let _ = attention.train(x, Mask::None, WeightDropout { p, key });
        line!() - 1
    };
    check(&[2, 5, 4], run, "dropout: a probability of 1");
}

#[test]
fn states_and_lengths_that_do_not_fit() {
    let cells = Cells {
        input: 4,
        hidden: 3,
        layers: 2,
    };
    let state = |g: &Graph, shape: &[usize]| g.full(shape, 0.0, F64).key();
    let run = |g: &Graph, x: Tensor<'_>| {
        let hidden = g.lookup(state(g, &[2, 6, 3]));
        let course = Course {
            hidden,
            ..Course::default()
        };
        let _ = Lstm::new(g, "l", cells, F64).run(x, course);
        line!() - 1
    };
    check(
        &[7, 5, 4],
        run,
        "lstm: an initial state [6, 3] for [7, 5, 4]",
    );
    let run = |g: &Graph, x: Tensor<'_>| {
        let hidden = g.lookup(state(g, &[1, 5, 3]));
        let course = Course {
            hidden,
            ..Course::default()
        };
        let _ = Rnn::bidirectional(g, "r", cells, F64).run(x, course);
        line!() - 1
    };
    check(
        &[7, 5, 4],
        run,
        "rnn_tanh: initial states [1, 5, 3] of 4 layers and directions",
    );
    let run = |g: &Graph, x: Tensor<'_>| {
        let cell = g.lookup(state(g, &[2, 5, 3]));
        let course = Course {
            cell,
            ..Course::default()
        };
        let _ = Gru::new(g, "r", cells, F64).run(x, course);
        line!() - 1
    };
    check(&[7, 5, 4], run, "gru: a cell state, which it has not");
    let run = |g: &Graph, x: Tensor<'_>| {
        let lengths = Some(g.data([4], &[1i64, 2, 3, 4]));
        let course = Course {
            lengths,
            ..Course::default()
        };
        let _ = Gru::new(g, "r", cells, F64).run(x, course);
        line!() - 1
    };
    check(&[7, 5, 4], run, "gru: lengths [4] for [7, 5, 4]");
    let run = |g: &Graph, x: Tensor<'_>| {
        let lengths = Some(g.full([5], 1.0, F64));
        let course = Course {
            lengths,
            ..Course::default()
        };
        let _ = Lstm::new(g, "r", cells, F64).run(x, course);
        line!() - 1
    };
    check(&[7, 5, 4], run, "lstm: lengths of type f64");
}

#[test]
fn lengths_beyond_the_steps_are_errors_of_the_step() {
    let g = Graph::new();
    let (x, lengths) = (g.full([7, 2, 4], 0.5, F64), g.input("lengths", [2], I64));
    let cells = Cells {
        input: 4,
        hidden: 3,
        layers: 1,
    };
    let course = Course {
        lengths: Some(lengths),
        ..Course::default()
    };
    let run = Gru::new(&g, "r", cells, F64).run(x, course);
    let keys = [run.outputs.key(), run.hidden.key()];
    let mut session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
    session.feed(lengths, &[0i64, 7]).unwrap().step().unwrap();
    let [outputs, hidden] = keys.map(|key| session.fetch::<f64>(key).unwrap());
    // A sequence without steps stays at its first state.
    assert_eq!(hidden[..3], [0.0; 3]);
    assert_eq!(hidden[3..], outputs[39..]);
    for wrong in [-1i64, 8] {
        let error = session
            .feed(lengths, &[3, wrong])
            .unwrap()
            .step()
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("gru: a length is outside of [0, 7]"),
            "{text}"
        );
        assert!(text.contains("tests/errors.rs"), "{text}");
    }
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
