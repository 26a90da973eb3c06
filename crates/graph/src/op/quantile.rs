//! Quantiles and the median.

use std::panic::Location;

use backprop_core::{Axes, DType, Order};

use crate::axes::{AxisList, Keep, resolve_all};
use crate::composite::Sample;
use crate::graph::{Problem, bad_attribute, bad_dtype, bad_shape};
use crate::op::catalogue::{Entry, entries, reals};
use crate::op::reduce::kept;
use crate::operand::Operand;
use crate::tensor::Tensor;

/// What a quantile between two elements is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Between {
    /// The point of the line between them.
    #[default]
    Linear,
    /// The smaller one.
    Lower,
    /// The larger one.
    Higher,
    /// The nearer one; the one in an even place if both are.
    Nearest,
    /// Their mean.
    Midpoint,
}

impl<'g> Tensor<'g> {
    /// The quantiles over axes: for `q` between 0 and 1, what stands `q` of the way from the smallest
    /// element to the largest in sorted order; NaN if any element is. A vector of several `q` makes
    /// a first axis. The gradient goes to the elements between which a quantile lies and, if it is
    /// [linear](Between::Linear) between them, to `q`.
    #[track_caller]
    #[must_use]
    pub fn quantile(
        self,
        q: impl Operand<'g>,
        axes: impl AxisList,
        between: Between,
    ) -> Tensor<'g> {
        let q = q.on(self.graph, Some(self.real()), Location::caller());
        self.ranked("quantile", q, &axes, between, |rows, q| {
            let last = rows.shape().sizes().last().map_or(0.0, |&n| n as f64 - 1.0);
            let last = rows.graph.full([], last, rows.dtype());
            // A NaN stands last.
            rows.ne(rows).any(Keep(-1)).select(last, q * last)
        })
    }

    /// The [`quantile`](Tensor::quantile) of the elements that are not NaN; NaN where all are.
    #[track_caller]
    #[must_use]
    pub fn nanquantile(
        self,
        q: impl Operand<'g>,
        axes: impl AxisList,
        between: Between,
    ) -> Tensor<'g> {
        let q = q.on(self.graph, Some(self.real()), Location::caller());
        self.ranked("nanquantile", q, &axes, between, |rows, q| {
            let count = rows.eq(rows).cast(DType::I64).sum(Keep(-1));
            let last = (count - 1).cast(rows.dtype());
            last.lt(0.0).select(0.0, q * last)
        })
    }

    /// The middle element over axes in sorted order; the mean of two where their number is even (for
    /// the lower of them, see [`Between::Lower`]). NaN if any is.
    #[track_caller]
    #[must_use]
    pub fn median(self, axes: impl AxisList) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "median");
        self.graph.compose(name, &[self], place, || {
            resolve_all(name, axes.given().as_deref(), self.rank())?;
            self.floats(name)?;
            Ok(self.quantile(0.5, &axes, Between::Midpoint))
        })
    }

    /// Quantiles, where `rank` says at which place of each row they stand in sorted order.
    #[track_caller]
    fn ranked(
        self,
        name: &str,
        q: Tensor<'g>,
        axes: &impl AxisList,
        between: Between,
        rank: impl FnOnce(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
    ) -> Tensor<'g> {
        let place = Location::caller();
        self.graph.compose(name, &[self, q], place, || {
            let set = resolve_all(name, axes.given().as_deref(), self.rank())?;
            check(name, self, q, set)?;
            let (rows, wide) = (self.widened().rows_over(set), q.widened());
            let rank = rank(rows, wide.clamp(0.0, 1.0).reshape([-1]));
            let values = rows.at_rank(rank, between);
            let first = values.move_axes([-1], [0]);
            let reduced = match axes.keeps() {
                true => kept(self.shape(), set),
                false => self.shape().without(set),
            };
            let shape = [q.shape().sizes(), reduced.sizes()].concat();
            let shape: Vec<isize> = shape.iter().map(|&size| size as isize).collect();
            Ok(first.cast(self.dtype()).reshape(shape))
        })
    }

    /// The type of numbers beside this tensor: its own, if that has fractions.
    fn real(self) -> DType {
        let own = self.dtype();
        if own.is_float() { own } else { DType::F32 }
    }

    /// With all axes of a set in one, the last.
    fn rows_over(self, set: Axes) -> Tensor<'g> {
        let axes: Vec<i32> = set.iter().map(|axis| axis as i32).collect();
        let ends: Vec<i32> = (1..=axes.len() as i32).rev().map(|i| -i).collect();
        let moved = self.move_axes(axes, ends);
        moved.flatten_from(self.rank() - set.len())
    }

    /// What stands at places along the last axis in sorted order.
    fn at_rank(self, rank: Tensor<'g>, between: Between) -> Tensor<'g> {
        // What failed to build has no axis.
        let ends = [self, rank].map(|x| x.rank().checked_sub(1));
        let [Some(last), Some(along)] = ends else {
            return if ends[0].is_none() { self } else { rank };
        };
        let (size, count) = (self.shape().size(last), rank.shape().size(along));
        let places = |rank: Tensor<'g>| {
            let places = rank.cast(DType::I64).nearest(size);
            places.broadcast_to(self.shape().with(last, count))
        };
        let order = self.argsort(-1, Order::Ascending);
        let at = |rank: Tensor<'g>| self.gather(-1, order.gather(-1, places(rank)));
        let line = |weight: Tensor<'g>| {
            let (low, high) = (at(rank.floor()), at(rank.ceil()));
            // From the nearer end, so that both ends are exact.
            let near = weight.lt(0.5);
            let step = near.select(weight, weight - 1.0);
            near.select(low, high) + step * (high - low)
        };
        match between {
            Between::Linear => line(rank - rank.floor()),
            Between::Midpoint => line(rank.number(0.5)),
            Between::Lower => at(rank.floor()),
            Between::Higher => at(rank.ceil()),
            Between::Nearest => at(rank.round()),
        }
    }
}

fn check(name: &str, x: Tensor<'_>, q: Tensor<'_>, set: Axes) -> Result<(), Problem> {
    x.floats(name)?;
    if q.dtype() != x.dtype() {
        return Err(bad_dtype(name, format!("{} of {}", q.dtype(), x.dtype())));
    }
    if q.rank() > 1 {
        return Err(bad_shape(name, format!("{} of quantiles", q.shape())));
    }
    if set.iter().any(|axis| x.shape().size(axis) == 0) {
        return Err(bad_shape(
            name,
            format!("over an empty axis of {}", x.shape()),
        ));
    }
    match q.constant_value() {
        Some(q) if !(0.0..=1.0).contains(&q) => {
            Err(bad_attribute(name, format!("{q} is not between 0 and 1")))
        }
        _ => Ok(()),
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let cube = || reals(&[&[2, 3, 4]]);
    let two = || vec![Sample::reals(&[&[2, 5]]).with(DType::F64, &[2], (0.1, 0.9))];
    entries! {
        quantile two() => |x| x[0].quantile(x[1], 1, Between::Linear);
        quantile_over_two cube() => |x| x[0].quantile(0.3, Keep([0, 2]), Between::Midpoint);
        nanquantile cube() => |x| x[0].log().nanquantile(0.7, 1, Between::Higher);
        median cube() => |x| x[0].median(-1);
    }
}
