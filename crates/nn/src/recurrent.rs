//! Recurrent layers, one above the other.

use backprop_core::DType;
use backprop_graph::{Cell, Direction, Graph, Param, Recurred, Recurrence, Recurrent, Tensor};

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

/// The parameters of one layer in one direction.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Weights {
    weight_ih: Param,
    weight_hh: Param,
    bias_ih: Param,
    bias_hh: Param,
}

impl Weights {
    /// The parameters of a layer, `name` being what PyTorch's names end with.
    #[track_caller]
    fn new(owner: Owner<'_, '_>, name: &str, [gates, input, hidden]: [usize; 3]) -> Weights {
        let rows = gates.saturating_mul(hidden);
        let init = || scaled_by(hidden);
        Weights {
            weight_ih: owner.parameter(&format!("weight_ih_{name}"), [rows, input], init()),
            weight_hh: owner.parameter(&format!("weight_hh_{name}"), [rows, hidden], init()),
            bias_ih: owner.parameter(&format!("bias_ih_{name}"), [rows], init()),
            bias_hh: owner.parameter(&format!("bias_hh_{name}"), [rows], init()),
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

    fn parameters(&self) -> [Param; 4] {
        [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
    }
}

/// One layer: a direction, or two side by side.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Level {
    forward: Weights,
    backward: Option<Weights>,
}

/// Which directions the layers have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ways {
    One,
    Both,
}

/// Where recurrent layers begin and end: at zero states and with the last step of time, unless
/// something else is said. The states of all layers are stacked as PyTorch has them: layer after layer,
/// and of a bidirectional one the forward before the backward state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Course<'g> {
    /// The hidden states before the first step, `[layers * directions, batch, hidden]`.
    pub hidden: Option<Tensor<'g>>,
    /// The cell states of an [`Lstm`] before the first step, of the same shape.
    pub cell: Option<Tensor<'g>>,
    /// How many steps each sequence has, integers `[batch]`, if they differ (see
    /// [`Recurrence::lengths`]).
    pub lengths: Option<Tensor<'g>>,
}

/// The layers of one kind, one above the other.
#[derive(Clone, PartialEq, Debug)]
struct Stack {
    levels: Vec<Level>,
}

impl Stack {
    #[track_caller]
    fn new(owner: Owner<'_, '_>, cell: Cell, cells: Cells, ways: Ways) -> Stack {
        let (gates, hidden) = (cell.gates(), cells.hidden);
        let below = match ways {
            Ways::One => hidden,
            Ways::Both => hidden.saturating_mul(2),
        };
        let mut levels = Vec::new();
        for layer in 0..cells.layers {
            let input = if layer == 0 { cells.input } else { below };
            let sizes = [gates, input, hidden];
            let forward = Weights::new(owner, &format!("l{layer}"), sizes);
            let backward = match ways {
                Ways::One => None,
                Ways::Both => Some(Weights::new(owner, &format!("l{layer}_reverse"), sizes)),
            };
            levels.push(Level { forward, backward });
        }
        Stack { levels }
    }

    fn parameters(&self) -> Vec<Param> {
        let each = self.levels.iter();
        each.flat_map(|level| [Some(level.forward), level.backward])
            .flatten()
            .flat_map(|weights| weights.parameters())
            .collect()
    }

    /// Initial states, if there is one for each layer and direction.
    #[track_caller]
    fn checked<'g>(&self, cell: Cell, states: Option<Tensor<'g>>) -> Option<Tensor<'g>> {
        let ways = self
            .levels
            .iter()
            .map(|level| 1 + usize::from(level.backward.is_some()));
        let (states, wanted) = (states?, ways.sum::<usize>());
        let shape = states.shape();
        if shape.rank() == 3 && shape.size(0) == wanted {
            return Some(states);
        }
        let what = format!("initial states {shape} of {wanted} layers and directions");
        Some(states.graph().misfit(cell.name(), &[states], &what))
    }

    /// Takes the states of all layers through the time steps of `x`.
    #[track_caller]
    fn run<'g>(&self, cell: Cell, mut x: Tensor<'g>, course: Course<'g>) -> Recurred<'g> {
        let g = x.graph();
        let course = Course {
            hidden: self.checked(cell, course.hidden),
            cell: self.checked(cell, course.cell),
            ..course
        };
        let (mut hidden, mut cells) = (Vec::new(), Vec::new());
        for level in &self.levels {
            let ways = [
                (Some(level.forward), Direction::Forward),
                (level.backward, Direction::Backward),
            ];
            let mut outputs = Vec::new();
            for (weights, direction) in ways {
                let Some(weights) = weights else {
                    continue;
                };
                let number = hidden.len();
                let how = Recurrence {
                    hidden: state(course.hidden, number),
                    cell: state(course.cell, number),
                    lengths: course.lengths,
                    direction,
                };
                let run = weights.on(g).run(cell, x, how);
                outputs.push(run.outputs);
                hidden.push(run.hidden);
                cells.extend(run.cell);
            }
            x = match outputs.as_slice() {
                &[only] => only,
                all => g.concat(all, -1),
            };
        }
        Recurred {
            outputs: x,
            hidden: g.stack(&hidden, 0),
            cell: match cells.as_slice() {
                [] => None,
                all => Some(g.stack(all, 0)),
            },
        }
    }
}

