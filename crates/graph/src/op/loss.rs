//! Losses between tensors of one shape.

use std::panic::Location;

use crate::composite::{Composite, Sample, Vjp};
use crate::graph::{Problem, bad_attribute, bad_dtype, bad_shape};
use crate::op::catalogue::{Entry, entries, reals, within};
use crate::operand::Operand;
use crate::tensor::Tensor;

/// How the losses of a batch become one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Reduce {
    /// Their mean; of classes, over those not ignored.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// They stay as they are.
    None,
    /// Their sum, divided by the size of the first axis.
    BatchMean,
}

impl Reduce {
    pub(super) fn apply<'g>(self, losses: Tensor<'g>) -> Tensor<'g> {
        match self {
            Reduce::Mean => losses.mean(..),
            Reduce::Sum => losses.sum(..),
            Reduce::None => losses,
            Reduce::BatchMean => losses.sum(..) / losses.shape().size(0) as f64,
        }
    }
}

/// Operands of one shape and floating-point type. Broadcasting a prediction of `[n]` against a
/// target of `[n, 1]` is a classic silent mistake, so losses do not.
fn alike(operation: &str, x: Tensor<'_>, y: Tensor<'_>) -> Result<(), Problem> {
    let (shapes, dtypes) = ([x.shape(), y.shape()], [x.dtype(), y.dtype()]);
    if shapes[0] != shapes[1] {
        let what = format!("shapes differ, {} and {}", shapes[0], shapes[1]);
        return Err(bad_shape(operation, what).help("losses do not broadcast: reshape first"));
    }
    if dtypes[0] != dtypes[1] || !dtypes[0].is_float() {
        let what = format!("element types {} and {}", dtypes[0], dtypes[1]);
        return Err(bad_dtype(operation, what).help("convert one side with `.cast(..)`"));
    }
    Ok(())
}

