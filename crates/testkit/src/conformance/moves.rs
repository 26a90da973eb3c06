//! Copies, lookups and random numbers.

use backprop_core::{DType, Indexing, Piece, Primitive, Random, Relocate, Source, View};

use super::accuracy::Accuracy;
use super::code::{dense, seen, shape, tensor};
use super::rig::Case;
use crate::draw::{Draw, encode};

/// A copy into boxes of a tensor. Each box: where it comes from, where it starts, its steps.
fn relocate(
    output: (DType, &[usize]),
    boxes: Vec<(Source, &[usize], &[isize])>,
    fill: Option<f64>,
) -> Case {
    let (dtype, sizes) = output;
    let into = View::dense(shape(sizes));
    let pieces: Vec<Piece> = boxes
        .into_iter()
        .map(|(from, start, step)| Piece {
            into: into.slice(start, step, from.view.shape),
            from,
        })
        .collect();
    let mut draw = Draw::new(1);
    let exact = pieces.iter().all(|piece| piece.from.tensor.dtype == dtype);
    let bytes = |piece: &Piece| {
        let from = &piece.from.tensor;
        draw.bytes(from.dtype, from.shape.count(), (-1.0, 200.0))
    };
    let reads = pieces.iter().map(bytes).collect();
    let spec = Primitive::Relocate(Relocate {
        pieces,
        fill: fill.map(f64::to_bits),
        output: tensor(dtype, sizes),
    });
    Case::new(
        spec,
        reads,
        if exact {
            Accuracy::Bits
        } else {
            Accuracy::Exact
        },
    )
}

/// One box that is the whole output.
fn copy(dtype: DType, from: Source) -> Case {
    let space = from.view.shape;
    let (start, step) = (vec![0; space.rank()], vec![1; space.rank()]);
    relocate((dtype, space.sizes()), vec![(from, &start, &step)], None)
}

pub(super) fn relocations() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        for [rows, columns] in [[1, 1], [1, 7], [3, 5], [65, 33], [257, 31], [32, 64]] {
            cases.push(copy(
                dtype,
                seen(dtype, &[rows, columns], |v| v.permute(&[1, 0])),
            ));
        }
        for order in [[0, 2, 1, 3], [3, 2, 1, 0], [1, 0, 2, 3], [2, 0, 3, 1]] {
            cases.push(copy(
                dtype,
                seen(dtype, &[3, 5, 2, 17], |v| v.permute(&order)),
            ));
        }
        cases.extend(cut_out(dtype));
        cases.extend(padded(dtype));
        cases.extend(concatenated(dtype));
        for to in DType::ALL.into_iter().filter(|&to| to != dtype) {
            cases.push(copy(to, dense(dtype, &[257])));
            cases.push(copy(to, seen(dtype, &[9, 7], |v| v.permute(&[1, 0]))));
        }
    }
    cases.push(copy(DType::F32, dense(DType::F32, &[])));
    cases.push(copy(
        DType::F32,
        seen(DType::F32, &[511, 601], |v| v.permute(&[1, 0])),
    ));
    cases.push(copy(DType::U8, dense(DType::U8, &[300_001])));
    cases
}

/// Slices, steps, reversals, repetitions.
fn cut_out(dtype: DType) -> Vec<Case> {
    let of = |sizes: &[usize], start: &[usize], step: &[isize], cut: &[usize]| {
        copy(
            dtype,
            seen(dtype, sizes, |v| v.slice(start, step, shape(cut))),
        )
    };
    vec![
        of(&[10, 20], &[2, 3], &[1, 1], &[7, 13]),
        of(&[10, 20], &[1, 0], &[3, 2], &[3, 10]),
        of(&[10, 20], &[9, 19], &[-1, -1], &[10, 20]),
        of(&[10, 20], &[0, 19], &[1, -3], &[10, 7]),
        of(&[1025], &[1024], &[-1], &[1025]),
        copy(dtype, seen(dtype, &[17], |v| v.broadcast(shape(&[5, 17])))),
        copy(
            dtype,
            seen(dtype, &[5, 1], |v| v.broadcast(shape(&[5, 33]))),
        ),
    ]
}

/// One box in a larger tensor: surrounded, with gaps, backwards; and only the fill.
fn padded(dtype: DType) -> Vec<Case> {
    let source = || dense(dtype, &[4, 9]);
    let mut cases = vec![
        relocate(
            (dtype, &[6, 12]),
            vec![(source(), &[1, 2], &[1, 1])],
            Some(0.0),
        ),
        relocate(
            (dtype, &[4, 9]),
            vec![(source(), &[3, 8], &[-1, -1])],
            Some(1.0),
        ),
        relocate(
            (dtype, &[11, 30]),
            vec![(source(), &[1, 0], &[3, 2])],
            Some(1.0),
        ),
        relocate((dtype, &[300]), vec![], Some(1.0)),
    ];
    if dtype.is_float() {
        for fill in [f64::NEG_INFINITY, f64::NAN, 1.5, -0.0] {
            let boxes: Vec<(Source, &[usize], &[isize])> = vec![(source(), &[0, 3], &[1, 1])];
            let mut case = relocate((dtype, &[5, 12]), boxes, Some(fill));
            case.accuracy = Accuracy::Exact;
            cases.push(case);
        }
    }
    cases
}

