//! A small transformer that decodes.

use backprop::Mask;
use backprop::nn::{Activation, Dropout, Features, Layer, MultiHeadAttention, TransformerBlock};
use backprop::prelude::*;

use super::{Bound, Draft, Fill, Network, Operations, Workload};

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    context: usize,
    width: usize,
    heads: usize,
    blocks: usize,
    vocabulary: usize,
}

const FULL: Sizes = Sizes {
    batch: 12,
    context: 64,
    width: 128,
    heads: 4,
    blocks: 4,
    vocabulary: 65,
};
const DEEP: Sizes = Sizes { blocks: 12, ..FULL };
const SMALL: Sizes = Sizes {
    batch: 2,
    context: 9,
    width: 12,
    heads: 2,
    blocks: 2,
    vocabulary: 11,
};

pub(super) const GPT: Workload = Workload {
    id: "W6",
    about: "transformer of 4 blocks, width 128, context 64, batch 12, AdamW",
    operations: operations(&FULL),
    bound: Bound::Arithmetic,
    build,
};

/// W6 with 12 blocks: what budgets of memory are tried on.
pub static DEEP_GPT: Workload = Workload {
    id: "W6-12",
    about: "transformer of 12 blocks, width 128, context 64, batch 12, AdamW",
    operations: operations(&DEEP),
    bound: Bound::Arithmetic,
    build: |draft| {
        let sizes = draft.sizes(DEEP, SMALL);
        build_of(draft, sizes)
    },
};

/// Scores and their products with values are counted whole, although half of them is masked.
const fn operations(sizes: &Sizes) -> Operations {
    let Sizes {
        batch,
        context,
        width,
        blocks,
        vocabulary,
        ..
    } = *sizes;
    let tokens = batch * context;
    let linear = 2 * tokens * width * 12 * width;
    let attention = 2 * 2 * tokens * context * width;
    let forward = blocks * (linear + attention) + 2 * tokens * width * vocabulary;
    Operations {
        forward: forward as u64,
        step: 3 * forward as u64,
    }
}

fn block(draft: &mut Draft<'_>, name: &str, sizes: Sizes) -> TransformerBlock {
    let Sizes { width, heads, .. } = sizes;
    let mut linear = |part: &str, input, output| {
        draft.linear(&format!("{name}.{part}"), Features { input, output })
    };
    let self_attn = MultiHeadAttention {
        in_proj: linear("attention", width, 3 * width),
        out_proj: linear("projection", width, width),
        heads,
    };
    let linear1 = linear("up", width, 4 * width);
    let linear2 = linear("down", 4 * width, width);
    TransformerBlock {
        self_attn,
        linear1,
        linear2,
        norm1: draft.layer_norm(&format!("{name}.norm1"), width),
        norm2: draft.layer_norm(&format!("{name}.norm2"), width),
        activation: Activation::GeluTanh,
        dropout: Dropout { p: 0.0 },
    }
}

fn build<'g>(draft: &mut Draft<'g>) -> Result<Network<'g>> {
    let sizes = draft.sizes(FULL, SMALL);
    build_of(draft, sizes)
}

fn build_of<'g>(draft: &mut Draft<'g>, sizes: Sizes) -> Result<Network<'g>> {
    let Sizes {
        batch,
        context,
        width,
        blocks,
        vocabulary,
        ..
    } = sizes;
    let any = Fill::Below(vocabulary as i32);
    let tokens = draft.input("tokens", &[batch, context], any);
    let targets = draft.input("targets", &[batch, context], any);
    let weight = Fill::Normal(0.02);
    let meanings = draft.parameter("tokens.weight", &[vocabulary, width], weight);
    let positions = draft.parameter("positions.weight", &[context, width], weight);
    let blocks: Vec<TransformerBlock> = (0..blocks)
        .map(|i| block(draft, &format!("blocks.{i}"), sizes))
        .collect();
    let norm = draft.layer_norm("norm", width);
    let head = Features {
        input: width,
        output: vocabulary,
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
