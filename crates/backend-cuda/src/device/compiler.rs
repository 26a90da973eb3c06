//! From CUDA C to machine code, by NVRTC.

use std::ffi::{CStr, CString, c_char};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::thread;

use backprop_core::{Error, Result};
use cudarc::nvrtc::result::{NvrtcError, create_program, destroy_program};
use cudarc::nvrtc::sys;

use super::cache::Cache;
use super::trouble;
use crate::lowered::Source;

/// What stands before the kernels of every translation unit.
pub(crate) const PRELUDE: &str = include_str!("../kernels/prelude.cuh");

/// Kernels of one translation unit: more would leave processors idle, fewer would start the compiler
/// more often, which costs as much as some kernels. A constant, so that images of one machine serve
/// another.
const KERNELS: usize = 8;

/// An image for the device, with the entries in it.
type Image = (Vec<u8>, Vec<Arc<str>>);

/// Compiles for one architecture.
#[derive(Debug)]
pub(super) struct Compiler {
    options: Vec<CString>,
    /// The version of the compiler and its options.
    stamp: String,
    cache: Cache,
}

impl Compiler {
    pub(super) fn new(capability: i32, cache: Cache) -> Result<Compiler> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the library is loaded; the pointers are to locals.
        unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }
            .result()
            .map_err(|error| failed("asking NVRTC for its version", error))?;
        // Some instructions of this generation are for its own machine code only.
        let own = if capability == 90 { "a" } else { "" };
        let options = [
            &format!("--gpu-architecture=sm_{capability}{own}"),
            "--fmad=false",
            "--std=c++17",
            "-default-device",
        ];
        let stamp = format!("nvrtc {major}.{minor} {}", options.join(" "));
        let options = options
            .iter()
            .filter_map(|option| CString::new(*option).ok());
        Ok(Compiler {
            options: options.collect(),
            stamp,
            cache,
        })
    }

    /// Compiles kernels, several translation units at a time.
    pub(super) fn compile(&self, sources: &[&Source]) -> Result<Vec<Image>> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let units: Vec<&[&Source]> = sources.chunks(KERNELS).collect();
        let share = units.len().div_ceil(processors).max(1);
        thread::scope(|scope| {
            let batches = units.chunks(share);
            let threads: Vec<_> = batches
                .map(|batch| {
                    scope.spawn(move || batch.iter().map(|unit| self.unit(unit)).collect())
                })
                .collect();
            let mut images = Vec::new();
            for thread in threads {
                let batch: Result<Vec<Image>> = thread
                    .join()
                    .map_err(|_| trouble("a compiling thread stopped"))?;
                images.extend(batch?);
            }
            Ok(images)
        })
    }

    fn unit(&self, sources: &[&Source]) -> Result<Image> {
        let entries = sources.iter().map(|source| Arc::clone(&source.entry));
        let unit = self.named(sources);
        let kept = self.cache.get(&unit.0);
        let image = kept.map_or_else(|| self.translate(&unit), Ok)?;
        Ok((image, entries.collect()))
    }

    /// The image of a translation unit, whatever lies on disk.
    pub(super) fn anew(&self, sources: &[&Source]) -> Result<Vec<u8>> {
        self.translate(&self.named(sources))
    }

    fn translate(&self, (name, text): &(String, String)) -> Result<Vec<u8>> {
        let (image, _) = self.translated(text)?;
        self.cache.put(name, &image);
        Ok(image)
    }

    /// The name under which the image of a translation unit is kept, and its text.
    fn named(&self, sources: &[&Source]) -> (String, String) {
        let texts: Vec<&str> = sources.iter().map(|source| &*source.text).collect();
        let text = format!("{PRELUDE}\n{}", texts.join("\n"));
        let mut hasher = DefaultHasher::new();
        (&self.stamp, &text).hash(&mut hasher);
        (format!("{:016x}.cubin", hasher.finish()), text)
    }

    /// The image of a translation unit, and what the compiler says of it.
    fn translated(&self, text: &str) -> Result<(Vec<u8>, String)> {
        let text = CString::new(text).map_err(|_| trouble("a kernel's text holds a zero byte"))?;
        let program = create_program(&text, Some(c"backprop.cu"))
            .map_err(|error| failed("handing kernels to NVRTC", error))?;
        let options: Vec<*const c_char> = self.options.iter().map(|o| o.as_ptr()).collect();
        let count = i32::try_from(options.len()).unwrap_or(0);
        // SAFETY: the program was created above; the options outlive the call.
        let compiled =
            unsafe { sys::nvrtcCompileProgram(program, count, options.as_ptr()) }.result();
        let image = match compiled {
            Ok(()) => image(program)
                .map(|image| (image, log(program)))
                .map_err(|error| failed("fetching compiled kernels", error)),
            Err(error) => Err(trouble(format!("NVRTC: {error}\n{}", log(program)))),
        };
        // SAFETY: the program was created above and is not used again.
        let _ = unsafe { destroy_program(program) };
        image
    }
}

