//! Running sums, products and extremes along an axis.

use std::panic::Location;

use crate::axes::resolve;
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// The sums of the elements up to each one, along `axis`.
    #[track_caller]
    #[must_use]
    pub fn cumsum(self, axis: i32) -> Tensor<'g> {
        self.running("cumsum", axis, 0.0, |x, earlier| x + earlier)
    }

    /// The products of the elements up to each one, along `axis`. Derivatives of every order are
    /// exact, at zeros too.
    #[track_caller]
    #[must_use]
    pub fn cumprod(self, axis: i32) -> Tensor<'g> {
        self.running("cumprod", axis, 1.0, |x, earlier| x * earlier)
    }

    /// `log(sum(e^x))` of the elements up to each one, along `axis`; nothing overflows. 16-bit types
    /// are computed in `f32`.
    #[track_caller]
    #[must_use]
    pub fn logcumsumexp(self, axis: i32) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "logcumsumexp");
        self.graph.compose(name, &[self], place, || {
            self.floats(name)?;
            let sums = self
                .widened()
                .running(name, axis, f64::NEG_INFINITY, log_of_sum);
            Ok(sums.cast(self.dtype()))
        })
    }

    /// The largest of the elements up to each one along `axis`, and their positions, as `i64`: the
    /// last one's of equals, to which the gradient goes. A NaN is the largest.
    #[track_caller]
    #[must_use]
    pub fn cummax(self, axis: i32) -> (Tensor<'g>, Tensor<'g>) {
        self.record("cummax", axis, |x, best| x.ge(best))
    }

    /// The smallest of the elements up to each one along `axis`, and their positions, as `i64`: the
    /// last one's of equals, to which the gradient goes. A NaN is the smallest.
    #[track_caller]
    #[must_use]
    pub fn cummin(self, axis: i32) -> (Tensor<'g>, Tensor<'g>) {
        self.record("cummin", axis, |x, best| x.le(best))
    }

    /// Combines every element with all before it by doubling: after step `k`, an element holds the
    /// last `2^k` (Hillis and Steele, 1986). More work than one after the other, and wide.
    #[track_caller]
    fn running(
        self,
        name: &str,
        axis: i32,
        neutral: f64,
        combine: impl Fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
    ) -> Tensor<'g> {
        self.graph.compose(name, &[self], Location::caller(), || {
            let at = resolve(name, axis, self.rank())?;
            self.numbers(name)?;
            let steps = doublings(self.shape().size(at));
            Ok(steps.fold(self, |x, step| combine(x, x.delayed(at, step, neutral))))
        })
    }

    /// The elements that are at least as good as all before them, and where they are: by doubling,
    /// as in `running`.
    #[track_caller]
    fn record(
        self,
        name: &str,
        axis: i32,
        as_good: impl Fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
    ) -> (Tensor<'g>, Tensor<'g>) {
        let place = Location::caller();
        let positions = self.graph.compose(name, &[self], place, || {
            let at = resolve(name, axis, self.rank())?;
            self.numbers(name)?;
            let position = self.graph.coordinate(self.shape(), at);
            let start = (self.stop_gradient(), position);
            let steps = doublings(self.shape().size(at));
            let (_, best) = steps.fold(start, |(x, place), step| {
                let (earlier, before) = (x.delayed(at, step, 0.0), place.delayed(at, step, 0.0));
                let alone = position.lt(position.number(step as f64));
                // A NaN is as good as anything, and nothing is as good as a NaN.
                let keep = alone.logical_or(as_good(x, earlier)).logical_or(x.ne(x));
                (keep.select(x, earlier), keep.select(place, before))
            });
            Ok(best.nearest(self.shape().size(at)))
        });
        let values = self.graph.compose(name, &[self, positions], place, || {
            Ok(self.gather(axis, positions))
        });
        (values, positions)
    }

    /// Moved `step` places towards the end of `axis`, with `value` in front.
    #[track_caller]
    pub(super) fn delayed(self, axis: usize, step: usize, value: f64) -> Tensor<'g> {
        let (mut low, high) = (vec![0; self.rank()], vec![0; self.rank()]);
        low[axis] = step;
        let kept = self.shape().size(axis).saturating_sub(step);
        self.narrow(axis as i32, 0, kept).pad(low, high, value)
    }
}

/// The powers of two below `size`.
pub(super) fn doublings(size: usize) -> impl Iterator<Item = usize> {
    let powers = (0..usize::BITS).map(|k| 1 << k);
    powers.take_while(move |&step| step < size)
}

/// `log(e^x + e^y)`, also where one is negative infinity; without a gradient where both are.
fn log_of_sum<'g>(x: Tensor<'g>, y: Tensor<'g>) -> Tensor<'g> {
    let largest = x.maximum(y).stop_gradient();
    let shift = largest.abs().eq(f64::INFINITY).select(0.0, largest);
    let sum = (x - shift).exp() + (y - shift).exp();
    sum.away_from_zero(Tensor::log, f64::NEG_INFINITY) + shift
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let rows = || reals(&[&[2, 5]]);
    entries! {
        cumsum rows() => |x| x[0].cumsum(1);
        cumprod reals(&[&[5, 2]]) => |x| x[0].cumprod(0);
        logcumsumexp rows() => |x| x[0].logcumsumexp(-1);
        cummax rows() => |x| x[0].cummax(1).0;
        cummin reals(&[&[5, 2]]) => |x| x[0].cummin(0).0;
    }
}
