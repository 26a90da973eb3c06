//! Optimizers and schedules, as functions that add nodes to a graph.
//!
//! Each returns the [`Updates`] it means; a session applies them. State (moments, a step count) is
//! made of parameters named after those they belong to, as `w.adam.m`, so that it is saved with them.
//! What depends on the step count is computed from it within the step, once for all parameters and in
//! `f64`: nothing is frozen when a plan is compiled, and what is left for each parameter is one pass
//! over it, its gradient and its state. Parameters of 16 bits are updated in `f32`, as is their state.
//!
//! # Groups of parameters
//!
//! An optimizer is called once for each group that has options of its own, and the updates are joined
//! by [`Updates::and`]. Each call counts its own steps. A parameter that is left out is frozen, and
//! its gradient is never computed if it is not asked for.
//!
//! ```
//! use backprop_core::DType::F32;
//! use backprop_graph::optim::{AdamW, adamw};
//! use backprop_graph::{Graph, Init};
//!
//! let g = Graph::new();
//! let x = g.input("x", [8, 3], F32);
//! let embed = g.parameter("embed", [3, 4], F32, Init::Ones); // Frozen.
//! let (w, b) = (g.parameter("w", [4, 2], F32, Init::Ones), g.parameter("b", [2], F32, Init::Zeros));
//! let loss = (x.matmul(embed).matmul(w) + b).square().mean(..);
//! let grads = g.grad(loss, &[w, b])?;
//! let decayed = AdamW { lr: 1e-3.into(), ..AdamW::default() };
//! let plain = AdamW { lr: 2e-3.into(), weight_decay: 0.0, ..AdamW::default() };
//! let updates = adamw(&g, &[w], &grads[..1], decayed).and(adamw(&g, &[b], &grads[1..], plain));
//! # let _ = updates;
//! # Ok::<(), backprop_core::Error>(())
//! ```
//!
//! # Larger batches, and numbers of 16 bits
//!
//! [`accumulate`] adds up the gradients of several steps before they are applied, and [`micro_batches`]
//! those of the parts of a batch within a step. [`DynamicScale`] keeps the gradients of 16-bit arithmetic
//! in range. Both hand gradients on to whatever makes updates of them, and both are [`Updates::when`]:
//! updates that hold in some steps.

mod accumulate;
mod adadelta;
mod adagrad;
mod adam;
mod clip;
mod ema;
mod lamb;
mod lion;
mod loss_scale;
mod muon;
mod nadam;
mod rate;
mod rmsprop;
mod schedule;
mod sgd;

use backprop_core::{DType, Error, ErrorKind, Place, Shape};

pub use accumulate::{Graded, MicroBatches, Total, accumulate, micro_batches};
pub use adadelta::{Adadelta, adadelta};
pub use adagrad::{Adagrad, adagrad};
pub use adam::{Adam, AdamW, Denominator, adam, adamw};
pub use clip::{Clipped, clip_by_norm, clip_by_value};
pub use ema::{Averaged, ema};
pub use lamb::{Lamb, lamb};
pub use lion::{Lion, lion};
pub use loss_scale::{DynamicScale, LossScale};
pub use muon::{Muon, Orthogonal, Stride, muon};
pub use nadam::{NAdam, nadam};
pub use rate::Rate;
pub use rmsprop::{RmsProp, rmsprop};
pub use schedule::{Anneal, OneCycle, Phases, WarmRestarts};
pub use sgd::{Momentum, Sgd, sgd};

use crate::graph::Graph;
use crate::init::Init;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// The parameters of an optimizer with their gradients, checked to belong together.
struct Group<'g> {
    graph: &'g Graph,
    name: &'static str,
    pairs: Vec<(Param, Tensor<'g>)>,
}

/// One parameter in an update, in the type in which it is computed.
struct Slot<'g> {
    parameter: Param,
    value: Tensor<'g>,
    gradient: Tensor<'g>,
}

