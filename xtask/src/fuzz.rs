//! Runs the fuzzer of the test kit, optimised and with checks of overflow.

use crate::Outcome;
use crate::command::Line;

const FUZZ: Line = Line::new(&[
    "cargo",
    "run",
    "--profile=fuzz",
    "-p",
    "backprop-testkit",
    "--example",
    "fuzz",
    "--",
]);

/// Takes the options of the fuzzer: `--minutes`, `--target`, `--seed`, `--input`.
pub(crate) fn run(options: &[String]) -> Outcome {
    FUZZ.run(options)
}
