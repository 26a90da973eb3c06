//! Distances and angles between vectors along an axis.

use std::panic::Location;

use backprop_core::Shape;

use crate::axes::{Keep, resolve};
use crate::graph::{Problem, bad_dtype, bad_shape};
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
                resolve("normalize", axis, self.rank())?;
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
            let shape = common(name, [self, right])?;
            resolve(name, axis, shape.rank())?;
            let unit = |x: Tensor<'g>| x.broadcast_to(shape).normalize(2.0, axis, eps);
            Ok((unit(self) * unit(right)).sum(axis))
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
            common(name, [self, right])?;
            Ok((self - right + eps).norm(p, -1))
        })
    }
}

/// The shape of two operands that are broadcast to each other.
fn common(operation: &str, [x, y]: [Tensor<'_>; 2]) -> Result<Shape, Problem> {
    let (shapes, dtypes) = ([x.shape(), y.shape()], [x.dtype(), y.dtype()]);
    if dtypes[0] != dtypes[1] || !dtypes[0].is_float() {
        let what = format!("element types {} and {}", dtypes[0], dtypes[1]);
        return Err(bad_dtype(operation, what).help("convert one side with `.cast(..)`"));
    }
    let common = shapes[0].broadcast(&shapes[1]);
    common.ok_or_else(|| {
        let what = format!("shapes do not fit, {} and {}", shapes[0], shapes[1]);
        bad_shape(operation, what).help("axes are aligned at the end and must be equal or 1")
    })
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
