//! Adagrad.

use super::{Group, Rate, Shared, finish};
use crate::graph::Graph;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// Options of [`adagrad`].
#[derive(Clone, PartialEq, Debug)]
pub struct Adagrad {
    /// The learning rate.
    pub lr: Rate,
    /// What the sums of squares start with.
    pub initial: f64,
    /// Added to the divisor.
    pub eps: f64,
    /// The part of the parameter that is added to its gradient.
    pub weight_decay: f64,
}

impl Default for Adagrad {
    /// A rate of 0.01, eps of 1e-10, and nothing else.
    fn default() -> Adagrad {
        Adagrad {
            lr: Rate::constant(0.01),
            initial: 0.0,
            eps: 1e-10,
            weight_decay: 0.0,
        }
    }
}

/// `w -= lr * gradient / (sqrt(s) + eps)`, where `s` sums up the squares of all gradients (Duchi et
/// al., 2011). State: `<parameter>.adagrad.s`.
pub fn adagrad<'g>(
    graph: &'g Graph,
    parameters: &[Param],
    gradients: &[Tensor<'g>],
    options: Adagrad,
) -> Updates {
    let group = Group {
        graph,
        name: "adagrad",
        parameters,
        gradients,
    };
    let (step, counted) = options.lr.counts().then(|| group.count()).unzip();
    let build = || {
        let lr = Shared(options.lr.at(graph, step)?);
        group.updates(|slot, updates| {
            let gradient = slot.decayed(options.weight_decay);
            let (state, s) = slot.state("adagrad.s", options.initial);
            let s = s + gradient.square();
            let direction = gradient / (s.sqrt() + options.eps);
            let moved = slot.value - direction * lr.beside(slot.value);
            Ok(slot.becomes(moved, updates.with(state, s)))
        })
    };
    finish(build()).and(counted.unwrap_or_default())
}
