//! Matrix products beside the `matrixmultiply` crate and the machine's own ceiling.
//!
//! Criterion's "elements per second" are floating-point operations. `peak` is a loop of fused
//! multiply-adds in registers: what no product can exceed. The yardstick has one thread.
//! `cargo bench -p backprop-cpu --bench gemm -- 128x784x512` picks a shape.
#![allow(
    unsafe_code,
    reason = "the yardstick takes pointers, and the ceiling needs vector instructions"
)]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(missing_docs, reason = "criterion writes the entry point")]

mod harness;

use std::hint::black_box;

use backprop_core::{Body, DType, MatMul, Operand, Primitive, Shape, Source, View};
use backprop_cpu::Level;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use harness::{Ready, config, tensor};

/// Sizes m, k and n: layers of multilayer perceptrons and a transformer, and a square.
const SHAPES: [[usize; 3]; 6] = [
    [32, 64, 64],
    [128, 784, 512],
    [128, 512, 10],
    [256, 2048, 2048],
    [768, 128, 512],
    [512, 512, 512],
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

/// Multiply-adds in registers: rounds, and what one round counts in operations.
#[cfg(target_arch = "x86_64")]
mod ceiling {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    pub(super) const ROUNDS: usize = 400_000;
    pub(super) const WIDE: usize = 12 * 16 * 2;
    pub(super) const NARROW: usize = 12 * 8 * 2;

    #[target_feature(enable = "avx512f")]
    pub(super) fn wide(factor: f32) -> f32 {
        let mut sums = black_box([_mm512_setzero_ps(); 12]);
        let factor = _mm512_set1_ps(factor);
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, factor);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn narrow(factor: f32) -> f32 {
        let mut sums = black_box([_mm256_setzero_ps(); 12]);
        let factor = _mm256_set1_ps(factor);
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, factor);
            }
        }
        sums.into_iter().map(|sum| _mm256_cvtss_f32(sum)).sum()
    }
}

#[cfg(target_arch = "x86_64")]
fn peak(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("peak");
    let wide = Level::Avx512.is_available();
    let round = if wide { ceiling::WIDE } else { ceiling::NARROW };
    if !Level::Avx2.is_available() {
        return;
    }
    for threads in [1, 2] {
        group.throughput(Throughput::Elements(
            (round * ceiling::ROUNDS * threads) as u64,
        ));
        group.bench_function(format!("{threads} threads"), |bencher| {
            let burn = || {
                let factor = black_box(0.5);
                // SAFETY: the level is available.
                black_box(unsafe {
                    if wide {
                        ceiling::wide(factor)
                    } else {
                        ceiling::narrow(factor)
                    }
                })
            };
            bencher.iter_custom(|times| {
                let start = std::time::Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| (0..times).for_each(|_| _ = burn()));
                    }
                });
                start.elapsed()
            });
        });
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn peak(_: &mut Criterion) {}

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

criterion_group!(name = benches; config = config(); targets = peak, products);
criterion_main!(benches);
