//! Optimizers and schedules, as functions that add nodes to a graph.
//!
//! Each returns the [`Updates`] it means; a session applies them. State (moments, a step count) is
//! made of parameters named after those they belong to, as `w.adam.m`, so that it is saved with them.
//! What depends on the step count is computed from it within the step, once for all parameters and in
//! `f64`: nothing is frozen when a plan is compiled, and what is left for each parameter is one pass
//! over it, its gradient and its state. Parameters of 16 bits are updated in `f32`, as is their state.

mod adagrad;
mod adam;
mod rate;
mod rmsprop;
mod sgd;

use backprop_core::{DType, Error, ErrorKind, Place, Shape};

pub use adagrad::{Adagrad, adagrad};
pub use adam::{Adam, AdamW, adam, adamw};
pub use rate::Rate;
pub use rmsprop::{RmsProp, rmsprop};
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
    build: impl FnOnce(&Group<'g>) -> Updates,
) -> Updates {
    if let Err(what) = fit(graph, parameters, gradients) {
        let operation = name.to_owned();
        let error = Error::new(ErrorKind::Attribute { operation, what });
        return Updates::failed(error.at(place));
    }
    let pairs = parameters.iter().copied().zip(gradients.iter().copied());
    let group = Group {
        graph,
        name,
        pairs: pairs.collect(),
    };
    graph.within(graph.origin_of(name, place), || build(&group))
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
    /// The updates of every parameter after one another.
    fn each(
        &self,
        start: Updates,
        update: impl Fn(&Slot<'g>, Updates) -> (Tensor<'g>, Updates),
    ) -> Updates {
        self.pairs
            .iter()
            .fold(start, |updates, &(parameter, gradient)| {
                let value = self.graph.read(parameter);
                let slot = Slot {
                    parameter,
                    value: value.widened(),
                    gradient: gradient.widened(),
                };
                let (next, updates) = update(&slot, updates);
                updates.with(parameter, next.cast(value.dtype()))
            })
    }

    /// State of a parameter's shape, starting with one number everywhere.
    fn state(&self, slot: &Slot<'g>, what: &str, start: f64) -> (Param, Tensor<'g>) {
        let (graph, value) = (self.graph, slot.value);
        let name = format!("{}.{}.{what}", graph.name(slot.parameter), self.name);
        let init = Init::Constant(start);
        let state = graph.parameter_of(name, value.shape(), value.dtype(), init);
        (state, graph.read(state))
    }

    /// The number of this step, counted from 1, as one `f64`, and the update that counts it.
    fn step(&self) -> (Tensor<'g>, Updates) {
        let first = self.pairs.first();
        let first = first.map_or_else(String::new, |(p, _)| self.graph.name(*p));
        let name = format!("{first}.{}.step", self.name);
        let scalar = Shape::SCALAR;
        let count = self
            .graph
            .parameter_of(name, scalar, DType::I64, Init::Zeros);
        let next = self.graph.read(count) + 1;
        (next.cast(DType::F64), Updates::set(count, next))
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
