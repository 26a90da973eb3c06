//! Goes over the training images again and again, and remembers how it went.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use backprop::{Backend, Batches, Checkpoint, Loader, Result};

use crate::model::{BATCH, Model};
use crate::network::Network;
use crate::support::confusion::Confusion;
use crate::support::data::{Dataset, Images};
use crate::support::plot::{Chart, Curve, Panel, Scale, Stroke};
use crate::support::progress;
use crate::support::random::SplitMix;
use crate::support::track::Track;

/// The course of a training, by epochs.
pub(crate) struct History {
    loss: Track,
    train_accuracy: Vec<(f64, f64)>,
    test_accuracy: Vec<(f64, f64)>,
    took: Duration,
}

/// How a network is trained.
#[derive(Clone, Copy)]
pub(crate) struct Training<'a> {
    pub epochs: NonZeroUsize,
    pub seed: u64,
    /// What to go on from if it is there, and to replace after every epoch.
    pub checkpoint: Option<&'a Path>,
}

/// Trains for some epochs, each in another order. An epoch leaves out the few images that do not
/// fill a batch.
pub(crate) fn train<B: Backend>(
    model: &mut Model<B>,
    data: &Dataset,
    training: Training<'_>,
) -> Result<History> {
    let Training { epochs, seed, .. } = training;
    let steps = steps_an_epoch(data);
    let mut loader = Loader::new(data.train.len(), Batches::shuffled(BATCH, seed))?;
    training.resume(model, &mut loader)?;
    let done = loader.steps() as usize;
    let (first, last) = (done / steps, epochs.get());
    let bar = progress::bar(last.saturating_mul(steps * BATCH), "examples");
    bar.set_position((done * BATCH) as u64);
    let mut history = History {
        loss: Track::new(steps, steps).after(done),
        train_accuracy: Vec::new(),
        test_accuracy: vec![(first as f64, percent_read(model, data)?)],
        took: Duration::ZERO,
    };
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let started = Instant::now();
    for epoch in first + 1..=last {
        let mut hits = 0.0;
        for _ in 0..steps {
            let mut random = SplitMix::of_step(seed, loader.steps());
            let batch = loader.next_batch();
            batch.gather(&data.train.pixels, &mut pixels)?;
            batch.gather(&data.train.labels, &mut labels)?;
            for image in pixels.chunks_exact_mut(data.pixels()) {
                Network::vary(image, data.size, || random.next());
            }
            let outcome = model.step(&pixels, &labels)?;
            hits += outcome.hits;
            history.loss.push(outcome.loss);
            bar.set_message(format!("loss {:.3}", outcome.loss));
            bar.inc(BATCH as u64);
        }
        let (time, percent) = (epoch as f64, 100.0 * hits / (steps * BATCH) as f64);
        history.train_accuracy.push((time, percent));
        history
            .test_accuracy
            .push((time, percent_read(model, data)?));
        training.keep(model, &loader)?;
    }
    history.took = started.elapsed();
    bar.finish_and_clear();
    Ok(history)
}

impl Training<'_> {
    fn resume<B: Backend>(&self, model: &mut Model<B>, loader: &mut Loader) -> Result<()> {
        let Some(file) = self.checkpoint.filter(|file| file.exists()) else {
            return Ok(());
        };
        let saved = Checkpoint::read(file)?;
        loader.seek(saved.get("loader")?)?;
        saved.restore(&mut model.session)
    }

    fn keep<B: Backend>(&self, model: &Model<B>, loader: &Loader) -> Result<()> {
        let Some(file) = self.checkpoint else {
            return Ok(());
        };
        let saved = Checkpoint::of(&model.session)?;
        saved.with("loader", loader.position()).write(file)
    }
}

fn percent_read<B: Backend>(model: &mut Model<B>, data: &Dataset) -> Result<f64> {
    Ok(100.0 * test(model, data)?.accuracy())
}

/// What the network takes the test images for.
pub(crate) fn test<B: Backend>(model: &mut Model<B>, data: &Dataset) -> Result<Confusion> {
    let Images { labels, .. } = &data.test;
    let read = model.read(&data.test)?;
    Ok(Confusion::new(
        data.classes,
        labels.iter().map(|&label| label as usize).zip(read),
    ))
}

/// Full batches in the training images.
pub(crate) fn steps_an_epoch(data: &Dataset) -> usize {
    data.train.len() / BATCH
}

impl History {
    /// How much was done in what time.
    pub(crate) fn pace(&self) -> String {
        let seconds = self.took.as_secs_f64();
        let examples = self.loss.len() * BATCH;
        let speed = examples as f64 / seconds;
        format!("trained on {examples} examples in {seconds:.2} s: {speed:.0} examples/s")
    }

    pub(crate) fn chart(self) -> Chart {
        let losses = self.loss.curves("training").into();
        let loss = Panel::new("training loss (log scale)", Scale::Log, losses);
        let accuracies = vec![
            Curve::new("training", Stroke::Strong, self.train_accuracy),
            Curve::new("test", Stroke::Strong, self.test_accuracy),
        ];
        let accuracy = Panel {
            unit: "%",
            ..Panel::new("accuracy", Scale::Linear, accuracies)
        };
        Chart::new("epoch", vec![loss, accuracy])
    }
}
