//! Stochastic gradient descent.

use std::panic::Location;

use super::{Group, Rate, at_least_zero, shares, updates};
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
    let pairs = (parameters, gradients);
    updates(graph, "sgd", pairs, Location::caller(), |group| {
        build(group, options)
    })
}

fn build(group: &Group<'_>, options: Sgd) -> Result<Updates, String> {
    options.lr.check()?;
    shares([("momentum", options.momentum)])?;
    at_least_zero([("weight_decay", options.weight_decay)])?;
    let dampened = options.momentum != 0.0 && options.dampening != 0.0;
    let (step, counted) = group.step_if(dampened || options.lr.is_scheduled());
    let rate = options.lr.at(group.graph, step);
    Ok(group.each(counted, |slot, mut updates| {
        let mut direction = slot.decayed(options.weight_decay);
        if options.momentum != 0.0 {
            let (state, buffer) = group.state(slot, "momentum", 0.0);
            let entering = match dampened {
                true => step
                    .eq(1.0)
                    .select(direction, direction * (1.0 - options.dampening)),
                false => direction,
            };
            let next = buffer * options.momentum + entering;
            updates = updates.with(state, next);
            direction = match options.style {
                Momentum::Heavy => next,
                Momentum::Nesterov => direction + next * options.momentum,
            };
        }
        (slot.moved(direction, rate), updates)
    }))
}
