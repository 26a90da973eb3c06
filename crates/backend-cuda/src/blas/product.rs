//! A product as plain data.

use backprop_core::{DType, MatMul, Source};

use super::Products;
use crate::contraction::{Options, Precision};
use crate::lowered::Arg;

/// Multiplications from which on cuBLASLt is faster, its second launch for the epilogue included: of
/// all bits of floats, of floats on tensor cores (on an H200 an LSTM's products of 2^21 took half as
/// long again with it, those of a network 2048 wide less than half), of 16-bit ones, and of 64-bit ones.
const STRICT: usize = 1 << 27;
const ROUNDED: usize = 1 << 27;
const HALF: usize = 1 << 24;
const DOUBLE: usize = 1 << 27;

/// The largest size, and the largest number of products at once.
const LARGEST: usize = i32::MAX as usize;
const MOST: usize = u16::MAX as usize;

/// In which precision products are computed and summed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Compute {
    /// `f32` with all bits.
    Strict,
    /// `f32` rounded to 11 bits, with sums in `f32`.
    Tf32,
    /// 16-bit floats with sums in `f32`.
    Half,
    /// `f64`.
    Double,
}

impl Compute {
    fn new([left, right]: [DType; 2], sums: DType, precision: Precision) -> Option<Compute> {
        match (left, sums) {
            _ if left != right => None,
            (DType::F32, DType::F32) => Some(match precision {
                Precision::Strict => Compute::Strict,
                Precision::Tf32 => Compute::Tf32,
            }),
            (DType::F16 | DType::BF16, DType::F32) => Some(Compute::Half),
            (DType::F64, DType::F64) => Some(Compute::Double),
            _ => None,
        }
    }
}

/// Whether cuBLASLt is the one to compute so many multiplications.
fn is_chosen(compute: Compute, multiplications: usize, products: Products) -> bool {
    let least = match compute {
        Compute::Strict => STRICT,
        Compute::Tf32 => ROUNDED,
        Compute::Half => HALF,
        Compute::Double => DOUBLE,
    };
    let wanted = match products {
        // Own kernels compute in strict `f32` until measured.
        Products::Auto => compute != Compute::Strict,
        Products::Own => false,
        Products::CuBlas => true,
    };
    wanted && multiplications >= least
}

/// Which elements of a matrix are neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Those of a row.
    Rows,
    /// Those of a column: the matrix is transposed.
    Columns,
}

/// An operand: matrices in memory, one for each element of the batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Side {
    pub(crate) arg: Arg,
    /// The number of the first element.
    pub(crate) first: usize,
    /// Elements from one matrix to the next.
    pub(crate) batch: usize,
    /// Elements from one row to the next, or from one column to the next.
    pub(crate) leading: usize,
    pub(crate) order: Order,
}

impl Side {
    /// A tensor seen from a batch of matrices, if cuBLASLt can read it.
    fn new(read: usize, source: &Source, batch: &[usize], size: [usize; 2]) -> Option<Side> {
        let strides = &source.view.strides[..batch.len() + 2];
        let (outer, inner) = strides.split_at(batch.len());
        let (order, leading) = order([inner[0], inner[1]], size)?;
        let side = Side {
            arg: Arg::Read(read),
            first: source.view.offset,
            batch: merged(batch, outer)?,
            leading,
            order,
        };
        let fits = source.tensor.layout.is_dense() && leading <= LARGEST;
        fits.then_some(side)
    }

    fn by_columns(&self, [rows, columns]: [usize; 2]) -> ByColumns {
        let (lines, length) = match self.order {
            Order::Rows => (rows, columns),
            Order::Columns => (columns, rows),
        };
        ByColumns {
            rows: length,
            columns: lines,
            leading: self.leading,
            batch: self.batch,
        }
    }
}

/// A matrix whose columns are neighbours, so many elements apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ByColumns {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) leading: usize,
    /// Elements from one matrix of a batch to the next.
    pub(crate) batch: usize,
}

/// The order of a matrix with these steps along its axes, and its leading dimension.
fn order(steps: [isize; 2], [rows, columns]: [usize; 2]) -> Option<(Order, usize)> {
    // Along an axis of one element nothing steps.
    let leading = |step: isize, count: usize, length: usize| match count {
        1 => Some(length.max(1)),
        _ => usize::try_from(step).ok().filter(|&step| step >= length),
    };
    let is_next = |step: isize, count: usize| count == 1 || step == 1;
    let by_rows = leading(steps[0], rows, columns).filter(|_| is_next(steps[1], columns));
    let by_columns = || leading(steps[1], columns, rows).filter(|_| is_next(steps[0], rows));
    match by_rows {
        Some(leading) => Some((Order::Rows, leading)),
        None => Some((Order::Columns, by_columns()?)),
    }
}

