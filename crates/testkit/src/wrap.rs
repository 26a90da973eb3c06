//! Backends around a backend: one that counts, and one that declines whatever is not plain.

use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use backprop_core::plan::Iteration;
use backprop_core::{
    Args, Attention, AttentionVjp, Backend, Conv, Indexing, MatMul, Memory, Pool, Primitive,
    Random, Relocate, Result, Rows, Sort, Sweep,
};

/// The methods that only prepare kernels, handed on.
macro_rules! hand_on {
    () => {
        hand_on! {
            sweep(Sweep);
            matmul(MatMul);
            relocate(Relocate);
            gather(Indexing);
            scatter_add(Indexing);
            random(Random);
            rows(Rows);
            conv(Conv);
            conv_vjp_input(Conv);
            conv_vjp_filter(Conv);
            pool(Pool);
            pool_vjp(Pool);
            attention(Attention);
            attention_vjp(AttentionVjp);
            sort(Sort);
        }
    };
    ($($method:ident($Spec:ty);)+) => {
        type Buffer = B::Buffer;
        type Kernel = B::Kernel;
        $(fn $method(&self, spec: &$Spec) -> Result<B::Kernel> {
            self.inner.$method(spec)
        })+
        fn scratch(&self, kernel: &B::Kernel) -> usize {
            self.inner.scratch(kernel)
        }
    };
}

/// A backend that counts what is asked of another, so that a test can say "no allocation and so
/// many launches a step". Clones share their counts.
///
/// Plans run launch by launch, whatever the inner backend's [`load`](Backend::load) would do.
///
/// ```
/// use backprop_core::{Backend, Reference};
/// use backprop_testkit::Counting;
///
/// let backend = Counting::new(Reference);
/// let before = backend.counts();
/// let buffer = backend.alloc(64)?;
/// let spent = backend.counts() - before;
/// assert_eq!((spent.allocations, spent.allocated_bytes, spent.launches), (1, 64, 0));
/// # Ok::<(), backprop_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Counting<B> {
    inner: B,
    counters: Arc<[AtomicUsize; 6]>,
}

/// How often a [`Counting`] backend was asked for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Buffers allocated.
    pub allocations: usize,
    /// Their bytes.
    pub allocated_bytes: usize,
    /// Copies from the host.
    pub uploads: usize,
    /// Copies to the host.
    pub downloads: usize,
    /// Kernels prepared.
    pub kernels: usize,
    /// Kernels launched.
    pub launches: usize,
}

impl Sub for Counts {
    type Output = Counts;

    /// What was asked for between two counts.
    fn sub(self, before: Counts) -> Counts {
        Counts {
            allocations: self.allocations - before.allocations,
            allocated_bytes: self.allocated_bytes - before.allocated_bytes,
            uploads: self.uploads - before.uploads,
            downloads: self.downloads - before.downloads,
            kernels: self.kernels - before.kernels,
            launches: self.launches - before.launches,
        }
    }
}

/// The position of each counter.
enum Counter {
    Allocations,
    AllocatedBytes,
    Uploads,
    Downloads,
    Kernels,
    Launches,
}

impl<B: Backend> Counting<B> {
    /// Counts what is asked of `inner`, from 0 on.
    pub fn new(inner: B) -> Counting<B> {
        Counting {
            inner,
            counters: Arc::default(),
        }
    }

    /// What was asked for so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: Counter| self.counters[counter as usize].load(Ordering::Relaxed);
        Counts {
            allocations: read(Counter::Allocations),
            allocated_bytes: read(Counter::AllocatedBytes),
            uploads: read(Counter::Uploads),
            downloads: read(Counter::Downloads),
            kernels: read(Counter::Kernels),
            launches: read(Counter::Launches),
        }
    }

    fn count(&self, counter: Counter, by: usize) {
        self.counters[counter as usize].fetch_add(by, Ordering::Relaxed);
    }
}

impl<B: Backend> Backend for Counting<B> {
    hand_on! {}

    fn name(&self) -> String {
        format!("counting {}", self.inner.name())
    }

    fn supports(&self, candidate: &Primitive) -> bool {
        self.inner.supports(candidate)
    }

    fn prepare(&self, primitive: &Primitive) -> Result<B::Kernel> {
        self.count(Counter::Kernels, 1);
        self.inner.prepare(primitive)
    }

    fn alloc(&self, bytes: usize) -> Result<B::Buffer> {
        self.count(Counter::Allocations, 1);
        self.count(Counter::AllocatedBytes, bytes);
        self.inner.alloc(bytes)
    }

    fn upload(&self, to: &mut B::Buffer, at: usize, bytes: &[u8]) -> Result<()> {
        self.count(Counter::Uploads, 1);
        self.inner.upload(to, at, bytes)
    }

    fn download(&self, from: &B::Buffer, at: usize, bytes: &mut [u8]) -> Result<()> {
        self.count(Counter::Downloads, 1);
        self.inner.download(from, at, bytes)
    }

    fn launch(
        &self,
        kernel: &B::Kernel,
        memory: &mut Memory<B::Buffer>,
        args: &Args,
        at: Iteration,
    ) -> Result<()> {
        self.count(Counter::Launches, 1);
        self.inner.launch(kernel, memory, args, at)
    }
}

/// A backend that executes plain forms only and declines every fused or optional one, so that the
/// compiler has to put them together from pieces: results have to stay the same.
#[derive(Clone, Debug, Default)]
pub struct Unfused<B> {
    inner: B,
}

impl<B: Backend> Unfused<B> {
    /// Only the plain forms of `inner`.
    pub fn new(inner: B) -> Unfused<B> {
        Unfused { inner }
    }
}

impl<B: Backend> Backend for Unfused<B> {
    hand_on! {}

    fn name(&self) -> String {
        format!("unfused {}", self.inner.name())
    }

    fn alloc(&self, bytes: usize) -> Result<B::Buffer> {
        self.inner.alloc(bytes)
    }

    fn upload(&self, to: &mut B::Buffer, at: usize, bytes: &[u8]) -> Result<()> {
        self.inner.upload(to, at, bytes)
    }

    fn download(&self, from: &B::Buffer, at: usize, bytes: &mut [u8]) -> Result<()> {
        self.inner.download(from, at, bytes)
    }

    fn launch(
        &self,
        kernel: &B::Kernel,
        memory: &mut Memory<B::Buffer>,
        args: &Args,
        at: Iteration,
    ) -> Result<()> {
        self.inner.launch(kernel, memory, args, at)
    }
}
