//! Losses.

use std::f64::consts::TAU;

use backprop::{
    CrossEntropy, Ctc, DType, Keep, NegativeLogLikelihood, Reduce, Tensor, TripletMargin,
};

use crate::call::{Call, Mapping, Outputs, Unsupported, unsupported};

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "nn.functional.mse_loss" => |c| {
            let ([x, y], how) = (pair(c)?, reduction(c, 4)?);
            weighted(c, 5, x.mse_loss(y, Reduce::None), how)
        },
        "nn.functional.l1_loss" => |c| {
            let ([x, y], how) = (pair(c)?, reduction(c, 4)?);
            weighted(c, 5, x.l1_loss(y, Reduce::None), how)
        },
        "nn.functional.huber_loss" => |c| {
            let ([x, y], how) = (pair(c)?, reduction(c, 2)?);
            let delta = c.float(3, "delta", 1.0)?;
            weighted(c, 4, x.huber_loss(y, delta, Reduce::None), how)
        },
        "nn.functional.smooth_l1_loss" => |c| {
            let ([x, y], how) = (pair(c)?, reduction(c, 4)?);
            one(x.smooth_l1_loss(y, c.float(5, "beta", 1.0)?, how))
        },
        "nn.functional.binary_cross_entropy" => |c| {
            let ([x, y], how) = (pair(c)?, reduction(c, 5)?);
            weighted(c, 2, x.bce_loss(y, Reduce::None), how)
        },
        "nn.functional.binary_cross_entropy_with_logits" => bce_with_logits,
        "nn.functional.kl_div" => kl_div,
        "nn.functional.cross_entropy" => |c| {
            let (x, y) = (c.tensor(0, "input")?, c.tensor(1, "target")?);
            cross_entropy(c, x, y, [2, 4, 6, 7])
        },
        "nn.functional.linear_cross_entropy" => linear_cross_entropy,
        "nn.functional.nll_loss" => nll_loss,
        "nn.functional.gaussian_nll_loss" => gaussian_nll_loss,
        "nn.functional.poisson_nll_loss" => poisson_nll_loss,
        "nn.functional.ctc_loss" => ctc_loss,
        _ => return margin(op),
    };
    Some(mapping)
}

/// Losses that compare with a margin.
fn margin(op: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "nn.functional.hinge_embedding_loss" => |c| {
            let (x, sign) = (c.tensor(0, "input")?, c.tensor(1, "target")?);
            let margin = c.float(2, "margin", 1.0)?;
            let sign = sign.broadcast_to(x.shape());
            one(x.hinge_embedding_loss(sign, margin, reduction(c, 5)?))
        },
        "nn.functional.margin_ranking_loss" => |c| {
            let (x, y) = (c.tensor(0, "input1")?, c.tensor(1, "input2")?);
            let (sign, margin) = (c.tensor(2, "target")?, c.float(3, "margin", 0.0)?);
            one(x.margin_ranking_loss(y, sign, margin, reduction(c, 6)?))
        },
        "nn.functional.cosine_embedding_loss" => |c| {
            let (x, y) = (c.tensor(0, "input1")?, c.tensor(1, "input2")?);
            let (sign, margin) = (c.tensor(2, "target")?, c.float(3, "margin", 0.0)?);
            one(x.cosine_embedding_loss(y, sign, margin, reduction(c, 6)?))
        },
        "nn.functional.triplet_margin_loss" => |c| {
            let (x, near) = (c.tensor(0, "anchor")?, c.tensor(1, "positive")?);
            let how = TripletMargin {
                margin: c.float(3, "margin", 1.0)?,
                p: c.float(4, "p", 2.0)?,
                eps: c.float(5, "eps", 1e-6)?,
                swap: c.flag(6, "swap", false)?,
                reduce: reduction(c, 9)?,
            };
            one(x.triplet_margin_loss(near, c.tensor(2, "negative")?, how))
        },
        "nn.functional.soft_margin_loss" => |c| {
            let (x, sign) = (c.tensor(0, "input")?, c.tensor(1, "target")?);
            one(reduced((-sign * x).softplus(), reduction(c, 4)?))
        },
        "nn.functional.multi_margin_loss" => multi_margin_loss,
        "nn.functional.multilabel_margin_loss" => multilabel_margin_loss,
        "nn.functional.multilabel_soft_margin_loss" => |c| {
            let (x, y) = (c.tensor(0, "input")?, c.tensor(1, "target")?);
            let mut losses = x.bce_with_logits(y, Reduce::None);
            if let Some(weight) = c.optional(2, "weight")? {
                losses = losses * weight;
            }
            one(reduced(losses.mean(-1), reduction(c, 5)?))
        },
        _ => return None,
    };
    Some(mapping)
}

