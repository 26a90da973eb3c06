//! Reductions.

use std::panic::Location;

use backprop_core::{Axes, DType, Reduction, Shape};

use crate::axes::Keep;
use crate::axes::{AxisList, resolve, resolve_all};
use crate::graph::{Problem, bad_dtype, bad_shape};
use crate::ir::Op;
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// The sum over axes (`..` for all); 0 over an empty axis.
    #[track_caller]
    #[must_use]
    pub fn sum(self, axes: impl AxisList) -> Tensor<'g> {
        self.reduce("sum", Reduction::Sum, &axes)
    }

    /// The mean over axes; NaN over an empty axis.
    #[track_caller]
    #[must_use]
    pub fn mean(self, axes: impl AxisList) -> Tensor<'g> {
        self.graph.compose("mean", &[self], Location::caller(), || {
            self.floats("mean")?;
            let sum = self.reduce("mean", Reduction::Sum, &axes);
            let count = self.shape().count() as f64 / sum.shape().count().max(1) as f64;
            Ok(sum / sum.number(count))
        })
    }

    /// The sum of the elements over axes that are not NaN.
    #[track_caller]
    #[must_use]
    pub fn nansum(self, axes: impl AxisList) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "nansum");
        let known = || self.ne(self).select(0.0, self);
        self.graph.compose(name, &[self], place, || {
            Ok(known().reduce(name, Reduction::Sum, &axes))
        })
    }

    /// The mean of the elements over axes that are not NaN; NaN where all are.
    #[track_caller]
    #[must_use]
    pub fn nanmean(self, axes: impl AxisList) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "nanmean");
        self.graph.compose(name, &[self], place, || {
            resolve_all(name, axes.given().as_deref(), self.rank())?;
            self.floats(name)?;
            let count = self.eq(self).cast(self.dtype()).sum(&axes);
            Ok(self.nansum(&axes) / count)
        })
    }

    /// The largest element over axes; NaN if any is. The gradient is shared equally at ties.
    #[track_caller]
    #[must_use]
    pub fn max(self, axes: impl AxisList) -> Tensor<'g> {
        self.reduce("max", Reduction::Max, &axes)
    }

    /// The smallest element over axes; NaN if any is. The gradient is shared equally at ties.
    #[track_caller]
    #[must_use]
    pub fn min(self, axes: impl AxisList) -> Tensor<'g> {
        self.reduce("min", Reduction::Min, &axes)
    }

    /// The position of the first largest element along an axis, as `i64`.
    #[track_caller]
    #[must_use]
    pub fn argmax(self, axis: i32) -> Tensor<'g> {
        self.arg("argmax", Reduction::Max, axis)
    }

    /// The position of the first smallest element along an axis, as `i64`.
    #[track_caller]
    #[must_use]
    pub fn argmin(self, axis: i32) -> Tensor<'g> {
        self.arg("argmin", Reduction::Min, axis)
    }

    #[track_caller]
    fn arg(self, name: &str, reduction: Reduction, axis: i32) -> Tensor<'g> {
        let place = Location::caller();
        let Ok(found) = resolve(name, axis, self.rank()) else {
            return self.reduce(name, reduction, &axis);
        };
        self.graph.within(self.graph.origin_of(name, place), || {
            let best = self
                .stop_gradient()
                .reduce(name, reduction, &crate::Keep(axis));
            let position = self.graph.coordinate(self.shape(), found);
            let end = position.number(self.shape().size(found) as f64);
            // A NaN is the largest and the smallest, and equals nothing.
            let hit = self.eq(best).logical_or(self.ne(self));
            hit.select(position, end).min(axis)
        })
    }

    /// An error for truth values.
    pub(super) fn numbers(self, name: &str) -> Result<(), Problem> {
        if self.dtype() != DType::Bool {
            return Ok(());
        }
        Err(bad_dtype(name, "over truth values").help("convert with `.cast(I64)` to count"))
    }

    /// An error for what is no floating-point number.
    pub(super) fn floats(self, name: &str) -> Result<(), Problem> {
        if self.dtype().is_float() {
            return Ok(());
        }
        let problem = bad_dtype(name, format!("of {}", self.dtype()));
        Err(problem.help("convert with `.cast(F32)` first"))
    }

    #[track_caller]
    fn reduce(self, name: &str, reduction: Reduction, axes: &dyn AxisList) -> Tensor<'g> {
        let place = Location::caller();
        let given = axes.given();
        let resolved = resolve_all(name, given.as_deref(), self.rank());
        let reduced = self.graph.apply(name, &[self], place, |types| {
            let (dtype, shape) = types[0];
            let axes = resolved.clone()?;
            if axes.iter().any(|axis| shape.size(axis) == 0) && reduction != Reduction::Sum {
                return Err(bad_shape(name, format!("over an empty axis of {shape}")));
            }
            if reduction == Reduction::Sum {
                self.numbers(name)?;
            }
            Ok((Op::Reduce(reduction, axes), (dtype, shape.without(axes))))
        });
        match resolved {
            Ok(set) if axes.keeps() => self
                .graph
                .at(place, || reduced.reshape_to(kept(self.shape(), set))),
            _ => reduced,
        }
    }
}

/// The shape with the axes in `axes` of size 1.
pub(super) fn kept(shape: Shape, axes: Axes) -> Shape {
    axes.iter().fold(shape, |shape, axis| shape.with(axis, 1))
}

pub(super) fn vjp<'g>(
    reduction: Reduction,
    axes: Axes,
    x: Tensor<'g>,
    y: Tensor<'g>,
    g: Tensor<'g>,
) -> Option<Tensor<'g>> {
    let back = |t: Tensor<'g>| t.reshape_to(kept(x.shape(), axes)).broadcast_to(x.shape());
    if reduction == Reduction::Sum {
        return Some(back(g));
    }
    let list: Vec<i32> = axes.iter().map(|axis| axis as i32).collect();
    let chosen = x.eq(back(y));
    let ties = chosen.cast(x.dtype()).sum(list.as_slice());
    let share = back(g / ties);
    Some(chosen.select(share, share.number(0.0)))
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let cube = || reals(&[&[2, 3, 4]]);
    entries! {
        sum cube() => |x| x[0].sum([0, -1]);
        sum_keep cube() => |x| x[0].sum(Keep(1));
        mean cube() => |x| x[0].mean([0, 2]);
        nansum cube() => |x| x[0].log().nansum(1);
        nanmean cube() => |x| x[0].log().nanmean(Keep([0, 2]));
        max cube() => |x| x[0].max(1);
        min cube() => |x| x[0].min(..);
        argmax cube() => |x| x[0].argmax(1);
        argmin cube() => |x| x[0].argmin(-1);
    }
}
