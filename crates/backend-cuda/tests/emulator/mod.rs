//! A CUDA driver and compiler for machines with no GPU, built by g++ when a test first asks for them.
//!
//! [`libraries`] gives a folder with `libcuda.so.1` and `libnvrtc.so.13`. Kernels run as fibers on the host, block after
//! block, and device memory is host memory. What a kernel does wrong makes its launch return 719 and is told on stderr.
#![allow(dead_code, reason = "every test binary uses a part")]

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

static BUILD: Mutex<()> = Mutex::new(());

/// The emulator's settings. They are written beside the libraries, so every variant has a folder of its own.
///
/// Environment variables go first: `BP_ORDER`, `BP_FAKE`, `BP_EMULATOR_CHECK`, `BP_EMULATOR_FLAGS`, `BP_EMULATOR_DIR`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings<'a> {
    /// In which order threads run: `turn`, `forward` (where empty), `backward`, `random`, a number above 3 (a seed) or
    /// `rotate` (another one for each launch). It also chooses the order of a graph's independent nodes.
    pub(crate) order: &'a str,
    /// How the driver fails: `old`, `nodevice`, `oom`, `oom:BYTES`, or `noop`: launches do nothing.
    pub(crate) fake: &'a str,
    /// `1`: races, accesses out of bounds and writes to `const` arguments are found. Kernels run some ten times slower.
    pub(crate) check: &'a str,
}

const SOURCES: &[(&str, &str)] = &[
    ("abi.h", include_str!("abi.h")),
    ("cuda_atomic.h", include_str!("cuda_atomic.h")),
    ("cuda_host.h", include_str!("cuda_host.h")),
    ("cuda_math.h", include_str!("cuda_math.h")),
    ("emulator.h", include_str!("emulator.h")),
    ("driver.h", include_str!("driver.h")),
    ("check.cpp", include_str!("check.cpp")),
    ("driver.cpp", include_str!("driver.cpp")),
    ("fibers.cpp", include_str!("fibers.cpp")),
    ("memory.cpp", include_str!("memory.cpp")),
    ("nvrtc.cpp", include_str!("nvrtc.cpp")),
    ("streams.cpp", include_str!("streams.cpp")),
];

/// The folder of the plain emulator's libraries.
pub(crate) fn libraries() -> Result<PathBuf, String> {
    libraries_with(&Settings::default())
}

/// The folder of the checked emulator's libraries.
pub(crate) fn checked_libraries() -> Result<PathBuf, String> {
    libraries_with(&Settings {
        check: "1",
        ..Settings::default()
    })
}

/// The folder of libraries with these settings.
pub(crate) fn libraries_with(settings: &Settings<'_>) -> Result<PathBuf, String> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Err("the CUDA emulator runs on x86-64 Linux only".into());
    }
    let conf = format!(
        "ORDER={}\nFAKE={}\nCHECK={}\n",
        settings.order, settings.fake, settings.check
    );
    // Tests of one binary wait for one build; binaries that build at once are harmless.
    let _one = BUILD.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built_libraries()?;
    let folder = built.with_file_name(format!(
        "{:016x}-{:016x}",
        hash_of_sources(),
        hash(&conf, FNV_BASIS)
    ));
    if folder.join("libnvrtc.so.13").exists() {
        return Ok(folder);
    }
    publish(&folder, |own| {
        write(&own.join("emulator.conf"), &conf)?;
        for name in ["libcuda.so.1", "libnvrtc.so.13"] {
            fs::copy(built.join(name), own.join(name))
                .map_err(|e| format!("cannot copy {name}: {e}"))?;
        }
        for (name, text) in SOURCES.iter().filter(|(name, _)| name.ends_with(".h")) {
            write(&own.join(name), text)?;
        }
        Ok(())
    })?;
    Ok(folder)
}

fn built_libraries() -> Result<PathBuf, String> {
    let folder = root().join(format!("{:016x}", hash_of_sources()));
    if folder.exists() {
        return Ok(folder);
    }
    publish(&folder, |own| {
        for (name, text) in SOURCES {
            write(&own.join(name), text)?;
        }
        let driver = [
            "check.cpp",
            "driver.cpp",
            "fibers.cpp",
            "memory.cpp",
            "streams.cpp",
        ];
        compile(own, "libcuda.so.1", &driver)?;
        compile(own, "libnvrtc.so.13", &["nvrtc.cpp"])
    })?;
    Ok(folder)
}

/// Cargo names a folder for integration tests only; unit tests use the one of the system.
fn root() -> PathBuf {
    let folder = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    folder.join("emulator")
}

fn compile(folder: &Path, library: &str, sources: &[&str]) -> Result<(), String> {
    let output = Command::new("g++")
        .current_dir(folder)
        .args([
            "-std=c++17",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unused-parameter",
        ])
        .args([
            "-fPIC",
            "-shared",
            "-fvisibility=hidden",
            "-pthread",
            "-Wl,-Bsymbolic",
        ])
        .arg(format!("-Wl,-soname,{library}"))
        .args(["-o", library])
        .args(sources)
        .arg("-ldl")
        .output()
        .map_err(|e| format!("the CUDA emulator needs g++, which cannot be run: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "g++ cannot build the emulator's {library}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Several test binaries may build at once: each in a folder of its own, and the first one to end gives it the name.
fn publish(folder: &Path, fill: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = folder
        .file_name()
        .and_then(OsStr::to_str)
        .unwrap_or_default();
    let own = folder.with_file_name(format!("{name}.{}.{number}", std::process::id()));
    fs::create_dir_all(&own).map_err(|e| format!("cannot create {}: {e}", own.display()))?;
    let filled = fill(&own).and_then(|()| match fs::rename(&own, folder) {
        Ok(()) => Ok(()),
        Err(_) if folder.exists() => Ok(()),
        Err(e) => Err(format!("cannot rename {}: {e}", own.display())),
    });
    if own.exists() {
        fs::remove_dir_all(&own).map_err(|e| format!("cannot remove {}: {e}", own.display()))?;
    }
    filled
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

fn hash(text: &str, basis: u64) -> u64 {
    text.bytes().fold(basis, |h, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn hash_of_sources() -> u64 {
    SOURCES.iter().fold(FNV_BASIS, |h, (_, text)| hash(text, h))
}
