//! The CUDA backend of the backprop engine.
//!
//! Every primitive becomes CUDA C in which all sizes are constants, compiled by NVRTC for the device
//! at hand when a plan is compiled and kept on disk; a whole step is recorded once as one CUDA graph
//! and replayed. NVIDIA's libraries are found and loaded at run time: nothing of CUDA is needed to
//! build, and where something is missing [`Cuda::new`] says what.
//!
//! ```no_run
//! use backprop_core::Backend;
//! use backprop_cuda::Cuda;
//!
//! let gpu = Cuda::new(0)?;
//! println!("{}", gpu.name());
//! # Ok::<(), backprop_core::Error>(())
//! ```
#![allow(
    unsafe_code,
    reason = "calls into NVIDIA's libraries; launches cite the plan-check property they rely on"
)]

mod attention;
mod blas;
mod builder;
mod contraction;
mod device;
mod indexing;
mod loops;
mod lowered;
mod pack;
mod paper;
mod pool;
mod random;
mod reduction;
mod relocate;
mod replay;
mod rows;
mod schedule;
mod sort;
mod source;
mod sweep;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use backprop_core::plan::Iteration;
use backprop_core::{
    Args, Attention, AttentionVjp, Backend, Conv, Executable, Indexing, MatMul, Memory, Plan, Pool,
    Primitive, Random, Relocate, Result, Rows, Sort, Sweep,
};
use once_cell::sync::OnceCell;

use blas::{Addresses, Plan as ProductPlan, Product};
use device::{Device, Form, Function, trouble};
use lowered::{Arg, Launch, Lowered, MAX_ARGS, Work};

pub use blas::Products;
pub use builder::Builder;
pub use contraction::Precision;
pub use device::Buffer;
pub use paper::{Paper, Sheet};

/// An NVIDIA GPU. A cheap handle; clones share its stream and its kernels.
#[derive(Clone, Debug)]
pub struct Cuda {
    device: Arc<Device>,
    options: contraction::Options,
}

/// A prepared primitive.
#[derive(Debug)]
pub struct Kernel {
    lowered: Lowered,
    /// Bytes of the operands read, then written.
    sizes: Box<[usize]>,
    reads: usize,
    /// Those of all sources, compiled when the first plan with the kernel is loaded, together with the
    /// others of it.
    functions: OnceCell<Vec<Function>>,
    /// How the products of cuBLASLt are computed.
    products: Vec<ProductPlan>,
}

impl Cuda {
    /// The device with this number, counted from 0.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](backprop_core::ErrorKind::Device) says what is missing: a driver, a new
    /// enough one, a device, a library.
    pub fn new(ordinal: usize) -> Result<Cuda> {
        Cuda::builder().device(ordinal).build()
    }

    /// The backend with other settings than [`Cuda::new`] chooses.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Compiles what these primitives become, all at once, where it is not yet.
    ///
    /// # Errors
    /// If a kernel cannot be made.
    pub fn compile_ahead(&self, primitives: &[Primitive]) -> Result<()> {
        let supported = primitives.iter().filter(|p| self.supports(p));
        let kernels = supported.map(|p| self.prepare(p));
        let kernels: Vec<Kernel> = kernels.collect::<Result<_>>()?;
        self.compile(&kernels)
    }

    /// Compiles and loads the kernels that are not yet, all at once.
    fn compile(&self, kernels: &[Kernel]) -> Result<()> {
        let waiting = kernels.iter().filter(|k| k.functions.get().is_none());
        let sources: Vec<_> = waiting.clone().flat_map(|k| k.lowered.sources()).collect();
        let mut functions = self.device.functions(&sources)?.into_iter();
        for kernel in waiting {
            let own = functions.by_ref().take(kernel.lowered.sources().count());
            // Somebody else's are the same.
            let _ = kernel.functions.set(own.collect());
        }
        Ok(())
    }

    fn kernel(&self, primitive: &Primitive) -> Result<Kernel> {
        let (lowered, products) = match self.lowered(primitive, self.options)? {
            (lowered, Some(products)) => (lowered, products),
            // What cuBLASLt does not do after all.
            (_, None) => {
                let products = Products::Own;
                let own = contraction::Options {
                    products,
                    ..self.options
                };
                (self.lowered(primitive, own)?.0, Vec::new())
            }
        };
        let operands = primitive.reads().into_iter().chain(primitive.writes());
        Ok(Kernel {
            lowered,
            sizes: operands.map(|tensor| tensor.bytes()).collect(),
            reads: primitive.reads().len(),
            functions: OnceCell::new(),
            products,
        })
    }

    /// What a primitive becomes, and how cuBLASLt computes its products, if it does.
    fn lowered(
        &self,
        primitive: &Primitive,
        options: contraction::Options,
    ) -> Result<(Lowered, Option<Vec<ProductPlan>>)> {
        let fits = |lowered: &Lowered| {
            let mut launches = lowered.launches();
            launches.all(|launch| launch.args.len() <= MAX_ARGS)
        };
        let lowered = lower(primitive, options).filter(fits);
        let lowered = lowered.ok_or_else(|| self.declined(primitive))?;
        let plans = lowered.products().map(|product| self.device.plan(product));
        let plans = plans.collect::<Result<Option<Vec<_>>>>()?;
        Ok((lowered, plans))
    }

