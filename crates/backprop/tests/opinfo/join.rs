//! Taking apart, putting together and repeating.

use backprop::Tensor;

use crate::adapt::common_dtype;
use crate::call::{Argument, Call, Mapping, Outputs};
use crate::shape::{common, counted, raised, raised_to_3};

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "chunk" => chunk,
        "split" | "split_with_sizes" => split,
        "tensor_split" => |c| {
            let (x, axis) = (c.tensor(0, "input")?, c.int(2, "dim", 0)?);
            tensor_split(c, counted(axis, x.rank()))
        },
        "hsplit" => |c| {
            let rank = c.tensor(0, "input")?.rank();
            tensor_split(c, usize::from(rank > 1))
        },
        "vsplit" => |c| tensor_split(c, 0),
        "dsplit" => |c| tensor_split(c, 2),
        "unbind" => |c| Ok(c.tensor(0, "input")?.unstack(c.axis(1, "dim", 0)?)),
        "stack" => |c| {
            let tensors = c.tensors(0, "tensors")?;
            Ok(vec![c.g.stack(&tensors, c.axis(1, "dim", 0)?)])
        },
        "cat" => |c| joined(c, |x| x, c.axis(1, "dim", 0)?),
        "hstack" => |c| {
            let flat = c.tensors(0, "tensors")?[0].rank() < 2;
            joined(c, |x| raised(x, 1), i32::from(!flat))
        },
        "vstack" => |c| joined(c, |x| raised(x, 2), 0),
        "dstack" => |c| joined(c, raised_to_3, 2),
        "column_stack" => |c| joined(c, column, 1),
        "meshgrid" => meshgrid,
        "broadcast_tensors" => |c| {
            let tensors = c.tensors(0, "tensors")?;
            let shape = common(&tensors);
            Ok(tensors.into_iter().map(|x| x.broadcast_to(shape)).collect())
        },
        "block_diag" => block_diag,
        "repeat" | "tile" => repeat,
        "repeat_interleave" => repeat_interleave,
        _ => return None,
    };
    Some(mapping)
}

fn chunk<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, count) = (c.tensor(0, "input")?, c.int(1, "chunks", 1)? as usize);
    let axis = c.axis(2, "dim", 0)?;
    Ok(match x.shape().size(counted(axis.into(), x.rank())) {
        0 => vec![x; count],
        _ => x.chunk(count, axis),
    })
}

/// Into pieces of one size, or of these.
fn split<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (x, axis) = (c.tensor(0, "input")?, c.axis(2, "dim", 0)?);
    let one = c.value(1, "split_size_or_sections");
    let given = c.ints(1, "split_size_or_sections")?.unwrap_or_default();
    let sizes: Vec<usize> = match one {
        Some(each) if each.is_i64() => {
            let (size, each) = (
                x.shape().size(counted(axis.into(), x.rank())),
                given[0] as usize,
            );
            let starts = (0..size).step_by(each);
            starts.map(|start| each.min(size - start)).collect()
        }
        _ => given.iter().map(|&size| size as usize).collect(),
    };
    Ok(x.split(sizes, axis))
}

/// Into a number of pieces, the first ones larger, or at these indices.
fn tensor_split<'g>(c: &Call<'g, '_>, axis: usize) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let size = x.shape().size(axis);
    let value = c.value(1, "indices_or_sections");
    let (single, numbers): (bool, Vec<i64>) = match value {
        Some(value) if value.get("tensor").is_some() => {
            let numbers = c.known(1, "indices_or_sections")?.unwrap_or_default();
            let rank = c.tensor(1, "indices_or_sections")?.rank();
            (rank == 0, numbers.iter().map(|&n| n as i64).collect())
        }
        _ => {
            let numbers = c.ints(1, "indices_or_sections")?.unwrap_or_default();
            (value.is_some_and(|value| value.is_i64()), numbers)
        }
    };
    let mut ends: Vec<usize> = match (single, numbers.as_slice()) {
        (true, &[count]) => {
            let count = count as usize;
            let larger = size % count;
            (1..count)
                .map(|i| i * (size / count) + i.min(larger))
                .collect()
        }
        _ => numbers.iter().map(|&end| place(end, size)).collect(),
    };
    ends.push(size);
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let piece = |(start, &end): (usize, &usize)| x.narrow(axis as i32, start, end.max(start));
    Ok(starts.zip(&ends).map(piece).collect())
}

