//! Settings.

use std::path::PathBuf;
use std::sync::Arc;

use backprop_core::Result;

use crate::Cuda;
use crate::contraction::{Options, Precision};
use crate::device::{Device, Folders};

/// Settings of the backend.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    ordinal: usize,
    folders: Folders,
    options: Options,
}

impl Builder {
    /// The device with this number, counted from 0: the first one, unless said otherwise.
    #[must_use]
    pub fn device(mut self, ordinal: usize) -> Builder {
        self.ordinal = ordinal;
        self
    }

    /// A folder in which NVIDIA's libraries are looked for first. Also: the environment's
    /// `BACKPROP_CUDA_LIBS`. The first backend of a process decides.
    #[must_use]
    pub fn libraries(mut self, folder: impl Into<PathBuf>) -> Builder {
        self.folders.libraries = Some(folder.into());
        self
    }

    /// A folder for compiled kernels. Also: the environment's `BACKPROP_CUDA_CACHE`; otherwise they
    /// lie in the user's cache folder.
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Builder {
        self.folders.cache = Some(folder.into());
        self
    }

    /// With which precision 32-bit products and convolutions are computed: all of it, unless said
    /// otherwise.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Builder {
        self.options.precision = precision;
        self
    }

    /// Opens the device.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](backprop_core::ErrorKind::Device) says what is missing: a driver, a new
    /// enough one, a device, a library.
    pub fn build(self) -> Result<Cuda> {
        let device = Device::new(self.ordinal, &self.folders)?;
        Ok(Cuda {
            device: Arc::new(device),
            options: self.options,
        })
    }
}
