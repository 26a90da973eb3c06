//! A recurrent classifier, which is a scan over a product and its elementwise gates.

use backprop::core::random::{philox_block, uniform_f64};
use backprop::nn::{Cells, Features, Layer, Linear, Lstm};
use backprop::prelude::*;

use crate::Step;

const TIMES: usize = 64;
const BATCH: usize = 32;
const CELLS: Cells = Cells {
    input: 64,
    hidden: 128,
    layers: 1,
};
const FEATURES: Features = Features {
    input: CELLS.hidden,
    output: CLASSES,
};
const CLASSES: usize = 10;

/// Builds and compiles a training step with Adam: one layer over 64 time steps of 32 sequences, 64
/// numbers each, with a state of 128; softmax cross-entropy of 10 classes from the last state.
///
/// # Errors
/// Whatever building or compiling reports.
pub fn compile(cpu: Cpu) -> Result<Step> {
    let g = Graph::with_seed(1);
    let x = g.input("x", [TIMES, BATCH, CELLS.input], F32);
    let labels = g.input("labels", [BATCH], I32);
    let lstm = Lstm::new(&g, "lstm", CELLS, F32);
    let head = Linear::new(&g, "head", FEATURES, F32);
    let states = lstm.forward(x);
    let last = states.narrow(0, TIMES - 1, TIMES).squeeze(0);
    let logits = head.forward(last);
    let loss = logits.cross_entropy(labels, CrossEntropy::default());
    let parameters = [lstm.parameters(), head.parameters()].concat();
    let gradients = g.grad(loss, &parameters)?;
    let updates = optim::adam(&g, &parameters, &gradients, Adam::default());
    let (x, labels, loss) = (x.key(), labels.key(), loss.key());
    let mut session = Session::compile(&g, cpu, &[loss], updates)?;
    let unit = |i: u64| {
        let words = philox_block(2, 0, i);
        uniform_f64(words[0], words[1]) as f32
    };
    let inputs: Vec<f32> = (0..TIMES * BATCH * CELLS.input)
        .map(|i| unit(i as u64) * 2.0 - 1.0)
        .collect();
    let targets: Vec<i32> = (0..BATCH).map(|i| (i * 7919 % CLASSES) as i32).collect();
    session.feed(x, &inputs)?.feed(labels, &targets)?;
    let gates = 4 * CELLS.hidden;
    let products = 3 * gates * (CELLS.input + CELLS.hidden) - gates * CELLS.input;
    Ok(Step {
        session,
        loss,
        flops: (2 * TIMES * BATCH * products) as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_learns_its_data() -> Result<()> {
        let mut step = compile(Cpu::new()?)?;
        step.session.step()?;
        let first = step.session.scalar(step.loss)?;
        for _ in 0..30 {
            step.session.step()?;
        }
        let last = step.session.scalar(step.loss)?;
        assert!((first - 10f64.ln()).abs() < 0.2, "{first}");
        assert!(last < 0.9 * first, "{first} to {last}");
        Ok(())
    }
}
