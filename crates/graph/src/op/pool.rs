//! Pools: the largest or the mean element of each window.

use std::panic::Location;

use backprop_core::{DType, Pool as Spec, Primitive, Reduction, Shape, Source, TensorType};

use crate::composite::{Composite, Sample, Vjp};
use crate::graph::{Problem, bad_attribute, bad_dtype, bad_shape};
use crate::op::catalogue::{Entry, entries, reals};
use crate::op::window::{MOST, PerAxis, Rounding, Windows, places, windows};
use crate::tensor::Tensor;

/// The windows of a pool over `[batch, channels, ..axes]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pool {
    /// The size of a window.
    pub size: PerAxis,
    /// Elements from one window to the next; `None` for the size, so that windows lie side by side.
    pub stride: Option<PerAxis>,
    /// Elements of padding on both sides, at most half a window.
    pub padding: PerAxis,
    /// Elements from one tap of a window to the next.
    pub dilation: PerAxis,
    /// What becomes of elements that are left over at the end.
    pub rounding: Rounding,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool {
            size: 2.into(),
            stride: None,
            padding: 0.into(),
            dilation: 1.into(),
            rounding: Rounding::Down,
        }
    }
}

/// What the sum of a window is divided by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Divisor {
    /// The number of its elements, padding among them.
    #[default]
    Padded,
    /// The number of its elements, without padding.
    Inside,
    /// This number.
    Fixed(usize),
}

