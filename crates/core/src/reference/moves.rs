//! Copies, lookups and random numbers.

use super::Number;
use super::number::points;
use crate::random::{philox_block, uniform_f32, uniform_f64};
use crate::{DType, Indexing, Random, Relocate};

pub(super) fn relocate(spec: &Relocate, reads: &[Vec<Number>]) -> Vec<Number> {
    let fill = Number::Real(spec.fill.map_or(0.0, f64::from_bits));
    let mut output = vec![fill.round(spec.output.dtype); spec.output.shape.count()];
    for (piece, values) in spec.pieces.iter().zip(reads) {
        for at in points(piece.into.shape) {
            let value = values[piece.from.view.element(&at)];
            output[piece.into.element(&at)] = value.round(spec.output.dtype);
        }
    }
    output
}

/// The place of element `x` of row `index` in table `o`.
fn place(spec: &Indexing, o: usize, index: Number, x: usize) -> usize {
    let row = index.whole().clamp(0, spec.rows as i64 - 1) as usize;
    (o * spec.rows + row) * spec.inner + x
}

pub(super) fn gather(spec: &Indexing, table: &[Number], indices: &[Number]) -> Vec<Number> {
    let mut picked = Vec::with_capacity(spec.picked.shape.count());
    for o in 0..spec.outer {
        for &index in indices {
            picked.extend((0..spec.inner).map(|x| table[place(spec, o, index, x)]));
        }
    }
    picked
}

pub(super) fn scatter_add(spec: &Indexing, picked: &[Number], indices: &[Number]) -> Vec<Number> {
    let dtype = spec.table.dtype;
    let zero = if dtype.is_float() {
        Number::Real(0.0)
    } else {
        Number::Whole(0)
    };
    let mut table = vec![zero; spec.table.shape.count()];
    for o in 0..spec.outer {
        for (i, &index) in indices.iter().enumerate() {
            for x in 0..spec.inner {
                let total = &mut table[place(spec, o, index, x)];
                *total = match (*total, picked[(o * indices.len() + i) * spec.inner + x]) {
                    (Number::Whole(a), Number::Whole(b)) => Number::Whole(a.wrapping_add(b)),
                    (a, b) => Number::Real(a.real() + b.real()),
                };
            }
        }
    }
    table.into_iter().map(|total| total.round(dtype)).collect()
}

pub(super) fn random(spec: &Random, key: &[Number]) -> Vec<Number> {
    let block = |number| philox_block(key[0].whole(), key[1].whole(), number as u64);
    let element = |i: usize| match spec.output.dtype {
        DType::F64 => {
            let words = block(i / 2);
            uniform_f64(words[2 * (i % 2)], words[2 * (i % 2) + 1])
        }
        _ => f64::from(uniform_f32(block(i / 4)[i % 4])),
    };
    (0..spec.output.shape.count())
        .map(|i| Number::Real(element(i)))
        .collect()
}
