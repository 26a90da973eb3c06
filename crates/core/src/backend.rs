//! The contract between the engine and whatever executes its primitives.

use std::fmt::Debug;
use std::sync::Arc;

use crate::executable::OneByOne;
use crate::plan::{Buffer, Iteration};
use crate::{
    Args, Attention, AttentionVjp, Conv, Error, ErrorKind, Executable, Indexing, Layout, MatMul,
    Plan, Pool, Primitive, Random, Relocate, Result, Rows, Sort, Sweep,
};

/// The buffers of a session.
#[derive(Debug, Default)]
pub struct Memory<B> {
    /// What lives within a step.
    pub arena: B,
    /// Parameters and optimizer state.
    pub state: B,
    /// Inputs, results and constants.
    pub io: B,
}

impl<B> Memory<B> {
    /// One of the buffers.
    #[must_use]
    pub fn buffer(&self, buffer: Buffer) -> &B {
        match buffer {
            Buffer::Arena => &self.arena,
            Buffer::State => &self.state,
            Buffer::Io => &self.io,
        }
    }

    /// One of the buffers, to write to.
    pub fn buffer_mut(&mut self, buffer: Buffer) -> &mut B {
        match buffer {
            Buffer::Arena => &mut self.arena,
            Buffer::State => &mut self.state,
            Buffer::Io => &mut self.io,
        }
    }
}

