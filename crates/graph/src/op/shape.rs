//! Operations that rearrange elements. Where strides can say it, they cost nothing: the compiler
//! turns them into views of whoever reads them.

use std::panic::Location;

use backprop_core::{Axes, MAX_RANK, Place, Shape};

use crate::axes::resolve;
use crate::graph::{Graph, Problem, Type, bad_attribute, bad_dtype, bad_shape, has_value};
use crate::ir::{Op, Stride};
use crate::op::catalogue::{Entry, entries, reals};
use crate::op::padding::Padding;
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// The same elements in the same order, as a tensor of `shape`, in which one size may be -1: as
    /// many as are left.
    #[track_caller]
    #[must_use]
    pub fn reshape(self, shape: impl AsRef<[isize]>) -> Tensor<'g> {
        let wanted = shape.as_ref();
        self.graph
            .apply("reshape", &[self], Location::caller(), |types| {
                let (dtype, shape) = types[0];
                Ok((Op::Reshape, (dtype, fill_in(shape, wanted)?)))
            })
    }

    /// The same elements as a tensor of a known shape.
    #[track_caller]
    pub(crate) fn reshape_to(self, shape: Shape) -> Tensor<'g> {
        if self.shape() == shape {
            return self;
        }
        let sizes: Vec<isize> = shape.sizes().iter().map(|&size| size as isize).collect();
        self.graph.at(Location::caller(), || self.reshape(sizes))
    }

    /// All axes from `start` on in one.
    #[track_caller]
    #[must_use]
    pub fn flatten_from(self, start: usize) -> Tensor<'g> {
        self.graph.at(Location::caller(), || {
            let shape = self.shape();
            if start > shape.rank() {
                let problem = resolve("flatten_from", start as i32, shape.rank());
                return self.failed("flatten_from", problem.err().map(Problem::from));
            }
            let kept = shape.sizes().iter().take(start).map(|&size| size as isize);
            let rest: isize = shape
                .sizes()
                .iter()
                .skip(start)
                .map(|&size| size as isize)
                .product();
            self.reshape(kept.chain([rest]).collect::<Vec<_>>())
        })
    }

    /// With a new axis of size 1 before axis `axis` (-1: at the end).
    #[track_caller]
    #[must_use]
    pub fn unsqueeze(self, axis: i32) -> Tensor<'g> {
        self.graph.at(Location::caller(), || {
            let shape = self.shape();
            match resolve("unsqueeze", axis, shape.rank() + 1) {
                Ok(at) if shape.rank() < MAX_RANK => {
                    let mut sizes = shape.sizes().to_vec();
                    sizes.insert(at, 1);
                    self.reshape_to(sizes.into_iter().collect())
                }
                outcome => self.failed("unsqueeze", outcome.err().map(Problem::from)),
            }
        })
    }

    /// Without axis `axis`, which has size 1.
    #[track_caller]
    #[must_use]
    pub fn squeeze(self, axis: i32) -> Tensor<'g> {
        self.graph.at(Location::caller(), || {
            let shape = self.shape();
            match resolve("squeeze", axis, shape.rank()) {
                Ok(at) if shape.size(at) == 1 => self.reshape_to(shape.filter(|axis| axis != at)),
                Ok(at) => {
                    let what = format!("axis {at} of {shape} is not of size 1");
                    self.failed("squeeze", Some(bad_shape("squeeze", what)))
                }
                Err(kind) => self.failed("squeeze", Some(kind.into())),
            }
        })
    }

    /// Axis `i` of the result is axis `order[i]` of this.
    #[track_caller]
    #[must_use]
    pub fn permute(self, order: impl AsRef<[i32]>) -> Tensor<'g> {
        let order = order.as_ref();
        self.graph
            .apply("permute", &[self], Location::caller(), |types| {
                let (dtype, shape) = types[0];
                let axes = order
                    .iter()
                    .map(|&axis| resolve("permute", axis, shape.rank()));
                let axes: Vec<usize> = axes.collect::<Result<_, _>>()?;
                let set: Axes = axes.iter().copied().collect();
                if axes.len() != shape.rank() || set.len() != shape.rank() {
                    let what = format!("{order:?} is no order of the axes of {shape}");
                    return Err(bad_attribute("permute", what));
                }
                let permuted = axes.iter().map(|&axis| shape.size(axis)).collect();
                let order = axes.iter().map(|&axis| axis as u8).collect();
                Ok((Op::Permute(order), (dtype, permuted)))
            })
    }

    /// With two axes exchanged.
    #[track_caller]
    #[must_use]
    pub fn transpose(self, a: i32, b: i32) -> Tensor<'g> {
        self.graph.at(Location::caller(), || {
            let rank = self.rank();
            match (resolve("transpose", a, rank), resolve("transpose", b, rank)) {
                (Ok(a), Ok(b)) => {
                    let mut order: Vec<i32> = (0..rank as i32).collect();
                    order.swap(a, b);
                    self.permute(order)
                }
                (Err(kind), _) | (_, Err(kind)) => self.failed("transpose", Some(kind.into())),
            }
        })
    }

    /// With the last two axes exchanged: the transpose of a matrix, or of each in a batch.
    #[track_caller]
    #[must_use]
    pub fn t(self) -> Tensor<'g> {
        self.graph.at(Location::caller(), || self.transpose(-2, -1))
    }

    /// Repeated along new leading axes and axes of size 1, up to `shape`.
    #[track_caller]
    #[must_use]
    pub fn broadcast_to(self, shape: impl AsRef<[usize]>) -> Tensor<'g> {
        let place = Location::caller();
        match Shape::new(shape.as_ref()) {
            Some(shape) => self.broadcast_from(shape, place),
            None => self.failed("broadcast_to", Some(too_many_axes("broadcast_to"))),
        }
    }

    pub(crate) fn broadcast_from(self, shape: Shape, place: Place) -> Tensor<'g> {
        if self.shape() == shape {
            return self;
        }
        if let Some(value) = self.graph.node(self.id).constant() {
            return self.graph.constant(value, self.dtype(), shape, place);
        }
        self.graph.apply("broadcast_to", &[self], place, |types| {
            let (dtype, from) = types[0];
            if from.broadcast(&shape) != Some(shape) {
                return Err(bad_shape(
                    "broadcast_to",
                    format!("{from} does not fit {shape}"),
                ));
            }
            Ok((Op::Broadcast, (dtype, shape)))
        })
    }

    /// Elements `start..end` along an axis.
    #[track_caller]
    #[must_use]
    pub fn narrow(self, axis: i32, start: usize, end: usize) -> Tensor<'g> {
        self.graph.at(Location::caller(), || {
            let shape = self.shape();
            match resolve("narrow", axis, shape.rank()) {
                Ok(axis) => {
                    let mut starts = vec![0; shape.rank()];
                    let mut ends = shape.sizes().to_vec();
                    (starts[axis], ends[axis]) = (start, end);
                    self.slice(starts, ends, vec![1; shape.rank()])
                }
                Err(kind) => self.failed("narrow", Some(kind.into())),
            }
        })
    }

    /// Elements `start, start + step, ..` below `end` along each axis; steps are at least 1.
    #[track_caller]
    #[must_use]
    pub fn slice(
        self,
        starts: impl AsRef<[usize]>,
        ends: impl AsRef<[usize]>,
        steps: impl AsRef<[usize]>,
    ) -> Tensor<'g> {
        let (starts, ends, steps) = (starts.as_ref(), ends.as_ref(), steps.as_ref());
        self.graph
            .apply("slice", &[self], Location::caller(), |types| {
                let (dtype, shape) = types[0];
                let rank = shape.rank();
                let lengths = [starts.len(), ends.len(), steps.len()];
                let inside = (0..rank.min(ends.len()).min(starts.len()))
                    .all(|axis| starts[axis] <= ends[axis] && ends[axis] <= shape.size(axis));
                if lengths != [rank; 3] || !inside || steps.contains(&0) {
                    let what = format!("{starts:?} to {ends:?} by {steps:?} in {shape}");
                    return Err(bad_attribute("slice", what));
                }
                let sliced = (0..rank)
                    .map(|a| (ends[a] - starts[a]).div_ceil(steps[a]))
                    .collect();
                let step = steps.iter().map(|&step| step as isize).collect();
                let stride = Stride {
                    start: starts.into(),
                    step,
                };
                Ok((Op::Slice(stride.into()), (dtype, sliced)))
            })
    }

    /// In reverse order along axes.
    #[track_caller]
    #[must_use]
    pub fn flip(self, axes: impl crate::AxisList) -> Tensor<'g> {
        self.graph.at(Location::caller(), || {
            let shape = self.shape();
            match crate::axes::resolve_all("flip", axes.given().as_deref(), shape.rank()) {
                Ok(axes) => {
                    let last = |axis: usize| shape.size(axis).saturating_sub(1);
                    let flipped = |axis: usize| axes.contains(axis);
                    let start = |a: usize| if flipped(a) { last(a) } else { 0 };
                    let step = |a: usize| if flipped(a) { -1 } else { 1 };
                    let stride = Stride {
                        start: (0..shape.rank()).map(start).collect(),
                        step: (0..shape.rank()).map(step).collect(),
                    };
                    self.slice_by(&stride, shape)
                }
                Err(kind) => self.failed("flip", Some(kind.into())),
            }
        })
    }

    /// With `low[axis]` elements of padding before and `high[axis]` after, along each axis: of one
    /// number, or of the tensor's own (see [`Padding`]).
    #[track_caller]
    #[must_use]
    pub fn pad(
        self,
        low: impl AsRef<[usize]>,
        high: impl AsRef<[usize]>,
        padding: impl Into<Padding>,
    ) -> Tensor<'g> {
        self.graph.at(Location::caller(), || {
            let (low, high) = (low.as_ref(), high.as_ref());
            let shape = self.shape();
            if low.len() != shape.rank() || high.len() != shape.rank() {
                let what = format!("{low:?} and {high:?} around {shape}");
                return self.failed("pad", Some(bad_attribute("pad", what)));
            }
            let value = match padding.into() {
                Padding::Constant(value) => value,
                padding => return self.padded_by_itself(low, high, padding),
            };
            let padded = (0..shape.rank())
                .map(|a| low[a].saturating_add(shape.size(a)).saturating_add(high[a]))
                .collect();
            let stride = Stride {
                start: low.into(),
                step: vec![1; shape.rank()].into(),
            };
            self.pad_by(&stride, value, padded)
        })
    }

    #[track_caller]
    fn padded_by_itself(self, low: &[usize], high: &[usize], padding: Padding) -> Tensor<'g> {
        let along = |x, axis: usize| padding.along(x, axis, [low[axis], high[axis]]);
        let padded = self
            .graph
            .first_error(|| (0..self.rank()).try_fold(self, along));
        padded.unwrap_or_else(|problem| self.failed("pad", Some(problem)))
    }

    #[track_caller]
    pub(crate) fn slice_by(self, stride: &Stride, shape: Shape) -> Tensor<'g> {
        let op = Op::Slice(stride.clone().into());
        self.graph
            .apply("slice", &[self], Location::caller(), |types| {
                Ok((op, (types[0].0, shape)))
            })
    }

    #[track_caller]
    pub(crate) fn pad_by(self, stride: &Stride, value: f64, shape: Shape) -> Tensor<'g> {
        let op = Op::Pad(stride.clone().into(), value.to_bits());
        self.graph
            .apply("pad", &[self], Location::caller(), |types| {
                let dtype = types[0].0;
                match has_value(dtype, value) {
                    true => Ok((op, (dtype, shape))),
                    false => Err(bad_dtype("pad", format!("{value} is no {dtype}"))),
                }
            })
    }

    /// Records a problem with this operand.
    #[track_caller]
    pub(crate) fn failed(self, operation: &str, problem: Option<Problem>) -> Tensor<'g> {
        let problem = problem.unwrap_or_else(|| too_many_axes(operation));
        self.graph
            .refuse(operation, &[self], Location::caller(), problem)
    }
}

