//! Layers: plain structs that hold parameters and turn tensors into tensors.
//!
//! | layer | PyTorch's counterpart in `torch.nn` |
//! |---|---|
//! | [`Linear`], [`Embedding`] | of the same names |
//! | [`Conv`], [`ConvTranspose`] | `Conv1d` to `Conv3d`, `ConvTranspose1d` to `ConvTranspose3d` |
//! | [`LayerNorm`], [`RmsNorm`], [`GroupNorm`] | `LayerNorm` and `RMSNorm` of the last axis, `GroupNorm` |
//! | [`BatchNorm`] | `BatchNorm1d` to `BatchNorm3d` |
//! | [`MultiHeadAttention`] | `MultiheadAttention(batch_first=True)` |
//! | [`TransformerBlock`] | `TransformerEncoderLayer(batch_first=True, norm_first=True)` |
//! | [`Rnn`], [`Lstm`], [`Gru`] | `RNN`, `LSTM` and `GRU`, also bidirectional |
//! | [`Dropout`] | of the same name |
//!
//! Parameters have the names, layouts and initial distributions of those counterparts, so that
//! weights saved from a PyTorch model load by name into one whose layers are named alike. A layer
//! made as `fc` within [`Graph::scope`] `block` has the parameters `block.fc.weight` and
//! `block.fc.bias`.
//!
//! Fields are public: what a constructor does not ask for is changed by struct update, as in
//! `LayerNorm { eps: 1e-6, ..LayerNorm::new(&g, "norm", 64, F32) }`. A shape that does not fit is
//! recorded as an error with the place that called `forward`.
//!
//! ```
//! use backprop_core::{DType::F32, Reference};
//! use backprop_graph::{Graph, Session, Updates};
//! use backprop_nn::{Features, Layer, Linear};
//!
//! let g = Graph::new();
//! let hidden = Linear::new(&g, "hidden", Features { input: 64, output: 16 }, F32);
//! let fc = Linear::new(&g, "fc", Features { input: 16, output: 10 }, F32);
//! let x = g.input("x", [32, 64], F32);
//! let y = fc.forward(hidden.forward(x).relu());
//! assert_eq!(y.shape().sizes(), [32, 10]);
//! let names: Vec<String> = fc.parameters().into_iter().map(|p| g.name(p)).collect();
//! assert_eq!(names, ["fc.weight", "fc.bias"]);
//!
//! let mut session = Session::compile(&g, Reference, &[y.key()], Updates::none())?;
//! session.feed(x, &[0f32; 32 * 64])?.step()?;
//! # Ok::<(), backprop_core::Error>(())
//! ```
#![forbid(unsafe_code)]

mod attention;
mod conv;
mod dropout;
mod linear;
mod norm;
mod recurrent;

use backprop_core::DType;
use backprop_graph::{Graph, Init, Param, Tensor};

pub use attention::{Activation, Block, Heads, MultiHeadAttention, TransformerBlock};
pub use conv::{Conv, ConvTranspose, Filter};
pub use dropout::Dropout;
pub use linear::{Embedding, Features, Linear, Table};
pub use norm::{BatchNorm, GroupNorm, Groups, LayerNorm, RmsNorm};
pub use recurrent::{Cells, Course, Gru, Lstm, Rnn};

/// A layer of one input and one output.
pub trait Layer {
    /// What a gradient step moves, in PyTorch's order.
    fn parameters(&self) -> Vec<Param>;

    /// The output for `x`, of whose element type the layer is (but for [`Embedding`], which takes
    /// integers).
    #[track_caller]
    #[must_use]
    fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g>;
}

/// A layer under construction: what its parameters have in common.
#[derive(Clone, Copy)]
struct Owner<'g, 'n> {
    graph: &'g Graph,
    name: &'n str,
    dtype: DType,
}

impl<'g, 'n> Owner<'g, 'n> {
    fn new(graph: &'g Graph, name: &'n str, dtype: DType) -> Owner<'g, 'n> {
        Owner { graph, name, dtype }
    }

    #[track_caller]
    fn parameter(&self, what: &str, shape: impl AsRef<[usize]>, init: Init) -> Param {
        let name = format!("{}.{what}", self.name);
        self.graph.parameter(&name, shape, self.dtype, init)
    }

    /// The name of a layer that is part of this one.
    fn part(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }
}

/// Uniform between `-1 / sqrt(fan_in)` and `1 / sqrt(fan_in)`: PyTorch's start of most layers, which
/// is He's uniform distribution with `a = sqrt(5)` (arXiv:1502.01852).
fn scaled_by(fan_in: usize) -> Init {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    Init::Uniform {
        low: -bound,
        high: bound,
    }
}
