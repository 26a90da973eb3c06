//! Adagrad.

use std::panic::Location;

use super::{Group, Rate, at_least_zero, updates};
use crate::graph::Graph;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// What [`adagrad`] goes by; PyTorch's meanings and defaults.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Adagrad {
    /// The learning rate.
    pub lr: Rate,
    /// What the sums of squares start with.
    pub initial: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Added to the gradient, times the parameter.
    pub weight_decay: f64,
}

impl Default for Adagrad {
    fn default() -> Adagrad {
        Adagrad {
            lr: 1e-2.into(),
            initial: 0.0,
            eps: 1e-10,
            weight_decay: 0.0,
        }
    }
}

/// `p <- p - lr * g / (sqrt(s) + eps)`, where `s` sums up the squares of all gradients (Duchi et al.,
/// 2011).
#[track_caller]
pub fn adagrad<'g>(
    graph: &'g Graph,
    parameters: &[Param],
    gradients: &[Tensor<'g>],
    options: Adagrad,
) -> Updates {
    let pairs = (parameters, gradients);
    updates(graph, "adagrad", pairs, Location::caller(), |group| {
        build(group, options)
    })
}

fn build(group: &Group<'_>, options: Adagrad) -> Result<Updates, String> {
    options.lr.check()?;
    at_least_zero([
        ("initial", options.initial),
        ("eps", options.eps),
        ("weight_decay", options.weight_decay),
    ])?;
    let (rate, counted) = group.rate(options.lr);
    Ok(group.each(counted, |slot, updates| {
        let gradient = slot.decayed(options.weight_decay);
        let (state, squares) = group.state(slot, "squares", options.initial);
        let squares = squares + gradient.square();
        let direction = gradient / (squares.sqrt() + options.eps);
        (slot.moved(direction, rate), updates.with(state, squares))
    }))
}
