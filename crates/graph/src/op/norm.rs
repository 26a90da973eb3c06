//! Normalisation by mean and variance. Scale and shift are operations of their own, which fusion
//! puts into the same pass: `x.layer_norm(-1, 1e-5) * w + b`.

use std::panic::Location;

use backprop_core::{Axes, DType};

use crate::axes::{AxisList, Keep, resolve, resolve_all};
use crate::composite::{Composite, Sample, Vjp};
use crate::graph::{Problem, bad_attribute, bad_shape};
use crate::op::catalogue::{Entry, POSITIVE, entries, reals};
use crate::op::softmax::sample_over;
use crate::operand::Operand;
use crate::tensor::Tensor;

/// How [`local_response_norm`](Tensor::local_response_norm) divides.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LocalResponse {
    /// The number of channels that count for one: half of them before it, the rest after.
    pub channels: usize,
    /// The factor of the mean square.
    pub alpha: f64,
    /// The exponent.
    pub beta: f64,
    /// What is there besides the mean square.
    pub k: f64,
}

impl<'g> Tensor<'g> {
    /// `(x - mean) / sqrt(var + eps)` over axes, usually the last (arXiv:1607.06450). 16-bit types
    /// are computed in `f32`.
    #[track_caller]
    #[must_use]
    pub fn layer_norm(self, axes: impl AxisList, eps: f64) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "layer_norm");
        self.graph.compose(name, &[self], place, || {
            check_eps(name, eps)?;
            let axes = resolve_all(name, axes.given().as_deref(), self.rank())?;
            Ok(self.standardized(axes, eps))
        })
    }

    /// `x / sqrt(mean(x^2) + eps)` over axes, usually the last (arXiv:1910.07467). 16-bit types are
    /// computed in `f32`.
    #[track_caller]
    #[must_use]
    pub fn rms_norm(self, axes: impl AxisList, eps: f64) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "rms_norm");
        self.graph.compose(name, &[self], place, || {
            check_eps(name, eps)?;
            let axes = resolve_all(name, axes.given().as_deref(), self.rank())?;
            let norm = RmsNorm { axes, eps };
            let normalized = self.graph.apply_one(norm, &[self.widened()]);
            Ok(normalized.cast(self.dtype()))
        })
    }

    /// `[batch, channels, ..]` normalised over everything but the channels, by the batch's own
    /// statistics: the form for training (arXiv:1502.03167), in which
    /// [`RunningStatistics`](crate::RunningStatistics) follow.
    #[track_caller]
    #[must_use]
    pub fn batch_norm(self, eps: f64) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "batch_norm");
        self.graph.compose(name, &[self], place, || {
            check_eps(name, eps)?;
            channels(name, self)?;
            let axes = (0..self.rank()).filter(|&axis| axis != 1).collect();
            Ok(self.standardized(axes, eps))
        })
    }

    /// `[batch, channels, ..]` normalised by given statistics of the channels: the form of
    /// [`batch_norm`](Tensor::batch_norm) for evaluation.
    #[track_caller]
    #[must_use]
    pub fn batch_norm_by(
        self,
        mean: impl Operand<'g>,
        var: impl Operand<'g>,
        eps: f64,
    ) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "batch_norm_by");
        let [mean, var] = [
            mean.on(self.graph, Some(self.dtype()), place),
            var.on(self.graph, Some(self.dtype()), place),
        ];
        self.graph.compose(name, &[self, mean, var], place, || {
            check_eps(name, eps)?;
            channels(name, self)?;
            let mean = mean.along(name, self, 1)?;
            Ok((self - mean) * (var.along(name, self, 1)? + eps).rsqrt())
        })
    }

    /// `[batch, channels, ..]` normalised for each example over each of `groups` groups of
    /// neighbouring channels (arXiv:1803.08494).
    #[track_caller]
    #[must_use]
    pub fn group_norm(self, groups: usize, eps: f64) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "group_norm");
        self.graph.compose(name, &[self], place, || {
            check_eps(name, eps)?;
            let count = channels(name, self)?;
            if groups == 0 || !count.is_multiple_of(groups) {
                let what = format!("{groups} groups of {count} channels");
                return Err(bad_attribute(name, what));
            }
            let shape = self.shape();
            let each = shape.count() / shape.size(0).saturating_mul(groups).max(1);
            let grouped = [shape.size(0), groups, each].map(|size| size as isize);
            let rows = self.reshape(grouped);
            let normalized = rows.standardized(Axes::NONE.with(2), eps);
            Ok(normalized.reshape_to(shape))
        })
    }

    /// `[batch, channels, ..]` normalised for each example and channel (arXiv:1607.08022).
    #[track_caller]
    #[must_use]
    pub fn instance_norm(self, eps: f64) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "instance_norm");
        self.graph.compose(name, &[self], place, || {
            check_eps(name, eps)?;
            channels(name, self)?;
            Ok(self.standardized((2..self.rank()).collect(), eps))
        })
    }

    /// `[batch, channels, ..]`, each channel divided by `(k + alpha mean(x^2))^beta`, the mean taken
    /// over neighbouring channels (Krizhevsky et al., 2012, section 3.3).
    #[track_caller]
    #[must_use]
    pub fn local_response_norm(self, how: LocalResponse) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "local_response_norm");
        self.graph.compose(name, &[self], place, || {
            let count = channels(name, self)?;
            if how.channels == 0 {
                return Err(bad_attribute(name, "over no channels"));
            }
            let zeros = |at: usize| (0..self.rank()).map(move |axis| usize::from(axis == 1) * at);
            // Channels beyond all there are add nothing.
            let others = count.saturating_sub(1);
            let before = (how.channels / 2).min(others);
            let after = ((how.channels - 1) / 2).min(others);
            let low: Vec<usize> = zeros(before).collect();
            let high: Vec<usize> = zeros(after).collect();
            let squares = self.square().pad(low, high, 0.0);
            let shifted = (0..before + 1 + after).map(|k| squares.narrow(1, k, k + count));
            let Some(sum) = shifted.reduce(|sum, part| sum + part) else {
                return Ok(self);
            };
            let base = sum * (how.alpha / how.channels as f64) + how.k;
            Ok(self / base.pow(how.beta))
        })
    }

    /// `x * weight`, with the list `weight` laid along `axis`: what follows an RMS norm (axis -1).
    #[track_caller]
    #[must_use]
    pub fn gain(self, weight: impl Operand<'g>, axis: i32) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "gain");
        let weight = weight.on(self.graph, Some(self.dtype()), place);
        self.graph.compose(name, &[self, weight], place, || {
            let axis = resolve(name, axis, self.rank())?;
            Ok(self * weight.along(name, self, axis)?)
        })
    }

    /// `x * weight + bias`, both of them along `axis`: what follows a norm of channels (axis 1).
    #[track_caller]
    #[must_use]
    pub fn affine(self, weight: impl Operand<'g>, bias: impl Operand<'g>, axis: i32) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "affine");
        let [weight, bias] = [
            weight.on(self.graph, Some(self.dtype()), place),
            bias.on(self.graph, Some(self.dtype()), place),
        ];
        self.graph.compose(name, &[self, weight, bias], place, || {
            let axis = resolve(name, axis, self.rank())?;
            Ok(self * weight.along(name, self, axis)? + bias.along(name, self, axis)?)
        })
    }

    #[track_caller]
    fn standardized(self, axes: Axes, eps: f64) -> Tensor<'g> {
        let norm = LayerNorm { axes, eps };
        let normalized = self.graph.apply_one(norm, &[self.widened()]);
        normalized.cast(self.dtype())
    }

    /// This list of numbers, laid along an axis of `x`.
    #[track_caller]
    pub(super) fn along(
        self,
        operation: &str,
        x: Tensor<'g>,
        axis: usize,
    ) -> Result<Tensor<'g>, Problem> {
        let size = x.shape().size(axis);
        if self.shape().sizes() != [size] {
            let what = format!("{} along axis {axis} of {}", self.shape(), x.shape());
            return Err(bad_shape(operation, what));
        }
        let mut shape = vec![1; x.rank()];
        shape[axis] = size as isize;
        Ok(self.reshape(shape))
    }
}

