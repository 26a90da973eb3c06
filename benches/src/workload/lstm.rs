//! A long short-term memory over 64 steps of time, and a linear layer on what it remembers.

use backprop::nn::{Features, Layer};
use backprop::prelude::*;
use backprop::{Cell, Recurrence, Recurrent};

use super::{Bound, Draft, Fill, Network, Operations, Workload};

const TIME: usize = 64;
const BATCH: usize = 32;
const INPUT: usize = 64;
const HIDDEN: usize = 128;
const CLASSES: usize = 10;

pub(super) const LSTM: Workload = Workload {
    id: "W5",
    about: "LSTM of 128 over 64 steps of 64 inputs, linear, batch 32, Adam",
    operations: operations(),
    bound: Bound::Arithmetic,
    build,
};

const fn operations() -> Operations {
    let inputs = 2 * TIME * BATCH * INPUT * 4 * HIDDEN;
    let others = 2 * TIME * BATCH * HIDDEN * 4 * HIDDEN + 2 * BATCH * HIDDEN * CLASSES;
    Operations {
        forward: (inputs + others) as u64,
        step: (2 * inputs + 3 * others) as u64,
    }
}

fn build<'g>(draft: &mut Draft<'g>) -> Result<Network<'g>> {
    let x = draft.input("x", &[TIME, BATCH, INPUT], Fill::Normal(1.0));
    let labels = draft.input("labels", &[BATCH], Fill::Below(CLASSES as i32));
    let weight = Fill::Normal(0.02);
    let weight_ih = draft.parameter("lstm.weight_ih", &[4 * HIDDEN, INPUT], weight);
    let weight_hh = draft.parameter("lstm.weight_hh", &[4 * HIDDEN, HIDDEN], weight);
    let bias = draft.parameter("lstm.bias", &[4 * HIDDEN], Fill::Zeros);
    let g = draft.g;
    let layer = Recurrent {
        weight_ih: g.read(weight_ih),
        weight_hh: g.read(weight_hh),
        bias_ih: g.read(bias),
        bias_hh: g.full([4 * HIDDEN], 0.0, F32),
    };
    let features = Features {
        input: HIDDEN,
        output: CLASSES,
    };
    let linear = draft.linear("linear", features);
    let last = layer.run(Cell::Lstm, x, Recurrence::default()).hidden;
    let output = linear.forward(last);
    let loss = output.cross_entropy(labels, CrossEntropy::default());
    let parameters = draft.parameters();
    let gradients = g.grad(loss, &parameters)?;
    Ok(Network {
        output,
        loss,
        updates: optim::adam(g, &parameters, &gradients, Adam::default()),
    })
}
