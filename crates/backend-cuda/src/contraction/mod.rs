//! Matrix products and convolutions: one family of kernels.
//!
//! In what order products are added up follows from the sizes and the type of the sums alone: inside
//! of a slice of `k` one after the other, each rounded once; then slice by slice, then block by
//! block.

mod copy;
mod element;
mod epilogue;
mod kernel;
mod lanes;
mod library;
mod loader;
mod mask;
mod matrix;
mod problem;
mod resident;
mod table;
mod tensor;
mod tile;
#[cfg(test)]
pub(crate) mod tune;
mod vector;

use backprop_core::{Body, Conv, DType, Primitive, Sink};

use crate::blas::Products;
use crate::lowered::Lowered;
use kernel::Kernel;
use problem::Problem;
use tile::{Means, Sizes};
use vector::Vector;

pub(crate) use resident::{Places, Resident, Share};
pub(crate) use tile::Engine;

/// How exact products of floats are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Precision {
    /// All bits of the operands count.
    #[default]
    Strict,
    /// Operands in `f32` are rounded to 11 bits for tensor cores.
    Tf32,
}

/// How contractions are lowered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Options {
    pub(crate) precision: Precision,
    pub(crate) products: Products,
    /// Bytes of shared memory that a block can have.
    pub(crate) shared: usize,
}

impl Options {
    /// What a block can have on devices of compute capability 9.0.
    pub(crate) const SHARED: usize = 227 << 10;
}

impl Default for Options {
    fn default() -> Options {
        Options {
            precision: Precision::default(),
            products: Products::default(),
            shared: Options::SHARED,
        }
    }
}

/// Any product or convolution, whatever its operands are made of, that stores all of its results.
pub(crate) fn supports(primitive: &Primitive) -> bool {
    let stores = |body: &Body| body.outputs.iter().all(|output| output.sink == Sink::Store);
    let conv = |spec: &Conv| spec.accumulator != DType::Bool && stores(&spec.epilogue);
    match primitive {
        Primitive::MatMul(spec) => spec.accumulator != DType::Bool && stores(&spec.epilogue),
        Primitive::Conv(spec) | Primitive::ConvVjpInput(spec) | Primitive::ConvVjpFilter(spec) => {
            conv(spec)
        }
        _ => false,
    }
}

pub(crate) fn lower(primitive: &Primitive, options: Options) -> Lowered {
    let Some(problem) = Problem::new(primitive) else {
        return Lowered::default();
    };
    let sizes = Sizes {
        batch: problem.batch(),
        m: problem.m(),
        n: problem.n(),
        k: problem.k(),
    };
    if problem.space.count() == 0 {
        return Lowered::default();
    }
    if let Primitive::MatMul(spec) = primitive
        && let Some(lowered) = library::lower(spec, &problem, options)
    {
        return lowered;
    }
    match matches!(primitive, Primitive::MatMul(_)) && vector::suits(sizes) {
        true => Vector::new(&problem, sizes).lower(primitive),
        false => Kernel::new(&problem, sizes, means(&problem, sizes, options)).lower(primitive),
    }
}

/// Multiplications below which the way to tensor cores takes longer than they save: an H200 runs the
/// transformer of the workloads, of products of 2^24 to 2^26, in 0.62 ms without them and in 0.81 with.
const TENSOR: usize = 1 << 29;

/// Tensor cores multiply where they lose no bits, or where they may and it pays.
fn means(problem: &Problem<'_>, sizes: Sizes, options: Options) -> Means {
    let short = problem.left.is_short() && problem.right.is_short();
    let large = sizes.batch * sizes.m * sizes.n * sizes.k >= TENSOR;
    let may = short || (large && options.precision == Precision::Tf32);
    let engine = match may && problem.accumulator == DType::F32 {
        true => Engine::Tensor,
        false => Engine::Lanes,
    };
    Means {
        engine,
        shared: options.shared,
    }
}
