//! A network of fully connected layers.

use std::num::NonZeroUsize;

use backprop::prelude::*;

use crate::support::data::Dataset;

pub(crate) const EXAMPLE: &str = "digits";
pub(crate) const EPOCHS: NonZeroUsize = NonZeroUsize::new(30).unwrap();
/// The highest learning rate.
pub(crate) const RATE: f64 = 1e-2;

const HIDDEN: [usize; 2] = [128, 64];

/// A weight and a bias for each layer.
pub(crate) struct Network(Vec<[Param; 2]>);

impl Network {
    pub(crate) fn new(g: &Graph, data: &Dataset) -> Network {
        let widths = [data.pixels(), HIDDEN[0], HIDDEN[1], data.classes];
        let layer = |(i, pair): (usize, &[usize])| {
            g.scope(&format!("layer{}", i + 1), |g| {
                let weight = g.parameter("weight", [pair[0], pair[1]], F32, Init::Kaiming);
                let bias = g.parameter("bias", [pair[1]], F32, Init::Zeros);
                [weight, bias]
            })
        };
        Network(widths.windows(2).enumerate().map(layer).collect())
    }

    pub(crate) fn parameters(&self) -> Vec<Param> {
        self.0.concat()
    }

    /// The logits of each image of `[batch, pixels]`.
    pub(crate) fn read<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let last = self.0.len() - 1;
        let layers = self.0.iter().enumerate();
        layers.fold(x, |x, (i, &[weight, bias])| {
            let y = x.matmul(weight) + bias;
            if i < last { y.relu() } else { y }
        })
    }

    /// What training does to an image before it shows it: nothing.
    pub(crate) fn vary(_: &mut [f32], _: [usize; 2], _: impl FnMut() -> u64) {}
}
