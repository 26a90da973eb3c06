//! Channels that become pixels, pixels that become channels, and images as columns of patches.

use std::panic::Location;

use crate::graph::{Problem, bad_shape};
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// `[.., channels * factor^2, height, width]` as `[.., channels, height * factor,
    /// width * factor]`: each block of channels becomes a square of pixels (arXiv:1609.05158).
    #[track_caller]
    #[must_use]
    pub fn pixel_shuffle(self, factor: usize) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "pixel_shuffle");
        self.graph.compose(name, &[self], place, || {
            let (batch, [channels, height, width]) = image(name, self)?;
            let square = factor.saturating_mul(factor);
            divides(name, square, channels, "channels")?;
            let blocks = [channels / square, factor, factor, height, width];
            let [tall, wide] = [height, width].map(|size| size.saturating_mul(factor));
            let pixels = [channels / square, tall, wide];
            let woven = self.rearranged(&batch, &blocks, [0, 3, 1, 4, 2]);
            Ok(woven.reshape_to([&batch[..], &pixels].concat().into_iter().collect()))
        })
    }

    /// The inverse of [`pixel_shuffle`](Tensor::pixel_shuffle).
    #[track_caller]
    #[must_use]
    pub fn pixel_unshuffle(self, factor: usize) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "pixel_unshuffle");
        self.graph.compose(name, &[self], place, || {
            let (batch, [channels, height, width]) = image(name, self)?;
            divides(name, factor, height, "rows")?;
            divides(name, factor, width, "columns")?;
            let (rows, columns) = (height / factor, width / factor);
            let blocks = [channels, rows, factor, columns, factor];
            let square = factor.saturating_mul(factor);
            let pixels = [channels.saturating_mul(square), rows, columns];
            let parted = self.rearranged(&batch, &blocks, [0, 2, 4, 1, 3]);
            Ok(parted.reshape_to([&batch[..], &pixels].concat().into_iter().collect()))
        })
    }

    /// `[batch, channels, ..]` with the channels of `groups` neighbouring groups interleaved: the
    /// first of each, then the second of each (arXiv:1707.01083).
    #[track_caller]
    #[must_use]
    pub fn channel_shuffle(self, groups: usize) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "channel_shuffle");
        self.graph.compose(name, &[self], place, || {
            let [batch, channels, ..] = *self.shape().sizes() else {
                let problem = bad_shape(name, format!("{} has no channels", self.shape()));
                return Err(problem.help("the axes are [batch, channels, ..]"));
            };
            divides(name, groups, channels, "channels")?;
            let each = self.shape().filter(|axis| axis > 1).count();
            let parted = [batch, groups, channels / groups, each];
            let parted = self.reshape_to(parted.into_iter().collect());
            Ok(parted.transpose(1, 2).reshape_to(self.shape()))
        })
    }

    /// Reshaped to the axes of a batch and five of a block, these in another order.
    #[track_caller]
    fn rearranged(self, batch: &[usize], blocks: &[usize; 5], order: [usize; 5]) -> Tensor<'g> {
        // A batch of several axes is one, to stay within the number of axes.
        let batch: usize = batch.iter().product();
        let sizes = [&[batch], &blocks[..]].concat();
        let order = [0].into_iter().chain(order.map(|axis| axis as i32 + 1));
        let parted = self.reshape_to(sizes.into_iter().collect());
        parted.permute(order.collect::<Vec<_>>())
    }
}

/// The sizes of the batch, and of channels, height and width.
fn image(name: &str, x: Tensor<'_>) -> Result<(Vec<usize>, [usize; 3]), Problem> {
    match x.shape().sizes() {
        [batch @ .., channels, height, width] => Ok((batch.to_vec(), [*channels, *height, *width])),
        _ => {
            let problem = bad_shape(name, format!("{} is no image", x.shape()));
            Err(problem.help("the axes are [.., channels, height, width]"))
        }
    }
}

fn divides(name: &str, part: usize, whole: usize, what: &str) -> Result<(), Problem> {
    match part > 0 && whole.is_multiple_of(part) {
        true => Ok(()),
        false => Err(bad_shape(
            name,
            format!("{whole} {what} in parts of {part}"),
        )),
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        pixel_shuffle reals(&[&[2, 8, 1, 2]]) => |x| x[0].pixel_shuffle(2);
        pixel_unshuffle reals(&[&[2, 1, 4, 2]]) => |x| x[0].pixel_unshuffle(2);
        channel_shuffle reals(&[&[2, 6, 2]]) => |x| x[0].channel_shuffle(3);
    }
}
