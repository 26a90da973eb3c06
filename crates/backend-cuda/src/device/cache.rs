//! Compiled kernels on disk, by content, so that a program's second start compiles nothing.

use std::fs;
use std::path::PathBuf;

/// The folder for compiled kernels, in place of the user's cache folder.
const VARIABLE: &str = "BACKPROP_CUDA_CACHE";

/// A folder of images; none if there is no place for one.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    pub(super) fn new(folder: Option<PathBuf>) -> Cache {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let usual = || {
            let base = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let base = base.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")))?;
            Some(base.join("backprop").join("cuda"))
        };
        let named = variable(VARIABLE).map(PathBuf::from);
        Cache {
            folder: folder.or(named).or_else(usual),
        }
    }

    /// Keeps nothing.
    #[cfg(test)]
    pub(super) fn nowhere() -> Cache {
        Cache { folder: None }
    }

    pub(super) fn get(&self, name: &str) -> Option<Vec<u8>> {
        let image = fs::read(self.folder.as_ref()?.join(name)).ok()?;
        // An image ends with the zero that the driver reads up to.
        (image.last() == Some(&0)).then_some(image)
    }

    /// Keeps an image. That there is no room for it is no reason to stop.
    pub(super) fn put(&self, name: &str, image: &[u8]) {
        let Some(folder) = &self.folder else { return };
        // Written beside and renamed, because another process may look for it at any time.
        let beside = folder.join(format!("{name}.{}", std::process::id()));
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&beside, image));
        if written.is_err() || fs::rename(&beside, folder.join(name)).is_err() {
            let _ = fs::remove_file(&beside);
        }
    }
}
