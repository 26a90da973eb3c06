//! Elementwise work alone, on more than a cache holds.

use backprop::prelude::*;

use super::{Bound, Draft, Fill, Network, Operations, Workload, dense};

const COUNT: usize = 4_194_304;
const SMALL: usize = 1009;

pub(super) const ELEMENTWISE: Workload = Workload {
    id: "W7",
    about: "y = gelu(x w + b) sigmoid(x), mean of y^2, 4,194,304 elements, SGD",
    operations: Operations {
        forward: 0,
        step: 0,
    },
    // x, w and b are read, w and b are written.
    bound: Bound::Bandwidth(5 * 4 * COUNT as u64),
    build,
};

fn build<'g>(draft: &mut Draft<'g>) -> Result<Network<'g>> {
    let shape = [draft.sizes(COUNT, SMALL)];
    let x = draft.input("x", &shape, Fill::Normal(1.0));
    let w = draft.parameter("w", &shape, Fill::Normal(1.0));
    let b = draft.parameter("b", &shape, Fill::Normal(1.0));
    let output = (x * w + b).gelu_tanh() * x.sigmoid();
    let loss = output.square().mean(..);
    dense::descent(draft, (output, loss), 0.01)
}
