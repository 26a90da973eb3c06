//! Equilibrium propagation (Scellier and Bengio, 2017, arXiv:1602.05179): a network with an energy,
//! of which the units settle in a minimum. Then the output is nudged towards the target, the units
//! settle again, and each weight learns from the two units that it joins: from the change of their
//! product. Nudging to both sides cancels the bias of a nudge that is not small (Laborieux et al.,
//! 2021, arXiv:2006.03824).

use backprop::Left;
use backprop::prelude::*;

use crate::method::{Budget, Method, Task};
use crate::network::{Network, Weights};
use crate::pupil::{Batch, Lesson};

/// Iterations until the units have settled.
const FREE: usize = 20;
/// Iterations after a nudge.
const NUDGED: usize = 10;
/// How much of the way to its momentary target a unit goes in an iteration.
const STEP: f64 = 0.5;
/// How hard the output is pulled towards the target, and pushed away from it.
const NUDGE: f64 = 0.8;

pub(crate) struct EquilibriumPropagation {
    pub steps: usize,
}

impl Method for EquilibriumPropagation {
    fn name(&self) -> &'static str {
        "equilibrium propagation"
    }

    fn budget(&self) -> Budget {
        Budget {
            steps: self.steps,
            passes: FREE + 2 * NUDGED + 2,
            counted: "one for each iteration (20 free, 10 pulled, 10 pushed), two for the changes",
            network: "units in 0..1 that act on one another, squared error",
        }
    }

    fn build<'g>(&self, g: &'g Graph, task: &Task<'g>) -> Result<Lesson<'g>> {
        let network = Network::new(g);
        let weights = network.weights(g);
        let relaxation = Relaxation::new(task.batch.pixels, weights);
        let free = relaxation.free(FREE);
        let directions = relaxation.contrast(free, task.batch, NUDGE);
        let reading = Relaxation::new(task.unread, weights).free(FREE);
        Ok(Lesson {
            loss: cost(free, task.batch.targets),
            updates: task.descend(g, &network.parameters(), &directions, 1e-2),
            scores: reading.output,
        })
    }
}

/// The units of all images, between 0 and 1: `[.., batch, hidden]` and `[.., batch, classes]`.
#[derive(Clone, Copy)]
struct Units<'g> {
    hidden: Tensor<'g>,
    output: Tensor<'g>,
}

/// Half the squared distance of the outputs from their targets, as a mean over images.
fn cost<'g>(units: Units<'g>, targets: Tensor<'g>) -> Tensor<'g> {
    (units.output - targets).square().sum(-1).mean(-1) * 0.5
}

/// The way down the energy
/// `(|h|^2 + |y|^2) / 2 - x W h - h V y - b h - c y`, in which weights act in both directions.
struct Relaxation<'g> {
    pixels: Tensor<'g>,
    /// What the image does to the hidden units, the same in all iterations.
    drive: Tensor<'g>,
    weights: Weights<'g>,
}

impl<'g> Relaxation<'g> {
    fn new(pixels: Tensor<'g>, weights: Weights<'g>) -> Self {
        let drive = pixels.matmul(weights[0]) + weights[1];
        Self {
            pixels,
            drive,
            weights,
        }
    }

    /// Where the units settle by themselves.
    fn free(&self, times: usize) -> Units<'g> {
        let g = self.pixels.graph();
        let [batch, hidden] = [0, 1].map(|axis| self.drive.shape().size(axis));
        let classes = self.weights[3].shape().size(1);
        let start = Units {
            hidden: g.full([batch, hidden], 0.0, F32),
            output: g.full([batch, classes], 0.0, F32),
        };
        self.settle(times, start, |_| g.full([], 0.0, F32))
    }

    /// Iterates from a start, with a `pull` on the output.
    fn settle(
        &self,
        times: usize,
        start: Units<'g>,
        pull: impl Fn(Tensor<'g>) -> Tensor<'g>,
    ) -> Units<'g> {
        let [_, _, weight, bias] = self.weights;
        let step = |unit: Tensor<'g>, target: Tensor<'g>| unit.lerp(target, STEP).clamp(0.0, 1.0);
        let initial = [start.hidden, start.output];
        let scanned = self.pixels.graph().scan(times, &initial, &[], |at| {
            let (hidden, output) = (at.carried[0], at.carried[1]);
            let up = hidden.matmul(weight) + bias;
            let down = output.matmul(weight.t()) + self.drive;
            Left {
                carried: vec![step(hidden, down), step(output, up + pull(output))],
                stacked: vec![],
            }
        });
        Units {
            hidden: scanned.carried[0],
            output: scanned.carried[1],
        }
    }

    /// The direction for each weight, an estimate of the gradient of the [`cost`]: half the
    /// difference between pushed and pulled of what the weight adds to the energy, by the nudge.
    fn contrast(&self, free: Units<'g>, batch: Batch<'g>, nudge: f64) -> Weights<'g> {
        let g = self.pixels.graph();
        // Both nudges at once, along a new first axis.
        let force = g.data([2, 1, 1], &[nudge as f32, -nudge as f32]);
        let both = |x: Tensor<'g>| g.stack(&[x, x], 0);
        let start = Units {
            hidden: both(free.hidden),
            output: both(free.output),
        };
        let settled = self.settle(NUDGED, start, |output| (batch.targets - output) * force);
        let images = self.pixels.shape().size(0);
        let sides = |x: Tensor<'g>| [0, 1].map(|side| x.narrow(0, side, side + 1).squeeze(0));
        let (hidden, output) = (sides(settled.hidden), sides(settled.output));
        let change =
            |[pulled, pushed]: [Tensor<'g>; 2]| (pushed - pulled) / (2.0 * nudge * images as f64);
        let product = |side: usize| hidden[side].t().matmul(output[side]);
        [
            self.pixels.t().matmul(change(hidden)),
            change(hidden).sum(backprop::Keep(0)),
            change([product(0), product(1)]),
            change(output).sum(backprop::Keep(0)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::trial::{batch, cosine, numbers};

    /// The theorem of equilibrium propagation: with a small nudge, what the weights learn from the
    /// change of the units is the gradient, here by backpropagation through the iterations.
    #[test]
    fn small_nudges_give_the_gradient() {
        let g = Graph::with_seed(1);
        let (network, batch) = (Network::new(&g), batch(&g));
        let relaxation = Relaxation::new(batch.pixels, network.weights(&g));
        let free = relaxation.free(60);
        let exact = g
            .grad(cost(free, batch.targets), &network.parameters())
            .unwrap();
        let cosine = |nudge| {
            let direction = relaxation.contrast(free, batch, nudge);
            cosine(&direction, &exact).unwrap()
        };
        let [small, large] = numbers(&g, [cosine(0.02), cosine(NUDGE)]).unwrap();
        assert!(small > 0.98, "{small}");
        assert!(large > 0.5, "{large}");
    }
}
