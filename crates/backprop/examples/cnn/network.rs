//! Three convolutions, with a pool between them, and a fully connected layer.

use std::num::NonZeroUsize;

use backprop::prelude::*;
use backprop::{Convolution, Pool};

use crate::support::data::Dataset;
use crate::support::shift::shift;

pub(crate) const EXAMPLE: &str = "cnn";
pub(crate) const EPOCHS: NonZeroUsize = NonZeroUsize::new(30).unwrap();
/// The highest learning rate.
pub(crate) const RATE: f64 = 4e-3;

const CHANNELS: [usize; 4] = [1, 16, 32, 64];

/// A filter and a bias for each convolution, a weight and a bias for the last layer.
pub(crate) struct Network {
    size: [usize; 2],
    layers: Vec<[Param; 2]>,
}

impl Network {
    pub(crate) fn new(g: &Graph, data: &Dataset) -> Network {
        let pair = |name: &str, shape: &[usize]| {
            g.scope(name, |g| {
                let weight = g.parameter("weight", shape, F32, Init::Kaiming);
                let bias = g.parameter("bias", [shape[0]], F32, Init::Zeros);
                [weight, bias]
            })
        };
        let filter = |(i, pair_of): (usize, &[usize])| {
            pair(&format!("conv{}", i + 1), &[pair_of[1], pair_of[0], 3, 3])
        };
        let mut layers: Vec<[Param; 2]> = CHANNELS.windows(2).enumerate().map(filter).collect();
        let pooled = data.size.map(|size| size / 2);
        let features = CHANNELS[3] * pooled[0] * pooled[1];
        layers.push(pair("linear", &[data.classes, features]));
        Network {
            size: data.size,
            layers,
        }
    }

    pub(crate) fn parameters(&self) -> Vec<Param> {
        self.layers.concat()
    }

    /// The logits of each image of `[batch, pixels]`.
    pub(crate) fn read<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let [rows, columns] = self.size.map(|size| size as isize);
        let conv = |x: Tensor<'g>, layer: usize| {
            let [filter, bias] = self.layers[layer];
            let how = Convolution {
                padding: 1.into(),
                ..Convolution::default()
            };
            x.conv(filter, how).bias(bias, 1).relu()
        };
        let image = x.reshape([-1, 1, rows, columns]);
        let pooled = conv(conv(image, 0), 1).max_pool(Pool::default());
        let [weight, bias] = self.layers[3];
        let weight = x.graph().read(weight);
        conv(pooled, 2).flatten_from(1).matmul(weight.t()) + bias
    }

    /// What training does to an image before it shows it: it moves it by up to one pixel.
    pub(crate) fn vary(pixels: &mut [f32], size: [usize; 2], random: impl FnMut() -> u64) {
        shift(pixels, size, random);
    }
}
