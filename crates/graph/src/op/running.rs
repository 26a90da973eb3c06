//! The running statistics of a batch norm: state that a training step moves and an evaluation reads.

use std::panic::Location;

use backprop_core::{Axes, DType};

use crate::graph::Graph;
use crate::init::Init;
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// Mean and variance of each channel over the batches seen so far, as parameters that no optimizer
/// moves. A training step normalises by its own batch and moves them towards it; an evaluation
/// plan of the same session normalises by them (Ioffe and Szegedy, 2015, arXiv:1502.03167).
///
/// ```
/// use backprop_core::{DType::F32, Reference};
/// use backprop_graph::{Graph, Session, Updates};
///
/// let g = Graph::new();
/// let statistics = g.running_statistics("norm", 2, F32);
/// let x = g.input("x", [3, 2], F32);
/// let train = x.batch_norm(1e-5);
/// let eval = statistics.normalize(x, 1e-5);
///
/// let mut session = Session::compile(&g, Reference, &[train.key()], statistics.follow(x))?;
/// let evaluation = session.plan(&[eval.key()], Updates::none())?;
/// session.feed(x, &[1f32, 10.0, 2.0, 20.0, 3.0, 30.0])?.step()?;
/// assert_eq!(session.parameter::<f32>(statistics.mean)?, [0.2, 2.0]); // a tenth of the way from 0
/// session.run(evaluation)?;
/// # Ok::<(), backprop_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RunningStatistics {
    /// The mean of each channel, at first 0.
    pub mean: Param,
    /// The unbiased variance of each channel, at first 1.
    pub var: Param,
    /// How far a step moves both towards the statistics of its batch: a tenth unless changed.
    pub momentum: f64,
}

impl Graph {
    /// Running statistics of `channels` channels: the parameters `name.running_mean` and
    /// `name.running_var`.
    #[track_caller]
    pub fn running_statistics(
        &self,
        name: &str,
        channels: usize,
        dtype: DType,
    ) -> RunningStatistics {
        let place = Location::caller();
        let parameter = |what: &str, value: f64| {
            let name = format!("{name}.{what}");
            self.at(place, || {
                self.parameter(&name, [channels], dtype, Init::Constant(value))
            })
        };
        RunningStatistics {
            mean: parameter("running_mean", 0.0),
            var: parameter("running_var", 1.0),
            momentum: 0.1,
        }
    }
}

impl RunningStatistics {
    /// The updates of a training step on `x`, which is `[batch, channels, ..]`. They carry no
    /// gradient.
    #[track_caller]
    pub fn follow(&self, x: Tensor<'_>) -> Updates {
        let x = x.stop_gradient();
        x.graph.at(Location::caller(), || {
            let axes: Axes = (0..x.rank()).filter(|&axis| axis != 1).collect();
            let moved = |parameter: Param, seen: Tensor<'_>| {
                let old = x.graph.read(parameter);
                let new = old + (seen.cast(old.dtype()) - old) * self.momentum;
                Updates::set(parameter, new)
            };
            let wide = x.widened();
            let mean = moved(self.mean, wide.mean(axes));
            mean.and(moved(self.var, wide.var_unbiased(axes)))
        })
    }

    /// `x`, which is `[batch, channels, ..]`, normalised by these statistics.
    #[track_caller]
    #[must_use]
    pub fn normalize<'g>(&self, x: Tensor<'g>, eps: f64) -> Tensor<'g> {
        x.graph.at(Location::caller(), || {
            x.batch_norm_by(self.mean, self.var, eps)
        })
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        normalize reals(&[&[3, 2, 2]]) => |x| {
            let statistics = x[0].graph().running_statistics("norm", 2, DType::F64);
            statistics.normalize(x[0], 1e-5)
        };
    }
}
