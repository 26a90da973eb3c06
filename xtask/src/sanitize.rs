//! Tests under the tools that watch memory and threads, which the nightly toolchain has:
//! `rustup toolchain install nightly --component miri --component rust-src`.

use crate::Outcome;
use crate::command::Line;

/// A command of Miri's: tests of a package, with options of `cargo test`.
macro_rules! miri {
    ($package:literal, $($word:literal),+) => {
        Line::new(&["cargo", "+nightly", "miri", "test", "-p", $package, $($word),+])
            .with("MIRIFLAGS", "-Zmiri-disable-isolation")
    };
}

/// Miri watches every access of what it interprets, and is a thousand times slower: so it gets the
/// tests beside the code of core, some of the compiler's passes, and of the CPU backend the pool and
/// what is small; kernels with a compiled plan around them take it too long.
const MIRI: [Line; 3] = [
    miri!("backprop-core", "--lib"),
    miri!(
        "backprop-graph",
        "--lib",
        "--",
        "constants_fold",
        "adding_zero",
        "rearrangements"
    ),
    miri!(
        "backprop-cpu",
        "--lib",
        "--",
        "pool::",
        "builder::",
        "level::",
        "gemm::plan",
        "gemm::source",
        "tile::narrow"
    ),
];

/// The thread sanitizer watches the pool at full speed; the standard library has to be built with
/// it. Kernels are not what it is about, and take long to optimise.
const THREADS: Line = Line::new(&[
    "cargo",
    "+nightly",
    "test",
    "-Zbuild-std",
    "--target=x86_64-unknown-linux-gnu",
    "--target-dir=target/threads",
    "--config=profile.dev.package.backprop-cpu.opt-level=0",
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
