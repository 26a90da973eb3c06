//! Views, coordinates, reductions, and several results of one sweep.

use backprop_core::{DType, Reduction, Scalar, Source, View};

use super::accuracy::Accuracy;
use super::code::{Code, axes, dense, seen, shape};
use super::rig::Case;
use crate::draw::{Draw, encode};

const SPACE: [usize; 3] = [3, 40, 17];

/// Tensors as they can be seen from [`SPACE`]: in order, broadcast, permuted, cut out, backwards.
fn views(dtype: DType) -> Vec<Source> {
    let space = shape(&SPACE);
    let broadcast = |sizes: &[usize]| seen(dtype, sizes, |v| v.broadcast(space));
    vec![
        dense(dtype, &SPACE),
        broadcast(&[17]),
        broadcast(&[40, 1]),
        broadcast(&[3, 1, 17]),
        broadcast(&[3, 1, 1]),
        broadcast(&[]),
        seen(dtype, &[17, 40, 3], |v| v.permute(&[2, 1, 0])),
        seen(dtype, &[3, 17, 40], |v| v.permute(&[0, 2, 1])),
        seen(dtype, &[40, 3, 17], |v| v.permute(&[1, 0, 2])),
        seen(dtype, &[4, 41, 40], |v| {
            v.slice(&[1, 0, 36], &[1, 1, -2], space)
        }),
        seen(dtype, &[5, 40, 17], |v| {
            v.slice(&[4, 39, 16], &[-2, -1, -1], space)
        }),
        seen(dtype, &[9, 40, 19], |v| {
            v.slice(&[2, 0, 1], &[3, 1, 1], space)
        }),
        // Each element is seen from several points.
        seen(dtype, &[60], |_| View {
            strides: [1, 1, 1, 0, 0, 0, 0, 0],
            ..View::splat(space)
        }),
    ]
}

fn count(source: &Source) -> usize {
    source.tensor.shape.count()
}

/// Small numbers, whole where they are to be exact in every type.
fn whole(draw: &mut Draw, dtype: DType, count: usize) -> Vec<u8> {
    let high = if dtype == DType::Bool { 2.0 } else { 9.0 };
    let numbers: Vec<f64> = (0..count)
        .map(|_| draw.between((0.0, high)).floor())
        .collect();
    encode(dtype, &numbers)
}

pub(super) fn seen_from_a_space() -> Vec<Case> {
    let mut cases = vec![eight_axes(), coordinates(), long_program(), large()];
    let mut draw = Draw::new(1);
    for dtype in DType::ALL {
        let function = if dtype == DType::Bool {
            Scalar::Or
        } else {
            Scalar::Add
        };
        for source in views(dtype) {
            let mut code = Code::default();
            let (a, b) = (code.input(0, dtype), code.input(1, dtype));
            let sum = code.apply(function, &[a, b]);
            code.store(sum, &SPACE).store(a, &SPACE);
            let reads = vec![
                whole(&mut draw, dtype, count(&source)),
                whole(&mut draw, dtype, shape(&SPACE).count()),
            ];
            let spec = code.sweep(&SPACE, vec![source, dense(dtype, &SPACE)]);
            cases.push(Case::new(spec, reads, Accuracy::Exact));
        }
    }
    cases.extend(in_place());
    cases.extend(beside());
    cases
}

/// Results beside each other along each axis, together with one of their own.
fn beside() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut draw = Draw::new(6);
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::I32] {
        for (space, axis) in [
            (&SPACE[..], 0),
            (&SPACE, 1),
            (&SPACE, 2),
            (&[6, 16], 1),
            (&[70], 0),
        ] {
            let mut code = Code::default();
            let (a, b) = (code.input(0, dtype), code.input(1, dtype));
            let [sum, product] = [Scalar::Add, Scalar::Mul].map(|f| code.apply(f, &[a, b]));
            code.concat(&[sum, a, product, sum], (space, axis));
            code.store(product, space);
            code.concat(&[b, a], (space, axis));
            let reads = vec![
                whole(&mut draw, dtype, shape(space).count()),
                whole(&mut draw, dtype, space[space.len() - 1]),
            ];
            let last = |view: View| view.broadcast(shape(space));
            let row = seen(dtype, &[space[space.len() - 1]], last);
            let spec = code.sweep(space, vec![dense(dtype, space), row]);
            cases.push(Case::new(spec, reads, Accuracy::Exact));
        }
    }
    cases.push(beside_a_sum(&mut draw));
    cases
}

