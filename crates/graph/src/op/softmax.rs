//! Softmax and its relatives. All of them subtract the largest element first, so that nothing
//! overflows; as the shift cancels, it is cut off from differentiation.

use std::panic::Location;

use backprop_core::Axes;

use crate::axes::{AxisList, Keep, resolve, resolve_all};
use crate::composite::{Composite, Sample, Vjp};
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// `e^x / sum(e^x)` along `axis`. 16-bit types are computed in `f32`.
    #[track_caller]
    #[must_use]
    pub fn softmax(self, axis: i32) -> Tensor<'g> {
        self.graph
            .compose("softmax", &[self], Location::caller(), || {
                let axis = Axes::NONE.with(resolve("softmax", axis, self.rank())?);
                let softmax = self.graph.apply_one(Softmax { axis }, &[self.widened()]);
                Ok(softmax.cast(self.dtype()))
            })
    }

    /// `x - log(sum(e^x))` along `axis`. 16-bit types are computed in `f32`.
    #[track_caller]
    #[must_use]
    pub fn log_softmax(self, axis: i32) -> Tensor<'g> {
        self.graph
            .compose("log_softmax", &[self], Location::caller(), || {
                let axis = Axes::NONE.with(resolve("log_softmax", axis, self.rank())?);
                let logs = self.graph.apply_one(LogSoftmax { axis }, &[self.widened()]);
                Ok(logs.cast(self.dtype()))
            })
    }

    /// `log(sum(e^x))` over axes. 16-bit types are computed in `f32`.
    #[track_caller]
    #[must_use]
    pub fn logsumexp(self, axes: impl AxisList) -> Tensor<'g> {
        self.graph
            .compose("logsumexp", &[self], Location::caller(), || {
                let set = resolve_all("logsumexp", axes.given().as_deref(), self.rank())?;
                let sum = LogSumExp { axes: set };
                let kept = self.graph.apply_one(sum, &[self.widened()]);
                Ok(kept.cast(self.dtype()).without_kept(set, &axes))
            })
    }

    /// In the type in which sums of this tensor's type are accumulated.
    #[track_caller]
    pub(crate) fn widened(self) -> Tensor<'g> {
        self.cast(self.dtype().accumulator())
    }

    /// This tensor minus its largest element over `axes`.
    #[track_caller]
    pub(crate) fn shifted(self, axes: Axes) -> Tensor<'g> {
        match axes.iter().any(|axis| self.shape().size(axis) == 0) {
            // No element, and none to be the largest.
            true => self,
            false => self - self.stop_gradient().max(Keep(axes)),
        }
    }

    /// A result in which the reduced axes `set` still have size 1, as the caller wants it.
    #[track_caller]
    pub(crate) fn without_kept(self, set: Axes, wanted: &impl AxisList) -> Tensor<'g> {
        match wanted.keeps() {
            true => self,
            false => self.reshape_to(self.shape().without(set)),
        }
    }
}

/// A sample in which `axes` exist.
pub(super) fn sample_over(axes: Axes) -> Sample {
    let rank = axes.iter().last().map_or(1, |axis| axis + 1).max(2);
    let shape: Vec<usize> = (0..rank).map(|axis| 2 + axis % 2).collect();
    Sample::reals(&[&shape])
}

#[derive(Debug)]
struct Softmax {
    axis: Axes,
}

impl Composite for Softmax {
    fn name(&self) -> &str {
        "softmax"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let exp = inputs[0].shifted(self.axis).exp();
        vec![exp * exp.sum(Keep(self.axis)).reciprocal()]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (y, g) = (cx.outputs[0], cx.cotangents[0]?);
        Some(vec![Some(y * (g - (g * y).sum(Keep(self.axis))))])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![sample_over(self.axis)]
    }
}

#[derive(Debug)]
struct LogSoftmax {
    axis: Axes,
}

impl Composite for LogSoftmax {
    fn name(&self) -> &str {
        "log_softmax"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let shifted = inputs[0].shifted(self.axis);
        vec![shifted - shifted.exp().sum(Keep(self.axis)).log()]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (y, g) = (cx.outputs[0], cx.cotangents[0]?);
        Some(vec![Some(g - y.exp() * g.sum(Keep(self.axis)))])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![sample_over(self.axis)]
    }
}

/// The axes stay with size 1.
#[derive(Debug)]
struct LogSumExp {
    axes: Axes,
}

impl Composite for LogSumExp {
    fn name(&self) -> &str {
        "logsumexp"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let x = inputs[0];
        if self.axes.iter().any(|axis| x.shape().size(axis) == 0) {
            return vec![x.sum(Keep(self.axes)).log()];
        }
        let largest = x.stop_gradient().max(Keep(self.axes));
        // An infinite one would leave `inf - inf`.
        let shift = largest.abs().eq(f64::INFINITY).select(0.0, largest);
        vec![(x - shift).exp().sum(Keep(self.axes)).log() + shift]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (x, y, g) = (cx.inputs[0], cx.outputs[0], cx.cotangents[0]?);
        Some(vec![Some(g * (x - y).exp())])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![sample_over(self.axes)]
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let cube = || reals(&[&[2, 3, 4]]);
    entries! {
        softmax cube() => |x| x[0].softmax(-1);
        softmax_over_first cube() => |x| x[0].softmax(0);
        log_softmax cube() => |x| x[0].log_softmax(1);
        logsumexp cube() => |x| x[0].logsumexp([0, 2]);
        logsumexp_keep cube() => |x| x[0].logsumexp(Keep(-1));
    }
}
