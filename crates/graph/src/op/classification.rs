//! Losses of class scores with integer labels.
//!
//! A label is compared with the coordinate along the class axis instead of indexing by it: the
//! whole loss is then one pass over the rows, and so is its gradient, `softmax - target`.

use std::panic::Location;

use backprop_core::{Axes, DType};

use crate::axes::{Keep, resolve};
use crate::composite::{Composite, Sample, Vjp};
use crate::graph::{Graph, Problem, bad_attribute, bad_dtype, bad_shape};
use crate::op::catalogue::{Entry, entries, labelled, reals};
use crate::op::loss::Reduce;
use crate::tensor::Tensor;

/// How [`cross_entropy`](Tensor::cross_entropy) counts.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'g> {
    /// How the losses become one. With [`Reduce::Mean`], ignored ones do not count.
    pub reduce: Reduce,
    /// The part of the target that is spread evenly over all classes (arXiv:1512.00567), in 0..=1.
    pub label_smoothing: f64,
    /// A label whose losses are 0 and do not count.
    pub ignore_index: Option<i64>,
    /// The axis of the classes.
    pub axis: i32,
    /// A factor for each class, as `[classes]`. [`Reduce::Mean`] divides by the sum of the labels'
    /// factors.
    pub weights: Option<Tensor<'g>>,
}

impl Default for CrossEntropy<'_> {
    /// The mean over all, without smoothing; classes along the last axis, all alike.
    fn default() -> Self {
        CrossEntropy {
            reduce: Reduce::Mean,
            label_smoothing: 0.0,
            ignore_index: None,
            axis: -1,
            weights: None,
        }
    }
}

/// How [`nll_loss`](Tensor::nll_loss) counts: as [`CrossEntropy`] does.
#[derive(Clone, Copy, Debug)]
pub struct NegativeLogLikelihood<'g> {
    /// How the losses become one.
    pub reduce: Reduce,
    /// A label whose losses are 0 and do not count.
    pub ignore_index: Option<i64>,
    /// The axis of the classes.
    pub axis: i32,
    /// A factor for each class, as `[classes]`.
    pub weights: Option<Tensor<'g>>,
}

impl Default for NegativeLogLikelihood<'_> {
    /// The mean over all; classes along the last axis, all alike.
    fn default() -> Self {
        NegativeLogLikelihood {
            reduce: Reduce::Mean,
            ignore_index: None,
            axis: -1,
            weights: None,
        }
    }
}