impl<'g> Tensor<'g> {
    /// The squared difference from `target`.
    #[track_caller]
    #[must_use]
    pub fn mse_loss(self, target: impl Operand<'g>, reduce: Reduce) -> Tensor<'g> {
        self.loss("mse_loss", target, reduce, |x, y| Ok((x - y).square()))
    }

    /// The absolute difference from `target`; gradient 0 at 0.
    #[track_caller]
    #[must_use]
    pub fn l1_loss(self, target: impl Operand<'g>, reduce: Reduce) -> Tensor<'g> {
        self.loss("l1_loss", target, reduce, |x, y| Ok((x - y).abs()))
    }

    /// Half the squared difference `d` from `target` up to `delta`, and `delta (|d| - delta / 2)`
    /// beyond (Huber, 1964).
    #[track_caller]
    #[must_use]
    pub fn huber_loss(self, target: impl Operand<'g>, delta: f64, reduce: Reduce) -> Tensor<'g> {
        self.loss("huber_loss", target, reduce, |x, y| {
            if delta.is_nan() || delta <= 0.0 {
                return Err(bad_attribute("huber_loss", format!("delta is {delta}")));
            }
            Ok(huber(x - y, delta))
        })
    }

    /// [`huber_loss`](Tensor::huber_loss) divided by `beta`, and [`l1_loss`](Tensor::l1_loss) for
    /// `beta` 0 (arXiv:1504.08083).
    #[track_caller]
    #[must_use]
    pub fn smooth_l1_loss(self, target: impl Operand<'g>, beta: f64, reduce: Reduce) -> Tensor<'g> {
        self.loss("smooth_l1_loss", target, reduce, |x, y| match beta {
            0.0 => Ok((x - y).abs()),
            beta if beta > 0.0 => Ok(huber(x - y, beta) / beta),
            _ => Err(bad_attribute("smooth_l1_loss", format!("beta is {beta}"))),
        })
    }

    /// The cross-entropy of probabilities with `target` probabilities. Logarithms are limited to
    /// -100, and the gradient's divisor to 1e-12, as in PyTorch: it stays finite at 0 and 1.
    #[track_caller]
    #[must_use]
    pub fn bce_loss(self, target: impl Operand<'g>, reduce: Reduce) -> Tensor<'g> {
        self.loss("bce_loss", target, reduce, |x, y| {
            Ok(x.graph.apply_one(BinaryCrossEntropy, &[x, y]))
        })
    }

    /// The cross-entropy of `sigmoid(self)` with `target` probabilities, without overflow.
    #[track_caller]
    #[must_use]
    pub fn bce_with_logits(self, target: impl Operand<'g>, reduce: Reduce) -> Tensor<'g> {
        self.loss("bce_with_logits", target, reduce, |x, y| {
            Ok(x.softplus() - x * y)
        })
    }

    /// [`bce_with_logits`](Tensor::bce_with_logits) with the part of the positive class times
    /// `weight`, which is broadcast: above 1, to find more of what is rare.
    #[track_caller]
    #[must_use]
    pub fn bce_with_logits_weighted(
        self,
        target: impl Operand<'g>,
        weight: impl Operand<'g>,
        reduce: Reduce,
    ) -> Tensor<'g> {
        let weight = weight.on(self.graph, Some(self.dtype()), Location::caller());
        self.loss("bce_with_logits_weighted", target, reduce, |x, y| {
            if weight.shape().broadcast(&y.shape()) != Some(y.shape()) {
                let what = format!("weight {} for {}", weight.shape(), y.shape());
                return Err(bad_shape("bce_with_logits_weighted", what));
            }
            let missed = y * (weight - 1.0) + 1.0;
            Ok((1.0 - y) * x + missed * (-x).softplus())
        })
    }

    /// The divergence `target (log(target) - self)` of log-probabilities from `target`
    /// probabilities (Kullback and Leibler, 1951); usually with [`Reduce::BatchMean`].
    #[track_caller]
    #[must_use]
    pub fn kl_div(self, target: impl Operand<'g>, reduce: Reduce) -> Tensor<'g> {
        self.loss("kl_div", target, reduce, |x, y| {
            let entropy = y * y.eq(0.0).select(1.0, y).log();
            Ok(entropy - y * x)
        })
    }

    #[track_caller]
    fn loss(
        self,
        name: &str,
        target: impl Operand<'g>,
        reduce: Reduce,
        each: impl FnOnce(Tensor<'g>, Tensor<'g>) -> Result<Tensor<'g>, Problem>,
    ) -> Tensor<'g> {
        let place = Location::caller();
        let target = target.on(self.graph, Some(self.dtype()), place);
        self.graph.compose(name, &[self, target], place, || {
            alike(name, self, target)?;
            Ok(reduce.apply(each(self, target)?))
        })
    }
}

/// Has no branch that could overflow: the limited difference carries the derivative.
fn huber(difference: Tensor<'_>, delta: f64) -> Tensor<'_> {
    let limited = difference.clamp(-delta, delta);
    limited * (difference - limited * 0.5)
}

#[derive(Debug)]
struct BinaryCrossEntropy;

impl Composite for BinaryCrossEntropy {
    fn name(&self) -> &str {
        "bce_loss"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let (x, y) = (inputs[0], inputs[1]);
        let [yes, no] = logarithms(x);
        vec![(y - 1.0) * no - y * yes]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (x, y, g) = (cx.inputs[0], cx.inputs[1], cx.cotangents[0]?);
        let [yes, no] = logarithms(x);
        let variance = (x * (1.0 - x)).maximum(1e-12);
        Some(vec![Some(g * (x - y) / variance), Some(g * (no - yes))])
    }

    fn samples(&self) -> Vec<Sample> {
        let inputs = vec![(backprop_core::DType::F64, vec![3, 4], (0.1, 0.9)); 2];
        vec![Sample { inputs }]
    }
}

/// Of `x` and `1 - x`, at least -100.
fn logarithms(x: Tensor<'_>) -> [Tensor<'_>; 2] {
    [x.log(), (-x).log1p()].map(|log| log.clamp(-100.0, f64::INFINITY))
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let two = || reals(&[&[3, 4], &[3, 4]]);
    let unit = || within((0.1, 0.9), &[&[3, 4], &[3, 4]]);
    entries! {
        mse_loss two() => |x| x[0].mse_loss(x[1], Reduce::Mean);
        l1_loss two() => |x| x[0].l1_loss(x[1], Reduce::Sum);
        huber_loss two() => |x| x[0].huber_loss(x[1], 0.6, Reduce::Mean);
        smooth_l1_loss two() => |x| x[0].smooth_l1_loss(x[1], 0.6, Reduce::None);
        bce_loss unit() => |x| x[0].bce_loss(x[1], Reduce::Mean);
        bce_with_logits two() => |x| x[0].bce_with_logits(x[1], Reduce::BatchMean);
        bce_with_logits_weighted reals(&[&[3, 4], &[3, 4], &[4]]) => |x| {
            x[0].bce_with_logits_weighted(x[1], x[2], Reduce::Mean)
        };
        kl_div unit() => |x| x[0].kl_div(x[1], Reduce::BatchMean);
    }
}
