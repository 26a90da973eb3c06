//! RMSprop.

use std::panic::Location;

use super::{Group, Rate, at_least_zero, shares, updates};
use crate::graph::Graph;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// What [`rmsprop`] goes by; PyTorch's meanings and defaults.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RmsProp {
    /// The learning rate.
    pub lr: Rate,
    /// How much of the running mean of the gradient's square stays.
    pub alpha: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// How much of the last direction stays.
    pub momentum: f64,
    /// Added to the gradient, times the parameter.
    pub weight_decay: f64,
}

impl Default for RmsProp {
    fn default() -> RmsProp {
        RmsProp {
            lr: 1e-2.into(),
            alpha: 0.99,
            eps: 1e-8,
            momentum: 0.0,
            weight_decay: 0.0,
        }
    }
}

/// `p <- p - lr * g / (sqrt(s) + eps)`, where `s <- alpha s + (1 - alpha) g^2` (Tieleman and Hinton,
/// 2012).
#[track_caller]
pub fn rmsprop<'g>(
    graph: &'g Graph,
    parameters: &[Param],
    gradients: &[Tensor<'g>],
    options: RmsProp,
) -> Updates {
    let pairs = (parameters, gradients);
    updates(graph, "rmsprop", pairs, Location::caller(), |group| {
        build(group, options)
    })
}

fn build(group: &Group<'_>, options: RmsProp) -> Result<Updates, String> {
    options.lr.check()?;
    shares([("alpha", options.alpha), ("momentum", options.momentum)])?;
    at_least_zero([("eps", options.eps), ("weight_decay", options.weight_decay)])?;
    let (rate, counted) = group.rate(options.lr);
    Ok(group.each(counted, |slot, mut updates| {
        let gradient = slot.decayed(options.weight_decay);
        let (state, squares) = group.state(slot, "squares", 0.0);
        let squares = squares * options.alpha + gradient.square() * (1.0 - options.alpha);
        updates = updates.with(state, squares);
        let mut direction = gradient / (squares.sqrt() + options.eps);
        if options.momentum != 0.0 {
            let (state, buffer) = group.state(slot, "momentum", 0.0);
            direction = buffer * options.momentum + direction;
            updates = updates.with(state, direction);
        }
        (slot.moved(direction, rate), updates)
    }))
}
