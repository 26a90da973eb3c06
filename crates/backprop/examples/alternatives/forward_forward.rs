//! The forward-forward algorithm (Hinton, 2022, arXiv:2212.13345). Every layer learns for itself to
//! be busy for images that come with their label and quiet for images that come with a wrong one. A
//! label is part of the input, and to read an image is to try all of them.

use backprop::prelude::*;

use crate::method::{Budget, Method, Task};
use crate::network::WIDTHS;
use crate::pupil::Lesson;

/// The mean square of a layer's units at which it holds an image and its label for real or for
/// wrong with equal probability.
const THRESHOLD: f64 = 2.0;

pub(crate) struct ForwardForward {
    pub steps: usize,
}

impl Method for ForwardForward {
    fn name(&self) -> &'static str {
        "forward-forward"
    }

    fn budget(&self) -> Budget {
        Budget {
            steps: self.steps,
            passes: 4,
            counted: "two forward (right and wrong label), two for the local gradients",
            network: "the label beside the pixels, a loss for each layer",
        }
    }

    fn build<'g>(&self, g: &'g Graph, task: &Task<'g>) -> Result<Lesson<'g>> {
        let layers = Layers::new(g);
        let losses = layers.losses(task);
        Ok(Lesson {
            loss: losses
                .iter()
                .fold(g.full([], 0.0, F32), |sum, &loss| sum + loss),
            updates: layers.learn(task, &losses)?,
            scores: layers.scores(task.unread),
        })
    }
}

/// A weight and a bias for each layer: those of the network, but that the first layer sees the label
/// too, and that the last one has units like the others.
struct Layers(Vec<[Param; 2]>);

impl Layers {
    fn new(g: &Graph) -> Layers {
        let [pixels, hidden, classes] = WIDTHS;
        let layer = |(name, inputs, units)| {
            g.scope(name, |g| {
                let weight = g.parameter("weight", [inputs, units], F32, Init::Kaiming);
                [weight, g.parameter("bias", [units], F32, Init::Zeros)]
            })
        };
        let sizes = [
            ("first", pixels + classes, hidden),
            ("second", hidden, classes),
        ];
        Layers(sizes.map(layer).to_vec())
    }

    /// The goodness of each layer, `[..]`, for inputs `[.., pixels + classes]`: the mean square of
    /// its units. A layer is given the direction of the units before it alone, so that it cannot
    /// take over their verdict, and no gradient goes back to them.
    fn goodness<'g>(&self, inputs: Tensor<'g>) -> Vec<Tensor<'g>> {
        let mut x = inputs;
        let layer = |&[weight, bias]: &[Param; 2]| {
            let units = (x.rms_norm(-1, 1e-6).matmul(weight) + bias).relu();
            x = units.stop_gradient();
            units.square().mean(-1)
        };
        self.0.iter().map(layer).collect()
    }

    /// The loss of each layer: minus the logarithm of the probability that it tells right from
    /// wrong.
    fn losses<'g>(&self, task: &Task<'g>) -> Vec<Tensor<'g>> {
        let (g, batch) = (task.unread.graph(), task.batch);
        // The largest of random numbers over all classes but the right one: any wrong label.
        let wrong = (g.uniform(task.key, batch.targets.shape(), F32) - batch.targets).argmax(-1);
        let wrong = wrong.one_hot(WIDTHS[2], F32);
        let right = self.goodness(g.concat(&[batch.pixels, batch.targets], -1));
        let wrong = self.goodness(g.concat(&[batch.pixels, wrong], -1));
        let loss = |(right, wrong): (Tensor<'g>, Tensor<'g>)| {
            (-(right - THRESHOLD)).softplus().mean(..) + (wrong - THRESHOLD).softplus().mean(..)
        };
        right.into_iter().zip(wrong).map(loss).collect()
    }

    /// Each layer learns from its own loss.
    fn learn(&self, task: &Task<'_>, losses: &[Tensor<'_>]) -> Result<Updates> {
        let g = task.unread.graph();
        let mut updates = Updates::none();
        for (layer, &loss) in self.0.iter().zip(losses) {
            let gradients = g.grad(loss, layer)?;
            updates = updates.and(task.descend(g, layer, &gradients, 1e-2));
        }
        Ok(updates)
    }

    /// The goodness of all layers together for each image with each label.
    fn scores<'g>(&self, images: Tensor<'g>) -> Tensor<'g> {
        let g = images.graph();
        let (count, [pixels, _, classes]) = (images.shape().size(0), WIDTHS);
        let shown = images.unsqueeze(1).broadcast_to([count, classes, pixels]);
        let shape = [count, classes, classes];
        let labels = g.coordinate(shape, 1).eq(g.coordinate(shape, 2)).cast(F32);
        let goodness = self.goodness(g.concat(&[shown, labels], -1));
        let none = g.full([count, classes], 0.0, F32);
        goodness
            .into_iter()
            .fold(none, |sum, goodness| sum + goodness)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::trial;

    #[test]
    fn every_layer_lowers_its_own_loss() {
        let g = Graph::with_seed(1);
        let batch = trial::batch(&g);
        let task = Task {
            batch,
            unread: batch.pixels,
            key: g.random_key(2),
            steps: 100,
        };
        let layers = Layers::new(&g);
        let losses = layers.losses(&task);
        let updates = layers.learn(&task, &losses).unwrap();
        let keys = [losses[0].key(), losses[1].key()];
        let mut session = Session::compile(&g, Cpu::new().unwrap(), &keys, updates).unwrap();
        let mut step = || {
            session.step().unwrap();
            keys.map(|key| session.scalar(key).unwrap())
        };
        let before = step();
        let after = (0..100).map(|_| step()).last().unwrap();
        for (before, after) in before.into_iter().zip(after) {
            assert!(after < 0.8 * before, "{before} to {after}");
        }
    }

    #[test]
    fn no_layer_learns_for_another() {
        let g = Graph::with_seed(1);
        let layers = Layers::new(&g);
        let batch = trial::batch(&g);
        let goodness = layers.goodness(g.concat(&[batch.pixels, batch.targets], -1));
        let slope = |layer: usize| {
            let weight = layers.0[layer][0];
            g.grad(goodness[1].sum(..), &[weight]).unwrap()[0]
                .abs()
                .sum(..)
        };
        let [first, second] = trial::numbers(&g, [slope(0), slope(1)]).unwrap();
        assert!(first == 0.0 && second > 0.0, "{first}, {second}");
    }
}
