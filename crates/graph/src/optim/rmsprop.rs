//! RMSprop.

use super::{Group, Rate, Shared, finish};
use crate::graph::Graph;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// Options of [`rmsprop`].
#[derive(Clone, PartialEq, Debug)]
pub struct RmsProp {
    /// The learning rate.
    pub lr: Rate,
    /// How much the mean of squared gradients keeps.
    pub alpha: f64,
    /// Added to the divisor.
    pub eps: f64,
    /// The part of the last direction that is kept.
    pub momentum: f64,
    /// The part of the parameter that is added to its gradient.
    pub weight_decay: f64,
}

impl Default for RmsProp {
    /// A rate of 0.01, alpha of 0.99, eps of 1e-8, and nothing else.
    fn default() -> RmsProp {
        RmsProp {
            lr: Rate::constant(0.01),
            alpha: 0.99,
            eps: 1e-8,
            momentum: 0.0,
            weight_decay: 0.0,
        }
    }
}

/// `w -= lr * gradient / (sqrt(s) + eps)`, where `s` follows the gradient's square (Hinton, 2012).
/// State: `<parameter>.rmsprop.s`, and `.v` with momentum.
pub fn rmsprop<'g>(
    graph: &'g Graph,
    parameters: &[Param],
    gradients: &[Tensor<'g>],
    options: RmsProp,
) -> Updates {
    let group = Group {
        graph,
        name: "rmsprop",
        parameters,
        gradients,
    };
    let (step, counted) = options.lr.counts().then(|| group.count()).unzip();
    let build = || {
        let lr = Shared(options.lr.at(graph, step)?);
        group.updates(|slot, mut updates| {
            let gradient = slot.decayed(options.weight_decay);
            let (state, s) = slot.state("rmsprop.s", 0.0);
            let s = s * options.alpha + gradient.square() * (1.0 - options.alpha);
            updates = updates.with(state, s);
            let mut direction = gradient / (s.sqrt() + options.eps);
            if options.momentum != 0.0 {
                let (state, v) = slot.state("rmsprop.v", 0.0);
                direction = v * options.momentum + direction;
                updates = updates.with(state, direction);
            }
            let moved = slot.value - direction * lr.beside(slot.value);
            Ok(slot.becomes(moved, updates))
        })
    };
    finish(build()).and(counted.unwrap_or_default())
}
