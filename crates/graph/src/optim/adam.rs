//! Adam and AdamW.

use std::panic::Location;

use super::{Group, Rate, at_least_zero, shares, updates};
use crate::graph::Graph;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// Which mean of the gradient's square divides a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Denominator {
    /// The running mean.
    #[default]
    Running,
    /// The largest running mean so far: AMSGrad (Reddi et al., 2018, arXiv:1904.09237).
    Largest,
}

/// What [`adam`] goes by; PyTorch's meanings and defaults.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Adam {
    /// The learning rate.
    pub lr: Rate,
    /// How much of the running means of the gradient and of its square stays.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
    /// Added to the gradient, times the parameter.
    pub weight_decay: f64,
    /// Which mean of squares divides.
    pub denominator: Denominator,
}

impl Default for Adam {
    fn default() -> Adam {
        Adam {
            lr: 1e-3.into(),
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
            denominator: Denominator::Running,
        }
    }
}

/// What [`adamw`] goes by; PyTorch's meanings and defaults.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AdamW {
    /// The learning rate.
    pub lr: Rate,
    /// How much of the running means of the gradient and of its square stays.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
    /// Taken off the parameter, times the learning rate and the parameter.
    pub weight_decay: f64,
    /// Which mean of squares divides.
    pub denominator: Denominator,
}

impl Default for AdamW {
    fn default() -> AdamW {
        AdamW {
            lr: 1e-3.into(),
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 1e-2,
            denominator: Denominator::Running,
        }
    }
}

/// Adam (Kingma and Ba, 2014, arXiv:1412.6980), with decay added to the gradient.
#[track_caller]
pub fn adam<'g>(
    graph: &'g Graph,
    parameters: &[Param],
    gradients: &[Tensor<'g>],
    options: Adam,
) -> Updates {
    let pairs = (parameters, gradients);
    updates(graph, "adam", pairs, Location::caller(), |group| {
        moments(group, options, Decay::InGradient)
    })
}

/// AdamW (Loshchilov and Hutter, 2017, arXiv:1711.05101): Adam with decay taken off the parameter.
#[track_caller]
pub fn adamw<'g>(
    graph: &'g Graph,
    parameters: &[Param],
    gradients: &[Tensor<'g>],
    options: AdamW,
) -> Updates {
    let pairs = (parameters, gradients);
    let AdamW {
        lr,
        betas,
        eps,
        weight_decay,
        denominator,
    } = options;
    let options = Adam {
        lr,
        betas,
        eps,
        weight_decay,
        denominator,
    };
    updates(graph, "adamw", pairs, Location::caller(), |group| {
        moments(group, options, Decay::OffParameter)
    })
}

#[derive(Clone, Copy)]
enum Decay {
    InGradient,
    OffParameter,
}

/// `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`, and
/// `p <- p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)`.
fn moments(group: &Group<'_>, options: Adam, decay: Decay) -> Result<Updates, String> {
    check(options.lr, options.betas, options.eps, options.weight_decay)?;
    let graph = group.graph;
    let (b1, b2) = options.betas;
    let (step, counted) = group.step();
    let rate = options.lr.at(graph, step);
    let unbias = |beta: f64| -step.number(beta).pow(step) + 1.0;
    let (stride, root) = (rate / unbias(b1), unbias(b2).rsqrt());
    let shrink = -(rate * options.weight_decay) + 1.0;
    Ok(group.each(counted, |slot, mut updates| {
        let dtype = slot.value.dtype();
        let (value, gradient) = match decay {
            Decay::InGradient => (slot.value, slot.decayed(options.weight_decay)),
            Decay::OffParameter if options.weight_decay == 0.0 => (slot.value, slot.gradient),
            Decay::OffParameter => (slot.value * shrink.cast(dtype), slot.gradient),
        };
        let (m_state, m) = group.state(slot, "m", 0.0);
        let (v_state, v) = group.state(slot, "v", 0.0);
        let m = m * b1 + gradient * (1.0 - b1);
        let v = v * b2 + gradient.square() * (1.0 - b2);
        let squares = match options.denominator {
            Denominator::Running => v,
            Denominator::Largest => {
                let (state, largest) = group.state(slot, "largest", 0.0);
                let largest = largest.maximum(v);
                updates = updates.with(state, largest);
                largest
            }
        };
        let denominator = squares.sqrt() * root.cast(dtype) + options.eps;
        let next = value - m / denominator * stride.cast(dtype);
        (next, updates.with(m_state, m).with(v_state, v))
    }))
}

/// An error for options of a method with two running means that have no meaning.
pub(super) fn check(
    lr: Rate,
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
) -> Result<(), String> {
    lr.check()?;
    shares([
        ("the first of betas", betas.0),
        ("the second of betas", betas.1),
    ])?;
    at_least_zero([("eps", eps), ("weight_decay", weight_decay)])
}
