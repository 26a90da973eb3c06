//! Attention with several heads, and the block of a transformer.

use backprop_core::DType;
use backprop_graph::{Graph, Init, Mask, Param, Tensor, WeightDropout};

use crate::{Dropout, Features, Layer, LayerNorm, Linear, Owner};

/// The sizes of a [`MultiHeadAttention`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heads {
    /// The size of the last axis of input and output.
    pub width: usize,
    /// The number of heads; divides the width.
    pub heads: usize,
}

/// Scaled dot-product attention of several heads, each over its share of the projected width
/// (arXiv:1706.03762, section 3.2.2): `[.., time, width]` gives the same shape.
///
/// ```
/// # use backprop_core::DType::F32;
/// # use backprop_graph::{Graph, Mask};
/// # use backprop_nn::{Heads, MultiHeadAttention};
/// let g = Graph::new();
/// let attention = MultiHeadAttention::new(&g, "attn", Heads { width: 64, heads: 4 }, F32);
/// let y = attention.forward(g.input("x", [8, 5, 64], F32), Mask::Causal);
/// assert_eq!(y.shape().sizes(), [8, 5, 64]);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MultiHeadAttention {
    /// To queries, keys and values, one below the other: the weight is `[3 width, width]`.
    pub in_proj: Linear,
    /// From the heads' results side by side: the weight is `[width, width]`.
    pub out_proj: Linear,
    /// The number of heads.
    pub heads: usize,
}

impl MultiHeadAttention {
    /// The parameters `name.in_proj_weight` (at first as by [`Init::Xavier`]), `name.in_proj_bias`,
    /// `name.out_proj.weight` (at first uniform within `1 / sqrt(width)` of 0) and
    /// `name.out_proj.bias`; both biases start at 0.
    #[track_caller]
    pub fn new(g: &Graph, name: &str, heads: Heads, dtype: DType) -> MultiHeadAttention {
        let owner = Owner::new(g, name, dtype);
        let Heads { width, heads } = heads;
        let rows = width.saturating_mul(3);
        let in_proj = Linear {
            weight: owner.parameter("in_proj_weight", [rows, width], Init::Xavier),
            bias: Some(owner.parameter("in_proj_bias", [rows], Init::Zeros)),
        };
        let square = Features {
            input: width,
            output: width,
        };
        let weight = Linear::without_bias(g, &owner.part("out_proj"), square, dtype);
        let out_proj = Linear {
            bias: Some(owner.parameter("out_proj.bias", [width], Init::Zeros)),
            ..weight
        };
        MultiHeadAttention {
            in_proj,
            out_proj,
            heads,
        }
    }

    /// What a gradient step moves.
    #[must_use]
    pub fn parameters(&self) -> Vec<Param> {
        [self.in_proj.parameters(), self.out_proj.parameters()].concat()
    }

    /// Attention of `x`, `[.., time, width]`, to itself. The mask is broadcast to
    /// `[.., heads, time, time]`.
    #[track_caller]
    #[must_use]
    pub fn forward<'g>(&self, x: Tensor<'g>, mask: Mask<'g>) -> Tensor<'g> {
        let [q, k, v] = self.heads_of(x);
        self.merged(q.attention(k, v, mask))
    }

