//! Memory that holds machine code.

pub(crate) use pages::Executable;

#[cfg(all(target_arch = "x86_64", unix, not(miri)))]
mod pages {
    use std::ptr::NonNull;

    /// A loop in machine code.
    ///
    /// The pages are written first and made executable then, never both at a time; they stay as they
    /// are until this is dropped.
    #[derive(Debug)]
    pub(crate) struct Executable {
        start: NonNull<u8>,
        bytes: usize,
    }

    // SAFETY: the pages are this value's own, and nobody writes to them any more.
    unsafe impl Send for Executable {}
    // SAFETY: as above.
    unsafe impl Sync for Executable {}

    impl Executable {
        /// Puts code in place. `None` where the system refuses memory, or to execute it.
        pub(crate) fn new(code: &[u8]) -> Option<Executable> {
            let bytes = code.len();
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANON;
            // SAFETY: new pages, wherever the system likes, change nothing that exists.
            let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
            if start == libc::MAP_FAILED {
                return None;
            }
            let start = NonNull::new(start.cast::<u8>())?;
            let executable = Executable { start, bytes };
            // SAFETY: the pages have `bytes` bytes, are writable, and nobody else knows them.
            unsafe {
                start
                    .as_ptr()
                    .copy_from_nonoverlapping(code.as_ptr(), bytes)
            };
            let access = libc::PROT_READ | libc::PROT_EXEC;
            // SAFETY: they are this value's own, and not written to again.
            let refused = unsafe { libc::mprotect(start.as_ptr().cast(), bytes, access) };
            (refused == 0).then_some(executable)
        }

        /// Runs the loop for `n` points, a multiple of its lanes and not 0.
        ///
        /// # Safety
        /// The code is what `emit` made, and the processor has the instructions. `table` has the start of
        /// each stream of the record, with `n` elements that can be read or written as it does, and a
        /// register's worth for uniform ones.
        #[inline]
        pub(crate) unsafe fn run(&self, table: *const *mut u8, n: usize) {
            type Loop = unsafe extern "sysv64" fn(*const *mut u8, usize);
            // SAFETY: the pages begin with a function of this type; the caller vouches for what it
            // reads and writes.
            unsafe { std::mem::transmute::<*mut u8, Loop>(self.start.as_ptr())(table, n) }
        }
    }

    impl Drop for Executable {
        fn drop(&mut self) {
            // SAFETY: the pages are this value's own; whoever runs the code borrows it.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", unix, not(miri))))]
mod pages {
    use std::convert::Infallible;

    /// A loop in machine code: there is none for this machine.
    #[derive(Debug)]
    pub(crate) struct Executable(Infallible);

    impl Executable {
        /// Always `None`.
        pub(crate) fn new(_: &[u8]) -> Option<Executable> {
            None
        }

        /// # Safety
        /// None: nobody has such a value.
        pub(crate) unsafe fn run(&self, _: *const *mut u8, _: usize) {
            match self.0 {}
        }
    }
}