fn failed(doing: &str, error: NvrtcError) -> Error {
    trouble(format!("{doing}: {error}"))
}

fn image(program: sys::nvrtcProgram) -> Result<Vec<u8>, NvrtcError> {
    let mut size = 0;
    // SAFETY: the program has been compiled; the pointer is to a local.
    unsafe { sys::nvrtcGetCUBINSize(program, &raw mut size) }.result()?;
    let mut image = vec![0u8; size + 1];
    // SAFETY: there is room for `size` bytes.
    unsafe { sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()) }.result()?;
    Ok(image)
}

fn log(program: sys::nvrtcProgram) -> String {
    let mut size = 0;
    // SAFETY: the program exists; the pointer is to a local.
    if unsafe { sys::nvrtcGetProgramLogSize(program, &raw mut size) }
        .result()
        .is_err()
    {
        return String::new();
    }
    let mut log = vec![0u8; size + 1];
    // SAFETY: there is room for `size` bytes, and a zero after them.
    let _ = unsafe { sys::nvrtcGetProgramLog(program, log.as_mut_ptr().cast()) };
    let text = CStr::from_bytes_until_nul(&log).unwrap_or_default();
    text.to_string_lossy().into_owned()
}

/// What a kernel takes of a multiprocessor.
#[cfg(test)]
pub(crate) struct Usage {
    pub(crate) registers: usize,
    /// Bytes of registers kept in memory.
    pub(crate) spilled: usize,
}

#[cfg(test)]
impl Compiler {
    /// Compiles each kernel on its own and asks what it takes.
    pub(super) fn usage(mut self, sources: &[Source]) -> Result<Vec<Usage>> {
        self.options.push(c"--ptxas-options=-v".to_owned());
        let number = |log: &str, after: &str, before: &str| -> usize {
            let mut parts = log
                .split(before)
                .filter_map(|part| part.rsplit(after).next());
            parts
                .next()
                .and_then(|n| n.trim().parse().ok())
                .unwrap_or(0)
        };
        let each = |source: &Source| {
            let (_, log) = self.translated(&format!("{PRELUDE}\n{}", source.text))?;
            Ok(Usage {
                registers: number(&log, "Used ", " registers"),
                spilled: number(&log, ", ", " bytes spill stores"),
            })
        };
        thread::scope(|scope| {
            let each = &each;
            let half = sources.len().div_ceil(2);
            let (first, second) = sources.split_at(half);
            let other = scope.spawn(move || second.iter().map(each).collect::<Result<Vec<_>>>());
            let mut all = first.iter().map(each).collect::<Result<Vec<_>>>()?;
            all.extend(
                other
                    .join()
                    .map_err(|_| trouble("a compiling thread stopped"))??,
            );
            Ok(all)
        })
    }
}
