//! Copies, lookups and random numbers against the reference.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use backprop_core::{
    DType, Indexing, Piece, Primitive, Random, Relocate, Source, TensorType, View,
};
use harness::program::shape;
use harness::{check, random_bytes, tensor};

fn relocate(pieces: Vec<Piece>, fill: Option<f64>, output: TensorType) -> Primitive {
    Primitive::Relocate(Relocate {
        pieces,
        fill: fill.map(f64::to_bits),
        output,
    })
}

#[test]
fn relocations() {
    for (from, to) in [
        (DType::F32, DType::F32),
        (DType::F64, DType::F64),
        (DType::BF16, DType::BF16),
        (DType::Bool, DType::Bool),
        (DType::F32, DType::F16),
        (DType::I64, DType::F32),
        (DType::F32, DType::I32),
    ] {
        let x = View::dense(shape(&[4, 37, 50]));
        for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2], [2, 0, 1]] {
            let view = x.permute(&order);
            let piece = Piece {
                from: Source {
                    tensor: tensor(from, &[4, 37, 50]),
                    view,
                },
                into: View::dense(view.shape),
            };
            let spec = relocate(vec![piece], None, TensorType::dense(to, view.shape));
            check(
                &spec,
                &[random_bytes(from, x.shape.count(), (-3.0, 9.0), 1)],
            );
        }
        // Two boxes in a frame, one of them reversed.
        let output = View::dense(shape(&[11, 300]));
        let boxed = shape(&[9, 140]);
        let piece = |start: usize, view: View| Piece {
            from: Source {
                tensor: tensor(from, &[9, 140]),
                view,
            },
            into: output.slice(&[1, start], &[1, 1], boxed),
        };
        let plain = View::dense(boxed);
        let reversed = plain.slice(&[8, 139], &[-1, -1], boxed);
        let spec = relocate(
            vec![piece(1, plain), piece(145, reversed)],
            Some(1.0),
            tensor(to, &[11, 300]),
        );
        let reads = [
            random_bytes(from, 1260, (-3.0, 9.0), 1),
            random_bytes(from, 1260, (-3.0, 9.0), 2),
        ];
        check(&spec, &reads);
    }
}

/// Short axes last, and axes along which the source stands still.
#[test]
fn repetitions() {
    for (from, to) in [
        (DType::F32, DType::F32),
        (DType::F64, DType::F64),
        (DType::BF16, DType::BF16),
        (DType::U8, DType::U8),
        (DType::F32, DType::F64),
    ] {
        for times in [1, 2, 3, 4, 5, 70] {
            for (stored, sizes) in [
                ([37, 50, 1], [37, 50, times]),
                ([37, 1, 7], [37, times, 7]),
                ([1, 3, 41], [times, 3, 41]),
                ([1500, 3, 1], [1500, 3, times]),
            ] {
                let view = View::dense(shape(&stored)).broadcast(shape(&sizes));
                let piece = Piece {
                    from: Source {
                        tensor: tensor(from, &stored),
                        view,
                    },
                    into: View::dense(shape(&sizes)),
                };
                let spec = relocate(vec![piece], None, tensor(to, &sizes));
                let x = random_bytes(from, stored.iter().product(), (-3.0, 9.0), times as u64);
                check(&spec, &[x]);
            }
        }
    }
}

#[test]
fn lookups_in_both_directions() {
    for dtype in DType::ALL {
        for index in [DType::I32, DType::I64] {
            for (outer, rows, inner, count) in [(1, 10, 1, 100), (3, 7, 5, 40), (2, 3, 300, 9)] {
                let spec = Indexing {
                    table: tensor(dtype, &[outer, rows, inner]),
                    indices: tensor(index, &[count]),
                    picked: tensor(dtype, &[outer, count, inner]),
                    outer,
                    rows,
                    inner,
                };
                // Some indices are out of range.
                let indices = random_bytes(index, count, (-2.0, rows as f64 + 1.0), 1);
                let table = random_bytes(dtype, outer * rows * inner, (0.0, 2.0), 2);
                let picked = random_bytes(dtype, outer * count * inner, (0.0, 2.0), 3);
                check(&Primitive::Gather(spec.clone()), &[table, indices.clone()]);
                check(&Primitive::ScatterAdd(spec), &[picked, indices]);
            }
        }
    }
}

#[test]
fn random_numbers_are_those_of_the_reference() {
    for dtype in [DType::F32, DType::F64] {
        for n in [1, 63, 64, 65, 20_000] {
            let spec = Random {
                key: tensor(DType::I64, &[2]),
                output: tensor(dtype, &[n]),
            };
            check(
                &Primitive::Random(spec),
                &[random_bytes(DType::I64, 2, (-1e9, 1e9), n as u64)],
            );
        }
    }
}
