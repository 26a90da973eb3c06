//! Takes the steps of a training, and remembers how it went.

use std::time::{Duration, Instant};

use backprop::record::{Record, Recorder};
use backprop::{Backend, Result};

use crate::batches::Passes;
use crate::corpus::{Corpus, unigram_entropy};
use crate::model::{Model, Sampling, Training};
use crate::network::Sizes;
use crate::support::plot::{Chart, Curve, Panel, Scale, Stroke};
use crate::support::progress;
use crate::support::track::Track;

/// How often a training pauses to be judged.
const PAUSES: usize = 8;
/// Contexts of the validation text that are looked at in a pause.
const GLANCE: usize = 128;

/// The course of a training, by steps. Losses are in nats per character.
pub(crate) struct History {
    loss: Track,
    validation_loss: Vec<(f64, f64)>,
    norm: Vec<(f64, f64)>,
    characters: usize,
    took: Duration,
}

/// How a training is watched.
pub(crate) struct Watch {
    /// What is written in a pause.
    pub sampling: Sampling,
    pub recorder: Recorder,
}

/// Trains, and pauses before the first step and from time to time to print losses and a sample.
pub(crate) fn train<B: Backend>(
    model: &mut Model<B>,
    corpus: &Corpus,
    training: Training,
    mut watch: Watch,
) -> Result<History> {
    let recorder = &mut watch.recorder;
    let Training { steps, seed, .. } = training;
    let Sizes { batch, context, .. } = model.sizes;
    let characters = steps.saturating_mul(batch * context);
    let bar = progress::bar(characters, "characters");
    let every = steps.div_ceil(PAUSES);
    let mut passes = Passes::new(&corpus.train, context, seed);
    let mut history = History {
        loss: Track::new(1, steps.div_ceil(100)),
        validation_loss: Vec::new(),
        norm: Vec::new(),
        characters,
        took: Duration::ZERO,
    };
    let started = Instant::now();
    for step in 0..steps {
        if step % every == 0 {
            let loss = history.judge(model, corpus, step)?;
            history.record(model, step as u64, recorder)?;
            let text = write(model, corpus, watch.sampling)?;
            bar.suspend(|| println!("step {step}, validation loss about {loss:.2}:\n{text}\n"));
        }
        let outcome = model.step(&passes.next(batch))?;
        history.loss.push(outcome.loss);
        history.norm.push((step as f64 + 0.5, outcome.norm));
        recorder.scalar(step as u64, "loss/training", outcome.loss)?;
        recorder.scalar(step as u64, "norm of the gradient", outcome.norm)?;
        bar.set_message(format!("loss {:.3}", outcome.loss));
        bar.inc((batch * context) as u64);
    }
    history.judge(model, corpus, steps)?;
    history.record(model, steps as u64, recorder)?;
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

    /// Hands on the last judgement and how the weights are distributed.
    fn record<B: Backend>(
        &self,
        model: &Model<B>,
        step: u64,
        recorder: &mut Recorder,
    ) -> Result<()> {
        if recorder.is_empty() {
            return Ok(());
        }
        if let Some(&(_, loss)) = self.validation_loss.last() {
            recorder.scalar(step, "loss/validation", loss)?;
        }
        for (name, distribution) in model.distributions()? {
            recorder.histogram(step, &name, &distribution)?;
        }
        recorder.flush()
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
        let entropy = unigram_entropy(&corpus.validation);
        let ends = [self.validation_loss.first(), self.validation_loss.last()];
        let line = ends.into_iter().flatten().map(|&(step, _)| (step, entropy));
        let [faint, training] = self.loss.curves("training");
        let losses = vec![
            faint,
            Curve::new("unigrams", Stroke::Strong, line.collect()),
            training,
            Curve::new("validation", Stroke::Strong, self.validation_loss),
        ];
        let norms = vec![Curve::new("gradient", Stroke::Strong, self.norm)];
        let title = "norm of the gradient before clipping (log scale)";
        let panels = vec![
            Panel::new("loss, nats per character", Scale::Linear, losses),
            Panel::new(title, Scale::Log, norms),
        ];
        Chart::new("step", panels)
    }
}

#[cfg(test)]
mod tests {
    use backprop::Cpu;
    use backprop::Persist;
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

    fn unseen() -> Watch {
        Watch {
            sampling: SAMPLING,
            recorder: Recorder::new(),
        }
    }

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
            let history = train(&mut model, &corpus, training, unseen()).unwrap();
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
        trained.session.save(&file).unwrap();

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
}
