//! Layers, norms and attention.

use backprop::{Keep, LocalResponse, Mask, Tensor};

use crate::adapt::unary;
use crate::call::{Call, Mapping, Outputs, unsupported};

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "nn.functional.linear" => |c| {
            let (x, w) = (c.tensor(0, "input")?, c.tensor(1, "weight")?);
            let y = if w.rank() == 1 {
                x.matmul(w)
            } else {
                x.matmul(w.t())
            };
            Ok(vec![plus(y, c.optional(2, "bias")?)])
        },
        "nn.functional.bilinear" => |c| {
            let (x, y) = (c.tensor(0, "input1")?, c.tensor(1, "input2")?);
            let operands = [x, c.tensor(2, "weight")?, y];
            let z = c.g.einsum("...i,oij,...j->...o", &operands);
            Ok(vec![plus(z, c.optional(3, "bias")?)])
        },
        "nn.functional.embedding" => embedding,
        "nn.functional.embedding_bag" => embedding_bag,
        "nn.functional.scaled_dot_product_attention" => attention,
        "nn.functional.multi_head_attention_forward" => multi_head_attention,
        "nn.functional.cosine_similarity" => |c| {
            let (x, y) = (c.tensor(0, "x1")?, c.tensor(1, "x2")?);
            let (axis, eps) = (c.axis(2, "dim", 1)?, c.float(3, "eps", 1e-8)?);
            let [x, y] = [x, y].map(|x| if x.rank() == 0 { x.unsqueeze(0) } else { x });
            Ok(vec![x.cosine_similarity(y, axis, eps)])
        },
        _ => return norm(op),
    };
    Some(mapping)
}

/// Normalisations.
fn norm(op: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "nn.functional.normalize" => |c| {
            let (p, axis) = (c.float(1, "p", 2.0)?, c.axis(2, "dim", 1)?);
            let eps = c.float(3, "eps", 1e-12)?;
            unary(c, |x| match x.rank() {
                0 => x.unsqueeze(0).normalize(p, axis, eps).squeeze(0),
                _ => x.normalize(p, axis, eps),
            })
        },
        "nn.functional.local_response_norm" => |c| {
            let how = LocalResponse {
                channels: c.int(1, "size", 1)? as usize,
                alpha: c.float(2, "alpha", 1e-4)?,
                beta: c.float(3, "beta", 0.75)?,
                k: c.float(4, "k", 1.0)?,
            };
            unary(c, |x| x.local_response_norm(how))
        },
        "nn.functional.layer_norm" => |c| {
            let (x, axes) = (c.tensor(0, "input")?, trailing(c)?);
            let y = x.layer_norm(axes.as_slice(), c.float(4, "eps", 1e-5)?);
            let scaled = times(y, c.optional(2, "weight")?);
            Ok(vec![plus(scaled, c.optional(3, "bias")?)])
        },
        "nn.functional.rms_norm" => |c| {
            let (x, axes) = (c.tensor(0, "input")?, trailing(c)?);
            let y = x.rms_norm(axes.as_slice(), c.float(3, "eps", f64::EPSILON)?);
            Ok(vec![times(y, c.optional(2, "weight")?)])
        },
        "nn.functional.group_norm" => |c| {
            let groups = c.int(1, "num_groups", 1)? as usize;
            let y = c
                .tensor(0, "input")?
                .group_norm(groups, c.float(4, "eps", 1e-5)?);
            channels_scaled(c, y, 2)
        },
        "nn.functional.batch_norm" => batch_norm,
        "nn.functional.instance_norm" => instance_norm,
        _ => return None,
    };
    Some(mapping)
}

fn plus<'g>(x: Tensor<'g>, bias: Option<Tensor<'g>>) -> Tensor<'g> {
    bias.map_or(x, |bias| x + bias)
}

fn times<'g>(x: Tensor<'g>, weight: Option<Tensor<'g>>) -> Tensor<'g> {
    weight.map_or(x, |weight| x * weight)
}

