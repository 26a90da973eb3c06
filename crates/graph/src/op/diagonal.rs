//! Triangles and diagonals of matrices.

use std::panic::Location;

use crate::axes::resolve;
use crate::graph::{bad_attribute, bad_shape};
use crate::ir::Stride;
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// The lower triangle of matrices `[.., m, n]`: elements whose column is at most their row plus
    /// `diagonal`. 0 elsewhere.
    #[track_caller]
    #[must_use]
    pub fn tril(self, diagonal: i64) -> Tensor<'g> {
        self.triangle("tril", |offset| offset.le(offset.number(diagonal as f64)))
    }

    /// The upper triangle of matrices `[.., m, n]`: elements whose column is at least their row plus
    /// `diagonal`. 0 elsewhere.
    #[track_caller]
    #[must_use]
    pub fn triu(self, diagonal: i64) -> Tensor<'g> {
        self.triangle("triu", |offset| offset.ge(offset.number(diagonal as f64)))
    }

    #[track_caller]
    fn triangle(self, name: &str, keep: impl FnOnce(Tensor<'g>) -> Tensor<'g>) -> Tensor<'g> {
        self.graph.compose(name, &[self], Location::caller(), || {
            let Some(row) = self.rank().checked_sub(2) else {
                return Err(bad_shape(name, format!("{} is no matrix", self.shape())));
            };
            let at = |axis| self.graph.coordinate(self.shape(), axis);
            Ok(keep(at(row + 1) - at(row)).select(self, self.number(0.0)))
        })
    }

    /// The elements whose coordinate along axis `b` is that along axis `a` plus `offset`: a diagonal
    /// of every matrix of these axes, as a last axis. Empty where `offset` lies outside.
    #[track_caller]
    #[must_use]
    pub fn diagonal(self, offset: i64, a: i32, b: i32) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "diagonal");
        self.graph.compose(name, &[self], place, || {
            let shape = self.shape();
            let (a, b) = (
                resolve(name, a, shape.rank())?,
                resolve(name, b, shape.rank())?,
            );
            if a == b {
                return Err(bad_attribute(name, format!("axis {a} twice")));
            }
            let (row, column) = start_of(offset);
            let (row, column) = (row.min(shape.size(a)), column.min(shape.size(b)));
            let size = (shape.size(a) - row).min(shape.size(b) - column);
            let square =
                self.narrow(a as i32, row, row + size)
                    .narrow(b as i32, column, column + size);
            let others = (0..shape.rank()).filter(|&axis| axis != a && axis != b);
            let order: Vec<i32> = others.chain([a, b]).map(|axis| axis as i32).collect();
            let flat = square.permute(order).flatten_from(shape.rank() - 2);
            let mut steps = vec![1; flat.rank()];
            steps[shape.rank() - 2] = size + 1;
            Ok(flat.slice(vec![0; flat.rank()], flat.shape(), steps))
        })
    }

    /// Square matrices with the last axis as their diagonal number `offset` (above the main one if
    /// positive), and 0 elsewhere: `[.., n]` becomes `[.., n + |offset|, n + |offset|]`.
    #[track_caller]
    #[must_use]
    pub fn diag_embed(self, offset: i64) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "diag_embed");
        self.graph.compose(name, &[self], place, || {
            let shape = self.shape();
            let Some(last) = shape.rank().checked_sub(1) else {
                return Err(bad_shape(name, "of a number, which has no axis"));
            };
            let (row, column) = start_of(offset);
            let side = shape.size(last).saturating_add(row.max(column));
            let Some(area) = side
                .checked_mul(side)
                .filter(|&area| area < isize::MAX as usize)
            else {
                return Err(bad_attribute(name, format!("offset {offset} of {shape}")));
            };
            let (mut start, mut step) = (vec![0; shape.rank()], vec![1; shape.rank()]);
            start[last] = row * side + column;
            step[last] = side as isize + 1;
            let stride = Stride {
                start: start.into(),
                step: step.into(),
            };
            let flat = shape.with(last, area);
            let sizes = shape.sizes().iter().take(last).chain([&side, &side]);
            let matrices: Vec<isize> = sizes.map(|&size| size as isize).collect();
            Ok(self.pad_by(&stride, 0.0, flat).reshape(matrices))
        })
    }
}

/// The row and column at which diagonal number `offset` starts.
fn start_of(offset: i64) -> (usize, usize) {
    let distance = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
    match offset < 0 {
        true => (distance, 0),
        false => (0, distance),
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let matrix = || reals(&[&[3, 4]]);
    let square = || reals(&[&[2, 3, 3]]);
    entries! {
        tril matrix() => |x| x[0].tril(0);
        triu square() => |x| x[0].triu(-1);
        diagonal square() => |x| x[0].diagonal(0, 1, 2);
        diagonal_above reals(&[&[2, 5, 3]]) => |x| x[0].diagonal(1, -1, 1);
        diag_embed matrix() => |x| x[0].diag_embed(0);
        diag_embed_below matrix() => |x| x[0].diag_embed(-2);
    }
}
