//! Adadelta.

use std::panic::Location;

use super::{Group, Rate, at_least_zero, shares, updates};
use crate::graph::Graph;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// What [`adadelta`] goes by; PyTorch's meanings and defaults.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Adadelta {
    /// The learning rate.
    pub lr: Rate,
    /// How much of the running means of squares stays.
    pub rho: f64,
    /// Added to both means of squares, under the root.
    pub eps: f64,
    /// Added to the gradient, times the parameter.
    pub weight_decay: f64,
}

impl Default for Adadelta {
    fn default() -> Adadelta {
        Adadelta {
            lr: 1.0.into(),
            rho: 0.9,
            eps: 1e-6,
            weight_decay: 0.0,
        }
    }
}

/// `p <- p - lr * d`, where `d = sqrt(u + eps) / sqrt(s + eps) * g`, `s` is the running mean of `g^2` and
/// `u` that of `d^2` up to the last step (Zeiler, 2012, arXiv:1212.5701).
#[track_caller]
pub fn adadelta<'g>(
    graph: &'g Graph,
    parameters: &[Param],
    gradients: &[Tensor<'g>],
    options: Adadelta,
) -> Updates {
    let pairs = (parameters, gradients);
    updates(graph, "adadelta", pairs, Location::caller(), |group| {
        build(group, options)
    })
}

fn build(group: &Group<'_>, options: Adadelta) -> Result<Updates, String> {
    let Adadelta { rho, eps, .. } = options;
    options.lr.check()?;
    shares([("rho", rho)])?;
    at_least_zero([("eps", eps), ("weight_decay", options.weight_decay)])?;
    let (rate, counted) = group.rate(options.lr);
    Ok(group.each(counted, |slot, updates| {
        let gradient = slot.decayed(options.weight_decay);
        let (s_state, squares) = group.state(slot, "squares", 0.0);
        let (m_state, moves) = group.state(slot, "moves", 0.0);
        let squares = squares * rho + gradient.square() * (1.0 - rho);
        let direction = (moves + eps).sqrt() / (squares + eps).sqrt() * gradient;
        let moves = moves * rho + direction.square() * (1.0 - rho);
        let updates = updates.with(s_state, squares).with(m_state, moves);
        (slot.moved(direction, rate), updates)
    }))
}
