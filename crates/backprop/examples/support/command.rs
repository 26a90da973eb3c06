//! How a program is told what to do, and how it ends.

use std::error::Error;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use backprop::Cpu;
use lexopt::Parser;
use lexopt::prelude::*;

const COMMON: &str = "\
--seed N  of the initial weights and of all that is drawn [1]
--threads N  of the processor [all]
--plan  print the compiled training step
";

/// A program, with the options that are its own.
pub(crate) trait Example: Default {
    /// As `cargo run --example` knows it.
    const NAME: &'static str;
    const PURPOSE: &'static str;

    /// A line for each option of its own: how it is written and, after two spaces, what it is for.
    fn usage() -> String {
        String::new()
    }

    /// Takes the value of an option of its own from the command line.
    fn set(&mut self, option: &str, _: &mut Parser) -> Result<(), lexopt::Error> {
        Err(Long(option).unexpected())
    }

    fn run(&self, common: &Common) -> Result<(), Box<dyn Error>>;
}

/// What every example can be told.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Common {
    pub seed: u64,
    pub threads: Option<NonZeroUsize>,
    pub show: Show,
}

/// What to print of the compiled training step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Show {
    Totals,
    Plan,
}

/// What a command line asks for.
#[derive(PartialEq, Debug)]
enum Request<E> {
    Run(E, Common),
    Usage,
}

impl Common {
    /// Takes the value of an option from the command line, for an example if it is of its own.
    fn set(
        &mut self,
        example: &mut impl Example,
        option: &str,
        parser: &mut Parser,
    ) -> Result<(), lexopt::Error> {
        match option {
            "seed" => self.seed = parser.value()?.parse()?,
            "threads" => self.threads = Some(parser.value()?.parse()?),
            "plan" => self.show = Show::Plan,
            own => example.set(own, parser)?,
        }
        Ok(())
    }

    /// The processor, with as many threads as were asked for.
    pub(crate) fn cpu(&self) -> backprop::Result<Cpu> {
        match self.threads {
            Some(threads) => Cpu::builder().threads(threads.get()).build(),
            None => Cpu::new(),
        }
    }
}

/// Runs an example as the command line says: success, or failure once the error is told.
pub(crate) fn main<E: Example>() -> ExitCode {
    let outcome = match parse::<E>(std::env::args_os().skip(1)) {
        Ok(Request::Run(example, common)) => example.run(&common),
        Ok(Request::Usage) => {
            print!("{}", usage::<E>());
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    let text = error.to_string();
    // Errors of the engine begin with the word themselves.
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    eprintln!("error: {text}");
    ExitCode::FAILURE
}

fn parse<E: Example>(
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Request<E>, lexopt::Error> {
    let mut example = E::default();
    let mut common = Common {
        seed: 1,
        threads: None,
        show: Show::Totals,
    };
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        let option = match argument {
            Short('h') | Long("help") => return Ok(Request::Usage),
            Long(option) => option.to_owned(),
            other => return Err(other.unexpected()),
        };
        let taken = common.set(&mut example, &option, &mut parser);
        taken.map_err(|error| match error {
            lexopt::Error::ParsingFailed { .. } => format!("--{option}: {error}").into(),
            other => other,
        })?;
    }
    Ok(Request::Run(example, common))
}

fn usage<E: Example>() -> String {
    let options = E::usage() + COMMON;
    let lines = || options.lines().filter_map(|line| line.split_once("  "));
    let width = lines().map(|(option, _)| option.len()).max().unwrap_or(0);
    let aligned = lines().map(|(option, purpose)| format!("  {option:width$}  {purpose}\n"));
    format!(
        "{}\n\n  cargo run --release --example {} -- [OPTIONS]\n\n{}",
        E::PURPOSE,
        E::NAME,
        aligned.collect::<String>()
    )
}

/// Reads a command line, with the options that all examples have besides; none at all; and some
/// wrong ones.
#[cfg(test)]
#[track_caller]
pub(crate) fn check<E: Example + PartialEq + std::fmt::Debug>(
    given: &str,
    expected: E,
    wrong: &[&str],
) {
    let read = |given: &str| parse::<E>(given.split_whitespace());
    let common = Common {
        seed: 7,
        threads: NonZeroUsize::new(2),
        show: Show::Plan,
    };
    let given = format!("{given} --seed=7 --threads 2 --plan");
    assert_eq!(read(&given).unwrap(), Request::Run(expected, common));
    let nothing = Common {
        seed: 1,
        threads: None,
        show: Show::Totals,
    };
    assert_eq!(read("").unwrap(), Request::Run(E::default(), nothing));
    for wrong in wrong {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, PartialEq, Debug)]
    struct Plain;

    impl Example for Plain {
        const NAME: &'static str = "plain";
        const PURPOSE: &'static str = "Does nothing.";

        fn run(&self, _: &Common) -> Result<(), Box<dyn Error>> {
            Ok(())
        }
    }

    #[test]
    fn reads_the_command_line() {
        let wrong = [
            "--threads 0",
            "--threads",
            "--seed",
            "--seed x",
            "--plan=all",
            "--fast",
            "-x",
            "stray",
        ];
        check("", Plain, &wrong);
        let error = parse::<Plain>(["--seed", "x"]).unwrap_err().to_string();
        assert!(error.starts_with("--seed: cannot parse"), "{error}");
        for help in ["--help", "-h"] {
            assert_eq!(parse::<Plain>([help]).unwrap(), Request::Usage);
        }
    }

    #[test]
    fn says_how_it_is_used() {
        let expected = "\
Does nothing.

  cargo run --release --example plain -- [OPTIONS]

  --seed N     of the initial weights and of all that is drawn [1]
  --threads N  of the processor [all]
  --plan       print the compiled training step
";
        assert_eq!(usage::<Plain>(), expected);
    }
}