impl<'g> Tensor<'g> {
    /// The largest element of each window over the axes after batch and channels. The gradient goes
    /// to the first of the largest; padding is never chosen.
    #[track_caller]
    #[must_use]
    pub fn max_pool(self, pool: Pool) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "max_pool");
        self.graph.compose(name, &[self], place, || {
            let windows = pool.windows(name, self)?;
            Ok(self.pooled(Reduction::Max, windows))
        })
    }

    /// The positions of what [`max_pool`](Tensor::max_pool) picks, counted over all axes after batch
    /// and channels in row-major order, as `i64`.
    #[track_caller]
    #[must_use]
    pub fn max_pool_positions(self, pool: Pool) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "max_pool_positions");
        self.graph.compose(name, &[self], place, || {
            let windows = pool.windows(name, self)?;
            let leading = self.shape().filter(|axis| axis < 2);
            let output = leading
                .sizes()
                .iter()
                .chain(&windows.places)
                .copied()
                .collect();
            let places = windows.places.len();
            let taps = windows.unfold(self.stop_gradient(), leading.count(), f64::NEG_INFINITY);
            // The positions are windows of themselves; padding has none.
            let axes = Shape::from_iter(windows.axes.iter().copied());
            let positions = (0..places).zip(axes.strides()).map(|(axis, stride)| {
                let along = self.graph.coordinate(axes, axis);
                along * along.number(stride as f64)
            });
            let positions = positions.reduce(|sum, part| sum + part);
            let positions = positions.unwrap_or_else(|| self.graph.full([], 0.0, DType::I64));
            let seen = windows
                .unfold(positions, 1, -1.0)
                .broadcast_to(taps.shape());
            let inside = seen.ge(0.0).select(taps, f64::NEG_INFINITY);
            let chosen = inside.argmax(1).unsqueeze(1);
            let here = self
                .graph
                .coordinate(taps.shape(), 1)
                .eq(chosen.broadcast_to(taps.shape()));
            Ok(here.select(seen, 0.0).sum(1).reshape_to(output))
        })
    }

    /// The mean of each window over the axes after batch and channels.
    #[track_caller]
    #[must_use]
    pub fn avg_pool(self, pool: Pool, divisor: Divisor) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "avg_pool");
        self.graph.compose(name, &[self], place, || {
            if divisor == Divisor::Fixed(0) {
                return Err(bad_attribute(name, "a divisor of 0"));
            }
            let windows = pool.windows(name, self)?;
            let factors = self.factors(&windows, divisor);
            Ok(self.pooled(Reduction::Sum, windows) * factors)
        })
    }

    /// The largest element of each of `sizes` windows, which cover the axes after batch and channels
    /// as evenly as whole numbers can: window `i` of `n` begins at `i * size / n` rounded down and ends
    /// before `(i + 1) * size / n` rounded up.
    #[track_caller]
    #[must_use]
    pub fn adaptive_max_pool(self, sizes: impl Into<PerAxis>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "adaptive_max_pool");
        self.graph.compose(name, &[self], place, || {
            let sizes = adaptive_sizes(name, self, &sizes.into())?;
            if let Some(windows) = even(self, &sizes) {
                return Ok(self.pooled(Reduction::Max, windows));
            }
            let each = sizes.iter().enumerate();
            Ok(each.fold(self, |x, (axis, &count)| x.largest_along(axis + 2, count)))
        })
    }

    /// The mean of each of `sizes` windows that cover the axes after batch and channels (see
    /// [`adaptive_max_pool`](Tensor::adaptive_max_pool)).
    #[track_caller]
    #[must_use]
    pub fn adaptive_avg_pool(self, sizes: impl Into<PerAxis>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "adaptive_avg_pool");
        self.graph.compose(name, &[self], place, || {
            let sizes = adaptive_sizes(name, self, &sizes.into())?;
            if let Some(windows) = even(self, &sizes) {
                let factor = 1.0 / windows.taps() as f64;
                return Ok(self.pooled(Reduction::Sum, windows) * factor);
            }
            let each = sizes.iter().enumerate();
            Ok(each.fold(self, |x, (axis, &count)| x.mean_windows(axis + 2, count)))
        })
    }

    /// Every element repeated over a window of its own: the vjp of sums over windows side by side.
    #[track_caller]
    pub(super) fn unpooled(self, factors: &[usize]) -> Tensor<'g> {
        let places = self.shape().sizes()[self.rank() - factors.len()..].to_vec();
        let grown = places.iter().zip(factors);
        let windows = Windows {
            each: factors.iter().map(|&factor| tile(factor)).collect(),
            axes: grown.map(|(&size, factor)| size * factor).collect(),
            places,
        };
        let reduction = Reduction::Sum;
        let vjp = PooledVjp(Pooled { reduction, windows });
        self.graph.apply_one(vjp, &[self])
    }

    #[track_caller]
    fn pooled(self, reduction: Reduction, windows: Windows) -> Tensor<'g> {
        let pooled = Pooled { reduction, windows };
        self.graph.apply_one(pooled, &[self])
    }

    /// One over the divisor of each window, broadcast over what is pooled.
    fn factors(self, windows: &Windows, divisor: Divisor) -> Tensor<'g> {
        let counts = |axis: usize| -> Vec<f64> {
            let (window, size) = (&windows.each[axis], windows.axes[axis]);
            let inside = |place: usize, tap: usize| match divisor {
                Divisor::Inside => window.position(place, tap, size).is_some(),
                // The padding at the end may be shorter than what windows reach.
                _ => place * window.stride + tap * window.dilation < size + 2 * window.padding,
            };
            let count = |place| (0..window.size).filter(|&tap| inside(place, tap)).count();
            (0..windows.places[axis])
                .map(|place| count(place) as f64)
                .collect()
        };
        let mut products = vec![1.0];
        for axis in 0..windows.places.len() {
            let each = counts(axis);
            products = products
                .iter()
                .flat_map(|&a| each.iter().map(move |b| a * b))
                .collect();
        }
        if let Divisor::Fixed(divisor) = divisor {
            products.fill(divisor as f64);
        }
        let first = products.first().copied().unwrap_or(1.0);
        if products.iter().all(|&count| count == first) {
            return self.graph.full([], 1.0 / first, self.dtype());
        }
        let factors: Vec<f64> = products.iter().map(|count| 1.0 / count).collect();
        self.graph
            .data(&windows.places, &factors)
            .cast(self.dtype())
    }

    /// The largest element of each of `count` windows of one axis.
    fn largest_along(self, axis: usize, count: usize) -> Tensor<'g> {
        let size = self.shape().size(axis);
        let length = (0..count)
            .map(|i| extent(i, count, size).len())
            .max()
            .unwrap_or(1);
        // A short window repeats its last element, which is chosen for its first appearance only.
        let visited = (0..count).flat_map(|i| {
            let extent = extent(i, count, size);
            (0..length).map(move |k| (extent.start + k).min(extent.end - 1) as i64)
        });
        let visited: Vec<i64> = visited.collect();
        let indices = self.graph.data([count, length], &visited);
        let windows = self.take(indices, axis as i32);
        let along = (axis + 1) as i32;
        let chosen = windows
            .argmax(along)
            .unsqueeze(along)
            .broadcast_to(windows.shape());
        let here = self.graph.coordinate(windows.shape(), axis + 1).eq(chosen);
        here.select(windows, 0.0).sum(along)
    }
}

/// Window `i` of `count` that cover an axis of `size` elements.
pub(super) fn extent(i: usize, count: usize, size: usize) -> std::ops::Range<usize> {
    i * size / count..((i + 1) * size).div_ceil(count)
}

