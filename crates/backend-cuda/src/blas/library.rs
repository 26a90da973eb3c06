//! cuBLASLt on one device.

use backprop_core::Result;
use cudarc::cublaslt::{result, sys};

use super::plan::failed;
use super::{Addresses, Plan, Product};

/// The library with what it keeps for a device.
#[derive(Debug)]
pub(crate) struct Library {
    handle: sys::cublasLtHandle_t,
}

impl Library {
    /// For the device of the current context, where it can be used. The library has to be loaded.
    pub(crate) fn new() -> Option<Library> {
        let handle = result::create_handle().ok()?;
        Some(Library { handle })
    }

    /// How a product is computed; `None` if there is no way.
    pub(crate) fn plan(&self, product: &Product) -> Result<Option<Plan>> {
        // SAFETY: the handle lives until the library is dropped.
        unsafe { Plan::new(self.handle, product) }
            .map_err(|error| failed("preparing a matrix product", error))
    }

    /// Computes a product on a stream.
    ///
    /// # Safety
    /// The addresses are those of memory of the sizes that the plan was made for, and the stream is
    /// one of the handle's context.
    pub(crate) unsafe fn multiply(
        &self,
        plan: &Plan,
        addresses: Addresses,
        stream: sys::cudaStream_t,
    ) -> Result<()> {
        // SAFETY: the caller's promise; the handle lives until the library is dropped.
        unsafe { plan.run(self.handle, addresses, stream) }
            .map_err(|error| failed("multiplying matrices", error))
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: created in `new`, and not used again.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}