impl<'g> Tensor<'g> {
    /// The cross-entropy of `softmax(self)` with integer `labels`, whose shape is this one without
    /// the axis of the classes. Labels that are fed must lie in `0..classes` or be the ignored one:
    /// anything else is an error before the step runs. Floating-point `labels` of this shape are the
    /// probability of every class instead, and [`Reduce::Mean`] divides by the number of points.
    /// 16-bit types are computed in `f32`.
    #[track_caller]
    #[must_use]
    pub fn cross_entropy(self, labels: Tensor<'g>, how: CrossEntropy<'g>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "cross_entropy");
        let operands = operands([self, labels], how.weights);
        self.graph.compose(name, &operands, place, || {
            let smoothing = how.label_smoothing;
            if !(0.0..=1.0).contains(&smoothing) {
                return Err(bad_attribute(name, format!("label smoothing {smoothing}")));
            }
            let wide = self.widened();
            let loss = if labels.dtype().is_float() {
                wide.soft_cross_entropy(labels, how)?
            } else {
                let (classes, labels) =
                    Classes::new(name, [self, labels], how.axis, how.ignore_index)?;
                let reduce = how.reduce;
                match classes.weights(name, wide, how.weights)? {
                    Some(weights) => {
                        let logs = wide.log_softmax(how.axis);
                        classes.weighted([logs, labels, weights], smoothing, reduce)
                    }
                    None => {
                        let fused = FusedCrossEntropy {
                            classes,
                            smoothing,
                            reduce,
                        };
                        self.graph.apply_one(fused, &[wide, labels])
                    }
                }
            };
            Ok(loss.cast(self.dtype()))
        })
    }

    /// With a probability for every class.
    #[track_caller]
    fn soft_cross_entropy(
        self,
        target: Tensor<'g>,
        how: CrossEntropy<'g>,
    ) -> Result<Tensor<'g>, Problem> {
        let name = "cross_entropy";
        let at = resolve(name, how.axis, self.rank())?;
        if target.shape() != self.shape() {
            let what = format!(
                "probabilities {} for logits {}",
                target.shape(),
                self.shape()
            );
            return Err(bad_shape(name, what).help("integer labels are class numbers"));
        }
        if let Some(ignored) = how.ignore_index {
            let what = format!("label {ignored} is ignored, but labels are probabilities");
            return Err(bad_attribute(name, what));
        }
        let (target, even) = (target.widened(), how.label_smoothing);
        let target = match even {
            0.0 => target,
            even => target * (1.0 - even) + even / self.shape().size(at) as f64,
        };
        let logs = self.log_softmax(how.axis);
        let weighted = match how.weights {
            Some(weights) => logs * weights.widened().along(name, self, at)?,
            None => logs,
        };
        Ok(how.reduce.apply(-(target * weighted).sum(how.axis)))
    }

    /// The negative of the log-probability, in this tensor, of each of the integer `labels`.
    /// Shapes and labels as for [`cross_entropy`](Tensor::cross_entropy).
    #[track_caller]
    #[must_use]
    pub fn nll_loss(self, labels: Tensor<'g>, how: NegativeLogLikelihood<'g>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "nll_loss");
        let operands = operands([self, labels], how.weights);
        self.graph.compose(name, &operands, place, || {
            let (classes, labels) = Classes::new(name, [self, labels], how.axis, how.ignore_index)?;
            if let Some(weights) = classes.weights(name, self, how.weights)? {
                return Ok(classes.weighted([self, labels, weights], 0.0, how.reduce));
            }
            let picked = classes.hits(self, labels).select(self, 0.0);
            let losses = classes.counted(labels, -picked.sum(Keep(classes.axis)));
            Ok(classes.reduced(how.reduce, losses, labels))
        })
    }

    /// 1 at each of the integer `labels`, 0 elsewhere, along a new last axis of `classes`.
    #[track_caller]
    #[must_use]
    pub fn one_hot(self, classes: usize, dtype: DType) -> Tensor<'g> {
        let place = Location::caller();
        self.graph.compose("one_hot", &[self], place, || {
            integers("one_hot", self)?;
            let sizes = [self.shape().sizes(), &[classes]].concat();
            let last = Axes::NONE.with(self.rank());
            let labels = self.limited("one_hot", classes);
            Ok(self.graph.hits(&sizes, last, labels).cast(dtype))
        })
    }
}

impl Graph {
    /// Where, in `shape`, the coordinate along `axis` is the label.
    #[track_caller]
    fn hits<'g>(&'g self, shape: &[usize], axis: Axes, labels: Tensor<'g>) -> Tensor<'g> {
        let along = axis.iter().next().unwrap_or(0);
        // Converted point by point where they are compared, not in a pass of their own.
        let labels = labels.unsqueeze(along as i32).broadcast_to(shape);
        self.coordinate(shape, along).eq(labels.cast(DType::I64))
    }
}

fn operands<'g>(both: [Tensor<'g>; 2], weights: Option<Tensor<'g>>) -> Vec<Tensor<'g>> {
    both.into_iter().chain(weights).collect()
}

fn integers(operation: &str, labels: Tensor<'_>) -> Result<(), Problem> {
    if labels.dtype().is_integer() {
        return Ok(());
    }
    let problem = bad_dtype(operation, format!("labels of type {}", labels.dtype()));
    Err(problem.help("labels are class numbers, of type `I32` or `I64`"))
}

/// The axis of the classes (one, as a set) and the label that does not count.
#[derive(Clone, Debug)]
struct Classes {
    axis: Axes,
    ignored: Option<i64>,
}

