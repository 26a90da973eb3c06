//! What is missing is an error that says so: each case in a process of its own, because libraries are
//! loaded once.

mod emulator;

use std::process::Command;

use backprop_core::{Backend, ErrorKind};
use backprop_cuda::Cuda;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Set in the processes that this test starts.
const INSIDE: &str = "BACKPROP_CUDA_MISSING";

/// What the emulated driver pretends, with part of what the error has to say.
const CASES: [(&str, &str); 4] = [
    ("old", "supports CUDA 12.4, and 13.0 is needed"),
    ("nodevice", "reports no device"),
    (
        "oom:65536",
        "out of memory: 1048576 bytes could not be allocated",
    ),
    ("", "there is no CUDA device 7: the driver reports 1"),
];

#[test]
#[allow(
    clippy::print_stdout,
    reason = "what the parent looks at, and why a test cannot run"
)]
fn what_is_missing_is_told() -> Outcome {
    if let Some(case) = std::env::var_os(INSIDE) {
        println!("{}", error(case.is_empty()));
        return Ok(());
    }
    let libraries = match emulator::libraries() {
        Ok(libraries) => libraries,
        Err(why) => {
            println!("skipped: {}: {why}", module_path!());
            return Ok(());
        }
    };
    for (case, expected) in CASES {
        let mut again = Command::new(std::env::current_exe()?);
        again.args(["--exact", "what_is_missing_is_told", "--nocapture"]);
        again.env("BACKPROP_CUDA_LIBS", &libraries);
        let ran = again.env(INSIDE, case).env("BP_FAKE", case).output()?;
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(
            ran.status.success() && said.contains(expected),
            "{case}: {said}"
        );
    }
    Ok(())
}

/// What goes wrong: with the last case, a device that is not there; otherwise opening the first and
/// taking a megabyte of it.
fn error(last: bool) -> String {
    let opened = Cuda::new(if last { 7 } else { 0 });
    match opened.and_then(|cuda| cuda.alloc(1 << 20)) {
        Ok(_) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_machine_without_a_driver_is_told_from_others() {
    if let Err(error) = Cuda::new(0) {
        assert!(matches!(error.kind(), ErrorKind::Device { .. }), "{error}");
    }
}
