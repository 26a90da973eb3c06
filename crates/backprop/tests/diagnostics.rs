//! Checked steps and warnings on the backend that people use.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop::nn::{
    Activation, Block, Embedding, Features, Layer, Linear, Table, TransformerBlock,
};
use backprop::prelude::*;
use backprop::{Finite, Mask};

const SHAPE: [usize; 2] = [2, 16];
const WORDS: usize = 50;
const WIDTH: usize = 32;

/// A transformer of two layers that predicts the next word.
fn transformer<'g>(g: &'g Graph, words: Tensor<'g>, next: Tensor<'g>) -> Tensor<'g> {
    let table = Table {
        rows: WORDS,
        width: WIDTH,
    };
    let block = Block {
        width: WIDTH,
        heads: 4,
        hidden: 4 * WIDTH,
        activation: Activation::Gelu,
    };
    let features = Features {
        input: WIDTH,
        output: WORDS,
    };
    let mut x = Embedding::new(g, "words", table, F32).forward(words);
    for layer in 0..2 {
        let block = TransformerBlock::new(g, &format!("block{layer}"), block, F32);
        x = block.forward(x, Mask::Causal);
    }
    let scores = Linear::new(g, "scores", features, F32).forward(x);
    let scores = scores.reshape([-1, WORDS as isize]);
    scores.cross_entropy(next.reshape([-1]), CrossEntropy::default())
}

/// The losses of a few steps, at a learning rate.
fn train(lr: f64, finite: Finite) -> Result<Vec<f64>> {
    let g = Graph::new();
    let (words, next) = (g.input("words", SHAPE, I64), g.input("next", SHAPE, I64));
    let loss = transformer(&g, words, next);
    let parameters = g.parameters();
    let gradients = g.grad(loss, &parameters)?;
    let sgd = Sgd {
        lr: lr.into(),
        ..Sgd::default()
    };
    let updates = optim::sgd(&g, &parameters, &gradients, sgd);
    let mut session = Session::compile(&g, Cpu::new()?, &[loss.key()], updates)?;
    let warnings: Vec<String> = session.warnings().iter().map(ToString::to_string).collect();
    assert!(warnings.is_empty(), "{}", warnings.join("\n"));
    session.check_finite(finite);
    let text: Vec<i64> = (0..32).map(|i| i * 13 % WORDS as i64).collect();
    session.feed(words, &text)?.feed(next, &text)?;
    let step = |_| {
        session.step()?;
        session.scalar(loss)
    };
    (0..8).map(step).collect()
}

#[test]
fn a_checked_transformer_has_the_same_bits() {
    let checked = train(0.1, Finite::Checked).unwrap();
    assert_eq!(checked, train(0.1, Finite::Unchecked).unwrap());
    assert!(checked[7] < checked[0]);
}

#[test]
fn a_learning_rate_that_explodes_is_said_to() {
    let error = train(1e12, Finite::Checked).unwrap_err().to_string();
    assert!(error.contains("tests/diagnostics.rs:"), "{error}");
    assert!(error.contains("has grown to"), "{error}");
    assert!(error.contains("a lower learning rate"), "{error}");
}
