//! Convolution and pooling.

use backprop::{Convolution, Divisor, PerAxis, Pool, Rounding, Tensor};

use crate::call::{Call, Mapping, Outputs, Unsupported};

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "nn.functional.conv1d" => |c| conv(c, 1),
        "nn.functional.conv2d" => |c| conv(c, 2),
        "nn.functional.conv3d" => |c| conv(c, 3),
        "nn.functional.conv_transpose1d" => |c| conv_transpose(c, 1),
        "nn.functional.conv_transpose2d" => |c| conv_transpose(c, 2),
        "nn.functional.conv_transpose3d" => |c| conv_transpose(c, 3),
        "nn.functional.max_pool1d" => |c| max_pool(c, 1),
        "nn.functional.max_pool2d" => |c| max_pool(c, 2),
        "nn.functional.max_pool3d" => |c| max_pool(c, 3),
        "nn.functional.avg_pool1d" => |c| avg_pool(c, 1),
        "nn.functional.avg_pool2d" => |c| avg_pool(c, 2),
        "nn.functional.avg_pool3d" => |c| avg_pool(c, 3),
        "nn.functional.adaptive_max_pool1d" => |c| adaptive_max_pool(c, 1),
        "nn.functional.adaptive_max_pool2d" => |c| adaptive_max_pool(c, 2),
        "nn.functional.adaptive_max_pool3d" => |c| adaptive_max_pool(c, 3),
        "nn.functional.adaptive_avg_pool1d" => |c| adaptive_avg_pool(c, 1),
        "nn.functional.adaptive_avg_pool2d" => |c| adaptive_avg_pool(c, 2),
        "nn.functional.adaptive_avg_pool3d" => |c| adaptive_avg_pool(c, 3),
        "nn.functional.max_unpool1d" => |c| max_unpool(c, 1),
        "nn.functional.max_unpool2d" => |c| max_unpool(c, 2),
        "nn.functional.max_unpool3d" => |c| max_unpool(c, 3),
        _ => return None,
    };
    Some(mapping)
}

/// Numbers for each axis, or one for all.
pub(crate) fn per_axis(
    c: &Call<'_, '_>,
    at: usize,
    name: &str,
    default: usize,
) -> Result<PerAxis, Unsupported> {
    let list = c.ints(at, name)?.filter(|list| !list.is_empty());
    Ok(list.map_or(default.into(), |list| {
        list.iter().map(|&n| n as usize).collect::<Vec<_>>().into()
    }))
}

/// Numbers for each of `axes` axes.
fn numbers(
    c: &Call<'_, '_>,
    at: usize,
    name: &str,
    (axes, default): (usize, i64),
) -> Result<Vec<i64>, Unsupported> {
    let list = c.ints(at, name)?.unwrap_or_default();
    Ok(match list[..] {
        [] => vec![default; axes],
        [one] => vec![one; axes],
        _ => list,
    })
}

/// An operation on examples, of which a single one may come without an axis of its own.
fn batched<'g>(
    c: &Call<'g, '_>,
    axes: usize,
    build: impl FnOnce(Tensor<'g>) -> Outputs<'g>,
) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    if x.rank() == axes + 2 {
        return build(x);
    }
    let outputs = build(x.unsqueeze(0))?;
    Ok(outputs.into_iter().map(|y| y.squeeze(0)).collect())
}

fn biased<'g>(c: &Call<'g, '_>, y: Tensor<'g>) -> Outputs<'g> {
    let bias = c.optional(2, "bias")?;
    Ok(vec![bias.map_or(y, |bias| y.bias(bias, 1))])
}

