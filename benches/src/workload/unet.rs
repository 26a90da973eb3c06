//! A small U-Net that predicts noise, as diffusion models have them (arXiv:2006.11239).

use backprop::nn::{Conv, Features, GroupNorm, Groups, Layer, Linear};
use backprop::prelude::*;
use backprop::{Divisor, Pool, Resample};

use super::cnn::same;
use super::{Bound, Draft, Fill, Network, Operations, Workload};

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    /// Of the image.
    side: usize,
    /// Channels at its full size; twice as many where it is half as large.
    channels: usize,
    /// Width of the embedding of time.
    time: usize,
}

const FULL: Sizes = Sizes {
    batch: 32,
    side: 16,
    channels: 32,
    time: 64,
};
const SMALL: Sizes = Sizes {
    batch: 2,
    side: 4,
    channels: 8,
    time: 6,
};

pub(super) const UNET: Workload = Workload {
    id: "W8",
    about: "U-Net on 1x16x16 with one skip, group norms and an embedding of time, batch 32, AdamW",
    operations: operations(&FULL),
    bound: Bound::Arithmetic,
    build,
};

const fn operations(sizes: &Sizes) -> Operations {
    let Sizes {
        batch,
        side,
        channels: c,
        ..
    } = *sizes;
    let (full, half) = (side * side, side * side / 4);
    let first = 2 * batch * full * 9 * c;
    let others = 2 * batch * 9 * (half * c * 2 * c + full * 3 * c * c + full * c);
    Operations {
        forward: (first + others) as u64,
        step: (2 * first + 3 * others) as u64,
    }
}

/// A convolution of what is normalised first, if anything is, plus an embedding of time for each
/// channel, if there is one.
struct Block {
    norm: Option<GroupNorm>,
    conv: Conv,
    time: Option<Linear>,
}

impl Block {
    fn forward<'g>(&self, x: Tensor<'g>, time: Tensor<'g>) -> Tensor<'g> {
        let x = match &self.norm {
            Some(norm) => norm.forward(x).silu(),
            None => x,
        };
        let y = self.conv.forward(x);
        match &self.time {
            Some(linear) => y + linear.forward(time).unsqueeze(2).unsqueeze(3),
            None => y,
        }
    }
}

/// The block with this number, with its channels and those of its results. The first has no norm,
/// the last no time.
fn block(draft: &mut Draft<'_>, number: usize, [input, output]: [usize; 2]) -> Block {
    let groups = Groups {
        groups: 8,
        channels: input,
    };
    let time = Features {
        input: draft.sizes(FULL, SMALL).time,
        output,
    };
    Block {
        norm: (number > 0).then(|| draft.group_norm(&format!("norms.{number}"), groups)),
        conv: draft.conv(&format!("convs.{number}"), same(input, output)),
        time: (number < 3).then(|| draft.linear(&format!("times.{number}"), time)),
    }
}

fn build<'g>(draft: &mut Draft<'g>) -> Result<Network<'g>> {
    let Sizes {
        batch,
        side,
        channels: c,
        time,
    } = draft.sizes(FULL, SMALL);
    let image = [batch, 1, side, side];
    let x = draft.input("x", &image, Fill::Normal(1.0));
    let noise = draft.input("noise", &image, Fill::Normal(1.0));
    let time = draft.input("time", &[batch, time], Fill::Sinusoids);
    let first = block(draft, 0, [1, c]);
    let down = block(draft, 1, [c, 2 * c]);
    let up = block(draft, 2, [3 * c, c]);
    let last = block(draft, 3, [c, 1]);

    let skip = first.forward(x, time);
    let pooled = skip.avg_pool(Pool::default(), Divisor::default());
    let small = down.forward(pooled, time);
    let large = small.interpolate([side, side], Resample::Nearest);
    let joined = draft.g.concat(&[large, skip], 1);
    let output = last.forward(up.forward(joined, time), time);
    let loss = (output - noise).square().mean(..);
    let parameters = draft.parameters();
    let gradients = draft.g.grad(loss, &parameters)?;
    Ok(Network {
        output,
        loss,
        updates: optim::adamw(draft.g, &parameters, &gradients, AdamW::default()),
    })
}
