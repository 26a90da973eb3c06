//! The device on which tests run.

use std::path::PathBuf;
use std::sync::OnceLock;

use backprop_cuda::{Builder, Cuda};

use crate::emulator;

/// Set where a GPU has to be there: what would run elsewhere, or not at all, fails.
const REQUIRED: &str = "BACKPROP_REQUIRE_GPU";

/// Set to have the emulated device look for races and accesses out of bounds, which takes longer.
const CHECKED: &str = "BACKPROP_CUDA_CHECKED";

/// The GPU, or an emulated one. `None`, with a line that says so, where neither can be had.
#[allow(dead_code, reason = "every test binary uses a part")]
pub(crate) fn device(test: &str) -> Result<Option<Cuda>, Box<dyn std::error::Error>> {
    device_with(test, |builder| builder)
}

/// Whether a GPU has to be there.
#[allow(dead_code, reason = "every test binary uses a part")]
pub(crate) fn is_required() -> bool {
    std::env::var_os(REQUIRED).is_some()
}

/// The same with settings.
#[allow(clippy::print_stdout, reason = "a test that cannot run says so")]
pub(crate) fn device_with(
    test: &str,
    settings: impl FnOnce(Builder) -> Builder,
) -> Result<Option<Cuda>, Box<dyn std::error::Error>> {
    match PLACE.get_or_init(Place::find) {
        Place::Gpu => Ok(Some(settings(Cuda::builder()).build()?)),
        Place::Emulated(libraries) => {
            let builder = Cuda::builder().libraries(libraries);
            let builder = settings(builder.cache(libraries.join("cache")));
            Ok(Some(builder.build()?))
        }
        Place::Nowhere(why) => {
            println!("skipped: {test}: {why}");
            Ok(None)
        }
    }
}

/// Where the tests of this process run. It is settled once: when the emulated driver is loaded, there
/// seems to be a GPU, whose images would lie among those of real ones.
static PLACE: OnceLock<Place> = OnceLock::new();

enum Place {
    Gpu,
    /// On the libraries in this folder.
    Emulated(PathBuf),
    /// For this reason.
    Nowhere(String),
}

impl Place {
    fn find() -> Place {
        if is_required() || Cuda::new(0).is_ok() {
            return Place::Gpu;
        }
        let libraries = match std::env::var_os(CHECKED) {
            Some(_) => emulator::checked_libraries(),
            None => emulator::libraries(),
        };
        libraries.map_or_else(Place::Nowhere, Place::Emulated)
    }
}
