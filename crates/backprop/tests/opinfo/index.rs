//! Reading and writing by index.

use backprop::{Combine, DType, Scatter, Tensor};

use crate::call::{Argument, Call, Mapping, Outputs, Unsupported, unsupported};
use crate::shape::{common, raised, wide};

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "gather" => gather,
        "take" => take,
        "take_along_dim" => take_along_dim,
        "index_select" => index_select,
        "__getitem__" => crate::getitem::getitem,
        "index_put" => crate::getitem::index_put,
        "put" => put,
        "index_add" => index_add,
        "index_copy" => |c| slices(c, Scatter::default()),
        "index_fill" => index_fill,
        "index_reduce" => |c| slices(c, reduce(c, 4)?),
        "scatter" => scatter,
        "scatter_add" => |c| elements(c, sum()),
        "scatter_reduce" => |c| elements(c, reduce(c, 4)?),
        "masked_fill" => masked_fill,
        "masked_scatter" => masked_scatter,
        "fill" => fill,
        "where" => choose,
        _ => return None,
    };
    Some(mapping)
}

/// Indices as 64-bit integers.
pub(crate) fn indices<'g>(
    c: &Call<'g, '_>,
    at: usize,
    name: &str,
) -> Result<Tensor<'g>, Unsupported> {
    Ok(c.tensor(at, name)?.cast(DType::I64))
}

/// Indices, of which negative ones count from the end.
fn wrapped<'g>(
    c: &Call<'g, '_>,
    at: usize,
    name: &str,
    size: usize,
) -> Result<Tensor<'g>, Unsupported> {
    Ok(from_end(indices(c, at, name)?, size))
}

/// With negative indices counted from the end.
pub(crate) fn from_end(index: Tensor<'_>, size: usize) -> Tensor<'_> {
    let size = index.graph().full([], size as f64, DType::I64);
    index.lt(0).select(index + size, index)
}

fn gather<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, index) = (c.tensor(0, "input")?, indices(c, 2, "index")?);
    let (axis, shape) = (c.axis(1, "dim", 0)?, wide(index.shape().sizes()));
    if index.shape().count() == 0 {
        // Whatever its shape, it picks nothing.
        return Ok(vec![c.g.full(index.shape(), 0.0, x.dtype())]);
    }
    let picked = raised(x, 1).gather(axis, raised(index, 1));
    Ok(vec![picked.reshape(shape)])
}

/// From the flattened tensor.
fn take<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let index = wrapped(c, 1, "index", x.shape().count())?;
    Ok(vec![x.reshape([-1]).take(index, 0)])
}

/// The axes besides `dim` are broadcast.
fn take_along_dim<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    if !c.has(2, "dim") {
        let index = wrapped(c, 1, "indices", x.shape().count())?;
        return Ok(vec![x.reshape([-1]).take(index.reshape([-1]), 0)]);
    }
    let axis = crate::shape::counted(c.int(2, "dim", 0)?, x.rank());
    let index = wrapped(c, 1, "indices", x.shape().size(axis))?;
    let sizes = |x: Tensor<'g>| x.shape().with(axis, 1);
    let Some(others) = sizes(x).broadcast(&sizes(index)) else {
        return unsupported("shapes that do not broadcast");
    };
    let wide = |x: Tensor<'g>| x.broadcast_to(others.with(axis, x.shape().size(axis)));
    Ok(vec![wide(x).gather(axis as i32, wide(index))])
}

fn index_select<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, axis) = (c.tensor(0, "input")?, c.axis(1, "dim", 0)?);
    let index = indices(c, 2, "index")?.reshape([-1]);
    Ok(vec![match x.rank() {
        0 => x.unsqueeze(0).take(index, 0).reshape([]),
        _ => x.take(index, axis),
    }])
}

/// Into the flattened tensor.
fn put<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let index = wrapped(c, 1, "index", x.shape().count())?;
    let source = c.tensor(2, "source")?;
    let how = match c.flag(3, "accumulate", false)? {
        true => sum(),
        false => Scatter::default(),
    };
    let flat = x.reshape([-1]);
    let written = flat.index_reduce(0, index.reshape([-1]), source.reshape([-1]), how);
    Ok(vec![written.reshape(wide(x.shape().sizes()))])
}

pub(crate) fn sum() -> Scatter {
    Scatter {
        combine: Combine::Sum,
        include_self: true,
    }
}

fn reduce(c: &Call<'_, '_>, at: usize) -> Result<Scatter, Unsupported> {
    let combine = match c.text(at, "reduce", "")? {
        "sum" => Combine::Sum,
        "mean" => Combine::Mean,
        "prod" => Combine::Product,
        "amax" => Combine::Max,
        "amin" => Combine::Min,
        other => return unsupported(format!("reduce = {other}")),
    };
    let include_self = c.flag(usize::MAX, "include_self", true)?;
    Ok(Scatter {
        combine,
        include_self,
    })
}

