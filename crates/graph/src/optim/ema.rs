//! Running means of parameters.

use std::panic::Location;

use super::{shares, updates};
use crate::graph::Graph;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// Running means of parameters, and the updates that keep them.
#[derive(Clone, Debug)]
pub struct Averaged {
    /// The means, in the order of their parameters, named as `w.ema.mean`; `f32` for 16 bits. None if
    /// there was an error, which `updates` hold.
    pub means: Vec<Param>,
    /// The updates that were given, and those of the means.
    pub updates: Updates,
}

/// Adds to `changes` the means of the values that they give to `parameters` (or that stay):
/// `mean <- decay mean + (1 - decay) p`, where the first value is copied, as in PyTorch's
/// `AveragedModel`. It is an error if `decay` is not in [0, 1).
#[track_caller]
pub fn ema(graph: &Graph, parameters: &[Param], changes: Updates, decay: f64) -> Averaged {
    let next = |parameter: &Param| {
        let change = changes.pairs().iter().find(|(p, _)| p == parameter);
        let value = change.and_then(|(_, key)| graph.lookup(*key));
        value.unwrap_or_else(|| graph.read(*parameter))
    };
    let values: Vec<Tensor<'_>> = parameters.iter().map(next).collect();
    let mut means = Vec::new();
    let pairs = (parameters, values.as_slice());
    let kept = updates(graph, "ema", pairs, Location::caller(), |group| {
        shares([("decay", decay)])?;
        let (step, mut kept) = group.step();
        for slot in group.slots() {
            let (state, mean) = group.state(&slot, "mean", 0.0);
            let moved = mean * decay + slot.gradient * (1.0 - decay);
            kept = kept.with(state, step.eq(1.0).select(slot.gradient, moved));
            means.push(state);
        }
        Ok(kept)
    });
    Averaged {
        means,
        updates: changes.and(kept),
    }
}
