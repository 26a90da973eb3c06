//! Fuzzes the compiler, the operations and the readers of files, with inputs that a seed determines:
//!
//! ```sh
//! cargo xtask fuzz --minutes 10 --target files
//! ```
//!
//! A finding is printed with the input that shows it, which `--input` tries again.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the command line"
)]

mod attributes;
mod einsum;
mod files;
mod graphs;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use backprop_testkit::fuzz::{Fuzz, Target};
use lexopt::{Arg, Parser, ValueExt};

/// Makes a target and has it tried.
type With = fn(&mut dyn FnMut(&Target<'_>));

const TARGETS: [With; 5] = [
    graphs::with,
    attributes::with,
    einsum::with,
    files::with_weights,
    files::with_idx,
];

/// What the command line asks for.
struct Options {
    target: Option<String>,
    seed: u64,
    /// For each target.
    time: Duration,
    /// One input to try, instead of many.
    input: Option<Vec<u8>>,
}

const USAGE: &str = "\
usage: fuzz [OPTIONS]
  --minutes N     for each target (default 1)
  --target NAME   one of graphs, attributes, einsum, weights, idx (default: each of them)
  --seed N        of the inputs (default 0)
  --input HEX     tries one input on the target";

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        target: None,
        seed: 0,
        time: Duration::from_secs(60),
        input: None,
    };
    let mut arguments = Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("minutes") => {
                let minutes: f64 = arguments.value()?.parse()?;
                options.time = Duration::try_from_secs_f64(minutes * 60.0)?;
            }
            Arg::Long("target") => options.target = Some(arguments.value()?.string()?),
            Arg::Long("seed") => options.seed = arguments.value()?.parse()?,
            Arg::Long("input") => options.input = Some(bytes(&arguments.value()?.string()?)?),
            Arg::Long("help") => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

/// The bytes that hexadecimal digits stand for.
fn bytes(digits: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    pairs.map(byte).collect()
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a target has nothing to find fault with.
fn holds(target: &Target<'_>, options: &Options) -> bool {
    let (name, seed) = (target.name, options.seed);
    let begin = Instant::now();
    let outcome = match &options.input {
        Some(input) => {
            let one = Target {
                corpus: vec![input.clone()],
                ..*target
            };
            Fuzz::new(seed).run(&one, |_| false)
        }
        None => Fuzz::new(seed).run(target, |_| begin.elapsed() < options.time),
    };
    match outcome {
        Ok(tried) => {
            let (inputs, outcomes) = (tried.inputs, tried.outcomes);
            let time = begin.elapsed().as_secs_f64();
            println!("{name}: seed {seed}, {inputs} inputs in {time:.0} s, {outcomes} outcomes");
            true
        }
        Err(found) => {
            let input = digits(&found.input);
            println!("{name}: seed {seed}: {found}");
            println!("again: cargo xtask fuzz --target {name} --input {input}");
            false
        }
    }
}

fn run() -> Result<bool, Box<dyn Error>> {
    let options = options()?;
    let (mut all_hold, mut known) = (true, false);
    for with in TARGETS {
        with(&mut |target| {
            if options
                .target
                .as_deref()
                .is_none_or(|name| name == target.name)
            {
                known = true;
                all_hold &= holds(target, &options);
            }
        });
    }
    match known {
        true => Ok(all_hold),
        false => Err(format!("no such target\n{USAGE}").into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The corpus, with whatever broke a target once, and some more.
    #[test]
    fn every_target_holds() {
        for with in TARGETS {
            with(&mut |target| {
                let more = match target.name {
                    "graphs" => 30,
                    _ => 1000,
                };
                let tried = Fuzz::new(7).run(target, |tried| tried < more).unwrap();
                assert!(tried.outcomes > 2, "{}: {tried:?}", target.name);
            });
        }
    }
}
