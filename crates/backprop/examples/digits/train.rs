//! Goes over the training images again and again, and remembers how it went.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use backprop::{Backend, Result};

use crate::data::{Dataset, Images};
use crate::model::{BATCH, Model};
use crate::network::Network;
use crate::support::confusion::Confusion;
use crate::support::plot::{Chart, Curve, Panel, Scale, Stroke};
use crate::support::progress;
use crate::support::random::SplitMix;

/// The course of a training, by epochs.
#[derive(Default)]
pub(crate) struct History {
    batch_loss: Vec<(f64, f64)>,
    loss: Vec<(f64, f64)>,
    train_accuracy: Vec<(f64, f64)>,
    test_accuracy: Vec<(f64, f64)>,
    examples: usize,
    took: Duration,
}

/// Trains for some epochs, each in another order. An epoch leaves out the few images that do not
/// fill a batch.
pub(crate) fn train<B: Backend>(
    model: &mut Model<B>,
    data: &Dataset,
    epochs: NonZeroUsize,
    seed: u64,
) -> Result<History> {
    let steps = steps_an_epoch(data);
    let epochs = epochs.get();
    let bar = progress::bar(epochs * steps * BATCH, "examples");
    let mut history = History::default();
    history
        .test_accuracy
        .push((0.0, 100.0 * test(model, data)?.accuracy()));
    let mut order: Vec<usize> = (0..data.train.len()).collect();
    let mut random = SplitMix::new(seed);
    let mut pixels = vec![0.0; BATCH * data.pixels()];
    let mut labels = vec![0; BATCH];
    let started = Instant::now();
    for epoch in 0..epochs {
        random.shuffle(&mut order);
        let (mut loss, mut hits) = (0.0, 0.0);
        for (step, chosen) in order.chunks_exact(BATCH).enumerate() {
            data.train.gather(chosen, &mut pixels, &mut labels);
            for image in pixels.chunks_exact_mut(data.pixels()) {
                Network::vary(image, data.size, || random.next());
            }
            let outcome = model.step(&pixels, &labels)?;
            loss += outcome.loss;
            hits += outcome.hits;
            let time = epoch as f64 + (step as f64 + 0.5) / steps as f64;
            history.batch_loss.push((time, outcome.loss));
            bar.set_message(format!("loss {:.3}", outcome.loss));
            bar.inc(BATCH as u64);
        }
        let time = epoch as f64 + 1.0;
        history.loss.push((time - 0.5, loss / steps as f64));
        history
            .train_accuracy
            .push((time, 100.0 * hits / (steps * BATCH) as f64));
        history
            .test_accuracy
            .push((time, 100.0 * test(model, data)?.accuracy()));
        history.examples += steps * BATCH;
    }
    history.took = started.elapsed();
    bar.finish_and_clear();
    Ok(history)
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
        let speed = self.examples as f64 / seconds;
        format!(
            "trained on {} examples in {seconds:.2} s: {speed:.0} examples/s",
            self.examples
        )
    }

    pub(crate) fn chart(self) -> Chart {
        let curve = |label, stroke, points| Curve {
            label,
            stroke,
            points,
        };
        let loss = Panel {
            title: "training loss (log scale)",
            scale: Scale::Log,
            unit: "",
            curves: vec![
                curve("training", Stroke::Faint, self.batch_loss),
                curve("training", Stroke::Strong, self.loss),
            ],
        };
        let accuracy = Panel {
            title: "accuracy",
            scale: Scale::Linear,
            unit: "%",
            curves: vec![
                curve("training", Stroke::Strong, self.train_accuracy),
                curve("test", Stroke::Strong, self.test_accuracy),
            ],
        };
        Chart {
            x: "epoch",
            x_scale: Scale::Linear,
            panels: vec![loss, accuracy],
        }
    }
}
