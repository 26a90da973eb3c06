//! Points of an image picked by a grid of coordinates.

use std::panic::Location;

use backprop_core::{DType, Shape};

use crate::graph::{Problem, bad_attribute, bad_dtype, bad_shape};
use crate::op::catalogue::{ALL, Entry, entries, within};
use crate::op::interpolate::{Align, CUBIC, Resample};
use crate::tensor::Tensor;

/// What lies outside of an image.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Outside {
    /// Zeros.
    #[default]
    Zeros,
    /// The nearest point of the border.
    Border,
    /// The image again, mirrored at the border.
    Reflect,
}

/// How [`grid_sample`](Tensor::grid_sample) finds values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GridSample {
    /// [`Resample::NearestCentre`], [`Resample::Linear`] or [`Resample::Cubic`].
    pub by: Resample,
    /// Whether -1 and 1 are the outer edges of the border points, or their centres.
    pub align: Align,
    /// What lies outside.
    pub outside: Outside,
}

impl Default for GridSample {
    /// Linear between centres, -1 and 1 at the edges, zeros outside.
    fn default() -> GridSample {
        GridSample {
            by: Resample::Linear,
            align: Align::Edges,
            outside: Outside::Zeros,
        }
    }
}

impl<'g> Tensor<'g> {
    /// The values of images `[batch, channels, ..sizes]` at the points of `grid`
    /// `[batch, ..points, n]`, as `[batch, channels, ..points]`. A point has a coordinate between -1
    /// and 1 for each of the `n` axes of an image, that of the last axis (x) first
    /// (arXiv:1506.02025). Differentiable by both.
    #[track_caller]
    #[must_use]
    pub fn grid_sample(self, grid: Tensor<'g>, how: GridSample) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "grid_sample");
        self.graph.compose(name, &[self, grid], place, || {
            check(self, grid, how)?;
            let (shape, axes) = (self.shape(), self.rank() - 2);
            let points = grid.shape().filter(|axis| axis + 1 < grid.rank());
            let (batch, channels) = (shape.size(0), shape.size(1));
            let flat = |x: Tensor<'g>| {
                let count = x.shape().filter(|axis| axis > 0).count();
                x.reshape_to([batch, 1, count].into_iter().collect())
            };
            let mut corners = vec![Corner::default()];
            for axis in 0..axes {
                let along = grid.narrow(-1, axes - 1 - axis, axes - axis);
                let size = shape.size(2 + axis);
                let taps = taps(flat(along), size, how)?;
                corners = corners
                    .iter()
                    .flat_map(|corner| taps.iter().map(|tap| corner.with(*tap, size)))
                    .collect();
            }
            let area = shape.filter(|axis| axis > 1).count();
            let images = self.reshape_to([batch, channels, area].into_iter().collect());
            let parts = corners.iter().filter_map(|corner| corner.of(images));
            let sum = parts.reduce(|sum, part| sum + part).unwrap_or(images);
            let sizes = [&[batch, channels], &points.sizes()[1..]].concat();
            Ok(sum.reshape_to(sizes.into_iter().collect()))
        })
    }
}

fn check(x: Tensor<'_>, grid: Tensor<'_>, how: GridSample) -> Result<(), Problem> {
    let (name, shape, points) = ("grid_sample", x.shape(), grid.shape());
    let axes = shape.rank().saturating_sub(2);
    let fits = axes > 0
        && points.rank() >= 2
        && points.size(0) == shape.size(0)
        && points.size(points.rank() - 1) == axes
        && (2..shape.rank()).all(|axis| shape.size(axis) > 0);
    if !fits {
        let what = format!("{shape} at the points of {points}");
        let help = "[batch, channels, ..sizes], none empty, at [batch, ..points, n]";
        return Err(bad_shape(name, what).help(help));
    }
    if x.dtype() != grid.dtype() || !x.dtype().is_float() {
        let what = format!("element types {} and {}", x.dtype(), grid.dtype());
        return Err(bad_dtype(name, what).help("convert one side with `.cast(..)`"));
    }
    if matches!(how.by, Resample::Nearest | Resample::Area) {
        let problem = bad_attribute(name, format!("by {:?}", how.by));
        return Err(problem.help("use `NearestCentre`, `Linear` or `Cubic`"));
    }
    Ok(())
}

/// One of the points of an axis that count: its index, by how much it counts (`None` for 1), and
/// whether it is inside (`None` if they all are).
#[derive(Clone, Copy)]
struct Tap<'g> {
    index: Tensor<'g>,
    weight: Option<Tensor<'g>>,
    inside: Option<Tensor<'g>>,
}