    /// [`forward`](MultiHeadAttention::forward) in training: with weights of the attention dropped.
    #[track_caller]
    #[must_use]
    pub fn train<'g>(&self, x: Tensor<'g>, mask: Mask<'g>, drop: WeightDropout<'g>) -> Tensor<'g> {
        let [q, k, v] = self.heads_of(x);
        self.merged(q.attention_with_dropout(k, v, mask, drop))
    }

    /// Attention of `x`, `[.., time, width]`, to a memory, `[.., keys, width]`, of which keys and
    /// values are projections. The mask is broadcast to `[.., heads, time, keys]`.
    #[track_caller]
    #[must_use]
    pub fn attend<'g>(&self, x: Tensor<'g>, memory: Tensor<'g>, mask: Mask<'g>) -> Tensor<'g> {
        let [q, k, v] = self.heads_of_both(x, memory);
        self.merged(q.attention(k, v, mask))
    }

    /// [`attend`](MultiHeadAttention::attend) in training: with weights of the attention dropped.
    #[track_caller]
    #[must_use]
    pub fn train_to_attend<'g>(
        &self,
        x: Tensor<'g>,
        memory: Tensor<'g>,
        mask: Mask<'g>,
        drop: WeightDropout<'g>,
    ) -> Tensor<'g> {
        let [q, k, v] = self.heads_of_both(x, memory);
        self.merged(q.attention_with_dropout(k, v, mask, drop))
    }

    /// Queries, keys and values of `x`, `[.., heads, time, width / heads]` each.
    #[track_caller]
    fn heads_of<'g>(&self, x: Tensor<'g>) -> [Tensor<'g>; 3] {
        let heads = split(self.in_proj.forward(x), self.heads.saturating_mul(3));
        let [q, k, v] = thirds(heads, -2);
        [
            q.transpose(-3, -2),
            k.transpose(-3, -2),
            v.transpose(-3, -2),
        ]
    }

    /// Queries of `x`, keys and values of a memory.
    #[track_caller]
    fn heads_of_both<'g>(&self, x: Tensor<'g>, memory: Tensor<'g>) -> [Tensor<'g>; 3] {
        let weights = thirds(x.graph().read(self.in_proj.weight), 0);
        let mut parts = [
            x.matmul(weights[0].t()),
            memory.matmul(weights[1].t()),
            memory.matmul(weights[2].t()),
        ];
        if let Some(bias) = self.in_proj.bias {
            let biases = thirds(x.graph().read(bias), 0);
            parts = [
                parts[0] + biases[0],
                parts[1] + biases[1],
                parts[2] + biases[2],
            ];
        }
        let [q, k, v] = parts;
        [
            split(q, self.heads).transpose(-3, -2),
            split(k, self.heads).transpose(-3, -2),
            split(v, self.heads).transpose(-3, -2),
        ]
    }

    /// The projection of what the heads give, `[.., heads, time, width / heads]`.
    #[track_caller]
    fn merged<'g>(&self, mixed: Tensor<'g>) -> Tensor<'g> {
        let mixed = mixed.transpose(-3, -2);
        let mut merged = sizes(mixed);
        merged.truncate(mixed.rank().saturating_sub(2));
        merged.push(-1);
        self.out_proj.forward(mixed.reshape(merged))
    }
}

/// `[.., width]` as `[.., heads, width / heads]`.
#[track_caller]
fn split(x: Tensor<'_>, heads: usize) -> Tensor<'_> {
    let mut shape = sizes(x);
    shape.pop();
    shape.extend([heads as isize, -1]);
    x.reshape(shape)
}

fn sizes(x: Tensor<'_>) -> Vec<isize> {
    x.shape()
        .sizes()
        .iter()
        .map(|&size| size as isize)
        .collect()
}

/// Three equal parts along an axis. A tensor that failed to build has none, and stays silent.
#[track_caller]
fn thirds(x: Tensor<'_>, axis: i32) -> [Tensor<'_>; 3] {
    let parts = x.chunk(3, axis);
    std::array::from_fn(|part| parts.get(part).copied().unwrap_or(x))
}

/// The nonlinearity of a [`TransformerBlock`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// [`Tensor::relu`].
    Relu,
    /// [`Tensor::gelu`].
    Gelu,
    /// [`Tensor::gelu_tanh`].
    GeluTanh,
    /// [`Tensor::silu`].
    Silu,
}

impl Activation {
    /// The nonlinearity of `x`.
    #[track_caller]
    #[must_use]
    pub fn apply(self, x: Tensor<'_>) -> Tensor<'_> {
        match self {
            Activation::Relu => x.relu(),
            Activation::Gelu => x.gelu(),
            Activation::GeluTanh => x.gelu_tanh(),
            Activation::Silu => x.silu(),
        }
    }
}

/// What a [`TransformerBlock`] is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// The size of the last axis of input and output.
    pub width: usize,
    /// The number of heads; divides the width.
    pub heads: usize,
    /// The width between the two linear layers, usually four times the other.
    pub hidden: usize,
    /// What is between them.
    pub activation: Activation,
}

