//! Recurrent layers, one above the other.

use backprop_core::DType;
use backprop_graph::{Graph, Param, Recurrent, Tensor};

use crate::{Layer, Owner, scaled_by};

/// The sizes of recurrent layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cells {
    /// The size of the input's last axis.
    pub input: usize,
    /// The size of the state, and of the output's last axis.
    pub hidden: usize,
    /// The number of layers, each of which takes the states of the one below.
    pub layers: usize,
}

/// The parameters of one layer.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Weights {
    weight_ih: Param,
    weight_hh: Param,
    bias_ih: Param,
    bias_hh: Param,
}

impl Weights {
    #[track_caller]
    fn new(owner: Owner<'_, '_>, layer: usize, cells: Cells, gates: usize) -> Weights {
        let Cells { input, hidden, .. } = cells;
        let input = if layer == 0 { input } else { hidden };
        let rows = gates.saturating_mul(hidden);
        let init = || scaled_by(hidden);
        Weights {
            weight_ih: owner.parameter(&format!("weight_ih_l{layer}"), [rows, input], init()),
            weight_hh: owner.parameter(&format!("weight_hh_l{layer}"), [rows, hidden], init()),
            bias_ih: owner.parameter(&format!("bias_ih_l{layer}"), [rows], init()),
            bias_hh: owner.parameter(&format!("bias_hh_l{layer}"), [rows], init()),
        }
    }

    #[track_caller]
    fn on<'g>(&self, g: &'g Graph) -> Recurrent<'g> {
        Recurrent {
            weight_ih: g.read(self.weight_ih),
            weight_hh: g.read(self.weight_hh),
            bias_ih: g.read(self.bias_ih),
            bias_hh: g.read(self.bias_hh),
        }
    }
}

macro_rules! recurrent {
    ($(#[$docs:meta])* $Layer:ident $gates:literal $run:ident) => {
        $(#[$docs])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $Layer {
            layers: Vec<Weights>,
        }

        impl $Layer {
            /// For each layer `i` the parameters `name.weight_ih_l<i>`, `name.weight_hh_l<i>`,
            /// `name.bias_ih_l<i>` and `name.bias_hh_l<i>`, in the layout of [`Recurrent`]. All start
            /// uniform within `1 / sqrt(hidden)` of 0.
            #[track_caller]
            pub fn new(g: &Graph, name: &str, cells: Cells, dtype: DType) -> $Layer {
                let owner = Owner::new(g, name, dtype);
                let mut layers = Vec::new();
                for layer in 0..cells.layers {
                    layers.push(Weights::new(owner, layer, cells, $gates));
                }
                $Layer { layers }
            }
        }

        impl Layer for $Layer {
            fn parameters(&self) -> Vec<Param> {
                let each = self.layers.iter();
                each.flat_map(|w| [w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh])
                    .collect()
            }

            #[track_caller]
            fn forward<'g>(&self, mut x: Tensor<'g>) -> Tensor<'g> {
                for layer in &self.layers {
                    x = layer.on(x.graph()).$run(x);
                }
                x
            }
        }
    };
}

recurrent! {
    /// Layers of `h = tanh(W x + b + U h + c)` from zero states (see [`Recurrent::rnn_tanh`]):
    /// `[time, batch, input]` gives the states of the last layer, `[time, batch, hidden]`.
    ///
    /// ```
    /// # use backprop_core::DType::F32;
    /// # use backprop_graph::Graph;
    /// # use backprop_nn::{Cells, Layer, Rnn};
    /// let g = Graph::new();
    /// let rnn = Rnn::new(&g, "rnn", Cells { input: 8, hidden: 16, layers: 1 }, F32);
    /// let states = rnn.forward(g.input("x", [20, 4, 8], F32));
    /// assert_eq!(states.shape().sizes(), [20, 4, 16]);
    /// ```
    Rnn 1 rnn_tanh
}

recurrent! {
    /// Layers of long short-term memory from zero states (see [`Recurrent::lstm`]):
    /// `[time, batch, input]` gives the states of the last layer, `[time, batch, hidden]`.
    ///
    /// ```
    /// # use backprop_core::DType::F32;
    /// # use backprop_graph::Graph;
    /// # use backprop_nn::{Cells, Layer, Lstm};
    /// let g = Graph::new();
    /// let lstm = Lstm::new(&g, "lstm", Cells { input: 8, hidden: 16, layers: 2 }, F32);
    /// let states = lstm.forward(g.input("x", [20, 4, 8], F32));
    /// assert_eq!(states.shape().sizes(), [20, 4, 16]);
    /// ```
    Lstm 4 lstm
}

recurrent! {
    /// Layers of gated recurrent units from zero states (see [`Recurrent::gru`]):
    /// `[time, batch, input]` gives the states of the last layer, `[time, batch, hidden]`.
    ///
    /// ```
    /// # use backprop_core::DType::F32;
    /// # use backprop_graph::Graph;
    /// # use backprop_nn::{Cells, Gru, Layer};
    /// let g = Graph::new();
    /// let gru = Gru::new(&g, "gru", Cells { input: 8, hidden: 16, layers: 1 }, F32);
    /// let states = gru.forward(g.input("x", [20, 4, 8], F32));
    /// assert_eq!(states.shape().sizes(), [20, 4, 16]);
    /// ```
    Gru 3 gru
}
