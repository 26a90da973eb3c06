//! Bounds on gradients.

use std::panic::Location;

use backprop_core::{DType, Error, ErrorKind};

use super::at_least_zero;
use crate::graph::Graph;
use crate::tensor::Tensor;

/// Gradients within a bound, and the norm they had.
#[derive(Clone, Debug)]
pub struct Clipped<'g> {
    /// The gradients, in the order in which they were given.
    pub gradients: Vec<Tensor<'g>>,
    /// The norm of all of them together before they were clipped: a scalar, to watch.
    pub norm: Tensor<'g>,
}

/// Scales all gradients by `min(1, bound / (norm + 1e-6))`, where `norm` is the Euclidean one of all of
/// them together (Pascanu et al., 2012, arXiv:1211.5063; the 1e-6 is PyTorch's). A norm that is not a
/// number makes all of them so. Computed in the widest type among them, `f32` at least. It is an error
/// if `bound` is negative.
#[must_use]
#[track_caller]
pub fn clip_by_norm<'g>(graph: &'g Graph, gradients: &[Tensor<'g>], bound: f64) -> Clipped<'g> {
    bounded(graph, "clip_by_norm", bound, |bound| {
        let types = gradients.iter().map(|x| x.dtype().accumulator());
        let dtype = types.max_by_key(|x| x.size()).unwrap_or(DType::F32);
        let squares = gradients
            .iter()
            .map(|x| x.widened().square().sum(..).cast(dtype));
        let sum = squares.reduce(|a, b| a + b);
        let norm = sum.map_or_else(|| graph.full([], 0.0, dtype), Tensor::sqrt);
        let scale = bound.cast(dtype) / (norm + 1e-6);
        let scale = scale.gt(1.0).select(1.0, scale);
        let scaled = |x: &Tensor<'g>| {
            let wide = x.widened();
            (wide * scale.cast(wide.dtype())).cast(x.dtype())
        };
        Clipped {
            gradients: gradients.iter().map(scaled).collect(),
            norm,
        }
    })
}

/// Each element of each gradient, held between `-bound` and `bound`. It is an error if `bound` is
/// negative.
#[must_use]
#[track_caller]
pub fn clip_by_value<'g>(
    graph: &'g Graph,
    gradients: &[Tensor<'g>],
    bound: f64,
) -> Vec<Tensor<'g>> {
    bounded(graph, "clip_by_value", bound, |bound| {
        let clip = |x: &Tensor<'g>| {
            let bound = bound.cast(x.dtype());
            x.clamp(-bound, bound)
        };
        gradients.iter().map(clip).collect()
    })
}

/// What `build` makes of the bound, which stands for an error if it is negative.
#[track_caller]
fn bounded<'g, R>(
    graph: &'g Graph,
    name: &str,
    bound: f64,
    build: impl FnOnce(Tensor<'g>) -> R,
) -> R {
    let place = Location::caller();
    graph.within(graph.origin_of(name, place), || {
        let bound = match at_least_zero([("the bound", bound)]) {
            Ok(()) => graph.full([], bound, DType::F64),
            Err(what) => {
                let operation = name.to_owned();
                let error = Error::new(ErrorKind::Attribute { operation, what });
                graph.fail(error, graph.origin(place))
            }
        };
        build(bound)
    })
}
