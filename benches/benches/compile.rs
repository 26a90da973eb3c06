//! Building, differentiating and compiling a training step of a thousand to a hundred thousand nodes.
//! Criterion's "elements" are nodes: their rate should not depend on how many there are.
#![allow(missing_docs, reason = "criterion writes the entry point")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use backprop::prelude::*;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A multilayer perceptron of `layers` layers with its optimizer, compiled; the number of nodes.
fn compile(layers: usize) -> usize {
    let g = Graph::new();
    let mut parameters = Vec::new();
    let mut x = g.input("x", [4, 8], F32);
    for layer in 0..layers {
        let w = g.parameter(&format!("{layer}.weight"), [8, 8], F32, Init::Zeros);
        let b = g.parameter(&format!("{layer}.bias"), [8], F32, Init::Zeros);
        x = x + (x.layer_norm(-1, 1e-5).matmul(w) + b).gelu();
        parameters.extend([w, b]);
    }
    let loss = x.square().mean(..);
    let grads = g.grad(loss, &parameters).unwrap();
    let updates = optim::adamw(&g, &parameters, &grads, AdamW::default());
    Session::compile(&g, Cpu::new().unwrap(), &[loss.key()], updates).unwrap();
    g.len()
}

fn compiling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    for layers in [10, 100, 1000] {
        let nodes = compile(layers);
        group.throughput(Throughput::Elements(nodes as u64));
        group.bench_function(format!("{nodes} nodes"), |bencher| {
            bencher.iter(|| compile(layers));
        });
    }
    group.finish();
}

criterion_group!(benches, compiling);
criterion_main!(benches);
