//! Three convolutions with pools between them.

use backprop::nn::{Features, Filter, Layer};
use backprop::prelude::*;
use backprop::{Convolution, Pool};

use super::{Bound, Draft, Fill, Network, Operations, Workload};

struct Sizes {
    batch: usize,
    channels: [usize; 4],
    /// Of the image that each convolution sees.
    images: [usize; 3],
}

const FULL: Sizes = Sizes {
    batch: 64,
    channels: [3, 32, 64, 128],
    images: [32, 32, 16],
};
const SMALL: Sizes = Sizes {
    batch: 2,
    channels: [3, 4, 6, 8],
    images: [8, 8, 4],
};
const CLASSES: usize = 10;

pub(super) const CNN: Workload = Workload {
    id: "W4",
    about: "three 3x3 convolutions on 3x32x32, pools, linear, batch 64, SGD with momentum",
    operations: operations(&FULL),
    bound: Bound::Arithmetic,
    build,
};

const fn operations(sizes: &Sizes) -> Operations {
    let Sizes {
        batch,
        channels,
        images,
    } = *sizes;
    let mut forward = 2 * batch * channels[3] * CLASSES;
    let mut layer = 0;
    while layer < 3 {
        let taps = channels[layer] * 9 * channels[layer + 1];
        forward += 2 * batch * images[layer] * images[layer] * taps;
        layer += 1;
    }
    let first = 2 * batch * images[0] * images[0] * channels[0] * 9 * channels[1];
    Operations {
        forward: forward as u64,
        step: (3 * forward - first) as u64,
    }
}

/// A 3x3 convolution that keeps the size.
pub(super) fn same(input: usize, output: usize) -> Filter<2> {
    Filter {
        input,
        output,
        taps: [3, 3],
        how: Convolution {
            padding: 1.into(),
            ..Convolution::default()
        },
    }
}

fn build<'g>(draft: &mut Draft<'g>) -> Result<Network<'g>> {
    let Sizes {
        batch,
        channels,
        images,
    } = draft.sizes(FULL, SMALL);
    let image = [batch, channels[0], images[0], images[0]];
    let x = draft.input("x", &image, Fill::Normal(1.0));
    let labels = draft.input("labels", &[batch], Fill::Below(CLASSES as i32));
    let convs =
        [0, 1, 2].map(|i| draft.conv(&format!("convs.{i}"), same(channels[i], channels[i + 1])));
    let features = Features {
        input: channels[3],
        output: CLASSES,
    };
    let linear = draft.linear("linear", features);
    let x = convs[0].forward(x).relu();
    let x = convs[1].forward(x).relu().max_pool(Pool::default());
    let x = convs[2].forward(x).relu().max_pool(Pool::default());
    let output = linear.forward(x.mean([2, 3]));
    let loss = output.cross_entropy(labels, CrossEntropy::default());
    let parameters = draft.parameters();
    let gradients = draft.g.grad(loss, &parameters)?;
    let options = Sgd {
        lr: 0.01.into(),
        momentum: 0.9,
        ..Sgd::default()
    };
    Ok(Network {
        output,
        loss,
        updates: optim::sgd(draft.g, &parameters, &gradients, options),
    })
}