    fn functions<'k>(&self, kernel: &'k Kernel) -> Result<&'k [Function]> {
        let functions = kernel.functions.get_or_try_init(|| {
            let sources: Vec<_> = kernel.lowered.sources().collect();
            self.device.functions(&sources)
        })?;
        Ok(functions)
    }
}

impl Cuda {
    /// Launches a kernel, in one of its forms.
    fn run(
        &self,
        functions: (Function, Option<Function>),
        launch: &Launch,
        operands: &Operands<'_>,
    ) -> Result<()> {
        let mut pointers = [0; MAX_ARGS];
        for (pointer, &arg) in pointers.iter_mut().zip(&launch.args) {
            *pointer = operands.address(arg);
        }
        let pointers = &mut pointers[..launch.args.len()];
        let span = |&arg: &Arg| operands.span(arg);
        let written = launch
            .args
            .iter()
            .filter(|arg| !matches!(arg, Arg::Read(_)));
        let (plain, early) = functions;
        let early = launch.early.as_ref().zip(early);
        let form = Form {
            plain,
            early: early.map(|(early, f)| (f, early.reads.iter().map(span).collect())),
            written: written.map(span).collect(),
        };
        // SAFETY: the arguments come from a checked plan (P1 to P6), and have the sizes that the
        // kernel was prepared for.
        unsafe { self.device.launch(form, launch, pointers) }
    }

    /// Has cuBLASLt compute a product.
    fn multiply(
        &self,
        plan: &ProductPlan,
        product: &Product,
        operands: &Operands<'_>,
    ) -> Result<()> {
        let addresses = Addresses::new(product, &|arg| operands.address(arg));
        // SAFETY: the arguments come from a checked plan (P1 to P6), and have the sizes that the
        // product was prepared for.
        unsafe { self.device.multiply(plan, addresses) }
    }
}

fn unprepared() -> backprop_core::Error {
    trouble("a kernel that was not prepared")
}

/// The address of each operand of a launch.
struct Operands<'k> {
    reads: usize,
    addresses: [u64; MAX_ARGS],
    scratch: u64,
    kernel: &'k Kernel,
}

impl<'k> Operands<'k> {
    /// Looks the operands up, and that they have the sizes that the kernel was prepared for.
    fn new(
        memory: &Memory<Buffer>,
        kernel: &'k Kernel,
        (args, at): (&Args, Iteration),
    ) -> Result<Operands<'k>> {
        let mismatch = || trouble("a launch whose operands are not those of its kernel");
        let slots = args.reads().iter().chain(args.writes());
        if args.reads().len() != kernel.reads
            || args.reads().len() + args.writes().len() != kernel.sizes.len()
            || kernel.sizes.len() > MAX_ARGS
        {
            return Err(mismatch());
        }
        let address = |slot: &backprop_core::plan::Slot, bytes: usize| {
            let (buffer, offset) = (memory.buffer(slot.buffer()), slot.offset(at));
            let inside = slot.bytes() >= bytes && offset + bytes <= buffer.bytes();
            let start = u64::try_from(offset).ok().filter(|_| inside);
            start
                .map(|offset| buffer.address() + offset)
                .ok_or_else(mismatch)
        };
        let mut addresses = [0; MAX_ARGS];
        for ((to, slot), &bytes) in addresses.iter_mut().zip(slots).zip(&*kernel.sizes) {
            *to = address(slot, bytes)?;
        }
        let scratch = match args.scratch() {
            Some(slot) => address(slot, kernel.lowered.scratch)?,
            None if kernel.lowered.scratch > 0 => return Err(mismatch()),
            None => 0,
        };
        Ok(Operands {
            reads: kernel.reads,
            addresses,
            scratch,
            kernel,
        })
    }

    /// The bytes that an argument may touch.
    fn span(&self, arg: Arg) -> Range<u64> {
        let bytes = match arg {
            Arg::Read(i) => self.kernel.sizes[i],
            Arg::Write(i) => self.kernel.sizes[self.reads + i],
            Arg::Scratch(offset) => self.kernel.lowered.scratch.saturating_sub(offset),
        };
        let begin = self.address(arg);
        begin..begin + bytes as u64
    }

    fn address(&self, arg: Arg) -> u64 {
        match arg {
            Arg::Read(i) => self.addresses[i],
            Arg::Write(i) => self.addresses[self.reads + i],
            Arg::Scratch(offset) => self.scratch + offset as u64,
        }
    }
}

