//! The command line of the example.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use lexopt::prelude::*;

/// How the example is used.
pub(crate) const USAGE: &str = "\
Trains a small transformer to continue a text, character by character.

  cargo run --release --example gpt -- [OPTIONS]

  --text FILE      to learn from, in UTF-8 [the source of this project]
  --steps N        of the training [1200]
  --seed N         of the initial weights and of all that is drawn [1]
  --threads N      of the processor [all]
  --temperature X  of samples, from 0.01 (the likeliest) to 10 [0.8]
  --dropout P      in training, below 1: for short texts [0]
  --save FILE      where the weights go [target/gpt/weights.safetensors]
  --load FILE      continue texts with these weights instead of training
  --plan           print all parameters and the compiled training step
";

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Options {
    pub text: Option<PathBuf>,
    pub steps: NonZeroUsize,
    pub seed: u64,
    pub threads: Option<NonZeroUsize>,
    pub temperature: f64,
    pub dropout: f64,
    pub save: Option<PathBuf>,
    pub load: Option<PathBuf>,
    pub show: Show,
}

/// What to print of the compiled training step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Show {
    Totals,
    Plan,
    /// Nothing but how the program is used.
    Usage,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            text: None,
            steps: NonZeroUsize::new(1200).unwrap_or(NonZeroUsize::MIN),
            seed: 1,
            threads: None,
            temperature: 0.8,
            dropout: 0.0,
            save: None,
            load: None,
            show: Show::Totals,
        }
    }
}

impl Options {
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Result<Self, lexopt::Error> {
        let mut options = Self::default();
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("text") => options.text = Some(parser.value()?.into()),
                Long("steps") => options.steps = parser.value()?.parse()?,
                Long("seed") => options.seed = parser.value()?.parse()?,
                Long("threads") => options.threads = Some(parser.value()?.parse()?),
                Long("temperature") => {
                    options.temperature = parser.value()?.parse_with(temperature)?;
                }
                Long("dropout") => options.dropout = parser.value()?.parse_with(probability)?,
                Long("save") => options.save = Some(parser.value()?.into()),
                Long("load") => options.load = Some(parser.value()?.into()),
                Long("plan") => options.show = Show::Plan,
                Short('h') | Long("help") => options.show = Show::Usage,
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_command_line() {
        let given = "--text t --steps 3 --seed=7 --threads 2 --temperature 1.5 --dropout 0.1 \
                     --save s --load l --plan";
        let expected = Options {
            text: Some("t".into()),
            steps: NonZeroUsize::new(3).unwrap(),
            seed: 7,
            threads: NonZeroUsize::new(2),
            temperature: 1.5,
            dropout: 0.1,
            save: Some("s".into()),
            load: Some("l".into()),
            show: Show::Plan,
        };
        assert_eq!(Options::parse(given.split_whitespace()).unwrap(), expected);
        let none: [&str; 0] = [];
        assert_eq!(Options::parse(none).unwrap(), Options::default());
        for wrong in [
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
        ] {
            assert!(Options::parse(wrong.split(' ')).is_err(), "{wrong}");
        }
    }
}
