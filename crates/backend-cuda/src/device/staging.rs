//! Page-locked memory through which values reach the device while it works on what came before: copies
//! from other memory wait for that.

use std::ffi::c_void;
use std::fmt;

use cudarc::driver::{DriverError, result, sys};

/// Pieces under way at a time.
const PIECES: usize = 4;

/// Bytes of a piece at least, and at most.
const LEAST: usize = 64 << 10;
const MOST: usize = 4 << 20;

/// Some page-locked memory.
struct Piece {
    memory: *mut c_void,
    bytes: usize,
    /// That the device has read what was last put there.
    read: sys::CUevent,
}

/// Pieces that are used in turn.
#[derive(Default)]
pub(super) struct Staging {
    pieces: Vec<Piece>,
    next: usize,
}

// SAFETY: memory and events belong to the process; they are used through `&mut` only.
unsafe impl Send for Staging {}

impl Staging {
    /// Copies bytes to the device. They have been read when this returns; the device has them before it
    /// does what is put on the stream from then on.
    ///
    /// # Safety
    /// There are as many bytes at the address, the stream is one of the current context, and nothing is
    /// being recorded on it.
    pub(super) unsafe fn upload(
        &mut self,
        (to, stream): (sys::CUdeviceptr, sys::CUstream),
        bytes: &[u8],
    ) -> Result<(), DriverError> {
        let mut to = to;
        for part in bytes.chunks(MOST) {
            // SAFETY: the piece is large enough, and nobody reads it any more once its event has
            // happened; the caller's promise for the address and the stream. Memory that is not
            // page-locked has been read when the copy returns.
            unsafe {
                match self.piece(part.len()) {
                    Ok(piece) => piece.upload((to, stream), part)?,
                    Err(_) => result::memcpy_htod_async(to, part, stream)?,
                }
            }
            to += part.len() as u64;
        }
        Ok(())
    }

    /// The next piece, with room for so many bytes.
    fn piece(&mut self, bytes: usize) -> Result<&Piece, DriverError> {
        let at = self.next.min(self.pieces.len());
        let is_new = at == self.pieces.len();
        if is_new || self.pieces[at].bytes < bytes {
            let piece = Piece::new(bytes.next_power_of_two().clamp(LEAST, MOST))?;
            match is_new {
                true => self.pieces.push(piece),
                false => self.pieces[at] = piece,
            }
        }
        self.next = (at + 1) % PIECES;
        Ok(&self.pieces[at])
    }
}

impl Piece {
    fn new(bytes: usize) -> Result<Piece, DriverError> {
        let flags = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING;
        let read = result::event::create(flags)?;
        // SAFETY: there is a current context.
        match unsafe { result::malloc_host(bytes, 0) } {
            Ok(memory) => Ok(Piece {
                memory,
                bytes,
                read,
            }),
            Err(error) => {
                // SAFETY: the event was created above.
                let _ = unsafe { result::event::destroy(read) };
                Err(error)
            }
        }
    }

    /// # Safety
    /// As for [`Staging::upload`], for no more bytes than the piece has.
    unsafe fn upload(
        &self,
        (to, stream): (sys::CUdeviceptr, sys::CUstream),
        bytes: &[u8],
    ) -> Result<(), DriverError> {
        let target = self.memory.cast::<u8>();
        // SAFETY: the caller's promise.
        unsafe {
            result::event::synchronize(self.read)?;
            target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            let staged = std::slice::from_raw_parts(target, bytes.len());
            result::memcpy_htod_async(to, staged, stream)?;
            result::event::record(self.read, stream)
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: both were made in `new`; the device may still be reading until the event has happened.
        unsafe {
            let _ = result::event::synchronize(self.read);
            let _ = result::event::destroy(self.read);
            let _ = result::free_host(self.memory);
        }
    }
}

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: usize = self.pieces.iter().map(|piece| piece.bytes).sum();
        f.debug_struct("Staging").field("bytes", &bytes).finish()
    }
}