/// As many last axes as the list at position 1 has sizes.
fn trailing(c: &Call<'_, '_>) -> Result<Vec<i32>, crate::call::Unsupported> {
    let sizes = c.ints(1, "normalized_shape")?.unwrap_or_default();
    Ok((1..=sizes.len() as i32).map(|back| -back).collect())
}

/// Weight and bias of channels, at position `at` and after.
fn channels_scaled<'g>(c: &Call<'g, '_>, x: Tensor<'g>, at: usize) -> Outputs<'g> {
    if x.rank() < 2 {
        return unsupported("no axis of channels");
    }
    let along = |list: Option<Tensor<'g>>| {
        let mut shape = vec![1; x.rank()];
        shape[1] = -1;
        list.map(|list| list.reshape(shape))
    };
    let scaled = times(x, along(c.optional(at, "weight")?));
    Ok(vec![plus(scaled, along(c.optional(at + 1, "bias")?))])
}

/// The new values of running statistics, where they are given: old and new ones mixed.
fn running<'g>(c: &Call<'g, '_>, [mean, var]: [Tensor<'g>; 2], momentum: f64) -> Outputs<'g> {
    let given = [
        (c.optional(1, "running_mean")?, mean),
        (c.optional(2, "running_var")?, var),
    ];
    let mixed = given
        .into_iter()
        .filter_map(|(old, new)| Some(old? * (1.0 - momentum) + new * momentum));
    Ok(mixed.collect())
}

fn batch_norm<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let (momentum, eps) = (c.float(6, "momentum", 0.1)?, c.float(7, "eps", 1e-5)?);
    if !c.flag(5, "training", false)? {
        let (mean, var) = (c.tensor(1, "running_mean")?, c.tensor(2, "running_var")?);
        return channels_scaled(c, x.batch_norm_by(mean, var, eps), 3);
    }
    if x.rank() < 2 {
        return unsupported("no axis of channels");
    }
    let y = x.batch_norm(eps);
    let axes: Vec<i32> = (0..x.rank() as i32).filter(|&axis| axis != 1).collect();
    let statistics = [x.mean(axes.as_slice()), x.var_unbiased(axes.as_slice())];
    let mut outputs = channels_scaled(c, y, 3)?;
    outputs.extend(running(c, statistics, momentum)?);
    Ok(outputs)
}

/// The running statistics follow the means of those of the examples.
fn instance_norm<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let (momentum, eps) = (c.float(6, "momentum", 0.1)?, c.float(7, "eps", 1e-5)?);
    if !c.flag(5, "use_input_stats", true)? {
        let (mean, var) = (c.tensor(1, "running_mean")?, c.tensor(2, "running_var")?);
        return channels_scaled(c, x.batch_norm_by(mean, var, eps), 3);
    }
    let axes: Vec<i32> = (2..x.rank() as i32).collect();
    let statistics = [x.mean(axes.as_slice()), x.var_unbiased(axes.as_slice())];
    let mut outputs = channels_scaled(c, x.instance_norm(eps), 3)?;
    outputs.extend(running(c, statistics.map(|each| each.mean(0)), momentum)?);
    Ok(outputs)
}

/// The gradient of some rows is 0, or divided by how often they occur.
fn embedding<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (table, indices) = (c.tensor(0, "weight")?, c.tensor(1, "input")?);
    let mut rows = table.embedding(indices);
    if c.flag(5, "scale_grad_by_freq", false)? {
        let all = indices.flatten_from(0);
        let equal = indices.unsqueeze(-1).eq(all).cast(rows.dtype());
        let shared = rows / equal.sum(Keep(-1));
        rows = shared + (rows - shared).stop_gradient();
    }
    if let Some(padding) = c.value(2, "padding_idx").and_then(|value| value.as_i64()) {
        let padding = padding.rem_euclid(table.shape().size(0) as i64);
        let index = c.g.full([], padding as f64, indices.dtype());
        let padded = indices.eq(index).unsqueeze(-1);
        rows = padded.select(rows.stop_gradient(), rows);
    }
    Ok(vec![rows])
}