fn one(x: Tensor<'_>) -> Outputs<'_> {
    Ok(vec![x])
}

fn reduction(c: &Call<'_, '_>, at: usize) -> Result<Reduce, Unsupported> {
    match c.text(at, "reduction", "mean")? {
        "mean" => Ok(Reduce::Mean),
        "sum" => Ok(Reduce::Sum),
        "none" => Ok(Reduce::None),
        "batchmean" => Ok(Reduce::BatchMean),
        other => unsupported(format!("reduction {other}")),
    }
}

fn reduced(losses: Tensor<'_>, how: Reduce) -> Tensor<'_> {
    match how {
        Reduce::Sum => losses.sum(..),
        Reduce::None => losses,
        Reduce::BatchMean => losses.sum(..) / losses.shape().size(0) as f64,
        _ => losses.mean(..),
    }
}

/// Input and target, broadcast to a common shape as PyTorch's losses of regression do.
fn pair<'g>(c: &Call<'g, '_>) -> Result<[Tensor<'g>; 2], Unsupported> {
    let both = [c.tensor(0, "input")?, c.tensor(1, "target")?];
    Ok(match both[0].shape().broadcast(&both[1].shape()) {
        Some(shape) => both.map(|x| x.broadcast_to(shape)),
        None => both,
    })
}

/// Losses, each with a weight that may be given; their mean is one of the weights, too.
fn weighted<'g>(c: &Call<'g, '_>, at: usize, losses: Tensor<'g>, how: Reduce) -> Outputs<'g> {
    match c.optional(at, "weight")? {
        Some(weight) => one(reduced(losses * weight, how)),
        None => one(reduced(losses, how)),
    }
}

fn bce_with_logits<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let ([x, y], how) = (pair(c)?, reduction(c, 5)?);
    let losses = match c.optional(6, "pos_weight")? {
        Some(weight) => x.bce_with_logits_weighted(y, weight, Reduce::None),
        None => x.bce_with_logits(y, Reduce::None),
    };
    weighted(c, 2, losses, how)
}

fn kl_div<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let ([x, y], how) = (pair(c)?, reduction(c, 4)?);
    match c.flag(5, "log_target", false)? {
        true => one(reduced(y.exp() * (y - x), how)),
        false => one(x.kl_div(y, how)),
    }
}

/// Positions of weight, ignored index, reduction and label smoothing. Without a batch, the classes
/// are the only axis.
fn cross_entropy<'g>(
    c: &Call<'g, '_>,
    x: Tensor<'g>,
    target: Tensor<'g>,
    at: [usize; 4],
) -> Outputs<'g> {
    let ignored = c.int(at[1], "ignore_index", -100)?;
    let how = CrossEntropy {
        axis: i32::from(x.rank() > 1),
        weights: c.optional(at[0], "weight")?,
        ignore_index: target.dtype().is_integer().then_some(ignored),
        reduce: reduction(c, at[2])?,
        label_smoothing: c.float(at[3], "label_smoothing", 0.0)?,
    };
    if target.dtype().is_float() && how.reduce == Reduce::Mean && x.rank() == 1 {
        return one(x.cross_entropy(
            target,
            CrossEntropy {
                reduce: Reduce::Sum,
                ..how
            },
        ));
    }
    one(x.cross_entropy(target, how))
}

/// The layer's outputs are classes and further axes.
fn linear_cross_entropy<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, weight) = (c.tensor(0, "input")?, c.tensor(1, "linear_weight")?);
    let shape = weight.shape();
    let outer = &shape.sizes()[..shape.rank() - 1];
    let rows = outer.iter().product::<usize>() as isize;
    let mut logits = x.matmul(weight.reshape([rows, -1]).t());
    if let Some(bias) = c.optional(usize::MAX, "linear_bias")? {
        logits = logits + bias.flatten_from(0);
    }
    let batch = x.shape().filter(|axis| axis + 1 < x.rank());
    let sizes = batch.sizes().iter().chain(outer);
    let logits = logits.reshape(sizes.map(|&size| size as isize).collect::<Vec<_>>());
    cross_entropy(c, logits, c.tensor(2, "target")?, [usize::MAX; 4])
}

fn nll_loss<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let how = NegativeLogLikelihood {
        axis: i32::from(x.rank() > 1),
        weights: c.optional(2, "weight")?,
        ignore_index: Some(c.int(4, "ignore_index", -100)?),
        reduce: reduction(c, 6)?,
    };
    one(x.nll_loss(c.tensor(1, "target")?, how))
}

fn gaussian_nll_loss<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, variance) = (c.tensor(0, "input")?, c.tensor(2, "var")?);
    let (target, eps) = (c.tensor(1, "target")?, c.float(4, "eps", 1e-6)?);
    // A variance may also be shared along the last axis.
    let variance = match variance.rank() + 1 == x.rank()
        && x.shape().sizes().starts_with(variance.shape().sizes())
    {
        true => variance.unsqueeze(-1),
        false => variance,
    };
    let [target, variance] = [target, variance].map(|other| other.broadcast_to(x.shape()));
    let losses = x.gaussian_nll_loss(target, variance, eps, Reduce::None);
    // Without `full`, PyTorch leaves out a constant.
    let constant = if c.flag(3, "full", false)? {
        0.0
    } else {
        0.5 * TAU.ln()
    };
    one(reduced(losses - constant, reduction(c, 5)?))
}

