//! What a primitive becomes on the device, as plain data: kernels in order, over its operands.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter;
use std::sync::Arc;

use backprop_core::Primitive;

use crate::blas::Product;

/// Multiprocessors of the device that kernels are shaped for.
pub(crate) const MULTIPROCESSORS: usize = 132;

/// Threads of a block, where a kernel has no reason for others.
pub(crate) const THREADS: usize = 256;

/// One kernel in CUDA C. Everything but addresses stands in it as constants.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Source {
    /// The entry's name, which is made of the text's hash.
    pub(crate) entry: Arc<str>,
    /// The text of the kernel alone, without the prelude.
    pub(crate) text: Arc<str>,
}

/// Where the entry's name goes in the text of a kernel.
pub(crate) const ENTRY: &str = "@entry@";

impl Source {
    /// A kernel of this text, in which [`ENTRY`] stands for its name.
    pub(crate) fn new(text: &str) -> Source {
        // Of a fixed algorithm and fixed keys: names are the same in every process.
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let entry = format!("k_{:016x}", hasher.finish());
        let text = format!("{}BP_ENTRY({entry})\n", text.replace(ENTRY, &entry));
        Source {
            entry: entry.into(),
            text: text.into(),
        }
    }
}

/// Pointers that a kernel may be handed at most.
pub(crate) const MAX_ARGS: usize = 64;

/// A pointer that a kernel is handed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arg {
    /// The operand read with this number.
    Read(usize),
    /// The operand written with this number.
    Write(usize),
    /// The scratch memory, from this byte on.
    Scratch(usize),
}

/// All operands of a primitive, those read before those written.
pub(crate) fn arguments(primitive: &Primitive) -> Vec<Arg> {
    let reads = (0..primitive.reads().len()).map(Arg::Read);
    let writes = (0..primitive.writes().len()).map(Arg::Write);
    reads.chain(writes).collect()
}

/// Blocks of `of` threads that hold so many.
pub(crate) fn blocks(threads: usize, of: usize) -> u32 {
    u32::try_from(threads.div_ceil(of)).unwrap_or(u32::MAX)
}

/// One launch of a kernel, over blocks of one dimension.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Launch {
    pub(crate) source: Source,
    pub(crate) grid: [u32; 3],
    /// Threads of a block.
    pub(crate) block: u32,
    /// Bytes of dynamic shared memory.
    pub(crate) shared: u32,
    pub(crate) args: Vec<Arg>,
    pub(crate) early: Option<Early>,
}

/// The same kernel where it reads some operands before the launch ahead of it is done, which has to
/// leave them alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Early {
    pub(crate) source: Source,
    pub(crate) reads: Vec<Arg>,
}

impl Launch {
    /// The kernel, in all its forms.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Source> {
        iter::once(&self.source).chain(self.early.iter().map(|early| &early.source))
    }

    /// Blocks of [`THREADS`] threads, without dynamic shared memory.
    pub(crate) fn of(text: &str, grid: [u32; 3], args: Vec<Arg>) -> Launch {
        Launch {
            source: Source::new(text),
            grid,
            block: THREADS as u32,
            shared: 0,
            args,
            early: None,
        }
    }

    /// A thread for each of so many.
    pub(crate) fn each(text: &str, count: usize, args: Vec<Arg>) -> Launch {
        Launch::of(text, [blocks(count, THREADS), 1, 1], args)
    }
}

/// A piece of what is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    Kernel(Launch),
    /// What cuBLASLt computes.
    Product(Product),
}

/// What is done in order, and the scratch memory that it takes.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Lowered {
    pub(crate) works: Vec<Work>,
    /// Bytes.
    pub(crate) scratch: usize,
}

impl Lowered {
    /// One launch without scratch memory.
    pub(crate) fn one(launch: Launch) -> Lowered {
        Lowered::kernels(vec![launch], 0)
    }

    /// Launches one after the other, with scratch memory.
    pub(crate) fn kernels(launches: Vec<Launch>, scratch: usize) -> Lowered {
        Lowered {
            works: launches.into_iter().map(Work::Kernel).collect(),
            scratch,
        }
    }

    /// The kernels, in all their forms.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.launches().flat_map(Launch::sources)
    }

    /// The launches.
    pub(crate) fn launches(&self) -> impl Iterator<Item = &Launch> {
        self.works.iter().filter_map(|work| match work {
            Work::Kernel(launch) => Some(launch),
            Work::Product(_) => None,
        })
    }

    /// The products that cuBLASLt computes.
    pub(crate) fn products(&self) -> impl Iterator<Item = &Product> {
        self.works.iter().filter_map(|work| match work {
            Work::Kernel(_) => None,
            Work::Product(product) => Some(product),
        })
    }
}
