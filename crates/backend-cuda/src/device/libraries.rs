//! The CUDA libraries, found and loaded when they are first needed.

use std::path::{Path, PathBuf};

use backprop_core::Result;
use once_cell::sync::OnceCell;

use super::trouble;

/// The folder with NVIDIA's libraries, where they lie in none that the system looks into.
pub(crate) const VARIABLE: &str = "BACKPROP_CUDA_LIBS";

/// Where CUDA's own installer puts them.
const USUAL: [&str; 2] = [
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/targets/x86_64-linux/lib",
];

/// In the order in which they need each other; the first of a group that is found serves.
const OPTIONAL: [&str; 3] = [
    "libnvrtc-builtins.so.13.0",
    "libnvrtc.so.13",
    "libcublasLt.so.13",
];

/// Loads the driver and the compiler, once in a process: from `folder`, from the one that
/// `BACKPROP_CUDA_LIBS` names, or from where the system finds them.
pub(super) fn load(folder: Option<&Path>) -> Result<()> {
    static LOADED: OnceCell<()> = OnceCell::new();
    LOADED
        .get_or_try_init(|| load_driver(folder).and_then(|()| load_compiler(folder)))
        .copied()
}

/// The folders that somebody named, then the usual ones.
fn folders(folder: Option<&Path>) -> Vec<PathBuf> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let own = folder.map(Path::to_path_buf).into_iter();
    own.chain(named).chain(USUAL.map(PathBuf::from)).collect()
}

/// A folder may hold a driver too, as tests do; a system has one of its own.
fn load_driver(folder: Option<&Path>) -> Result<()> {
    let folders = folders(folder);
    if let Some(driver) = in_folders(&folders[..folders.len() - USUAL.len()], "libcuda.so.1") {
        keep(&driver);
    }
    // SAFETY: loading NVIDIA's library runs its initialisers, which is what they are for.
    let found = unsafe { cudarc::driver::sys::is_culib_present() };
    let none = "no CUDA driver was found (libcuda.so.1 cannot be loaded): this machine has no NVIDIA GPU, or its driver is not installed";
    found.then_some(()).ok_or_else(|| trouble(none))
}

/// Loads NVRTC, and cuBLASLt where there is one.
pub(super) fn load_compiler(folder: Option<&Path>) -> Result<()> {
    let folders = folders(folder);
    for name in OPTIONAL {
        if let Some(path) = in_folders(&folders, name) {
            keep(&path);
        }
    }
    // SAFETY: as above.
    let found = unsafe { cudarc::nvrtc::sys::is_culib_present() };
    found.then_some(()).ok_or_else(|| {
        trouble(format!(
            "libnvrtc.so.13 cannot be loaded: install the CUDA 13 toolkit, or set {VARIABLE} to the folder that holds it"
        ))
    })
}

/// Whether cuBLASLt can be loaded. Nothing of it may be called where it cannot.
pub(super) fn has_blas() -> bool {
    // SAFETY: as above.
    unsafe { cudarc::cublaslt::sys::is_culib_present() }
}

fn in_folders(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    let mut paths = folders.iter().map(|folder| folder.join(name));
    paths.find(|path| path.is_file())
}

/// Loads a library for the rest of the process, so that those loaded later find its symbols.
fn keep(path: &Path) {
    #[cfg(unix)]
    {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: a library of NVIDIA's, or one that stands in for it in tests.
        if let Ok(library) = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) } {
            std::mem::forget(library);
        }
    }
    #[cfg(not(unix))]
    {
        // SAFETY: as above.
        if let Ok(library) = unsafe { libloading::Library::new(path) } {
            std::mem::forget(library);
        }
    }
}
