//! Matrix products against the reference, at every level of this machine.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use backprop_core::{
    Backend, Body, DType, Inst, MatMul, Operand, Primitive, Reduction, Scalar, Sink, Source, View,
};
use harness::program::{Code, reduced, shape, stored};
use harness::{check, check_in_place, levels, random_bytes, run, tensor};

/// Sizes of a product: batch, m, k and n.
#[derive(Debug, Clone)]
struct Sizes(Vec<usize>, [usize; 3]);

fn joined(batch: &[usize], matrix: [usize; 2]) -> Vec<usize> {
    [batch, &matrix].concat()
}

/// An operand stored as it is, or with its last two axes exchanged.
fn operand(dtype: DType, batch: &[usize], [rows, columns]: [usize; 2], turned: bool) -> Source {
    if !turned {
        return Source::dense(tensor(dtype, &joined(batch, [rows, columns])));
    }
    let stored = joined(batch, [columns, rows]);
    let rank = stored.len();
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(rank - 2, rank - 1);
    Source {
        tensor: tensor(dtype, &stored),
        view: View::dense(shape(&stored)).permute(&order),
    }
}

/// A product of these operands, whose epilogue stores the sums.
fn product(
    Sizes(batch, [m, k, n]): &Sizes,
    left: Source,
    right: Source,
    accumulator: DType,
) -> MatMul {
    let space = joined(batch, [*m, *n]);
    MatMul {
        batch: shape(batch),
        m: *m,
        k: *k,
        n: *n,
        left: Operand::plain(left),
        right: Operand::plain(right),
        accumulator,
        space: shape(&space),
        epilogue: Body::store(tensor(accumulator, &space)),
    }
}

/// What an epilogue makes of the sums.
fn body(code: Code, inputs: Vec<Source>, outputs: Vec<backprop_core::Output>) -> Body {
    Body {
        inputs,
        program: code.0,
        outputs,
    }
}

