//! Tests that take minutes at full size. The test suite runs small ones of the same programs.

use crate::Outcome;
use crate::command::Line;

/// Kills a training and resumes it, again and again.
pub(crate) fn kill(options: &[String]) -> Outcome {
    const WORDS: &[&str] = &[
        "cargo",
        "test",
        "--release",
        "--package",
        "backprop",
        "--test",
        "kill",
    ];
    Line::new(WORDS).with("BACKPROP_KILLS", "50").run(options)
}

/// Trains for long, and watches the memory of the process.
pub(crate) fn soak(options: &[String]) -> Outcome {
    const WORDS: &[&str] = &[
        "cargo",
        "test",
        "--release",
        "--package",
        "backprop",
        "--test",
        "soak",
        "--",
        "--nocapture",
    ];
    let line = Line::new(WORDS).with("BACKPROP_SOAK_STEPS", "100000");
    line.run(options)
}
