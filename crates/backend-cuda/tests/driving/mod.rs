//! Just enough of the driver's and the compiler's C interface to run a kernel.
#![allow(dead_code, reason = "every test binary uses a part")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::{null, null_mut};

use libloading::Library;

use crate::emulator::{Settings, libraries_with};

pub(crate) type Handle = *mut c_void;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared: u32,
}

#[derive(Debug)]
pub(crate) struct Device {
    cuda: Library,
    nvrtc: Library,
}

/// Calls a C function of a library that returns a status.
macro_rules! call {
    ($library:expr, $name:literal, ($($type:ty),*), $($value:expr),*) => {{
        // SAFETY: the emulator's functions have these signatures, and the arguments outlive the call.
        unsafe {
            let f: libloading::Symbol<'_, unsafe extern "C" fn($($type),*) -> c_int> = $library.get($name.as_bytes()).unwrap();
            f($($value),*)
        }
    }};
}

impl Device {
    pub(crate) fn plain() -> Option<Device> {
        Device::open("", "", "")
    }

    pub(crate) fn checked() -> Option<Device> {
        Device::open("", "", "1")
    }

    /// `None` says why on stderr.
    #[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub(crate) fn open(order: &str, fake: &str, check: &str) -> Option<Device> {
        let folder = match libraries_with(&Settings { order, fake, check }) {
            Ok(folder) => folder,
            Err(why) if why.contains("g++ cannot build") => panic!("{why}"),
            Err(why) => {
                eprintln!("skipped: {why}");
                return None;
            }
        };
        // SAFETY: the emulator's libraries run no code when they are loaded.
        let open = |name: &str| unsafe { Library::new(folder.join(name)) }.unwrap();
        let device = Device {
            cuda: open("libcuda.so.1"),
            nvrtc: open("libnvrtc.so.13"),
        };
        let mut context: Handle = null_mut();
        if fake.is_empty() {
            assert_eq!(call!(device.cuda, "cuInit", (c_uint), 0), 0);
        }
        call!(
            device.cuda,
            "cuDevicePrimaryCtxRetain",
            (*mut Handle, c_int),
            &mut context,
            0
        );
        call!(device.cuda, "cuCtxSetCurrent", (Handle), context);
        Some(device)
    }

    pub(crate) fn cuda(&self) -> &Library {
        &self.cuda
    }

    /// A module, or the compiler's log.
    pub(crate) fn compile(&self, source: &str) -> Result<Handle, String> {
        let source = CString::new(source).unwrap();
        let (mut program, mut size): (Handle, usize) = (null_mut(), 0);
        type Texts = *const *const c_char;
        call!(
            self.nvrtc,
            "nvrtcCreateProgram",
            (
                *mut Handle,
                *const c_char,
                *const c_char,
                c_int,
                Texts,
                Texts
            ),
            &mut program,
            source.as_ptr(),
            null(),
            0,
            null(),
            null()
        );
        let status = call!(
            self.nvrtc,
            "nvrtcCompileProgram",
            (Handle, c_int, Texts),
            program,
            0,
            null()
        );
        if status != 0 {
            call!(
                self.nvrtc,
                "nvrtcGetProgramLogSize",
                (Handle, *mut usize),
                program,
                &mut size
            );
            let mut log = vec![0_u8; size];
            call!(
                self.nvrtc,
                "nvrtcGetProgramLog",
                (Handle, *mut u8),
                program,
                log.as_mut_ptr()
            );
            return Err(String::from_utf8_lossy(&log)
                .trim_end_matches('\0')
                .to_owned());
        }
        call!(
            self.nvrtc,
            "nvrtcGetCUBINSize",
            (Handle, *mut usize),
            program,
            &mut size
        );
        let mut cubin = vec![0_u8; size];
        call!(
            self.nvrtc,
            "nvrtcGetCUBIN",
            (Handle, *mut u8),
            program,
            cubin.as_mut_ptr()
        );
        call!(
            self.nvrtc,
            "nvrtcDestroyProgram",
            (*mut Handle),
            &mut program
        );
        Ok(self.load(&cubin))
    }

    pub(crate) fn load(&self, image: &[u8]) -> Handle {
        let mut module = null_mut();
        assert_eq!(
            call!(
                self.cuda,
                "cuModuleLoadData",
                (*mut Handle, *const u8),
                &mut module,
                image.as_ptr()
            ),
            0
        );
        module
    }

    pub(crate) fn write(&self, to: u64, values: &[f32]) {
        assert_eq!(
            call!(
                self.cuda,
                "cuMemcpyHtoD_v2",
                (u64, *const f32, usize),
                to,
                values.as_ptr(),
                size_of_val(values)
            ),
            0
        );
    }

    pub(crate) fn upload(&self, values: &[f32]) -> u64 {
        let (mut at, bytes) = (0_u64, size_of_val(values));
        assert_eq!(
            call!(
                self.cuda,
                "cuMemAllocAsync",
                (*mut u64, usize, Handle),
                &mut at,
                bytes,
                null_mut()
            ),
            0
        );
        self.write(at, values);
        at
    }

    pub(crate) fn download(&self, from: u64, count: usize) -> Vec<f32> {
        let mut values = vec![0.0; count];
        assert_eq!(
            call!(
                self.cuda,
                "cuMemcpyDtoH_v2",
                (*mut f32, u64, usize),
                values.as_mut_ptr(),
                from,
                count * 4
            ),
            0
        );
        values
    }

    pub(crate) fn free(&self, all: &[u64]) {
        for &at in all {
            assert_eq!(
                call!(self.cuda, "cuMemFreeAsync", (u64, Handle), at, null_mut()),
                0
            );
        }
    }

    pub(crate) fn next_extents(&self, bytes: &[usize]) {
        call!(
            self.cuda,
            "bp_next_extents",
            (c_uint, *const usize),
            bytes.len() as c_uint,
            bytes.as_ptr()
        );
    }

    pub(crate) fn function(&self, module: Handle, name: &str) -> Handle {
        let (name, mut function) = (CString::new(name).unwrap(), null_mut());
        assert_eq!(
            call!(
                self.cuda,
                "cuModuleGetFunction",
                (*mut Handle, Handle, *const c_char),
                &mut function,
                module,
                name.as_ptr()
            ),
            0
        );
        function
    }

    /// The emulator's message where the launch fails.
    pub(crate) fn launch(
        &self,
        module: Handle,
        name: &str,
        job: Job,
        arguments: &[u64],
    ) -> Result<(), String> {
        match self.launch_on(null_mut(), self.function(module, name), job, arguments) {
            0 => Ok(()),
            status => Err(format!("{status}: {}", self.last_message())),
        }
    }

    pub(crate) fn launch_on(
        &self,
        stream: Handle,
        function: Handle,
        job: Job,
        arguments: &[u64],
    ) -> c_int {
        let mut pointers: Vec<*const u64> = arguments.iter().map(|a| a as *const u64).collect();
        let (g, b) = (job.grid, job.block);
        type U = c_uint;
        call!(
            self.cuda,
            "cuLaunchKernel",
            (
                Handle,
                U,
                U,
                U,
                U,
                U,
                U,
                U,
                Handle,
                *mut *const u64,
                *const c_void
            ),
            function,
            g[0],
            g[1],
            g[2],
            b[0],
            b[1],
            b[2],
            job.shared,
            stream,
            pointers.as_mut_ptr(),
            null()
        )
    }

    pub(crate) fn last_message(&self) -> String {
        // SAFETY: the function takes nothing and returns a text that lives until this thread's next message.
        unsafe {
            let f: libloading::Symbol<'_, unsafe extern "C" fn() -> *const c_char> =
                self.cuda.get(b"bp_last_message").unwrap();
            CStr::from_ptr(f()).to_string_lossy().into_owned()
        }
    }
}