/// The methods that prepare primitives, all by one method of the backend.
macro_rules! prepared {
    ($method:ident, $Kernel:ty) => {
        $crate::prepared! { @each $method, $Kernel;
            sweep(Sweep) Sweep;
            rows(Rows) Rows;
            matmul(MatMul) MatMul;
            relocate(Relocate) Relocate;
            gather(Indexing) Gather;
            scatter_add(Indexing) ScatterAdd;
            random(Random) Random;
            conv(Conv) Conv;
            conv_vjp_input(Conv) ConvVjpInput;
            conv_vjp_filter(Conv) ConvVjpFilter;
            pool(Pool) Pool;
            pool_vjp(Pool) PoolVjp;
            attention(Attention) Attention;
            attention_vjp(AttentionVjp) AttentionVjp;
            sort(Sort) Sort;
        }
    };
    (@each $method:ident, $Kernel:ty; $($name:ident($Spec:ty) $variant:ident;)*) => {
        $(fn $name(&self, spec: &$Spec) -> Result<$Kernel> {
            self.$method(&Primitive::$variant(spec.clone().into()))
        })*
    };
}
use prepared;

/// Whether a primitive can be lowered.
fn supports(candidate: &Primitive) -> bool {
    match candidate {
        Primitive::Sweep(spec) => sweep::supports(spec),
        Primitive::Rows(spec) => rows::supports(spec),
        Primitive::MatMul(_)
        | Primitive::Conv(_)
        | Primitive::ConvVjpInput(_)
        | Primitive::ConvVjpFilter(_) => contraction::supports(candidate),
        Primitive::Pool(spec) | Primitive::PoolVjp(spec) => pool::supports(spec),
        Primitive::Attention(spec) => attention::supports(spec),
        Primitive::AttentionVjp(spec) => attention::supports_vjp(spec),
        Primitive::Sort(spec) => sort::supports(spec),
        other => other.is_plain(),
    }
}

/// What a primitive becomes; `None` if nothing, as what [`supports`] declines.
fn lower(primitive: &Primitive, options: contraction::Options) -> Option<Lowered> {
    if !supports(primitive) {
        return None;
    }
    let lowered = match primitive {
        Primitive::Sweep(spec) => sweep::lower(spec),
        Primitive::Rows(spec) => rows::lower(spec),
        Primitive::MatMul(_)
        | Primitive::Conv(_)
        | Primitive::ConvVjpInput(_)
        | Primitive::ConvVjpFilter(_) => contraction::lower(primitive, options),
        Primitive::Relocate(spec) => relocate::lower(spec),
        Primitive::Gather(spec) => indexing::gather(spec),
        Primitive::ScatterAdd(spec) => indexing::scatter_add(spec),
        Primitive::Random(spec) => random::lower(spec),
        Primitive::Pool(spec) => pool::lower(spec),
        Primitive::PoolVjp(spec) => pool::lower_vjp(spec),
        Primitive::Attention(spec) => attention::lower(spec, options),
        Primitive::AttentionVjp(spec) => attention::lower_vjp(spec, options),
        Primitive::Sort(spec) => sort::lower(spec),
        _ => return None,
    };
    Some(lowered)
}

impl Backend for Cuda {
    type Buffer = Buffer;
    type Kernel = Kernel;

    fn name(&self) -> String {
        format!("cuda ({})", self.device.name())
    }

    fn alloc(&self, bytes: usize) -> Result<Buffer> {
        Buffer::new(&self.device, bytes)
    }

    fn upload(&self, to: &mut Buffer, at: usize, bytes: &[u8]) -> Result<()> {
        to.upload(&self.device, at, bytes)
    }

    fn download(&self, from: &Buffer, at: usize, bytes: &mut [u8]) -> Result<()> {
        from.download(&self.device, at, bytes)
    }

    prepared! { kernel, Kernel }

    fn supports(&self, candidate: &Primitive) -> bool {
        supports(candidate)
    }

    fn scratch(&self, kernel: &Kernel) -> usize {
        kernel.lowered.scratch
    }

    fn launch(
        &self,
        kernel: &Kernel,
        memory: &mut Memory<Buffer>,
        args: &Args,
        at: Iteration,
    ) -> Result<()> {
        let functions = self.functions(kernel)?;
        let operands = Operands::new(memory, kernel, (args, at))?;
        self.device.enter()?;
        let (mut functions, mut products) = (functions.iter(), kernel.products.iter());
        for work in &kernel.lowered.works {
            match work {
                Work::Kernel(launch) => {
                    let plain = functions.next().copied().ok_or_else(unprepared)?;
                    let early = launch.early.as_ref().and_then(|_| functions.next());
                    self.run((plain, early.copied()), launch, &operands)?;
                }
                Work::Product(product) => {
                    let plan = products.next().ok_or_else(unprepared)?;
                    self.multiply(plan, product, &operands)?;
                }
            }
        }
        Ok(())
    }

    fn load(&self, plan: Arc<Plan>, kernels: Vec<Kernel>) -> Result<Box<dyn Executable<Cuda>>> {
        self.compile(&kernels)?;
        Ok(Box::new(replay::Replay::new(self, plan, kernels)?))
    }
}
