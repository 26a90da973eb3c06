//! Distances and angles between vectors along an axis.

use std::panic::Location;

use crate::axes::Keep;
use crate::op::catalogue::{Entry, entries, reals};
use crate::operand::Operand;
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// Divided by its norm (see [`norm`](Tensor::norm)) along `axis`, which counts at least `eps`.
    #[track_caller]
    #[must_use]
    pub fn normalize(self, p: f64, axis: i32, eps: f64) -> Tensor<'g> {
        self.graph
            .compose("normalize", &[self], Location::caller(), || {
                let norm = self.norm(p, Keep(axis));
                Ok(self / norm.lt(eps).select(eps, norm))
            })
    }

    /// The cosine of the angle to `right`, which is broadcast, along `axis`; norms count at least
    /// `eps`.
    #[track_caller]
    #[must_use]
    pub fn cosine_similarity(self, right: impl Operand<'g>, axis: i32, eps: f64) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "cosine_similarity");
        let right = right.on(self.graph, Some(self.dtype()), place);
        self.graph.compose(name, &[self, right], place, || {
            let unit = |x: Tensor<'g>| x.normalize(2.0, axis, eps);
            let common = self.shape().broadcast(&right.shape());
            let [x, y] = [self, right].map(|x| match common {
                Some(shape) => x.broadcast_to(shape),
                None => x,
            });
            Ok((unit(x) * unit(y)).sum(axis))
        })
    }

    /// The norm (see [`norm`](Tensor::norm)) of the difference from `right`, which is broadcast,
    /// along the last axis. `eps` is added to the difference, so that equal vectors have a gradient.
    #[track_caller]
    #[must_use]
    pub fn pairwise_distance(self, right: impl Operand<'g>, p: f64, eps: f64) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "pairwise_distance");
        let right = right.on(self.graph, Some(self.dtype()), place);
        self.graph.compose(name, &[self, right], place, || {
            Ok((self - right + eps).norm(p, -1))
        })
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let two = || reals(&[&[3, 4], &[3, 4]]);
    entries! {
        normalize reals(&[&[3, 4]]) => |x| x[0].normalize(3.0, 0, 1e-12);
        cosine_similarity reals(&[&[2, 3, 4], &[3, 1]]) => |x| {
            x[0].cosine_similarity(x[1], 1, 1e-8)
        };
        pairwise_distance two() => |x| x[0].pairwise_distance(x[1], 2.0, 1e-6);
    }
}