fn conv<'g>(c: &Call<'g, '_>, axes: usize) -> Outputs<'g> {
    let filter = c.tensor(1, "weight")?;
    let dilation = numbers(c, 5, "dilation", (axes, 1))?;
    let named = c.value(4, "padding").and_then(|value| value.as_str());
    // With `same`, an odd element of padding comes last.
    let (padding, odd): (Vec<usize>, Vec<usize>) = match named {
        Some("same") => {
            let size = |axis: usize| filter.shape().size(axis + 2) - 1;
            let total = (0..axes).map(|axis| size(axis) * dilation[axis] as usize);
            total.map(|total| (total / 2, total % 2)).unzip()
        }
        Some(_) => (vec![0; axes], vec![0; axes]),
        None => {
            let padding = numbers(c, 4, "padding", (axes, 0))?;
            padding
                .into_iter()
                .map(|padding| (padding as usize, 0))
                .unzip()
        }
    };
    let how = Convolution {
        stride: per_axis(c, 3, "stride", 1)?,
        padding: padding.into(),
        dilation: per_axis(c, 5, "dilation", 1)?,
        groups: c.int(6, "groups", 1)? as usize,
    };
    batched(c, axes, |x| {
        let high = [&[0, 0], &odd[..]].concat();
        biased(c, x.pad(vec![0; axes + 2], high, 0.0).conv(filter, how))
    })
}

fn conv_transpose<'g>(c: &Call<'g, '_>, axes: usize) -> Outputs<'g> {
    let filter = c.tensor(1, "weight")?;
    let how = Convolution {
        stride: per_axis(c, 3, "stride", 1)?,
        padding: per_axis(c, 4, "padding", 0)?,
        dilation: per_axis(c, 7, "dilation", 1)?,
        groups: c.int(6, "groups", 1)? as usize,
    };
    let further = per_axis(c, 5, "output_padding", 0)?;
    batched(c, axes, |x| {
        biased(c, x.conv_transpose(filter, how, further))
    })
}

/// Size and stride at positions 1 and 2, and padding, dilation and rounding where they are.
fn pool(c: &Call<'_, '_>, [padding, dilation, rounding]: [usize; 3]) -> Result<Pool, Unsupported> {
    let size = per_axis(c, 1, "kernel_size", 1)?;
    let given = c
        .ints(2, "stride")?
        .is_some_and(|stride| !stride.is_empty());
    Ok(Pool {
        stride: given.then(|| per_axis(c, 2, "stride", 1)).transpose()?,
        padding: per_axis(c, padding, "padding", 0)?,
        dilation: per_axis(c, dilation, "dilation", 1)?,
        rounding: match c.flag(rounding, "ceil_mode", false)? {
            true => Rounding::Up,
            false => Rounding::Down,
        },
        size,
    })
}

fn max_pool<'g>(c: &Call<'g, '_>, axes: usize) -> Outputs<'g> {
    let pool = pool(c, [3, 4, 5])?;
    let positions = c.flag(6, "return_indices", false)?;
    batched(c, axes, |x| {
        let mut outputs = vec![x.max_pool(pool.clone())];
        if positions {
            outputs.push(x.max_pool_positions(pool));
        }
        Ok(outputs)
    })
}

fn avg_pool<'g>(c: &Call<'g, '_>, axes: usize) -> Outputs<'g> {
    let pool = pool(c, [3, usize::MAX, 4])?;
    let divisor = c.int(6, "divisor_override", 0)?;
    let mean = match (divisor, c.flag(5, "count_include_pad", true)?) {
        (0, true) => Divisor::Padded,
        (0, false) => Divisor::Inside,
        // A divisor may be negative there.
        _ => Divisor::Fixed(1),
    };
    batched(c, axes, |x| {
        let pooled = x.avg_pool(pool, mean);
        Ok(vec![if divisor == 0 {
            pooled
        } else {
            pooled / divisor as f64
        }])
    })
}

/// Output sizes, of which one may stand for all and `None` for that of the input.
fn sizes(c: &Call<'_, '_>, axes: usize) -> Result<Vec<usize>, Unsupported> {
    let x = c.tensor(0, "input")?;
    let value = c.value(1, "output_size");
    let list = value.and_then(|value| value.get("tuple").unwrap_or(value).as_array());
    let size = |axis: usize| {
        let own = x.shape().size(x.rank() - axes + axis);
        let size = match list {
            Some(list) => list.get(if list.len() == 1 { 0 } else { axis }),
            None => value,
        };
        size.and_then(|size| size.as_u64())
            .map_or(own, |size| size as usize)
    };
    Ok((0..axes).map(size).collect())
}

