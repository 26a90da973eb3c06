//! A step as one graph of launches, recorded once and replayed.

use std::sync::Arc;

use backprop_core::Result;
use cudarc::driver::{result, sys};

use super::{Device, failed};

/// Launches that the driver starts as a whole.
#[derive(Debug)]
pub(crate) struct Graph {
    device: Arc<Device>,
    executable: sys::CUgraphExec,
}

// SAFETY: a driver handle names an object of the process; it is used through `&mut` only.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `run` launches, which runs nothing.
    pub(crate) fn record(device: &Arc<Device>, run: impl FnOnce() -> Result<()>) -> Result<Graph> {
        device.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as the device.
        unsafe { result::stream::begin_capture(device.stream, mode) }
            .map_err(|error| failed("recording a step", error))?;
        device.forget();
        let launched = run();
        device.forget();
        // SAFETY: as above; the recording has to end whether or not it went well.
        let recorded = unsafe { result::stream::end_capture(device.stream) };
        launched?;
        let graph = recorded.map_err(|error| failed("recording a step", error))?;
        // SAFETY: the graph was recorded above; it is not needed after.
        let executable = unsafe {
            let executable = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0));
            let _ = result::graph::destroy(graph);
            executable
        };
        Ok(Graph {
            device: Arc::clone(device),
            executable: executable.map_err(|error| failed("preparing a recorded step", error))?,
        })
    }

    pub(crate) fn launch(&mut self) -> Result<()> {
        self.device.enter()?;
        self.device.forget();
        // SAFETY: both live as long as the device.
        unsafe { result::graph::launch(self.executable, self.device.stream) }
            .map_err(|error| failed("starting a step", error))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.device.enter().is_ok() {
            let _ = self.device.wait();
            // SAFETY: nothing runs any more; the handle is not used again.
            let _ = unsafe { result::graph::exec_destroy(self.executable) };
        }
    }
}
