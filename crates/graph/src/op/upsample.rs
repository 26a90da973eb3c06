//! Larger images by a whole factor, as views and sums of neighbours: no index is ever computed, and
//! the vjp is of the same kind.

use std::panic::Location;

use crate::graph::{Problem, bad_attribute, bad_shape};
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// Images `[.., height, width]`, every pixel repeated `scale` times in both directions.
    #[track_caller]
    #[must_use]
    pub fn upsample_nearest2d(self, scale: usize) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "upsample_nearest2d");
        self.graph.compose(name, &[self], place, || {
            check(name, self, scale)?;
            let tall = self.repeat_interleave(scale, -2);
            Ok(tall.repeat_interleave(scale, -1))
        })
    }

    /// Images `[.., height, width]`, `scale` times as large, interpolated linearly in both
    /// directions between the centres of pixels; the border is extended.
    #[track_caller]
    #[must_use]
    pub fn upsample_bilinear2d(self, scale: usize) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "upsample_bilinear2d");
        self.graph.compose(name, &[self], place, || {
            check(name, self, scale)?;
            Ok(self.linear(scale, -2).linear(scale, -1))
        })
    }

    #[track_caller]
    fn linear(self, scale: usize, axis: i32) -> Tensor<'g> {
        let shape = self.shape();
        let at = (shape.rank() as i32 + axis) as usize;
        let size = shape.size(at);
        let ends = [self.narrow(axis, 0, 1), self.narrow(axis, size - 1, size)];
        let before = self
            .graph
            .concat(&[ends[0], self.narrow(axis, 0, size - 1)], axis);
        let after = self
            .graph
            .concat(&[self.narrow(axis, 1, size), ends[1]], axis);
        // Where, from the centre of pixel i, its piece number `phase` has its own centre.
        let offset = |phase: usize| (phase as f64 + 0.5) / scale as f64 - 0.5;
        let phase = |phase: usize| {
            let (offset, other) = match offset(phase) {
                offset if offset < 0.0 => (-offset, before),
                offset => (offset, after),
            };
            self * (1.0 - offset) + other * offset
        };
        let phases: Vec<Tensor<'g>> = (0..scale).map(phase).collect();
        let woven = self.graph.stack(&phases, at as i32 + 1);
        woven.reshape_to(shape.with(at, size * scale))
    }
}

fn check(name: &str, x: Tensor<'_>, scale: usize) -> Result<(), Problem> {
    if scale == 0 {
        return Err(bad_attribute(name, "by a factor of 0"));
    }
    match x.shape().sizes() {
        [.., height, width] if height * width > 0 => Ok(()),
        _ => Err(bad_shape(name, format!("{} is no image", x.shape()))),
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let square = || reals(&[&[2, 3, 3]]);
    entries! {
        upsample_nearest2d square() => |x| x[0].upsample_nearest2d(2);
        upsample_bilinear2d square() => |x| x[0].upsample_bilinear2d(3);
    }
}
