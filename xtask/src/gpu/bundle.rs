//! One folder with everything that a machine with a GPU, but perhaps without cargo, is to run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::bench::{shown, target_folder};
use crate::{Outcome, root};

/// Binaries to take along.
struct Part {
    package: &'static str,
    targets: &'static [&'static str],
    features: &'static [&'static str],
}

const PARTS: [Part; 3] = [
    Part {
        package: "backprop-cuda",
        targets: &["--lib", "--tests"],
        features: &[],
    },
    Part {
        package: "backprop",
        targets: &["--test", "golden"],
        features: &["cuda"],
    },
    Part {
        package: "backprop-benches",
        targets: &["--bin", "workload"],
        features: &["cuda"],
    },
];

/// Tests that need the emulator, which has no place beside the driver of a GPU.
const LEFT_OUT: [&str; 3] = [
    "test-backprop-cuda-planted",
    "test-backprop-cuda-emulated",
    "test-backprop-cuda-missing",
];

/// Folders that tests read at the place where they were when the tests were built.
const TREE: [&str; 3] = [
    "crates/backprop/tests/data",
    "crates/backend-cuda/tests",
    "crates/backend-cuda/src/tests",
];

/// Compiled kernels, below the target folder. They are taken along if they are there.
const CACHE: &str = "cuda-cache";

/// What can be sent along with the sources, which are a dozen MiB.
const LIMIT: u64 = 60 << 20;

const USAGE: &str = "usage: cargo xtask gpu-bundle [PACKAGE]...\n";

/// Builds the parts, or those of the packages named, and collects them in `gpu-bundle` below cargo's
/// target folder.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    if let Some(unknown) = arguments
        .iter()
        .find(|name| PARTS.iter().all(|part| part.package != **name))
    {
        let known = PARTS.map(|part| part.package).join(", ");
        return Err(format!("no part `{unknown}`, only {known}\n\n{USAGE}"));
    }
    let folder = target_folder().join("gpu-bundle");
    let wanted = |part: &&Part| arguments.is_empty() || arguments.iter().any(|a| a == part.package);
    let mut binaries = Vec::new();
    for part in PARTS.iter().filter(wanted) {
        binaries.extend(build(part)?);
    }
    let bytes = collect(&folder, &binaries)
        .map_err(|why| format!("{} cannot be written: {why}", folder.display()))?;
    let size = format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    println!("{}: {} binaries, {size}", folder.display(), binaries.len());
    match bytes <= LIMIT {
        true => Ok(()),
        false => Err(format!("{size} are more than {} MiB", LIMIT >> 20)),
    }
}

/// A binary and its name in the bundle.
#[derive(Debug, PartialEq)]
struct Binary {
    name: String,
    path: PathBuf,
}

fn build(part: &Part) -> Result<Vec<Binary>, String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--profile", "gpu", "--package", part.package]);
    cargo.args(part.targets);
    if !part.features.is_empty() {
        cargo.args(["--features", &part.features.join(",")]);
    }
    cargo.args(["--message-format", "json-render-diagnostics"]);
    cargo.current_dir(root()).stderr(Stdio::inherit());
    let line = shown(&cargo);
    println!("$ {line}");
    let output = cargo.output();
    let output = output.map_err(|why| format!("`{line}` did not start: {why}"))?;
    if !output.status.success() {
        return Err(format!("`{line}` failed ({})", output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let found: Vec<Binary> = messages.lines().filter_map(|m| binary(part, m)).collect();
    match found.is_empty() {
        true => Err(format!("`{line}` built no binary")),
        false => Ok(found),
    }
}

/// The binary that a message of cargo tells of.
fn binary(part: &Part, message: &str) -> Option<Binary> {
    let message: Value = serde_json::from_str(message).ok()?;
    let path = message["executable"].as_str()?;
    let target = message["target"]["name"].as_str()?;
    let name = match message["profile"]["test"].as_bool()? {
        true if message["target"]["kind"][0] == "test" => format!("test-{}-{target}", part.package),
        true => format!("test-{}-unit", part.package),
        false => target.to_owned(),
    };
    let path = PathBuf::from(path);
    (!LEFT_OUT.contains(&name.as_str())).then_some(Binary { name, path })
}

/// Puts everything into a new folder, and says how many bytes that is.
fn collect(folder: &Path, binaries: &[Binary]) -> std::io::Result<u64> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let mut bytes = 0;
    fs::create_dir_all(folder.join("bin"))?;
    for binary in binaries {
        bytes += fs::copy(&binary.path, folder.join("bin").join(&binary.name))?;
    }
    bytes += copy_files(
        &root().join("benches/peers"),
        &folder.join("peers"),
        &|path| path.extension().is_some_and(|end| end == "py"),
    )?;
    for tree in TREE {
        let from = root().join(tree);
        if from.exists() {
            bytes += copy_files(&from, &folder.join("tree").join(tree), &|_| true)?;
        }
    }
    let cache = target_folder().join(CACHE);
    if cache.exists() {
        bytes += copy_files(&cache, &folder.join("cache"), &|_| true)?;
    }
    let script = folder.join("run.sh");
    fs::write(&script, include_str!("run.sh"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    fs::write(folder.join("ROOT"), root().display().to_string())?;
    fs::write(folder.join("COMMIT"), commit())?;
    Ok(bytes)
}

fn commit() -> String {
    let mut git = Command::new("git");
    let git = git.args(["describe", "--always", "--dirty", "--abbrev=12"]);
    match git.current_dir(root()).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        _ => "unknown\n".to_owned(),
    }
}

/// Copies the wanted files of a folder and of those in it, and says how many bytes that is.
fn copy_files(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        if path.is_dir() {
            bytes += copy_files(&path, &to.join(name), wanted)?;
        } else if wanted(&path) {
            fs::create_dir_all(to)?;
            bytes += fs::copy(&path, to.join(name))?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_named_after_their_targets() {
        #[track_caller]
        fn check(kind: &str, is_test: bool, name: Option<&str>) {
            let message = format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"x"}},
                "profile":{{"test":{is_test}}},"executable":"/target/gpu/x-0123"}}"#
            );
            let found = binary(&PARTS[0], &message.replace('\n', ""));
            assert_eq!(found.map(|found| found.name).as_deref(), name);
        }
        check("test", true, Some("test-backprop-cuda-x"));
        check("lib", true, Some("test-backprop-cuda-unit"));
        check("bin", false, Some("x"));
        let left_out = r#"{"target":{"kind":["test"],"name":"planted"},"profile":{"test":true},"executable":"/p"}"#;
        assert_eq!(binary(&PARTS[0], left_out), None);
        let library = r#"{"reason":"compiler-artifact","executable":null}"#;
        assert_eq!(binary(&PARTS[0], library), None);
        assert_eq!(binary(&PARTS[0], "no message"), None);
    }

    #[test]
    fn the_script_is_one() {
        assert!(include_str!("run.sh").starts_with("#!/bin/bash\n"));
    }
}
