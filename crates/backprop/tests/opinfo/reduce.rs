//! Reductions, running ones, statistics and distances.

use backprop::{DType, Keep, Tensor};
use serde_json::Value;

use crate::adapt::{in_dtype, lined, reduction};
use crate::call::{Call, Mapping, Outputs, Reduced, Unsupported, unsupported};
use crate::linalg_norm;
use crate::shape::raised;

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "sum" => |c| reduction(c, |x, r| x.sum(r)),
        "mean" => |c| reduction(c, |x, r| x.mean(r)),
        "nansum" => |c| reduction(c, |x, r| x.nansum(r)),
        "nanmean" => |c| reduction(c, |x, r| x.nanmean(r)),
        "prod" => |c| reduction(c, |x, r| x.prod(r)),
        "amax" => |c| reduction(c, |x, r| x.max(r)),
        "amin" => |c| reduction(c, |x, r| x.min(r)),
        "logsumexp" => |c| reduction(c, |x, r| x.logsumexp(r)),
        "aminmax" => aminmax,
        "max" => |c| extreme(c, |x, r| x.max(r), |x, axis| x.argmax(axis)),
        "min" => |c| extreme(c, |x, r| x.min(r), |x, axis| x.argmin(axis)),
        "var" => |c| Ok(vec![spread(c)?.var]),
        "std" => |c| Ok(vec![spread(c)?.std]),
        "var_mean" => |c| spread(c).map(|s| vec![s.var, s.mean]),
        "std_mean" => |c| spread(c).map(|s| vec![s.std, s.mean]),
        "norm" => norm,
        "cumsum" => |c| running(c, |x, axis| vec![x.cumsum(axis)]),
        "cumprod" => |c| running(c, |x, axis| vec![x.cumprod(axis)]),
        "logcumsumexp" => |c| running(c, |x, axis| vec![x.logcumsumexp(axis)]),
        "cummax" => |c| running(c, |x, axis| pair(x.cummax(axis))),
        "cummin" => |c| running(c, |x, axis| pair(x.cummin(axis))),
        "trapezoid" => |c| trapezoid(c, |areas, axis| areas.sum(axis)),
        "cumulative_trapezoid" => |c| trapezoid(c, |areas, axis| areas.cumsum(axis)),
        "diff" => diff,
        "gradient" => gradient,
        "cov" => |c| Ok(vec![squeezed(covariance(c)?)]),
        "corrcoef" => corrcoef,
        "dist" => dist,
        "cdist" => cdist,
        "nn.functional.pdist" => pdist,
        "nn.functional.pairwise_distance" => pairwise_distance,
        "renorm" => renorm,
        "sum_to_size" => sum_to_size,
        "_segment_reduce" => crate::segment::segment_reduce,
        _ => return None,
    };
    Some(mapping)
}

pub(crate) fn pair<'g>((values, positions): (Tensor<'g>, Tensor<'g>)) -> Vec<Tensor<'g>> {
    vec![values, positions]
}

/// The elements that positions (one along the axis) choose, and the positions.
pub(crate) fn chosen<'g>(
    x: Tensor<'g>,
    axis: i32,
    positions: Tensor<'g>,
    keeps: bool,
) -> Vec<Tensor<'g>> {
    let both = [x.gather(axis, positions), positions];
    let shown = |y: Tensor<'g>| if keeps { y } else { y.squeeze(axis) };
    both.map(shown).to_vec()
}

fn aminmax<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let r = c.reduced_of(x, 1)?;
    Ok(vec![x.min(&r), x.max(&r)])
}

fn extreme<'g>(
    c: &Call<'g, '_>,
    over_all: impl FnOnce(Tensor<'g>, Reduced) -> Tensor<'g>,
    position: impl FnOnce(Tensor<'g>, i32) -> Tensor<'g>,
) -> Outputs<'g> {
    if !c.has(1, "dim") {
        return reduction(c, over_all);
    }
    let (x, axis) = (c.tensor(0, "input")?, c.axis(1, "dim", 0)?);
    let keeps = c.flag(2, "keepdim", false)?;
    Ok(lined(x, |x| {
        chosen(x, axis, position(x, axis).unsqueeze(axis), keeps)
    }))
}

