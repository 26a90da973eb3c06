//! Recurrent layers, as scans over time. The projections of all inputs are one matrix product before
//! the first step.

use std::panic::Location;

use crate::composite::Sample;
use crate::graph::{Problem, bad_shape};
use crate::op::catalogue::{Entry, entries, reals};
use crate::scan::Left;
use crate::tensor::Tensor;

/// The weights of a recurrent layer, in PyTorch's layout: the gates one after the other along the
/// first axis, `hidden` rows each.
#[derive(Clone, Copy, Debug)]
pub struct Recurrent<'g> {
    /// From the input: `[gates * hidden, input]`.
    pub weight_ih: Tensor<'g>,
    /// From the hidden state: `[gates * hidden, hidden]`.
    pub weight_hh: Tensor<'g>,
    /// Added to the input's part: `[gates * hidden]`.
    pub bias_ih: Tensor<'g>,
    /// Added to the hidden state's part: `[gates * hidden]`.
    pub bias_hh: Tensor<'g>,
}

impl<'g> Recurrent<'g> {
    /// `h = tanh(W x + b + U h + c)` over the time steps of `x`, `[time, batch, input]`, from a zero
    /// state: all hidden states, `[time, batch, hidden]`.
    #[track_caller]
    #[must_use]
    pub fn rnn_tanh(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.graph
            .compose("rnn_tanh", &self.operands(x), Location::caller(), || {
                let zero = self.start("rnn_tanh", x, 1)?;
                Ok(self.run(x, &[zero], |_, [input, recurrent]| {
                    vec![(input + recurrent).tanh()]
                }))
            })
    }

    /// A long short-term memory (Hochreiter and Schmidhuber, 1997; with forget gates) over the time
    /// steps of `x`, from zero states; gates in the order input, forget, cell, output. Shapes as for
    /// [`rnn_tanh`](Recurrent::rnn_tanh).
    #[track_caller]
    #[must_use]
    pub fn lstm(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.graph
            .compose("lstm", &self.operands(x), Location::caller(), || {
                let zero = self.start("lstm", x, 4)?;
                Ok(
                    self.run(x, &[zero, zero], |state, [from_input, recurrent]| {
                        let [input, forget, new, output] = gates(from_input + recurrent);
                        let cell = forget.sigmoid() * state[1] + input.sigmoid() * new.tanh();
                        vec![output.sigmoid() * cell.tanh(), cell]
                    }),
                )
            })
    }

    /// A gated recurrent unit (arXiv:1406.1078, with the reset gate after the product) over the time
    /// steps of `x`, from a zero state; gates in the order reset, update, new. Shapes as for
    /// [`rnn_tanh`](Recurrent::rnn_tanh).
    #[track_caller]
    #[must_use]
    pub fn gru(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.graph
            .compose("gru", &self.operands(x), Location::caller(), || {
                let zero = self.start("gru", x, 3)?;
                Ok(self.run(x, &[zero], |state, parts| {
                    let [input, recurrent] = parts.map(gates::<3>);
                    let reset = (input[0] + recurrent[0]).sigmoid();
                    let update = (input[1] + recurrent[1]).sigmoid();
                    let new = (input[2] + reset * recurrent[2]).tanh();
                    vec![new + update * (state[0] - new)]
                }))
            })
    }

    fn operands(&self, x: Tensor<'g>) -> [Tensor<'g>; 5] {
        [
            x,
            self.weight_ih,
            self.weight_hh,
            self.bias_ih,
            self.bias_hh,
        ]
    }

    /// The zero state, once all shapes are known to fit.
    fn start(&self, name: &str, x: Tensor<'g>, gates: usize) -> Result<Tensor<'g>, Problem> {
        let shapes = self.operands(x).map(Tensor::shape);
        let [x_shape, ih, hh, bias_ih, bias_hh] = shapes;
        let (rows, hidden) = (gates * hh.size(1), hh.size(1));
        let fits = x_shape.rank() == 3
            && ih.sizes() == [rows, x_shape.size(2)]
            && hh.sizes() == [rows, hidden]
            && bias_ih.sizes() == [rows]
            && bias_hh.sizes() == [rows];
        if !fits || x_shape.size(0) == 0 {
            let what = format!("{x_shape} by weights {ih}, {hh} and biases {bias_ih}, {bias_hh}");
            let help = format!(
                "[time, batch, input] by [{gates} hidden, input], [{gates} hidden, hidden] and \
                 [{gates} hidden] twice"
            );
            return Err(bad_shape(name, what).help(help));
        }
        Ok(x.graph.full([x_shape.size(1), hidden], 0.0, x.dtype()))
    }

    /// Takes the states through all time steps: `step` gets them with the parts of the input and of
    /// the first state. Gives the first state after each step.
    fn run(
        &self,
        x: Tensor<'g>,
        zeros: &[Tensor<'g>],
        step: impl FnOnce(&[Tensor<'g>], [Tensor<'g>; 2]) -> Vec<Tensor<'g>>,
    ) -> Tensor<'g> {
        let inputs = x.matmul(self.weight_ih.t()) + self.bias_ih;
        let recurrent = self.weight_hh.t();
        let times = x.shape().size(0);
        let scanned = x.graph.scan(times, zeros, &[inputs], |at| {
            let from_state = at.carried[0].matmul(recurrent) + self.bias_hh;
            let carried = step(&at.carried, [at.elements[0], from_state]);
            Left {
                stacked: carried.first().copied().into_iter().collect(),
                carried,
            }
        });
        scanned.stacked.first().copied().unwrap_or(x)
    }
}

/// The columns of each gate.
fn gates<const N: usize>(all: Tensor<'_>) -> [Tensor<'_>; N] {
    let parts = all.chunk(N, -1);
    std::array::from_fn(|gate| parts.get(gate).copied().unwrap_or(all))
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    fn weights(gates: usize) -> Vec<Sample> {
        let rows = 2 * gates;
        reals(&[&[3, 2, 3], &[rows, 3], &[rows, 2], &[rows], &[rows]])
    }
    fn layer<'g>(x: &[Tensor<'g>]) -> Recurrent<'g> {
        Recurrent {
            weight_ih: x[1],
            weight_hh: x[2],
            bias_ih: x[3],
            bias_hh: x[4],
        }
    }
    entries! {
        rnn_tanh weights(1) => |x| layer(x).rnn_tanh(x[0]);
        lstm weights(4) => |x| layer(x).lstm(x[0]);
        gru weights(3) => |x| layer(x).gru(x[0]);
    }
}
