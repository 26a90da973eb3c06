//! NVRTC of the version that the CUDA backend is built for, so that kernels are compiled, if not run, on
//! a machine without CUDA.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::bench::{shown, target_folder};

const PACKAGE: &str = "nvidia-cuda-nvrtc==13.0.88";
/// What is kept of it. The rest is for other ways to link.
const LIBRARIES: [&str; 2] = ["libnvrtc.so.13", "libnvrtc-builtins.so.13.0"];

/// Puts the libraries into `cuda-tools/lib` below cargo's target folder, unless they are there.
pub(crate) fn run(_: &[String]) -> Outcome {
    let folder = target_folder().join("cuda-tools");
    let libraries = folder.join("lib");
    if LIBRARIES.iter().all(|name| libraries.join(name).is_file()) {
        println!("{} is complete", libraries.display());
        return Ok(());
    }
    let unpacked = folder.join("unpacked");
    install(&unpacked)?;
    let found = library_folder(&unpacked)?;
    let io = |why: std::io::Error| format!("{}: {why}", folder.display());
    fs::create_dir_all(&libraries).map_err(io)?;
    for name in LIBRARIES {
        fs::rename(found.join(name), libraries.join(name)).map_err(io)?;
    }
    fs::remove_dir_all(&unpacked).map_err(io)?;
    println!("{} is complete", libraries.display());
    Ok(())
}

fn install(folder: &Path) -> Outcome {
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
    ]);
    pip.args(["--upgrade", "--target"]).arg(folder).arg(PACKAGE);
    let line = shown(&pip);
    println!("$ {line}");
    let status = pip.status();
    match status.map_err(|why| format!("`{line}` did not start: {why}"))? {
        status if status.success() => Ok(()),
        status => Err(format!("`{line}` failed ({status})")),
    }
}

/// The folder below this one that holds NVRTC.
fn library_folder(top: &Path) -> Result<PathBuf, String> {
    let mut folders = vec![top.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if folder.join(LIBRARIES[0]).is_file() {
            return Ok(folder);
        }
        let entries =
            fs::read_dir(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        folders.extend(paths.filter(|path| path.is_dir()));
    }
    Err(format!("{PACKAGE} has no {}", LIBRARIES[0]))
}
