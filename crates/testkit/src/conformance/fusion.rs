//! Fused launches have the bits of separate ones.

use backprop_core::{Backend, DType, Primitive, Reduction, Scalar};

use super::accuracy::Accuracy;
use super::code::{Code, axes, dense, seen, shape};
use super::conv::{self, Layer};
use super::functions::apply;
use super::matmul::{Product, case};
use super::rig::{Case, Way};
use crate::draw::Draw;

/// A fused primitive, and plain ones that compute the same. Tensors are numbered: first what the
/// fused one reads, then what each plain one writes.
pub(super) struct Twin {
    pub(super) fused: Case,
    /// Plain primitives with the tensors that they read.
    pieces: Vec<(Primitive, Vec<usize>)>,
    /// The tensors that the fused one writes.
    results: Vec<usize>,
}

impl Twin {
    /// All that it runs.
    pub(super) fn primitives(&self) -> Vec<Primitive> {
        let pieces = self.pieces.iter().map(|(primitive, _)| primitive.clone());
        pieces.chain([self.fused.primitive.clone()]).collect()
    }

    /// Whether both give the same bits.
    pub(super) fn check<B: Backend>(&self, backend: &B) -> Result<(), String> {
        let together = self.fused.run(backend, Way::Launched)?;
        let mut tensors = self.fused.reads.clone();
        for (primitive, reads) in &self.pieces {
            let reads = reads.iter().map(|&i| tensors[i].clone()).collect();
            let piece = Case::new(primitive.clone(), reads, Accuracy::Bits);
            tensors.extend(piece.run(backend, Way::Launched)?);
        }
        let types = self.fused.primitive.writes();
        for ((i, tensor), &result) in together.iter().enumerate().zip(&self.results) {
            let same = Accuracy::Bits.compare(types[i].dtype, tensor, &tensors[result]);
            same.map_err(|what| format!("result {i}: {what} as in separate launches"))?;
        }
        Ok(())
    }
}

pub(super) fn twins() -> Vec<Twin> {
    let mut twins = Vec::new();
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        for count in [1, 257, 1025] {
            chains(dtype, count, &mut twins);
        }
        for (space, over) in [
            (&[4, 257][..], &[1][..]),
            (&[129, 3], &[0]),
            (&[3, 5, 7], &[0, 2]),
            (&[2, 70_001], &[1]),
            (&[9_001, 16], &[0]),
        ] {
            twins.push(stored_and_reduced(dtype, space, over));
            twins.push(row_sum(dtype, space, over));
        }
        for sizes in [[5, 3, 7], [65, 129, 33], [130, 300, 70]] {
            twins.push(layer(dtype, sizes));
        }
    }
    twins.extend(conv::layers().into_iter().map(convolution));
    twins
}

/// `outer(inner(x, y), z)` and `outer(z, inner(x, y))`. A product under a sum must not become a
/// fused multiply-add.
fn chains(dtype: DType, count: usize, twins: &mut Vec<Twin>) {
    use Scalar::{Add, Div, Erf, Exp, Log1p, Max, Mul, Sigmoid, Square, Sub, Tanh};
    let read = |seed| Draw::new(seed).bytes(dtype, count, (0.1, 2.0));
    for inner in [Add, Sub, Mul, Div, Square, Exp, Tanh, Sigmoid, Erf] {
        for outer in [Add, Sub, Mul, Div, Max, Exp, Tanh, Log1p] {
            for turn in 0..outer.arity() {
                let mut code = Code::default();
                let inputs: Vec<_> = (0..3).map(|i| code.input(i, dtype)).collect();
                let first = code.apply(inner, &inputs[..inner.arity()]);
                let (mut operands, mut numbers) = ([first, inputs[2]], [3, 2]);
                operands[..outer.arity()].rotate_left(turn);
                numbers[..outer.arity()].rotate_left(turn);
                let y = code.apply(outer, &operands[..outer.arity()]);
                code.store(y, &[count]);
                let fused = code.sweep(&[count], vec![dense(dtype, &[count]); 3]);
                let (inner_types, outer_types) =
                    (vec![dtype; inner.arity()], vec![dtype; outer.arity()]);
                let reads = (1..4).map(read).collect();
                twins.push(Twin {
                    fused: Case::new(fused, reads, Accuracy::Exact),
                    pieces: vec![
                        (
                            apply(inner, &inner_types, count),
                            (0..inner.arity()).collect(),
                        ),
                        (
                            apply(outer, &outer_types, count),
                            numbers[..outer.arity()].to_vec(),
                        ),
                    ],
                    results: vec![4],
                });
            }
        }
    }
}