/// Results beside each other, of points that are reduced too.
fn beside_a_sum(draw: &mut Draw) -> Case {
    let mut code = Code::default();
    let (a, b) = (code.input(0, DType::F32), code.input(1, DType::F32));
    let product = code.apply(Scalar::Mul, &[a, b]);
    code.concat(&[product, b], (&SPACE, 1));
    code.reduce(Reduction::Sum, product, (&SPACE, axes(&[2])));
    let reads = vec![
        whole(draw, DType::F32, shape(&SPACE).count()),
        whole(draw, DType::F32, shape(&SPACE).count()),
    ];
    let inputs = vec![dense(DType::F32, &SPACE), dense(DType::F32, &SPACE)];
    Case::new(code.sweep(&SPACE, inputs), reads, Accuracy::Exact)
}

/// Results over their operands, crossed over too.
fn in_place() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut draw = Draw::new(2);
    for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::Bool) {
        for count in [1, 257, 1025] {
            let mut code = Code::default();
            let (a, b) = (code.input(0, dtype), code.input(1, dtype));
            let (sum, product) = (
                code.apply(Scalar::Add, &[a, b]),
                code.apply(Scalar::Mul, &[a, b]),
            );
            code.store(sum, &[count]).store(product, &[count]);
            let inputs = vec![dense(dtype, &[count]), dense(dtype, &[count])];
            let spec = code.sweep(&[count], inputs);
            let reads: Vec<Vec<u8>> = (0..2).map(|_| whole(&mut draw, dtype, count)).collect();
            let case = Case::new(spec, reads, Accuracy::Exact);
            cases.push(case.clone().in_place(&[(0, 0), (1, 1)]));
            cases.push(case.clone().in_place(&[(0, 1), (1, 0)]));
            cases.push(case.in_place(&[(1, 0)]));
            cases.extend(swaps(&mut draw, dtype, count));
        }
    }
    cases
}

/// Two operands in each other's place; and one that is stored elsewhere while a sum takes its
/// place.
fn swaps(draw: &mut Draw, dtype: DType, count: usize) -> [Case; 2] {
    let inputs = || vec![dense(dtype, &[count]), dense(dtype, &[count])];
    let reads = vec![whole(draw, dtype, count), whole(draw, dtype, count)];
    let mut swap = Code::default();
    let (a, b) = (swap.input(0, dtype), swap.input(1, dtype));
    swap.store(b, &[count]).store(a, &[count]);
    let swap = swap.sweep(&[count], inputs());
    let mut kept = Code::default();
    let (a, b) = (kept.input(0, dtype), kept.input(1, dtype));
    let sum = kept.apply(Scalar::Add, &[a, b]);
    kept.store(sum, &[count]).store(a, &[count]);
    let kept = kept.sweep(&[count], inputs());
    [
        Case::new(swap, reads.clone(), Accuracy::Bits).in_place(&[(0, 0), (1, 1)]),
        Case::new(kept, reads, Accuracy::Bits).in_place(&[(0, 0)]),
    ]
}

/// As many axes as there can be, in another order.
fn eight_axes() -> Case {
    let space = [2, 1, 3, 1, 2, 2, 1, 3];
    let source = seen(DType::F32, &[3, 1, 2, 2, 1, 3, 1, 2], |v| {
        v.permute(&[7, 6, 5, 4, 3, 2, 1, 0])
    });
    let mut code = Code::default();
    let (a, b) = (code.input(0, DType::F32), code.input(1, DType::F32));
    let difference = code.apply(Scalar::Sub, &[a, b]);
    code.store(difference, &space);
    let mut draw = Draw::new(3);
    let mut reads = || draw.bytes(DType::F32, 72, (-1.0, 1.0));
    let reads = vec![reads(), reads()];
    let spec = code.sweep(&space, vec![source, dense(DType::F32, &space)]);
    Case::new(spec, reads, Accuracy::Exact)
}