impl Graph {
    /// Tensors one after the other along an axis that they have in common.
    #[track_caller]
    pub fn concat<'g>(&'g self, tensors: &[Tensor<'g>], axis: i32) -> Tensor<'g> {
        self.apply("concat", tensors, Location::caller(), |types| {
            concat(types, axis)
        })
    }

    /// Tensors of one shape, one after the other along a new axis.
    #[track_caller]
    pub fn stack<'g>(&'g self, tensors: &[Tensor<'g>], axis: i32) -> Tensor<'g> {
        let place = Location::caller();
        self.at(place, || {
            let raise = |x: &Tensor<'g>| x.unsqueeze(axis);
            let raised: Vec<_> = self.first_error(|| tensors.iter().map(raise).collect());
            self.concat(&raised, axis)
        })
    }
}

fn concat(types: &[Type], axis: i32) -> Result<(Op, Type), Problem> {
    let Some(&(dtype, first)) = types.first() else {
        return Err(bad_shape("concat", "nothing to put together"));
    };
    let axis = resolve("concat", axis, first.rank())?;
    let mut size = 0usize;
    for &(other, shape) in types {
        if other != dtype {
            return Err(bad_dtype("concat", format!("{dtype} and {other}")));
        }
        if shape.rank() != first.rank() || shape.with(axis, 0) != first.with(axis, 0) {
            let what = format!("{first} and {shape} differ besides axis {axis}");
            return Err(bad_shape("concat", what));
        }
        size = size.saturating_add(shape.size(axis));
    }
    Ok((Op::Concat(axis as u8), (dtype, first.with(axis, size))))
}

fn too_many_axes(operation: &str) -> Problem {
    bad_shape(operation, format!("more than {MAX_RANK} axes"))
}

/// The shape that `wanted` means for as many elements as `shape` has.
fn fill_in(shape: Shape, wanted: &[isize]) -> Result<Shape, Problem> {
    let wrong = || bad_shape("reshape", format!("{shape} has no shape {wanted:?}"));
    let mut known = wanted.iter().filter(|&&size| size >= 0);
    let product = known.try_fold(1usize, |n, &size| n.checked_mul(size as usize));
    let unknown = wanted.iter().filter(|&&size| size < 0).count();
    if wanted.iter().any(|&size| size < -1) {
        return Err(wrong());
    }
    let rest = match (unknown, product) {
        (0, Some(product)) if product == shape.count() => 0,
        (1, Some(product)) if product > 0 && shape.count().is_multiple_of(product) => {
            shape.count() / product
        }
        _ => return Err(wrong()),
    };
    let sizes = wanted
        .iter()
        .map(|&size| if size < 0 { rest } else { size as usize });
    Shape::new(&sizes.collect::<Vec<_>>()).ok_or_else(wrong)
}

/// The sum over everything that broadcasting from `shape` repeated.
pub(super) fn unbroadcast<'g>(shape: Shape, g: Tensor<'g>) -> Tensor<'g> {
    let added = g.rank() - shape.rank();
    let repeated = |axis: &usize| {
        *axis < added || (shape.size(axis - added) == 1 && g.shape().size(*axis) != 1)
    };
    let axes: Vec<i32> = (0..g.rank())
        .filter(repeated)
        .map(|axis| axis as i32)
        .collect();
    g.sum(axes.as_slice()).reshape_to(shape)
}