/// Slices of argument 3 where a vector of indices says.
fn slices<'g>(c: &Call<'g, '_>, how: Scatter) -> Outputs<'g> {
    let (x, axis) = (c.tensor(0, "input")?, c.axis(1, "dim", 0)?);
    let index = indices(c, 2, "index")?.reshape([-1]);
    Ok(vec![by_slices(x, axis, index, c.tensor(3, "source")?, how)])
}

fn by_slices<'g>(
    x: Tensor<'g>,
    axis: i32,
    index: Tensor<'g>,
    source: Tensor<'g>,
    how: Scatter,
) -> Tensor<'g> {
    let written = raised(x, 1).index_reduce(axis, index, raised(source, 1), how);
    written.reshape(wide(x.shape().sizes()))
}

fn index_add<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, axis) = (c.tensor(0, "input")?, c.axis(1, "dim", 0)?);
    let index = indices(c, 2, "index")?.reshape([-1]);
    let source = c.tensor(3, "source")? * c.float(usize::MAX, "alpha", 1.0)?;
    Ok(vec![by_slices(x, axis, index, source, sum())])
}

fn index_fill<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, axis) = (c.tensor(0, "input")?, c.axis(1, "dim", 0)?);
    let index = indices(c, 2, "index")?.reshape([-1]);
    let value = number(c, 3, "value", x)?;
    let filled = raised(x, 1).index_fill(axis, index, value);
    Ok(vec![filled.reshape(wide(x.shape().sizes()))])
}

/// A number, or a tensor of one, in the type of another tensor.
fn number<'g>(
    c: &Call<'g, '_>,
    at: usize,
    name: &str,
    like: Tensor<'g>,
) -> Result<Tensor<'g>, Unsupported> {
    Ok(match c.argument(at, name)? {
        Argument::Tensor(value) => value.cast(like.dtype()),
        Argument::Number(value, _) => c.g.full([], value, like.dtype()),
    })
}

/// Elements of argument 3, as far as the indices go, where they say.
fn elements<'g>(c: &Call<'g, '_>, how: Scatter) -> Outputs<'g> {
    let source = c.tensor(3, "src")?;
    by_elements(c, source, how)
}

fn by_elements<'g>(c: &Call<'g, '_>, source: Tensor<'g>, how: Scatter) -> Outputs<'g> {
    let (x, axis) = (c.tensor(0, "input")?, c.axis(1, "dim", 0)?);
    let index = raised(indices(c, 2, "index")?, 1);
    let source = raised(source, 1);
    let sizes = index.shape().sizes().to_vec();
    let (starts, steps) = (vec![0; sizes.len()], vec![1; sizes.len()]);
    let source = source.slice(starts, sizes, steps);
    let written = raised(x, 1).scatter_reduce(axis, index, source, how);
    Ok(vec![written.reshape(wide(x.shape().sizes()))])
}

fn scatter<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let combine = match c.text(usize::MAX, "reduce", "")? {
        "add" => Combine::Sum,
        "multiply" => Combine::Product,
        _ => Combine::Last,
    };
    let how = Scatter {
        combine,
        include_self: combine != Combine::Last,
    };
    let (x, shape) = (c.tensor(0, "input")?, c.tensor(2, "index")?.shape());
    let name = if c.has(3, "src") { "src" } else { "value" };
    let source = match c.argument(3, name)? {
        Argument::Tensor(source) => source,
        Argument::Number(value, _) => c.g.full(shape, value, x.dtype()),
    };
    by_elements(c, source, how)
}

fn masked_fill<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, mask) = (c.tensor(0, "input")?, c.tensor(1, "mask")?);
    Ok(vec![mask.select(number(c, 2, "value", x)?, x)])
}

fn fill<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    Ok(vec![number(c, 1, "value", x)?.broadcast_to(x.shape())])
}

/// The elements of a source in order, where a mask holds.
fn masked_scatter<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, mask) = (c.tensor(0, "input")?, c.tensor(1, "mask")?);
    let source = c.tensor(2, "source")?;
    let shape = common(&[x, mask]);
    if source.shape().count() == 0 {
        // Nothing is taken from it.
        return Ok(vec![x.broadcast_to(shape)]);
    }
    let mask = mask.broadcast_to(shape);
    let before = mask.cast(DType::I64).reshape([-1]).cumsum(0) - 1;
    let taken = source.reshape([-1]).take(before.maximum(0.0), 0);
    let taken = taken.reshape(wide(shape.sizes()));
    Ok(vec![mask.select(taken, x.broadcast_to(shape))])
}

fn choose<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let condition = c.tensor(1, "condition")?;
    let [a, b] = crate::adapt::promoted(c, [c.argument(0, "x")?, c.argument(2, "other")?]);
    Ok(vec![condition.select(a, b)])
}