/// A negative number is unusual, and means what it says.
fn check_eps(operation: &str, eps: f64) -> Result<(), Problem> {
    match eps.is_finite() {
        true => Ok(()),
        false => Err(bad_attribute(operation, format!("eps is {eps}"))),
    }
}

fn channels(operation: &str, x: Tensor<'_>) -> Result<usize, Problem> {
    match x.shape().sizes() {
        [_, channels, ..] => Ok(*channels),
        _ => {
            let what = format!("{} has no axis of channels", x.shape());
            Err(bad_shape(operation, what).help("the axes are [batch, channels, ..]"))
        }
    }
}

#[derive(Debug)]
struct LayerNorm {
    axes: Axes,
    eps: f64,
}

impl LayerNorm {
    /// The centered rows, and one over their deviation.
    fn parts<'g>(&self, x: Tensor<'g>) -> (Tensor<'g>, Tensor<'g>) {
        let centered = x - x.mean(Keep(self.axes));
        (centered, scale(centered, self.axes, self.eps))
    }
}

/// One over the root of the mean square.
fn scale(x: Tensor<'_>, axes: Axes, eps: f64) -> Tensor<'_> {
    (x.square().mean(Keep(axes)) + eps).rsqrt()
}

impl Composite for LayerNorm {
    fn name(&self) -> &str {
        "layer_norm"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let (centered, scale) = self.parts(inputs[0]);
        vec![centered * scale]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (y, g) = (cx.outputs[0], cx.cotangents[0]?);
        let (_, scale) = self.parts(cx.inputs[0]);
        let along = y * (g * y).mean(Keep(self.axes));
        Some(vec![Some((g - g.mean(Keep(self.axes)) - along) * scale)])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![sample_over(self.axes)]
    }
}

#[derive(Debug)]
struct RmsNorm {
    axes: Axes,
    eps: f64,
}

impl Composite for RmsNorm {
    fn name(&self) -> &str {
        "rms_norm"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        vec![inputs[0] * scale(inputs[0], self.axes, self.eps)]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (y, g) = (cx.outputs[0], cx.cotangents[0]?);
        let scale = scale(cx.inputs[0], self.axes, self.eps);
        let along = y * (g * y).mean(Keep(self.axes));
        Some(vec![Some((g - along) * scale)])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![sample_over(self.axes)]
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let cube = || reals(&[&[2, 3, 4]]);
    let image = || reals(&[&[2, 4, 3]]);
    entries! {
        layer_norm cube() => |x| x[0].layer_norm(-1, 1e-5);
        layer_norm_of_two cube() => |x| x[0].layer_norm([1, 2], 1e-5);
        rms_norm cube() => |x| x[0].rms_norm(-1, 1e-6);
        batch_norm image() => |x| x[0].batch_norm(1e-5);
        batch_norm_by {
            let [mut sample] = [Sample::reals(&[&[2, 3, 2], &[3]])];
            sample = sample.with(DType::F64, &[3], POSITIVE);
            vec![sample]
        } => |x| x[0].batch_norm_by(x[1], x[2], 1e-5);
        group_norm image() => |x| x[0].group_norm(2, 1e-5);
        instance_norm image() => |x| x[0].instance_norm(1e-5);
        local_response_norm reals(&[&[2, 4, 3]]) => |x| {
            let how = LocalResponse { channels: 3, alpha: 0.5, beta: 0.75, k: 1.0 };
            x[0].local_response_norm(how)
        };
        gain reals(&[&[2, 3, 2], &[2]]) => |x| x[0].gain(x[1], -1);
        affine reals(&[&[2, 3, 2], &[3], &[3]]) => |x| x[0].affine(x[1], x[2], 1);
    }
}
