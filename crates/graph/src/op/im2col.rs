//! Images as matrices of patches, and back.

use std::panic::Location;

use backprop_core::Shape;

use crate::graph::{Problem, bad_shape};
use crate::op::catalogue::{Entry, entries, reals};
use crate::op::window::{PerAxis, Rounding, Windows, places, windows};
use crate::tensor::Tensor;

/// The windows through which [`im2col`](Tensor::im2col) sees an image.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Patches {
    /// The size of a window.
    pub size: PerAxis,
    /// Elements from one window to the next.
    pub stride: PerAxis,
    /// Zeros around the image, on both sides.
    pub padding: PerAxis,
    /// Elements from one tap of a window to the next.
    pub dilation: PerAxis,
}

impl Default for Patches {
    /// Every window of 3 elements an axis that lies inside.
    fn default() -> Patches {
        Patches {
            size: 3.into(),
            stride: 1.into(),
            padding: 0.into(),
            dilation: 1.into(),
        }
    }
}

impl Patches {
    /// Over axes of these sizes.
    fn over(&self, operation: &str, axes: &[usize]) -> Result<Windows, Problem> {
        let size = self.size.of(operation, "size", axes.len())?;
        let moving = [&self.stride, &self.padding, &self.dilation];
        let each = windows(operation, &size, moving)?;
        let counted = each.iter().zip(axes);
        let places = counted.map(|(window, &size)| places(operation, window, size, Rounding::Down));
        let places = places.collect::<Result<_, _>>()?;
        let axes = axes.to_vec();
        Ok(Windows { each, axes, places })
    }
}

impl<'g> Tensor<'g> {
    /// Images `[batch, channels, ..axes]` as `[batch, channels * taps, places]`: what a window sees at
    /// each of its places, a column each.
    #[track_caller]
    #[must_use]
    pub fn im2col(self, patches: Patches) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "im2col");
        self.graph.compose(name, &[self], place, || {
            let shape = self.shape();
            let [batch, channels, axes @ ..] = shape.sizes() else {
                let problem = bad_shape(name, format!("{shape} is no image"));
                return Err(problem.help("the axes are [batch, channels, ..axes]"));
            };
            let windows = patches.over(name, axes)?;
            let columns = windows.unfold(self, batch * channels, 0.0);
            let sizes = [*batch, channels * windows.taps(), windows.count()];
            Ok(columns.reshape_to(sizes.into_iter().collect()))
        })
    }

    /// The transpose of [`im2col`](Tensor::im2col): columns `[batch, channels * taps, places]`, each
    /// added up where its window stands in images with `axes`.
    #[track_caller]
    #[must_use]
    pub fn col2im(self, axes: impl AsRef<[usize]>, patches: Patches) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "col2im");
        self.graph.compose(name, &[self], place, || {
            let (axes, shape) = (axes.as_ref(), self.shape());
            let windows = patches.over(name, axes)?;
            let (taps, count) = (windows.taps(), windows.count());
            let &[batch, rows, places] = shape.sizes() else {
                return Err(unlike(shape, &windows));
            };
            if places != count || !rows.is_multiple_of(taps) {
                return Err(unlike(shape, &windows));
            }
            let channels = rows / taps;
            let Some(images) = Shape::new(&[&[batch, channels], axes].concat()) else {
                return Err(bad_shape(name, format!("too many axes in {axes:?}")));
            };
            let leading = batch * channels;
            let columns = self.reshape_to([leading, taps, count].into_iter().collect());
            Ok(windows.fold(columns, leading).reshape_to(images))
        })
    }
}

fn unlike(columns: Shape, windows: &Windows) -> Problem {
    let (taps, count) = (windows.taps(), windows.count());
    let what = format!("{columns} for {taps} taps at {count} places");
    bad_shape("col2im", what).help("the axes are [batch, channels * taps, places]")
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    fn patches() -> Patches {
        Patches {
            size: 2.into(),
            stride: [2, 1].into(),
            padding: [1, 0].into(),
            dilation: [1, 2].into(),
        }
    }
    fn tiles() -> Patches {
        Patches {
            size: [2, 3].into(),
            stride: [2, 3].into(),
            ..Default::default()
        }
    }
    entries! {
        im2col_tiles reals(&[&[2, 2, 4, 6]]) => |x| x[0].im2col(tiles());
        col2im_tiles reals(&[&[2, 12, 4]]) => |x| x[0].col2im([4, 6], tiles());
        im2col reals(&[&[2, 2, 3, 4]]) => |x| x[0].im2col(patches());
        col2im reals(&[&[2, 8, 4]]) => |x| x[0].col2im([3, 4], patches());
    }
}
