//! Other numbers of points along axes: images made larger or smaller.
//!
//! Every axis is resampled by itself. A whole factor is views and sums of neighbours: no index is
//! ever computed, and the vjp is of the same kind. Anything else is a table of taps, which elements
//! count how much for each new one, known when the graph is built.

use std::panic::Location;

use backprop_core::Shape;

use crate::graph::{Problem, bad_attribute, bad_dtype, bad_shape};
use crate::op::catalogue::{Entry, entries, reals};
use crate::op::pool::extent;
use crate::op::window::MOST;
use crate::tensor::Tensor;

/// How the value between points is found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Resample {
    /// The point at the position rounded down, each new point standing for its lower end.
    #[default]
    Nearest,
    /// The point nearest to the centre of the new one.
    NearestCentre,
    /// On the line between the two points beside.
    Linear,
    /// By the four points around, with a cubic kernel of parameter -3/4 (Keys, 1981).
    Cubic,
    /// The mean of the points that the new one covers, in part or whole.
    Area,
}

impl Resample {
    /// Whether a whole factor repeats every point so many times.
    fn repeats(self) -> bool {
        matches!(
            self,
            Resample::Nearest | Resample::NearestCentre | Resample::Area
        )
    }
}

/// The slope of the cubic kernel at distance 1.
pub(super) const CUBIC: f64 = -0.75;

/// Which points keep their place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Align {
    /// The outer edges of the border points: points are small areas, and the border is extended.
    #[default]
    Edges,
    /// The centres of the first and the last point. For [`Resample::Linear`] and
    /// [`Resample::Cubic`].
    Corners,
}

/// How [`interpolate`](Tensor::interpolate) finds new points.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Interpolate {
    /// The kind of resampling.
    pub by: Resample,
    /// Which points keep their place.
    pub align: Align,
    /// New points per old one, along each axis that is resampled, where that is not the quotient of
    /// the sizes. Not used by [`Align::Corners`] and [`Resample::Area`].
    pub scales: Option<Vec<f64>>,
}

impl From<Resample> for Interpolate {
    fn from(by: Resample) -> Interpolate {
        Interpolate {
            by,
            ..Interpolate::default()
        }
    }
}

impl<'g> Tensor<'g> {
    /// Resampled to `sizes` points along the last axes: `[.., height, width]` with two sizes for
    /// images.
    #[track_caller]
    #[must_use]
    pub fn interpolate(
        self,
        sizes: impl AsRef<[usize]>,
        how: impl Into<Interpolate>,
    ) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "interpolate");
        let (sizes, how) = (sizes.as_ref(), how.into());
        self.graph.compose(name, &[self], place, || {
            let first = check(self, sizes, &how)?;
            let lines = sizes.iter().enumerate().map(|(k, &size)| Line {
                from: self.shape().size(first + k),
                to: size,
                scale: how
                    .scales
                    .as_ref()
                    .and_then(|scales| scales.get(k).copied()),
            });
            let lines: Vec<Line> = lines.collect();
            if let (true, Some(factors)) = (how.by.repeats(), factors(&lines)) {
                return Ok(self.unpooled(&factors));
            }
            let lines = lines.iter().enumerate();
            Ok(lines.fold(self, |x, (k, line)| x.resampled(first + k, line, &how)))
        })
    }

    /// The mean of each of `count` windows that cover an axis evenly.
    #[track_caller]
    pub(super) fn mean_windows(self, axis: usize, count: usize) -> Tensor<'g> {
        let (from, to, scale) = (self.shape().size(axis), count, None);
        self.resampled(axis, &Line { from, to, scale }, &Resample::Area.into())
    }

    #[track_caller]
    fn resampled(self, axis: usize, line: &Line, how: &Interpolate) -> Tensor<'g> {
        let corners = how.align == Align::Corners;
        match (how.by, line.factor()) {
            (_, Some(1)) => self,
            (by, Some(factor)) if by.repeats() => self.repeat_interleave(factor, axis as i32),
            (Resample::Linear, Some(factor)) if !corners => self.linear(axis, factor),
            _ => self.tapped(axis, &line.taps(how)),
        }
    }

    /// Each piece of the old points lies, by a fixed distance, before or after a centre.
    #[track_caller]
    fn linear(self, at: usize, factor: usize) -> Tensor<'g> {
        let (graph, axis) = (self.graph, at as i32);
        let size = self.shape().size(at);
        let [first, last] = [self.narrow(axis, 0, 1), self.narrow(axis, size - 1, size)];
        let before = graph.concat(&[first, self.narrow(axis, 0, size - 1)], axis);
        let after = graph.concat(&[self.narrow(axis, 1, size), last], axis);
        let phase = |phase: usize| {
            let offset = (phase as f64 + 0.5) / factor as f64 - 0.5;
            let other = if offset < 0.0 { before } else { after };
            self * (1.0 - offset.abs()) + other * offset.abs()
        };
        let phases: Vec<Tensor<'g>> = (0..factor).map(phase).collect();
        let woven = graph.stack(&phases, axis + 1);
        woven.reshape_to(self.shape().with(at, size * factor))
    }

    #[track_caller]
    fn tapped(self, axis: usize, taps: &[Vec<Tap>]) -> Tensor<'g> {
        let graph = self.graph;
        let part = |taps: &Vec<Tap>| {
            let indices: Vec<i64> = taps.iter().map(|tap| tap.index as i64).collect();
            let picked = self.take(graph.data([taps.len()], &indices), axis as i32);
            if taps.iter().all(|tap| tap.weight == 1.0) {
                return picked;
            }
            let mut shape = vec![1; self.rank() - axis];
            shape[0] = taps.len();
            let weights: Vec<f64> = taps.iter().map(|tap| tap.weight).collect();
            picked * graph.data(shape, &weights).cast(self.dtype())
        };
        let parts = taps.iter().map(part).reduce(|sum, part| sum + part);
        parts.unwrap_or(self)
    }
}

