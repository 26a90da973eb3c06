//! Memory: aligned buffers, and what a kernel sees of them during a launch.

use std::alloc::{self, Layout};
use std::ptr::NonNull;

use backprop_core::plan::{ALIGNMENT, Buffer as Which, Iteration, Slot};
use backprop_core::{Args, Error, ErrorKind, Memory, Result};

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Zeroed memory, aligned to a cache line.
#[derive(Debug)]
pub struct Buffer {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a buffer owns its bytes, which have no thread of their own.
unsafe impl Send for Buffer {}

impl Buffer {
    pub(crate) fn new(bytes: usize) -> Result<Buffer> {
        let refused = || Error::new(ErrorKind::OutOfMemory { bytes });
        if bytes == 0 {
            return Ok(Buffer::default());
        }
        let layout = Layout::from_size_align(bytes, ALIGNMENT).map_err(|_| refused())?;
        let start = if bytes < pages::LARGE {
            // SAFETY: the layout has a size.
            NonNull::new(unsafe { alloc::alloc_zeroed(layout) })
        } else {
            pages::map(bytes)
        };
        let start = start.ok_or_else(refused)?;
        Ok(Buffer { start, bytes })
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: the bytes are allocated and initialised (zeroed at first).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Default for Buffer {
    /// No bytes, for which nothing is allocated.
    fn default() -> Buffer {
        Buffer {
            start: NonNull::<Line>::dangling().cast(),
            bytes: 0,
        }
    }
}

/// Memory in large pages, where the system has them: a matrix of many columns touches a page for each
/// row, and the processor remembers but some 2,000 of them.
#[cfg(all(target_os = "linux", not(miri)))]
mod pages {
    use std::ptr::{self, NonNull};

    /// Bytes from which on memory is mapped.
    pub(super) const LARGE: usize = 2 * PAGE;
    /// A large page of most processors.
    const PAGE: usize = 2 << 20;

    /// Maps zeroed memory that begins with a large page.
    pub(super) fn map(bytes: usize) -> Option<NonNull<u8>> {
        trim();
        let all = bytes.checked_next_multiple_of(PAGE)?.checked_add(PAGE)?;
        // SAFETY: new memory, of which pieces before and after what is kept are given back. Advice may
        // be declined.
        unsafe {
            let (access, kind) = (
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            );
            let mapped = libc::mmap(ptr::null_mut(), all, access, kind, -1, 0);
            if mapped == libc::MAP_FAILED {
                return None;
            }
            let before = mapped.cast::<u8>().align_offset(PAGE);
            let start = mapped.cast::<u8>().add(before);
            let kept = size(bytes);
            if before > 0 {
                libc::munmap(mapped, before);
            }
            libc::munmap(start.add(kept).cast(), all - before - kept);
            libc::madvise(start.cast(), kept, libc::MADV_HUGEPAGE);
            NonNull::new(start)
        }
    }

    /// Has the allocator give back what was freed, as by compiling just before: by itself it keeps what
    /// lies below anything that lives.
    fn trim() {
        #[cfg(target_env = "gnu")]
        // SAFETY: nothing that is in use changes.
        unsafe {
            libc::malloc_trim(0);
        }
    }

    /// Bytes in whole pages of whatever size.
    fn size(bytes: usize) -> usize {
        bytes.next_multiple_of(64 << 10)
    }

    /// Gives memory back.
    ///
    /// # Safety
    /// `start` must be what [`map`] gave for this size.
    pub(super) unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(start.as_ptr().cast(), size(bytes)) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod pages {
    use std::ptr::NonNull;

    /// No memory is as large.
    pub(super) const LARGE: usize = usize::MAX;

    pub(super) fn map(_: usize) -> Option<NonNull<u8>> {
        None
    }

    pub(super) unsafe fn unmap(_: NonNull<u8>, _: usize) {}
}

/// As aligned as a buffer.
#[repr(align(64))]
struct Line;

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        if self.bytes >= pages::LARGE {
            // SAFETY: mapped with this very size.
            unsafe { pages::unmap(self.start, self.bytes) };
        } else if let Ok(layout) = Layout::from_size_align(self.bytes, ALIGNMENT) {
            // SAFETY: allocated with this very layout.
            unsafe { alloc::dealloc(self.start.as_ptr(), layout) }
        }
    }
}

pub(crate) fn mismatch() -> Error {
    Error::new(ErrorKind::Device {
        what: "a launch with operands that its kernel was not prepared for".into(),
    })
}

/// The operands of one launch, as all its workers see them.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    args: &'a Args,
    at: Iteration,
    starts: [*mut u8; 3],
}

// SAFETY: workers write disjoint parts of what a launch writes, and nothing
// that one writes is read by another before a barrier: plan checker P3 keeps
// operands apart, each kernel says how its workers share them.
unsafe impl Sync for Operands<'_> {}

impl<'a> Operands<'a> {
    /// Looks once at every operand: it has the size that the kernel was prepared for (reads
    /// first, then writes, then scratch), and lies inside of the memory at hand.
    pub(crate) fn new(
        memory: &'a mut Memory<Buffer>,
        (args, at): (&'a Args, Iteration),
        sizes: &[usize],
    ) -> Result<Self> {
        let scratch = args.scratch();
        let slots = args.reads().iter().chain(args.writes()).chain(scratch);
        let mut count = 0;
        for (slot, size) in slots.zip(sizes) {
            let end = slot.offset(at).checked_add(*size);
            let inside = end.is_some_and(|end| end <= memory.buffer(slot.buffer()).bytes);
            if slot.bytes() < *size || !inside {
                return Err(mismatch());
            }
            count += 1;
        }
        if count < sizes.len() {
            return Err(mismatch());
        }
        let starts = Which::ALL.map(|which| memory.buffer_mut(which).start.as_ptr());
        Ok(Operands { args, at, starts })
    }

    fn place(&self, slot: &Slot) -> *mut u8 {
        // SAFETY: by P1 the slot lies inside of its buffer at every iteration.
        unsafe { self.starts[slot.buffer() as usize].add(slot.offset(self.at)) }
    }

    /// The first byte of operand `i` of those read.
    pub(crate) fn read(&self, i: usize) -> *const u8 {
        self.place(&self.args.reads()[i])
    }

    /// The first byte of operand `i` of those written.
    pub(crate) fn write(&self, i: usize) -> *mut u8 {
        self.place(&self.args.writes()[i])
    }

    /// The scratch memory; null where none was asked for.
    pub(crate) fn scratch(&self) -> *mut u8 {
        let slot = self.args.scratch();
        slot.map_or(std::ptr::null_mut(), |slot| self.place(slot))
    }
}
