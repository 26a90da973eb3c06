//! A long short-term memory over 64 steps of time, and a linear layer on what it remembers.

use backprop::nn::{Features, Layer};
use backprop::prelude::*;
use backprop::{Cell, Recurrence, Recurrent};

use super::{Bound, Draft, Fill, Network, Operations, Workload};

struct Sizes {
    time: usize,
    batch: usize,
    input: usize,
    hidden: usize,
}

const FULL: Sizes = Sizes {
    time: 64,
    batch: 32,
    input: 64,
    hidden: 128,
};
const SMALL: Sizes = Sizes {
    time: 7,
    batch: 3,
    input: 6,
    hidden: 10,
};
const CLASSES: usize = 10;

pub(super) const LSTM: Workload = Workload {
    id: "W5",
    about: "LSTM of 128 over 64 steps of 64 inputs, linear, batch 32, Adam",
    operations: operations(&FULL),
    bound: Bound::Arithmetic,
    build,
};

const fn operations(sizes: &Sizes) -> Operations {
    let Sizes {
        time,
        batch,
        input,
        hidden,
    } = *sizes;
    let inputs = 2 * time * batch * input * 4 * hidden;
    let others = 2 * time * batch * hidden * 4 * hidden + 2 * batch * hidden * CLASSES;
    Operations {
        forward: (inputs + others) as u64,
        step: (2 * inputs + 3 * others) as u64,
    }
}

fn build<'g>(draft: &mut Draft<'g>) -> Result<Network<'g>> {
    let Sizes {
        time,
        batch,
        input,
        hidden,
    } = draft.sizes(FULL, SMALL);
    let x = draft.input("x", &[time, batch, input], Fill::Normal(1.0));
    let labels = draft.input("labels", &[batch], Fill::Below(CLASSES as i32));
    let weight = Fill::Normal(0.02);
    let weight_ih = draft.parameter("lstm.weight_ih", &[4 * hidden, input], weight);
    let weight_hh = draft.parameter("lstm.weight_hh", &[4 * hidden, hidden], weight);
    let bias = draft.parameter("lstm.bias", &[4 * hidden], Fill::Zeros);
    let g = draft.g;
    let layer = Recurrent {
        weight_ih: g.read(weight_ih),
        weight_hh: g.read(weight_hh),
        bias_ih: g.read(bias),
        bias_hh: g.full([4 * hidden], 0.0, draft.dtype()),
    };
    let features = Features {
        input: hidden,
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
