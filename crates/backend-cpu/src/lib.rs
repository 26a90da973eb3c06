//! The CPU backend of the backprop engine.
//!
//! Elementwise work runs in a tile interpreter over vector registers or, on
//! x86-64, in machine code that is made when a kernel is prepared, matrix
//! products in packed register tiles, everything on one pool of threads. Results
//! are the same bits for any number of threads; they depend on the operands and
//! on the [`Level`] of vector instructions.
//!
//! ```
//! use backprop_core::Backend;
//! use backprop_cpu::{Cpu, Level};
//!
//! let cpu = Cpu::builder().threads(2).level(Level::Scalar).build()?;
//! assert_eq!(cpu.name(), "cpu (scalar, 2 threads)");
//! # Ok::<(), backprop_core::Error>(())
//! ```
#![allow(
    unsafe_code,
    reason = "kernels work on raw memory; each block cites the plan-check property it relies on"
)]

mod attention;
mod builder;
mod ceiling;
mod contraction;
mod conv;
mod gemm;
mod indexing;
mod jit;
mod level;
mod math;
mod matmul;
mod memory;
mod pool;
mod pooling;
mod random;
mod relocate;
mod rows;
mod simd;
mod sort;
mod split;
mod sweep;
mod tile;
mod windows;

use std::fmt;
use std::sync::Arc;

use backprop_core::plan::Iteration;
use backprop_core::{
    Args, Attention, AttentionVjp, Backend, Conv, Error, ErrorKind, Indexing, MatMul, Memory,
    Pool as PoolSpec, Primitive, Random, Relocate, Result, Rows, Sort, Sweep,
};

use conv::Wanted;
use memory::Operands;
use pool::Pool;

pub use builder::{Builder, Programs};
pub use ceiling::Ceiling;
pub use level::Level;
pub use memory::Buffer;
pub use pool::Executor;

/// The processor and its memory. A cheap handle; clones share their threads.
#[derive(Clone)]
pub struct Cpu {
    pool: Arc<Pool>,
    level: Level,
    programs: Programs,
}

/// A prepared primitive.
#[derive(Debug)]
pub struct Kernel {
    work: Work,
    /// Bytes of the operands read, then written, then scratch.
    sizes: Box<[usize]>,
    /// Workers that the scratch memory is for.
    threads: usize,
}

#[derive(Debug)]
enum Work {
    Sweep(sweep::Sweep),
    Rows(rows::Rows),
    MatMul(contraction::Contraction),
    Conv(conv::Conv),
    Pooling(pooling::Pooling),
    Relocate(relocate::Relocate),
    Gather(indexing::Gather),
    ScatterAdd(indexing::ScatterAdd),
    Random(random::Random),
    Sort(sort::Sort),
    Attention(attention::Attention),
}

impl Cpu {
    /// The backend with a thread for each processor available to this program and the largest
    /// level of vector instructions, or the one that `BACKPROP_CPU_LEVEL` names.
    ///
    /// # Errors
    /// If `BACKPROP_CPU_LEVEL` names a level that this machine has not.
    pub fn new() -> Result<Cpu> {
        Cpu::builder().build()
    }

    /// The backend with other threads or another level than [`Cpu::new`] chooses.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The vector instructions in use.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// The number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn kernel(&self, primitive: &Primitive, mut work: Work) -> Kernel {
        if self.programs == Programs::Compiled
            && let Some(encoding) = jit::Encoding::of(self.level)
            && let Some(code) = work.program()
        {
            code.compile(encoding);
        }
        let operands = primitive.reads().into_iter().chain(primitive.writes());
        let mut sizes: Vec<usize> = operands.map(|tensor| tensor.bytes()).collect();
        if work.scratch() > 0 {
            sizes.push(work.scratch());
        }
        Kernel {
            work,
            sizes: sizes.into(),
            threads: self.threads(),
        }
    }

    fn pooling(&self, primitive: &Primitive, spec: &PoolSpec) -> Result<Kernel> {
        let work = pooling::Pooling::new(primitive, spec, (self.level, self.threads()))?;
        Ok(self.kernel(primitive, Work::Pooling(work)))
    }

    fn convolution(&self, primitive: Primitive, what: (&Conv, Wanted)) -> Result<Kernel> {
        let work = conv::Conv::new(&primitive, what, (self.level, self.threads()))?;
        Ok(self.kernel(&primitive, Work::Conv(work)))
    }
}

