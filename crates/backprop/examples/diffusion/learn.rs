//! Trains a network to draw, and keeps what it draws meanwhile.

use std::error::Error;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use backprop::Backend;

use crate::denoiser::{BATCH, Denoiser};
use crate::sheet::Sheet;
use crate::support::data::Dataset;
use crate::support::folder::Folder;
use crate::support::plot::{Chart, Curve, Panel, Scale, Stroke};
use crate::support::progress;
use crate::support::track::Track;

/// The course of a training, by epochs.
pub(crate) struct History {
    loss: Track,
    validation: Vec<(f64, f64)>,
    took: Duration,
}

/// Trains for some epochs, and writes what the network draws before the first and after each of them
/// into a folder.
pub(crate) fn learn<B: Backend>(
    denoiser: &mut Denoiser<B>,
    data: &Dataset,
    epochs: NonZeroUsize,
    folder: &Folder,
) -> Result<History, Box<dyn Error>> {
    let (epochs, steps) = (epochs.get(), steps_an_epoch(data));
    let all = epochs.saturating_mul(steps).saturating_mul(BATCH);
    let bar = progress::bar(all, "examples");
    let mut history = History {
        loss: Track::new(steps, steps),
        validation: Vec::new(),
        took: Duration::ZERO,
    };
    let started = Instant::now();
    for epoch in 1..=epochs {
        for _ in 0..steps {
            let loss = denoiser.step()?;
            if history.loss.len() == 0 {
                // The means of the weights begin with those after the first step.
                history.look(denoiser, data, (0, folder))?;
            }
            history.loss.push(loss);
            bar.set_message(format!("loss {loss:.3}"));
            bar.inc(BATCH as u64);
        }
        history.look(denoiser, data, (epoch, folder))?;
    }
    history.took = started.elapsed();
    bar.finish_and_clear();
    Ok(history)
}

/// Steps that pick as many images as there are.
pub(crate) fn steps_an_epoch(data: &Dataset) -> usize {
    data.train.len().div_ceil(BATCH)
}

/// The file of the drawing after an epoch.
pub(crate) fn sheet_of(epoch: usize) -> String {
    format!("epoch-{epoch:02}.png")
}

impl History {
    /// What the network is worth after an epoch. It draws out of the same noise each time.
    fn look<B: Backend>(
        &mut self,
        denoiser: &mut Denoiser<B>,
        data: &Dataset,
        (epoch, folder): (usize, &Folder),
    ) -> Result<(), Box<dyn Error>> {
        self.validation.push((epoch as f64, denoiser.validate()?));
        let drawn = denoiser.draw(0)?;
        let sheet = Sheet::new(&drawn, data.size, data.classes);
        folder.write(&sheet_of(epoch), sheet.png()?)?;
        Ok(())
    }

    /// How much was done in what time, and what came of it.
    pub(crate) fn outcome(&self) -> String {
        let seconds = self.took.as_secs_f64();
        let validation = self.validation.last().map_or(f64::NAN, |&(_, loss)| loss);
        format!(
            "{} steps in {seconds:.1} s, drawings among them\n\
             training loss: {:.4}\nvalidation loss: {validation:.4}",
            self.loss.len(),
            self.loss.mean()
        )
    }

    pub(crate) fn chart(self) -> Chart {
        let mut losses = Vec::from(self.loss.curves("training"));
        losses.push(Curve::new("validation", Stroke::Strong, self.validation));
        let title = "mean squared error of the prediction (log scale)";
        Chart::new("epoch", vec![Panel::new(title, Scale::Log, losses)])
    }
}
