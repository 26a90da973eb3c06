//! Takes the steps of a training, and remembers how it went.

use std::time::{Duration, Instant};

use backprop::{Backend, Result};

use crate::batches::Passes;
use crate::corpus::{Corpus, unigram_entropy};
use crate::model::{Model, Outcome, Sampling, Training};
use crate::network::Sizes;
use crate::support::plot::{Chart, Curve, Panel, Scale, Stroke};
use crate::support::progress;

/// How often a training pauses to be judged.
const PAUSES: usize = 8;
/// Contexts of the validation text that are looked at in a pause.
const GLANCE: usize = 128;

/// The course of a training, by steps. Losses are in nats per character.
#[derive(Default)]
pub(crate) struct History {
    batch_loss: Vec<(f64, f64)>,
    loss: Vec<(f64, f64)>,
    validation_loss: Vec<(f64, f64)>,
    norm: Vec<(f64, f64)>,
    characters: usize,
    took: Duration,
}

/// Trains, and pauses before the first step and from time to time to print losses and a sample.
pub(crate) fn train<B: Backend>(
    model: &mut Model<B>,
    corpus: &Corpus,
    training: Training,
    sampling: Sampling,
) -> Result<History> {
    let Training { steps, seed, .. } = training;
    let Sizes { batch, context, .. } = model.sizes;
    let bar = progress::bar(steps.saturating_mul(batch * context), "characters");
    let every = steps.div_ceil(PAUSES);
    let mut passes = Passes::new(&corpus.train, context, seed);
    let mut history = History::default();
    let started = Instant::now();
    for step in 0..steps {
        if step % every == 0 {
            let loss = history.judge(model, corpus, step)?;
            let text = write(model, corpus, sampling)?;
            bar.suspend(|| println!("step {step}, validation loss about {loss:.2}:\n{text}\n"));
        }
        let outcome = model.step(&passes.next(batch))?;
        history.record(step, outcome, steps.div_ceil(100));
        bar.set_message(format!("loss {:.3}", outcome.loss));
        bar.inc((batch * context) as u64);
    }
    history.judge(model, corpus, steps)?;
    history.characters = steps * batch * context;
    history.took = started.elapsed();
    bar.finish_and_clear();
    Ok(history)
}

/// What the network writes, to be shown in a terminal.
pub(crate) fn write<B: Backend>(
    model: &mut Model<B>,
    corpus: &Corpus,
    sampling: Sampling,
) -> Result<String> {
    let written = model.sample(corpus.vocabulary.start(), sampling)?;
    Ok(shown(&corpus.vocabulary.decode(&written)))
}

/// A text behind a margin, without what would steer a terminal.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let line = |line: &str| format!("    │ {}", line.chars().map(plain).collect::<String>());
    let lines: Vec<String> = text.trim_end().split('\n').map(line).collect();
    lines.join("\n")
}

impl History {
    /// The validation loss after so many steps, from a part of the text.
    fn judge<B: Backend>(
        &mut self,
        model: &mut Model<B>,
        corpus: &Corpus,
        step: usize,
    ) -> Result<f64> {
        let loss = model.validate(&corpus.validation, GLANCE)?;
        self.validation_loss.push((step as f64, loss));
        Ok(loss)
    }

    fn record(&mut self, step: usize, outcome: Outcome, block: usize) {
        let time = step as f64 + 0.5;
        self.batch_loss.push((time, outcome.loss));
        self.norm.push((time, outcome.norm));
        if self.batch_loss.len().is_multiple_of(block) {
            let last = &self.batch_loss[self.batch_loss.len() - block..];
            let sum: f64 = last.iter().map(|&(_, loss)| loss).sum();
            let middle = time + 0.5 - block as f64 / 2.0;
            self.loss.push((middle, sum / block as f64));
        }
    }

    /// How much was done in what time.
    pub(crate) fn pace(&self) -> String {
        let seconds = self.took.as_secs_f64();
        let speed = self.characters as f64 / seconds;
        let millions = self.characters as f64 / 1e6;
        format!(
            "trained on {millions:.2} million characters in {seconds:.1} s, samples included: \
             {speed:.0} characters/s"
        )
    }

