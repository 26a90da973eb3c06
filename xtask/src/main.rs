//! Development tasks, run as `cargo xtask TASK`.
//!
//! They are Rust so that they work wherever the project builds, and depend on next to nothing so that
//! they build in seconds.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program talks to its terminal"
)]

mod api;
mod bench;
mod ci;
mod command;
mod fuzz;
mod gpu;
mod licences;
mod memory;
mod peers;
mod sanitize;
mod tidy;
mod trials;

use std::path::Path;
use std::process::ExitCode;

/// What a task came to; the text says why it failed.
type Outcome = Result<(), String>;

struct Task {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Outcome,
}

const TASKS: &[Task] = &[
    Task {
        name: "ci",
        about: "everything a change has to pass: format, clippy, rustdoc, tests",
        run: ci::run,
    },
    Task {
        name: "tidy",
        about: "the rules of the project that no compiler checks (also part of the tests)",
        run: tidy::run,
    },
    Task {
        name: "bless",
        about: "accept what the snapshot tests print now; takes options of cargo test",
        run: ci::bless,
    },
    Task {
        name: "api",
        about: "write the listing of everything public anew",
        run: api::run,
    },
    Task {
        name: "licences",
        about: "check the licences of all dependencies (also part of ci)",
        run: licences::run,
    },
    Task {
        name: "fuzz",
        about: "try inputs that nobody wrote; takes --minutes, --target, --seed, --input",
        run: fuzz::run,
    },
    Task {
        name: "sanitize",
        about: "tests under Miri and the thread sanitizer; takes `miri` or `threads`",
        run: sanitize::run,
    },
    Task {
        name: "bench",
        about: "time the workloads on this engine and on the peers that are set up; takes --help",
        run: bench::run,
    },
    Task {
        name: "memory",
        about: "train a transformer within budgets of bytes, and hold what is seen against the plan",
        run: memory::run,
    },
    Task {
        name: "peers",
        about: "set up what `bench` compares with: all of `python` and `rust`, or those named",
        run: peers::run,
    },
    Task {
        name: "kill",
        about: "kill a training at 50 random moments, and compare what comes of it in the end",
        run: trials::kill,
    },
    Task {
        name: "soak",
        about: "train for 100,000 steps, and see that the memory stays as it is",
        run: trials::soak,
    },
    Task {
        name: "cuda-tools",
        about: "fetch NVIDIA's compiler library, for tests of the CUDA backend without a GPU",
        run: gpu::tools,
    },
    Task {
        name: "gpu-bundle",
        about: "build what tests and times the CUDA backend on another machine, into one folder",
        run: gpu::bundle,
    },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    };
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprint!("error: no task is called `{name}`\n\n{}", usage());
        return ExitCode::from(2);
    };
    match (task.run)(&arguments.collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let tasks: String = TASKS
        .iter()
        .map(|task| format!("  {:10} {}\n", task.name, task.about))
        .collect();
    format!("usage: cargo xtask TASK\n\n{tasks}")
}

/// The folder of the workspace.
fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}
