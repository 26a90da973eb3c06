//! How the engines are run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::measurement::{Case, Run};
use super::target_folder;
use crate::root;

/// The Python of the peers, below the folder for what is built.
pub(crate) const PYTHON: &str = "peers/venv/bin/python";
/// The Rust peers, below the same folder.
pub(crate) const RUST_PEERS: &str = "peers/rust";

/// A run that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(900);

/// Another engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Peer {
    Torch,
    TorchCompile,
    Jax,
    Tensorflow,
    TensorflowXla,
    Candle,
    Burn,
    Dfdx,
}

impl Peer {
    pub(super) const ALL: [Peer; 8] = [
        Peer::Torch,
        Peer::TorchCompile,
        Peer::Jax,
        Peer::Tensorflow,
        Peer::TensorflowXla,
        Peer::Candle,
        Peer::Burn,
        Peer::Dfdx,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::Torch => "torch",
            Peer::TorchCompile => "torch-compile",
            Peer::Jax => "jax",
            Peer::Tensorflow => "tensorflow",
            Peer::TensorflowXla => "tensorflow-xla",
            Peer::Candle => "candle",
            Peer::Burn => "burn",
            Peer::Dfdx => "dfdx",
        }
    }

    /// The workloads that its program leaves out, because the engine cannot express them or only as
    /// nobody would write them.
    fn leaves_out(self) -> &'static [&'static str] {
        match self {
            Peer::Dfdx => &["W4", "W5", "W6", "W8", "W9-3163"],
            _ => &[],
        }
    }

    /// The program in Python and how it is to run, unless the peer is of Rust.
    fn script(self) -> Option<(&'static str, &'static str)> {
        match self {
            Peer::Torch => Some(("torch", "eager")),
            Peer::TorchCompile => Some(("torch", "compile")),
            Peer::Jax => Some(("jax", "jit")),
            Peer::Tensorflow => Some(("tensorflow", "function")),
            Peer::TensorflowXla => Some(("tensorflow", "xla")),
            Peer::Candle | Peer::Burn | Peer::Dfdx => None,
        }
    }
}

/// Something that runs workloads.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pub(super) name: String,
    how: How,
    leaves_out: &'static [&'static str],
}

#[derive(Clone, Debug)]
enum How {
    /// The program of this engine, or of another revision of it.
    Own(PathBuf),
    Python {
        package: &'static str,
        mode: &'static str,
    },
    Rust(PathBuf),
}

impl Engine {
    pub(super) fn own(name: &str, program: &Path) -> Self {
        Self {
            name: name.to_owned(),
            how: How::Own(program.to_owned()),
            leaves_out: &[],
        }
    }

    pub(super) fn peer(peer: Peer) -> Self {
        let built = target_folder().join(RUST_PEERS).join("release");
        let how = match peer.script() {
            Some((package, mode)) => How::Python { package, mode },
            None => How::Rust(built.join(format!("peer-{}", peer.name()))),
        };
        Self {
            name: peer.name().to_owned(),
            how,
            leaves_out: peer.leaves_out(),
        }
    }

    /// Whether its program leaves a workload out.
    pub(super) fn leaves_out(&self, workload: &str) -> bool {
        self.leaves_out.contains(&workload)
    }

    /// Whether it is set up.
    pub(super) fn is_present(&self) -> bool {
        match &self.how {
            How::Own(program) | How::Rust(program) => program.exists(),
            How::Python { package, .. } => {
                let find =
                    format!("import importlib.util as u; exit(not u.find_spec('{package}'))");
                let python = target_folder().join(PYTHON);
                let found = Command::new(python).args(["-c", &find]).status();
                found.is_ok_and(|status| status.success())
            }
        }
    }

    /// Runs a workload once, in a process of its own.
    pub(super) fn run(&self, case: &Case, file: &Path, seconds: f64) -> Result<Run, String> {
        let seconds = seconds.to_string();
        let threads = case.threads.to_string();
        let mut command = match &self.how {
            How::Own(program) => {
                let mut command = Command::new(program);
                command.arg("run").arg(&case.workload).arg(file);
                command.args(["--threads", &threads, "--seconds", &seconds]);
                command
            }
            How::Python { package, mode } => {
                let mut command = Command::new(target_folder().join(PYTHON));
                let script = format!("benches/peers/run_{package}.py");
                command.arg(root().join(script)).arg(mode);
                command.arg(&case.workload).arg(file);
                command.args([&threads, &seconds]);
                command
            }
            How::Rust(program) => {
                let mut command = Command::new(program);
                command.arg(&case.workload).arg(file);
                command.args([&threads, &seconds]);
                command.env("RAYON_NUM_THREADS", &threads);
                command
            }
        };
        let child = command.stdin(Stdio::null());
        let child = child.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn();
        Run::read(&finished(child.map_err(|why| why.to_string())?)?)
    }
}

/// The last line that a process prints, or the last of its errors.
fn finished(mut child: Child) -> Result<String, String> {
    let start = Instant::now();
    let mut wait = || -> std::io::Result<bool> {
        // What is printed fits a pipe: nobody has to read until the end.
        while child.try_wait()?.is_none() {
            if start.elapsed() > LIMIT {
                child.kill()?;
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(true)
    };
    let in_time = wait().map_err(|why| why.to_string())?;
    if !in_time {
        return Err(format!("not done after {} s", LIMIT.as_secs()));
    }
    let output = child.wait_with_output().map_err(|why| why.to_string())?;
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.trim_end()
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned()
    };
    match output.status.success() {
        true => Ok(last(&output.stdout)),
        // What a signal ended has said nothing.
        false => Err(format!("{}: {}", output.status, last(&output.stderr))),
    }
}
