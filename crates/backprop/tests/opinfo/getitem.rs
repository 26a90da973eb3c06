//! Python's square brackets: slices, indices, new axes, and arrays of indices or truth values.

use backprop::{DType, Tensor};
use serde_json::Value;

use crate::call::{Call, Outputs, Unsupported, items, unsupported};
use crate::index::{from_end, sum};
use crate::join::place;
use crate::shape::{common, counted, wide};

/// An array of indices for an axis.
struct Picked<'g> {
    axis: usize,
    indices: Tensor<'g>,
}

pub(crate) fn getitem<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "self")?;
    let Some(key) = c.value(1, "key") else {
        return Ok(vec![x.unsqueeze(0)]);
    };
    // A list is one array of indices, a tuple one item for each axis.
    let whole = std::slice::from_ref(key);
    let key = match key.get("tuple") {
        Some(_) => items(key).unwrap_or(whole),
        None => whole,
    };
    let (x, picked) = sliced(c, x, key)?;
    if picked.is_empty() {
        return Ok(vec![x]);
    }
    let adjacent = picked
        .windows(2)
        .all(|pair| pair[1].axis == pair[0].axis + 1);
    let first = picked[0].axis as i32;
    let rows = Rows::new(x, picked);
    let taken = rows.table.take(rows.indices, 0);
    let rank = rows.indices.rank() as i32;
    let front: Vec<i32> = (0..rank).collect();
    let there: Vec<i32> = (first..first + rank).collect();
    Ok(vec![match adjacent {
        true => taken.move_axes(front, there),
        false => taken,
    }])
}

/// Everything but arrays of indices, which remain for their axes.
fn sliced<'g>(
    c: &Call<'g, '_>,
    mut x: Tensor<'g>,
    key: &[Value],
) -> Result<(Tensor<'g>, Vec<Picked<'g>>), Unsupported> {
    let mut picked = Vec::new();
    let mut axis = 0;
    for (i, item) in key.iter().enumerate() {
        let size = x.shape().sizes().get(axis).copied().unwrap_or(1);
        let along = axis as i32;
        if item.is_null() {
            x = x.unsqueeze(along);
            axis += 1;
        } else if item.get("ellipsis").is_some() {
            let mut after = 0;
            for item in &key[i + 1..] {
                after += width(c, item)?;
            }
            axis = x.rank() - after;
        } else if let Some(whole) = item.as_bool() {
            x = x.unsqueeze(along).narrow(along, 0, usize::from(whole));
            axis += 1;
        } else if let Some(index) = item.as_i64() {
            let at = counted(index, size);
            x = x.narrow(along, at, at + 1).squeeze(along);
        } else if let Some(bounds) = item.get("slice").and_then(Value::as_array) {
            let bound = |i: usize| bounds.get(i).and_then(Value::as_i64);
            let start = place(bound(0).unwrap_or(0), size);
            let end = place(bound(1).unwrap_or(size as i64), size).max(start);
            let mut starts = vec![0; x.rank()];
            let mut ends = x.shape().sizes().to_vec();
            let mut steps = vec![1; x.rank()];
            (starts[axis], ends[axis]) = (start, end);
            steps[axis] = bound(2).unwrap_or(1) as usize;
            x = x.slice(starts, ends, steps);
            axis += 1;
        } else {
            for indices in arrays(c, item, &x.shape().sizes()[axis..])? {
                picked.push(Picked { axis, indices });
                axis += 1;
            }
        }
    }
    Ok((x, picked))
}

/// How many axes an item stands for.
fn width(c: &Call<'_, '_>, item: &Value) -> Result<usize, Unsupported> {
    if item.is_null() || item.is_boolean() {
        return Ok(0);
    }
    if item.get("tensor").is_some() {
        let tensor = c.tensor_of(item, "index")?;
        return Ok(match tensor.dtype() {
            DType::Bool => tensor.rank(),
            _ => 1,
        });
    }
    Ok(1)
}

