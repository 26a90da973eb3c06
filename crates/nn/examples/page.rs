//! Writes the graph of a transformer of four layers, with its gradients and a step of AdamW, as a page
//! for a browser and as a drawing for Graphviz: `cargo run --example page -- FOLDER`.
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::path::PathBuf;

use backprop_core::DType::{F32, I64};
use backprop_core::Reference;
use backprop_graph::{CrossEntropy, Graph, Mask, Page, Session, Tensor, optim};
use backprop_nn::{
    Activation, Block, Embedding, Features, Layer, LayerNorm, Linear, Table, TransformerBlock,
};

const LAYERS: usize = 4;
const WIDTH: usize = 16;
const WORDS: usize = 32;
const SHAPE: [usize; 2] = [2, 8];

/// The loss of predicting each next word.
fn loss<'g>(g: &'g Graph, words: Tensor<'g>, next: Tensor<'g>) -> Tensor<'g> {
    let table = Table {
        rows: WORDS,
        width: WIDTH,
    };
    let block = Block {
        width: WIDTH,
        heads: 2,
        hidden: 4 * WIDTH,
        activation: Activation::Gelu,
    };
    let mut x = g.scope("embed", |g| {
        Embedding::new(g, "words", table, F32).forward(words)
    });
    for layer in 0..LAYERS {
        x = g.scope(&format!("block{layer}"), |g| {
            TransformerBlock::new(g, "layer", block, F32).forward(x, Mask::Causal)
        });
    }
    let features = Features {
        input: WIDTH,
        output: WORDS,
    };
    let scores = g.scope("head", |g| {
        let x = LayerNorm::new(g, "norm", WIDTH, F32).forward(x);
        Linear::new(g, "scores", features, F32).forward(x)
    });
    scores
        .reshape([-1, WORDS as isize])
        .cross_entropy(next.reshape([-1]), CrossEntropy::default())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".into()));
    let g = Graph::new();
    let (words, next) = (g.input("words", SHAPE, I64), g.input("next", SHAPE, I64));
    let loss = loss(&g, words, next);
    let parameters = g.parameters();
    let gradients = g.grad(loss, &parameters)?;
    let updates = optim::adamw(&g, &parameters, &gradients, Default::default());
    let mut session = Session::compile(&g, Reference, &[loss.key()], updates)?;
    for warning in session.warnings() {
        println!("{warning}");
    }
    let text: Vec<i64> = (0..16).map(|i| i * 7 % WORDS as i64).collect();
    session.feed(words, &text)?.feed(next, &text)?;
    let profile = session.profile(3)?;
    let page = Page {
        title: "a transformer of four layers",
        profile: Some(&profile),
    };
    std::fs::write(folder.join("graph.html"), g.page(page))?;
    std::fs::write(folder.join("graph.dot"), g.dot())?;
    println!("{} nodes in {}", g.len(), folder.display());
    Ok(())
}
