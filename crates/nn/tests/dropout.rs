//! Dropout in layers: its moments, and where a transformer block has it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::{DType::F64, Reference};
use backprop_graph::{Graph, Mask, Session, Tensor, Updates, WeightDropout};
use backprop_nn::{Activation, Block, Dropout, Heads, MultiHeadAttention, TransformerBlock};

/// The values of two tensors of one graph.
fn both(a: Tensor<'_>, b: Tensor<'_>) -> [Vec<f64>; 2] {
    let keys = [a.key(), b.key()];
    let mut session = Session::compile(a.graph(), Reference, &keys, Updates::none()).unwrap();
    session.step().unwrap();
    keys.map(|key| session.fetch(key).unwrap())
}

#[test]
fn keeps_the_mean() {
    let g = Graph::new();
    let x = g.full([40_000], 3.0, F64);
    let dropout = Dropout { p: 0.25 };
    let [a, b] = [1, 2].map(|seed| dropout.train(x, g.random_key(seed)));
    let [a, b] = both(a, b);
    assert_ne!(a, b);
    let zeros = a.iter().filter(|&&v| v == 0.0).count() as f64 / 4e4;
    // Five standard errors.
    assert!(
        (zeros - 0.25).abs() < 5.0 * (0.25 * 0.75 / 4e4f64).sqrt(),
        "{zeros}"
    );
    assert!(a.iter().all(|&v| v == 0.0 || (v - 4.0).abs() < 1e-12));
}

#[test]
fn a_block_evaluates_without() {
    let g = Graph::new();
    let sizes = Block {
        width: 6,
        heads: 2,
        hidden: 8,
        activation: Activation::Gelu,
    };
    let x = g.coordinate([2, 4, 6], 2).cast(F64).sin();
    let block = TransformerBlock::new(&g, "b", sizes, F64);
    let dropping = TransformerBlock {
        dropout: Dropout { p: 0.5 },
        ..block
    };
    let key = g.random_key(1);
    let eval = dropping.forward(x, Mask::Causal);
    let [evaluated, kept] = both(eval, block.train(x, Mask::Causal, key));
    assert_eq!(evaluated, kept);
    let [evaluated, dropped] = both(eval, dropping.train(x, Mask::Causal, key));
    assert_ne!(evaluated, dropped);
    // The residual way is never dropped: where both branches are zeroed, `x` comes through.
    let [x, dropped] = both(x, dropping.train(x, Mask::Causal, key));
    let same = x.iter().zip(&dropped).filter(|(x, y)| x == y).count();
    assert!((1..x.len()).contains(&same), "{same}");
}

#[test]
fn attention_drops_weights_in_training() {
    let g = Graph::new();
    let heads = Heads { width: 6, heads: 2 };
    let attention = MultiHeadAttention::new(&g, "a", heads, F64);
    let x = g.coordinate([2, 4, 6], 2).cast(F64).sin();
    let memory = g.coordinate([2, 3, 6], 1).cast(F64).cos();
    let drop = |p: f64| WeightDropout {
        p,
        key: g.random_key(2),
    };
    let evaluated = [
        attention.forward(x, Mask::Causal),
        attention.attend(x, memory, Mask::None),
    ];
    let trained = |p: f64| {
        [
            attention.train(x, Mask::Causal, drop(p)),
            attention.train_to_attend(x, memory, Mask::None, drop(p)),
        ]
    };
    for (k, evaluated) in evaluated.into_iter().enumerate() {
        let [kept, dropped] = [0.0, 0.5].map(|p| trained(p)[k]);
        let [a, b] = both(evaluated, kept);
        assert_eq!(a, b);
        let [a, b] = both(evaluated, dropped);
        assert_ne!(a, b);
    }
}
