//! Recurrent layers, as scans over time. The projections of all inputs are one matrix product before
//! the first step.

use std::panic::Location;

use backprop_core::DType;

use crate::composite::Sample;
use crate::graph::{Problem, bad_attribute, bad_dtype, bad_shape};
use crate::op::catalogue::{Entry, entries, reals};
use crate::scan::{Iteration, Left};
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

/// What a recurrent layer does in a step of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cell {
    /// `h = tanh(W x + b + U h + c)`.
    RnnTanh,
    /// A long short-term memory (Hochreiter and Schmidhuber, 1997; with forget gates), with a second
    /// state; gates in the order input, forget, cell, output.
    Lstm,
    /// A gated recurrent unit (arXiv:1406.1078, with the reset gate after the product); gates in the
    /// order reset, update, new.
    Gru,
}

/// Which way a recurrent layer goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    /// From the first step of time to the last.
    #[default]
    Forward,
    /// From the last step of a sequence to the first.
    Backward,
}

/// Where a recurrent layer begins and ends: at zero states and with the last step of time, unless
/// something else is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recurrence<'g> {
    /// The hidden state before the first step, `[batch, hidden]`.
    pub hidden: Option<Tensor<'g>>,
    /// The cell state of an [LSTM](Cell::Lstm) before the first step, `[batch, hidden]`.
    pub cell: Option<Tensor<'g>>,
    /// How many steps each sequence has, integers `[batch]` from 0 to `time`, if they differ. What comes
    /// after its end does not change a sequence's states, and the outputs there are 0. A length out of
    /// bounds is an error of the step.
    pub lengths: Option<Tensor<'g>>,
    /// The way through time.
    pub direction: Direction,
}

/// What a recurrent layer gives.
#[derive(Clone, Copy, Debug)]
pub struct Recurred<'g> {
    /// The hidden states, in the order of time: `[time, batch, hidden]`.
    pub outputs: Tensor<'g>,
    /// The hidden state after the last step of each sequence, `[batch, hidden]`.
    pub hidden: Tensor<'g>,
    /// The cell state after it, of an [LSTM](Cell::Lstm).
    pub cell: Option<Tensor<'g>>,
}

