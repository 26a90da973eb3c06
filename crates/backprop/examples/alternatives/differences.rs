//! Brute force: one weight after the other is nudged, and the change of the loss divided by the
//! nudge is its derivative.

use backprop::Left;
use backprop::prelude::*;

use crate::method::{Budget, Method, Task};
use crate::network::{Network, count, loss, scores, split};
use crate::pupil::{Batch, Lesson};

/// How far a weight is nudged: less drowns in the rounding of 32 bits, more in curvature.
const NUDGE: f64 = 1e-3;
/// Weights that are nudged at once, each in a copy of its own.
const COPIES: usize = 10;

pub(crate) struct FiniteDifferences {
    pub steps: usize,
}

impl Method for FiniteDifferences {
    fn name(&self) -> &'static str {
        "finite differences"
    }

    fn budget(&self) -> Budget {
        Budget {
            steps: self.steps,
            passes: count() + 1,
            counted: "one for each weight nudged, one for none",
            network: "the same",
        }
    }

    fn build<'g>(&self, g: &'g Graph, task: &Task<'g>) -> Result<Lesson<'g>> {
        let network = Network::new(g);
        let (loss, gradients) = gradients(&network, task.batch);
        Ok(Lesson {
            loss,
            updates: task.descend(g, &network.parameters(), &gradients, 1e-2),
            scores: scores(task.unread, network.weights(g)),
        })
    }
}

/// The loss and its one-sided differences by every weight. A single plan goes through all weights:
/// a scan of which each iteration nudges a few, so that the plan is no longer for many weights than
/// for few.
fn gradients<'g>(network: &Network, batch: Batch<'g>) -> (Tensor<'g>, [Tensor<'g>; 4]) {
    let g = batch.pixels.graph();
    let here = loss(batch, network.weights(g));
    let rounds = count().div_ceil(COPIES);
    let nudged = g.scan(rounds, &[], &[], |at| {
        let shape = [COPIES, count()];
        let chosen = g.coordinate(shape, 0) + at.index * COPIES as i32;
        let is_chosen = g.coordinate(shape, 1).eq(chosen);
        let losses = loss(batch, network.nudged(is_chosen.cast(F32) * NUDGE));
        Left {
            carried: vec![],
            stacked: vec![losses],
        }
    });
    let losses = nudged.stacked[0].reshape([-1]).narrow(0, 0, count());
    (here, split((losses - here) / NUDGE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::trial::{batch, cosine, numbers};

    #[test]
    fn differences_are_close_to_the_gradient() {
        let g = Graph::with_seed(1);
        let (network, batch) = (Network::new(&g), batch(&g));
        let (loss, differences) = gradients(&network, batch);
        let exact = g.grad(loss, &network.parameters()).unwrap();
        let apart: Vec<_> = differences
            .iter()
            .zip(&exact)
            .map(|(&a, &b)| (a - b).abs().max(..))
            .collect();
        let cosine = cosine(&differences, &exact).unwrap();
        let [cosine, a, b, c, d] =
            numbers(&g, [cosine, apart[0], apart[1], apart[2], apart[3]]).unwrap();
        assert!(cosine > 0.9999, "{cosine}");
        for apart in [a, b, c, d] {
            assert!(apart < 5e-3, "{apart}");
        }
    }
}
