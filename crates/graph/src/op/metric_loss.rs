//! Losses that compare distances, ranks and scores with a margin, and likelihoods of regression.

use std::f64::consts::TAU;
use std::panic::Location;

use crate::graph::{Problem, bad_attribute, bad_shape};
use crate::op::catalogue::{Entry, POSITIVE, entries, labelled, reals};
use crate::op::loss::Reduce;
use crate::operand::Operand;
use crate::tensor::Tensor;

/// How [`triplet_margin_loss`](Tensor::triplet_margin_loss) compares.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TripletMargin {
    /// By how much the negative is to be farther away than the positive.
    pub margin: f64,
    /// The norm of the distance.
    pub p: f64,
    /// Added to differences, so that equal vectors have a gradient.
    pub eps: f64,
    /// Whether the distance between positive and negative counts where it is the smaller one
    /// (Balntas et al., 2016).
    pub swap: bool,
    /// How the losses become one.
    pub reduce: Reduce,
}

impl Default for TripletMargin {
    /// Margin 1 by the Euclidean distance, without swap; the mean over all.
    fn default() -> TripletMargin {
        TripletMargin {
            margin: 1.0,
            p: 2.0,
            eps: 1e-6,
            swap: false,
            reduce: Reduce::Mean,
        }
    }
}

impl<'g> Tensor<'g> {
    /// The negative log-likelihood of `target` under normal distributions with these means and the
    /// given `variance`, which counts at least `eps` (Nix and Weigend, 1994). Shapes are alike.
    #[track_caller]
    #[must_use]
    pub fn gaussian_nll_loss(
        self,
        target: impl Operand<'g>,
        variance: impl Operand<'g>,
        eps: f64,
        reduce: Reduce,
    ) -> Tensor<'g> {
        let others = [self.operand(target), self.operand(variance)];
        self.compared(
            "gaussian_nll_loss",
            others,
            reduce,
            |x, [target, variance]| {
                if eps.is_nan() || eps <= 0.0 {
                    return Err(bad_attribute("gaussian_nll_loss", format!("eps is {eps}")));
                }
                // The limit has no part in the derivative: a variance below it still has a gradient.
                let excess = (eps - variance).stop_gradient().relu();
                let variance = variance + excess;
                let distance = (x - target).square() / variance;
                Ok((variance.log() + distance + libm::log(TAU)) * 0.5)
            },
        )
    }

    /// The negative log-likelihood of counts `target` under Poisson distributions, of whose rates
    /// these are the logarithms, up to the term `log(target!)`. Shapes are alike.
    #[track_caller]
    #[must_use]
    pub fn poisson_nll_loss(self, target: impl Operand<'g>, reduce: Reduce) -> Tensor<'g> {
        let target = self.operand(target);
        self.compared("poisson_nll_loss", [target], reduce, |x, [target]| {
            Ok(x.exp() - target * x)
        })
    }

    /// This distance where `sign` is 1, by how much it falls short of `margin` where `sign` is -1, and
    /// the sum of both anywhere else. Shapes are alike.
    #[track_caller]
    #[must_use]
    pub fn hinge_embedding_loss(
        self,
        sign: impl Operand<'g>,
        margin: f64,
        reduce: Reduce,
    ) -> Tensor<'g> {
        let sign = self.operand(sign);
        self.compared("hinge_embedding_loss", [sign], reduce, |x, [sign]| {
            let far = sign.ne(1.0).select((margin - x).relu(), 0.0);
            Ok(sign.ne(-1.0).select(x, 0.0) + far)
        })
    }

    /// By how much this, where `sign` is 1, falls short of `right` plus `margin`; where `sign` is
    /// -1, the other way round. Shapes are alike.
    #[track_caller]
    #[must_use]
    pub fn margin_ranking_loss(
        self,
        right: impl Operand<'g>,
        sign: impl Operand<'g>,
        margin: f64,
        reduce: Reduce,
    ) -> Tensor<'g> {
        let others = [self.operand(right), self.operand(sign)];
        self.compared("margin_ranking_loss", others, reduce, |x, [right, sign]| {
            Ok(positive_part(margin - sign * (x - right)))
        })
    }

    /// One minus the cosine of the angle to `right` along the last axis where `sign`, of the other
    /// axes' shape, is 1; by how much the cosine exceeds `margin` where it is -1.
    #[track_caller]
    #[must_use]
    pub fn cosine_embedding_loss(
        self,
        right: impl Operand<'g>,
        sign: impl Operand<'g>,
        margin: f64,
        reduce: Reduce,
    ) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "cosine_embedding_loss");
        let [right, sign] = [self.operand(right), self.operand(sign)];
        self.graph.compose(name, &[self, right, sign], place, || {
            same_shape(name, &[self, right])?;
            let cosine = self.cosine_similarity(right, -1, 1e-8);
            same_shape(name, &[cosine, sign])?;
            let far = sign.eq(-1.0).select((cosine - margin).relu(), 0.0);
            Ok(reduce.apply(sign.eq(1.0).select(1.0 - cosine, far)))
        })
    }

    /// By how much these anchors, vectors along the last axis, are not closer to `positive` than to
    /// `negative` by a margin (arXiv:1503.03832, without the square). Shapes are alike.
    #[track_caller]
    #[must_use]
    pub fn triplet_margin_loss(
        self,
        positive: impl Operand<'g>,
        negative: impl Operand<'g>,
        how: TripletMargin,
    ) -> Tensor<'g> {
        let others = [self.operand(positive), self.operand(negative)];
        let name = "triplet_margin_loss";
        self.compared(name, others, how.reduce, |x, [positive, negative]| {
            let distance = |a: Tensor<'g>, b| a.pairwise_distance(b, how.p, how.eps);
            let mut apart = distance(x, negative);
            if how.swap {
                apart = apart.minimum(distance(positive, negative));
            }
            Ok(positive_part(distance(x, positive) - apart + how.margin))
        })
    }

    /// Of scores `[.., classes]` with integer `labels` `[..]`: the mean over all classes of how far
    /// each other one's score, plus `margin`, exceeds the label's, to the power `p` (1 or 2; Crammer
    /// and Singer, 2001, with the sum for the maximum).
    #[track_caller]
    #[must_use]
    pub fn multi_margin_loss(
        self,
        labels: Tensor<'g>,
        p: u32,
        margin: f64,
        reduce: Reduce,
    ) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "multi_margin_loss");
        self.graph.compose(name, &[self, labels], place, || {
            let shape = self.shape();
            let Some((&classes, rows)) = shape.sizes().split_last() else {
                return Err(bad_shape(name, "scores have no axis of classes"));
            };
            if labels.shape().sizes() != rows {
                let what = format!("labels {} of scores {}", labels.shape(), self.shape());
                return Err(bad_shape(name, what));
            }
            if !(1..=2).contains(&p) {
                return Err(bad_attribute(name, format!("p is {p}")));
            }
            let own = labels.one_hot(classes, backprop_core::DType::Bool);
            let score = own.select(self, 0.0).sum(crate::Keep(-1));
            let excess = own.select(0.0, (self - score + margin).relu());
            let powers = if p == 1 { excess } else { excess.square() };
            Ok(reduce.apply(powers.mean(-1)))
        })
    }

    #[track_caller]
    fn operand(self, other: impl Operand<'g>) -> Tensor<'g> {
        other.on(self.graph, Some(self.dtype()), Location::caller())
    }

    /// A loss that compares tensors of one shape.
    #[track_caller]
    fn compared<const N: usize>(
        self,
        name: &str,
        others: [Tensor<'g>; N],
        reduce: Reduce,
        each: impl FnOnce(Tensor<'g>, [Tensor<'g>; N]) -> Result<Tensor<'g>, Problem>,
    ) -> Tensor<'g> {
        let operands: Vec<Tensor<'g>> = [self].into_iter().chain(others).collect();
        self.graph.compose(name, &operands, Location::caller(), || {
            same_shape(name, &operands)?;
            Ok(reduce.apply(each(self, others)?))
        })
    }
}

