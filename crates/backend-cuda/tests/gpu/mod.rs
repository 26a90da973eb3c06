//! The device on which tests run.

use backprop_cuda::Cuda;

use crate::emulator;

/// Set where a GPU has to be there: what would run elsewhere, or not at all, fails.
const REQUIRED: &str = "BACKPROP_REQUIRE_GPU";

/// Set to have the emulated device look for races and accesses out of bounds, which takes longer.
const CHECKED: &str = "BACKPROP_CUDA_CHECKED";

/// The GPU, or an emulated one. `None`, with a line that says so, where neither can be had.
#[allow(clippy::print_stdout, reason = "a test that cannot run says so")]
pub(crate) fn device(test: &str) -> Result<Option<Cuda>, Box<dyn std::error::Error>> {
    let real = Cuda::new(0);
    if std::env::var_os(REQUIRED).is_some() {
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
            let builder = Cuda::builder().libraries(libraries).cache(cache);
            Ok(Some(builder.build()?))
        }
        Err(why) => {
            println!("skipped: {test}: {why}");
            Ok(None)
        }
    }
}