struct Spread<'g> {
    mean: Tensor<'g>,
    var: Tensor<'g>,
    std: Tensor<'g>,
}

/// `(dim, unbiased, keepdim)`, `(unbiased)` or `(dim, *, correction, keepdim)`.
fn spread<'g>(c: &Call<'g, '_>) -> Result<Spread<'g>, Unsupported> {
    let x = c.tensor(0, "input")?;
    let alone = matches!(c.value(1, "dim"), Some(Value::Bool(_)));
    let unbiased = c.flag(if alone { 1 } else { 2 }, "unbiased", true)?;
    let axes = if alone { None } else { c.axes(1, "dim")? };
    let keeps = c.flag(3, "keepdim", false)?;
    let r = Reduced { axes, keeps };
    let correction = c.float(usize::MAX, "correction", f64::from(u8::from(unbiased)))?;
    let mean = x.mean(&r);
    let count = x.shape().count() as f64 / mean.shape().count() as f64;
    let ratio = count / (count - correction).max(0.0);
    let var = x.var(&r) * ratio;
    let flat = var.eq(0.0);
    let std = flat.select(0.0, flat.select(1.0, var).sqrt());
    Ok(Spread { mean, var, std })
}

fn norm<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let p = match c.value(1, "p") {
        Some(Value::String(name)) if name == "fro" => 2.0,
        Some(Value::String(name)) if name == "nuc" => return nuclear_norm(c),
        Some(Value::String(name)) if name == "nuc" => return linalg_norm::nuclear(c),
        Some(Value::String(name)) => return unsupported(format!("norm {name}")),
        _ => c.float(1, "p", 2.0)?,
    };
    let x = in_dtype(c, c.tensor(0, "input")?)?;
    Ok(vec![x.norm(p, c.reduced_of(x, 2)?)])
}

/// The sum of singular values.
fn nuclear_norm<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = in_dtype(c, c.tensor(0, "input")?)?;
    let Reduced { axes, keeps } = c.reduced(2)?;
    let axes = axes.unwrap_or(vec![-2, -1]);
    let norm = x.move_axes(&axes, [-2, -1]).svdvals().sum(-1);
    let kept = norm.unsqueeze(-1).unsqueeze(-1);
    Ok(vec![match keeps {
        true => kept.move_axes([-2, -1], axes),
        false => norm,
    }])
}

fn running<'g>(
    c: &Call<'g, '_>,
    function: impl FnOnce(Tensor<'g>, i32) -> Vec<Tensor<'g>>,
) -> Outputs<'g> {
    let (x, axis) = (in_dtype(c, c.tensor(0, "input")?)?, c.axis(1, "dim", 0)?);
    Ok(lined(x, |x| function(x, axis)))
}

/// Neighbours along an axis: all but the first, and all but the last.
fn neighbours<'g>(x: Tensor<'g>, axis: i32) -> (Tensor<'g>, Tensor<'g>) {
    let size = x.shape().size(axis.rem_euclid(x.rank() as i32) as usize);
    (
        x.narrow(axis, size.min(1), size),
        x.narrow(axis, 0, size.saturating_sub(1)),
    )
}

fn steps<'g>(x: Tensor<'g>, axis: i32) -> Tensor<'g> {
    let (later, earlier) = neighbours(x, axis);
    later - earlier
}

/// The areas of trapezoids between neighbours along an axis, put together.
fn trapezoid<'g>(
    c: &Call<'g, '_>,
    together: impl FnOnce(Tensor<'g>, i32) -> Tensor<'g>,
) -> Outputs<'g> {
    let (y, axis) = (c.tensor(0, "y")?, c.axis(usize::MAX, "dim", -1)?);
    let (later, earlier) = neighbours(y, axis);
    let heights = (later + earlier) * 0.5;
    let areas = match c.optional(1, "x")? {
        Some(x) if x.rank() == 1 => {
            let mut shape = vec![1; y.rank()];
            shape[axis.rem_euclid(y.rank() as i32) as usize] = -1;
            heights * steps(x, 0).reshape(shape)
        }
        Some(x) => heights * steps(raised(x, y.rank()), axis),
        None => heights * c.float(usize::MAX, "dx", 1.0)?,
    };
    Ok(vec![together(areas, axis)])
}

