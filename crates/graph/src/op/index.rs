//! Picking and adding slices by index, and random numbers.

use std::panic::Location;

use backprop_core::{DType, Shape};

use crate::axes::resolve;
use crate::graph::{Graph, Problem, Type, bad_dtype, bad_shape};
use crate::ir::Op;
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// Slices along `axis`, picked by integer `indices` (each at least 0 and below the axis' size),
    /// whose shape takes the place of the axis. Indices that are fed are checked when they are;
    /// computed ones outside count as the nearest inside. Repeated indices add up their gradients.
    #[track_caller]
    #[must_use]
    pub fn take(self, indices: Tensor<'g>, axis: i32) -> Tensor<'g> {
        let place = Location::caller();
        let taken = self.graph.apply("take", &[self, indices], place, |types| {
            let (dtype, shape) = types[0];
            let axis = resolve("take", axis, shape.rank())?;
            check_indices("take", types[1])?;
            let picked = replace(shape, axis, types[1].1).ok_or_else(|| {
                bad_shape(
                    "take",
                    format!("{} in place of axis {axis} of {shape}", types[1].1),
                )
            })?;
            if shape.size(axis) == 0 && picked.count() > 0 {
                return Err(bad_shape("take", format!("from an empty axis of {shape}")));
            }
            Ok((Op::Gather(axis as u8), (dtype, picked)))
        });
        if let Ok(axis) = resolve("take", axis, self.rank()) {
            let rows = self.shape().size(axis) as i64;
            self.graph.require_range(indices, (0, rows), None);
        }
        taken
    }

    /// Slices of this added into zeros: the transpose of [`take`](Tensor::take). Axes
    /// `axis..axis + indices.rank()` are those of `indices`; in the result they are one axis of size
    /// `rows`.
    #[track_caller]
    #[must_use]
    pub fn scatter_rows(self, indices: Tensor<'g>, axis: i32, rows: usize) -> Tensor<'g> {
        let place = Location::caller();
        let rank = (self.rank() + 1).saturating_sub(indices.rank());
        let scattered = self
            .graph
            .apply("scatter_rows", &[self, indices], place, |types| {
                let (dtype, shape) = types[0];
                let index = types[1].1;
                let axis = resolve("scatter_rows", axis, rank)?;
                check_indices("scatter_rows", types[1])?;
                let fits = shape.sizes().get(axis..axis + index.rank()) == Some(index.sizes());
                if !fits || (rows == 0 && index.count() > 0) {
                    let what = format!("{shape} by {index} into {rows} rows along axis {axis}");
                    return Err(bad_shape("scatter_rows", what));
                }
                let sizes = [
                    &shape.sizes()[..axis],
                    &[rows],
                    &shape.sizes()[axis + index.rank()..],
                ];
                let table = sizes.concat().into_iter().collect();
                Ok((Op::ScatterAdd(axis as u8), (dtype, table)))
            });
        self.graph.require_range(indices, (0, rows as i64), None);
        scattered
    }
}

impl Graph {
    /// Uniform random numbers in [0, 1) of `dtype` (`f32` or `f64`), a function of `key` alone: a
    /// seed and a stream number, as `i64[2]`.
    #[track_caller]
    pub fn uniform<'g>(
        &'g self,
        key: Tensor<'g>,
        shape: impl AsRef<[usize]>,
        dtype: DType,
    ) -> Tensor<'g> {
        let wanted = Shape::new(shape.as_ref());
        self.apply("uniform", &[key], Location::caller(), |types| {
            let shape = wanted.ok_or_else(|| bad_shape("uniform", "too many axes"))?;
            if types[0].0 != DType::I64 || types[0].1.sizes() != [2] {
                let problem = bad_dtype("uniform", "the key is not i64[2]");
                return Err(problem.help("a key is a seed and a stream number"));
            }
            if !matches!(dtype, DType::F32 | DType::F64) {
                return Err(bad_dtype("uniform", format!("numbers of type {dtype}")));
            }
            Ok((Op::Random, (dtype, shape)))
        })
    }
}

fn check_indices(operation: &str, (dtype, _): Type) -> Result<(), Problem> {
    if matches!(dtype, DType::I32 | DType::I64) {
        return Ok(());
    }
    let problem = bad_dtype(operation, format!("indices of type {dtype}"));
    Err(problem.help("convert with `.cast(I64)`"))
}

/// `shape` with `axis` replaced by the axes of `by`.
fn replace(shape: Shape, axis: usize, by: Shape) -> Option<Shape> {
    let sizes = [
        &shape.sizes()[..axis],
        by.sizes(),
        &shape.sizes()[axis + 1..],
    ];
    Shape::new(&sizes.concat())
}

pub(super) fn ungather<'g>(axis: usize, x: &[Tensor<'g>], g: Tensor<'g>) -> Tensor<'g> {
    g.scatter_rows(x[1], axis as i32, x[0].shape().size(axis))
}

pub(super) fn unscatter<'g>(axis: usize, x: &[Tensor<'g>], g: Tensor<'g>) -> Tensor<'g> {
    g.take(x[1], axis as i32)
}
