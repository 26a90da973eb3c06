//! Tests under the tools that watch memory and threads, which the nightly toolchain has:
//! `rustup toolchain install nightly --component miri --component rust-src`.

use crate::Outcome;
use crate::command::Line;

const fn miri(words: &'static [&'static str]) -> Line {
    Line::new(words).with("MIRIFLAGS", "-Zmiri-disable-isolation")
}

/// Miri watches every access of what it interprets, and is slow: so the crates without `unsafe` by
/// the tests beside their code, and of the CPU backend the pool and the instructions that every
/// processor has.
const MIRI: [Line; 3] = [
    miri(&["cargo", "+nightly", "miri", "test", "-p", "backprop-core"]),
    miri(&[
        "cargo",
        "+nightly",
        "miri",
        "test",
        "-p",
        "backprop-graph",
        "--lib",
    ]),
    miri(&[
        "cargo",
        "+nightly",
        "miri",
        "test",
        "-p",
        "backprop-cpu",
        "--lib",
    ]),
];

/// The thread sanitizer watches the pool at full speed; the standard library has to be built with
/// it.
const THREADS: Line = Line::new(&[
    "cargo",
    "+nightly",
    "test",
    "-Zbuild-std",
    "--target=x86_64-unknown-linux-gnu",
    "--target-dir=target/threads",
    "-p",
    "backprop-cpu",
    "--lib",
    "pool::",
])
.with("RUSTFLAGS", "-Zsanitizer=thread");

/// Runs the tests of one tool, `miri` or `threads`, or of both.
pub(crate) fn run(options: &[String]) -> Outcome {
    let wanted = |tool: &str| options.is_empty() || options.iter().any(|option| option == tool);
    if let Some(other) = options
        .iter()
        .find(|option| !["miri", "threads"].contains(&option.as_str()))
    {
        return Err(format!("`{other}` is neither `miri` nor `threads`"));
    }
    if wanted("miri") {
        MIRI.iter().try_for_each(|line| line.run(&[]))?;
    }
    match wanted("threads") {
        true => THREADS.run(&[]),
        false => Ok(()),
    }
}
