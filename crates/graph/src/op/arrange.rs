//! Arrangements made of the basic ones of `shape.rs`: pieces, repetitions, turns, windows, grids.

use std::panic::Location;

use backprop_core::{DType, ErrorKind};

use crate::axes::{resolve, resolve_all};
use crate::composite::{Composite, Sample, Vjp};
use crate::graph::{Graph, Problem, bad_attribute, bad_shape};
use crate::ir::Stride;
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
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
            let pieces = Split {
                axis,
                sizes: sizes.into(),
            };
            match self.dtype().is_float() {
                true => self.graph.apply_composite(pieces, &[self]),
                false => pieces.decompose(&[self]),
            }
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

    /// The slices along `axis`, without that axis: the other way round from
    /// [`Graph::stack`](crate::Graph::stack).
    #[track_caller]
    #[must_use]
    pub fn unstack(self, axis: i32) -> Vec<Tensor<'g>> {
        let origin = self.graph.origin_of("unstack", Location::caller());
        self.graph
            .within(origin, || match resolve("unstack", axis, self.rank()) {
                Ok(at) => self
                    .split(vec![1; self.shape().size(at)], axis)
                    .into_iter()
                    .map(|slice| slice.squeeze(axis))
                    .collect(),
                Err(kind) => vec![self.failed("unstack", Some(kind.into()))],
            })
    }

    /// With axes `from` in the places `to`, and the others in their order around them.
    #[track_caller]
    #[must_use]
    pub fn move_axes(self, from: impl AsRef<[i32]>, to: impl AsRef<[i32]>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "move_axes");
        let (from, to) = (from.as_ref(), to.as_ref());
        self.graph.compose(name, &[self], place, || {
            let rank = self.rank();
            let moved = resolve_all(name, Some(from), rank)?;
            let taken = resolve_all(name, Some(to), rank)?;
            if from.len() != to.len() {
                return Err(bad_attribute(name, format!("{from:?} to {to:?}")));
            }
            let pairs: Vec<(usize, usize)> = from
                .iter()
                .zip(to)
                .map(|(&a, &b)| Ok((resolve(name, a, rank)?, resolve(name, b, rank)?)))
                .collect::<Result<_, ErrorKind>>()?;
            let others = (0..rank).filter(|&axis| !moved.contains(axis));
            let free = (0..rank).filter(|&axis| !taken.contains(axis));
            let mut order = vec![0; rank];
            for (axis, at) in pairs.into_iter().chain(others.zip(free)) {
                order[at] = axis as i32;
            }
            Ok(self.permute(order))
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
            let repeats = |&(_, count): &(usize, usize)| count != 1;
            let mut axes: Vec<_> = counts.iter().copied().enumerate().filter(repeats).collect();
            // What is repeated 0 times is not repeated often along another axis before.
            axes.sort_by_key(|&(_, count)| count);
            let repeated = |x: Tensor<'g>, (axis, count)| x.repeated(axis, axis, count);
            Ok(axes.into_iter().fold(self, repeated))
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

    /// Turned `times` times by a right angle, from axis `a` towards axis `b`.
    #[track_caller]
    #[must_use]
    pub fn rot90(self, times: i32, a: i32, b: i32) -> Tensor<'g> {
        self.graph
            .compose("rot90", &[self], Location::caller(), || {
                resolve_all("rot90", Some(&[a, b]), self.rank())?;
                Ok(match times.rem_euclid(4) {
                    0 => self,
                    1 => self.flip(b).transpose(a, b),
                    2 => self.flip([a, b]),
                    _ => self.flip(a).transpose(a, b),
                })
            })
    }

    /// Every window of `size` elements along `axis`, `step` apart: the axis counts the windows, and a
    /// new last axis the elements in one.
    #[track_caller]
    #[must_use]
    pub fn windows(self, axis: i32, size: usize, step: usize) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "windows");
        self.graph.compose(name, &[self], place, || {
            let at = resolve(name, axis, self.rank())?;
            let length = self.shape().size(at);
            let Some(room) = length.checked_sub(size).filter(|_| step > 0) else {
                let what = format!("of {size} elements, {step} apart, among {length}");
                return Err(bad_attribute(name, what));
            };
            let shape = [room / step + 1, size];
            // Any step further than the end leaves one window.
            let step = step.min(length.max(1));
            let start = self.graph.coordinate(shape, 0);
            let indices = start * start.number(step as f64) + self.graph.coordinate(shape, 1);
            let taken = self.take(indices, at as i32);
            Ok(taken.move_axes([at as i32 + 1], [-1]))
        })
    }

    /// This tensor with `source` in place of the elements `start, start + step, ..` below `end`
    /// along each axis (see [`slice`](Tensor::slice)).
    #[track_caller]
    #[must_use]
    pub fn slice_scatter(
        self,
        starts: impl AsRef<[usize]>,
        ends: impl AsRef<[usize]>,
        steps: impl AsRef<[usize]>,
        source: Tensor<'g>,
    ) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "slice_scatter");
        let (starts, steps) = (starts.as_ref(), steps.as_ref());
        self.graph.compose(name, &[self, source], place, || {
            let replaced = self.slice(starts, ends, steps).shape();
            if source.shape() != replaced || source.dtype() != self.dtype() {
                let (dtype, shape) = (source.dtype(), source.shape());
                let what = format!("{dtype}{shape} in place of {}{replaced}", self.dtype());
                return Err(bad_shape(name, what));
            }
            let stride = Stride {
                start: starts.into(),
                step: steps.iter().map(|&step| step as isize).collect(),
            };
            let spread = |x: Tensor<'g>| x.pad_by(&stride, 0.0, self.shape());
            let inside = self.graph.full(replaced, 1.0, DType::Bool);
            Ok(spread(inside).select(spread(source), self))
        })
    }
}