/// Every bag is a stretch of the list of indices, or a row of a matrix of them.
fn embedding_bag<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (table, indices) = (c.tensor(0, "weight")?, c.tensor(1, "input")?);
    let (mut rows, flat) = (
        table.embedding(indices.flatten_from(0)),
        indices.flatten_from(0),
    );
    if let Some(weights) = c.optional(usize::MAX, "per_sample_weights")? {
        rows = rows * weights.reshape([-1, 1]);
    }
    let count = flat.shape().size(0);
    let mut starts: Vec<usize> = match (c.known(usize::MAX, "offsets")?, indices.shape().sizes()) {
        (Some(offsets), _) => offsets.iter().map(|&offset| offset as usize).collect(),
        (None, &[bags, each]) => (0..bags).map(|bag| bag * each).collect(),
        (None, _) => return unsupported("no offsets"),
    };
    if !c.flag(usize::MAX, "include_last_offset", false)? {
        starts.push(count);
    }
    let padding = c
        .value(usize::MAX, "padding_idx")
        .and_then(|value| value.as_i64());
    let counts = match padding {
        Some(padding) => {
            let padding = padding.rem_euclid(table.shape().size(0) as i64);
            flat.ne(c.g.full([], padding as f64, flat.dtype()))
        }
        None => flat.eq(flat),
    };
    let mode = c.text(usize::MAX, "mode", "mean")?;
    let bag = |ends: &[usize]| {
        let [rows, counts] = [rows, counts.unsqueeze(-1)].map(|x| x.narrow(0, ends[0], ends[1]));
        let number = counts.cast(rows.dtype()).sum(0);
        let sum = counts.select(rows, 0.0).sum(0);
        match mode {
            "sum" => sum,
            "mean" => sum / number.maximum(1.0),
            _ if ends[0] == ends[1] => sum,
            _ => {
                let largest = counts.select(rows, f64::NEG_INFINITY).max(0);
                number.gt(0.0).select(largest, 0.0)
            }
        }
    };
    let bags: Vec<Tensor<'g>> = starts.windows(2).map(bag).collect();
    Ok(vec![c.g.stack(&bags, 0)])
}

fn attention<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let mut q = c.tensor(0, "query")?;
    let [mut k, mut v] = [c.tensor(1, "key")?, c.tensor(2, "value")?];
    if c.float(4, "dropout_p", 0.0)? > 0.0 {
        return unsupported("dropout");
    }
    let width = q.shape().size(q.rank() - 1) as f64;
    if c.has(6, "scale") {
        q = q * (c.float(6, "scale", 1.0)? * width.sqrt());
    }
    let heads = |x: Tensor<'g>| x.shape().size(x.rank() - 3);
    if c.flag(7, "enable_gqa", false)? && q.rank() > 2 {
        let groups = heads(q);
        [k, v] = [k, v].map(|x| x.repeat_interleave(groups / heads(x), -3));
    }
    let mask = match (c.flag(5, "is_causal", false)?, c.optional(3, "attn_mask")?) {
        (true, _) => Mask::Causal,
        (false, None) => Mask::None,
        (false, Some(mask)) if mask.dtype().is_float() => Mask::Add(mask),
        (false, Some(mask)) => Mask::Where(mask),
    };
    Ok(vec![q.attention(k, v, mask)])
}

