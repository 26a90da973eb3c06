//! What a change has to pass, cheapest first, and the acceptance of snapshots.

use std::time::Instant;

use crate::Outcome;
use crate::command::Line;

/// The test command of the README.
pub(crate) const TEST: &[&str] = &["cargo", "test", "--workspace"];

const LINES: [Line; 4] = [
    Line::new(&["cargo", "fmt", "--all", "--check"]),
    Line::new(&[
        "cargo",
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]),
    Line::new(&["cargo", "doc", "--workspace", "--no-deps"]).with("RUSTDOCFLAGS", "-D warnings"),
    Line::new(TEST),
];

/// Runs every line and stops at the first that fails. The tests come last and nothing is printed
/// after them: their own closing lines are the verdict.
///
/// NVRTC is fetched before, so that kernels for GPUs are compiled; a test says so where it is not there.
pub(crate) fn run(_: &[String]) -> Outcome {
    if let Err(why) = crate::gpu::tools(&[]) {
        println!("without NVRTC: {why}");
    }
    crate::licences::run(&[])?;
    let mut started = Instant::now();
    for (i, line) in LINES.iter().enumerate() {
        if i > 0 {
            println!("  took {:.1} s\n", started.elapsed().as_secs_f64());
        }
        started = Instant::now();
        line.run(&[])?;
    }
    Ok(())
}

/// Runs the tests with every snapshot rewritten to what the code prints now.
pub(crate) fn bless(options: &[String]) -> Outcome {
    let tests: &[&str] = if options.is_empty() {
        TEST
    } else {
        &["cargo", "test"]
    };
    Line {
        variable: Some(("UPDATE_EXPECT", "1")),
        words: tests,
    }
    .run(options)?;
    Line::new(&["git", "--no-pager", "diff", "--stat"]).run(&[])
}
