//! Diagonals and triangles, and writing into parts of a tensor.

use backprop::{DType, Tensor};

use crate::adapt::unary;
use crate::call::{Call, Mapping, Outputs};
use crate::join::place;
use crate::shape::counted;

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "tril" => |c| Ok(vec![c.tensor(0, "input")?.tril(c.int(1, "diagonal", 0)?)]),
        "triu" => |c| Ok(vec![c.tensor(0, "input")?.triu(c.int(1, "diagonal", 0)?)]),
        "trace" => |c| unary(c, |x| x.diagonal(0, 0, 1).sum(0)),
        "diag" => diag,
        "diagflat" => |c| {
            let flat = c.tensor(0, "input")?.reshape([-1]);
            Ok(vec![flat.diag_embed(c.int(1, "offset", 0)?)])
        },
        "diag_embed" => diag_embed,
        "diagonal" => |c| {
            let Plane { offset, a, b } = plane(c, 1, [0, 1])?;
            unary(c, |x| x.diagonal(offset, a, b))
        },
        "diagonal_scatter" => diagonal_scatter,
        "select_scatter" => select_scatter,
        "slice_scatter" => slice_scatter,
        _ => return None,
    };
    Some(mapping)
}

/// A diagonal of two axes.
struct Plane {
    offset: i64,
    a: i32,
    b: i32,
}

fn plane(
    c: &Call<'_, '_>,
    at: usize,
    default: [i32; 2],
) -> Result<Plane, crate::call::Unsupported> {
    Ok(Plane {
        offset: c.int(at, "offset", 0)?,
        a: c.axis(at + 1, "dim1", default[0])?,
        b: c.axis(at + 2, "dim2", default[1])?,
    })
}

fn diag<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let offset = c.int(1, "diagonal", 0)?;
    unary(c, |x| match x.rank() {
        1 => x.diag_embed(offset),
        _ => x.diagonal(offset, 0, 1),
    })
}

fn diag_embed<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let Plane { offset, a, b } = plane(c, 1, [-2, -1])?;
    unary(c, |x| x.diag_embed(offset).move_axes([-2, -1], [a, b]))
}

fn diagonal_scatter<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, source) = (c.tensor(0, "input")?, c.tensor(1, "src")?);
    let Plane { offset, a, b } = plane(c, 2, [0, 1])?;
    let matrices = x.move_axes([a, b], [-2, -1]);
    let shape = matrices.shape();
    // The matrices that have the source as their diagonal, in the size of these.
    let laid = |diagonal: Tensor<'g>| {
        [shape.rank() - 2, shape.rank() - 1]
            .iter()
            .fold(diagonal.diag_embed(offset), |x, &axis| {
                let (size, side) = (shape.size(axis), x.shape().size(axis));
                let (low, mut high) = (vec![0; shape.rank()], vec![0; shape.rank()]);
                high[axis] = size.saturating_sub(side);
                x.narrow(axis as i32, 0, side.min(size)).pad(low, high, 0.0)
            })
    };
    let inside = laid(c.g.full(source.shape(), 1.0, DType::Bool));
    let written = inside.select(laid(source), matrices);
    Ok(vec![written.move_axes([-2, -1], [a, b])])
}

fn select_scatter<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, source) = (c.tensor(0, "input")?, c.tensor(1, "src")?);
    let axis = counted(c.int(2, "dim", 0)?, x.rank());
    let index = counted(c.int(3, "index", 0)?, x.shape().size(axis));
    let slice = source.unsqueeze(axis as i32);
    Ok(vec![written(x, slice, axis, [index, index + 1, 1])])
}

fn slice_scatter<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, source) = (c.tensor(0, "input")?, c.tensor(1, "src")?);
    let axis = counted(c.int(2, "dim", 0)?, x.rank());
    let size = x.shape().size(axis);
    let start = place(c.int(3, "start", 0)?, size);
    let end = place(c.int(4, "end", i64::MAX)?, size);
    let step = c.int(5, "step", 1)? as usize;
    Ok(vec![written(
        x,
        source,
        axis,
        [start, end.max(start), step],
    )])
}

/// With a source in place of the elements `start, start + step, ..` below `end` along an axis.
fn written<'g>(
    x: Tensor<'g>,
    source: Tensor<'g>,
    axis: usize,
    [start, end, step]: [usize; 3],
) -> Tensor<'g> {
    let (mut starts, mut steps) = (vec![0; x.rank()], vec![1; x.rank()]);
    let mut ends = x.shape().sizes().to_vec();
    (starts[axis], ends[axis], steps[axis]) = (start, end, step);
    x.slice_scatter(starts, ends, steps, source)
}