/// The block of a transformer with norms before its parts (arXiv:2002.04745):
/// `x + attention(norm1(x))`, then `x + linear2(activation(linear1(norm2(x))))`. `[.., time, width]`
/// gives the same shape.
///
/// ```
/// # use backprop_core::DType::F32;
/// # use backprop_graph::{Graph, Mask};
/// # use backprop_nn::{Activation, Block, TransformerBlock};
/// let g = Graph::new();
/// let sizes = Block { width: 64, heads: 4, hidden: 256, activation: Activation::Gelu };
/// let block = TransformerBlock::new(&g, "blocks.0", sizes, F32);
/// let y = block.forward(g.input("x", [8, 5, 64], F32), Mask::Causal);
/// assert_eq!(y.shape().sizes(), [8, 5, 64]);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TransformerBlock {
    /// Attention of each position to those the mask allows.
    pub self_attn: MultiHeadAttention,
    /// To the hidden width.
    pub linear1: Linear,
    /// From the hidden width.
    pub linear2: Linear,
    /// Before the attention.
    pub norm1: LayerNorm,
    /// Before the linear layers.
    pub norm2: LayerNorm,
    /// Between the linear layers.
    pub activation: Activation,
    /// In training, of the weights and the results of the attention, of the activation and of the
    /// linear layers; of probability 0 at first.
    pub dropout: Dropout,
}

impl TransformerBlock {
    /// Parameters as of the parts, which are named `name.self_attn`, `name.linear1`, `name.linear2`,
    /// `name.norm1` and `name.norm2`.
    #[track_caller]
    pub fn new(g: &Graph, name: &str, block: Block, dtype: DType) -> TransformerBlock {
        let owner = Owner::new(g, name, dtype);
        let Block {
            width,
            heads,
            hidden,
            activation,
        } = block;
        let heads = Heads { width, heads };
        let wide = Features {
            input: width,
            output: hidden,
        };
        let narrow = Features {
            input: hidden,
            output: width,
        };
        TransformerBlock {
            self_attn: MultiHeadAttention::new(g, &owner.part("self_attn"), heads, dtype),
            linear1: Linear::new(g, &owner.part("linear1"), wide, dtype),
            linear2: Linear::new(g, &owner.part("linear2"), narrow, dtype),
            norm1: LayerNorm::new(g, &owner.part("norm1"), width, dtype),
            norm2: LayerNorm::new(g, &owner.part("norm2"), width, dtype),
            activation,
            dropout: Dropout { p: 0.0 },
        }
    }

    /// What a gradient step moves.
    #[must_use]
    pub fn parameters(&self) -> Vec<Param> {
        [
            self.self_attn.parameters(),
            self.linear1.parameters(),
            self.linear2.parameters(),
            self.norm1.parameters(),
            self.norm2.parameters(),
        ]
        .concat()
    }

    /// The output in training, with dropout drawn from a key; otherwise as
    /// [`forward`](TransformerBlock::forward).
    #[track_caller]
    #[must_use]
    pub fn train<'g>(&self, x: Tensor<'g>, mask: Mask<'g>, key: Tensor<'g>) -> Tensor<'g> {
        let [first, second, third, weights] = key.split_key();
        let drop = WeightDropout {
            p: self.dropout.p,
            key: weights,
        };
        let mixed = self.self_attn.train(self.norm1.forward(x), mask, drop);
        let x = x + self.dropout.train(mixed, first);
        let hidden = self.linear1.forward(self.norm2.forward(x));
        let hidden = self.dropout.train(self.activation.apply(hidden), second);
        x + self.dropout.train(self.linear2.forward(hidden), third)
    }

    /// The output in evaluation for `x`, `[.., time, width]`. The mask is broadcast to
    /// `[.., heads, time, time]`.
    #[track_caller]
    #[must_use]
    pub fn forward<'g>(&self, x: Tensor<'g>, mask: Mask<'g>) -> Tensor<'g> {
        let x = x + self.self_attn.forward(self.norm1.forward(x), mask);
        let hidden = self.linear1.forward(self.norm2.forward(x));
        x + self.linear2.forward(self.activation.apply(hidden))
    }
}
