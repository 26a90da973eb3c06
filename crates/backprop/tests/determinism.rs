//! The same bits for any number of threads, on every run, and after saving and loading.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics is a test that fails"
)]

use backprop::prelude::*;

/// A network wide enough for its matrix products, sweeps and rows to be split over threads.
fn train(threads: usize, steps: usize) -> Vec<u8> {
    let g = Graph::with_seed(3);
    let (x, labels) = (g.input("x", [192, 300], F32), g.input("labels", [192], I32));
    let sizes = [300, 257, 130, 10];
    let mut parameters = Vec::new();
    let mut h = x;
    for (i, n) in sizes.windows(2).enumerate() {
        let w = g.parameter(&format!("w{i}"), [n[0], n[1]], F32, Init::Kaiming);
        let b = g.parameter(&format!("b{i}"), [n[1]], F32, Init::Zeros);
        parameters.extend([w, b]);
        h = h.matmul(w) + b;
        h = if i < 2 {
            h.gelu().layer_norm(-1, 1e-5)
        } else {
            h
        };
    }
    let loss = h.cross_entropy(labels, CrossEntropy::default());
    let grads = g.grad(loss, &parameters).unwrap();
    let updates = optim::adamw(&g, &parameters, &grads, AdamW::default());
    let (x, labels) = (x.key(), labels.key());
    let cpu = Cpu::builder().threads(threads).build().unwrap();
    let mut session = Session::compile(&g, cpu, &[loss.key()], updates).unwrap();
    let xs: Vec<f32> = (0..192 * 300)
        .map(|i| ((i * 7919 % 1009) as f32 / 504.5) - 1.0)
        .collect();
    let ys: Vec<i32> = (0..192).map(|i| i * 13 % 10).collect();
    session.feed(x, &xs).unwrap().feed(labels, &ys).unwrap();
    for _ in 0..steps {
        session.step().unwrap();
    }
    assert!(session.scalar(loss.key()).unwrap().is_finite());
    let all = session.parameters();
    all.iter()
        .flat_map(|info| session.parameter_bytes(info.parameter).unwrap())
        .collect()
}

#[test]
fn threads_change_no_bit() {
    let one = train(1, 3);
    for threads in [1, 2, 3, 4] {
        assert!(train(threads, 3) == one, "{threads} threads");
    }
}
