//! Matrix products: plain ones of every kind of operand, and fused ones.

use backprop_core::{
    Body, DType, MatMul, Operand, Primitive, Reduction, Register, Scalar, Shape, Source, View,
};

use super::accuracy::Accuracy;
use super::code::{Code, axes, dense, seen, shape, tensor};
use super::rig::Case;
use crate::draw::Draw;

/// Rows, inner size, columns: single ones, odd ones, just past register tiles and blocks, thin ones
/// in all directions, and enough for several threads.
const SIZES: [[usize; 3]; 15] = [
    [1, 1, 1],
    [1, 7, 1],
    [5, 3, 2],
    [13, 17, 11],
    [16, 16, 16],
    [65, 129, 33],
    [1, 257, 10],
    [257, 1, 9],
    [3, 1025, 1],
    [1, 5, 1025],
    [7, 4099, 3],
    [33, 65, 130],
    [97, 300, 49],
    [128, 128, 128],
    [210, 190, 230],
];

/// A product under construction: `batch x [m, k]` by `batch x [k, n]`.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) dtype: DType,
    pub(super) batch: &'a [usize],
    pub(super) sizes: [usize; 3],
}

impl Product<'_> {
    pub(super) fn left(&self) -> Vec<usize> {
        [self.batch, &self.sizes[..2]].concat()
    }

    pub(super) fn right(&self) -> Vec<usize> {
        [self.batch, &self.sizes[1..]].concat()
    }

    pub(super) fn result(&self) -> Vec<usize> {
        [self.batch, &[self.sizes[0], self.sizes[2]]].concat()
    }

    /// The plain product of these operands, as a tensor of their type.
    pub(super) fn of(&self, left: Source, right: Source) -> MatMul {
        let accumulator = self.dtype.accumulator();
        self.with(
            left,
            right,
            Body::store_rounded(accumulator, tensor(self.dtype, &self.result())),
        )
    }

    pub(super) fn with(&self, left: Source, right: Source, epilogue: Body) -> MatMul {
        let [m, k, n] = self.sizes;
        MatMul {
            batch: shape(self.batch),
            m,
            k,
            n,
            left: Operand::plain(left),
            right: Operand::plain(right),
            accumulator: self.dtype.accumulator(),
            space: shape(&self.result()),
            epilogue,
        }
    }

    /// Operands in order.
    pub(super) fn dense(&self) -> (Source, Source) {
        (
            dense(self.dtype, &self.left()),
            dense(self.dtype, &self.right()),
        )
    }
}

pub(super) fn case(spec: MatMul, seed: u64) -> Case {
    let mut draw = Draw::new(seed);
    let terms = spec.k + 2;
    let spec = Primitive::MatMul(spec);
    let bytes = |t: &&backprop_core::TensorType| {
        draw.bytes(
            t.dtype,
            t.shape.count(),
            if t.dtype == DType::U8 {
                (0.0, 3.0)
            } else {
                (-2.0, 2.0)
            },
        )
    };
    let reads = spec.reads().iter().map(bytes).collect();
    Case::new(spec, reads, Accuracy::Sum { terms, scale: 4.0 })
}

pub(super) fn plain() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::Bool) {
        let main = matches!(dtype, DType::F32 | DType::F64);
        let sizes = if main { &SIZES[..] } else { &SIZES[..8] };
        for (seed, &sizes) in sizes.iter().enumerate() {
            let product = Product {
                dtype,
                batch: &[],
                sizes,
            };
            // Large ones take the reference long: both in order, and both transposed.
            let large = sizes.iter().product::<usize>() > 1 << 20;
            for (left, right) in orders(&product)
                .into_iter()
                .step_by(1 + 2 * usize::from(large))
            {
                cases.push(case(product.of(left, right), seed as u64));
            }
        }
        cases.extend(batched(dtype));
        cases.extend(viewed(dtype));
    }
    cases
}

/// Operands as they are and transposed in memory.
fn orders(product: &Product<'_>) -> [(Source, Source); 4] {
    let [m, k, n] = product.sizes;
    let transposed =
        |rows: usize, columns: usize| seen(product.dtype, &[columns, rows], |v| v.permute(&[1, 0]));
    let (left, right) = product.dense();
    [
        (left.clone(), right.clone()),
        (transposed(m, k), right.clone()),
        (left, transposed(k, n)),
        (transposed(m, k), transposed(k, n)),
    ]
}

