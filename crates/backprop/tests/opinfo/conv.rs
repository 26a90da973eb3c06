//! Convolution and pooling.

use crate::call::{Call, Mapping, Outputs};

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "nn.functional.max_unpool1d" => |c| max_unpool(c, 1),
        "nn.functional.max_unpool2d" => |c| max_unpool(c, 2),
        "nn.functional.max_unpool3d" => |c| max_unpool(c, 3),
        _ => return None,
    };
    Some(mapping)
}

/// Every element at its index in an image of zeros.
fn max_unpool<'g>(c: &Call<'g, '_>, axes: usize) -> Outputs<'g> {
    let (x, indices) = (c.tensor(0, "input")?, c.tensor(1, "indices")?);
    let kernel = per_axis(c, 2, "kernel_size", axes)?;
    let stride = per_axis(c, 3, "stride", axes)?.or_else(|| kernel.clone());
    let padding = per_axis(c, 4, "padding", axes)?;
    let at = |list: &Option<Vec<i64>>, axis: usize, default| match list {
        Some(list) => list[axis],
        None => default,
    };
    let first = x.rank() - axes;
    let sizes = match c.ints(5, "output_size")? {
        Some(sizes) => sizes[sizes.len() - axes..].to_vec(),
        None => (0..axes)
            .map(|axis| {
                let places = x.shape().size(first + axis) as i64;
                let reach = at(&kernel, axis, 1) - 2 * at(&padding, axis, 0);
                (places - 1) * at(&stride, axis, 1) + reach
            })
            .collect(),
    };
    let area: i64 = sizes.iter().product();
    let outer: Vec<usize> = x.shape().sizes()[..first].to_vec();
    let images =
        c.g.full([&outer[..], &[area as usize]].concat(), 0.0, x.dtype());
    let [x, indices] = [x, indices].map(|x| x.flatten_from(first));
    let filled = images.scatter_add(first as i32, indices, x);
    let shape = outer.into_iter().map(|size| size as isize);
    let shape = shape.chain(sizes.into_iter().map(|size| size as isize));
    Ok(vec![filled.reshape(shape.collect::<Vec<_>>())])
}

/// A number for each axis, of which one may stand for all.
fn per_axis(
    c: &Call<'_, '_>,
    at: usize,
    name: &str,
    axes: usize,
) -> Result<Option<Vec<i64>>, crate::call::Unsupported> {
    let list = c.ints(at, name)?;
    Ok(list.map(|list| match list[..] {
        [one] => vec![one; axes],
        _ => list,
    }))
}