/// The updates of an optimizer, which `build` makes for parameters that fit their gradients; an
/// error where they do not.
fn updates<'g>(
    graph: &'g Graph,
    name: &'static str,
    (parameters, gradients): (&[Param], &[Tensor<'g>]),
    place: Place,
    build: impl FnOnce(&Group<'g>) -> Result<Updates, String>,
) -> Updates {
    let pairs = parameters.iter().copied().zip(gradients.iter().copied());
    let group = Group {
        graph,
        name,
        pairs: pairs.collect(),
    };
    let fitting = fit(graph, parameters, gradients);
    let built = fitting.and_then(|()| graph.within(graph.origin_of(name, place), || build(&group)));
    built.unwrap_or_else(|what| {
        let operation = name.to_owned();
        let error = Error::new(ErrorKind::Attribute { operation, what });
        Updates::failed(error.at(place))
    })
}

/// An error for options that are not numbers from 0 up.
fn at_least_zero<const N: usize>(options: [(&str, f64); N]) -> Result<(), String> {
    match options.iter().find(|(_, value)| !(0.0..).contains(value)) {
        Some((name, value)) => Err(format!("{name} is {value}; it must be 0 or more")),
        None => Ok(()),
    }
}

/// An error for options that are not shares of what stays, which lie in [0, 1).
fn shares<const N: usize>(options: [(&str, f64); N]) -> Result<(), String> {
    match options.iter().find(|(_, v)| !(0.0..1.0).contains(v)) {
        Some((name, value)) => Err(format!(
            "{name} is {value}; it must be at least 0 and less than 1"
        )),
        None => Ok(()),
    }
}

fn fit(graph: &Graph, parameters: &[Param], gradients: &[Tensor<'_>]) -> Result<(), String> {
    if parameters.len() != gradients.len() {
        let (p, g) = (parameters.len(), gradients.len());
        return Err(format!("{p} parameters and {g} gradients"));
    }
    for (parameter, gradient) in parameters.iter().zip(gradients) {
        let value = graph.read(*parameter);
        let types = [value, *gradient].map(|x| format!("{}{}", x.dtype(), x.shape()));
        if types[0] != types[1] {
            let name = graph.name(*parameter);
            return Err(format!(
                "`{name}` is {}, its gradient {}",
                types[0], types[1]
            ));
        }
    }
    Ok(())
}

impl<'g> Group<'g> {
    /// Every parameter with its gradient, in the type in which it is computed.
    fn slots(&self) -> impl Iterator<Item = Slot<'g>> {
        self.pairs.iter().map(|&(parameter, gradient)| Slot {
            parameter,
            value: self.graph.read(parameter).widened(),
            gradient: gradient.widened(),
        })
    }

    /// The updates of every parameter after one another.
    fn each(
        &self,
        start: Updates,
        update: impl Fn(&Slot<'g>, Updates) -> (Tensor<'g>, Updates),
    ) -> Updates {
        self.slots().fold(start, |updates, slot| {
            let dtype = self.graph.read(slot.parameter).dtype();
            let (next, updates) = update(&slot, updates);
            updates.with(slot.parameter, next.cast(dtype))
        })
    }

    /// State of a parameter's shape, starting with one number everywhere.
    fn state(&self, slot: &Slot<'g>, what: &str, start: f64) -> (Param, Tensor<'g>) {
        let (graph, value) = (self.graph, slot.value);
        let name = format!("{}.{}.{what}", graph.name(slot.parameter), self.name);
        let init = Init::Constant(start);
        let state = graph.optimizer_state(name, (value.shape(), value.dtype()), init);
        (state, graph.read(state))
    }

    /// One number for all parameters, named after the first.
    fn shared(&self, what: &str, dtype: DType, init: Init) -> Param {
        let first = self.pairs.first();
        let first = first.map_or_else(String::new, |(p, _)| self.graph.name(*p));
        let name = format!("{first}.{}.{what}", self.name);
        self.graph
            .optimizer_state(name, (Shape::SCALAR, dtype), init)
    }

    /// The number of this step, counted from 1, as one `f64`, and the update that counts it.
    fn step(&self) -> (Tensor<'g>, Updates) {
        let count = self.shared("step", DType::I64, Init::Zeros);
        let next = self.graph.read(count) + 1;
        (next.cast(DType::F64), Updates::set(count, next))
    }

    /// The rate of this step, and the update that counts steps if it depends on them.
    fn rate(&self, lr: Rate) -> (Tensor<'g>, Updates) {
        let (step, counted) = self.step_if(lr.is_scheduled());
        (lr.at(self.graph, step), counted)
    }

    /// The [step](Group::step), if `needed`; 1 otherwise.
    fn step_if(&self, needed: bool) -> (Tensor<'g>, Updates) {
        match needed {
            true => self.step(),
            false => (self.graph.full([], 1.0, DType::F64), Updates::none()),
        }
    }
}

impl<'g> Slot<'g> {
    /// The gradient, with a part of the parameter added.
    fn decayed(&self, weight_decay: f64) -> Tensor<'g> {
        match weight_decay {
            0.0 => self.gradient,
            decay => self.gradient + self.value * decay,
        }
    }

    /// The value after a step of a `rate` along a `direction`.
    fn moved(&self, direction: Tensor<'g>, rate: Tensor<'g>) -> Tensor<'g> {
        self.value - direction * rate.cast(self.value.dtype())
    }
}
