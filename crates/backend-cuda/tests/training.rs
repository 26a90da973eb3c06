//! A whole training step on the device, recorded and replayed, beside the processor's.

mod emulator;
mod gpu;

use backprop_core::{Backend, DType};
use backprop_cpu::Cpu;
use backprop_graph::optim::{self, AdamW};
use backprop_graph::{CrossEntropy, Graph, Init, Session};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Pictures of 8 x 8 in ten classes.
const EXAMPLES: usize = 32;

/// Something to learn: each class has its own bright pixels.
fn examples(round: usize) -> (Vec<f32>, Vec<i32>) {
    let labels: Vec<i32> = (0..EXAMPLES).map(|i| (i * 7 + round) as i32 % 10).collect();
    let pixel = |i: usize| {
        let (example, pixel) = (i / 64, i % 64);
        let bright = (pixel + labels[example] as usize) % 10 < 3;
        f32::from(u8::from(bright)) + ((i * 37 + round * 11) % 17) as f32 / 50.0
    };
    ((0..EXAMPLES * 64).map(pixel).collect(), labels)
}

/// Losses of some steps of a network with two layers. The rate falls with the steps, which a
/// recording must not freeze.
fn losses<B: Backend>(backend: B, steps: usize) -> Result<Vec<f64>, Box<dyn std::error::Error>> {
    let g = Graph::new();
    let x = g.input("x", [EXAMPLES, 64], DType::F32);
    let labels = g.input("labels", [EXAMPLES], DType::I32);
    let w1 = g.parameter("w1", [64, 48], DType::F32, Init::Kaiming);
    let b1 = g.parameter("b1", [48], DType::F32, Init::Zeros);
    let w2 = g.parameter("w2", [48, 10], DType::F32, Init::Kaiming);
    let b2 = g.parameter("b2", [10], DType::F32, Init::Zeros);
    let hidden = (x.matmul(w1) + b1).relu();
    let loss = (hidden.matmul(w2) + b2).cross_entropy(labels, CrossEntropy::default());
    let parameters = [w1, b1, w2, b2];
    let grads = g.grad(loss, &parameters)?;
    let rate = optim::Rate::cosine(2e-2, 2, steps);
    let rule = AdamW {
        lr: rate,
        ..AdamW::default()
    };
    let updates = optim::adamw(&g, &parameters, &grads, rule);
    let (x, labels, loss) = (x.key(), labels.key(), loss.key());
    let mut session = Session::compile(&g, backend, &[loss], updates)?;
    let mut losses = Vec::new();
    for step in 0..steps {
        let (pictures, classes) = examples(step);
        session.feed(x, &pictures)?.feed(labels, &classes)?.step()?;
        losses.push(session.scalar(loss)?);
    }
    Ok(losses)
}

#[test]
fn a_step_that_is_replayed_learns_as_on_the_processor() -> Outcome {
    let Some(cuda) = gpu::device(module_path!())? else {
        return Ok(());
    };
    let expected = losses(Cpu::new()?, 40)?;
    let got = losses(cuda.clone(), 40)?;
    for (step, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let near = (got - expected).abs() <= 1e-3 * expected.abs() + 1e-5;
        assert!(near, "step {step}: loss {got}, not {expected}");
    }
    assert!(expected[39] < 0.2 * expected[0], "nothing was learnt");
    assert_eq!(losses(cuda, 40)?, got, "other bits in another run");
    Ok(())
}