/// A tensor, over `space`, of values around 0.
fn read(dtype: DType, space: &[usize]) -> Vec<u8> {
    Draw::new(5).bytes(dtype, shape(space).count(), (-1.0, 1.0))
}

/// The square, stored, its sum and the largest operand, in one sweep or three.
fn stored_and_reduced(dtype: DType, space: &[usize], over: &[usize]) -> Twin {
    let (input, over) = (dense(dtype, space), (space, axes(over)));
    let mut all = Code::default();
    let x = all.input(0, dtype);
    let square = all.apply(Scalar::Square, &[x]);
    all.store(square, space)
        .reduce(Reduction::Sum, square, over)
        .reduce(Reduction::Max, x, over);
    let mut stored = Code::default();
    let x = stored.input(0, dtype);
    let square = stored.apply(Scalar::Square, &[x]);
    stored.store(square, space);
    let reduced = |reduction| {
        let mut code = Code::default();
        let x = code.input(0, dtype);
        code.reduce(reduction, x, over);
        code.sweep(space, vec![input.clone()])
    };
    Twin {
        pieces: vec![
            (stored.sweep(space, vec![input.clone()]), vec![0]),
            (reduced(Reduction::Sum), vec![1]),
            (reduced(Reduction::Max), vec![0]),
        ],
        fused: Case::new(
            all.sweep(space, vec![input.clone()]),
            vec![read(dtype, space)],
            Accuracy::Exact,
        ),
        results: vec![1, 2, 3],
    }
}

/// A row sum, by rows or by a sweep.
fn row_sum(dtype: DType, space: &[usize], over: &[usize]) -> Twin {
    let (input, axes) = (dense(dtype, space), axes(over));
    let mut rows = Code::default();
    let x = rows.input(0, dtype);
    let sum = rows.row(Reduction::Sum, x);
    rows.store(sum, shape(space).without(axes).sizes());
    let mut sweep = Code::default();
    let x = sweep.input(0, dtype);
    sweep.reduce(Reduction::Sum, x, (space, axes));
    Twin {
        fused: Case::new(
            rows.rows(space, axes, vec![input.clone()]),
            vec![read(dtype, space)],
            Accuracy::Exact,
        ),
        pieces: vec![(sweep.sweep(space, vec![input]), vec![0])],
        results: vec![1],
    }
}

/// `tanh(x w + b)`, in one launch or two. Sixteen-bit sums are rounded in between, in both.
fn layer(dtype: DType, sizes: [usize; 3]) -> Twin {
    let product = Product {
        dtype,
        batch: &[],
        sizes,
    };
    let result = product.result();
    let bias = seen(dtype, &[sizes[2]], |v| v.broadcast(shape(&result)));
    let mut code = Code::default();
    let sum = code.input(0, dtype.accumulator());
    let sum = if dtype == dtype.accumulator() {
        sum
    } else {
        code.cast(sum, dtype)
    };
    let b = code.input(1, dtype);
    let y = code.apply(Scalar::Add, &[sum, b]);
    let y = code.apply(Scalar::Tanh, &[y]);
    code.store(y, &result);
    let (left, right) = product.dense();
    let fused = case(product.with(left, right, code.body(vec![bias.clone()])), 9);
    let mut code = Code::default();
    let (x, b) = (code.input(0, dtype), code.input(1, dtype));
    let y = code.apply(Scalar::Add, &[x, b]);
    let y = code.apply(Scalar::Tanh, &[y]);
    code.store(y, &result);
    let (left, right) = product.dense();
    Twin {
        fused,
        pieces: vec![
            (Primitive::MatMul(product.of(left, right)), vec![0, 1]),
            (
                code.sweep(&result, vec![dense(dtype, &result), bias]),
                vec![3, 2],
            ),
        ],
        results: vec![4],
    }
}

/// `relu(conv + b)`, in one launch or two.
fn convolution(layer: Layer) -> Twin {
    let mut code = Code::default();
    let (x, b) = (code.input(0, layer.dtype), code.input(1, layer.dtype));
    let y = code.apply(Scalar::Add, &[x, b]);
    let y = code.apply(Scalar::Relu, &[y]);
    code.store(y, &layer.result);
    let inputs = vec![dense(layer.dtype, &layer.result), layer.bias];
    Twin {
        fused: layer.fused,
        pieces: vec![
            (layer.plain, vec![0, 1]),
            (code.sweep(&layer.result, inputs), vec![3, 2]),
        ],
        results: vec![4],
    }
}