/// Of `[time, batch, features]`, or without a batch.
fn multi_head_attention<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let inputs = [
        c.tensor(0, "query")?,
        c.tensor(1, "key")?,
        c.tensor(2, "value")?,
    ];
    let (width, heads) = (
        c.int(3, "embed_dim_to_check", 0)?,
        c.int(4, "num_heads", 1)?,
    );
    let batched = inputs[0].rank() == 3;
    if c.float(10, "dropout_p", 0.0)? > 0.0 && c.flag(13, "training", true)? {
        return unsupported("dropout");
    }
    let _hint = (
        c.flag(13, "training", true)?,
        c.flag(24, "is_causal", false)?,
    );
    let [q, mut k, mut v] = projected(c, inputs.map(|x| if batched { x } else { x.unsqueeze(1) }))?;
    let batch = q.shape().size(1);
    let more = |x: Tensor<'g>, bias: Tensor<'g>| {
        let bias = bias.reshape([1, 1, width as isize]);
        c.g.concat(&[x, bias.broadcast_to([1, batch, width as usize])], 0)
    };
    let mut added = 0;
    if let (Some(bias_k), Some(bias_v)) = (c.optional(7, "bias_k")?, c.optional(8, "bias_v")?) {
        (k, v, added) = (more(k, bias_k), more(v, bias_v), added + 1);
    }
    if c.flag(9, "add_zero_attn", false)? {
        let zeros = c.g.full([width as usize], 0.0, q.dtype());
        (k, v, added) = (more(k, zeros), more(v, zeros), added + 1);
    }
    let each = (width / heads) as isize;
    let parted = |x: Tensor<'g>| {
        let parts = x.reshape([-1, batch as isize, heads as isize, each]);
        parts.permute([1, 2, 0, 3])
    };
    let [q, k, v] = [q, k, v].map(parted);
    let mut scores = (q * (1.0 / (each as f64).sqrt())).matmul(k.t());
    // Keys that were added are for everyone.
    let wider = |mask: Tensor<'g>| {
        let mask = match mask.dtype().is_float() {
            true => mask,
            false => mask.select(c.g.full([], f64::NEG_INFINITY, q.dtype()), 0.0),
        };
        let (low, mut high) = (vec![0; mask.rank()], vec![0; mask.rank()]);
        high[mask.rank() - 1] = added;
        mask.pad(low, high, 0.0)
    };
    if let Some(mask) = c.optional(16, "attn_mask")? {
        let mask = wider(mask);
        let keys = mask.shape().size(mask.rank() - 1) as isize;
        let mask = match mask.rank() {
            3 => mask.reshape([batch as isize, heads as isize, -1, keys]),
            _ => mask,
        };
        scores = scores + mask;
    }
    if let Some(mask) = c.optional(14, "key_padding_mask")? {
        scores = scores + wider(mask).reshape([batch as isize, 1, 1, -1]);
    }
    let weights = scores.softmax(-1);
    let joined = weights.matmul(v).permute([2, 0, 1, 3]).flatten_from(2);
    let projected = joined.matmul(c.tensor(11, "out_proj_weight")?.t());
    let mut outputs = vec![plus(projected, c.optional(12, "out_proj_bias")?)];
    if c.flag(15, "need_weights", true)? {
        outputs.push(match c.flag(23, "average_attn_weights", true)? {
            true => weights.mean(1),
            false => weights,
        });
    }
    if !batched {
        outputs[0] = outputs[0].squeeze(1);
        outputs[1..]
            .iter_mut()
            .for_each(|weights| *weights = weights.squeeze(0));
    }
    Ok(outputs)
}

/// Queries, keys and values, by three matrices or one that has them all.
fn projected<'g>(
    c: &Call<'g, '_>,
    inputs: [Tensor<'g>; 3],
) -> Result<[Tensor<'g>; 3], crate::call::Unsupported> {
    let weights = match c.flag(17, "use_separate_proj_weight", false)? {
        true => [
            c.tensor(18, "q_proj_weight")?,
            c.tensor(19, "k_proj_weight")?,
            c.tensor(20, "v_proj_weight")?,
        ],
        false => thirds(c.tensor(5, "in_proj_weight")?),
    };
    let biases = c.optional(6, "in_proj_bias")?.map(thirds);
    let project = |k: usize| {
        let product = inputs[k].matmul(weights[k].t());
        plus(product, biases.map(|biases| biases[k]))
    };
    Ok([0, 1, 2].map(project))
}

fn thirds(x: Tensor<'_>) -> [Tensor<'_>; 3] {
    let each = x.shape().size(0) / 3;
    [0, 1, 2].map(|k| x.narrow(0, k * each, (k + 1) * each))
}
