//! Whole training steps with one thread and with all of them. Criterion's "elements" are
//! floating-point operations of matrix products and convolutions.
#![allow(missing_docs, reason = "criterion writes the entry point")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use backprop::Cpu;
use backprop_benches::workload::{self, SEED, Workload};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Too large to be timed beside the others.
const LEFT_OUT: &str = "W9-3163";

fn steps(criterion: &mut Criterion) {
    let all = workload::ALL.iter();
    for workload in all.filter(|workload| workload.id != LEFT_OUT) {
        time(criterion, workload);
    }
}

fn time(criterion: &mut Criterion, workload: &Workload) {
    let mut group = criterion.benchmark_group(workload.id);
    group.sample_size(10);
    group.throughput(Throughput::Elements(workload.operations.step));
    let all = Cpu::new().unwrap().threads();
    for threads in [1, all] {
        let cpu = Cpu::builder().threads(threads).build().unwrap();
        let mut training = workload.compile(cpu).unwrap();
        let fill = training.fill(|slot| Ok(slot.fill.draw(SEED, &slot.name, slot.shape)));
        fill.unwrap();
        group.bench_function(format!("{threads} threads"), |bencher| {
            bencher.iter(|| training.session.step().unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
