//! Whole training steps with one thread and with all of them. Criterion's "elements" are
//! floating-point operations of the matrix products.
#![allow(missing_docs, reason = "criterion writes the entry point")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use backprop::Cpu;
use backprop_benches::Mlp;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn steps(criterion: &mut Criterion) {
    for mlp in Mlp::all() {
        let mut group = criterion.benchmark_group(mlp.name);
        group.sample_size(10);
        let all = Cpu::new().unwrap().threads();
        for threads in [1, all] {
            let cpu = Cpu::builder().threads(threads).build().unwrap();
            let mut step = mlp.compile(cpu).unwrap();
            group.throughput(Throughput::Elements(step.flops));
            group.bench_function(format!("{threads} threads"), |bencher| {
                bencher.iter(|| step.session.step().unwrap());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
