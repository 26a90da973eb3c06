//! Stochastic gradient descent.

use std::panic::Location;

use super::{Group, Rate};
use crate::graph::Graph;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// What [`sgd`] goes by; PyTorch's meanings and defaults (but for the rate).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sgd {
    /// The learning rate.
    pub lr: Rate,
    /// How much of the last direction stays.
    pub momentum: f64,
    /// How much of the gradient is kept out of the momentum (not in the first step).
    pub dampening: f64,
    /// Added to the gradient, times the parameter.
    pub weight_decay: f64,
    /// How momentum is applied.
    pub style: Momentum,
}

/// How momentum is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Momentum {
    /// Along the accumulated direction.
    #[default]
    Heavy,
    /// Along the accumulated direction, looked ahead by one gradient (Sutskever et al., 2013).
    Nesterov,
}

impl Default for Sgd {
    fn default() -> Sgd {
        Sgd {
            lr: 1e-2.into(),
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            style: Momentum::Heavy,
        }
    }
}

/// `p <- p - lr * d`, where `d` is the gradient plus decay, or the momentum buffer
/// `b <- momentum * b + (1 - dampening) * d`, which starts as the first gradient.
#[track_caller]
pub fn sgd<'g>(
    graph: &'g Graph,
    parameters: &[Param],
    gradients: &[Tensor<'g>],
    options: Sgd,
) -> Updates {
    let group = match Group::new(graph, "sgd", parameters, gradients) {
        Ok(group) => group,
        Err(updates) => return updates,
    };
    graph.within(graph.origin_of("sgd", Location::caller()), || {
        build(&group, options)
    })
}

fn build(group: &Group<'_, '_>, options: Sgd) -> Updates {
    let graph = group.graph;
    let (step, mut updates) = group.step();
    for &(parameter, gradient) in &group.pairs {
        let value = graph.read(parameter);
        let mut direction = match options.weight_decay {
            0.0 => gradient,
            decay => value * decay + gradient,
        };
        if options.momentum != 0.0 {
            let buffer = group.state(parameter, "momentum");
            let damped = direction * (1.0 - options.dampening);
            let later = graph.read(buffer) * options.momentum + damped;
            let next = match options.dampening {
                0.0 => later,
                _ => step.eq(1).select(direction, later),
            };
            updates = updates.with(buffer, next);
            direction = match options.style {
                Momentum::Heavy => next,
                Momentum::Nesterov => next * options.momentum + direction,
            };
        }
        let rate = options.lr.at(graph, step, value.dtype());
        updates = updates.with(parameter, value - direction * rate);
    }
    updates
}
