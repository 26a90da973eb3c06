//! The program around the transformer: what it is told, what it does and says.

use std::error::Error;
use std::f64::consts::LN_2;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use backprop::nn::Dropout;
use backprop::record::Recorder;
use backprop::{Backend, Result};
use lexopt::Parser;
use lexopt::prelude::*;

use crate::corpus::{Corpus, unigram_entropy};
use crate::model::{Model, Sampling, Training};
use crate::network::Sizes;
use crate::source::Source;
use crate::support::command::{Common, Example};
use crate::support::folder::Folder;
use crate::support::step;
use crate::train::{self, Watch};

const STEPS: NonZeroUsize = NonZeroUsize::new(1200).unwrap();
const TEMPERATURE: f64 = 0.8;
/// Characters of a sample during the training, and of the one after it.
const SAMPLES: [usize; 2] = [160, 600];

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Program {
    text: Option<PathBuf>,
    steps: NonZeroUsize,
    temperature: f64,
    dropout: f64,
    save: Option<PathBuf>,
    load: Option<PathBuf>,
    log: Option<PathBuf>,
}

impl Default for Program {
    fn default() -> Self {
        Self {
            text: None,
            steps: STEPS,
            temperature: TEMPERATURE,
            dropout: 0.0,
            save: None,
            load: None,
            log: None,
        }
    }
}

impl Example for Program {
    const NAME: &'static str = "gpt";
    const PURPOSE: &'static str =
        "Trains a small transformer to continue a text, character by character.";

    fn usage() -> String {
        format!(
            "\
--text FILE  to learn from, in UTF-8 [the source of this project]
--steps N  of the training [{STEPS}]
--temperature X  of samples, from 0.01 (the likeliest) to 10 [{TEMPERATURE}]
--dropout P  in training, below 1: for short texts [0]
--save FILE  where the weights go [target/gpt/weights.safetensors]
--load FILE  continue texts with these weights instead of training
--log DIR  for TensorBoard events, CSV and JSON lines of the training
"
        )
    }

    fn set(&mut self, option: &str, parser: &mut Parser) -> Result<(), lexopt::Error> {
        match option {
            "text" => self.text = Some(parser.value()?.into()),
            "steps" => self.steps = parser.value()?.parse()?,
            "temperature" => self.temperature = parser.value()?.parse_with(temperature)?,
            "dropout" => self.dropout = parser.value()?.parse_with(probability)?,
            "save" => self.save = Some(parser.value()?.into()),
            "load" => self.load = Some(parser.value()?.into()),
            "log" => self.log = Some(parser.value()?.into()),
            other => return Err(Long(other).unexpected()),
        }
        Ok(())
    }

    fn run(&self, common: &Common) -> Result<(), Box<dyn Error>> {
        let sizes = Sizes::default();
        let source = match &self.text {
            Some(file) => Source::file(file)?,
            None => Source::tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))?,
        };
        let corpus = Corpus::new(&source, sizes.context)?;
        introduce(&source, &corpus);
        let training = Training {
            steps: self.steps.get(),
            seed: common.seed,
            dropout: Dropout { p: self.dropout },
        };
        let mut model = Model::new(common.cpu()?, &corpus.vocabulary, sizes, training)?;
        println!("{} weights\n", model.weights);
        step::describe(&model.session, common.show);
        if let Some(file) = &self.load {
            model.load(file)?;
            println!("weights from {}\n", file.display());
        } else {
            self.train_and_save(&mut model, &corpus, training)?;
        }
        report(&mut model, &corpus, self.temperature)?;
        Ok(())
    }
}

impl Program {
    fn train_and_save<B: Backend>(
        &self,
        model: &mut Model<B>,
        corpus: &Corpus,
        training: Training,
    ) -> Result<()> {
        let folder = Folder::of(Self::NAME)?;
        let sampling = Sampling {
            count: SAMPLES[0],
            temperature: self.temperature,
        };
        let recorder = self.log.as_ref().map(Recorder::create).transpose()?;
        let recorder = recorder.unwrap_or_default();
        let watch = Watch { sampling, recorder };
        let history = train::train(model, corpus, training, watch)?;
        println!("{}\n", history.pace());
        let chart = history.chart(corpus);
        folder.keep(&chart, &model.session, self.save.as_deref())
    }
}

fn temperature(text: &str) -> Result<f64, String> {
    let known = text.parse().ok().filter(|x| (0.01..=10.0).contains(x));
    known.ok_or_else(|| "a temperature is a number from 0.01 to 10".to_owned())
}

fn probability(text: &str) -> Result<f64, String> {
    let known = text.parse().ok().filter(|p| (0.0..1.0).contains(p));
    known.ok_or_else(|| "a probability of dropout is at least 0 and below 1".to_owned())
}

fn introduce(source: &Source, corpus: &Corpus) {
    println!(
        "{}: {} characters to train on, {} to validate, {} different ones",
        source.name,
        corpus.train.len(),
        corpus.validation.len(),
        corpus.vocabulary.len()
    );
    let entropy = unigram_entropy(&corpus.validation);
    println!(
        "unigram entropy of the validation text: {entropy:.3} nats ({:.3} bits) per character\n",
        entropy / LN_2
    );
}

fn report<B: Backend>(model: &mut Model<B>, corpus: &Corpus, temperature: f64) -> Result<()> {
    let sampling = Sampling {
        count: SAMPLES[1],
        temperature,
    };
    let text = train::write(model, corpus, sampling)?;
    println!("a sample at temperature {temperature}:\n{text}\n");
    let loss = model.validate(&corpus.validation, usize::MAX)?;
    let entropy = unigram_entropy(&corpus.validation);
    println!("validation loss: {loss:.3} (unigram entropy {entropy:.3})");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::command;

    #[test]
    fn reads_the_command_line() {
        let given = "--text t --steps 3 --temperature 1.5 --dropout 0.1 --save s --load l --log d";
        let expected = Program {
            text: Some("t".into()),
            steps: NonZeroUsize::new(3).unwrap(),
            temperature: 1.5,
            dropout: 0.1,
            save: Some("s".into()),
            load: Some("l".into()),
            log: Some("d".into()),
        };
        let wrong = [
            "--steps 0",
            "--steps many",
            "--threads 0",
            "--temperature 0",
            "--temperature NaN",
            "--temperature hot",
            "--dropout 1",
            "--dropout -0.1",
            "--text",
            "--fast",
            "stray",
        ];
        command::check(given, expected, &wrong);
    }
}
