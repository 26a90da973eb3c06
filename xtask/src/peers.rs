//! Sets up the engines that `cargo xtask bench` compares with. Nothing else of the project needs them.

use std::process::Command;

use crate::bench::{PYTHON, RUST_PEERS, shown, target_folder};
use crate::{Outcome, root};

const USAGE: &str = "usage: cargo xtask peers [python] [rust]";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let both = ["python".to_owned(), "rust".to_owned()];
    let named = if arguments.is_empty() {
        &both
    } else {
        arguments
    };
    for name in named {
        match name.as_str() {
            "python" => python()?,
            "rust" => rust()?,
            other => return Err(format!("no peers are called `{other}`\n\n{USAGE}")),
        }
    }
    Ok(())
}

/// PyTorch, JAX and TensorFlow, in a virtual environment of their own.
fn python() -> Outcome {
    let python = target_folder().join(PYTHON);
    if !python.exists() {
        let environment = target_folder().join("peers").join("venv");
        run_command(
            Command::new("python3")
                .args(["-m", "venv"])
                .arg(environment),
        )?;
    }
    let requirements = root().join("benches/peers/requirements.txt");
    let mut pip = Command::new(python);
    run_command(
        pip.args(["-m", "pip", "install", "--requirement"])
            .arg(requirements),
    )
}

/// The packages of the Rust peers.
const PACKAGES: [&str; 3] = ["peer-candle", "peer-burn", "peer-dfdx"];

/// candle, burn and dfdx, in a workspace of their own. One that does not build leaves the others be.
fn rust() -> Outcome {
    let build = |package: &&str| {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--package", package]);
        cargo.current_dir(root().join("benches/peers/rust"));
        run_command(cargo.env("CARGO_TARGET_DIR", target_folder().join(RUST_PEERS)))
    };
    let failed: Vec<String> = PACKAGES
        .iter()
        .filter_map(|package| build(package).err())
        .collect();
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join("\nerror: ")),
    }
}

fn run_command(command: &mut Command) -> Outcome {
    let line = shown(command);
    println!("$ {line}");
    let status = command.status();
    match status.map_err(|why| format!("`{line}` did not start: {why}"))? {
        status if status.success() => Ok(()),
        status => Err(format!("`{line}` failed ({status})")),
    }
}
