//! The driver: one device with a stream, its memory, and the kernels loaded on it.

mod buffer;
mod cache;
mod compiler;
mod graph;
mod libraries;
mod staging;

use std::collections::HashMap;
use std::ffi::CString;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use backprop_core::{Error, ErrorKind, Result};
use cudarc::driver::{DriverError, result, sys};

pub use buffer::Buffer;
pub(crate) use graph::Graph;

use crate::blas::{Addresses, Library, Plan, Product};
use crate::lowered::Source;
use cache::Cache;
use compiler::Compiler;
use staging::Staging;

/// The version of CUDA that the driver has to support: 13.0.
const DRIVER_NEEDED: i32 = 13_000;

/// A function on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function(sys::CUfunction);

// SAFETY: a driver handle names an object of the process; the driver may be called from any thread.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

/// A device with its context and one stream.
pub(crate) struct Device {
    ordinal: i32,
    name: String,
    /// Ten times the major and once the minor number of the compute capability.
    capability: i32,
    /// Bytes of shared memory that a block can have.
    shared: i32,
    raw: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    compiler: Compiler,
    blas: Option<Library>,
    staging: Mutex<Staging>,
    loaded: Mutex<HashMap<Arc<str>, Function>>,
    /// What the last launch on the stream writes, where that is known.
    written: Mutex<Option<Vec<Range<u64>>>>,
}

// SAFETY: handles name objects of the process, and the driver may be called from any thread; every
// method makes the context current on the thread first.
unsafe impl Send for Device {}
// SAFETY: as above; what changes is behind a mutex.
unsafe impl Sync for Device {}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("ordinal", &self.ordinal)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Where libraries and compiled kernels lie.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folders {
    pub(crate) libraries: Option<PathBuf>,
    pub(crate) cache: Option<PathBuf>,
}

pub(crate) fn trouble(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Device { what: what.into() })
}

/// What the driver says, in words.
pub(crate) fn failed(doing: &str, error: DriverError) -> Error {
    let text = match error.error_string() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => format!("{:?}", error.0),
    };
    trouble(format!("{doing}: {text}"))
}

impl Device {
    pub(crate) fn new(ordinal: usize, folders: &Folders) -> Result<Device> {
        libraries::load(folders.libraries.as_deref())?;
        let version = driver_version()?;
        if version < DRIVER_NEEDED {
            return Err(trouble(format!(
                "the CUDA driver supports CUDA {}, and {} is needed: install a driver of version 580 or newer",
                dotted(version),
                dotted(DRIVER_NEEDED)
            )));
        }
        let count = device_count()?;
        let ordinal = i32::try_from(ordinal).unwrap_or(i32::MAX);
        if ordinal >= count {
            return Err(trouble(format!(
                "there is no CUDA device {ordinal}: the driver reports {count}, counted from 0"
            )));
        }
        Device::open(ordinal, folders).map_err(|error| failed("opening the CUDA device", error))?
    }

