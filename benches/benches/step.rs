//! Whole training steps with one thread and with all of them. Criterion's "elements" are
//! floating-point operations of the matrix products.
#![allow(missing_docs, reason = "criterion writes the entry point")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use backprop::{Cpu, Result};
use backprop_benches::{Mlp, Step, lstm};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn steps(criterion: &mut Criterion) {
    for mlp in Mlp::all() {
        time(criterion, mlp.name, |cpu| mlp.compile(cpu));
    }
    time(criterion, "lstm", lstm::compile);
}

fn time(criterion: &mut Criterion, name: &str, compile: impl Fn(Cpu) -> Result<Step>) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10);
    let all = Cpu::new().unwrap().threads();
    for threads in [1, all] {
        let cpu = Cpu::builder().threads(threads).build().unwrap();
        let mut step = compile(cpu).unwrap();
        group.throughput(Throughput::Elements(step.flops));
        group.bench_function(format!("{threads} threads"), |bencher| {
            bencher.iter(|| step.session.step().unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
