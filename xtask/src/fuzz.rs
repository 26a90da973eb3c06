//! Runs the fuzzer of the test kit, optimised but with checks of overflow.

use crate::Outcome;
use crate::command::Line;

const FUZZ: Line = Line {
    variable: Some(("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true")),
    words: &[
        "cargo",
        "run",
        "--release",
        "-p",
        "backprop-testkit",
        "--example",
        "fuzz",
        "--",
    ],
};

/// Takes the options of the fuzzer: `--minutes`, `--target`, `--seed`, `--input`.
pub(crate) fn run(options: &[String]) -> Outcome {
    FUZZ.run(options)
}
