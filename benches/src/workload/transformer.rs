//! A small transformer that decodes.

use backprop::Mask;
use backprop::nn::{Activation, Dropout, Features, Layer, MultiHeadAttention, TransformerBlock};
use backprop::prelude::*;

use super::{Bound, Draft, Fill, Network, Operations, Workload};

const BATCH: usize = 12;
const CONTEXT: usize = 64;
const WIDTH: usize = 128;
const HEADS: usize = 4;
const BLOCKS: usize = 4;
const VOCABULARY: usize = 65;

pub(super) const GPT: Workload = Workload {
    id: "W6",
    about: "transformer of 4 blocks, width 128, context 64, batch 12, AdamW",
    operations: operations(),
    bound: Bound::Arithmetic,
    build,
};

/// Scores and their products with values are counted whole, although half of them is masked.
const fn operations() -> Operations {
    let tokens = BATCH * CONTEXT;
    let linear = 2 * tokens * WIDTH * 12 * WIDTH;
    let attention = 2 * 2 * tokens * CONTEXT * WIDTH;
    let forward = BLOCKS * (linear + attention) + 2 * tokens * WIDTH * VOCABULARY;
    Operations {
        forward: forward as u64,
        step: 3 * forward as u64,
    }
}

fn block(draft: &mut Draft<'_>, name: &str) -> TransformerBlock {
    let mut linear = |part: &str, input, output| {
        draft.linear(&format!("{name}.{part}"), Features { input, output })
    };
    let self_attn = MultiHeadAttention {
        in_proj: linear("attention", WIDTH, 3 * WIDTH),
        out_proj: linear("projection", WIDTH, WIDTH),
        heads: HEADS,
    };
    let linear1 = linear("up", WIDTH, 4 * WIDTH);
    let linear2 = linear("down", 4 * WIDTH, WIDTH);
    TransformerBlock {
        self_attn,
        linear1,
        linear2,
        norm1: draft.layer_norm(&format!("{name}.norm1"), WIDTH),
        norm2: draft.layer_norm(&format!("{name}.norm2"), WIDTH),
        activation: Activation::GeluTanh,
        dropout: Dropout { p: 0.0 },
    }
}

fn build<'g>(draft: &mut Draft<'g>) -> Result<Network<'g>> {
    let any = Fill::Below(VOCABULARY as i32);
    let tokens = draft.input("tokens", &[BATCH, CONTEXT], any);
    let targets = draft.input("targets", &[BATCH, CONTEXT], any);
    let weight = Fill::Normal(0.02);
    let meanings = draft.parameter("tokens.weight", &[VOCABULARY, WIDTH], weight);
    let positions = draft.parameter("positions.weight", &[CONTEXT, WIDTH], weight);
    let blocks: Vec<TransformerBlock> = (0..BLOCKS)
        .map(|i| block(draft, &format!("blocks.{i}")))
        .collect();
    let norm = draft.layer_norm("norm", WIDTH);
    let head = Features {
        input: WIDTH,
        output: VOCABULARY,
    };
    let head = draft.linear("head", head);

    let x = draft.g.read(meanings).embedding(tokens) + positions;
    let x = blocks
        .iter()
        .fold(x, |x, block| block.forward(x, Mask::Causal));
    let output = head.forward(norm.forward(x));
    let loss = output.cross_entropy(targets, CrossEntropy::default());
    Ok(Network {
        output,
        loss,
        updates: decayed(draft, loss)?,
    })
}

/// AdamW, with decay of what has two axes or more.
fn decayed<'g>(draft: &Draft<'g>, loss: Tensor<'g>) -> Result<Updates> {
    let g = draft.g;
    let (matrices, vectors): (Vec<Param>, Vec<Param>) = draft
        .parameters()
        .into_iter()
        .partition(|&parameter| g.read(parameter).rank() > 1);
    let both = [&matrices[..], &vectors].concat();
    let gradients = g.grad(loss, &both)?;
    let (of_matrices, of_vectors) = gradients.split_at(matrices.len());
    let options = |weight_decay| AdamW {
        weight_decay,
        ..AdamW::default()
    };
    let decayed = optim::adamw(g, &matrices, of_matrices, options(0.1));
    Ok(decayed.and(optim::adamw(g, &vectors, of_vectors, options(0.0))))
}
