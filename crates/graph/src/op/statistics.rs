//! Statistics, norms and products over axes.

use std::panic::Location;

use backprop_core::{Axes, DType};

use crate::axes::{AxisList, Keep, resolve_all};
use crate::composite::{Composite, Sample, Vjp};
use crate::graph::{Problem, bad_attribute, bad_shape};
use crate::op::catalogue::{Entry, entries, labelled, reals};
use crate::op::softmax::sample_over;
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// The mean squared distance from the mean, over axes. NaN over an empty axis.
    #[track_caller]
    #[must_use]
    pub fn var(self, axes: impl AxisList) -> Tensor<'g> {
        self.spread("var", axes, 0.0, Ok)
    }

    /// The variance of the population of which this is a sample: divided by one less than the
    /// number of elements. NaN for a single element.
    #[track_caller]
    #[must_use]
    pub fn var_unbiased(self, axes: impl AxisList) -> Tensor<'g> {
        self.spread("var_unbiased", axes, 1.0, Ok)
    }

    /// The square root of [`var`](Tensor::var); gradient 0 at 0.
    #[track_caller]
    #[must_use]
    pub fn std(self, axes: impl AxisList) -> Tensor<'g> {
        self.spread("std", axes, 0.0, |var| Ok(var.sqrt_or_flat()))
    }

    /// The square root of [`var_unbiased`](Tensor::var_unbiased); gradient 0 at 0.
    #[track_caller]
    #[must_use]
    pub fn std_unbiased(self, axes: impl AxisList) -> Tensor<'g> {
        self.spread("std_unbiased", axes, 1.0, |var| Ok(var.sqrt_or_flat()))
    }

    #[track_caller]
    fn spread(
        self,
        name: &'static str,
        axes: impl AxisList,
        correction: f64,
        finish: impl FnOnce(Tensor<'g>) -> Result<Tensor<'g>, Problem>,
    ) -> Tensor<'g> {
        self.graph.compose(name, &[self], Location::caller(), || {
            let set = resolve_all(name, axes.given().as_deref(), self.rank())?;
            self.floats(name)?;
            let variance = Variance {
                axes: set,
                correction,
            };
            let var = self.graph.apply_one(variance, &[self.widened()]);
            Ok(finish(var)?.cast(self.dtype()).without_kept(set, &axes))
        })
    }

    /// The norm `sum(|x|^p)^(1/p)` over axes: `p` may be infinite (the largest magnitude), negative
    /// infinite (the smallest) or 0 (the number of elements that are not 0). Gradient 0 at 0.
    #[track_caller]
    #[must_use]
    pub fn norm(self, p: f64, axes: impl AxisList) -> Tensor<'g> {
        self.graph.compose("norm", &[self], Location::caller(), || {
            let set = resolve_all("norm", axes.given().as_deref(), self.rank())?;
            self.floats("norm")?;
            if p.is_nan() {
                return Err(bad_attribute("norm", "p is NaN"));
            }
            let x = self.widened();
            let norm = match p {
                0.0 => x.ne(0.0).cast(x.dtype()).sum(Keep(set)),
                1.0 => x.abs().sum(Keep(set)),
                2.0 => x.square().sum(Keep(set)).sqrt_or_flat(),
                f64::INFINITY => x.abs().max(Keep(set)),
                f64::NEG_INFINITY => x.abs().min(Keep(set)),
                p => {
                    let zero_to = |power: f64| if power < 0.0 { f64::INFINITY } else { 0.0 };
                    let powers = x.abs().away_from_zero(|x| x.pow(p), zero_to(p));
                    let sum = powers.sum(Keep(set));
                    sum.away_from_zero(|sum| sum.pow(1.0 / p), zero_to(p))
                }
            };
            Ok(norm.cast(self.dtype()).without_kept(set, &axes))
        })
    }

    /// The distance of every row of `[.., m, k]` from every row of `right`, `[.., n, k]`: the
    /// [`norm`](Tensor::norm) of their differences, as `[.., m, n]`. The differences are not stored.
    #[track_caller]
    #[must_use]
    pub fn cdist(self, right: Tensor<'g>, p: f64) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "cdist");
        self.graph.compose(name, &[self, right], place, || {
            let width = |x: Tensor<'g>| x.shape().sizes().last().copied();
            if self.rank() < 2 || right.rank() < 2 || width(self) != width(right) {
                let what = format!("between rows of {} and {}", self.shape(), right.shape());
                return Err(bad_shape(name, what));
            }
            Ok((self.unsqueeze(-2) - right.unsqueeze(-3)).norm(p, -1))
        })
    }

    /// The square root, with gradient 0 instead of infinity at 0.
    #[track_caller]
    fn sqrt_or_flat(self) -> Tensor<'g> {
        self.away_from_zero(Tensor::sqrt, 0.0)
    }

    /// `function` where this is not 0, and `at_zero` without a gradient where it is.
    #[track_caller]
    pub(super) fn away_from_zero(
        self,
        function: impl FnOnce(Tensor<'g>) -> Tensor<'g>,
        at_zero: f64,
    ) -> Tensor<'g> {
        let zero = self.eq(0.0);
        zero.select(at_zero, function(zero.select(1.0, self)))
    }

    /// The product over axes; 1 over an empty axis. Derivatives of every order are exact, at zeros
    /// too: the elements are multiplied pairwise, in a tree, and nothing is divided.
    #[track_caller]
    #[must_use]
    pub fn prod(self, axes: impl AxisList) -> Tensor<'g> {
        self.graph.compose("prod", &[self], Location::caller(), || {
            let set = resolve_all("prod", axes.given().as_deref(), self.rank())?;
            self.numbers("prod")?;
            let product = set.iter().fold(self, |x, axis| x.prod_along(axis));
            Ok(product.without_kept(set, &axes))
        })
    }

    #[track_caller]
    fn prod_along(self, axis: usize) -> Tensor<'g> {
        let (mut x, along) = (self, axis as i32);
        if self.shape().size(axis) == 0 {
            return self
                .graph
                .full(self.shape().with(axis, 1), 1.0, self.dtype());
        }
        loop {
            let size = x.shape().size(axis);
            if size <= 1 {
                return x;
            }
            let half = size / 2;
            let pairs = x.narrow(along, 0, half) * x.narrow(along, half, 2 * half);
            x = match size % 2 {
                0 => pairs,
                _ => self
                    .graph
                    .concat(&[pairs, x.narrow(along, 2 * half, size)], along),
            };
        }
    }

    /// Whether any element over axes is true (for numbers: not 0); false over an empty axis.
    #[track_caller]
    #[must_use]
    pub fn any(self, axes: impl AxisList) -> Tensor<'g> {
        self.graph.compose("any", &[self], Location::caller(), || {
            resolve_all("any", axes.given().as_deref(), self.rank())?;
            let hits = self.cast(DType::Bool).cast(DType::I64).sum(&axes);
            Ok(hits.ne(0.0))
        })
    }

    /// Whether all elements over axes are true (for numbers: not 0); true over an empty axis.
    #[track_caller]
    #[must_use]
    pub fn all(self, axes: impl AxisList) -> Tensor<'g> {
        self.graph.compose("all", &[self], Location::caller(), || {
            resolve_all("all", axes.given().as_deref(), self.rank())?;
            let misses = self.cast(DType::Bool).logical_not();
            Ok(misses.cast(DType::I64).sum(&axes).eq(0.0))
        })
    }
}