/// A causal mask and one-hot rows: coordinates, labels, truth values, a choice.
fn coordinates() -> Case {
    let space = [5, 67];
    let mut code = Code::default();
    let (row, column) = (code.coordinate(0), code.coordinate(1));
    let label = code.input(0, DType::I32);
    let label = code.cast(label, DType::I64);
    let hot = code.apply(Scalar::Eq, &[label, column]);
    let causal = code.apply(Scalar::Le, &[column, row]);
    let either = code.apply(Scalar::Or, &[hot, causal]);
    let neither = code.apply(Scalar::Not, &[either]);
    let (x, low) = (code.input(1, DType::F32), code.constant(-1e30, DType::F32));
    let masked = code.apply(Scalar::Where, &[causal, x, low]);
    code.store(neither, &space)
        .store(masked, &space)
        .store(row, &space);
    let labels = seen(DType::I32, &[5, 1], |v| v.broadcast(shape(&space)));
    let mut draw = Draw::new(4);
    let reads = vec![
        draw.bytes(DType::I32, 5, (0.0, 67.0)),
        draw.bytes(DType::F32, 335, (-1.0, 1.0)),
    ];
    let spec = code.sweep(&space, vec![labels, dense(DType::F32, &space)]);
    Case::new(spec, reads, Accuracy::Exact)
}

/// More values at once than there are registers.
fn long_program() -> Case {
    let mut code = Code::default();
    let mut values = vec![code.input(0, DType::F64)];
    for i in 0..60 {
        let x = values[i / 2];
        let next = code.constant(i as f64 / 64.0, DType::F64);
        values.push(code.apply(Scalar::Mul, &[x, next]));
    }
    let first = values[0];
    let sum = values[1..]
        .iter()
        .fold(first, |sum, &x| code.apply(Scalar::Add, &[sum, x]));
    code.store(sum, &[1000]);
    let reads = vec![Draw::new(5).bytes(DType::F64, 1000, (-1.0, 1.0))];
    let spec = code.sweep(&[1000], vec![dense(DType::F64, &[1000])]);
    Case::new(spec, reads, Accuracy::Exact)
}

/// Enough for several threads, with a remainder.
fn large() -> Case {
    let (rows, columns) = (331, 1009);
    let space = [rows, columns];
    let mut code = Code::default();
    let (a, b) = (code.input(0, DType::F32), code.input(1, DType::F32));
    let product = code.apply(Scalar::Mul, &[a, b]);
    code.store(product, &space);
    let mut draw = Draw::new(6);
    let reads = vec![
        draw.bytes(DType::F32, rows * columns, (-1.0, 1.0)),
        draw.bytes(DType::F32, columns, (-1.0, 1.0)),
    ];
    let bias = seen(DType::F32, &[columns], |v| v.broadcast(shape(&space)));
    let spec = code.sweep(&space, vec![dense(DType::F32, &space), bias]);
    Case::new(spec, reads, Accuracy::Exact)
}

/// Spaces with the axes over which they are reduced.
const REDUCED: [(&[usize], &[usize]); 14] = [
    (&[], &[]),
    (&[1], &[0]),
    (&[257], &[0]),
    (&[257], &[]),
    (&[1025, 3], &[0]),
    (&[3, 1025], &[1]),
    (&[7, 5, 11], &[0]),
    (&[7, 5, 11], &[1]),
    (&[7, 5, 11], &[2]),
    (&[7, 5, 11], &[0, 2]),
    (&[7, 5, 11], &[0, 1, 2]),
    (&[2, 3, 4, 5], &[1, 3]),
    (&[64, 31], &[0]),
    (&[1, 300, 1], &[1]),
];

fn reductions_of(dtype: DType) -> &'static [Reduction] {
    match dtype {
        DType::Bool => &[Reduction::Max, Reduction::Min],
        _ => &[Reduction::Sum, Reduction::Max, Reduction::Min],
    }
}

/// One result, reduced: of a tensor, or of what is computed from several.
pub(super) fn reduced() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut draw = Draw::new(7);
    for dtype in DType::ALL {
        for &reduction in reductions_of(dtype) {
            for (space, over) in REDUCED {
                let mut code = Code::default();
                let x = code.input(0, dtype);
                code.reduce(reduction, x, (space, axes(over)));
                let spec = code.sweep(space, vec![dense(dtype, space)]);
                let count = shape(space).count();
                let mut numbers = draw.numbers(dtype, count, (-1.0, 2.0));
                if reduction != Reduction::Sum && count > 100 {
                    numbers[count / 2] = f64::NAN;
                }
                let terms = if reduction == Reduction::Sum {
                    count
                } else {
                    0
                };
                let accuracy = Accuracy::Sum { terms, scale: 2.0 };
                cases.push(Case::new(spec, vec![encode(dtype, &numbers)], accuracy));
            }
        }
    }
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::I32] {
        cases.extend(
            views(dtype)
                .into_iter()
                .map(|source| dot(&mut draw, source)),
        );
        cases.extend(large_sums(&mut draw, dtype));
    }
    cases
}

