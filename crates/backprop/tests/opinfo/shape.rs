//! Rearrangements: views, pieces, joins, repeats, diagonals.

use backprop::{Shape, Tensor};

use crate::adapt::unary;
use crate::call::{Call, Mapping, Outputs};

pub(crate) fn find(op: &str, variant: &str) -> Option<Mapping> {
    view(op)
        .or_else(|| crate::join::find(op, variant))
        .or_else(|| crate::diagonal::find(op, variant))
}

fn view(op: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "ravel" => |c| unary(c, |x| x.reshape([-1])),
        "reshape" => |c| {
            Ok(vec![
                c.tensor(0, "input")?
                    .reshape(wide(&c.ints_from(1, "shape")?)),
            ])
        },
        "reshape_as" => |c| {
            let like = c.tensor(1, "other")?.shape();
            unary(c, |x| x.reshape(wide(like.sizes())))
        },
        "flatten" => flatten,
        "unflatten" => unflatten,
        "squeeze" => squeeze,
        "unsqueeze" => |c| {
            let axis = c.axis(1, "dim", 0)?;
            unary(c, |x| x.unsqueeze(axis))
        },
        "permute" => |c| {
            Ok(vec![
                c.tensor(0, "input")?
                    .permute(axes(&c.ints_from(1, "dims")?)),
            ])
        },
        "transpose" => transpose,
        "t" => |c| unary(c, |x| if x.rank() < 2 { x } else { x.t() }),
        "mT" => |c| unary(c, |x| x.t()),
        "T" => |c| {
            unary(c, |x| {
                x.permute((0..x.rank() as i32).rev().collect::<Vec<_>>())
            })
        },
        "movedim" => movedim,
        "expand" | "broadcast_to" => expand,
        "expand_as" => |c| {
            let like = c.tensor(1, "other")?.shape();
            unary(c, |x| x.broadcast_to(like))
        },
        "atleast_1d" => |c| at_least(c, |x| raised(x, 1)),
        "atleast_2d" => |c| at_least(c, |x| raised(x, 2)),
        "atleast_3d" => |c| at_least(c, raised_to_3),
        "roll" => roll,
        "rot90" => rot90,
        "flip" => |c| {
            let dims = axes(&c.ints_from(1, "dims")?);
            unary(c, |x| match x.rank() {
                0 => x,
                _ => x.flip(dims.as_slice()),
            })
        },
        "fliplr" => |c| unary(c, |x| x.flip(1)),
        "flipud" => |c| unary(c, |x| x.flip(0)),
        "narrow" => narrow,
        "select" => select,
        "unfold" => unfold,
        "constant_pad_nd" => constant_pad,
        _ => return None,
    };
    Some(mapping)
}

pub(crate) fn wide<T: Copy + TryInto<isize>>(sizes: &[T]) -> Vec<isize> {
    let size = |&size: &T| size.try_into().unwrap_or(isize::MAX);
    sizes.iter().map(size).collect()
}

pub(crate) fn axes(given: &[i64]) -> Vec<i32> {
    given.iter().map(|&axis| axis as i32).collect()
}

/// An axis, counted from the front; 0 for a number.
pub(crate) fn counted(axis: i64, rank: usize) -> usize {
    axis.rem_euclid(rank.max(1) as i64) as usize
}

/// With axes of size 1 in front, up to this rank.
pub(crate) fn raised(x: Tensor<'_>, rank: usize) -> Tensor<'_> {
    (x.rank()..rank).fold(x, |x, _| x.unsqueeze(0))
}

pub(crate) fn raised_to_3(x: Tensor<'_>) -> Tensor<'_> {
    match x.rank() {
        0 | 1 => raised(x, 2).unsqueeze(2),
        2 => x.unsqueeze(2),
        _ => x,
    }
}

fn at_least<'g>(c: &Call<'g, '_>, raise: fn(Tensor<'g>) -> Tensor<'g>) -> Outputs<'g> {
    Ok(c.tensors(0, "tensors")?.into_iter().map(raise).collect())
}

fn flatten<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let start = counted(c.int(1, "start_dim", 0)?, x.rank());
    let end = counted(c.int(2, "end_dim", -1)?, x.rank());
    let shape = x.shape();
    let (before, rest) = shape.sizes().split_at(start.min(shape.rank()));
    let (merged, after) = rest.split_at((end + 1 - start).min(rest.len()));
    let sizes = [before, &[merged.iter().product()], after].concat();
    Ok(vec![x.reshape(wide(&sizes))])
}

fn unflatten<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let axis = counted(c.int(1, "dim", 0)?, x.rank());
    let sizes = c.ints(2, "sizes")?.unwrap_or_default();
    let known: i64 = sizes.iter().filter(|&&size| size >= 0).product();
    let rest = x.shape().size(axis) as i64 / known.max(1);
    let own = sizes
        .iter()
        .map(|&size| if size < 0 { rest } else { size } as isize);
    let mut shape = wide(x.shape().sizes());
    shape.splice(axis..=axis, own);
    Ok(vec![x.reshape(shape)])
}

