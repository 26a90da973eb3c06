//! The session of a network that draws: a training step, validation, and drawing.

use backprop::optim::{Averaged, Rate};
use backprop::prelude::*;
use backprop::{PlanId, Reduce};

use crate::data::{Dataset, Images};
use crate::noise::{Descent, Level};
use crate::unet::UNet;

/// Images in a training step.
pub(crate) const BATCH: usize = 32;
/// Images of each class in one drawing.
pub(crate) const ROWS: usize = 4;
/// Steps from noise to an image.
const STEPS: usize = 40;
/// The highest learning rate.
const RATE: f64 = 2e-3;
/// How much of the running mean of the weights stays in a step.
const DECAY: f64 = 0.995;

/// A network that learns, and the running mean of its weights, by which it is validated and draws.
/// The images are fed once: a training step picks its batch by itself.
pub(crate) struct Denoiser<B: Backend> {
    pub session: Session<B>,
    loss: Key,
    validation: (PlanId, Key),
    drawing: Drawing,
}

#[derive(Clone, Copy)]
struct Drawing {
    plan: PlanId,
    number: Key,
    pixels: Key,
}

impl<B: Backend> Denoiser<B> {
    /// A network for these images, to be trained for `steps` steps.
    pub(crate) fn new(backend: B, data: &Dataset, seed: u64, steps: usize) -> Result<Self> {
        let g = Graph::with_seed(seed);
        let network = UNet::new(&g, data.classes);
        let random = g.random_state("random", seed);
        let train = Batch::input(&g, "train", data.size, data.train.len());
        let picked = train.pick(BATCH, random.next_key());
        let loss = picked.loss(&network, random.next_key());

        let parameters = network.parameters();
        let gradients = g.grad(loss, &parameters)?;
        let options = AdamW {
            lr: Rate::cosine(RATE, steps / 20, steps),
            ..AdamW::default()
        };
        let updates = optim::adamw(&g, &parameters, &gradients, options).and(random.updates());
        let Averaged { means, updates } = optim::ema(&g, &parameters, updates, DECAY);

        let mean = network.with(&means);
        let [for_validation, for_drawing] = g.random_key(seed).split_key();
        let test = Batch::input(&g, "test", data.size, data.test.len());
        let validation = test.loss(&mean, for_validation);
        let number = g.input("drawing", [], I64);
        let pixels = draw(&mean, data, for_drawing.fold_in(number));

        let mut session = Session::compile(&g, backend, &[loss.key()], updates)?;
        let drawing = Drawing {
            plan: session.plan(&[pixels.key()], Updates::none())?,
            number: number.key(),
            pixels: pixels.key(),
        };
        let validation = (
            session.plan(&[validation.key()], Updates::none())?,
            validation.key(),
        );
        train.feed(&mut session, &data.train)?;
        test.feed(&mut session, &data.test)?;
        Ok(Self {
            session,
            loss: loss.key(),
            validation,
            drawing,
        })
    }

    /// One training step; the loss before it.
    pub(crate) fn step(&mut self) -> Result<f64> {
        self.session.step()?;
        self.session.scalar(self.loss)
    }

    /// The loss over the test images, always under the same noise.
    pub(crate) fn validate(&mut self) -> Result<f64> {
        let (plan, loss) = self.validation;
        self.session.run(plan)?;
        self.session.scalar(loss)
    }

    /// [`ROWS`] images of each class, [in rows of all classes](classes): `[images, pixels]`, from 0 to
    /// 1. The same number gives the same noise.
    pub(crate) fn draw(&mut self, number: usize) -> Result<Vec<f32>> {
        let Drawing {
            plan,
            number: key,
            pixels,
        } = self.drawing;
        self.session.feed(key, &[number as i64])?.run(plan)?;
        self.session.fetch(pixels)
    }
}

/// The classes of a drawing's images.
pub(crate) fn classes(data: &Dataset) -> Vec<i32> {
    let row = 0..data.classes as i32;
    row.cycle().take(ROWS * data.classes).collect()
}

