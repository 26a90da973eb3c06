//! The device on which tests run.

use backprop_cuda::{Builder, Cuda};

use crate::emulator;

/// Set where a GPU has to be there: what would run elsewhere, or not at all, fails.
const REQUIRED: &str = "BACKPROP_REQUIRE_GPU";

/// Set to have the emulated device look for races and accesses out of bounds, which takes longer.
const CHECKED: &str = "BACKPROP_CUDA_CHECKED";

/// The GPU, or an emulated one. `None`, with a line that says so, where neither can be had.
#[allow(dead_code, reason = "every test binary uses a part")]
pub(crate) fn device(test: &str) -> Result<Option<Cuda>, Box<dyn std::error::Error>> {
    device_with(test, Cuda::builder())
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
    builder: Builder,
) -> Result<Option<Cuda>, Box<dyn std::error::Error>> {
    let real = builder.clone().build();
    if is_required() {
        return Ok(Some(real?));
    }
    if let Ok(cuda) = real {
        return Ok(Some(cuda));
    }
    let libraries = match std::env::var_os(CHECKED) {
        Some(_) => emulator::checked_libraries(),
        None => emulator::libraries(),
    };
    match libraries {
        Ok(libraries) => {
            let cache = libraries.join("cache");
            let builder = builder.libraries(libraries).cache(cache);
            Ok(Some(builder.build()?))
        }
        Err(why) => {
            println!("skipped: {test}: {why}");
            Ok(None)
        }
    }
}