impl<'g> Recurrent<'g> {
    /// [`Cell::RnnTanh`] over the time steps of `x`, `[time, batch, input]`, from a zero state: all
    /// hidden states, `[time, batch, hidden]`.
    #[track_caller]
    #[must_use]
    pub fn rnn_tanh(&self, x: Tensor<'g>) -> Tensor<'g> {
        self.run(Cell::RnnTanh, x, Recurrence::default()).outputs
    }

    /// [`Cell::Lstm`] over the time steps of `x`, from zero states. Shapes as for
    /// [`rnn_tanh`](Recurrent::rnn_tanh).
    #[track_caller]
    #[must_use]
    pub fn lstm(&self, x: Tensor<'g>) -> Tensor<'g> {
        self.run(Cell::Lstm, x, Recurrence::default()).outputs
    }

    /// [`Cell::Gru`] over the time steps of `x`, from a zero state. Shapes as for
    /// [`rnn_tanh`](Recurrent::rnn_tanh).
    #[track_caller]
    #[must_use]
    pub fn gru(&self, x: Tensor<'g>) -> Tensor<'g> {
        self.run(Cell::Gru, x, Recurrence::default()).outputs
    }

    /// Takes states through the time steps of `x`, `[time, batch, input]`.
    ///
    /// ```
    /// use backprop_core::DType::{F32, I64};
    /// use backprop_graph::{Cell, Graph, Init, Recurrence, Recurrent};
    ///
    /// let g = Graph::new();
    /// let weight = |name, shape: [usize; 2]| g.read(g.parameter(name, shape, F32, Init::Xavier));
    /// let layer = Recurrent {
    ///     weight_ih: weight("weight_ih", [4 * 8, 3]),
    ///     weight_hh: weight("weight_hh", [4 * 8, 8]),
    ///     bias_ih: g.full([4 * 8], 0.0, F32),
    ///     bias_hh: g.full([4 * 8], 0.0, F32),
    /// };
    /// let (x, lengths) = (g.input("x", [20, 5, 3], F32), g.input("lengths", [5], I64));
    /// let first = Recurrence { lengths: Some(lengths), ..Recurrence::default() };
    /// let read = layer.run(Cell::Lstm, x, first);
    /// // The states go on where the sequences ended.
    /// let (hidden, cell) = (Some(read.hidden), read.cell);
    /// let more = layer.run(Cell::Lstm, x, Recurrence { hidden, cell, ..Recurrence::default() });
    /// assert_eq!(more.outputs.shape().sizes(), [20, 5, 8]);
    /// # g.check()?;
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    #[track_caller]
    #[must_use]
    pub fn run(&self, cell: Cell, x: Tensor<'g>, how: Recurrence<'g>) -> Recurred<'g> {
        let weights = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh];
        let given = [how.hidden, how.cell, how.lengths].into_iter().flatten();
        let operands: Vec<Tensor<'g>> = [x].into_iter().chain(weights).chain(given).collect();
        let (place, graph) = (Location::caller(), x.graph);
        let mut states = Vec::new();
        let outputs = graph.compose(cell.name(), &operands, place, || {
            let initial = self.start(cell, x, how)?;
            let lengths = lengths(cell, x, how)?;
            let (outputs, last) = self.pass(cell, x, &initial, (lengths, how.direction));
            states = last;
            Ok(outputs)
        });
        // Where something does not fit, all results stand for the same error.
        let state = |k: usize| states.get(k).copied();
        Recurred {
            outputs,
            hidden: state(0).unwrap_or(outputs),
            cell: (cell == Cell::Lstm).then(|| state(1).unwrap_or(outputs)),
        }
    }

    /// The states before the first step, once all shapes are known to fit.
    fn start(
        &self,
        cell: Cell,
        x: Tensor<'g>,
        how: Recurrence<'g>,
    ) -> Result<Vec<Tensor<'g>>, Problem> {
        let name = cell.name();
        let weights = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh];
        let [ih, hh, bias_ih, bias_hh] = weights.map(Tensor::shape);
        let (x_shape, gates, hidden) = (x.shape(), cell.gates(), hh.size(1));
        let rows = gates * hidden;
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
        let state = [x_shape.size(1), hidden];
        let begin = |given: Option<Tensor<'g>>| match given {
            None => Ok(x.graph.full(state, 0.0, x.dtype())),
            Some(given) if given.shape().sizes() != state => {
                let what = format!("an initial state {} for {x_shape}", given.shape());
                Err(bad_shape(name, what).help("[batch, hidden]"))
            }
            Some(given) if given.dtype() != x.dtype() => {
                let (state, x) = (given.dtype(), x.dtype());
                Err(bad_dtype(
                    name,
                    format!("an initial state of {state} for {x}"),
                ))
            }
            Some(given) => Ok(given),
        };
        match (cell, how.cell) {
            (Cell::Lstm, _) => Ok(vec![begin(how.hidden)?, begin(how.cell)?]),
            (_, None) => Ok(vec![begin(how.hidden)?]),
            (_, Some(_)) => Err(bad_attribute(name, "a cell state, which it has not")),
        }
    }

    /// Takes the states through all time steps; gives the first of them after each step, and all after
    /// the last.
    fn pass(
        &self,
        cell: Cell,
        x: Tensor<'g>,
        initial: &[Tensor<'g>],
        (lengths, direction): (Option<Tensor<'g>>, Direction),
    ) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let turned = |x: Tensor<'g>| match direction {
            Direction::Forward => x,
            Direction::Backward => x.flip(0),
        };
        let inputs = turned(x).matmul(self.weight_ih.t()) + self.bias_ih;
        let recurrent = self.weight_hh.t();
        let times = x.shape().size(0);
        let scanned = x.graph.scan(times, initial, &[inputs], |at| {
            let from_state = at.carried[0].matmul(recurrent) + self.bias_hh;
            let next = cell.step(&at.carried, [at.elements[0], from_state]);
            let Some(lengths) = lengths else {
                let stacked = next.first().copied().into_iter().collect();
                return Left {
                    carried: next,
                    stacked,
                };
            };
            let time = match direction {
                Direction::Forward => at.index,
                Direction::Backward => at.index.number(times as f64 - 1.0) - at.index,
            };
            within(&at, next, lengths.gt(time).unsqueeze(-1))
        });
        let outputs = scanned.stacked.first().copied().unwrap_or(x);
        (turned(outputs), scanned.carried)
    }
}

