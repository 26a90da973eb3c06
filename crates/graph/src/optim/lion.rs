//! Lion.

use std::panic::Location;

use super::{Group, Rate, adam::check, updates};
use crate::graph::Graph;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// What [`lion`] goes by; the defaults of the authors' code.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Lion {
    /// The learning rate.
    pub lr: Rate,
    /// How much of the momentum enters a step, and how much of it stays.
    pub betas: (f64, f64),
    /// Taken off the parameter, times the learning rate and the parameter.
    pub weight_decay: f64,
}

impl Default for Lion {
    fn default() -> Lion {
        Lion {
            lr: 1e-4.into(),
            betas: (0.9, 0.99),
            weight_decay: 0.0,
        }
    }
}

/// `p <- p - lr * (sign(b1 m + (1 - b1) g) + decay * p)`, then `m <- b2 m + (1 - b2) g` (Chen et al.,
/// 2023, arXiv:2302.06675, algorithm 2).
#[track_caller]
pub fn lion<'g>(
    graph: &'g Graph,
    parameters: &[Param],
    gradients: &[Tensor<'g>],
    options: Lion,
) -> Updates {
    let pairs = (parameters, gradients);
    updates(graph, "lion", pairs, Location::caller(), |group| {
        build(group, options)
    })
}

fn build(group: &Group<'_>, options: Lion) -> Result<Updates, String> {
    let (b1, b2) = options.betas;
    check(options.lr, options.betas, 0.0, options.weight_decay)?;
    let (rate, counted) = group.rate(options.lr);
    Ok(group.each(counted, |slot, updates| {
        let (state, m) = group.state(slot, "m", 0.0);
        let mut direction = (m * b1 + slot.gradient * (1.0 - b1)).sign();
        if options.weight_decay != 0.0 {
            direction = direction + slot.value * options.weight_decay;
        }
        let next = m * b2 + slot.gradient * (1.0 - b2);
        (slot.moved(direction, rate), updates.with(state, next))
    }))
}
