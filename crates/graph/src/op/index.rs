//! Picking and adding slices by index.

use std::panic::Location;

use backprop_core::{DType, Shape};

use crate::axes::resolve;
use crate::graph::{Problem, Type, bad_dtype, bad_shape};
use crate::ir::Op;
use crate::op::catalogue::{Entry, entries, labelled};
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// Slices along `axis`, picked by integer `indices` (each at least 0 and below the axis' size),
    /// whose shape takes the place of the axis. An index outside is an error: of the feed if indices
    /// are fed, of the step if they are computed. Repeated indices add up their gradients.
    #[track_caller]
    #[must_use]
    pub fn take(self, indices: Tensor<'g>, axis: i32) -> Tensor<'g> {
        let place = Location::caller();
        let indices = match resolve("take", axis, self.rank()) {
            Ok(axis) => indices.limited("take", self.shape().size(axis)),
            Err(_) => indices,
        };
        self.graph.apply("take", &[self, indices], place, |types| {
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
        })
    }

    /// Slices of this added into zeros: the transpose of [`take`](Tensor::take). Axes
    /// `axis..axis + indices.rank()` are those of `indices`; in the result they are one axis of size
    /// `rows`.
    #[track_caller]
    #[must_use]
    pub fn scatter_rows(self, indices: Tensor<'g>, axis: i32, rows: usize) -> Tensor<'g> {
        let place = Location::caller();
        let rank = (self.rank() + 1).saturating_sub(indices.rank());
        let indices = indices.limited("scatter_rows", rows);
        self.graph
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
            })
    }

    /// The rows of this table picked by integer `indices`: `[rows, ..]` becomes
    /// `[indices.., ..]`, as by [`take`](Tensor::take) along axis 0.
    #[track_caller]
    #[must_use]
    pub fn embedding(self, indices: Tensor<'g>) -> Tensor<'g> {
        let place = Location::caller();
        let build = || Ok(self.take(indices, 0));
        self.graph
            .compose("embedding", &[self, indices], place, build)
    }

    /// For each of the integer `indices`, the element that has it as coordinate along `axis` and is
    /// at the same place along the others; the result has the shape of `indices`, which may be
    /// smaller along those others. Range and gradients as for [`take`](Tensor::take).
    #[track_caller]
    #[must_use]
    pub fn gather(self, axis: i32, indices: Tensor<'g>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "gather");
        self.graph.compose(name, &[self, indices], place, || {
            let axis = resolve(name, axis, self.rank())?;
            let flat = flat_indices(name, self.shape(), axis, indices)?;
            Ok(self.flatten_from(0).take(flat, 0))
        })
    }

    /// These integers as `i64`, each the nearest in `0..size`: known to be inside.
    #[track_caller]
    pub(super) fn nearest(self, size: usize) -> Tensor<'g> {
        let wide = self.cast(DType::I64);
        let last = wide.number((size as f64 - 1.0).max(0.0));
        wide.maximum(0.0).minimum(last)
    }
}

/// Positions in the flattened `shape`: the coordinates of `indices`, that along `axis` replaced.
pub(super) fn flat_indices<'g>(
    operation: &str,
    shape: Shape,
    axis: usize,
    indices: Tensor<'g>,
) -> Result<Tensor<'g>, Problem> {
    check_indices(operation, (indices.dtype(), indices.shape()))?;
    let wanted = indices.shape();
    let inside = |at: usize| at == axis || wanted.size(at) <= shape.size(at);
    let empty = shape.size(axis) == 0 && wanted.count() > 0;
    if wanted.rank() != shape.rank() || !(0..shape.rank()).all(inside) || empty {
        let what = format!("indices {wanted} along axis {axis} of {shape}");
        return Err(bad_shape(operation, what));
    }
    let rows = shape.size(axis);
    let indices = indices.limited(operation, rows);
    let strides = shape.strides();
    let along = |at: usize| {
        let coordinate = match at == axis {
            true => indices.nearest(rows),
            false => indices.graph.coordinate(wanted, at),
        };
        coordinate * coordinate.number(strides[at] as f64)
    };
    let parts = (0..shape.rank()).map(along).reduce(|sum, part| sum + part);
    Ok(parts.unwrap_or_else(|| indices.cast(DType::I64)))
}

pub(super) fn check_indices(operation: &str, (dtype, _): Type) -> Result<(), Problem> {
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

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        take labelled(&[&[3, 5, 2]], &[2, 4], 5) => |x| x[0].take(x[1], 1);
        scatter_rows labelled(&[&[4, 2]], &[4], 3) => |x| x[0].scatter_rows(x[1], 0, 3);
        embedding labelled(&[&[5, 2]], &[2, 3], 5) => |x| x[0].embedding(x[1]);
        gather labelled(&[&[3, 5]], &[2, 4], 5) => |x| x[0].gather(1, x[1]);
    }
}
