//! The command line of the example.

use std::ffi::OsString;
use std::num::NonZeroUsize;

use lexopt::prelude::*;

const STEPS: NonZeroUsize = NonZeroUsize::new(12_000).unwrap();

/// How the example is used.
pub(crate) fn usage() -> String {
    format!(
        "\
Solves Burgers' equation by a network whose derivatives fit together.

  cargo run --release --example pinn -- [OPTIONS]

  --steps N      of training, each at other points [{STEPS}]
  --seed N       of the initial weights and of the points [1]
  --threads N    of the processor [all]
  --plan         print the compiled training step
"
    )
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Options {
    pub steps: NonZeroUsize,
    pub seed: u64,
    pub threads: Option<NonZeroUsize>,
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
            steps: STEPS,
            seed: 1,
            threads: None,
            show: Show::Totals,
        };
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("steps") => options.steps = parser.value()?.parse()?,
                Long("seed") => options.seed = parser.value()?.parse()?,
                Long("threads") => options.threads = Some(parser.value()?.parse()?),
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
        let given = "--steps 30 --seed=7 --threads 2 --plan";
        let expected = Options {
            steps: NonZeroUsize::new(30).unwrap(),
            seed: 7,
            threads: NonZeroUsize::new(2),
            show: Show::Plan,
        };
        assert_eq!(Options::parse(given.split(' ')).unwrap(), expected);
        for wrong in ["--steps 0", "--steps 1.5", "--seed", "--epochs 3", "stray"] {
            assert!(Options::parse(wrong.split(' ')).is_err(), "{wrong}");
        }
    }
}