fn spatial<'g>(operation: &str, x: Tensor<'g>) -> Result<Vec<usize>, Problem> {
    if !x.dtype().is_float() {
        let problem = bad_dtype(operation, format!("of {}", x.dtype()));
        return Err(problem.help("convert with `.cast(F32)`"));
    }
    match x.shape().sizes() {
        [_, _, axes @ ..] if !axes.is_empty() => Ok(axes.to_vec()),
        _ => {
            let problem = bad_shape(operation, format!("{} has no spatial axis", x.shape()));
            Err(problem.help("the axes are [batch, channels, ..]"))
        }
    }
}

fn adaptive_sizes(operation: &str, x: Tensor<'_>, sizes: &PerAxis) -> Result<Vec<usize>, Problem> {
    let axes = spatial(operation, x)?;
    let sizes = sizes.of(operation, "size", axes.len())?;
    let countable = |size: &usize| (1..=MOST).contains(size);
    if !sizes.iter().all(countable) || axes.contains(&0) {
        return Err(bad_attribute(
            operation,
            format!("{sizes:?} windows over {}", x.shape()),
        ));
    }
    Ok(sizes)
}

/// A window whose neighbours lie beside it.
fn tile(size: usize) -> backprop_core::Window {
    backprop_core::Window {
        size,
        stride: size,
        dilation: 1,
        padding: 0,
    }
}

/// Windows of equal size, side by side, if as many fit.
fn even(x: Tensor<'_>, sizes: &[usize]) -> Option<Windows> {
    let axes = x.shape().sizes()[2..].to_vec();
    let each = axes
        .iter()
        .zip(sizes)
        .map(|(&axis, &count)| axis.is_multiple_of(count).then(|| tile(axis / count)));
    Some(Windows {
        each: each.collect::<Option<_>>()?,
        axes,
        places: sizes.to_vec(),
    })
}

impl Pool {
    fn windows(&self, operation: &str, x: Tensor<'_>) -> Result<Windows, Problem> {
        let axes = spatial(operation, x)?;
        let sizes = self.size.of(operation, "size", axes.len())?;
        let stride = self.stride.as_ref().unwrap_or(&self.size);
        let each = windows(operation, &sizes, [stride, &self.padding, &self.dilation])?;
        if let Some(window) = each.iter().find(|window| window.padding > window.size / 2) {
            let what = format!(
                "padding {} of windows of size {}",
                window.padding, window.size
            );
            return Err(bad_attribute(operation, what).help("at most half the size"));
        }
        let moved = each.iter().zip(&axes);
        let moved = moved.map(|(window, &size)| places(operation, window, size, self.rounding));
        let places = moved.collect::<Result<_, Problem>>()?;
        Ok(Windows { each, axes, places })
    }
}

/// The reduction of each window over the trailing axes.
#[derive(Clone, Debug)]
struct Pooled {
    reduction: Reduction,
    windows: Windows,
}

/// Its vjp: of sums from the cotangent, of maxima from the input and the cotangent.
#[derive(Clone, Debug)]
struct PooledVjp(Pooled);

impl Pooled {
    /// Where in `[leading, taps, places]` the first largest element of each window is.
    fn chosen<'g>(taps: Tensor<'g>) -> Tensor<'g> {
        let best = taps.argmax(1).unsqueeze(1).broadcast_to(taps.shape());
        taps.graph.coordinate(taps.shape(), 1).eq(best)
    }

    fn spec(
        &self,
        operands: &[TensorType],
        (input, output): (Shape, Shape),
        result: Shape,
    ) -> Spec {
        Spec {
            reduction: self.reduction,
            input,
            output,
            windows: self.windows.each.clone(),
            operands: operands.iter().cloned().map(Source::dense).collect(),
            result: TensorType::dense(operands[0].dtype, result),
        }
    }

    fn sample(&self, trailing: &[usize]) -> Sample {
        Sample::reals(&[&[&[2], trailing].concat()])
    }
}

/// The number of elements before the trailing axes.
fn leading(x: Tensor<'_>, trailing: &[usize]) -> usize {
    let axes = x.rank() - trailing.len();
    x.shape().filter(|axis| axis < axes).count()
}

/// A shape with other trailing axes.
fn retailed(shape: Shape, sizes: &[usize]) -> Shape {
    let leading = shape.rank().saturating_sub(sizes.len());
    let kept = shape.sizes()[..leading].iter();
    kept.chain(sizes).copied().collect()
}