/// The indices that an array stands for: its own, or the places where it holds, for each axis.
fn arrays<'g>(
    c: &Call<'g, '_>,
    item: &Value,
    sizes: &[usize],
) -> Result<Vec<Tensor<'g>>, Unsupported> {
    if item.get("tensor").is_some() {
        let tensor = c.tensor_of(item, "index")?;
        if tensor.dtype() == DType::Bool {
            let holds: Vec<bool> = c
                .known_of(item, "index")?
                .iter()
                .map(|&x| x != 0.0)
                .collect();
            return Ok(places(c, tensor.shape().sizes(), &holds));
        }
        return Ok(vec![from_end(tensor.cast(DType::I64), sizes[0])]);
    }
    let Some(list) = items(item) else {
        return unsupported(format!("index {item}"));
    };
    if list.iter().all(Value::is_boolean) && !list.is_empty() {
        let holds: Vec<bool> = list
            .iter()
            .map(|value| value == &Value::Bool(true))
            .collect();
        return Ok(places(c, &[list.len()], &holds));
    }
    let index = |value: &Value| value.as_i64().map(|i| counted(i, sizes[0]) as i64);
    match list.iter().map(index).collect::<Option<Vec<i64>>>() {
        Some(indices) => Ok(vec![c.g.data([indices.len()], &indices)]),
        None => unsupported(format!("index {item}")),
    }
}

/// The coordinates along each axis at which a mask holds.
fn places<'g>(c: &Call<'g, '_>, sizes: &[usize], holds: &[bool]) -> Vec<Tensor<'g>> {
    let inner = |axis: usize| sizes[axis + 1..].iter().product::<usize>();
    let along = |axis: usize| {
        let places = (0..holds.len()).filter(|&at| holds[at]);
        let coordinate = places.map(|at| (at / inner(axis) % sizes[axis]) as i64);
        let coordinates: Vec<i64> = coordinate.collect();
        c.g.data([coordinates.len()], &coordinates)
    };
    (0..sizes.len()).map(along).collect()
}

/// A tensor whose indexed axes are one, the first, and the positions along it.
struct Rows<'g> {
    table: Tensor<'g>,
    indices: Tensor<'g>,
    /// The shape with the indexed axes in front.
    front: Vec<isize>,
    axes: Vec<i32>,
}

impl<'g> Rows<'g> {
    fn new(x: Tensor<'g>, picked: Vec<Picked<'g>>) -> Rows<'g> {
        let axes: Vec<i32> = picked.iter().map(|p| p.axis as i32).collect();
        let to: Vec<i32> = (0..axes.len() as i32).collect();
        let front = x.move_axes(&axes, to);
        let sizes = front.shape().sizes().to_vec();
        let arrays: Vec<Tensor<'g>> = picked.iter().map(|p| p.indices).collect();
        let shape = common(&arrays);
        let number = |n: usize| x.graph().full([], n as f64, DType::I64);
        let start = arrays[0].broadcast_to(shape);
        let rest = arrays.iter().zip(&sizes).skip(1);
        let indices = rest.fold(start, |flat, (&index, &size)| flat * number(size) + index);
        let (indexed, others) = sizes.split_at(arrays.len());
        let table = [&[indexed.iter().product()], others].concat();
        Rows {
            table: front.reshape(wide(&table)),
            indices,
            front: wide(&sizes),
            axes,
        }
    }
}

pub(crate) fn index_put<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let key = c.value(1, "indices").and_then(items).unwrap_or(&[]);
    let (_, picked) = sliced(c, x, key)?;
    let rows = Rows::new(x, picked);
    let mut shape = rows.indices.shape().sizes().to_vec();
    shape.extend(&rows.table.shape().sizes()[1..]);
    let values = c.tensor(2, "values")?.broadcast_to(&shape);
    let how = match c.flag(3, "accumulate", false)? {
        true => sum(),
        false => backprop::Scatter::default(),
    };
    let mut slices = wide(rows.table.shape().sizes());
    slices[0] = rows.indices.shape().count() as isize;
    let written =
        rows.table
            .index_reduce(0, rows.indices.reshape([-1]), values.reshape(slices), how);
    let back: Vec<i32> = (0..rows.axes.len() as i32).collect();
    Ok(vec![written.reshape(rows.front).move_axes(back, rows.axes)])
}
