//! Layers that are one matrix: products with it, and rows of it.

use backprop_core::DType;
use backprop_graph::{Graph, Init, Param, Tensor};

use crate::{Layer, Owner, scaled_by};

/// The sizes of a [`Linear`] layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// The size of the input's last axis.
    pub input: usize,
    /// The size of the output's last axis.
    pub output: usize,
}

/// `y = x W^T + b` over the last axis: `[.., input]` gives `[.., output]`.
///
/// ```
/// # use backprop_core::DType::F32;
/// # use backprop_graph::Graph;
/// # use backprop_nn::{Features, Layer, Linear};
/// let g = Graph::new();
/// let fc = Linear::new(&g, "fc", Features { input: 64, output: 10 }, F32);
/// let y = fc.forward(g.input("x", [8, 5, 64], F32));
/// assert_eq!(y.shape().sizes(), [8, 5, 10]);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Linear {
    /// `[output, input]`; at first uniform within `1 / sqrt(input)` of 0.
    pub weight: Param,
    /// `[output]`, if any; at first as the weight.
    pub bias: Option<Param>,
}

impl Linear {
    /// The parameters `name.weight` and `name.bias`.
    #[track_caller]
    pub fn new(g: &Graph, name: &str, features: Features, dtype: DType) -> Linear {
        let Features { input, output } = features;
        let layer = Linear::without_bias(g, name, features, dtype);
        let owner = Owner::new(g, name, dtype);
        Linear {
            bias: Some(owner.parameter("bias", [output], scaled_by(input))),
            ..layer
        }
    }

    /// The parameter `name.weight` alone.
    #[track_caller]
    pub fn without_bias(g: &Graph, name: &str, features: Features, dtype: DType) -> Linear {
        let Features { input, output } = features;
        let owner = Owner::new(g, name, dtype);
        Linear {
            weight: owner.parameter("weight", [output, input], scaled_by(input)),
            bias: None,
        }
    }
}

impl Layer for Linear {
    fn parameters(&self) -> Vec<Param> {
        [self.weight].into_iter().chain(self.bias).collect()
    }

    #[track_caller]
    fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let product = x.matmul(x.graph().read(self.weight).t());
        match self.bias {
            Some(bias) => product + bias,
            None => product,
        }
    }
}

/// The sizes of an [`Embedding`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// The number of rows: indices are below it.
    pub rows: usize,
    /// The size of a row.
    pub width: usize,
}

/// The rows of a table that integers pick: `[..]` gives `[.., width]`.
///
/// ```
/// # use backprop_core::DType::{F32, I32};
/// # use backprop_graph::Graph;
/// # use backprop_nn::{Embedding, Layer, Table};
/// let g = Graph::new();
/// let tokens = Embedding::new(&g, "wte", Table { rows: 1000, width: 64 }, F32);
/// let x = tokens.forward(g.input("tokens", [8, 5], I32));
/// assert_eq!(x.shape().sizes(), [8, 5, 64]);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Embedding {
    /// `[rows, width]`; at first normal with variance 1.
    pub weight: Param,
}

impl Embedding {
    /// The parameter `name.weight`.
    #[track_caller]
    pub fn new(g: &Graph, name: &str, table: Table, dtype: DType) -> Embedding {
        let init = Init::Normal {
            mean: 0.0,
            std: 1.0,
        };
        let owner = Owner::new(g, name, dtype);
        Embedding {
            weight: owner.parameter("weight", [table.rows, table.width], init),
        }
    }
}

impl Layer for Embedding {
    fn parameters(&self) -> Vec<Param> {
        vec![self.weight]
    }

    #[track_caller]
    fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.graph().read(self.weight).embedding(x)
    }
}