    pub(crate) fn chart(self, corpus: &Corpus) -> Chart {
        let curve = |label, stroke, points| Curve {
            label,
            stroke,
            points,
        };
        let entropy = unigram_entropy(&corpus.validation);
        let ends = [self.validation_loss.first(), self.validation_loss.last()];
        let line = ends.into_iter().flatten().map(|&(step, _)| (step, entropy));
        let loss = Panel {
            title: "loss, nats per character",
            scale: Scale::Linear,
            unit: "",
            curves: vec![
                curve("training", Stroke::Faint, self.batch_loss),
                curve("unigrams", Stroke::Strong, line.collect()),
                curve("training", Stroke::Strong, self.loss),
                curve("validation", Stroke::Strong, self.validation_loss),
            ],
        };
        let norm = Panel {
            title: "norm of the gradient before clipping (log scale)",
            scale: Scale::Log,
            unit: "",
            curves: vec![curve("gradient", Stroke::Strong, self.norm)],
        };
        Chart {
            x: "step",
            x_scale: Scale::Linear,
            panels: vec![loss, norm],
        }
    }
}

#[cfg(test)]
mod tests {
    use backprop::Cpu;
    use backprop::nn::Dropout;

    use super::*;
    use crate::source::Source;

    const SIZES: Sizes = Sizes {
        batch: 4,
        context: 8,
        width: 32,
        heads: 2,
        blocks: 1,
    };

    fn corpus() -> Corpus {
        let source = Source {
            name: "words".to_owned(),
            text: "one two one three\n".repeat(30),
        };
        Corpus::new(&source, SIZES.context).unwrap()
    }

    fn model(corpus: &Corpus, training: Training) -> Model<Cpu> {
        Model::new(Cpu::new().unwrap(), &corpus.vocabulary, SIZES, training).unwrap()
    }

    const TRAINING: Training = Training {
        steps: 120,
        seed: 3,
        dropout: Dropout { p: 0.1 },
    };

    const SAMPLING: Sampling = Sampling {
        count: 20,
        temperature: 0.5,
    };

    #[test]
    fn learns_a_small_text_and_writes_the_same_for_the_same_seed() {
        let corpus = corpus();
        let run = |seed| {
            let training = Training { seed, ..TRAINING };
            let mut model = model(&corpus, training);
            let history = train(&mut model, &corpus, training, SAMPLING).unwrap();
            let losses: Vec<f64> = history.validation_loss.iter().map(|&(_, y)| y).collect();
            (losses, model.sample(0, SAMPLING).unwrap())
        };
        let (losses, written) = run(3);
        assert_eq!(losses.len(), PAUSES + 1);
        assert!(losses[0] > 2.0, "{losses:?}");
        let entropy = unigram_entropy(&corpus.validation);
        assert!(losses[PAUSES] < 0.8 * entropy, "{losses:?}, {entropy}");
        assert_eq!(written.len(), SAMPLING.count);
        assert_eq!(run(3), (losses, written.clone()));
        assert_ne!(run(4).1, written);
    }

    #[test]
    fn weights_come_back_for_the_text_they_were_trained_on() {
        let corpus = corpus();
        let file = std::env::temp_dir().join(format!("gpt-{}.safetensors", std::process::id()));
        let mut trained = model(&corpus, TRAINING);
        backprop::weights::save(&trained.session, &file).unwrap();

        let mut loaded = model(
            &corpus,
            Training {
                seed: 5,
                ..TRAINING
            },
        );
        loaded.load(&file).unwrap();
        let loss = trained.validate(&corpus.validation, 4).unwrap();
        assert_eq!(loaded.validate(&corpus.validation, 4).unwrap(), loss);

        let other = Source {
            name: "words".to_owned(),
            text: "ONE TWO ONE THREE\n".repeat(30),
        };
        let other = Corpus::new(&other, SIZES.context).unwrap();
        let error = model(&other, TRAINING).load(&file).unwrap_err().to_string();
        std::fs::remove_file(&file).unwrap();
        assert!(error.contains("a text of other characters"), "{error}");
    }

    #[test]
    fn a_sample_does_not_steer_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\tc\nd\n"), "    │ a [2Jb c\n    │ d");
    }

    #[test]
    fn losses_are_averaged_over_blocks() {
        let mut history = History::default();
        for (step, loss) in [4.0, 2.0, 3.0, 1.0, 9.0].into_iter().enumerate() {
            history.record(step, Outcome { loss, norm: 1.0 }, 2);
        }
        assert_eq!(history.loss, [(1.0, 3.0), (3.0, 2.0)]);
    }
}