/// Batches: in order, with one side shared, with the batch inside of the matrix, with several axes.
fn batched(dtype: DType) -> Vec<Case> {
    let sizes = [9, 21, 18];
    let [m, k, n] = sizes;
    let three = Product {
        dtype,
        batch: &[3],
        sizes,
    };
    let (left, right) = three.dense();
    let shared = |rows: usize, columns: usize| {
        seen(dtype, &[rows, columns], |v| {
            v.broadcast(shape(&[3, rows, columns]))
        })
    };
    let inside = seen(dtype, &[m, 3, k], |v| v.permute(&[1, 0, 2]));
    let turned = seen(dtype, &[3, n, k], |v| v.permute(&[0, 2, 1]));
    let six = Product {
        batch: &[2, 3],
        ..three
    };
    let once = Product {
        batch: &[1],
        ..three
    };
    let first = seen(dtype, &[2, 1, m, k], |v| v.broadcast(shape(&[2, 3, m, k])));
    let second = seen(dtype, &[3, k, n], |v| v.broadcast(shape(&[2, 3, k, n])));
    let specs = [
        three.of(left.clone(), right.clone()),
        three.of(shared(m, k), right.clone()),
        three.of(left.clone(), shared(k, n)),
        three.of(inside, right),
        three.of(left, turned),
        six.of(first, second),
        once.of(once.dense().0, once.dense().1),
    ];
    (0..)
        .zip(specs)
        .map(|(seed, spec)| case(spec, 100 + seed))
        .collect()
}

/// Operands cut out of larger matrices, backwards, with gaps, and repeated.
fn viewed(dtype: DType) -> Vec<Case> {
    let product = Product {
        dtype,
        batch: &[],
        sizes: [12, 35, 19],
    };
    let (left, right) = product.dense();
    let (rows, columns) = (shape(&[12, 35]), shape(&[35, 19]));
    let cut = seen(dtype, &[15, 40], |v| v.slice(&[2, 3], &[1, 1], rows));
    let backwards = seen(dtype, &[12, 35], |v| v.slice(&[11, 34], &[-1, -1], rows));
    let gaps = seen(dtype, &[35, 38], |v| v.slice(&[0, 0], &[1, 2], columns));
    let apart = seen(dtype, &[70, 19], |v| v.slice(&[69, 0], &[-2, 1], columns));
    let repeated = seen(dtype, &[19], |v| v.broadcast(columns));
    let single = Source {
        tensor: tensor(dtype, &[1]),
        view: View::splat(rows),
    };
    let specs = [
        product.of(cut, right.clone()),
        product.of(backwards, right.clone()),
        product.of(left.clone(), gaps),
        product.of(left.clone(), apart),
        product.of(left, repeated),
        product.of(single, right),
    ];
    (0..)
        .zip(specs)
        .map(|(seed, spec)| case(spec, 200 + seed))
        .collect()
}

/// What is done with the sums of a fused product.
struct Epilogue<'a> {
    product: Product<'a>,
    code: Code,
    inputs: Vec<Source>,
    sum: Register,
}