/// Executes primitives on one kind of device: a cheap handle, cloned freely.
///
/// One method a primitive, and a primitive's vjp beside it. Each method prepares a kernel once,
/// when a plan is compiled: sizes, code path and split over threads are settled there. [`launch`]
/// then only runs it.
///
/// # What a backend may rely on
/// Every [`Args`] comes from a checked plan: operands have the sizes their spec gives, lie inside of
/// their buffers at multiples of 64 bytes (slices that move with a loop: of their element's size),
/// have been written, and overlap only where [`Primitive::may_overwrite`] allows it (properties P1
/// to P6 of the plan checker). Spaces have at least one point.
///
/// # What a backend has to keep
/// Results depend on the operands alone: the same bits on every launch, whatever the number of
/// threads. A launch allocates nothing. Data never makes a kernel leave its memory (an index out of
/// range counts as the nearest one inside).
///
/// # Which methods to write
/// The required ones, in their plain forms ([`Primitive::is_plain`]). Fused forms and optional
/// primitives are asked for through [`supports`] before they are ever prepared; whatever it declines
/// is put together from plain pieces by the compiler. The conformance suite of `backprop-testkit`
/// checks all of it against [`Reference`](crate::Reference).
///
/// [`launch`]: Backend::launch
/// [`supports`]: Backend::supports
pub trait Backend: Clone + Debug + Send + Sync + 'static {
    /// Memory on the device, aligned to 64 bytes.
    type Buffer: Send + Debug;
    /// A primitive, prepared.
    type Kernel: Send + Sync;

    /// A name for printing: the device and what it runs with.
    fn name(&self) -> String;

    /// Allocates `bytes` bytes, zeroed.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`].
    fn alloc(&self, bytes: usize) -> Result<Self::Buffer>;

    /// Copies host bytes into a buffer, from byte `at`.
    ///
    /// # Errors
    /// If the range leaves the buffer, or the device fails.
    fn upload(&self, to: &mut Self::Buffer, at: usize, bytes: &[u8]) -> Result<()>;

    /// Copies bytes of a buffer, from byte `at`, to the host. Waits until launches are done.
    ///
    /// # Errors
    /// If the range leaves the buffer, or the device fails.
    fn download(&self, from: &Self::Buffer, at: usize, bytes: &mut [u8]) -> Result<()>;

    /// Prepares an elementwise pass with its reductions.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn sweep(&self, spec: &Sweep) -> Result<Self::Kernel>;

    /// Prepares a matrix product.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn matmul(&self, spec: &MatMul) -> Result<Self::Kernel>;

    /// Prepares a strided copy.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn relocate(&self, spec: &Relocate) -> Result<Self::Kernel>;

    /// Prepares the picking of rows: the vjp of [`scatter_add`](Backend::scatter_add).
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn gather(&self, spec: &Indexing) -> Result<Self::Kernel>;

    /// Prepares the adding up of rows: the vjp of [`gather`](Backend::gather).
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn scatter_add(&self, spec: &Indexing) -> Result<Self::Kernel>;

    /// Prepares counter-based random numbers.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn random(&self, spec: &Random) -> Result<Self::Kernel>;

    /// Runs a kernel. May return before the work is done; `download` waits.
    ///
    /// # Errors
    /// If the device fails.
    fn launch(
        &self,
        kernel: &Self::Kernel,
        memory: &mut Memory<Self::Buffer>,
        args: &Args,
        at: Iteration,
    ) -> Result<()>;

    /// Prepares a row program: softmax, norms, cross-entropy and their vjps. Optional.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn rows(&self, spec: &Rows) -> Result<Self::Kernel> {
        Err(self.declined(&Primitive::Rows(spec.clone())))
    }

    /// Prepares a convolution. Optional.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn conv(&self, spec: &Conv) -> Result<Self::Kernel> {
        Err(self.declined(&Primitive::Conv(spec.clone())))
    }

    /// Prepares the vjp of [`conv`](Backend::conv) by the input. Optional.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn conv_vjp_input(&self, spec: &Conv) -> Result<Self::Kernel> {
        Err(self.declined(&Primitive::ConvVjpInput(spec.clone())))
    }

    /// Prepares the vjp of [`conv`](Backend::conv) by the filter. Optional.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn conv_vjp_filter(&self, spec: &Conv) -> Result<Self::Kernel> {
        Err(self.declined(&Primitive::ConvVjpFilter(spec.clone())))
    }

    /// Prepares the reduction of windows. Optional.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn pool(&self, spec: &Pool) -> Result<Self::Kernel> {
        Err(self.declined(&Primitive::Pool(spec.clone())))
    }

    /// Prepares the vjp of [`pool`](Backend::pool). Optional.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn pool_vjp(&self, spec: &Pool) -> Result<Self::Kernel> {
        Err(self.declined(&Primitive::PoolVjp(spec.clone())))
    }

    /// Prepares scaled dot-product attention. Optional.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn attention(&self, spec: &Attention) -> Result<Self::Kernel> {
        Err(self.declined(&Primitive::Attention(Box::new(spec.clone()))))
    }

    /// Prepares the vjp of [`attention`](Backend::attention). Optional.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn attention_vjp(&self, spec: &AttentionVjp) -> Result<Self::Kernel> {
        Err(self.declined(&Primitive::AttentionVjp(Box::new(spec.clone()))))
    }

    /// Prepares sorting. Optional.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn sort(&self, spec: &Sort) -> Result<Self::Kernel> {
        Err(self.declined(&Primitive::Sort(spec.clone())))
    }

    /// Whether a fused form or an optional primitive can be prepared. Asked by the compiler before
    /// anything is settled, so it should be quick.
    fn supports(&self, candidate: &Primitive) -> bool {
        candidate.is_plain()
    }

    /// The layout in which the backend would like to have an operand of a primitive (reads first,
    /// then writes). A wish, not a demand.
    fn layout(&self, primitive: &Primitive, operand: usize) -> Option<Layout> {
        let _ = (primitive, operand);
        None
    }

    /// The scratch memory a kernel needs during a launch, in bytes.
    fn scratch(&self, kernel: &Self::Kernel) -> usize {
        let _ = kernel;
        0
    }

    /// Prepares whatever primitive.
    ///
    /// # Errors
    /// If the kernel cannot be made.
    fn prepare(&self, primitive: &Primitive) -> Result<Self::Kernel> {
        match primitive {
            Primitive::Sweep(spec) => self.sweep(spec),
            Primitive::Rows(spec) => self.rows(spec),
            Primitive::MatMul(spec) => self.matmul(spec),
            Primitive::Relocate(spec) => self.relocate(spec),
            Primitive::Gather(spec) => self.gather(spec),
            Primitive::ScatterAdd(spec) => self.scatter_add(spec),
            Primitive::Random(spec) => self.random(spec),
            Primitive::Conv(spec) => self.conv(spec),
            Primitive::ConvVjpInput(spec) => self.conv_vjp_input(spec),
            Primitive::ConvVjpFilter(spec) => self.conv_vjp_filter(spec),
            Primitive::Pool(spec) => self.pool(spec),
            Primitive::PoolVjp(spec) => self.pool_vjp(spec),
            Primitive::Attention(spec) => self.attention(spec),
            Primitive::AttentionVjp(spec) => self.attention_vjp(spec),
            Primitive::Sort(spec) => self.sort(spec),
        }
    }

    /// Takes a whole plan with its kernels (one a primitive, in order). By default its launches run
    /// one after the other; a backend may do better, as by replaying a captured graph.
    ///
    /// # Errors
    /// If the device fails.
    fn load(
        &self,
        plan: Arc<Plan>,
        kernels: Vec<Self::Kernel>,
    ) -> Result<Box<dyn Executable<Self>>> {
        Ok(Box::new(OneByOne::new(plan, kernels)))
    }

    /// The error for a primitive that this backend does not execute.
    fn declined(&self, primitive: &Primitive) -> Error {
        Error::new(ErrorKind::Unsupported {
            backend: self.name(),
            primitive: primitive.to_string(),
        })
    }
}