fn poisson_nll_loss<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let [x, target] = pair(c)?;
    let eps = c.float(5, "eps", 1e-8)?;
    let mut losses = match c.flag(2, "log_input", true)? {
        true => x.poisson_nll_loss(target, Reduce::None),
        false => x - target * (x + eps).log(),
    };
    if c.flag(3, "full", false)? {
        // Stirling's approximation of the logarithm of the factorial.
        let large = target.gt(1.0);
        let t = large.select(target, 1.0);
        let stirling = t * t.log() - t + (t * TAU).log() * 0.5;
        losses = losses + large.select(stirling, 0.0);
    }
    one(reduced(losses, reduction(c, 7)?))
}

/// Of log-probabilities that the case normalises first, without a batch perhaps.
fn ctc_loss<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "log_probs")?.log_softmax(-1);
    let (batched, reduce) = (x.rank() == 3, reduction(c, 5)?);
    let lengths = |at: usize, name: &str| match c.value(at, name) {
        Some(value) if value.get("tensor").is_some() => {
            Ok(c.optional(at, name)?.map(|lengths| lengths.reshape([-1])))
        }
        _ => {
            let lengths = c.ints(at, name)?;
            Ok(lengths.map(|lengths| c.g.data([lengths.len()], &lengths)))
        }
    };
    let how = Ctc {
        input_lengths: lengths(2, "input_lengths")?,
        target_lengths: lengths(3, "target_lengths")?,
        blank: c.int(4, "blank", 0)? as usize,
        reduce,
        impossible: match c.flag(6, "zero_infinity", false)? {
            true => 0.0,
            false => f64::INFINITY,
        },
    };
    let x = if batched { x } else { x.unsqueeze(1) };
    let loss = x.ctc_loss(ctc_targets(c, x.shape().size(1))?, how);
    match batched || reduce != Reduce::None {
        true => one(loss),
        false => one(loss.squeeze(0)),
    }
}

/// Targets in a row each. They may also come one after the other, without what fills them up.
fn ctc_targets<'g>(c: &Call<'g, '_>, batch: usize) -> Result<Tensor<'g>, Unsupported> {
    let targets = c.tensor(1, "targets")?;
    if targets.rank() == 2 {
        return Ok(targets);
    }
    let lengths = match c.value(3, "target_lengths") {
        Some(value) if value.get("tensor").is_some() => c.known(3, "target_lengths")?,
        _ => c.floats(3, "target_lengths")?,
    };
    let lengths: Vec<i64> = lengths
        .into_iter()
        .flatten()
        .map(|length| length as i64)
        .collect();
    let (most, last) = (lengths.iter().max(), targets.shape().size(0) as i64 - 1);
    let most = most.copied().unwrap_or(0);
    let mut start = 0;
    let mut places = Vec::new();
    for length in &lengths {
        places.extend((start..start + most).map(|place| place.min(last)));
        start += length;
    }
    Ok(targets.take(c.g.data([batch, most as usize], &places), 0))
}

fn multi_margin_loss<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (mut x, labels) = (c.tensor(0, "input")?, c.tensor(1, "target")?);
    if x.rank() == labels.rank() {
        x = x.unsqueeze(0);
    }
    let (p, margin) = (c.int(2, "p", 1)? as u32, c.float(3, "margin", 1.0)?);
    let mut losses = x.multi_margin_loss(labels, p, margin, Reduce::None);
    if let Some(weight) = c.optional(4, "weight")? {
        losses = losses * weight.take(labels, 0);
    }
    one(reduced(losses, reduction(c, 7)?))
}

/// Every target up to the first -1 against every class that is none.
fn multilabel_margin_loss<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, labels) = (c.tensor(0, "input")?, c.tensor(1, "target")?);
    let [x, labels] = [x, labels].map(|x| if x.rank() == 0 { x.unsqueeze(0) } else { x });
    let none = labels.number_of(0).gt(labels).cast(DType::I64).cumsum(-1);
    let valid = none.eq(none.number_of(0)).unsqueeze(-1);
    let classes = x.shape().size(x.rank() - 1);
    let grid = [x.shape().sizes(), &[classes]].concat();
    let class = c.g.coordinate(&grid, x.rank());
    let labels = labels.unsqueeze(-1).broadcast_to(&grid);
    let hits = class.eq(labels).logical_and(valid.broadcast_to(&grid));
    let targets = hits.any(Keep(-2));
    let scores = x.unsqueeze(-2).broadcast_to(&grid);
    let own = hits.select(scores, 0.0).sum(Keep(-1));
    let counts = valid.logical_and(targets.logical_not());
    let losses = counts.select((scores - own + 1.0).relu(), 0.0);
    one(reduced(
        losses.sum([-2, -1]) / classes as f64,
        reduction(c, 4)?,
    ))
}

/// Constants of a tensor's own type.
trait Number<'g> {
    fn number_of(self, value: i32) -> Tensor<'g>;
}

impl<'g> Number<'g> for Tensor<'g> {
    fn number_of(self, value: i32) -> Tensor<'g> {
        self.graph().full([], f64::from(value), self.dtype())
    }
}
