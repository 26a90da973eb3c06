//! Runs the fuzzer of the test kit: as the tests are built, with checks of overflow, and with the
//! kernels optimised.

use crate::Outcome;
use crate::command::Line;

const FUZZ: Line = Line::new(&[
    "cargo",
    "run",
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