    fn open(ordinal: i32, folders: &Folders) -> Result<Result<Device>, DriverError> {
        use sys::CUdevice_attribute as Attribute;
        let raw = result::device::get(ordinal)?;
        let name = result::device::get_name(raw)?;
        // SAFETY: `raw` is a device that the driver returned.
        let (context, capability, shared) = unsafe {
            let of = |attribute| result::device::get_attribute(raw, attribute);
            let major = of(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
            let minor = of(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
            let shared = of(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
            (
                result::primary_ctx::retain(raw)?,
                10 * major + minor,
                shared,
            )
        };
        // SAFETY: the context was retained above and lives as long as the device.
        unsafe { result::ctx::set_current(context)? };
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
        let compiler = match Compiler::new(capability, Cache::new(folders.cache.clone())) {
            Ok(compiler) => compiler,
            Err(error) => return Ok(Err(error)),
        };
        let blas = libraries::has_blas().then(Library::new).flatten();
        Ok(Ok(Device {
            ordinal,
            name,
            capability,
            shared,
            raw,
            context,
            stream,
            compiler,
            blas,
            staging: Mutex::default(),
            loaded: Mutex::default(),
            written: Mutex::default(),
        }))
    }

    /// Whether cuBLASLt is there.
    pub(crate) fn has_blas(&self) -> bool {
        self.blas.is_some()
    }

    /// How cuBLASLt computes a product; `None` if it does not.
    pub(crate) fn plan(&self, product: &Product) -> Result<Option<Plan>> {
        self.enter()?;
        self.blas
            .as_ref()
            .map_or(Ok(None), |blas| blas.plan(product))
    }

    /// Computes a product. Allocates nothing, so that it may be recorded.
    ///
    /// # Safety
    /// The addresses are those of memory of the sizes that the plan was made for.
    pub(crate) unsafe fn multiply(&self, plan: &Plan, addresses: Addresses) -> Result<()> {
        let blas = self.blas.as_ref();
        let blas =
            blas.ok_or_else(|| trouble("a product that cuBLASLt is to compute, without it"))?;
        self.forget();
        // SAFETY: the caller's promise; the stream lives as long as the device.
        unsafe { blas.multiply(plan, addresses, self.stream.cast()) }
    }

    /// Bytes of shared memory that a block can have.
    pub(crate) fn shared(&self) -> usize {
        usize::try_from(self.shared).unwrap_or(0)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Makes the context that of the calling thread.
    pub(crate) fn enter(&self) -> Result<()> {
        // SAFETY: the context lives until the device is dropped.
        unsafe { result::ctx::set_current(self.context) }
            .map_err(|error| failed("entering the CUDA context", error))
    }

    /// Waits until everything on the stream is done.
    pub(crate) fn wait(&self) -> Result<()> {
        // SAFETY: the stream lives until the device is dropped.
        unsafe { result::stream::synchronize(self.stream) }
            .map_err(|error| failed("waiting for the CUDA device", error))
    }

    /// The functions of these kernels, compiled and loaded where they are not yet.
    pub(crate) fn functions(&self, sources: &[&Source]) -> Result<Vec<Function>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing: Vec<&Source> = Vec::new();
        for source in sources {
            let known = loaded.contains_key(&source.entry);
            if !known && !missing.iter().any(|other| other.entry == source.entry) {
                missing.push(source);
            }
        }
        self.enter()?;
        for (image, entries) in self.compiler.compile(&missing)? {
            let refused = |error| failed("loading kernels onto the CUDA device", error);
            let functions = load(&image, &entries, self.shared).or_else(|_| {
                // What lay on disk may be another driver's, or damaged.
                let of_unit = |source: &&&Source| entries.contains(&source.entry);
                let unit: Vec<&Source> = missing.iter().filter(of_unit).copied().collect();
                let image = self.compiler.anew(&unit)?;
                load(&image, &entries, self.shared).map_err(refused)
            })?;
            loaded.extend(entries.into_iter().zip(functions));
        }
        let found = sources
            .iter()
            .map(|source| loaded.get(&source.entry).copied());
        found
            .collect::<Option<Vec<Function>>>()
            .ok_or_else(|| trouble("a kernel was not loaded"))
    }

    /// Whatever comes next on the stream cannot know what the launch before it writes.
    pub(crate) fn forget(&self) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Launches a function with pointers for arguments.
    ///
    /// # Safety
    /// The pointers are what the function takes, to memory of the sizes that it was made for, and the
    /// spans hold what it touches.
    pub(crate) unsafe fn launch(
        &self,
        form: Form,
        launch: &crate::lowered::Launch,
        pointers: &mut [sys::CUdeviceptr],
    ) -> Result<()> {
        let mut parameters = [std::ptr::null_mut(); crate::lowered::MAX_ARGS];
        for (parameter, pointer) in parameters.iter_mut().zip(pointers.iter_mut()) {
            *parameter = std::ptr::from_mut(pointer).cast();
        }
        let mut early = sys::CUlaunchAttribute_st {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue_union {
                programmaticStreamSerializationAllowed: 1,
            },
        };
        let config = sys::CUlaunchConfig_st {
            gridDimX: launch.grid[0],
            gridDimY: launch.grid[1],
            gridDimZ: launch.grid[2],
            blockDimX: launch.block,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.shared,
            hStream: self.stream,
            attrs: &raw mut early,
            numAttrs: u32::from(self.capability >= 90),
        };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let function = form.function(written.as_deref());
        *written = (!form.written.is_empty()).then_some(form.written);
        // SAFETY: the caller's promise; the parameters outlive the call, which copies them. What is read
        // before the launch ahead is done is not among what that writes, and launches ahead of it are
        // done when it lets others start.
        unsafe {
            sys::cuLaunchKernelEx(
                &raw const config,
                function.0,
                parameters.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        }
        .result()
        .map_err(|error| failed("launching a kernel", error))
    }
}

/// The functions of a launch, and the memory that decides between them.
pub(crate) struct Form {
    pub(crate) plain: Function,
    /// What reads some memory before the launch ahead is done, and that memory.
    pub(crate) early: Option<(Function, Vec<Range<u64>>)>,
    /// What is written; nothing if that is not known.
    pub(crate) written: Vec<Range<u64>>,
}

impl From<Function> for Form {
    fn from(plain: Function) -> Form {
        Form {
            plain,
            early: None,
            written: Vec::new(),
        }
    }
}

impl Form {
    /// The function to launch after a launch that writes so much.
    fn function(&self, before: Option<&[Range<u64>]>) -> Function {
        match &self.early {
            Some((early, reads)) if is_settled(reads, before) => *early,
            _ => self.plain,
        }
    }
}

/// Whether memory is left alone by a launch that writes so much, if that is known.
pub(crate) fn is_settled(reads: &[Range<u64>], before: Option<&[Range<u64>]>) -> bool {
    let apart = |a: &Range<u64>, b: &Range<u64>| a.end <= b.start || b.end <= a.start;
    before.is_some_and(|before| reads.iter().all(|a| before.iter().all(|b| apart(a, b))))
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: nothing uses the stream or the context any more; failures leave nothing to do.
        unsafe {
            let _ = result::ctx::set_current(self.context);
            let _ = result::stream::synchronize(self.stream);
            // While its context is there.
            drop(self.blas.take());
            drop(std::mem::take(&mut self.staging));
            let _ = result::stream::destroy(self.stream);
            let _ = result::primary_ctx::release(self.raw);
        }
    }
}

fn dotted(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

fn driver_version() -> Result<i32> {
    let mut version = 0;
    // SAFETY: the library is loaded; the pointer is to a local.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }
        .result()
        .map_err(|error| failed("asking for the CUDA driver's version", error))?;
    Ok(version)
}

fn device_count() -> Result<i32> {
    let none = || trouble("the CUDA driver reports no device");
    match result::init() {
        Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => return Err(none()),
        other => other.map_err(|error| failed("starting the CUDA driver", error))?,
    }
    let count = result::device::get_count();
    match count.map_err(|error| failed("counting CUDA devices", error))? {
        0 => Err(none()),
        count => Ok(count),
    }
}

/// Loads an image and finds its entries. Modules stay as long as the context.
fn load(image: &[u8], entries: &[Arc<str>], shared: i32) -> Result<Vec<Function>, DriverError> {
    // SAFETY: the image ends with a zero and is what the compiler made for this device.
    let module = unsafe { result::module::load_data(image.as_ptr().cast())? };
    let find = |entry: &Arc<str>| {
        let name = CString::new(&**entry).unwrap_or_default();
        // SAFETY: the module was loaded above.
        let function = unsafe { result::module::get_function(module, name)? };
        // Kernels with more than 48 KiB of dynamic shared memory have to be allowed it; all are, up
        // to what a block can have beside its static memory.
        let statics = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
        let dynamic =
            sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function was found above.
        unsafe {
            let used = result::function::get_function_attribute(function, statics)?;
            let rest = (shared - used).max(0);
            result::function::set_function_attribute(function, dynamic, rest)?;
        }
        Ok(Function(function))
    };
    entries.iter().map(find).collect()
}

/// What a kernel takes of a multiprocessor.
#[cfg(test)]
pub(crate) use compiler::Usage;

/// Compiles kernels for an architecture, with no device.
#[cfg(test)]
pub(crate) fn usage(
    tools: &std::path::Path,
    capability: i32,
    sources: &[Source],
) -> Result<Vec<Usage>> {
    libraries::load_compiler(Some(tools))?;
    Compiler::new(capability, Cache::nowhere())?.usage(sources)
}
