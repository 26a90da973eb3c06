//! A transformer that decodes (arXiv:1706.03762, section 3; with norms before its parts and learned
//! positions, as GPT-2 has them).

use backprop::Mask;
use backprop::nn::{
    Activation, Block, Dropout, Embedding, Features, Layer, LayerNorm, Linear, Table,
    TransformerBlock,
};
use backprop::prelude::*;

/// How large a network is, and what it sees at once.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Sizes {
    /// Contexts in a training step.
    pub batch: usize,
    /// Characters in a context.
    pub context: usize,
    pub width: usize,
    pub heads: usize,
    pub blocks: usize,
}

impl Default for Sizes {
    /// As much as two processor cores train in a minute or two.
    fn default() -> Self {
        Self {
            batch: 8,
            context: 128,
            width: 96,
            heads: 4,
            blocks: 3,
        }
    }
}

/// The layers, with the names of PyTorch programs that write GPT-2.
pub(crate) struct Network {
    tokens: Embedding,
    positions: Embedding,
    blocks: Vec<TransformerBlock>,
    norm: LayerNorm,
    head: Linear,
    dropout: Dropout,
}

impl Network {
    /// A network for so many different tokens.
    pub(crate) fn new(g: &Graph, sizes: Sizes, vocabulary: usize, dropout: Dropout) -> Self {
        let Sizes { context, width, .. } = sizes;
        let table = |name: &str, rows| Embedding::new(g, name, Table { rows, width }, F32);
        let block = Block {
            width,
            heads: sizes.heads,
            hidden: 4 * width,
            activation: Activation::GeluTanh,
        };
        let blocks = (0..sizes.blocks).map(|i| TransformerBlock {
            dropout,
            ..TransformerBlock::new(g, &format!("h.{i}"), block, F32)
        });
        let features = Features {
            input: width,
            output: vocabulary,
        };
        Self {
            tokens: table("wte", vocabulary),
            positions: table("wpe", context),
            blocks: blocks.collect(),
            norm: LayerNorm::new(g, "ln_f", width, F32),
            head: Linear::without_bias(g, "lm_head", features, F32),
            dropout,
        }
    }

    pub(crate) fn parameters(&self) -> Vec<Param> {
        let mut parameters = [self.tokens.parameters(), self.positions.parameters()].concat();
        parameters.extend(self.blocks.iter().flat_map(TransformerBlock::parameters));
        parameters.extend([self.norm.parameters(), self.head.parameters()].concat());
        parameters
    }

    /// In training, what the network makes of whole contexts: `[rows, context]` gives
    /// `[rows, context, width]`. Each row sees itself and what is before it.
    pub(crate) fn train<'g>(&self, x: Tensor<'g>, key: Tensor<'g>) -> Tensor<'g> {
        let [first, rest] = key.split_key();
        let x = self.dropout.train(self.embed(x), first);
        let blocks = self.blocks.iter().zip(0..);
        let y = blocks.fold(x, |x, (block, i)| {
            block.train(x, Mask::Causal, rest.fold_in(i))
        });
        self.norm.forward(y)
    }

    /// As [`train`](Network::train), without dropout.
    pub(crate) fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let x = self.embed(x);
        let blocks = self.blocks.iter();
        let y = blocks.fold(x, |x, block| block.forward(x, Mask::Causal));
        self.norm.forward(y)
    }

    /// The logits of what comes next: `[.., width]` gives `[.., vocabulary]`.
    pub(crate) fn logits<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        self.head.forward(x)
    }

    fn embed<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        self.tokens.forward(x) + self.positions.weight
    }
}