/// A place between elements, counted from the end if negative.
pub(crate) fn place(at: i64, size: usize) -> usize {
    let counted = if at < 0 { at + size as i64 } else { at };
    counted.clamp(0, size as i64) as usize
}

fn joined<'g>(c: &Call<'g, '_>, raise: fn(Tensor<'g>) -> Tensor<'g>, axis: i32) -> Outputs<'g> {
    let tensors = c.tensors(0, "tensors")?.into_iter();
    let raised: Vec<Tensor<'g>> = tensors.map(raise).collect();
    // An empty vector joins anything.
    let whole = raised.iter().any(|x| x.rank() > 1);
    let legacy = |x: &&Tensor<'g>| whole && x.shape().sizes() == [0];
    let dtype = common_dtype(
        &raised
            .iter()
            .copied()
            .map(Argument::Tensor)
            .collect::<Vec<_>>(),
    );
    let parts = raised.iter().filter(|x| !legacy(x));
    let parts: Vec<Tensor<'g>> = parts.map(|x| x.cast(dtype)).collect();
    Ok(vec![c.g.concat(&parts, axis)])
}

fn column(x: Tensor<'_>) -> Tensor<'_> {
    match x.rank() {
        0 | 1 => x.reshape([-1, 1]),
        _ => x,
    }
}

/// `xy` indexing exchanges the first two axes.
fn meshgrid<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let vectors = c.tensors(0, "tensors")?.into_iter();
    let mut vectors: Vec<Tensor<'g>> = vectors.map(|x| raised(x, 1)).collect();
    let exchanged = c.text(usize::MAX, "indexing", "ij")? == "xy" && vectors.len() > 1;
    if !exchanged {
        return Ok(c.g.meshgrid(&vectors));
    }
    vectors.swap(0, 1);
    let mut grid = c.g.meshgrid(&vectors);
    grid.swap(0, 1);
    Ok(grid)
}

fn block_diag<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let blocks = c.tensors(0, "tensors")?.into_iter();
    let blocks: Vec<Tensor<'g>> = blocks.map(|x| raised(x, 2)).collect();
    let width: usize = blocks.iter().map(|x| x.shape().size(1)).sum();
    let mut start = 0;
    let row = |x: &Tensor<'g>| {
        let before = start;
        start += x.shape().size(1);
        x.pad([0, before], [0, width - start], 0.0)
    };
    let rows: Vec<Tensor<'g>> = blocks.iter().map(row).collect();
    Ok(vec![c.g.concat(&rows, 0)])
}

fn repeat<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let counts = c.ints_from(1, "repeats")?;
    let mut counts: Vec<usize> = counts.iter().map(|&count| count as usize).collect();
    let x = raised(c.tensor(0, "input")?, counts.len());
    let missing = x.rank() - counts.len();
    counts.splice(0..0, std::iter::repeat_n(1, missing));
    Ok(vec![x.repeat(counts)])
}

fn repeat_interleave<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    // What PyTorch is told, to not have to count.
    let _ = c.int(usize::MAX, "output_size", 0)?;
    let x = c.tensor(0, "input")?;
    let (x, axis) = match c.has(2, "dim") {
        true => (x, c.axis(2, "dim", 0)?),
        false => (x.reshape([-1]), 0),
    };
    if c.value(1, "repeats").is_some_and(|value| value.is_i64()) {
        return Ok(vec![
            x.repeat_interleave(c.int(1, "repeats", 1)? as usize, axis),
        ]);
    }
    let counts = c.known(1, "repeats")?.unwrap_or_default();
    let size = x.shape().size(counted(axis.into(), x.rank()));
    let count = |i: usize| counts[i % counts.len()] as usize;
    let repeated = (0..size).flat_map(|i| std::iter::repeat_n(i as i64, count(i)));
    let indices: Vec<i64> = repeated.collect();
    Ok(vec![x.take(c.g.data([indices.len()], &indices), axis)])
}