/// The factors of several axes, if all are whole and points become more than they were.
fn factors(lines: &[Line]) -> Option<Vec<usize>> {
    let factors: Option<Vec<usize>> = lines.iter().map(Line::factor).collect();
    factors.filter(|factors| factors.iter().any(|&factor| factor > 1))
}

/// An old point that counts for a new one.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Tap {
    index: usize,
    weight: f64,
}

/// Old and new points along an axis, and new ones per old one where that is not their quotient.
struct Line {
    from: usize,
    to: usize,
    scale: Option<f64>,
}

impl Line {
    /// By how much it grows, if that is a whole number.
    fn factor(&self) -> Option<usize> {
        let factor = self.to / self.from;
        let whole = self.to.is_multiple_of(self.from);
        let scaled = self.scale.is_none_or(|scale| scale == factor as f64);
        (whole && scaled).then_some(factor)
    }

    /// The distance of new points in old ones.
    fn step(&self) -> f64 {
        let quotient = self.from as f64 / self.to as f64;
        self.scale.map_or(quotient, |scale| 1.0 / scale)
    }

    /// The first tap of every new point, then the second, ..
    fn taps(&self, how: &Interpolate) -> Vec<Vec<Tap>> {
        let each = |tap: &dyn Fn(usize) -> Tap| (0..self.to).map(tap).collect();
        match how.by {
            Resample::Nearest => vec![each(&|to| self.whole(to as f64 * self.step()))],
            Resample::NearestCentre => {
                vec![each(&|to| self.whole((to as f64 + 0.5) * self.step()))]
            }
            Resample::Linear => vec![
                each(&|to| self.linear(to, how.align, 0)),
                each(&|to| self.linear(to, how.align, 1)),
            ],
            Resample::Cubic => (0..4)
                .map(|tap| each(&|to| self.cubic(to, how.align, tap)))
                .collect(),
            Resample::Area => {
                let length = |to| extent(to, self.to, self.from).len();
                let most = (0..self.to).map(length).max().unwrap_or(0);
                (0..most)
                    .map(|tap| each(&|to| mean(to, tap, [self.to, self.from, most])))
                    .collect()
            }
        }
    }

    fn whole(&self, position: f64) -> Tap {
        let index = (position.floor() as usize).min(self.from - 1);
        Tap { index, weight: 1.0 }
    }

    /// Where among the old points a new one lies.
    fn position(&self, to: usize, align: Align) -> f64 {
        match align {
            Align::Edges => (to as f64 + 0.5) * self.step() - 0.5,
            Align::Corners => (to * (self.from - 1)) as f64 / (self.to - 1).max(1) as f64,
        }
    }