/// Sums of products of a viewed tensor with a dense one, over the outer axes.
fn dot(draw: &mut Draw, source: Source) -> Case {
    let dtype = source.tensor.dtype;
    let mut code = Code::default();
    let (a, b) = (code.input(0, dtype), code.input(1, dtype));
    let product = code.apply(Scalar::Mul, &[a, b]);
    code.reduce(Reduction::Sum, product, (&SPACE, axes(&[0, 1])));
    let reads = vec![
        draw.bytes(dtype, count(&source), (-2.0, 2.0)),
        draw.bytes(dtype, shape(&SPACE).count(), (-2.0, 2.0)),
    ];
    let spec = code.sweep(&SPACE, vec![source, dense(dtype, &SPACE)]);
    let accuracy = Accuracy::Sum {
        terms: 120,
        scale: 4.0,
    };
    Case::new(spec, reads, accuracy)
}

/// Sums that are shared between threads: of long rows, of many rows, and of all.
fn large_sums(draw: &mut Draw, dtype: DType) -> Vec<Case> {
    let shapes: [(&[usize], &[usize]); 3] = [
        (&[3, 50_001], &[1]),
        (&[10_007, 9], &[0]),
        (&[131_101], &[0]),
    ];
    let cases = shapes.map(|(space, over)| {
        let mut code = Code::default();
        let x = code.input(0, dtype);
        code.reduce(Reduction::Sum, x, (space, axes(over)));
        let count = shape(space).count();
        let reads = vec![draw.bytes(dtype, count, (-1.0, 1.0))];
        let spec = code.sweep(space, vec![dense(dtype, space)]);
        let accuracy = Accuracy::Sum {
            terms: count,
            scale: 1.0,
        };
        Case::new(spec, reads, accuracy)
    });
    cases.into()
}

/// What is reduced beside stored results: over which axes, by the first operand's sum, the
/// product's sum, and the larger one's maximum.
const BESIDE: [(&[usize], &[usize], &[usize]); 6] = [
    (&[0], &[0], &[0]),
    (&[1], &[1], &[1]),
    (&[0, 1], &[0, 1], &[0, 1]),
    (&[0], &[1], &[1]),
    (&[0, 1], &[0], &[1]),
    (&[], &[1], &[1]),
];

/// Several results of which some are reduced, over one set of axes or several. Optional.
pub(super) fn fused() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut draw = Draw::new(8);
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I64] {
        for space in [[1, 1], [5, 7], [33, 257], [1031, 3]] {
            for over in BESIDE {
                let case = stored_beside(&mut draw, (dtype, space), over);
                cases.push(case.clone());
                cases.push(case.in_place(&[(0, 1), (1, 0)]));
            }
        }
        cases.push(stored_beside(&mut draw, (dtype, [200, 401]), BESIDE[0]));
        cases.push(stored_beside(&mut draw, (dtype, [200, 401]), BESIDE[1]));
    }
    cases
}

fn stored_beside(
    draw: &mut Draw,
    (dtype, space): (DType, [usize; 2]),
    over: (&[usize], &[usize], &[usize]),
) -> Case {
    let count = space[0] * space[1];
    let mut code = Code::default();
    let (a, b) = (code.input(0, dtype), code.input(1, dtype));
    let product = code.apply(Scalar::Mul, &[a, b]);
    let larger = code.apply(Scalar::Max, &[a, b]);
    code.store(product, &space)
        .store(larger, &space)
        .reduce(Reduction::Sum, a, (&space, axes(over.0)))
        .reduce(Reduction::Sum, product, (&space, axes(over.1)))
        .reduce(Reduction::Max, larger, (&space, axes(over.2)));
    let spec = code.sweep(&space, vec![dense(dtype, &space), dense(dtype, &space)]);
    let mut read = || draw.bytes(dtype, count, (-2.0, 2.0));
    let reads = vec![read(), read()];
    let accuracy = Accuracy::Sum {
        terms: count,
        scale: 4.0,
    };
    Case::new(spec, reads, accuracy)
}
