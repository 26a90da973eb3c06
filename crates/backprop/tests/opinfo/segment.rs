//! Reductions of segments: consecutive elements along an axis, of given lengths.

use backprop::{Combine, DType, Keep, Scatter, Tensor};

use crate::call::{Call, Outputs, Unsupported, unsupported};

pub(crate) fn segment_reduce<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, reduce) = (c.tensor(0, "data")?, c.text(1, "reduce", "")?);
    let axis = c.axis(usize::MAX, "axis", 0)?;
    // Whether PyTorch checks its arguments.
    let _ = c.flag(usize::MAX, "unsafe", false)?;
    let (combine, neutral) = match reduce {
        "sum" | "mean" => (Combine::Sum, 0.0),
        "prod" => (Combine::Product, 1.0),
        "max" => (Combine::Max, f64::NEG_INFINITY),
        "min" => (Combine::Min, f64::INFINITY),
        other => return unsupported(format!("reduce = {other}")),
    };
    let ends = ends(c)?;
    let segments = ends.shape().size(ends.rank() - 1);
    let ids = ids(x, axis as usize, ends);
    // One more place, for what no segment has.
    let table = x.shape().with(axis as usize, segments + 1);
    let start = c.float(usize::MAX, "initial", neutral)?;
    let start = c.g.full(table, start, x.dtype());
    let how = Scatter {
        combine,
        include_self: true,
    };
    let total = start.scatter_reduce(axis, ids, x, how);
    let reduced = match reduce {
        "mean" => {
            let ones = c.g.full(x.shape(), 1.0, x.dtype());
            let none = c.g.full(table, 0.0, x.dtype());
            let count = none.scatter_add(axis, ids, ones);
            let empty = match c.has(usize::MAX, "initial") {
                true => total,
                false => c.g.full(table, f64::NAN, x.dtype()),
            };
            count.gt(0.0).select(total / count.maximum(1.0), empty)
        }
        _ => total,
    };
    Ok(vec![reduced.narrow(axis, 0, segments)])
}

/// Where each segment ends, along the last axis.
fn ends<'g>(c: &Call<'g, '_>) -> Result<Tensor<'g>, Unsupported> {
    if let Some(lengths) = c.optional(usize::MAX, "lengths")? {
        return Ok(lengths.cumsum(-1));
    }
    let offsets = c.tensor(usize::MAX, "offsets")?;
    Ok(offsets.narrow(-1, 1, offsets.shape().size(offsets.rank() - 1)))
}

/// The segment of every element: the number of those that end before it.
fn ids<'g>(x: Tensor<'g>, axis: usize, ends: Tensor<'g>) -> Tensor<'g> {
    let shape = x.shape();
    let mut batch: Vec<usize> = shape.sizes()[..=axis].to_vec();
    batch.push(1);
    let position = x.graph().coordinate(&batch, axis);
    let passed = position.ge(ends.cast(DType::I64).unsqueeze(-2));
    let ids = passed.cast(DType::I64).sum(Keep(-1));
    let mut sizes: Vec<isize> = batch[..=axis].iter().map(|&size| size as isize).collect();
    sizes.resize(x.rank(), 1);
    ids.reshape(sizes).broadcast_to(shape)
}
