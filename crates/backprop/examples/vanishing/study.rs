//! What becomes of the gradient on its way through a network, and of the network that learns by it.

use backprop::optim::Rate;
use backprop::prelude::*;

use crate::network::{Network, Variant};
use crate::pupil::{Lesson, Pupil, draw, unread};
use crate::support::data::Dataset;

/// Images in a training step.
const BATCH: usize = 32;
/// Images over which the gradient is taken.
const PROBED: usize = 256;
/// The highest learning rate, the same for all networks.
const RATE: f64 = 1e-3;

/// How a network is studied.
#[derive(Clone, Copy)]
pub(crate) struct Study<'a> {
    pub data: &'a Dataset,
    pub depth: usize,
    pub seed: u64,
    pub steps: usize,
}

impl Study<'_> {
    /// The norm of the gradient by the weights of each layer, from the first to the last, before
    /// anything was learnt. In 64 bits: squares of what fifty layers leave over are too small for 32.
    pub(crate) fn gradient_norms<B: Backend>(
        &self,
        backend: B,
        variant: Variant,
    ) -> Result<Vec<f64>> {
        let data = self.data;
        let g = Graph::with_seed(self.seed);
        let network = Network::new(&g, variant, [data.classes, self.depth], F64);
        let count = PROBED.min(data.train.len());
        let pixels = &data.train.pixels[..count * data.pixels()];
        let pixels = g.data([count, data.pixels()], pixels).cast(F64);
        let labels = g.data([count], &data.train.labels[..count]);
        let loss = network
            .read(pixels)
            .cross_entropy(labels, CrossEntropy::default());
        let gradients = g.grad(loss, &[network.weights])?;
        let norms = gradients[0].square().sum([1, 2]).sqrt();
        let mut session = Session::compile(&g, backend, &[norms.key()], Updates::none())?;
        session.step()?;
        session.fetch::<f64>(norms)
    }

    /// A network, ready to be trained.
    pub(crate) fn pupil<B: Backend>(&self, backend: B, variant: Variant) -> Result<Pupil<B>> {
        let data = self.data;
        let g = Graph::with_seed(self.seed);
        let random = g.random_state("random", self.seed);
        let network = Network::new(&g, variant, [data.classes, self.depth], F32);
        let batch = draw(&g, &random, BATCH, data);
        let logits = network.read(batch.pixels);
        let loss = logits.cross_entropy(batch.targets, CrossEntropy::default());
        let gradients = g.grad(loss, &network.parameters())?;
        let lr = Rate::one_cycle(RATE, self.steps);
        let adam = Adam {
            lr,
            ..Adam::default()
        };
        let updates = optim::adam(&g, &network.parameters(), &gradients, adam);
        let lesson = Lesson {
            loss,
            updates: updates.and(random.updates()),
            scores: network.read(unread(&g, data)),
        };
        Pupil::new(&g, backend, data, lesson)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Activation, Structure};

    fn with_study<R>(depth: usize, body: impl FnOnce(Study<'_>) -> R) -> R {
        let data = Dataset::digits().unwrap();
        body(Study {
            data: &data,
            depth,
            seed: 1,
            steps: 150,
        })
    }

    #[test]
    fn sigmoids_let_the_gradient_vanish_and_residuals_do_not() {
        #[track_caller]
        fn check(
            activation: Activation,
            structure: Structure,
            first_by_last: std::ops::Range<f64>,
        ) {
            let variant = Variant {
                activation,
                structure,
            };
            let norms = with_study(12, |study| {
                study.gradient_norms(Cpu::new().unwrap(), variant)
            });
            let norms = norms.unwrap();
            assert_eq!(norms.len(), 12);
            let ratio = norms[0] / norms[11];
            assert!(first_by_last.contains(&ratio), "{variant}: {ratio}");
        }
        check(Activation::Sigmoid, Structure::Plain, 0.0..1e-5);
        check(Activation::Sigmoid, Structure::Residual, 0.01..100.0);
        check(Activation::Tanh, Structure::Plain, 0.01..100.0);
        check(Activation::Relu, Structure::NormalisedResidual, 0.01..100.0);
    }

    #[test]
    fn only_one_of_two_networks_learns() {
        let accuracy = |structure| {
            let variant = Variant {
                activation: Activation::Sigmoid,
                structure,
            };
            with_study(8, |study| {
                let mut pupil = study.pupil(Cpu::new().unwrap(), variant).unwrap();
                for _ in 0..study.steps {
                    pupil.session.step().unwrap();
                }
                pupil.accuracy().unwrap()
            })
        };
        let (plain, residual) = (
            accuracy(Structure::Plain),
            accuracy(Structure::NormalisedResidual),
        );
        assert!(plain < 20.0 && residual > 40.0, "{plain}, {residual}");
    }
}