/// Axes of another size stay.
fn squeeze<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let (shape, rank) = (x.shape(), x.rank());
    let dims = c.ints(1, "dim")?;
    let named = |axis: usize| {
        let dims = dims.as_ref();
        dims.is_none_or(|dims| dims.iter().any(|&dim| counted(dim, rank) == axis))
    };
    let kept = shape.filter(|axis| !named(axis) || shape.size(axis) != 1);
    Ok(vec![x.reshape(wide(kept.sizes()))])
}

fn transpose<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let (a, b) = (c.axis(1, "dim0", 0)?, c.axis(2, "dim1", 0)?);
    Ok(vec![if x.rank() == 0 { x } else { x.transpose(a, b) }])
}

fn movedim<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let list = |at, name| c.ints(at, name).map(|axes| axes.unwrap_or_default());
    let (from, to) = (list(1, "source")?, list(2, "destination")?);
    unary(c, |x| match x.rank() {
        0 => x,
        _ => x.move_axes(axes(&from), axes(&to)),
    })
}

/// -1 keeps a size.
fn expand<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, wanted) = (c.tensor(0, "input")?, c.ints_from(1, "size")?);
    let added = wanted.len().saturating_sub(x.rank());
    let size = |(axis, &size): (usize, &i64)| match size {
        -1 => x.shape().size(axis - added),
        size => size as usize,
    };
    let shape: Vec<usize> = wanted.iter().enumerate().map(size).collect();
    Ok(vec![x.broadcast_to(shape)])
}

fn roll<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let shifts = c.ints(1, "shifts")?.unwrap_or_default();
    let dims = c.ints(2, "dims")?.filter(|dims| !dims.is_empty());
    Ok(vec![match dims {
        _ if x.rank() == 0 => x,
        None => {
            let flat = x.reshape([-1]).roll(shifts[0] as isize, 0);
            flat.reshape(wide(x.shape().sizes()))
        }
        Some(dims) => {
            let pairs = shifts.iter().zip(&dims);
            pairs.fold(x, |x, (&shift, &axis)| x.roll(shift as isize, axis as i32))
        }
    }])
}

fn rot90<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let times = c.int(1, "k", 1)? as i32;
    let plane = c.ints(2, "dims")?.unwrap_or(vec![0, 1]);
    unary(c, |x| x.rot90(times, plane[0] as i32, plane[1] as i32))
}

fn narrow<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let axis = counted(c.int(1, "dim", 0)?, x.rank());
    let start = match c.value(2, "start") {
        Some(start) if start.is_i64() => c.int(2, "start", 0)?,
        _ => c.known(2, "start")?.unwrap_or_default()[0] as i64,
    };
    let size = x.shape().size(axis) as i64;
    let start = if start < 0 { start + size } else { start } as usize;
    let length = c.int(3, "length", 0)? as usize;
    Ok(vec![x.narrow(axis as i32, start, start + length)])
}

fn select<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let axis = counted(c.int(1, "dim", 0)?, x.rank());
    let index = counted(c.int(2, "index", 0)?, x.shape().size(axis));
    let axis = axis as i32;
    Ok(vec![x.narrow(axis, index, index + 1).squeeze(axis)])
}

fn unfold<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let (axis, size) = (c.axis(1, "dimension", 0)?, c.int(2, "size", 1)?);
    let (size, step) = (size as usize, c.int(3, "step", 1)? as usize);
    Ok(vec![match x.rank() {
        0 => x.unsqueeze(0).windows(0, size, step).reshape([-1]),
        _ => x.windows(axis, size, step),
    }])
}

/// Pairs of paddings from the last axis on; negative ones cut off.
fn constant_pad<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let pad = c.ints(1, "pad")?.unwrap_or_default();
    let (mut low, mut high) = (vec![0; x.rank()], vec![0; x.rank()]);
    let mut cut = x;
    for (i, pair) in pad.chunks(2).enumerate() {
        let axis = x.rank() - 1 - i;
        let [before, after] = [pair[0], pair[1]];
        let start = before.min(0).unsigned_abs() as usize;
        let end = x.shape().size(axis) - after.min(0).unsigned_abs() as usize;
        cut = cut.narrow(axis as i32, start, end);
        (low[axis], high[axis]) = (before.max(0) as usize, after.max(0) as usize);
    }
    Ok(vec![cut.pad(low, high, c.float(2, "value", 0.0)?)])
}

/// The shape that all of these broadcast to.
pub(crate) fn common(tensors: &[Tensor<'_>]) -> Shape {
    let mut shapes = tensors.iter().map(|x| x.shape());
    let common = shapes.try_fold(Shape::SCALAR, |common, shape| common.broadcast(&shape));
    common.unwrap_or(Shape::SCALAR)
}