    fn linear(&self, to: usize, align: Align, tap: usize) -> Tap {
        let position = self.position(to, align).max(0.0);
        let index = (position.floor() as usize).min(self.from - 1);
        let after = position - index as f64;
        Tap {
            index: (index + tap).min(self.from - 1),
            weight: if tap == 0 { 1.0 - after } else { after },
        }
    }

    fn cubic(&self, to: usize, align: Align, tap: usize) -> Tap {
        let position = self.position(to, align);
        let at = position.floor() + tap as f64 - 1.0;
        Tap {
            index: at.clamp(0.0, (self.from - 1) as f64) as usize,
            weight: cubic((position - at).abs()),
        }
    }
}

/// The mean of window `to` of `count` that cover an axis of `size` elements evenly: at most as many
/// taps as `most`. A smaller window has its last element more than once, with a part of the weight
/// each.
fn mean(to: usize, tap: usize, [count, size, most]: [usize; 3]) -> Tap {
    let window = extent(to, count, size);
    let share = 1.0 / window.len() as f64;
    let times = most - window.len() + 1;
    Tap {
        index: (window.start + tap).min(window.end - 1),
        weight: if tap + 1 < window.len() {
            share
        } else {
            share / times as f64
        },
    }
}

/// The cubic convolution kernel at a distance (Keys, 1981, equation 4).
fn cubic(x: f64) -> f64 {
    match x {
        _ if x <= 1.0 => ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0,
        _ if x < 2.0 => ((x - 5.0) * x + 8.0) * x * CUBIC - 4.0 * CUBIC,
        _ => 0.0,
    }
}

/// The first axis that is resampled.
fn check(x: Tensor<'_>, sizes: &[usize], how: &Interpolate) -> Result<usize, Problem> {
    let (name, shape) = ("interpolate", x.shape());
    if !x.dtype().is_float() {
        let problem = bad_dtype(name, format!("of {}", x.dtype()));
        return Err(problem.help("convert with `.cast(F32)` first"));
    }
    let inside = |first: &usize| (*first..shape.rank()).all(|axis| shape.size(axis) > 0);
    let first = shape.rank().checked_sub(sizes.len()).filter(inside);
    let resized = |first: &usize| {
        let kept = &shape.sizes()[..*first];
        Shape::new(&[kept, sizes].concat())?.checked_count()
    };
    let fits = |first: &usize| !sizes.contains(&0) && resized(first).is_some();
    let Some(first) = first.filter(fits) else {
        let what = format!("{shape} to sizes {sizes:?} along the last axes");
        return Err(bad_shape(name, what).help("one size of at least 1 for each axis, none empty"));
    };
    if let Some(size) = sizes.iter().find(|&&size| size > MOST) {
        let what = format!("to {size} points along an axis");
        return Err(bad_attribute(name, what).help(format!("at most {MOST}")));
    }
    let smooth = matches!(how.by, Resample::Linear | Resample::Cubic);
    if how.align == Align::Corners && !smooth {
        let problem = bad_attribute(name, format!("{:?} has no corners to align", how.by));
        return Err(problem.help("use `Align::Edges`"));
    }
    let positive = |scales: &Vec<f64>| {
        scales.len() == sizes.len() && scales.iter().all(|&scale| scale > 0.0 && scale.is_finite())
    };
    match &how.scales {
        Some(scales) if !positive(scales) => {
            let what = format!("scales {scales:?} for {} axes", sizes.len());
            Err(bad_attribute(name, what))
        }
        _ => Ok(first),
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let square = || reals(&[&[2, 3, 4]]);
    entries! {
        interpolate_nearest square() => |x| x[0].interpolate([6, 4], Resample::Nearest);
        interpolate_centre square() => |x| x[0].interpolate([5, 3], Resample::NearestCentre);
        interpolate_linear square() => |x| x[0].interpolate([9, 8], Resample::Linear);
        interpolate_corners square() => |x| {
            let align = Align::Corners;
            let how = Interpolate { by: Resample::Linear, align, ..Interpolate::default() };
            x[0].interpolate([2, 5], how)
        };
        interpolate_cubic square() => |x| x[0].interpolate([5, 3], Resample::Cubic);
        interpolate_area square() => |x| x[0].interpolate([2, 3], Resample::Area);
    }
}
