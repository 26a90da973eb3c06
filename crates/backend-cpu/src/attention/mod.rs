//! Attention and its vjp, without a matrix of all scores.
//!
//! Scores are computed for a block of queries and a block of keys at a time, in cache, by the
//! kernels of the matrix product. Attention keeps the largest score and the sum of exponentials of
//! each query as keys go by (Dao et al., 2022, arXiv:2205.14135); its vjp computes scores again.
//! Copying operands into the order of the kernels absorbs their strides and widens 16-bit elements.
//!
//! # The order of a sum
//! A sum over keys or queries is cut into blocks of a fixed size, and computed by one worker; blocks
//! that no query sees are left out. So results depend on the shape and the level alone.

mod forward;
mod heads;
mod rows;
mod vjp;

use std::fmt::Debug;

use backprop_core::{
    Attention as Spec, AttentionVjp as SpecVjp, DType, Error, ErrorKind, Heads, Primitive, Result,
};
use half::{bf16, f16};

use crate::Level;
use crate::memory::{LINE, Operands};
use crate::pool::{Pool, Worker};
use crate::split::Split;
use crate::sweep::Elementwise;
use crate::tile::Lane;
use forward::Forward;
use vjp::Vjp;

/// Prepared attention, or its vjp.
#[derive(Debug)]
pub(crate) struct Attention {
    work: Box<dyn Share>,
    split: Split,
    threads: usize,
}

/// What workers share.
trait Share: Debug + Send + Sync {
    /// Bytes of scratch memory for a worker.
    fn scratch(&self) -> usize;

    /// One worker's part.
    ///
    /// # Safety
    /// The operands are those of a checked launch; each worker has scratch memory of its own.
    unsafe fn share(&self, worker: Worker<'_>, operands: &Operands<'_>, scratch: *mut u8);
}

/// Whether attention can be prepared: without prologues, with an epilogue over points.
pub(crate) fn supports(spec: &Spec, level: Level) -> bool {
    heads::supports(&spec.heads, spec.accumulator)
        && spec.lse.layout.is_dense()
        && Elementwise::new(&spec.epilogue, spec.space, 1, level).is_ok()
}

/// Whether the vjp can be prepared: everything of one type, or the one in which it is summed.
pub(crate) fn supports_vjp(spec: &SpecVjp) -> bool {
    let accumulator = spec.lse.tensor.dtype;
    let given = [&spec.out, &spec.cotangent];
    let dtype = operand_type(&spec.heads);
    let tensors = given.iter().map(|source| &source.tensor);
    heads::supports(&spec.heads, accumulator)
        && given
            .iter()
            .all(|source| Some(source.tensor.dtype) == dtype)
        && tensors
            .chain([&spec.lse.tensor])
            .chain(&spec.results)
            .all(|tensor| {
                tensor.layout.is_dense() && Lane::of(tensor.dtype) == Lane::of(accumulator)
            })
}

impl Attention {
    pub(crate) fn new(spec: &Spec, level: Level, threads: usize) -> Result<Attention> {
        let work = if heads::supports(&spec.heads, spec.accumulator) {
            forward(spec, level)
        } else {
            Err("operands of other types".to_owned())
        };
        let declined = || Primitive::Attention(Box::new(spec.clone()));
        Ok(Attention {
            work: work.map_err(|what| unsupported(&what, &declined()))?,
            split: Split::of(cost(&spec.heads)),
            threads,
        })
    }

    pub(crate) fn vjp(spec: &SpecVjp, level: Level, threads: usize) -> Result<Attention> {
        let declined = || Primitive::AttentionVjp(Box::new(spec.clone()));
        let work = Some(spec).filter(|spec| supports_vjp(spec));
        let work = work.and_then(|spec| vjp(spec, level, threads));
        Ok(Attention {
            work: work.ok_or_else(|| unsupported("operands of other types", &declined()))?,
            split: Split::of(cost(&spec.heads).saturating_mul(5) / 2),
            threads,
        })
    }

    /// Bytes of scratch.
    pub(crate) fn scratch(&self) -> usize {
        self.work.scratch().next_multiple_of(LINE) * self.threads
    }

    /// # Safety
    /// The operands are those of a checked launch of the spec.
    pub(crate) unsafe fn run(&self, pool: &Pool, operands: &Operands<'_>) -> Result<()> {
        let own = self.work.scratch().next_multiple_of(LINE);
        self.split.run(pool, &|worker| {
            let scratch = operands.scratch().wrapping_add(own * worker.id());
            // SAFETY: handed on; there is scratch memory for every worker.
            unsafe { self.work.share(worker, operands, scratch) }
        })
    }
}

/// Where pieces of so many elements start when they stand one after the other, and where they end.
fn pieces<const N: usize>(sizes: [usize; N]) -> ([usize; N], usize) {
    let mut end = 0;
    let starts = sizes.map(|size| {
        let start = end;
        end += size.next_multiple_of(LINE);
        start
    });
    (starts, end)
}

/// Writes `n` times the same.
///
/// # Safety
/// There is room for `n` elements.
unsafe fn fill<T: Copy>(to: *mut T, n: usize, x: T) {
    for i in 0..n {
        // SAFETY: the same contract.
        unsafe { to.add(i).write(x) };
    }
}

/// Roughly as many vectorised additions.
fn cost(heads: &Heads) -> usize {
    let products = (heads.depth + heads.width + 16) / 2;
    [heads.queries, heads.keys, products]
        .iter()
        .fold(heads.batch.count(), |cost, &size| cost.saturating_mul(size))
}

fn unsupported(what: &str, primitive: &Primitive) -> Error {
    Error::new(ErrorKind::Unsupported {
        backend: format!("cpu ({what})"),
        primitive: primitive.to_string(),
    })
}

fn operand_type(heads: &Heads) -> Option<DType> {
    heads.as_plain().map(|plain| plain[0].tensor.dtype)
}

fn forward(spec: &Spec, level: Level) -> Result<Box<dyn Share>, String> {
    Ok(match operand_type(&spec.heads) {
        Some(DType::F32) => Box::new(Forward::<f32, f32>::new(spec, level)?),
        Some(DType::F16) => Box::new(Forward::<f32, f16>::new(spec, level)?),
        Some(DType::BF16) => Box::new(Forward::<f32, bf16>::new(spec, level)?),
        _ => Box::new(Forward::<f64, f64>::new(spec, level)?),
    })
}

fn vjp(spec: &SpecVjp, level: Level, threads: usize) -> Option<Box<dyn Share>> {
    Some(match operand_type(&spec.heads)? {
        DType::F32 => Box::new(Vjp::<f32, f32>::new(spec, level, threads)?),
        DType::F16 => Box::new(Vjp::<f32, f16>::new(spec, level, threads)?),
        DType::BF16 => Box::new(Vjp::<f32, bf16>::new(spec, level, threads)?),
        _ => Box::new(Vjp::<f64, f64>::new(spec, level, threads)?),
    })
}
