//! Adam and AdamW.

use std::panic::Location;

use backprop_core::DType;

use super::{Group, Rate};
use crate::graph::Graph;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

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
}

impl Default for Adam {
    fn default() -> Adam {
        Adam {
            lr: 1e-3.into(),
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
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
}

impl Default for AdamW {
    fn default() -> AdamW {
        AdamW {
            lr: 1e-3.into(),
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 1e-2,
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
    let group = match Group::new(graph, "adam", parameters, gradients) {
        Ok(group) => group,
        Err(updates) => return updates,
    };
    let moments = Moments {
        lr: options.lr,
        betas: options.betas,
        eps: options.eps,
    };
    graph.within(graph.origin_of("adam", Location::caller()), || {
        moments.build(&group, |value, gradient, _| match options.weight_decay {
            0.0 => (value, gradient),
            decay => (value, value * decay + gradient),
        })
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
    let group = match Group::new(graph, "adamw", parameters, gradients) {
        Ok(group) => group,
        Err(updates) => return updates,
    };
    let moments = Moments {
        lr: options.lr,
        betas: options.betas,
        eps: options.eps,
    };
    graph.within(graph.origin_of("adamw", Location::caller()), || {
        moments.build(&group, |value, gradient, rate| match options.weight_decay {
            0.0 => (value, gradient),
            decay => (value * (-(rate * decay) + 1.0), gradient),
        })
    })
}

struct Moments {
    lr: Rate,
    betas: (f64, f64),
    eps: f64,
}

impl Moments {
    /// `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`, and
    /// `p <- p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)`, where `decay` gives `p` and
    /// `g` from the parameter, its gradient and the rate.
    fn build<'g>(
        &self,
        group: &Group<'g, '_>,
        decay: impl Fn(Tensor<'g>, Tensor<'g>, Tensor<'g>) -> (Tensor<'g>, Tensor<'g>),
    ) -> Updates {
        let graph = group.graph;
        let (b1, b2) = self.betas;
        let (step, mut updates) = group.step();
        let t = step.cast(DType::F64);
        let unbias = |beta: f64| -t.number(beta).pow(t) + 1.0;
        for &(parameter, gradient) in &group.pairs {
            let dtype = gradient.dtype();
            let rate = self.lr.at(graph, step, dtype);
            let step_size = (self.lr.at(graph, step, DType::F64) / unbias(b1)).cast(dtype);
            let root = unbias(b2).rsqrt().cast(dtype);
            let (value, gradient) = decay(graph.read(parameter), gradient, rate);
            let (m, v) = (group.state(parameter, "m"), group.state(parameter, "v"));
            let next_m = graph.read(m) * b1 + gradient * (1.0 - b1);
            let next_v = graph.read(v) * b2 + gradient.square() * (1.0 - b2);
            let denominator = next_v.sqrt() * root + self.eps;
            let next = value - next_m / denominator * step_size;
            updates = updates
                .with(m, next_m)
                .with(v, next_v)
                .with(parameter, next);
        }
        updates
    }
}
