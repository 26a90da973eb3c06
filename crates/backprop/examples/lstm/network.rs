//! A long short-term memory that sees an image row after row, and a fully connected layer that names
//! the digit from what is remembered after the last one.

use std::num::NonZeroUsize;

use backprop::nn::{Cells, Features, Layer, Linear, Lstm};
use backprop::prelude::*;

use crate::support::data::Dataset;
use crate::support::shift::shift;

pub(crate) const EXAMPLE: &str = "lstm";
pub(crate) const EPOCHS: NonZeroUsize = NonZeroUsize::new(30).unwrap();
/// The highest learning rate.
pub(crate) const RATE: f64 = 1e-2;

const HIDDEN: usize = 64;

/// The parameters `lstm.weight_ih_l0` and so on, `linear.weight` and `linear.bias`.
pub(crate) struct Network {
    size: [usize; 2],
    lstm: Lstm,
    linear: Linear,
}

impl Network {
    pub(crate) fn new(g: &Graph, data: &Dataset) -> Network {
        let cells = Cells {
            input: data.size[1],
            hidden: HIDDEN,
            layers: 1,
        };
        let features = Features {
            input: HIDDEN,
            output: data.classes,
        };
        Network {
            size: data.size,
            lstm: Lstm::new(g, "lstm", cells, F32),
            linear: Linear::new(g, "linear", features, F32),
        }
    }

    pub(crate) fn parameters(&self) -> Vec<Param> {
        [self.lstm.parameters(), self.linear.parameters()].concat()
    }

    /// The logits of each image of `[batch, pixels]`.
    pub(crate) fn read<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let [rows, columns] = self.size;
        let images = x.reshape([-1, rows as isize, columns as isize]);
        // A sequence has time first: [rows, batch, columns].
        let states = self.lstm.forward(images.transpose(0, 1));
        let last = states.narrow(0, rows - 1, rows).squeeze(0);
        self.linear.forward(last)
    }

    /// What training does to an image before it shows it: it moves it by up to one pixel.
    pub(crate) fn vary(pixels: &mut [f32], size: [usize; 2], random: impl FnMut() -> u64) {
        shift(pixels, size, random);
    }
}
