//! Trains a network to draw, and keeps what it draws meanwhile.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backprop::Backend;

use crate::data::Dataset;
use crate::denoiser::{BATCH, Denoiser};
use crate::sheet::Sheet;
use crate::support::plot::{Chart, Curve, Panel, Scale, Stroke};
use crate::support::progress;

/// The course of a training, by epochs.
#[derive(Default)]
pub(crate) struct History {
    batch_loss: Vec<(f64, f64)>,
    loss: Vec<(f64, f64)>,
    validation: Vec<(f64, f64)>,
    steps: usize,
    took: Duration,
}

/// Trains for some epochs, and writes what the network draws before the first and after each of them
/// into a folder.
pub(crate) fn learn<B: Backend>(
    denoiser: &mut Denoiser<B>,
    data: &Dataset,
    epochs: NonZeroUsize,
    folder: &Path,
) -> Result<History, Box<dyn Error>> {
    let (epochs, steps) = (epochs.get(), steps_an_epoch(data));
    let all = epochs.saturating_mul(steps).saturating_mul(BATCH);
    let bar = progress::bar(all, "examples");
    let mut history = History::default();
    let started = Instant::now();
    for epoch in 0..epochs {
        let mut sum = 0.0;
        for step in 0..steps {
            let loss = denoiser.step()?;
            if history.steps == 0 {
                // The means of the weights begin with those after the first step.
                history.look(denoiser, data, (0, folder))?;
            }
            sum += loss;
            history.steps += 1;
            let time = epoch as f64 + (step as f64 + 0.5) / steps as f64;
            history.batch_loss.push((time, loss));
            bar.set_message(format!("loss {loss:.3}"));
            bar.inc(BATCH as u64);
        }
        history.loss.push((epoch as f64 + 0.5, sum / steps as f64));
        history.look(denoiser, data, (epoch + 1, folder))?;
    }
    history.took = started.elapsed();
    bar.finish_and_clear();
    Ok(history)
}

/// Steps that pick as many images as there are.
pub(crate) fn steps_an_epoch(data: &Dataset) -> usize {
    data.train.len().div_ceil(BATCH)
}

/// Where the drawing after an epoch is kept.
pub(crate) fn sheet_of(folder: &Path, epoch: usize) -> PathBuf {
    folder.join(format!("epoch-{epoch:02}.png"))
}

impl History {
    /// What the network is worth after an epoch. It draws out of the same noise each time.
    fn look<B: Backend>(
        &mut self,
        denoiser: &mut Denoiser<B>,
        data: &Dataset,
        (epoch, folder): (usize, &Path),
    ) -> Result<(), Box<dyn Error>> {
        self.validation.push((epoch as f64, denoiser.validate()?));
        let drawn = denoiser.draw(0)?;
        Sheet::new(&drawn, data.size, data.classes).write(&sheet_of(folder, epoch))
    }

    /// How much was done in what time, and what came of it.
    pub(crate) fn outcome(&self) -> String {
        let seconds = self.took.as_secs_f64();
        let last = |curve: &[(f64, f64)]| curve.last().map_or(f64::NAN, |&(_, loss)| loss);
        format!(
            "{} steps in {seconds:.1} s, drawings among them\ntraining loss: {:.4}\nvalidation loss: {:.4}",
            self.steps,
            last(&self.loss),
            last(&self.validation)
        )
    }

    pub(crate) fn chart(self) -> Chart {
        let curve = |label, stroke, points| Curve {
            label,
            stroke,
            points,
        };
        let loss = Panel {
            title: "mean squared error of the prediction (log scale)",
            scale: Scale::Log,
            unit: "",
            curves: vec![
                curve("training", Stroke::Faint, self.batch_loss),
                curve("training", Stroke::Strong, self.loss),
                curve("validation", Stroke::Strong, self.validation),
            ],
        };
        Chart {
            x: "epoch",
            x_scale: Scale::Linear,
            panels: vec![loss],
        }
    }
}
