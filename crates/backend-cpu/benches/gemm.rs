//! Matrix products beside the `matrixmultiply` crate and the machine's own ceiling.
//!
//! Criterion's "elements per second" are floating-point operations. The ceiling is a loop of fused
//! multiply-adds in registers: what no product can exceed. The yardstick has one thread.
//! `cargo bench -p backprop-cpu --bench gemm -- 128x784x512` picks a shape.
#![allow(unsafe_code, reason = "the yardstick takes pointers")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(missing_docs, reason = "criterion writes the entry point")]

mod harness;

use backprop_core::{Body, DType, MatMul, Operand, Primitive, Shape, Source, View};
use backprop_cpu::Ceiling;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use harness::{Ready, config, tensor};

/// Sizes m, k and n: layers of multilayer perceptrons, a recurrent layer and a transformer, a matrix
/// times a vector, and squares.
const SHAPES: [[usize; 3]; 11] = [
    [32, 64, 64],
    [128, 784, 512],
    [128, 512, 10],
    [256, 2048, 2048],
    [32, 128, 512],
    [768, 128, 512],
    [768, 512, 128],
    [1, 512, 512],
    [128, 128, 128],
    [512, 512, 512],
    [1024, 1024, 1024],
];

/// Which operands are stored transposed.
const TRANSPOSES: [(&str, [bool; 2]); 4] = [
    ("NN", [false, false]),
    ("NT", [false, true]),
    ("TN", [true, false]),
    ("TT", [true, true]),
];

/// A matrix that may be stored transposed.
fn operand([rows, columns]: [usize; 2], turned: bool) -> Source {
    if !turned {
        return Source::dense(tensor(&[rows, columns]));
    }
    let stored = tensor(&[columns, rows]);
    Source {
        view: View::dense(stored.shape).permute(&[1, 0]),
        tensor: stored,
    }
}

fn product([m, k, n]: [usize; 3], [left, right]: [bool; 2]) -> Primitive {
    let result = tensor(&[m, n]);
    Primitive::MatMul(MatMul {
        batch: Shape::new(&[]).unwrap(),
        m,
        k,
        n,
        left: Operand::plain(operand([m, k], left)),
        right: Operand::plain(operand([k, n], right)),
        accumulator: DType::F32,
        space: result.shape,
        epilogue: Body::store(result),
    })
}

/// The same product by `matrixmultiply`.
fn yardstick([m, k, n]: [usize; 3], turned: [bool; 2]) -> impl FnMut() {
    let (a, b, mut c) = (
        vec![1.0_f32; m * k],
        vec![1.0_f32; k * n],
        vec![0.0_f32; m * n],
    );
    let strides = |[rows, columns]: [usize; 2], turned| match turned {
        false => (columns as isize, 1),
        true => (1, rows as isize),
    };
    let (a_row, a_column) = strides([m, k], turned[0]);
    let (b_row, b_column) = strides([k, n], turned[1]);
    move || {
        let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
        // SAFETY: three matrices of these sizes and strides.
        unsafe {
            matrixmultiply::sgemm(
                m, k, n, 1.0, a, a_row, a_column, b, b_row, b_column, 0.0, c, n as isize, 1,
            );
        }
    }
}

#[allow(clippy::print_stdout, reason = "criterion prints its own there")]
fn ceiling(_: &mut Criterion) {
    for threads in [1, 2] {
        let reached = Ceiling::measure(threads).operations;
        println!("ceiling, {threads} threads: {:.1} Gelem/s", reached / 1e9);
    }
}

fn products(criterion: &mut Criterion) {
    for sizes in SHAPES {
        let [m, k, n] = sizes;
        for (name, turned) in TRANSPOSES {
            let mut group = criterion.benchmark_group(format!("{m}x{k}x{n} {name}"));
            group.throughput(Throughput::Elements((2 * m * k * n) as u64));
            for threads in [1, 2] {
                let mut ready = Ready::new(threads, &product(sizes, turned));
                let name = format!("backprop, {threads} threads");
                group.bench_function(name, |bencher| bencher.iter(|| ready.launch()));
            }
            let mut yardstick = yardstick(sizes, turned);
            group.bench_function("matrixmultiply", |bencher| bencher.iter(&mut yardstick));
        }
    }
}

criterion_group!(name = benches; config = config(); targets = ceiling, products);
criterion_main!(benches);