/// The positive part, with gradient 1 at 0.
fn positive_part(x: Tensor<'_>) -> Tensor<'_> {
    x.clamp(0.0, f64::INFINITY)
}

fn same_shape(name: &str, operands: &[Tensor<'_>]) -> Result<(), Problem> {
    let shapes: Vec<_> = operands.iter().map(|x| x.shape()).collect();
    match shapes.windows(2).find(|pair| pair[0] != pair[1]) {
        None => Ok(()),
        Some(pair) => {
            let what = format!("shapes differ, {} and {}", pair[0], pair[1]);
            Err(bad_shape(name, what).help("losses do not broadcast: reshape first"))
        }
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    fn signs(x: Tensor<'_>) -> Tensor<'_> {
        x.cast(backprop_core::DType::F64) * 2.0 - 1.0
    }
    let two = || reals(&[&[3, 4], &[3, 4]]);
    let three = || reals(&[&[3, 4], &[3, 4], &[3, 4]]);
    entries! {
        gaussian_nll_loss {
            let both = crate::composite::Sample::reals(&[&[3, 4], &[3, 4]]);
            vec![both.with(backprop_core::DType::F64, &[3, 4], POSITIVE)]
        } => |x| x[0].gaussian_nll_loss(x[1], x[2], 1e-6, Reduce::Mean);
        poisson_nll_loss two() => |x| x[0].poisson_nll_loss(x[1], Reduce::Sum);
        hinge_embedding_loss labelled(&[&[3, 4]], &[3, 4], 2) => |x| {
            x[0].hinge_embedding_loss(signs(x[1]), 1.0, Reduce::None)
        };
        margin_ranking_loss three() => |x| {
            x[0].margin_ranking_loss(x[1], x[2].sign(), 0.5, Reduce::Sum)
        };
        cosine_embedding_loss labelled(&[&[3, 4], &[3, 4]], &[3], 2) => |x| {
            x[0].cosine_embedding_loss(x[1], signs(x[2]), -0.5, Reduce::Mean)
        };
        triplet_margin_loss three() => |x| {
            let how = TripletMargin { swap: true, margin: 2.0, ..TripletMargin::default() };
            x[0].triplet_margin_loss(x[1], x[2], how)
        };
        multi_margin_loss labelled(&[&[4, 5]], &[4], 5) => |x| {
            x[0].multi_margin_loss(x[1], 2, 1.0, Reduce::Mean)
        };
    }
}
