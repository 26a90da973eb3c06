//! The network and its two plans: a training step, and reading images.

use backprop::PlanId;
use backprop::optim::Rate;
use backprop::prelude::*;

use crate::data::{Dataset, Images};

/// Images in a training step.
pub(crate) const BATCH: usize = 32;

const HIDDEN: [usize; 2] = [128, 64];

/// A network of fully connected layers with its session. It borrows nothing: the graph is gone once
/// the plans are compiled, and only the keys of what is fed and fetched remain.
pub(crate) struct Model<B: Backend> {
    pub session: Session<B>,
    pixels: Key,
    labels: Key,
    loss: Key,
    hits: Key,
    reading: Reading,
}

struct Reading {
    plan: PlanId,
    /// Images in one run.
    rows: usize,
    pixels: Key,
    classes: Key,
}

/// What a training step found out before it changed the weights.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    pub loss: f64,
    /// How many of the batch were read correctly.
    pub hits: f64,
}

impl<B: Backend> Model<B> {
    /// A network for these images, to be trained for `steps` steps.
    pub(crate) fn new(backend: B, data: &Dataset, seed: u64, steps: usize) -> Result<Self> {
        let g = Graph::with_seed(seed);
        let layers = layers(&g, &[data.pixels(), HIDDEN[0], HIDDEN[1], data.classes]);

        let pixels = g.input("pixels", [BATCH, data.pixels()], F32);
        let labels = g.input("labels", [BATCH], I32);
        let logits = network(pixels, &layers);
        let loss = logits.cross_entropy(labels, CrossEntropy::default());
        let hits = logits.argmax(-1).eq(labels.cast(I64)).cast(F32).sum(..);

        let parameters = layers.concat();
        let gradients = g.grad(loss, &parameters)?;
        let options = AdamW {
            lr: Rate::one_cycle(1e-2, steps),
            ..AdamW::default()
        };
        let updates = optim::adamw(&g, &parameters, &gradients, options);

        let rows = data.test.len().min(512);
        let unread = g.input("unread", [rows, data.pixels()], F32);
        let classes = network(unread, &layers).argmax(-1);

        let mut session = Session::compile(&g, backend, &[loss.key(), hits.key()], updates)?;
        let plan = session.plan(&[classes.key()], Updates::none())?;
        Ok(Self {
            session,
            pixels: pixels.key(),
            labels: labels.key(),
            loss: loss.key(),
            hits: hits.key(),
            reading: Reading {
                plan,
                rows,
                pixels: unread.key(),
                classes: classes.key(),
            },
        })
    }

    /// One step on a batch.
    pub(crate) fn step(&mut self, pixels: &[f32], labels: &[i32]) -> Result<Outcome> {
        self.session
            .feed(self.pixels, pixels)?
            .feed(self.labels, labels)?
            .step()?;
        Ok(Outcome {
            loss: self.session.scalar(self.loss)?,
            hits: self.session.scalar(self.hits)?,
        })
    }

    /// The class of each image.
    pub(crate) fn read(&mut self, images: &Images) -> Result<Vec<usize>> {
        let Reading {
            plan,
            rows,
            pixels,
            classes,
        } = self.reading;
        let count = images.pixels.len() / images.len();
        let mut found = Vec::with_capacity(images.len());
        for chunk in images.pixels.chunks(rows * count) {
            // The last run may be short of images: what its other rows come to is dropped.
            let mut batch = chunk.to_vec();
            batch.resize(rows * count, 0.0);
            self.session.feed(pixels, &batch)?.run(plan)?;
            let read = self.session.fetch::<i64>(classes)?;
            found.extend(
                read.iter()
                    .take(chunk.len() / count)
                    .map(|&class| class as usize),
            );
        }
        Ok(found)
    }
}

/// A weight and a bias for each layer between two widths.
fn layers(g: &Graph, widths: &[usize]) -> Vec<[Param; 2]> {
    let layer = |(i, pair): (usize, &[usize])| {
        g.scope(&format!("layer{}", i + 1), |g| {
            let weight = g.parameter("weight", [pair[0], pair[1]], F32, Init::Kaiming);
            let bias = g.parameter("bias", [pair[1]], F32, Init::Zeros);
            [weight, bias]
        })
    };
    widths.windows(2).enumerate().map(layer).collect()
}

fn network<'g>(x: Tensor<'g>, layers: &[[Param; 2]]) -> Tensor<'g> {
    let last = layers.len() - 1;
    layers
        .iter()
        .enumerate()
        .fold(x, |x, (i, &[weight, bias])| {
            let y = x.matmul(weight) + bias;
            if i < last { y.relu() } else { y }
        })
}
