//! The network and its two plans: a training step, and reading images.

use backprop::PlanId;
use backprop::optim::Rate;
use backprop::prelude::*;

use crate::network::{Network, RATE};
use crate::support::data::{Dataset, Images};

/// Images in a training step.
pub(crate) const BATCH: usize = 32;

/// A network with its session. It borrows nothing: the graph is gone once
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
        let network = Network::new(&g, data);

        let pixels = g.input("pixels", [BATCH, data.pixels()], F32);
        let labels = g.input("labels", [BATCH], I32);
        let logits = network.read(pixels);
        let loss = logits.cross_entropy(labels, CrossEntropy::default());
        let hits = logits.argmax(-1).eq(labels.cast(I64)).cast(F32).sum(..);

        let parameters = network.parameters();
        let gradients = g.grad(loss, &parameters)?;
        let options = AdamW {
            lr: Rate::one_cycle(RATE, steps),
            ..AdamW::default()
        };
        let updates = optim::adamw(&g, &parameters, &gradients, options);

        let rows = data.test.len().min(512);
        let unread = g.input("unread", [rows, data.pixels()], F32);
        let classes = network.read(unread).argmax(-1);

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