/// The step along all axes of a batch as one, if it is the same all along.
fn merged(sizes: &[usize], steps: &[isize]) -> Option<usize> {
    let mut all: Option<(isize, usize)> = None;
    let axes = sizes.iter().zip(steps).rev();
    for (&size, &step) in axes.filter(|(size, _)| **size != 1) {
        all = match all {
            None => Some((step, size)),
            Some((unit, count)) if step == unit * count as isize => Some((unit, count * size)),
            Some(_) => return None,
        };
    }
    usize::try_from(all.map_or(0, |(step, _)| step)).ok()
}

/// Memory that cuBLASLt works in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Workspace {
    /// Where it may begin in the scratch memory: at the next multiple of its alignment.
    pub(crate) at: usize,
    pub(crate) bytes: usize,
}

impl Workspace {
    pub(crate) const ALIGNMENT: usize = 256;
    const LEAST: usize = 1 << 20;
    const LARGEST: usize = 32 << 20;
    /// Parts of the inner axis whose sums may be kept apart.
    const PARTS: usize = 16;

    /// For sums of so many bytes.
    pub(crate) fn new(at: usize, sums: usize) -> Workspace {
        let wanted = sums.saturating_mul(Workspace::PARTS);
        Workspace {
            at,
            bytes: wanted.clamp(Workspace::LEAST, Workspace::LARGEST),
        }
    }

    /// Bytes of scratch memory up to its end, wherever that memory begins.
    pub(crate) fn end(self) -> usize {
        self.at + Workspace::ALIGNMENT + self.bytes
    }
}

/// For each element of a batch, `C[m, n] = sum over k of A[m, k] * B[k, n]`; `C` is dense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Product {
    pub(crate) batch: usize,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) left: Side,
    pub(crate) right: Side,
    /// Where the sums go.
    pub(crate) result: Arg,
    /// The types of operands and sums.
    pub(crate) operands: DType,
    pub(crate) sums: DType,
    pub(crate) compute: Compute,
    pub(crate) workspace: Workspace,
}

impl Product {
    /// The product of a spec, into its first result, if it is one for cuBLASLt. That depends on sizes
    /// and types, and on how operands lie in memory, and never on the epilogue.
    pub(crate) fn new(spec: &MatMul, options: Options) -> Option<Product> {
        let (left, right) = spec.plain_operands()?;
        let types = [left.tensor.dtype, right.tensor.dtype];
        let compute = Compute::new(types, spec.accumulator, options.precision)?;
        let multiplications = spec.batch.count() * spec.m * spec.n * spec.k;
        match is_chosen(compute, multiplications, options.products) {
            true => Product::readable(spec, compute),
            false => None,
        }
    }

    /// The product of a spec of any size, if cuBLASLt can read its operands.
    pub(super) fn readable(spec: &MatMul, compute: Compute) -> Option<Product> {
        let (left, right) = spec.plain_operands()?;
        let sizes = spec.batch.sizes();
        let &MatMul { m, n, k, .. } = spec;
        let product = Product {
            batch: spec.batch.count(),
            m,
            n,
            k,
            left: Side::new(0, left, sizes, [m, k])?,
            right: Side::new(1, right, sizes, [k, n])?,
            result: Arg::Write(0),
            operands: left.tensor.dtype,
            sums: spec.accumulator,
            compute,
            workspace: Workspace::default(),
        };
        Some(product.merged()).filter(Product::fits)
    }

    /// A batch of rows that are multiplied by the same matrix is one matrix.
    fn merged(mut self) -> Product {
        let step = match self.m {
            1 => self.left.batch,
            _ => self.left.leading * self.m,
        };
        let same = self.right.batch == 0 && self.left.order == Order::Rows;
        if self.batch > 1 && same && self.left.batch == step && step >= self.k {
            self.left.leading = step / self.m;
            self.left.batch = 0;
            self.m *= self.batch;
            self.batch = 1;
        }
        self
    }

    /// `B`, `A` and `C` as cuBLASLt describes matrices: by columns. Read so, a matrix by rows is its
    /// transpose, and what is computed is `C' = B' A'`.
    pub(crate) fn by_columns(&self) -> [ByColumns; 3] {
        let Product { m, n, k, .. } = *self;
        let result = ByColumns {
            rows: n,
            columns: m,
            leading: n,
            batch: m * n,
        };
        [
            self.right.by_columns([k, n]),
            self.left.by_columns([m, k]),
            result,
        ]
    }

    fn fits(&self) -> bool {
        let sizes = [self.m, self.n, self.k];
        sizes.iter().all(|&size| size <= LARGEST) && self.batch <= MOST
    }
}
