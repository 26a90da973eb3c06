//! Convolutions and pools.

use super::Number;
use super::fused::{combine, operand, start, sweep};
use super::number::points;
use crate::{Conv, Pool, Primitive, Reduction, Shape, View, Window};

/// The position that a window with these taps at this place visits, if it is inside of `axes`.
fn visited(
    windows: &[Window],
    place: &[usize],
    tap: &[usize],
    axes: &[usize],
) -> Option<Vec<usize>> {
    let positions = windows.iter().zip(place).zip(tap).zip(axes);
    positions
        .map(|(((window, &place), &tap), &size)| window.position(place, tap, size))
        .collect()
}

/// The elements of the input, the filter and the output that meet in one product, in row-major order
/// of the output and then of the filter.
fn products(spec: &Conv) -> impl Iterator<Item = [usize; 3]> {
    let [input, filter, output] = [spec.input, spec.filter, spec.output].map(View::dense);
    let out_per_group = (spec.filter.size(0) / spec.groups).max(1);
    points(spec.output).flat_map(move |y| {
        let taps: Shape = spec.filter.sizes()[1..].iter().copied().collect();
        let group = y[1] / out_per_group;
        points(taps).filter_map(move |tap| {
            let position = visited(&spec.windows, &y[2..], &tap[1..], &spec.input.sizes()[2..])?;
            let channel = group * spec.filter.size(1) + tap[0];
            let x = [&[y[0], channel], position.as_slice()].concat();
            let w = [&[y[1]], tap.as_slice()].concat();
            Some([input.element(&x), filter.element(&w), output.element(&y)])
        })
    })
}

pub(super) fn conv(primitive: &Primitive, spec: &Conv, reads: &[Vec<Number>]) -> Vec<Vec<Number>> {
    let (x, w, y) = (0, 1, 2);
    let (shapes, roles) = match primitive {
        Primitive::ConvVjpInput(_) => ([spec.output, spec.filter, spec.input], [y, w, x]),
        Primitive::ConvVjpFilter(_) => ([spec.input, spec.output, spec.filter], [x, y, w]),
        _ => ([spec.input, spec.filter, spec.output], [x, w, y]),
    };
    let (left_reads, rest) = reads.split_at(spec.left.inputs.len());
    let (right_reads, epilogue_reads) = rest.split_at(spec.right.inputs.len());
    let left = operand(&spec.left, shapes[0], left_reads);
    let right = operand(&spec.right, shapes[1], right_reads);
    let mut sums = vec![start(Reduction::Sum, spec.accumulator); shapes[2].count()];
    for elements in products(spec) {
        let [a, b, total] = roles.map(|role| elements[role]);
        let product = left[a].product(right[b]);
        sums[total] = combine(Reduction::Sum, sums[total], product);
    }
    for sum in &mut sums {
        *sum = sum.round(spec.accumulator);
    }
    sweep(spec.space, &spec.epilogue, epilogue_reads, Some(&sums))
}

/// For every window, in order, the elements of `x` that it visits.
fn visits(spec: &Pool) -> impl Iterator<Item = Vec<usize>> {
    let leading = spec.output.rank() - spec.spatial();
    let taps: Shape = spec.windows.iter().map(|window| window.size).collect();
    let input = View::dense(spec.input);
    points(spec.output).map(move |place| {
        let inside = points(taps).filter_map(|tap| {
            let axes = &spec.input.sizes()[leading..];
            let position = visited(&spec.windows, &place[leading..], &tap, axes)?;
            Some(input.element(&[&place[..leading], &position].concat()))
        });
        inside.collect()
    })
}

/// The values of an operand of a pool, from its own shape.
fn seen(spec: &Pool, k: usize, reads: &[Vec<Number>]) -> Vec<Number> {
    let view = spec.operands[k].view;
    points(view.shape)
        .map(|at| reads[k][view.element(&at)])
        .collect()
}

pub(super) fn pool(spec: &Pool, reads: &[Vec<Number>]) -> Vec<Number> {
    let x = seen(spec, 0, reads);
    let dtype = spec.result.dtype;
    let reduced = visits(spec).map(|elements| {
        let values = elements.into_iter().map(|element| x[element]);
        let first = start(spec.reduction, dtype);
        values
            .fold(first, |total, value| combine(spec.reduction, total, value))
            .round(dtype)
    });
    reduced.collect()
}

pub(super) fn pool_vjp(spec: &Pool, reads: &[Vec<Number>]) -> Vec<Number> {
    let dtype = spec.result.dtype;
    let mut result = vec![start(Reduction::Sum, dtype); spec.input.count()];
    let operands: Vec<Vec<Number>> = (0..spec.operands.len())
        .map(|k| seen(spec, k, reads))
        .collect();
    let Some((g, x)) = operands.split_last() else {
        return result;
    };
    for (elements, &g) in visits(spec).zip(g) {
        let chosen = match x {
            [x] => elements
                .into_iter()
                .reduce(|best, other| {
                    let kept = combine(spec.reduction, x[best], x[other]);
                    let is_kept = kept == x[best] || x[best].real().is_nan();
                    if is_kept { best } else { other }
                })
                .into_iter()
                .collect(),
            _ => elements,
        };
        for element in chosen {
            result[element] = combine(Reduction::Sum, result[element], g);
        }
    }
    result.into_iter().map(|total| total.round(dtype)).collect()
}