impl Composite for Pooled {
    fn name(&self) -> &str {
        match self.reduction {
            Reduction::Sum => "sum_pool",
            _ => "max_pool",
        }
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let x = inputs[0];
        let leading = leading(x, &self.windows.axes);
        let output = retailed(x.shape(), &self.windows.places);
        let reduced = match self.reduction {
            Reduction::Sum => self.windows.unfold(x, leading, 0.0).sum(1),
            _ => {
                let taps = self.windows.unfold(x, leading, f64::NEG_INFINITY);
                Pooled::chosen(taps).select(taps, 0.0).sum(1)
            }
        };
        vec![reduced.reshape_to(output)]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (x, g) = (cx.inputs[0], cx.cotangents[0]?);
        let operands = match self.reduction {
            Reduction::Sum => vec![g],
            _ => vec![x, g],
        };
        Some(vec![Some(
            x.graph.apply_one(PooledVjp(self.clone()), &operands),
        )])
    }

    fn primitive(&self, inputs: &[TensorType]) -> Option<Primitive> {
        let input = inputs[0].shape;
        let output = retailed(input, &self.windows.places);
        Some(Primitive::Pool(self.spec(inputs, (input, output), output)))
    }

    fn samples(&self) -> Vec<Sample> {
        vec![self.sample(&self.windows.axes)]
    }
}

impl Composite for PooledVjp {
    fn name(&self) -> &str {
        match self.0.reduction {
            Reduction::Sum => "sum_pool_vjp",
            _ => "max_pool_vjp",
        }
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let PooledVjp(Pooled { windows, .. }) = self;
        let Some((&g, x)) = inputs.split_last() else {
            return Vec::new();
        };
        let leading = leading(g, &windows.places);
        let input = retailed(g.shape(), &windows.axes);
        let columns = Shape::from_iter([leading, windows.taps(), windows.count()]);
        let each = g.reshape_to(Shape::from_iter([leading, 1, windows.count()]));
        let mut spread = each.broadcast_to(columns);
        if let [x] = x {
            let taps = windows.unfold(x.stop_gradient(), leading, f64::NEG_INFINITY);
            spread = Pooled::chosen(taps).select(spread, 0.0);
        }
        vec![windows.fold(spread, leading).reshape_to(input)]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let h = cx.cotangents[0]?;
        match cx.inputs {
            [_] => Some(vec![Some(h.graph.apply_one(self.0.clone(), &[h]))]),
            _ => None,
        }
    }

    fn primitive(&self, inputs: &[TensorType]) -> Option<Primitive> {
        let output = inputs.last()?.shape;
        let input = retailed(output, &self.0.windows.axes);
        Some(Primitive::PoolVjp(self.0.spec(
            inputs,
            (input, output),
            input,
        )))
    }

    fn samples(&self) -> Vec<Sample> {
        let g = self.0.sample(&self.0.windows.places);
        match self.0.reduction {
            Reduction::Sum => vec![g],
            _ => {
                let mut both = self.0.sample(&self.0.windows.axes);
                both.inputs.extend(g.inputs);
                vec![both]
            }
        }
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let row = || reals(&[&[2, 2, 7]]);
    let image = || reals(&[&[1, 2, 5, 4]]);
    fn overlapping() -> Pool {
        Pool {
            size: 3.into(),
            stride: Some(2.into()),
            padding: 1.into(),
            rounding: Rounding::Up,
            ..Default::default()
        }
    }
    entries! {
        max_pool image() => |x| x[0].max_pool(Pool::default());
        max_pool_overlapping image() => |x| x[0].max_pool(overlapping());
        max_pool_dilated row() => |x| x[0].max_pool(Pool { dilation: 3.into(), ..overlapping() });
        max_pool_positions image() => |x| x[0].max_pool_positions(overlapping());
        avg_pool image() => |x| x[0].avg_pool(Pool::default(), Divisor::Padded);
        avg_pool_inside image() => |x| x[0].avg_pool(overlapping(), Divisor::Inside);
        avg_pool_fixed row() => |x| x[0].avg_pool(overlapping(), Divisor::Fixed(4));
        adaptive_max_pool image() => |x| x[0].adaptive_max_pool([3, 2]);
        adaptive_max_pool_even row() => |x| x[0].adaptive_max_pool(7);
        adaptive_avg_pool image() => |x| x[0].adaptive_avg_pool([3, 2]);
        adaptive_avg_pool_even image() => |x| x[0].adaptive_avg_pool([5, 2]);
        max_pool_tiles reals(&[&[1, 2, 4, 6]]) => |x| x[0].max_pool(Pool::default());
    }
}
