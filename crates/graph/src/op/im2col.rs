//! Images as matrices of patches, and back.

use std::panic::Location;

use backprop_core::{Shape, Window};

use crate::graph::{Problem, bad_attribute, bad_shape};
use crate::ir::Stride;
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// Images `[batch, channels, ..sizes]` as `[batch, channels * taps, places]`: what a window per
    /// axis sees at each place, zeros outside. `padding` positions are added at both ends.
    #[track_caller]
    #[must_use]
    pub fn im2col(self, windows: impl AsRef<[Window]>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "im2col");
        self.graph.compose(name, &[self], place, || {
            let patches = Patches::new(name, self.shape(), windows.as_ref())?;
            let low = patches.each(0, |window| window.padding);
            let padded = self.pad(&low, &low, 0.0);
            let pieces: Vec<Tensor<'g>> = patches
                .taps()
                .map(|tap| padded.slice_by(&tap, patches.places))
                .collect();
            let [batch, channels] = [0, 1].map(|axis| self.shape().size(axis));
            if pieces.is_empty() {
                return Err(bad_shape(name, "no taps"));
            }
            let columns = [batch, channels * pieces.len(), patches.count()];
            let stacked = self.graph.stack(&pieces, 2);
            Ok(stacked.reshape_to(columns.into_iter().collect()))
        })
    }

    /// The transpose of [`im2col`](Tensor::im2col): columns `[batch, channels * taps, places]`, each
    /// added up where its window stands in images of `sizes`.
    #[track_caller]
    #[must_use]
    pub fn col2im(self, sizes: impl AsRef<[usize]>, windows: impl AsRef<[Window]>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "col2im");
        self.graph.compose(name, &[self], place, || {
            let (sizes, windows) = (sizes.as_ref(), windows.as_ref());
            let taps: usize = windows.iter().map(|window| window.size).product();
            let shape = self.shape();
            let &[batch, rows, count] = shape.sizes() else {
                return Err(bad_shape(
                    name,
                    format!("{shape} is not [batch, rows, places]"),
                ));
            };
            if taps == 0 || !rows.is_multiple_of(taps) {
                return Err(bad_shape(name, format!("{rows} rows of {taps} taps")));
            }
            let images = [&[batch, rows / taps], sizes].concat();
            let Some(images) = Shape::new(&images) else {
                return Err(bad_shape(name, format!("too many axes in {sizes:?}")));
            };
            let patches = Patches::new(name, images, windows)?;
            if patches.count() != count {
                let what = format!("{count} columns for {} places", patches.count());
                return Err(bad_shape(name, what));
            }
            let parts = [batch, rows / taps, taps, count];
            let columns = self.reshape_to(parts.into_iter().collect());
            let parts = patches.taps().enumerate().map(|(k, tap)| {
                let piece = columns.narrow(2, k, k + 1).reshape_to(patches.places);
                piece.pad_by(&tap, 0.0, patches.padded)
            });
            let Some(sum) = parts.reduce(|sum, part| sum + part) else {
                return Err(bad_shape(name, "no taps"));
            };
            let stride = Stride {
                start: patches.each(0, |window| window.padding).into(),
                step: vec![1; images.rank()].into(),
            };
            Ok(sum.slice_by(&stride, images))
        })
    }
}

/// Windows over the axes of images after the first two.
struct Patches<'w> {
    windows: &'w [Window],
    /// The shape of the images with their padding.
    padded: Shape,
    /// The shape of what one tap sees.
    places: Shape,
}

impl Patches<'_> {
    fn new<'w>(name: &str, images: Shape, windows: &'w [Window]) -> Result<Patches<'w>, Problem> {
        if images.rank() != windows.len() + 2 {
            let what = format!("{} windows over {images}", windows.len());
            return Err(bad_shape(name, what).help("the axes are [batch, channels, ..sizes]"));
        }
        let (mut padded, mut places) = (images, images);
        for (axis, window) in (2..).zip(windows) {
            let Window {
                size,
                stride,
                dilation,
                padding,
            } = *window;
            let wide = padding.saturating_mul(2).saturating_add(images.size(axis));
            let reach = size.saturating_sub(1).saturating_mul(dilation);
            let room = wide.checked_sub(reach.saturating_add(1));
            let Some(room) = room.filter(|_| size > 0 && stride > 0 && dilation > 0) else {
                let what = format!("{window:?} over an axis of {}", images.size(axis));
                return Err(bad_attribute(name, what));
            };
            (padded, places) = (
                padded.with(axis, wide),
                places.with(axis, room / stride + 1),
            );
        }
        Ok(Patches {
            windows,
            padded,
            places,
        })
    }

    /// A number for each axis of the images: `first` for batch and channels.
    fn each(&self, first: usize, of: impl Fn(&Window) -> usize) -> Vec<usize> {
        [first; 2]
            .into_iter()
            .chain(self.windows.iter().map(of))
            .collect()
    }

    fn count(&self) -> usize {
        self.places.filter(|axis| axis > 1).count()
    }

    /// What each tap sees of padded images.
    fn taps(&self) -> impl Iterator<Item = Stride> {
        let count: usize = self.windows.iter().map(|window| window.size).product();
        (0..count).map(|tap| {
            let mut rest = tap;
            let mut start = self.each(0, |_| 0);
            for (window, start) in self.windows.iter().zip(&mut start[2..]).rev() {
                *start = rest % window.size * window.dilation;
                rest /= window.size;
            }
            let step = self.each(1, |window| window.stride);
            Stride {
                start: start.into(),
                step: step.into_iter().map(|step| step as isize).collect(),
            }
        })
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    const TALL: Window = Window {
        size: 2,
        stride: 2,
        dilation: 1,
        padding: 1,
    };
    const WIDE: Window = Window {
        size: 2,
        stride: 1,
        dilation: 2,
        padding: 0,
    };
    entries! {
        im2col reals(&[&[2, 2, 3, 4]]) => |x| x[0].im2col([TALL, WIDE]);
        col2im reals(&[&[2, 8, 4]]) => |x| x[0].col2im([3, 4], [TALL, WIDE]);
    }
}