/// State number `number` of those stacked along the first axis.
#[track_caller]
fn state(all: Option<Tensor<'_>>, number: usize) -> Option<Tensor<'_>> {
    let one = all?.narrow(0, number, number + 1);
    Some(one.squeeze(0))
}

macro_rules! recurrent {
    ($(#[$docs:meta])* $Layer:ident $cell:expr) => {
        $(#[$docs])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $Layer {
            stack: Stack,
        }

        impl $Layer {
            /// For each layer `i` the parameters `name.weight_ih_l<i>`, `name.weight_hh_l<i>`,
            /// `name.bias_ih_l<i>` and `name.bias_hh_l<i>`, in the layout of [`Recurrent`]. All start
            /// uniform within `1 / sqrt(hidden)` of 0.
            #[track_caller]
            pub fn new(g: &Graph, name: &str, cells: Cells, dtype: DType) -> $Layer {
                let owner = Owner::new(g, name, dtype);
                let stack = Stack::new(owner, $cell, cells, Ways::One);
                $Layer { stack }
            }

            /// Layers that go both ways through time, with the two outputs side by side along the last
            /// axis: for each layer the parameters of [`new`](Self::new), and once more with names
            /// that end in `_reverse`.
            #[track_caller]
            pub fn bidirectional(g: &Graph, name: &str, cells: Cells, dtype: DType) -> $Layer {
                let owner = Owner::new(g, name, dtype);
                let stack = Stack::new(owner, $cell, cells, Ways::Both);
                $Layer { stack }
            }

            /// The states of the last layer in every step of time, `[time, batch, hidden]` (twice that
            /// along the last axis for both directions), and those of all layers after the last step,
            /// `[layers * directions, batch, hidden]`.
            #[track_caller]
            #[must_use]
            pub fn run<'g>(&self, x: Tensor<'g>, course: Course<'g>) -> Recurred<'g> {
                self.stack.run($cell, x, course)
            }
        }

        impl Layer for $Layer {
            fn parameters(&self) -> Vec<Param> {
                self.stack.parameters()
            }

            #[track_caller]
            fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
                self.stack.run($cell, x, Course::default()).outputs
            }
        }
    };
}

recurrent! {
    /// Layers of `h = tanh(W x + b + U h + c)` (see [`Cell::RnnTanh`]), from zero states by `forward`:
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
    Rnn Cell::RnnTanh
}

recurrent! {
    /// Layers of long short-term memory (see [`Cell::Lstm`]), from zero states by `forward`:
    /// `[time, batch, input]` gives the states of the last layer, `[time, batch, hidden]`.
    ///
    /// ```
    /// # use backprop_core::DType::F32;
    /// # use backprop_graph::Graph;
    /// # use backprop_nn::{Cells, Course, Layer, Lstm};
    /// let g = Graph::new();
    /// let lstm = Lstm::new(&g, "lstm", Cells { input: 8, hidden: 16, layers: 2 }, F32);
    /// let x = g.input("x", [20, 4, 8], F32);
    /// assert_eq!(lstm.forward(x).shape().sizes(), [20, 4, 16]);
    ///
    /// // From one piece of a long text to the next.
    /// let first = lstm.run(x, Course::default());
    /// let from = Course { hidden: Some(first.hidden), cell: first.cell, ..Course::default() };
    /// let second = lstm.run(g.input("more", [20, 4, 8], F32), from);
    /// assert_eq!(second.hidden.shape().sizes(), [2, 4, 16]);
    /// ```
    Lstm Cell::Lstm
}

recurrent! {
    /// Layers of gated recurrent units (see [`Cell::Gru`]), from zero states by `forward`:
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
    Gru Cell::Gru
}