/// The axes stay with size 1. Its own gradient leaves out the path through the mean, along which
/// nothing but rounding errors comes back.
#[derive(Debug)]
struct Variance {
    axes: Axes,
    correction: f64,
}

impl Variance {
    fn divisor(&self, x: Tensor<'_>) -> f64 {
        let count = x.shape().filter(|axis| self.axes.contains(axis)).count();
        (count as f64 - self.correction).max(0.0)
    }
}

impl Composite for Variance {
    fn name(&self) -> &str {
        "var"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let x = inputs[0];
        let centered = x - x.mean(Keep(self.axes));
        vec![centered.square().sum(Keep(self.axes)) / self.divisor(x)]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (x, g) = (cx.inputs[0], cx.cotangents[0]?);
        let centered = x - x.mean(Keep(self.axes));
        Some(vec![Some(centered * (g * 2.0 / self.divisor(x)))])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![sample_over(self.axes)]
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let cube = || reals(&[&[2, 3, 4]]);
    entries! {
        var cube() => |x| x[0].var([1, 2]);
        var_unbiased cube() => |x| x[0].var_unbiased(-1);
        std cube() => |x| x[0].std(0);
        std_unbiased cube() => |x| x[0].std_unbiased(..);
        norm_1 cube() => |x| x[0].norm(1.0, -1);
        norm_2 cube() => |x| x[0].norm(2.0, Keep(-1));
        norm_3 cube() => |x| x[0].norm(3.0, [0, 1]);
        norm_inf cube() => |x| x[0].norm(f64::INFINITY, ..);
        prod cube() => |x| x[0].prod(1);
        prod_of_two cube() => |x| x[0].prod(Keep([0, 2]));
        cdist_1 reals(&[&[2, 3, 4], &[2, 4]]) => |x| x[0].cdist(x[1], 1.0);
        cdist_2 reals(&[&[3, 4], &[2, 1, 4]]) => |x| x[0].cdist(x[1], 2.0);
        any labelled(&[], &[2, 3], 2) => |x| x[0].any(1);
        all labelled(&[], &[2, 3], 2) => |x| x[0].all(..);
    }
}