/// What an iteration leaves where sequences have a step, and the states as they were elsewhere.
fn within<'g>(at: &Iteration<'g>, next: Vec<Tensor<'g>>, runs: Tensor<'g>) -> Left<'g> {
    let both = at.carried.iter().zip(&next);
    let output = next.iter().take(1);
    Left {
        carried: both.map(|(&old, &new)| runs.select(new, old)).collect(),
        stacked: output.map(|&new| runs.select(new, 0.0)).collect(),
    }
}

/// The lengths, once they are known to fit.
fn lengths<'g>(
    cell: Cell,
    x: Tensor<'g>,
    how: Recurrence<'g>,
) -> Result<Option<Tensor<'g>>, Problem> {
    let Some(lengths) = how.lengths else {
        return Ok(None);
    };
    let (name, sizes, dtype) = (cell.name(), x.shape(), lengths.dtype());
    if !matches!(dtype, DType::I32 | DType::I64) {
        let problem = bad_dtype(name, format!("lengths of type {dtype}"));
        return Err(problem.help("they are integers"));
    }
    if lengths.shape().sizes() != [sizes.size(1)] {
        let what = format!("lengths {} for {sizes}", lengths.shape());
        return Err(bad_shape(name, what).help("[batch], of [time, batch, input]"));
    }
    let wide = lengths.cast(DType::I64);
    let inside = wide
        .ge(0)
        .logical_and(wide.le(wide.number(sizes.size(0) as f64)));
    let what = format!("{name}: a length is outside of [0, {}]", sizes.size(0));
    Ok(Some(wide.require(inside, &what)))
}

impl Cell {
    /// The name, for errors.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Cell::RnnTanh => "rnn_tanh",
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
        }
    }

    /// The number of its gates: how many rows of weights there are for each of the state.
    #[must_use]
    pub fn gates(self) -> usize {
        match self {
            Cell::RnnTanh => 1,
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }

    /// The states after a step, given those before it and the parts of the input and of the first
    /// state.
    fn step<'g>(self, state: &[Tensor<'g>], parts: [Tensor<'g>; 2]) -> Vec<Tensor<'g>> {
        match self {
            Cell::RnnTanh => vec![(parts[0] + parts[1]).tanh()],
            Cell::Lstm => {
                let [input, forget, new, output] = gates(parts[0] + parts[1]);
                let cell = forget.sigmoid() * state[1] + input.sigmoid() * new.tanh();
                vec![output.sigmoid() * cell.tanh(), cell]
            }
            Cell::Gru => {
                let [input, recurrent] = parts.map(gates::<3>);
                let reset = (input[0] + recurrent[0]).sigmoid();
                let update = (input[1] + recurrent[1]).sigmoid();
                let new = (input[2] + reset * recurrent[2]).tanh();
                vec![new + update * (state[0] - new)]
            }
        }
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
    fn stated(gates: usize) -> Vec<Sample> {
        let state = |sample: Sample| sample.with(DType::F64, &[2, 2], (-2.0, 2.0));
        weights(gates)
            .into_iter()
            .map(|sample| state(state(sample)))
            .collect()
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
        lstm_of_lengths stated(4) => |x| {
            let how = Recurrence {
                hidden: Some(x[5]),
                cell: Some(x[6]),
                lengths: Some(x[0].graph().data([2], &[3i64, 1])),
                direction: Direction::Backward,
            };
            let run = layer(x).run(Cell::Lstm, x[0], how);
            run.outputs * (run.hidden + run.cell.unwrap_or(x[5]))
        };
        gru_from_a_state stated(3) => |x| {
            let how = Recurrence { hidden: Some(x[5] * x[6]), ..Recurrence::default() };
            let run = layer(x).run(Cell::Gru, x[0], how);
            run.outputs * run.hidden
        };
    }
}