/// The type in which products of `dtype` are usually summed.
fn wide(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

fn reads(spec: &MatMul, interval: (f64, f64)) -> Vec<Vec<u8>> {
    let spec = Primitive::MatMul(spec.clone());
    let reads = spec.reads().into_iter().enumerate();
    reads
        .map(|(i, tensor)| random_bytes(tensor.dtype, tensor.shape.count(), interval, i as u64 + 1))
        .collect()
}

const SIZES: [(&[usize], [usize; 3]); 9] = [
    (&[], [1, 1, 1]),
    (&[], [3, 5, 7]),
    (&[], [17, 13, 33]),
    (&[], [1, 40, 37]),
    (&[], [37, 40, 1]),
    (&[], [40, 3, 70]),
    (&[2], [5, 4, 3]),
    (&[2, 3], [1, 9, 20]),
    (&[2, 1, 3], [15, 8, 18]),
];

#[test]
fn products_of_every_type_and_transpose() {
    for dtype in DType::ALL {
        let (low, high) = if dtype.is_float() {
            (-0.5, 0.5)
        } else {
            (0.0, 9.0)
        };
        for (batch, [m, k, n]) in SIZES {
            for turned in 0..4 {
                let left = operand(dtype, batch, [m, k], turned & 1 == 1);
                let right = operand(dtype, batch, [k, n], turned & 2 == 2);
                let sizes = Sizes(batch.to_vec(), [m, k, n]);
                let spec = product(&sizes, left, right, wide(dtype));
                let reads = reads(&spec, (low, high));
                check(&Primitive::MatMul(spec), &reads);
            }
        }
    }
}

#[test]
fn sums_are_rounded_to_the_result() {
    for (dtype, accumulator, result) in [
        (DType::F16, DType::F32, DType::F16),
        (DType::BF16, DType::F32, DType::BF16),
        (DType::F32, DType::F64, DType::F32),
        (DType::BF16, DType::F64, DType::BF16),
        (DType::U8, DType::I32, DType::U8),
        (DType::I32, DType::I64, DType::I32),
    ] {
        let sizes = Sizes(vec![2], [9, 31, 21]);
        let (left, right) = (
            operand(dtype, &[2], [9, 31], false),
            operand(dtype, &[2], [31, 21], true),
        );
        let mut code = Code::default();
        let sum = code.input(0, accumulator);
        let rounded = code.push(Inst::Cast(sum), result);
        let spec = MatMul {
            epilogue: body(code, Vec::new(), vec![stored(rounded, result, &[2, 9, 21])]),
            ..product(&sizes, left, right, accumulator)
        };
        let reads = reads(&spec, (-1.0, 1.0));
        check(&Primitive::MatMul(spec), &reads);
    }
}

/// Large products of every transpose, with and without an epilogue.
#[cfg(feature = "blas")]
#[test]
fn large_products_are_the_library_s() {
    let sizes = Sizes(Vec::new(), [163, 170, 167]);
    let [m, k, n] = sizes.1;
    let mut specs = Vec::new();
    for dtype in [DType::F32, DType::F64] {
        for turned in 0..4 {
            let left = operand(dtype, &[], [m, k], turned & 1 == 1);
            let right = operand(dtype, &[], [k, n], turned & 2 == 2);
            specs.push(product(&sizes, left, right, dtype));
        }
    }
    specs.extend([false, true].map(|turned| layer(&sizes, turned, false)));
    for spec in specs {
        let cpu = backprop_cpu::Cpu::builder().threads(1).build().unwrap();
        let kernel = format!("{:?}", cpu.matmul(&spec).unwrap());
        assert!(kernel.contains("Blas"), "{kernel}");
        let reads = reads(&spec, (-0.5, 0.5));
        check(&Primitive::MatMul(spec), &reads);
    }
}

/// Views that no transpose describes: slices, reversals, broadcasts.
#[test]
fn operands_are_visited_through_any_view() {
    let stored = shape(&[4, 30, 40]);
    let dense = View::dense(stored);
    let views = [
        dense.slice(&[1, 2, 3], &[1, 1, 1], shape(&[2, 11, 17])),
        dense.slice(&[0, 1, 0], &[2, 2, 2], shape(&[2, 11, 17])),
        dense.slice(&[1, 29, 39], &[1, -2, -1], shape(&[2, 11, 17])),
        View::dense(shape(&[17])).broadcast(shape(&[2, 11, 17])),
        View::dense(shape(&[11, 1])).broadcast(shape(&[2, 11, 17])),
        View::splat(shape(&[2, 11, 17])),
    ];
    let source = |view: View| Source {
        tensor: tensor(DType::F32, stored.sizes()),
        view,
    };
    for left in views {
        for right in views {
            let sizes = Sizes(vec![2], [11, 17, 11]);
            let right = source(right.permute(&[0, 2, 1]));
            let spec = product(&sizes, source(left), right, DType::F32);
            let reads = reads(&spec, (-0.3, 0.3));
            check(&Primitive::MatMul(spec), &reads);
        }
    }
}

/// A dense layer: bias, then ReLU; with the sums beside it if asked.
fn layer(sizes: &Sizes, turned: bool, with_sums: bool) -> MatMul {
    let Sizes(batch, [m, k, n]) = sizes;
    let space = joined(batch, [*m, *n]);
    let mut code = Code::default();
    let (sum, bias) = (code.input(0, DType::F32), code.input(1, DType::F32));
    let biased = code.apply(Scalar::Add, &[sum, bias]);
    let zero = code.constant(0.0, DType::F32);
    let active = code.apply(Scalar::Max, &[biased, zero]);
    let mut outputs = vec![stored(active, DType::F32, &space)];
    if with_sums {
        outputs.push(stored(sum, DType::F32, &space));
    }
    let bias = Source {
        tensor: tensor(DType::F32, &[*n]),
        view: View::dense(shape(&[*n])).broadcast(shape(&space)),
    };
    let left = operand(DType::F32, batch, [*m, *k], turned);
    let right = operand(DType::F32, &[], [*k, *n], false);
    let right = Source {
        view: right.view.broadcast(shape(&joined(batch, [*k, *n]))),
        ..right
    };
    MatMul {
        epilogue: body(code, vec![bias], outputs),
        ..product(sizes, left, right, DType::F32)
    }
}

#[test]
fn epilogues_see_whole_sums() {
    for (batch, matrix) in SIZES {
        for turned in [false, true] {
            let spec = layer(&Sizes(batch.to_vec(), matrix), turned, true);
            let reads = reads(&spec, (-0.5, 0.5));
            check(&Primitive::MatMul(spec), &reads);
        }
    }
}

#[test]
fn an_update_takes_the_place_of_a_parameter() {
    let sizes = Sizes(Vec::new(), [45, 32, 70]);
    let mut code = Code::default();
    let (gradient, old) = (code.input(0, DType::F32), code.input(1, DType::F32));
    let rate = code.constant(-0.1, DType::F32);
    let new = code.apply(Scalar::Fma, &[gradient, rate, old]);
    let weights = Source::dense(tensor(DType::F32, &[45, 70]));
    let (left, right) = (
        operand(DType::F32, &[], [45, 32], true),
        operand(DType::F32, &[], [32, 70], false),
    );
    let spec = MatMul {
        epilogue: body(
            code,
            vec![weights],
            vec![stored(new, DType::F32, &[45, 70])],
        ),
        ..product(&sizes, left, right, DType::F32)
    };
    let reads = reads(&spec, (-0.5, 0.5));
    check_in_place(&Primitive::MatMul(spec), &reads, &[(0, 2)]);
}

/// The sums have the same bits at every level, with any number of threads, fused and not, merged and not.
#[test]
fn same_bits_fused_or_not_for_any_number_of_threads() {
    for (batch, matrix) in [
        (vec![], [130, 784, 300]),
        (vec![], [33, 65, 1000]),
        (vec![], [1, 2000, 700]),
        (vec![], [700, 2000, 1]),
        (vec![], [20, 9000, 30]),
        (vec![5], [40, 60, 50]),
        (vec![3, 7], [64, 33, 64]),
    ] {
        let sizes = Sizes(batch, matrix);
        let fused = layer(&sizes, false, true);
        let unfused = MatMul {
            epilogue: Body::store(tensor(DType::F32, fused.space.sizes())),
            ..fused.clone()
        };
        let reads = reads(&fused, (-1.0, 1.0));
        let mut all = Vec::new();
        for cpu in levels().skip(1) {
            for threads in [1, 2, 3] {
                let cpu = cpu(threads);
                all.push(run(&cpu, &Primitive::MatMul(fused.clone()), &reads, &[]).remove(1));
                let unfused = Primitive::MatMul(unfused.clone());
                all.push(run(&cpu, &unfused, &reads[..2], &[]).remove(0));
            }
        }
        let odd = all.iter().position(|sums| *sums != all[0]);
        assert_eq!(odd, None, "{sizes:?}");
    }
}

#[test]
fn a_reduction_or_a_prologue_is_declined() {
    let plain = layer(&Sizes(Vec::new(), [4, 5, 6]), false, false);
    let mut code = Code::default();
    let sum = code.input(0, DType::F32);
    let columns = reduced(
        sum,
        DType::F32,
        Reduction::Sum,
        (plain.space, [0].into_iter().collect()),
    );
    assert!(matches!(columns.sink, Sink::Reduce(..)));
    let reducing = MatMul {
        epilogue: body(code, Vec::new(), vec![columns]),
        ..plain.clone()
    };
    let mut prologue = plain.clone();
    let mut code = Code::default();
    let x = code.input(0, DType::F32);
    code.apply(Scalar::Exp, &[x]);
    prologue.left.program = code.0;
    for cpu in levels() {
        let cpu = cpu(1);
        assert!(cpu.supports(&Primitive::MatMul(plain.clone())));
        for spec in [&reducing, &prologue] {
            assert!(!cpu.supports(&Primitive::MatMul(spec.clone())));
            assert!(cpu.matmul(spec).is_err());
        }
    }
}