impl Graph {
    /// The coordinates of a grid over vectors: for each of them, a tensor with one axis for every
    /// vector, that varies along its own (`ij` indexing).
    #[track_caller]
    pub fn meshgrid<'g>(&'g self, vectors: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let name = "meshgrid";
        let origin = self.origin_of(name, Location::caller());
        self.within(origin, || {
            let sizes: Vec<usize> = vectors.iter().map(|x| x.shape().count()).collect();
            let along = |(axis, &x): (usize, &Tensor<'g>)| {
                if x.rank() != 1 {
                    let what = format!("{} is no vector", x.shape());
                    return x.failed(name, Some(bad_shape(name, what)));
                }
                let mut own = vec![1; vectors.len()];
                own[axis] = -1;
                x.reshape(own).broadcast_to(&sizes)
            };
            vectors.iter().enumerate().map(along).collect()
        })
    }
}

/// Has its own gradient, which puts the pieces' cotangents together: the derived one adds up as
/// many tensors of the whole size as there are pieces.
#[derive(Debug)]
struct Split {
    axis: i32,
    sizes: Vec<usize>,
}

impl Composite for Split {
    fn name(&self) -> &str {
        "split"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let mut end = 0;
        let piece = |&size: &usize| {
            end += size;
            inputs[0].narrow(self.axis, end - size, end)
        };
        self.sizes.iter().map(piece).collect()
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let pairs = cx.outputs.iter().zip(cx.cotangents);
        let pieces = pairs.map(|(y, g)| g.unwrap_or_else(|| y.number(0.0)));
        let whole = cx.inputs[0]
            .graph
            .concat(&pieces.collect::<Vec<_>>(), self.axis);
        Some(vec![Some(whole)])
    }

    fn samples(&self) -> Vec<Sample> {
        let size = self.sizes.iter().sum();
        reals(&[&vec![size; self.axis.unsigned_abs() as usize + 1]])
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let matrix = || reals(&[&[3, 4]]);
    let cube = || reals(&[&[2, 3, 4]]);
    entries! {
        split matrix() => |x| x[0].split([1, 3], 1)[1];
        chunk matrix() => |x| x[0].chunk(3, 1).pop().unwrap_or(x[0]);
        repeat matrix() => |x| x[0].repeat([2, 3]);
        repeat_interleave matrix() => |x| x[0].repeat_interleave(2, 0);
        roll matrix() => |x| x[0].roll(-1, 1);
        unstack cube() => |x| x[0].unstack(1).pop().unwrap_or(x[0]);
        move_axes cube() => |x| x[0].move_axes([0, -1], [1, 0]);
        rot90 cube() => |x| x[0].rot90(1, 0, 2) + x[0].rot90(-3, 0, 2);
        windows cube() => |x| x[0].windows(1, 2, 1);
        slice_scatter reals(&[&[3, 5], &[2, 2]]) => |x| x[0].slice_scatter([1, 0], [3, 4], [1, 2], x[1]);
        meshgrid reals(&[&[3], &[2]]) => |x| {
            let grid = x[0].graph().meshgrid(x);
            grid[0] * grid[1]
        };
    }
}
