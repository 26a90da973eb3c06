//! Arrangements made of the basic ones of `shape.rs`: triangles, diagonals, pieces, repetitions.

use std::panic::Location;

use crate::axes::resolve;
use crate::graph::{Problem, bad_attribute, bad_shape};
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

    /// The diagonal of two axes of one size, as a last axis.
    #[track_caller]
    #[must_use]
    pub fn diagonal(self, a: i32, b: i32) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "diagonal");
        self.graph.compose(name, &[self], place, || {
            let shape = self.shape();
            let (a, b) = (
                resolve(name, a, shape.rank())?,
                resolve(name, b, shape.rank())?,
            );
            let size = shape.size(a);
            if a == b || size != shape.size(b) {
                let what = format!("axes {a} and {b} of {shape} make no square");
                return Err(bad_shape(name, what));
            }
            let others = (0..shape.rank()).filter(|&axis| axis != a && axis != b);
            let order: Vec<i32> = others.chain([a, b]).map(|axis| axis as i32).collect();
            let flat = self.permute(order).flatten_from(shape.rank() - 2);
            let mut steps = vec![1; flat.rank()];
            steps[shape.rank() - 2] = size + 1;
            Ok(flat.slice(vec![0; flat.rank()], flat.shape(), steps))
        })
    }

    /// Consecutive pieces along `axis`, of these sizes, which add up to the axis' size.
    #[track_caller]
    #[must_use]
    pub fn split(self, sizes: impl AsRef<[usize]>, axis: i32) -> Vec<Tensor<'g>> {
        let sizes = sizes.as_ref();
        let origin = self.graph.origin_of("split", Location::caller());
        self.graph.within(origin, || {
            let fits = || -> Result<(), Problem> {
                let size = self.shape().size(resolve("split", axis, self.rank())?);
                let total = sizes
                    .iter()
                    .try_fold(0, |sum: usize, &n| sum.checked_add(n));
                match total == Some(size) {
                    true => Ok(()),
                    false => Err(bad_attribute(
                        "split",
                        format!("{sizes:?} of {size} elements"),
                    )),
                }
            };
            if let Err(problem) = fits() {
                return vec![self.failed("split", Some(problem)); sizes.len()];
            }
            let mut end = 0;
            let piece = |&size: &usize| {
                end += size;
                self.narrow(axis, end - size, end)
            };
            sizes.iter().map(piece).collect()
        })
    }

    /// At most `count` consecutive pieces along `axis`, of equal size but for a smaller last one.
    #[track_caller]
    #[must_use]
    pub fn chunk(self, count: usize, axis: i32) -> Vec<Tensor<'g>> {
        let origin = self.graph.origin_of("chunk", Location::caller());
        self.graph.within(origin, || {
            let size = match resolve("chunk", axis, self.rank()) {
                Ok(axis) if count > 0 => self.shape().size(axis),
                Ok(_) => {
                    let problem = bad_attribute("chunk", "into no pieces");
                    return vec![self.failed("chunk", Some(problem))];
                }
                Err(kind) => return vec![self.failed("chunk", Some(kind.into()))],
            };
            let each = size.div_ceil(count).max(1);
            let starts = (0..size.max(1)).step_by(each);
            let sizes: Vec<usize> = starts.map(|start| each.min(size - start)).collect();
            self.split(sizes, axis)
        })
    }

    /// The whole tensor `counts[axis]` times one after the other along each axis.
    #[track_caller]
    #[must_use]
    pub fn repeat(self, counts: impl AsRef<[usize]>) -> Tensor<'g> {
        let (place, counts) = (Location::caller(), counts.as_ref());
        self.graph.compose("repeat", &[self], place, || {
            if counts.len() != self.rank() {
                let what = format!("{counts:?} times {}", self.shape());
                return Err(bad_attribute("repeat", what));
            }
            let axes = counts.iter().enumerate().filter(|&(_, &count)| count != 1);
            Ok(axes.fold(self, |x, (axis, &count)| x.repeated(axis, axis, count)))
        })
    }

    /// Every element `count` times along `axis`, beside itself.
    #[track_caller]
    #[must_use]
    pub fn repeat_interleave(self, count: usize, axis: i32) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "repeat_interleave");
        self.graph.compose(name, &[self], place, || {
            let axis = resolve(name, axis, self.rank())?;
            Ok(self.repeated(axis, axis + 1, count))
        })
    }

    /// Broadcast along a new axis `new`, next to `axis`, and merged with it.
    #[track_caller]
    fn repeated(self, axis: usize, new: usize, count: usize) -> Tensor<'g> {
        let shape = self.shape();
        let raised = self.unsqueeze(new as i32);
        let wide = raised.broadcast_to(raised.shape().with(new, count));
        wide.reshape_to(shape.with(axis, shape.size(axis).saturating_mul(count)))
    }

    /// Moved by `shift` places along `axis`; what leaves at the end comes back at the start.
    #[track_caller]
    #[must_use]
    pub fn roll(self, shift: isize, axis: i32) -> Tensor<'g> {
        self.graph.compose("roll", &[self], Location::caller(), || {
            let size = self.shape().size(resolve("roll", axis, self.rank())?);
            let shift = shift.rem_euclid(size.max(1) as isize) as usize;
            if shift == 0 {
                return Ok(self);
            }
            let (head, tail) = (
                self.narrow(axis, size - shift, size),
                self.narrow(axis, 0, size - shift),
            );
            Ok(self.graph.concat(&[head, tail], axis))
        })
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let matrix = || reals(&[&[3, 4]]);
    let square = || reals(&[&[2, 3, 3]]);
    entries! {
        tril matrix() => |x| x[0].tril(0);
        triu square() => |x| x[0].triu(-1);
        diagonal square() => |x| x[0].diagonal(1, 2);
        split matrix() => |x| x[0].split([1, 3], 1)[1];
        chunk matrix() => |x| x[0].chunk(3, 1)[1];
        repeat matrix() => |x| x[0].repeat([2, 3]);
        repeat_interleave matrix() => |x| x[0].repeat_interleave(2, 0);
        roll matrix() => |x| x[0].roll(-1, 1);
    }
}