fn diff<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let axis = c.axis(2, "dim", -1)?;
    let order = c.int(1, "n", 1)?;
    if order == 0 {
        // PyTorch leaves out what stands before and after, too.
        let _ = (c.optional(3, "prepend")?, c.optional(4, "append")?);
        return Ok(vec![c.tensor(0, "input")?]);
    }
    let parts = [
        c.optional(3, "prepend")?,
        Some(c.tensor(0, "input")?),
        c.optional(4, "append")?,
    ];
    let parts: Vec<Tensor<'g>> = parts.into_iter().flatten().collect();
    let whole = c.g.concat(&parts, axis);
    Ok(vec![(0..order).fold(whole, |x, _| steps(x, axis))])
}

/// Second-order differences over uneven steps, at the edges of order one or two (Fornberg, 1988).
fn gradient<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let all = (0..x.rank() as i32).collect();
    let axes = c.axes(usize::MAX, "dim")?.unwrap_or(all);
    let order = c.int(usize::MAX, "edge_order", 1)?;
    let spacing = c.value(usize::MAX, "spacing");
    let along = |(i, &axis): (usize, &i32)| {
        let size = x.shape().size(axis.rem_euclid(x.rank() as i32) as usize);
        let given = match spacing.and_then(crate::call::items) {
            Some(list) => list.get(i),
            None => spacing,
        };
        let steps = match given {
            None => c.g.full([size - 1], 1.0, DType::F64),
            Some(value) if value.is_number() => {
                c.g.full([size - 1], value.as_f64().unwrap_or(1.0), DType::F64)
            }
            Some(value) => steps(c.tensor_of(value, "spacing")?, 0),
        };
        let lines = x.move_axes([axis], [-1]);
        Ok(slopes(lines, steps, order).move_axes([-1], [axis]))
    };
    axes.iter().enumerate().map(along).collect()
}

fn slopes<'g>(x: Tensor<'g>, steps: Tensor<'g>, order: i64) -> Tensor<'g> {
    let size = x.shape().size(x.rank() - 1);
    let at = |from: usize, to: usize| x.narrow(-1, from, to);
    let step = |i: usize| steps.narrow(0, i, i + 1);
    let (first, second) = (steps.narrow(0, 0, size - 2), steps.narrow(0, 1, size - 1));
    // The slopes in the middle and at both ends of a parabola through three points.
    let sum = |a: Tensor<'g>, b: Tensor<'g>| a + b;
    let parabola = |i: usize, weights: [Tensor<'g>; 3]| {
        let [a, b, c] = weights;
        a * at(i, i + 1) + b * at(i + 1, i + 2) + c * at(i + 2, i + 3)
    };
    let middle = {
        let (a, b) = (first, second);
        at(0, size - 2) * (-b / (a * sum(a, b)))
            + at(1, size - 1) * ((b - a) / (a * b))
            + at(2, size) * (a / (b * sum(a, b)))
    };
    let (start, end) = match order {
        1 => (
            (at(1, 2) - at(0, 1)) / step(0),
            (at(size - 1, size) - at(size - 2, size - 1)) / step(size - 2),
        ),
        _ => {
            let (a, b) = (step(0), step(1));
            let start = [
                -(a * 2.0 + b) / (a * sum(a, b)),
                sum(a, b) / (a * b),
                -a / (b * sum(a, b)),
            ];
            let (a, b) = (step(size - 3), step(size - 2));
            let end = [
                b / (a * sum(a, b)),
                -sum(a, b) / (a * b),
                (b * 2.0 + a) / (b * sum(a, b)),
            ];
            (parabola(0, start), parabola(size - 3, end))
        }
    };
    x.graph().concat(&[start, middle, end], -1)
}

