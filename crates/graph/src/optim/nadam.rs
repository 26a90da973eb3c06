//! NAdam.

use std::panic::Location;

use backprop_core::DType;

use super::{Group, Rate, adam::check, at_least_zero, updates};
use crate::graph::Graph;
use crate::init::Init;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// What [`nadam`] goes by; PyTorch's meanings and defaults.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NAdam {
    /// The learning rate.
    pub lr: Rate,
    /// How much of the running means of the gradient and of its square stays.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
    /// Added to the gradient, times the parameter.
    pub weight_decay: f64,
    /// How fast the first of `betas` comes to hold in full.
    pub momentum_decay: f64,
}

impl Default for NAdam {
    fn default() -> NAdam {
        NAdam {
            lr: 2e-3.into(),
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
            momentum_decay: 4e-3,
        }
    }
}

/// Adam looking ahead by one gradient (Dozat, 2016): `p <- p - lr * (c g + d m) / (sqrt(v / (1 - b2^t)) +
/// eps)`, where `c = (1 - u_t) / (1 - u_1 .. u_t)`, `d = u_(t+1) / (1 - u_1 .. u_(t+1))` and
/// `u_t = b1 (1 - 0.96^(t * momentum_decay) / 2)`.
#[track_caller]
pub fn nadam<'g>(
    graph: &'g Graph,
    parameters: &[Param],
    gradients: &[Tensor<'g>],
    options: NAdam,
) -> Updates {
    let pairs = (parameters, gradients);
    updates(graph, "nadam", pairs, Location::caller(), |group| {
        build(group, options)
    })
}

fn build<'g>(group: &Group<'g>, options: NAdam) -> Result<Updates, String> {
    let (b1, b2) = options.betas;
    check(options.lr, options.betas, options.eps, options.weight_decay)?;
    at_least_zero([("momentum_decay", options.momentum_decay)])?;
    let graph = group.graph;
    let (step, counted) = group.step();
    let rate = options.lr.at(graph, step);
    let ramp = |t: Tensor<'g>| {
        let left = step.number(0.96).pow(t * options.momentum_decay);
        (-(left * 0.5) + 1.0) * b1
    };
    let (now, later) = (ramp(step), ramp(step + 1.0));
    let product = group.shared("product", DType::F64, Init::Ones);
    let so_far = graph.read(product) * now;
    let counted = counted.with(product, so_far);
    let fresh = rate * (-now + 1.0) / (-so_far + 1.0);
    let carried = rate * later / (-(so_far * later) + 1.0);
    let root = (-step.number(b2).pow(step) + 1.0).rsqrt();
    Ok(group.each(counted, |slot, updates| {
        let dtype = slot.value.dtype();
        let gradient = slot.decayed(options.weight_decay);
        let (m_state, m) = group.state(slot, "m", 0.0);
        let (v_state, v) = group.state(slot, "v", 0.0);
        let m = m * b1 + gradient * (1.0 - b1);
        let v = v * b2 + gradient.square() * (1.0 - b2);
        let denominator = v.sqrt() * root.cast(dtype) + options.eps;
        let direction = gradient * fresh.cast(dtype) + m * carried.cast(dtype);
        let next = slot.value - direction / denominator;
        (next, updates.with(m_state, m).with(v_state, v))
    }))
}
