//! Fully connected networks, from a tiny one to one as deep and wide as memory allows.

use backprop::nn::{Features, Layer, Linear};
use backprop::prelude::*;

use super::{Bound, Draft, Fill, Network, Operations, Workload};

pub(super) const SEED_NETWORK: Workload = Workload {
    id: "W0",
    about: "2-2-1 (ReLU, sigmoid), batch 1, squared error, SGD",
    operations: chain(1, &[2, 2, 1]),
    bound: Bound::Latency,
    build: seed_network,
};

pub(super) const MLP_SMALL: Workload = Workload {
    id: "W1",
    about: "64-64-64-10, batch 32, SGD",
    operations: chain(32, &[64, 64, 64, 10]),
    bound: Bound::Arithmetic,
    build: mlp_small,
};

pub(super) const MLP: Workload = Workload {
    id: "W2",
    about: "784-512-512-10, batch 128, Adam",
    operations: chain(128, &[784, 512, 512, 10]),
    bound: Bound::Arithmetic,
    build: mlp,
};

pub(super) const MLP_WIDE: Workload = Workload {
    id: "W3",
    about: "2048-2048-2048-2048-1000, batch 256, SGD",
    operations: chain(256, &[2048, 2048, 2048, 2048, 1000]),
    bound: Bound::Arithmetic,
    build: mlp_wide,
};

pub(super) const DEEP: Workload = Workload {
    id: "W9",
    about: "100 layers of 512 x 512, batch 1, SGD",
    operations: chain(1, &[512; LAYERS + 1]),
    bound: Bound::Bandwidth(deep_bytes(512)),
    build: |draft| deep(draft, draft.sizes(512, 16)),
};

pub(super) const DEEP_HUGE: Workload = Workload {
    id: "W9-3163",
    about: "100 layers of 3163 x 3163, batch 1, SGD",
    operations: chain(1, &[3163; LAYERS + 1]),
    bound: Bound::Bandwidth(deep_bytes(3163)),
    build: |draft| deep(draft, draft.sizes(3163, 17)),
};

/// Layers of [`DEEP`].
const LAYERS: usize = 100;

/// Each weight is read twice, forward and backward, and written once.
const fn deep_bytes(width: usize) -> u64 {
    (3 * 4 * LAYERS * width * width) as u64
}

/// A product forward and two backward for each layer, but for the gradient of the data.
const fn chain(batch: usize, sizes: &[usize]) -> Operations {
    let mut forward = 0;
    let mut i = 1;
    while i < sizes.len() {
        forward += 2 * batch * sizes[i - 1] * sizes[i];
        i += 1;
    }
    let first = 2 * batch * sizes[0] * sizes[1];
    Operations {
        forward: forward as u64,
        step: (3 * forward - first) as u64,
    }
}

/// Layers `layers.0` and so on.
fn layers(draft: &mut Draft<'_>, sizes: &[usize]) -> Vec<Linear> {
    let features = sizes.windows(2).map(|pair| Features {
        input: pair[0],
        output: pair[1],
    });
    let layer = |(i, features)| draft.linear(&format!("layers.{i}"), features);
    features.enumerate().map(layer).collect()
}

/// Layers with a ReLU between them.
fn perceptron<'g>(layers: &[Linear], x: Tensor<'g>) -> Tensor<'g> {
    let mut layers = layers.iter();
    let first = layers.next().map_or(x, |layer| layer.forward(x));
    layers.fold(first, |x, layer| layer.forward(x.relu()))
}

fn seed_network<'g>(draft: &mut Draft<'g>) -> Result<Network<'g>> {
    let x = draft.input("x", &[1, 2], Fill::Normal(1.0));
    let y = draft.input("y", &[1, 1], Fill::Uniform);
    let weight = |output| (Fill::Normal(0.02), [output, 2]);
    let mut layer = |name: &str, output: usize, bias: Fill| {
        let (fill, shape) = weight(output);
        Linear {
            weight: draft.parameter(&format!("{name}.weight"), &shape, fill),
            bias: Some(draft.parameter(&format!("{name}.bias"), &[output], bias)),
        }
    };
    // The bias keeps the ReLUs alive.
    let layers = [
        layer("layers.0", 2, Fill::Constant(0.5)),
        layer("layers.1", 1, Fill::Zeros),
    ];
    let output = perceptron(&layers, x).sigmoid();
    let loss = (output - y).square().mean(..);
    descent(draft, (output, loss), 0.1)
}

fn mlp_small<'g>(draft: &mut Draft<'g>) -> Result<Network<'g>> {
    let (batch, sizes) = draft.sizes((32, [64, 64, 64, 10]), (8, [16, 16, 16, 10]));
    let (output, loss) = classifier(draft, batch, &sizes);
    descent(draft, (output, loss), 0.1)
}

fn mlp<'g>(draft: &mut Draft<'g>) -> Result<Network<'g>> {
    let (batch, sizes) = draft.sizes((128, [784, 512, 512, 10]), (9, [49, 32, 32, 10]));
    let (output, loss) = classifier(draft, batch, &sizes);
    let parameters = draft.parameters();
    let gradients = draft.g.grad(loss, &parameters)?;
    Ok(Network {
        output,
        loss,
        updates: optim::adam(draft.g, &parameters, &gradients, Adam::default()),
    })
}

fn mlp_wide<'g>(draft: &mut Draft<'g>) -> Result<Network<'g>> {
    let full = (256, [2048, 2048, 2048, 2048, 1000]);
    let (batch, sizes) = draft.sizes(full, (16, [40, 40, 40, 40, 25]));
    let (output, loss) = classifier(draft, batch, &sizes);
    descent(draft, (output, loss), 0.01)
}

/// Logits and their cross-entropy.
fn classifier<'g>(
    draft: &mut Draft<'g>,
    batch: usize,
    sizes: &[usize],
) -> (Tensor<'g>, Tensor<'g>) {
    let (width, classes) = (sizes[0], sizes[sizes.len() - 1]);
    let x = draft.input("x", &[batch, width], Fill::Normal(1.0));
    let labels = draft.input("labels", &[batch], Fill::Below(classes as i32));
    let logits = perceptron(&layers(draft, sizes), x);
    (
        logits,
        logits.cross_entropy(labels, CrossEntropy::default()),
    )
}

fn deep<'g>(draft: &mut Draft<'g>, width: usize) -> Result<Network<'g>> {
    let x = draft.input("x", &[1, width], Fill::Normal(1.0));
    let y = draft.input("y", &[1, width], Fill::Normal(1.0));
    // He's initialisation: smaller weights would underflow.
    let fill = Fill::Normal((2.0 / width as f64).sqrt());
    let mut layer = |i| Linear {
        weight: draft.parameter(&format!("layers.{i}.weight"), &[width, width], fill),
        bias: None,
    };
    let layers: Vec<Linear> = (0..LAYERS).map(&mut layer).collect();
    let output = perceptron(&layers, x);
    let loss = (output - y).square().mean(..);
    descent(draft, (output, loss), 1e-3)
}

/// Gradient descent on all parameters.
pub(super) fn descent<'g>(
    draft: &Draft<'g>,
    (output, loss): (Tensor<'g>, Tensor<'g>),
    rate: f64,
) -> Result<Network<'g>> {
    let parameters = draft.parameters();
    let gradients = draft.g.grad(loss, &parameters)?;
    let options = Sgd {
        lr: rate.into(),
        ..Sgd::default()
    };
    Ok(Network {
        output,
        loss,
        updates: optim::sgd(draft.g, &parameters, &gradients, options),
    })
}