impl<'a> Epilogue<'a> {
    fn new(product: Product<'a>) -> Epilogue<'a> {
        let mut code = Code::default();
        let sum = code.input(0, product.dtype.accumulator());
        Epilogue {
            product,
            code,
            inputs: Vec::new(),
            sum,
        }
    }

    /// A further input, as numbers of the accumulator's type.
    fn input(&mut self, source: Source) -> Register {
        let dtype = source.tensor.dtype;
        self.inputs.push(source);
        let x = self.code.input(self.inputs.len(), dtype);
        self.wide(x)
    }

    fn wide(&mut self, x: Register) -> Register {
        let (dtype, accumulator) = (self.product.dtype, self.product.dtype.accumulator());
        if dtype == accumulator {
            x
        } else {
            self.code.cast(x, accumulator)
        }
    }

    fn store(&mut self, x: Register) {
        let (dtype, sizes) = (self.product.dtype, self.product.result());
        let x = if dtype == dtype.accumulator() {
            x
        } else {
            self.code.cast(x, dtype)
        };
        self.code.store(x, &sizes);
    }

    fn full(&self) -> Source {
        dense(self.product.dtype, &self.product.result())
    }

    fn columns(&self) -> Source {
        let space = shape(&self.product.result());
        seen(self.product.dtype, &[self.product.sizes[2]], |v| {
            v.broadcast(space)
        })
    }

    fn spec(self) -> MatMul {
        let (left, right) = self.product.dense();
        let body = self.code.body(self.inputs);
        self.product.with(left, right, body)
    }
}

/// `relu(x w + b)`: a layer.
fn layer(product: Product<'_>) -> MatMul {
    let mut e = Epilogue::new(product);
    let columns = e.columns();
    let bias = e.input(columns);
    let y = e.code.apply(Scalar::Add, &[e.sum, bias]);
    let y = e.code.apply(Scalar::Relu, &[y]);
    e.store(y);
    e.spec()
}

/// `r + x w`, which may take the place of `r`; and its sign.
fn residual(product: Product<'_>) -> MatMul {
    let mut e = Epilogue::new(product);
    let full = e.full();
    let before = e.input(full);
    let y = e.code.apply(Scalar::Add, &[before, e.sum]);
    let zero = e.code.constant(0.5, product.dtype.accumulator());
    let above = e.code.apply(Scalar::Gt, &[e.sum, zero]);
    e.store(y);
    e.code.store(above, &product.result());
    e.spec()
}

/// `w - 0.1 x^T g` in the place of `w`, and the sums of its columns.
fn update(product: Product<'_>) -> MatMul {
    let accumulator = product.dtype.accumulator();
    let mut e = Epilogue::new(product);
    let full = e.full();
    let w = e.input(full);
    let rate = e.code.constant(0.125, accumulator);
    let change = e.code.apply(Scalar::Mul, &[e.sum, rate]);
    let y = e.code.apply(Scalar::Sub, &[w, change]);
    e.store(y);
    let rows = axes(&[product.batch.len()]);
    let result = product.result();
    e.code.reduce(Reduction::Sum, e.sum, (&result, rows));
    e.spec()
}

/// `w + x^T g` in the place of `w`, whose old value is kept elsewhere.
fn keeping(product: Product<'_>) -> MatMul {
    let mut e = Epilogue::new(product);
    let full = e.full();
    let w = e.input(full);
    let y = e.code.apply(Scalar::Add, &[w, e.sum]);
    e.store(y);
    // As it was read, before it became a number of the accumulator's type.
    e.code.store(Register(1), &product.result());
    e.spec()
}

/// A layer whose left operand is `relu` of a tensor less its row's mean.
fn with_prologue(product: Product<'_>) -> MatMul {
    let dtype = product.dtype;
    let mut spec = layer(product);
    let mut code = Code::default();
    let (x, mean) = (code.input(0, dtype), code.input(1, dtype));
    let centred = code.apply(Scalar::Sub, &[x, mean]);
    code.apply(Scalar::Relu, &[centred]);
    let (rows, space) = (product.sizes[0], shape(&product.left()));
    spec.left
        .inputs
        .push(seen(dtype, &[rows, 1], |v| v.broadcast(space)));
    spec.left.program = code.program();
    spec
}

/// The same results for a space of other axes: rows and columns in one.
fn flat(product: Product<'_>) -> MatMul {
    let mut e = Epilogue::new(product);
    let full = e.full();
    let other = e.input(full);
    let y = e.code.apply(Scalar::Max, &[e.sum, other]);
    e.store(y);
    let mut spec = e.spec();
    let space: Shape = [spec.space.count()].into_iter().collect();
    spec.space = space;
    for input in &mut spec.epilogue.inputs {
        input.view = View::dense(space);
    }
    spec
}

/// Products with prologues, epilogues, several results. Optional.
pub(super) fn fused() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        for (batch, sizes) in [
            (&[][..], [1, 1, 1]),
            (&[], [5, 3, 7]),
            (&[], [65, 129, 33]),
            (&[], [1, 257, 10]),
            (&[], [257, 64, 10]),
            (&[], [90, 150, 100]),
            (&[3], [9, 21, 18]),
        ] {
            let product = Product {
                dtype,
                batch,
                sizes,
            };
            // The epilogue's input comes after the two operands.
            let over_input = [(0, 2)];
            cases.push(case(layer(product), 1));
            cases.push(case(residual(product), 2));
            cases.push(case(residual(product), 2).in_place(&over_input));
            cases.push(case(update(product), 3).in_place(&over_input));
            cases.push(case(keeping(product), 6).in_place(&over_input));
            cases.push(case(with_prologue(product), 4));
            cases.push(case(flat(product), 5));
        }
    }
    cases
}
