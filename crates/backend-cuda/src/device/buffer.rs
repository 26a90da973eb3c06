//! Memory on the device.

use std::sync::{Arc, PoisonError};

use backprop_core::{Error, ErrorKind, Result};
use cudarc::driver::{result, sys};

use super::{Device, failed, trouble};

/// Memory on a device, at a multiple of 256 bytes.
#[derive(Debug, Default)]
pub struct Buffer {
    device: Option<Arc<Device>>,
    address: sys::CUdeviceptr,
    bytes: usize,
}

impl Buffer {
    pub(crate) fn new(device: &Arc<Device>, bytes: usize) -> Result<Buffer> {
        if bytes == 0 {
            return Ok(Buffer::default());
        }
        device.enter()?;
        // SAFETY: the context is current.
        let allocated = unsafe { result::malloc_sync(bytes) };
        let address = allocated.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::new(ErrorKind::OutOfMemory { bytes }),
            _ => failed("allocating memory on the CUDA device", error),
        })?;
        let buffer = Buffer {
            device: Some(Arc::clone(device)),
            address,
            bytes,
        };
        // SAFETY: the range was allocated above.
        unsafe { result::memset_d8_async(address, 0, bytes, device.stream) }
            .map_err(|error| failed("clearing memory on the CUDA device", error))?;
        Ok(buffer)
    }

    /// The address of its first byte.
    pub(crate) fn address(&self) -> sys::CUdeviceptr {
        self.address
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn range(&self, at: usize, bytes: usize) -> Result<sys::CUdeviceptr> {
        let inside = at.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        let start = u64::try_from(at);
        match (inside, start) {
            (true, Ok(at)) => Ok(self.address + at),
            _ => Err(trouble("a copy leaves its buffer")),
        }
    }

    pub(crate) fn upload(&mut self, device: &Device, at: usize, bytes: &[u8]) -> Result<()> {
        let start = self.range(at, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        device.enter()?;
        let mut staging = device
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        device.forget();
        // SAFETY: the range lies inside of the allocation; nothing is recorded while values are fed.
        unsafe { staging.upload((start, device.stream), bytes) }
            .map_err(|error| failed("copying to the CUDA device", error))
    }

    pub(crate) fn download(&self, device: &Device, at: usize, bytes: &mut [u8]) -> Result<()> {
        let start = self.range(at, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        device.enter()?;
        // SAFETY: the range lies inside of the allocation; the bytes are used after the wait only.
        unsafe { result::memcpy_dtoh_async(bytes, start, device.stream) }
            .map_err(|error| failed("copying from the CUDA device", error))?;
        device.wait()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(device) = &self.device
            && device.enter().is_ok()
        {
            // What was launched may still use it.
            let _ = device.wait();
            // SAFETY: allocated in `new`, and not used again.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}
