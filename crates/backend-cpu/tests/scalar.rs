//! The portable kernels from end to end.
#![allow(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use backprop_core::DType::F32;
use backprop_core::{Backend, Reference};
use backprop_cpu::{Cpu, Level};
use backprop_graph::{Convolution, Graph, Init, Pool, Session, Updates};

/// The loss and the new weights of a step of a small network: a convolution, a pool, a softmax.
fn step<B: Backend>(backend: B) -> Vec<f32> {
    let g = Graph::new();
    let uniform = || Init::Uniform {
        low: -0.5,
        high: 0.5,
    };
    let filter = g.parameter("filter", [2, 1, 3, 3], F32, uniform());
    let weight = g.parameter("weight", [18, 3], F32, uniform());
    let x = g.input("x", [2, 1, 8, 8], F32);
    let hidden = x.conv(g.read(filter), Convolution::default()).relu();
    let hidden = hidden.max_pool(Pool::default()).reshape([2, 18]);
    let loss = hidden.matmul(weight).softmax(1).square().mean(..);
    let gradients = g.grad(loss, &[filter, weight]).unwrap();
    let updates = Updates::none()
        .with(filter, g.read(filter) - gradients[0] * 0.5)
        .with(weight, g.read(weight) - gradients[1] * 0.5);
    let mut session = Session::compile(&g, backend, &[loss.key()], updates).unwrap();
    let values: Vec<f32> = (0..128).map(|i| (i as f32 * 0.37).sin()).collect();
    session.feed(x, &values).unwrap().step().unwrap();
    let mut results = session.fetch::<f32>(loss.key()).unwrap();
    for parameter in [filter, weight] {
        results.extend(session.parameter::<f32>(parameter).unwrap());
    }
    results
}

#[test]
fn a_step_is_the_same_on_one_thread_and_three_and_near_the_reference() {
    let cpu = |threads| Cpu::builder().level(Level::Scalar).threads(threads);
    let three = step(cpu(3).build().unwrap());
    let one = step(cpu(1).build().unwrap());
    assert_eq!(one, three);
    let expected = step(Reference);
    assert_eq!(one.len(), expected.len());
    for (x, y) in one.iter().zip(&expected) {
        assert!((x - y).abs() < 1e-5, "{x}, not {y}");
    }
}