fn adaptive_avg_pool<'g>(c: &Call<'g, '_>, axes: usize) -> Outputs<'g> {
    let sizes = sizes(c, axes)?;
    batched(c, axes, |x| Ok(vec![x.adaptive_avg_pool(sizes)]))
}

fn adaptive_max_pool<'g>(c: &Call<'g, '_>, axes: usize) -> Outputs<'g> {
    let sizes = sizes(c, axes)?;
    let positions = c.flag(2, "return_indices", false)?;
    batched(c, axes, |x| {
        let mut outputs = vec![x.adaptive_max_pool(sizes.clone())];
        if positions {
            outputs.push(adaptive_positions(x, &sizes));
        }
        Ok(outputs)
    })
}

/// Where the first largest element of every window is, among all elements of the image.
fn adaptive_positions<'g>(x: Tensor<'g>, sizes: &[usize]) -> Tensor<'g> {
    let (g, axes) = (x.graph(), &x.shape().sizes()[2..].to_vec());
    let mut windows = vec![vec![0]];
    for (&size, &count) in axes.iter().zip(sizes) {
        let window = |i: usize| i * size / count..((i + 1) * size).div_ceil(count);
        let longer = |outer: &Vec<usize>, i: usize| {
            let rows = outer.iter().map(|row| row * size);
            rows.flat_map(|row| window(i).map(move |k| row + k))
                .collect()
        };
        let each = windows
            .iter()
            .flat_map(|outer| (0..count).map(move |i| longer(outer, i)));
        windows = each.collect();
    }
    // A shorter window repeats its first element.
    let most = windows.iter().map(Vec::len).max().unwrap_or(1);
    let filled = windows.iter().flat_map(|window| {
        let first = std::iter::repeat_n(window[0], most - window.len());
        first.chain(window.iter().copied())
    });
    let visited: Vec<i64> = filled.map(|position| position as i64).collect();
    let visited = g.data([windows.len(), most], &visited);
    let seen = x.flatten_from(2).take(visited, 2);
    let best = seen.argmax(-1).unsqueeze(-1).broadcast_to(seen.shape());
    let here = g.coordinate(seen.shape(), 3).eq(best);
    let position = here.select(visited.broadcast_to(seen.shape()), 0).sum(-1);
    let shape = [&x.shape().sizes()[..2], sizes].concat();
    position.reshape(shape.iter().map(|&size| size as isize).collect::<Vec<_>>())
}

/// Every element at its index in an image of zeros.
fn max_unpool<'g>(c: &Call<'g, '_>, axes: usize) -> Outputs<'g> {
    let (x, indices) = (c.tensor(0, "input")?, c.tensor(1, "indices")?);
    let kernel = numbers(c, 2, "kernel_size", (axes, 1))?;
    let padding = numbers(c, 4, "padding", (axes, 0))?;
    let stride = match c.has(3, "stride") {
        true => numbers(c, 3, "stride", (axes, 1))?,
        false => kernel.clone(),
    };
    let first = x.rank() - axes;
    let size = |axis: usize| {
        let places = x.shape().size(first + axis) as i64;
        (places - 1) * stride[axis] + kernel[axis] - 2 * padding[axis]
    };
    let sizes: Vec<i64> = match c.ints(5, "output_size")? {
        Some(sizes) => sizes[sizes.len() - axes..].to_vec(),
        None => (0..axes).map(size).collect(),
    };
    let outer = x.shape().sizes()[..first].to_vec();
    let area = [sizes.iter().product::<i64>() as usize];
    let images = c.g.full([&outer[..], &area].concat(), 0.0, x.dtype());
    let [x, indices] = [x, indices].map(|x| x.flatten_from(first));
    let filled = images.scatter_add(first as i32, indices, x);
    let shape = outer.into_iter().map(|size| size as isize);
    let shape = shape.chain(sizes.into_iter().map(|size| size as isize));
    Ok(vec![filled.reshape(shape.collect::<Vec<_>>())])
}