impl Work {
    /// The elementwise program that is part of the work.
    fn program(&mut self) -> Option<&mut tile::Code> {
        match self {
            Work::Sweep(sweep) => Some(sweep.program()),
            Work::Rows(rows) => Some(rows.program()),
            Work::MatMul(matmul) => matmul.fate.program(),
            Work::Conv(conv) => conv.program(),
            _ => None,
        }
    }

    fn scratch(&self) -> usize {
        match self {
            Work::Sweep(sweep) => sweep.scratch(),
            Work::Rows(rows) => rows.scratch(),
            Work::MatMul(matmul) => matmul.scratch(),
            Work::Conv(conv) => conv.scratch(),
            Work::Pooling(pooling) => pooling.scratch(),
            Work::ScatterAdd(scatter) => scatter.scratch(),
            Work::Sort(sort) => sort.scratch(),
            Work::Attention(attention) => attention.scratch(),
            Work::Relocate(_) | Work::Gather(_) | Work::Random(_) => 0,
        }
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

fn outside() -> Error {
    Error::new(ErrorKind::Device {
        what: "a copy leaves its buffer".into(),
    })
}

impl Backend for Cpu {
    type Buffer = Buffer;
    type Kernel = Kernel;

    fn name(&self) -> String {
        let (level, threads) = (self.level, self.threads());
        let plural = if threads == 1 { "" } else { "s" };
        format!("cpu ({level}, {threads} thread{plural})")
    }

    fn alloc(&self, bytes: usize) -> Result<Buffer> {
        Buffer::new(bytes)
    }

    fn upload(&self, to: &mut Buffer, at: usize, bytes: &[u8]) -> Result<()> {
        let end = at.checked_add(bytes.len()).ok_or_else(outside)?;
        let target = to.as_mut_slice().get_mut(at..end);
        target.ok_or_else(outside)?.copy_from_slice(bytes);
        Ok(())
    }

    fn download(&self, from: &Buffer, at: usize, bytes: &mut [u8]) -> Result<()> {
        let end = at.checked_add(bytes.len()).ok_or_else(outside)?;
        let source = from.as_slice().get(at..end);
        bytes.copy_from_slice(source.ok_or_else(outside)?);
        Ok(())
    }

    fn sweep(&self, spec: &Sweep) -> Result<Kernel> {
        let work = sweep::Sweep::new(spec, self.level, self.threads())?;
        Ok(self.kernel(&Primitive::Sweep(spec.clone()), Work::Sweep(work)))
    }

    fn rows(&self, spec: &Rows) -> Result<Kernel> {
        let work = rows::Rows::new(spec, self.level, self.threads())?;
        Ok(self.kernel(&Primitive::Rows(spec.clone()), Work::Rows(work)))
    }

    fn matmul(&self, spec: &MatMul) -> Result<Kernel> {
        let work = matmul::new(spec, self.level, self.threads())?;
        Ok(self.kernel(&Primitive::MatMul(spec.clone()), Work::MatMul(work)))
    }

    fn conv(&self, spec: &Conv) -> Result<Kernel> {
        self.convolution(Primitive::Conv(spec.clone()), (spec, Wanted::Output))
    }

    fn conv_vjp_input(&self, spec: &Conv) -> Result<Kernel> {
        self.convolution(Primitive::ConvVjpInput(spec.clone()), (spec, Wanted::Input))
    }

    fn conv_vjp_filter(&self, spec: &Conv) -> Result<Kernel> {
        self.convolution(
            Primitive::ConvVjpFilter(spec.clone()),
            (spec, Wanted::Filter),
        )
    }

    fn pool(&self, spec: &PoolSpec) -> Result<Kernel> {
        self.pooling(&Primitive::Pool(spec.clone()), spec)
    }

    fn pool_vjp(&self, spec: &PoolSpec) -> Result<Kernel> {
        self.pooling(&Primitive::PoolVjp(spec.clone()), spec)
    }

    fn relocate(&self, spec: &Relocate) -> Result<Kernel> {
        let work = relocate::Relocate::new(spec, self.level)?;
        Ok(self.kernel(&Primitive::Relocate(spec.clone()), Work::Relocate(work)))
    }

    fn gather(&self, spec: &Indexing) -> Result<Kernel> {
        let work = indexing::Gather::new(spec)?;
        Ok(self.kernel(&Primitive::Gather(spec.clone()), Work::Gather(work)))
    }

    fn scatter_add(&self, spec: &Indexing) -> Result<Kernel> {
        let work = indexing::ScatterAdd::new(spec, self.level)?;
        Ok(self.kernel(&Primitive::ScatterAdd(spec.clone()), Work::ScatterAdd(work)))
    }

    fn random(&self, spec: &Random) -> Result<Kernel> {
        let work = random::Random::new(spec, self.level);
        Ok(self.kernel(&Primitive::Random(spec.clone()), Work::Random(work)))
    }

    fn attention(&self, spec: &Attention) -> Result<Kernel> {
        let work = attention::Attention::new(spec, self.level, self.threads())?;
        let primitive = Primitive::Attention(Box::new(spec.clone()));
        Ok(self.kernel(&primitive, Work::Attention(work)))
    }

    fn attention_vjp(&self, spec: &AttentionVjp) -> Result<Kernel> {
        let work = attention::Attention::vjp(spec, self.level, self.threads())?;
        let primitive = Primitive::AttentionVjp(Box::new(spec.clone()));
        Ok(self.kernel(&primitive, Work::Attention(work)))
    }

    fn sort(&self, spec: &Sort) -> Result<Kernel> {
        let work = sort::Sort::new(spec, self.threads())?;
        Ok(self.kernel(&Primitive::Sort(spec.clone()), Work::Sort(work)))
    }

    fn supports(&self, candidate: &Primitive) -> bool {
        match candidate {
            Primitive::Sweep(spec) => sweep::supports(spec),
            Primitive::Rows(spec) => rows::supports(spec),
            Primitive::MatMul(spec) => matmul::supports(spec, self.level),
            Primitive::Pool(_) | Primitive::PoolVjp(_) => pooling::supports(candidate),
            Primitive::Conv(spec) => conv::supports(spec, Wanted::Output, self.level),
            Primitive::ConvVjpInput(spec) => conv::supports(spec, Wanted::Input, self.level),
            Primitive::ConvVjpFilter(spec) => conv::supports(spec, Wanted::Filter, self.level),
            Primitive::Attention(spec) => attention::supports(spec, self.level),
            Primitive::AttentionVjp(spec) => attention::supports_vjp(spec),
            Primitive::Sort(spec) => sort::supports(spec),
            other => other.is_plain(),
        }
    }

    fn scratch(&self, kernel: &Kernel) -> usize {
        kernel.work.scratch()
    }

    fn launch(
        &self,
        kernel: &Kernel,
        memory: &mut Memory<Buffer>,
        args: &Args,
        at: Iteration,
    ) -> Result<()> {
        if kernel.threads < self.threads() {
            return Err(memory::mismatch());
        }
        let operands = Operands::new(memory, (args, at), &kernel.sizes)?;
        let (pool, operands) = (&*self.pool, &operands);
        // SAFETY: the arguments come from a checked plan (only that makes them),
        // and have the sizes that the kernel was prepared for.
        unsafe {
            match &kernel.work {
                Work::Sweep(sweep) => sweep.run(pool, operands),
                Work::Rows(rows) => rows.run(pool, operands),
                Work::MatMul(matmul) => matmul.run(pool, operands),
                Work::Conv(conv) => conv.run(pool, operands),
                Work::Pooling(pooling) => pooling.run(pool, operands),
                Work::Relocate(relocate) => relocate.run(pool, operands),
                Work::Gather(gather) => gather.run(pool, operands),
                Work::ScatterAdd(scatter) => scatter.run(pool, operands),
                Work::Random(random) => random.run(pool, operands),
                Work::Sort(sort) => sort.run(pool, operands),
                Work::Attention(attention) => attention.run(pool, operands),
            }
        }
    }
}