pub(super) fn unpermute<'g>(order: &[u8], g: Tensor<'g>) -> Tensor<'g> {
    let mut inverse = vec![0; order.len()];
    for (i, &axis) in order.iter().enumerate() {
        inverse[usize::from(axis)] = i as i32;
    }
    g.permute(inverse)
}

pub(super) fn unconcat<'g>(
    axis: usize,
    x: &[Tensor<'g>],
    g: Tensor<'g>,
) -> Vec<Option<Tensor<'g>>> {
    let mut start = 0;
    x.iter()
        .map(|x| {
            let end = start + x.shape().size(axis);
            let piece = g.narrow(axis as i32, start, end);
            start = end;
            Some(piece)
        })
        .collect()
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let matrix = || reals(&[&[3, 4]]);
    let square = || reals(&[&[2, 3, 3]]);
    entries! {
        reshape matrix() => |x| x[0].reshape([2, -1]);
        permute square() => |x| x[0].permute([2, 0, 1]);
        t matrix() => |x| x[0].t();
        transpose square() => |x| x[0].transpose(0, -1);
        flatten_from square() => |x| x[0].flatten_from(1);
        unsqueeze matrix() => |x| x[0].unsqueeze(1);
        squeeze reals(&[&[3, 1, 2]]) => |x| x[0].squeeze(1);
        broadcast_to reals(&[&[3, 1]]) => |x| x[0].broadcast_to([2, 3, 4]);
        narrow matrix() => |x| x[0].narrow(1, 1, 3);
        slice matrix() => |x| x[0].slice([1, 0], [3, 4], [1, 2]);
        pad matrix() => |x| x[0].pad([0, 1], [2, 0], 0.5);
        flip matrix() => |x| x[0].flip([0, 1]);
        concat reals(&[&[2, 3], &[2, 1]]) => |x| x[0].graph().concat(x, 1);
        stack reals(&[&[2, 3], &[2, 3]]) => |x| x[0].graph().stack(x, 1);
    }
}