fn draw<'g>(network: &UNet, data: &Dataset, key: Tensor<'g>) -> Tensor<'g> {
    let (g, classes) = (key.graph(), classes(data));
    let count = classes.len();
    let class = g.data([count], &classes);
    let shape = [count, 1, data.size[0], data.size[1]];
    let drawn = Descent::new(g, STEPS).draw(&shape, key, |covered, time| {
        network.predict(covered, time.broadcast_to([count]), class)
    });
    ((drawn + 1.0) * 0.5).flatten_from(1)
}

/// Images with their classes, in a graph.
struct Batch<'g> {
    /// `[batch, 1, rows, columns]`, from 0 to 1.
    images: Tensor<'g>,
    classes: Tensor<'g>,
}

impl<'g> Batch<'g> {
    fn input(g: &'g Graph, name: &str, [rows, columns]: [usize; 2], count: usize) -> Self {
        g.scope(name, |g| Self {
            images: g.input("images", [count, 1, rows, columns], F32),
            classes: g.input("classes", [count], I32),
        })
    }

    fn feed<B: Backend>(&self, session: &mut Session<B>, images: &Images) -> Result<()> {
        session
            .feed(self.images, &images.pixels)?
            .feed(self.classes, &images.labels)?;
        Ok(())
    }

    fn len(&self) -> usize {
        self.classes.shape().size(0)
    }

    /// So many of these, each drawn from all.
    fn pick(&self, count: usize, key: Tensor<'g>) -> Self {
        let drawn = key.graph().uniform(key, [count], F64);
        let chosen = (drawn * self.len() as f64).floor().cast(I64);
        Self {
            images: self.images.take(chosen, 0),
            classes: self.classes.take(chosen, 0),
        }
    }

    /// The mean squared error of what the network predicts for these images when noise lies on them.
    /// Their times are spread evenly between 0 and 1 (Kingma et al., arXiv:2107.00630, appendix I.1),
    /// which makes the mean less noisy.
    fn loss(&self, network: &UNet, key: Tensor<'g>) -> Tensor<'g> {
        let (g, count) = (key.graph(), self.len());
        let [for_time, for_noise] = key.split_key();
        let shift = g.uniform(for_time, [], F32);
        let time = (g.coordinate([count], 0).cast(F32) + shift) / count as f64;
        let level = Level::at(time.reshape([-1, 1, 1, 1]));
        let image = self.images * 2.0 - 1.0;
        let noise = g.standard_normal(for_noise, image.shape(), F32);
        let predicted = network.predict(level.cover(image, noise), time, self.classes);
        predicted.mse_loss(level.velocity(image, noise), Reduce::Mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four images of two classes: bright at the top, or at the bottom.
    fn data() -> Dataset {
        let top = [1.0f32, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        let bottom = [0.0f32, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
        let images = || Images {
            pixels: [top, bottom, top, bottom].concat(),
            labels: vec![0, 1, 0, 1],
        };
        Dataset {
            train: images(),
            test: images(),
            size: [4, 2],
            classes: 2,
        }
    }

    #[test]
    fn a_few_steps_reduce_the_loss_and_change_what_is_drawn() {
        let data = data();
        let mut denoiser = Denoiser::new(Cpu::new().unwrap(), &data, 1, 30).unwrap();
        let mut losses = vec![denoiser.step().unwrap()];
        let before = (denoiser.validate().unwrap(), denoiser.draw(0).unwrap());
        losses.extend((1..30).map(|_| denoiser.step().unwrap()));
        let after = (denoiser.validate().unwrap(), denoiser.draw(0).unwrap());
        let sum = |losses: &[f64]| losses.iter().sum::<f64>();
        assert!(sum(&losses[25..]) < 0.7 * sum(&losses[..5]), "{losses:?}");
        // The running mean of the weights follows slowly.
        assert!(after.0 < before.0, "from {} to {}", before.0, after.0);
        assert_eq!(before.1.len(), ROWS * data.classes * data.pixels());
        assert!(
            after
                .1
                .iter()
                .all(|pixel| (-1e-6..=1.0 + 1e-6).contains(pixel))
        );
        assert_ne!(before.1, after.1);
        assert_eq!(denoiser.draw(0).unwrap(), after.1);
        assert_ne!(denoiser.draw(1).unwrap(), after.1);
    }
}