impl Classes {
    /// With the labels, each of which is one of the classes or ignored.
    fn new<'g>(
        operation: &str,
        [x, labels]: [Tensor<'g>; 2],
        axis: i32,
        ignored: Option<i64>,
    ) -> Result<(Classes, Tensor<'g>), Problem> {
        let at = resolve(operation, axis, x.rank())?;
        let axis = Axes::NONE.with(at);
        integers(operation, labels)?;
        let expected = x.shape().without(axis);
        if labels.shape() != expected {
            let what = format!("labels of shape {}, not {expected}", labels.shape());
            let help = format!("one label for each point besides the classes along axis {at}");
            return Err(bad_shape(operation, what).help(help));
        }
        let labels = labels.limited_except(operation, x.shape().size(at), ignored);
        Ok((Classes { axis, ignored }, labels))
    }

    fn hits<'g>(&self, x: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
        x.graph.hits(x.shape().sizes(), self.axis, labels)
    }

    /// The factor of each class, at every point of `x`.
    fn weights<'g>(
        &self,
        operation: &str,
        x: Tensor<'g>,
        weights: Option<Tensor<'g>>,
    ) -> Result<Option<Tensor<'g>>, Problem> {
        let (Some(weights), Some(at)) = (weights, self.axis.iter().next()) else {
            return Ok(None);
        };
        let along = weights.cast(x.dtype()).along(operation, x, at)?;
        Ok(Some(along.broadcast_to(x.shape())))
    }

    /// The loss of log-probabilities with labels and the classes' factors.
    fn weighted<'g>(
        &self,
        [logs, labels, weights]: [Tensor<'g>; 3],
        smoothing: f64,
        reduce: Reduce,
    ) -> Tensor<'g> {
        let (hits, over) = (self.hits(logs, labels), Keep(self.axis));
        let picked = |x: Tensor<'g>| hits.select(x, 0.0).sum(over);
        let each = logs * weights;
        let mut losses = -picked(each);
        if smoothing > 0.0 {
            let classes = logs.shape().filter(|axis| self.axis.contains(axis));
            let even = each.sum(over) * (smoothing / classes.count() as f64);
            losses = losses * (1.0 - smoothing) - even;
        }
        let losses = self.counted(labels, losses);
        match reduce {
            Reduce::Mean => losses.sum(..) / self.counted(labels, picked(weights)).sum(..),
            reduce => self.reduced(reduce, losses, labels),
        }
    }

    /// Which rows count; `None` if all do.
    fn valid<'g>(&self, labels: Tensor<'g>) -> Option<Tensor<'g>> {
        let along = self.axis.iter().next()? as i32;
        let ignored = labels.unsqueeze(along).number(self.ignored? as f64);
        Some(labels.unsqueeze(along).ne(ignored))
    }

    /// Values of rows (the class axis has size 1), 0 where a row does not count.
    fn counted<'g>(&self, labels: Tensor<'g>, rows: Tensor<'g>) -> Tensor<'g> {
        match self.valid(labels) {
            Some(valid) => valid.select(rows, 0.0),
            None => rows,
        }
    }

    /// By what the sum of the losses is divided.
    fn divisor<'g>(&self, reduce: Reduce, losses: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
        let number = |value: usize| losses.graph.full([], value as f64, losses.dtype());
        match (reduce, self.valid(labels)) {
            (Reduce::Mean, Some(valid)) => valid.cast(losses.dtype()).sum(..),
            (Reduce::Mean, None) => number(losses.shape().count()),
            (Reduce::BatchMean, _) => number(losses.shape().size(0)),
            (Reduce::Sum | Reduce::None, _) => number(1),
        }
    }

    fn reduced<'g>(&self, reduce: Reduce, losses: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
        match reduce {
            Reduce::None => losses.reshape_to(losses.shape().without(self.axis)),
            _ => losses.sum(..) / self.divisor(reduce, losses, labels),
        }
    }
}

#[derive(Debug)]
struct FusedCrossEntropy {
    classes: Classes,
    smoothing: f64,
    reduce: Reduce,
}

impl FusedCrossEntropy {
    /// The shifted logits and the logarithm of the sum of their exponentials.
    fn logits<'g>(&self, x: Tensor<'g>) -> (Tensor<'g>, Tensor<'g>) {
        let shifted = x.shifted(self.classes.axis);
        (shifted, shifted.exp().sum(Keep(self.classes.axis)).log())
    }

    /// The part of the target that every class gets.
    fn spread(&self, x: Tensor<'_>) -> f64 {
        let classes = x.shape().filter(|axis| self.classes.axis.contains(axis));
        self.smoothing / classes.count() as f64
    }
}

