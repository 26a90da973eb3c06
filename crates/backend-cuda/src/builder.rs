//! Settings.

use std::path::PathBuf;
use std::sync::Arc;

use backprop_core::Result;

use crate::Cuda;
use crate::blas::Products;
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

    /// Who computes matrix products: whoever is faster, unless said otherwise. The environment's
    /// `BACKPROP_CUDA_PRODUCTS` (`own` or `blas`) takes precedence.
    #[must_use]
    pub fn products(mut self, products: Products) -> Builder {
        self.options.products = products;
        self
    }

    /// Opens the device.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](backprop_core::ErrorKind::Device) says what is missing: a driver, a new
    /// enough one, a device, a library.
    pub fn build(self) -> Result<Cuda> {
        let named = Products::named(std::env::var_os(Products::VARIABLE).as_deref())?;
        let device = Device::new(self.ordinal, &self.folders)?;
        let mut options = self.options;
        options.shared = device.shared();
        options.products = match device.has_blas() {
            true => named.unwrap_or(options.products),
            false => Products::Own,
        };
        Ok(Cuda {
            device: Arc::new(device),
            options,
        })
    }
}