/// The covariance of rows, as a matrix. Weights are summed in their own type.
fn covariance<'g>(c: &Call<'g, '_>) -> Result<Tensor<'g>, Unsupported> {
    let x = c.tensor(0, "input")?;
    let rows = if x.rank() < 2 { x.reshape([1, -1]) } else { x };
    let often = c.optional(usize::MAX, "fweights")?;
    let important = c.optional(usize::MAX, "aweights")?;
    let own = important.map_or(x.dtype(), |w| w.dtype());
    let ones = c.g.full([rows.shape().size(1)], 1.0, own);
    let important = important.unwrap_or(ones);
    let weights = often.map_or(ones, |w| w.cast(own)) * important;
    let total = weights.sum(..);
    let correction = c.float(usize::MAX, "correction", 1.0)?;
    let lost = (weights * important).sum(..) * correction / total;
    let [weights, total, rest] = [weights, total, total - lost].map(|w| w.cast(x.dtype()));
    let centered = rows - (rows * weights).sum(Keep(1)) / total;
    Ok((centered * weights).matmul(centered.t()) / rest.maximum(0.0))
}

fn squeezed(matrix: Tensor<'_>) -> Tensor<'_> {
    match matrix.shape().count() {
        1 => matrix.reshape([]),
        _ => matrix,
    }
}

fn corrcoef<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let covariance = covariance(c)?;
    let deviation = covariance.diagonal(0, 0, 1).sqrt();
    let coefficients = covariance / deviation.outer(deviation);
    Ok(vec![squeezed(coefficients.clamp(-1.0, 1.0))])
}

fn dist<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let difference = c.tensor(0, "input")? - c.tensor(1, "other")?;
    Ok(vec![difference.norm(c.float(2, "p", 2.0)?, ..)])
}

fn cdist<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    // How it is computed makes no difference to what it is.
    let _ = c.text(3, "compute_mode", "")?;
    let (x, y) = (c.tensor(0, "x1")?, c.tensor(1, "x2")?);
    Ok(vec![x.cdist(y, c.float(2, "p", 2.0)?)])
}

fn pdist<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let rows = x.shape().size(0) as i64;
    let pairs = || (0..rows).flat_map(|i| (i + 1..rows).map(move |j| [i, j]));
    let side = |which: usize| {
        let indices: Vec<i64> = pairs().map(|pair| pair[which]).collect();
        x.take(c.g.data([indices.len()], &indices), 0)
    };
    Ok(vec![(side(0) - side(1)).norm(c.float(1, "p", 2.0)?, -1)])
}

fn pairwise_distance<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, y) = (c.tensor(0, "x1")?, c.tensor(1, "x2")?);
    let (p, eps) = (c.float(2, "p", 2.0)?, c.float(3, "eps", 1e-6)?);
    let distance = x.pairwise_distance(y, p, eps);
    Ok(vec![match c.flag(4, "keepdim", false)? {
        true => distance.unsqueeze(-1),
        false => distance,
    }])
}

/// Slices along an axis with a norm above a limit, shortened to it.
fn renorm<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let (p, limit) = (c.float(1, "p", 2.0)?, c.float(3, "maxnorm", 1.0)?);
    let kept = c.axis(2, "dim", 0)?.rem_euclid(x.rank() as i32);
    let others: Vec<i32> = (0..x.rank() as i32).filter(|&axis| axis != kept).collect();
    let norm = x.norm(p, Keep(others.as_slice()));
    let factor = norm.gt(limit).select(limit / (norm + 1e-7), 1.0);
    Ok(vec![x * factor])
}

fn sum_to_size<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, wanted) = (c.tensor(0, "input")?, c.ints_from(1, "size")?);
    let added = x.rank() - wanted.len();
    let gone = |axis: &usize| *axis < added || wanted[axis - added] == 1;
    let axes: Vec<i32> = (0..x.rank()).filter(gone).map(|axis| axis as i32).collect();
    let shape: Vec<isize> = wanted.iter().map(|&size| size as isize).collect();
    Ok(vec![x.sum(axes.as_slice()).reshape(shape)])
}