impl Composite for FusedCrossEntropy {
    fn name(&self) -> &str {
        "cross_entropy"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let (x, labels) = (inputs[0], inputs[1]);
        let (shifted, log_sum) = self.logits(x);
        let hits = self.classes.hits(x, labels);
        let picked = hits.select(shifted, 0.0).sum(Keep(self.classes.axis));
        let mut losses = match self.smoothing {
            0.0 => log_sum - picked,
            smoothing => log_sum - picked * (1.0 - smoothing),
        };
        if self.smoothing > 0.0 {
            losses = losses - shifted.sum(Keep(self.classes.axis)) * self.spread(x);
        }
        let losses = self.classes.counted(labels, losses);
        vec![self.classes.reduced(self.reduce, losses, labels)]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (x, labels, g) = (cx.inputs[0], cx.inputs[1], cx.cotangents[0]?);
        let (shifted, log_sum) = self.logits(x);
        let weight = match self.reduce {
            Reduce::None => g.reshape_to(log_sum.shape()),
            reduce => g / self.classes.divisor(reduce, log_sum, labels),
        };
        let weight = self.classes.counted(labels, weight);
        let (even, peak) = (self.spread(x), 1.0 - self.smoothing);
        let target = self
            .classes
            .hits(x, labels)
            .select(shifted.number(peak + even), shifted.number(even));
        Some(vec![
            Some(((shifted - log_sum).exp() - target) * weight),
            None,
        ])
    }

    fn samples(&self) -> Vec<Sample> {
        let axis = self.classes.axis.iter().next().unwrap_or(0);
        let shape: Vec<usize> = (0..=axis.max(1)).map(|axis| 3 + axis).collect();
        let mut labels = shape.clone();
        let classes = labels.remove(axis);
        let range = (0.0, classes as f64);
        vec![Sample::reals(&[&shape]).with(DType::I64, &labels, range)]
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let rows = || labelled(&[&[4, 5]], &[4], 5);
    entries! {
        cross_entropy rows() => |x| x[0].cross_entropy(x[1], CrossEntropy::default());
        cross_entropy_sum rows() => |x| {
            let how = CrossEntropy { reduce: Reduce::Sum, label_smoothing: 0.1, ..Default::default() };
            x[0].cross_entropy(x[1], how)
        };
        cross_entropy_ignoring rows() => |x| {
            let how = CrossEntropy { ignore_index: Some(2), ..Default::default() };
            x[0].cross_entropy(x[1], how)
        };
        cross_entropy_each labelled(&[&[2, 4, 3]], &[2, 3], 4) => |x| {
            let how = CrossEntropy { reduce: Reduce::None, axis: 1, ..Default::default() };
            x[0].cross_entropy(x[1], how)
        };
        cross_entropy_weighted labelled(&[&[4, 5], &[5]], &[4], 5) => |x| {
            let weights = Some(x[1].square() + 0.1);
            let (label_smoothing, ignore_index) = (0.1, Some(2));
            let how = CrossEntropy { weights, label_smoothing, ignore_index, ..Default::default() };
            x[0].cross_entropy(x[2], how)
        };
        cross_entropy_of_probabilities reals(&[&[2, 4, 3], &[2, 4, 3], &[4]]) => |x| {
            let weights = Some(x[2]);
            let how = CrossEntropy { weights, axis: 1, ..Default::default() };
            x[0].cross_entropy(x[1].softmax(1), how)
        };
        nll_loss rows() => |x| x[0].nll_loss(x[1], NegativeLogLikelihood::default());
        nll_loss_weighted labelled(&[&[4, 5], &[5]], &[4], 5) => |x| {
            let weights = Some(x[1]);
            let reduce = Reduce::Sum;
            let how = NegativeLogLikelihood { weights, reduce, ..Default::default() };
            x[0].nll_loss(x[2], how)
        };
        one_hot labelled(&[], &[2, 3], 4) => |x| x[0].one_hot(4, DType::F64);
    }
}
