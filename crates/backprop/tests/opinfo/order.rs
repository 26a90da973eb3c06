//! Sorting, and what stands where in sorted order.

use backprop::{Between, DType, Keep, Order, Tensor};

use crate::adapt::lined;
use crate::call::{Call, Mapping, Outputs, unsupported};
use crate::reduce::{chosen, pair};

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "sort" => sort,
        "msort" => msort,
        "topk" => topk,
        "kthvalue" => kthvalue,
        "median" => |c| median(c, middle),
        "nanmedian" => |c| median(c, known_middle),
        "mode" => mode,
        "quantile" => |c| quantile(c, |x, q, r, between| x.quantile(q, r, between)),
        "nanquantile" => |c| quantile(c, |x, q, r, between| x.nanquantile(q, r, between)),
        _ => return None,
    };
    Some(mapping)
}

fn order(descending: bool) -> Order {
    match descending {
        true => Order::Descending,
        false => Order::Ascending,
    }
}

fn sort<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, axis) = (c.tensor(0, "input")?, c.axis(1, "dim", -1)?);
    let order = order(c.flag(2, "descending", false)?);
    // Sorting is always stable here.
    let _ = c.flag(usize::MAX, "stable", false)?;
    Ok(lined(x, |x| pair(x.sort(axis, order))))
}

fn msort<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    Ok(lined(x, |x| vec![x.sort(0, Order::Ascending).0]))
}

fn topk<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, k) = (c.tensor(0, "input")?, c.int(1, "k", 1)?);
    let (axis, order) = (c.axis(2, "dim", -1)?, order(c.flag(3, "largest", true)?));
    let _ = c.flag(4, "sorted", true)?;
    Ok(lined(x, |x| pair(x.topk(k as usize, axis, order))))
}

fn kthvalue<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, k) = (c.tensor(0, "input")?, c.int(1, "k", 1)? as usize);
    let (axis, keeps) = (c.axis(2, "dim", -1)?, c.flag(3, "keepdim", false)?);
    Ok(lined(x, |x| {
        let (_, first) = x.topk(k, axis, Order::Ascending);
        chosen(x, axis, first.narrow(axis, k - 1, k), keeps)
    }))
}

/// Where a median stands in sorted order along an axis: in the middle, or last if that is NaN.
fn middle<'g>(x: Tensor<'g>, axis: i32) -> Tensor<'g> {
    let last = x.shape().size(axis.rem_euclid(x.rank() as i32) as usize) - 1;
    let at = |place: usize| x.graph().full([], place as f64, DType::I64);
    let spoilt = x.ne(x).any(Keep(axis));
    spoilt.select(at(last), at(last / 2))
}

fn known_middle<'g>(x: Tensor<'g>, axis: i32) -> Tensor<'g> {
    let count = x.eq(x).cast(DType::F64).sum(Keep(axis));
    ((count - 1.0) * 0.5).floor().maximum(0.0).cast(DType::I64)
}

/// Without an axis, equal elements share the gradient.
fn median<'g>(c: &Call<'g, '_>, place: fn(Tensor<'g>, i32) -> Tensor<'g>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let along = |x: Tensor<'g>, axis: i32, keeps: bool| {
        let order = x.argsort(axis, Order::Ascending);
        chosen(x, axis, order.gather(axis, place(x, axis)), keeps)
    };
    if c.has(1, "dim") {
        let (axis, keeps) = (c.axis(1, "dim", 0)?, c.flag(2, "keepdim", false)?);
        return Ok(lined(x, |x| along(x, axis, keeps)));
    }
    let flat = x.reshape([-1]);
    let value = along(flat, 0, false)[0].stop_gradient();
    let nan = flat.ne(flat).logical_and(value.ne(value));
    let ties = flat.eq(value).logical_or(nan);
    let count = ties.cast(x.dtype()).sum(..);
    Ok(vec![ties.select(flat, 0.0).sum(..) / count])
}

/// The smallest of the most frequent elements: the longest run in sorted order.
fn mode<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, axis) = (c.tensor(0, "input")?, c.axis(1, "dim", -1)?);
    let keeps = c.flag(2, "keepdim", false)?;
    Ok(lined(x, |x| {
        let at = axis.rem_euclid(x.rank() as i32) as usize;
        let (sorted, order) = x.stop_gradient().sort(axis, Order::Ascending);
        let size = x.shape().size(at);
        let changed = sorted
            .narrow(axis, 1, size)
            .ne(sorted.narrow(axis, 0, size - 1));
        let (mut low, high) = (vec![0; x.rank()], vec![0; x.rank()]);
        low[at] = 1;
        let place = x.graph().coordinate(x.shape(), at);
        let starts = changed.pad(low, high, 1.0).select(place, 0);
        let length = place - starts.cummax(axis).0;
        let longest = length.argmax(axis).unsqueeze(axis);
        chosen(x, axis, order.gather(axis, longest), keeps)
    }))
}

fn quantile<'g>(
    c: &Call<'g, '_>,
    function: impl FnOnce(Tensor<'g>, Tensor<'g>, crate::call::Reduced, Between) -> Tensor<'g>,
) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let q = match c.value(1, "q") {
        Some(q) if q.is_number() => c.g.full([], c.float(1, "q", 0.5)?, x.dtype()),
        _ => c.tensor(1, "q")?,
    };
    let between = match c.text(usize::MAX, "interpolation", "linear")? {
        "linear" => Between::Linear,
        "lower" => Between::Lower,
        "higher" => Between::Higher,
        "nearest" => Between::Nearest,
        "midpoint" => Between::Midpoint,
        other => return unsupported(format!("interpolation = {other}")),
    };
    Ok(vec![function(x, q, c.reduced_of(x, 2)?, between)])
}