/// The taps of each coordinate along an axis of `size`.
fn taps<'g>(coordinate: Tensor<'g>, size: usize, how: GridSample) -> Result<Vec<Tap<'g>>, Problem> {
    let last = (size - 1) as f64;
    let position = match how.align {
        Align::Corners => (coordinate + 1.0) * (last / 2.0),
        Align::Edges => ((coordinate + 1.0) * size as f64 - 1.0) * 0.5,
    };
    let found = |position: Tensor<'g>, weight| Tap {
        index: position.clamp(0.0, last).cast(DType::I64),
        weight,
        inside: (how.outside == Outside::Zeros)
            .then(|| position.ge(0.0).logical_and(position.le(last))),
    };
    Ok(match how.by {
        Resample::Cubic => {
            let start = position.floor();
            let after = position - start;
            let weights = [cubic_outer(after + 1.0), cubic_inner(after)];
            let others = [cubic_inner(1.0 - after), cubic_outer(2.0 - after)];
            let each = weights.into_iter().chain(others).zip(-1..);
            each.map(|(weight, offset)| {
                let at = start.stop_gradient() + f64::from(offset);
                found(brought_inside(at, size, how), Some(weight))
            })
            .collect()
        }
        Resample::Linear => {
            let position = brought_inside(position, size, how);
            let start = position.floor();
            let after = position - start;
            let [before, next] = [start, start + 1.0].map(Tensor::stop_gradient);
            vec![found(before, Some(1.0 - after)), found(next, Some(after))]
        }
        _ => vec![found(brought_inside(position, size, how).round(), None)],
    })
}

/// A position, clamped to the border or mirrored at it, where that is what lies outside.
fn brought_inside<'g>(position: Tensor<'g>, size: usize, how: GridSample) -> Tensor<'g> {
    let last = (size - 1) as f64;
    let (low, span) = match how.align {
        Align::Corners => (0.0, last),
        Align::Edges => (-0.5, size as f64),
    };
    match how.outside {
        Outside::Zeros => position,
        Outside::Reflect if span > 0.0 => {
            let distance = (position - low).abs();
            let turns = (distance * (1.0 / span)).floor();
            let rest = distance - turns * span;
            let odd = (turns - (turns * 0.5).floor() * 2.0).gt(0.5);
            let mirrored = odd.select(span - rest, rest) + low;
            mirrored.clamp(0.0, last)
        }
        Outside::Reflect | Outside::Border => position.clamp(0.0, last),
    }
}

/// The cubic convolution kernel up to distance 1.
fn cubic_inner(x: Tensor<'_>) -> Tensor<'_> {
    (x * (CUBIC + 2.0) - (CUBIC + 3.0)) * x * x + 1.0
}

/// The cubic convolution kernel between distances 1 and 2.
fn cubic_outer(x: Tensor<'_>) -> Tensor<'_> {
    ((x - 5.0) * x + 8.0) * x * CUBIC - 4.0 * CUBIC
}

/// A tap of every axis: together, a point of the image.
#[derive(Clone, Copy, Default)]
struct Corner<'g> {
    index: Option<Tensor<'g>>,
    weight: Option<Tensor<'g>>,
    inside: Option<Tensor<'g>>,
}

impl<'g> Corner<'g> {
    /// With a tap of the next axis, of `size`.
    fn with(&self, tap: Tap<'g>, size: usize) -> Corner<'g> {
        let both = |a: Option<Tensor<'g>>, b, join: fn(Tensor<'g>, Tensor<'g>) -> _| match (a, b) {
            (Some(a), Some(b)) => Some(join(a, b)),
            (a, b) => a.or(b),
        };
        let rows = self.index.map(|index| index * index.number(size as f64));
        Corner {
            index: both(rows, Some(tap.index), |a, b| a + b),
            weight: both(self.weight, tap.weight, |a, b| a * b),
            inside: both(self.inside, tap.inside, Tensor::logical_and),
        }
    }

    /// Its part in the values of `images` `[batch, channels, area]`.
    fn of(&self, images: Tensor<'g>) -> Option<Tensor<'g>> {
        let index = self.index?;
        let [batch, points] = [0, 2].map(|axis| index.shape().size(axis));
        let all: Shape = [batch, images.shape().size(1), points]
            .into_iter()
            .collect();
        let picked = images.gather(2, index.broadcast_to(all));
        let inside = self
            .inside
            .map_or(picked, |inside| inside.select(picked, 0.0));
        Some(self.weight.map_or(inside, |weight| inside * weight))
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let image = || within(ALL, &[&[2, 2, 3, 4], &[2, 3, 2]]);
    entries! {
        grid_sample image() => |x| x[0].grid_sample(x[1].tanh(), GridSample::default());
        grid_sample_reflect image() => |x| {
            let (align, outside) = (Align::Corners, Outside::Reflect);
            x[0].grid_sample(x[1], GridSample { align, outside, ..GridSample::default() })
        };
        grid_sample_cubic image() => |x| {
            let (by, outside) = (Resample::Cubic, Outside::Border);
            x[0].grid_sample(x[1], GridSample { by, outside, ..GridSample::default() })
        };
        grid_sample_nearest image() => |x| {
            let by = Resample::NearestCentre;
            let sampled = x[0].grid_sample(x[1], GridSample { by, ..GridSample::default() });
            sampled + x[1].sum(..)
        };
    }
}