/// Tensors one after the other along each axis, with gaps, and of two types.
fn concatenated(dtype: DType) -> Vec<Case> {
    let of = |sizes: &[usize]| dense(dtype, sizes);
    let step: &[isize] = &[1, 1];
    let turned = seen(dtype, &[4, 3], |v| v.permute(&[1, 0]));
    vec![
        relocate(
            (dtype, &[8, 5]),
            vec![(of(&[1, 5]), &[0, 0], step), (of(&[7, 5]), &[1, 0], step)],
            None,
        ),
        relocate(
            (dtype, &[3, 9]),
            vec![
                (of(&[3, 1]), &[0, 0], step),
                (turned, &[0, 1], step),
                (of(&[3, 4]), &[0, 5], step),
            ],
            None,
        ),
        relocate(
            (dtype, &[3, 9]),
            vec![
                (of(&[3, 2]), &[0, 7], step),
                (dense(DType::I32, &[3, 3]), &[0, 1], step),
            ],
            Some(2.0),
        ),
    ]
}

/// How many tables of how many rows of how many elements, and how many are picked.
const LOOKUPS: [[usize; 4]; 9] = [
    [1, 1, 1, 1],
    [1, 7, 1, 5],
    [1, 10, 3, 257],
    [3, 7, 5, 11],
    [2, 100, 65, 33],
    [5, 3, 1, 40],
    [1, 1000, 64, 300],
    [1, 5, 1, 10_007],
    [1, 300, 32, 6_000],
];

fn lookup([outer, rows, inner, count]: [usize; 4], dtype: DType, index: DType) -> Indexing {
    Indexing {
        table: tensor(dtype, &[outer, rows, inner]),
        indices: tensor(index, &[count]),
        picked: tensor(dtype, &[outer, count, inner]),
        outer,
        rows,
        inner,
    }
}

/// Row numbers, repeated ones among them, and some that are no row's.
fn indices(spec: &Indexing, draw: &mut Draw) -> Vec<u8> {
    let rows = spec.rows as f64;
    let mut numbers: Vec<f64> = (0..spec.count())
        .map(|_| draw.between((0.0, rows)).floor())
        .collect();
    let strange = [-1.0, rows, 2e9, -2e9];
    if numbers.len() > strange.len() {
        numbers[1..=strange.len()].copy_from_slice(&strange);
    }
    encode(spec.indices.dtype, &numbers)
}

pub(super) fn gathers() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut draw = Draw::new(2);
    for dtype in DType::ALL {
        for sizes in LOOKUPS {
            for index in [DType::I32, DType::I64] {
                let spec = lookup(sizes, dtype, index);
                let table = draw.bytes(dtype, spec.table.shape.count(), (0.0, 99.0));
                let reads = vec![table, indices(&spec, &mut draw)];
                cases.push(Case::new(Primitive::Gather(spec), reads, Accuracy::Bits));
            }
        }
    }
    cases
}

pub(super) fn scatters() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut draw = Draw::new(3);
    for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::Bool) {
        for sizes in LOOKUPS {
            for index in [DType::I32, DType::I64] {
                let spec = lookup(sizes, dtype, index);
                let picked = draw.bytes(dtype, spec.picked.shape.count(), (-2.0, 2.0));
                let accuracy = Accuracy::Sum {
                    terms: spec.count(),
                    scale: 2.0,
                };
                let reads = vec![picked, indices(&spec, &mut draw)];
                cases.push(Case::new(Primitive::ScatterAdd(spec), reads, accuracy));
            }
        }
    }
    cases
}

pub(super) fn random() -> Vec<Case> {
    let mut cases = Vec::new();
    let keys = [
        [0, 0],
        [1, 0],
        [-1, 7],
        [i64::MAX, i64::MIN],
        [1 << 33, (1 << 35) + 5],
    ];
    for dtype in [DType::F32, DType::F64] {
        for count in [1, 2, 3, 4, 5, 7, 257, 1025, 100_003] {
            for key in keys {
                let spec = Random {
                    key: tensor(DType::I64, &[2]),
                    output: tensor(dtype, &[count]),
                };
                let key = backprop_core::Element::bytes(&key).to_vec();
                cases.push(Case::new(
                    Primitive::Random(spec),
                    vec![key],
                    Accuracy::Bits,
                ));
            }
        }
    }
    cases
}
