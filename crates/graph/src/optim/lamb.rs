//! LAMB.

use std::panic::Location;

use super::{Group, Rate, adam::check, updates};
use crate::graph::Graph;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// What [`lamb`] goes by; the defaults of Adam, but for `eps`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Lamb {
    /// The learning rate.
    pub lr: Rate,
    /// How much of the running means of the gradient and of its square stays.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
    /// Added to the direction, times the parameter.
    pub weight_decay: f64,
}

impl Default for Lamb {
    fn default() -> Lamb {
        Lamb {
            lr: 1e-3.into(),
            betas: (0.9, 0.999),
            eps: 1e-6,
            weight_decay: 1e-2,
        }
    }
}

/// `p <- p - lr * |p| / |u| * u`, where `u` is the direction of Adam plus decay and the norms are of whole
/// parameters; where one of them is 0, their quotient is taken as 1 (You et al., 2019,
/// arXiv:1904.00962, algorithm 2, its function of the norm being the norm).
#[track_caller]
pub fn lamb<'g>(
    graph: &'g Graph,
    parameters: &[Param],
    gradients: &[Tensor<'g>],
    options: Lamb,
) -> Updates {
    let pairs = (parameters, gradients);
    updates(graph, "lamb", pairs, Location::caller(), |group| {
        build(group, options)
    })
}

fn build(group: &Group<'_>, options: Lamb) -> Result<Updates, String> {
    let (b1, b2) = options.betas;
    check(options.lr, options.betas, options.eps, options.weight_decay)?;
    let (step, counted) = group.step();
    let rate = options.lr.at(group.graph, step);
    let unbias = |beta: f64| (-step.number(beta).pow(step) + 1.0).reciprocal();
    let (m_scale, v_scale) = (unbias(b1), unbias(b2));
    Ok(group.each(counted, |slot, updates| {
        let (value, dtype) = (slot.value, slot.value.dtype());
        let (m_state, m) = group.state(slot, "m", 0.0);
        let (v_state, v) = group.state(slot, "v", 0.0);
        let m = m * b1 + slot.gradient * (1.0 - b1);
        let v = v * b2 + slot.gradient.square() * (1.0 - b2);
        let denominator = (v * v_scale.cast(dtype)).sqrt() + options.eps;
        let direction = m * m_scale.cast(dtype) / denominator + value * options.weight_decay;
        let norms = [value, direction].map(|x| x.square().sum(..).sqrt());
        let safe = norms[1].gt(0.0).select(norms[1], 1.0);
        let trust = norms[0].gt(0.0).select(norms[0] / safe, 1.0);
        let trust = norms[1].gt(0.0).select(trust, 1.0);
        let next = slot.moved(direction * trust, rate);
        (next, updates.with(m_state, m).with(v_state, v))
    }))
}
