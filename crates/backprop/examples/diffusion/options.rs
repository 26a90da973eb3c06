//! The command line of the example.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use lexopt::prelude::*;

const EPOCHS: NonZeroUsize = NonZeroUsize::new(20).unwrap();

/// How the example is used.
pub(crate) fn usage() -> String {
    format!(
        "\
Learns to draw handwritten digits out of noise.

  cargo run --release --example diffusion -- [OPTIONS]

  --epochs N     passes over the training images [{EPOCHS}]
  --seed N       of the initial weights and of all noise [1]
  --threads N    of the processor [all]
  --data FOLDER  with MNIST's four files, unpacked [the digits of the project]
  --plan         print the compiled training step and all parameters
"
    )
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Options {
    pub epochs: NonZeroUsize,
    pub seed: u64,
    pub threads: Option<NonZeroUsize>,
    pub data: Option<PathBuf>,
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

impl Options {
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Result<Self, lexopt::Error> {
        let mut options = Self {
            epochs: EPOCHS,
            seed: 1,
            threads: None,
            data: None,
            show: Show::Totals,
        };
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("epochs") => options.epochs = parser.value()?.parse()?,
                Long("seed") => options.seed = parser.value()?.parse()?,
                Long("threads") => options.threads = Some(parser.value()?.parse()?),
                Long("data") => options.data = Some(parser.value()?.into()),
                Long("plan") => options.show = Show::Plan,
                Short('h') | Long("help") => options.show = Show::Usage,
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_command_line() {
        let given = "--epochs 3 --seed=7 --threads 2 --data d --plan";
        let expected = Options {
            epochs: NonZeroUsize::new(3).unwrap(),
            seed: 7,
            threads: NonZeroUsize::new(2),
            data: Some("d".into()),
            show: Show::Plan,
        };
        assert_eq!(Options::parse(given.split(' ')).unwrap(), expected);
        for wrong in [
            "--epochs 0",
            "--epochs -1",
            "--seed x",
            "--threads",
            "--data",
            "--steps 5",
            "stray",
        ] {
            assert!(Options::parse(wrong.split(' ')).is_err(), "{wrong}");
        }
    }
}
