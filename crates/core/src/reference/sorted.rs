//! Positions in sorted order.

use std::cmp::Ordering;

use super::Number;
use super::number::points;
use crate::{Order, Sort, View};

/// Ascending, NaN last.
fn compare(a: Number, b: Number) -> Ordering {
    match (a, b) {
        (Number::Whole(a), Number::Whole(b)) => a.cmp(&b),
        (a, b) => {
            let (a, b) = (a.real(), b.real());
            let nan_last = || a.is_nan().cmp(&b.is_nan());
            a.partial_cmp(&b).unwrap_or_else(nan_last)
        }
    }
}

pub(super) fn sort(spec: &Sort, values: &[Number]) -> Vec<Number> {
    let written = spec.space.with(spec.axis, spec.count());
    let mut positions = vec![Number::Whole(0); written.count()];
    let written = View::dense(written);
    for mut row in points(spec.space.with(spec.axis, 1)) {
        let at = |position: usize, row: &mut Vec<usize>| {
            row[spec.axis] = position;
            values[spec.input.view.element(row)]
        };
        let mut sorted: Vec<usize> = (0..spec.space.size(spec.axis)).collect();
        sorted.sort_by(|&a, &b| {
            let ascending = compare(at(a, &mut row), at(b, &mut row));
            match spec.order {
                Order::Ascending => ascending,
                Order::Descending => ascending.reverse(),
            }
        });
        for (i, &position) in sorted.iter().enumerate().take(spec.count()) {
            row[spec.axis] = i;
            positions[written.element(&row)] = Number::Whole(position as i64);
        }
    }
    positions
}
