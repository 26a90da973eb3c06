//! The command line of examples that need no more than a seed and a number of threads.

use std::error::Error;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use backprop::{Cpu, Result};
use lexopt::prelude::*;

/// What an example says of itself.
pub(crate) struct About {
    pub example: &'static str,
    pub purpose: &'static str,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Options {
    pub seed: u64,
    pub threads: Option<NonZeroUsize>,
}

/// What the command line asks for.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Request {
    Run(Options),
    /// Nothing but how the program is used.
    Usage,
}

impl Request {
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Result<Self, lexopt::Error> {
        let mut options = Options {
            seed: 1,
            threads: None,
        };
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("seed") => options.seed = parser.value()?.parse()?,
                Long("threads") => options.threads = Some(parser.value()?.parse()?),
                Short('h') | Long("help") => return Ok(Self::Usage),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Self::Run(options))
    }
}

impl Options {
    /// The processor, with as many threads as were asked for.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        match self.threads {
            Some(threads) => Cpu::builder().threads(threads.get()).build(),
            None => Cpu::new(),
        }
    }
}

impl About {
    /// Runs the example as the command line says, and reports what went wrong.
    pub(crate) fn main(&self, run: fn(&Options) -> Result<(), Box<dyn Error>>) -> ExitCode {
        let outcome = match Request::parse(std::env::args_os().skip(1)) {
            Ok(Request::Run(options)) => run(&options),
            Ok(Request::Usage) => {
                print!("{}", self.usage());
                Ok(())
            }
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let text = error.to_string();
                // The engine's errors begin so by themselves.
                let text = text.strip_prefix("error: ").unwrap_or(&text);
                eprintln!("error: {text}");
                ExitCode::FAILURE
            }
        }
    }

    fn usage(&self) -> String {
        let Self { example, purpose } = self;
        format!(
            "\
{purpose}

  cargo run --release --example {example} -- [OPTIONS]

  --seed N     of the initial weights and of everything drawn [1]
  --threads N  of the processor [all]
"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_command_line() {
        let read = |given: &str| Request::parse(given.split_whitespace());
        let options = |seed, threads| {
            let threads = NonZeroUsize::new(threads);
            Request::Run(Options { seed, threads })
        };
        assert_eq!(read("").unwrap(), options(1, 0));
        assert_eq!(read("--seed=7 --threads 2").unwrap(), options(7, 2));
        assert_eq!(read("--help").unwrap(), Request::Usage);
        for wrong in ["--threads 0", "--seed", "--seed x", "--fast", "stray"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
