//! Reduced windows and their vjps.

use backprop_core::{DType, Pool, Primitive, Reduction, Source, Window};

use super::accuracy::Accuracy;
use super::code::{Stored, dense, seen, shape, tensor};
use super::rig::Case;
use crate::draw::{Draw, encode};

/// The sizes of a pool.
#[derive(Clone, Copy)]
struct Geometry<'a> {
    leading: &'a [usize],
    axes: &'a [usize],
    /// Along each axis: taps, stride, dilation, padding.
    windows: &'a [[usize; 4]],
    places: &'a [usize],
}

const fn of<'a>(
    leading: &'a [usize],
    axes: &'a [usize],
    windows: &'a [[usize; 4]],
    places: &'a [usize],
) -> Geometry<'a> {
    Geometry {
        leading,
        axes,
        windows,
        places,
    }
}

/// Single elements; windows side by side, overlapping, with gaps between and inside, padded,
/// partly and wholly outside, over all of an axis; of nothing; and more than a tile of places.
const GEOMETRIES: &[Geometry<'_>] = &[
    of(&[1], &[1], &[[1, 1, 1, 0]], &[1]),
    of(&[2, 3], &[6, 8], &[[2, 2, 1, 0]; 2], &[3, 4]),
    of(&[2, 3], &[7, 9], &[[3, 1, 1, 1]; 2], &[7, 9]),
    of(&[5], &[9, 11], &[[3, 2, 1, 1]; 2], &[5, 6]),
    of(&[3], &[17], &[[2, 5, 3, 0]], &[3]),
    of(&[2], &[5, 4], &[[2, 1, 2, 3], [3, 1, 1, 0]], &[11, 2]),
    of(&[2], &[4], &[[2, 3, 1, 6]], &[6]),
    of(
        &[1, 2],
        &[3, 4, 5],
        &[[2, 1, 1, 0], [2, 2, 1, 0], [3, 2, 1, 1]],
        &[2, 2, 3],
    ),
    of(&[3, 5], &[7, 7], &[[7, 1, 1, 0]; 2], &[1, 1]),
    of(&[], &[19], &[[4, 1, 1, 3]], &[19]),
    of(&[4], &[], &[], &[]),
    of(&[0], &[5], &[[3, 1, 1, 1]], &[5]),
    of(&[3], &[5], &[[3, 1, 1, 0]], &[0]),
    of(&[3], &[0], &[[3, 1, 1, 2]], &[2]),
    of(&[2], &[20, 18], &[[3, 1, 1, 1]; 2], &[20, 18]),
    of(&[2, 3], &[6, 71], &[[2, 2, 1, 0]; 2], &[3, 35]),
];

/// Enough for several threads.
const LARGE: Geometry<'_> = of(&[2, 9], &[30, 32], &[[3, 2, 1, 1]; 2], &[15, 16]);

/// A pool under construction.
#[derive(Clone, Copy)]
struct Problem<'a> {
    dtype: DType,
    reduction: Reduction,
    geometry: Geometry<'a>,
}

impl Problem<'_> {
    fn input(&self) -> Vec<usize> {
        [self.geometry.leading, self.geometry.axes].concat()
    }

    fn output(&self) -> Vec<usize> {
        [self.geometry.leading, self.geometry.places].concat()
    }

    /// A pool of these operands.
    fn of(&self, operands: Vec<Source>, result: &[usize]) -> Pool {
        let window = |&[size, stride, dilation, padding]: &[usize; 4]| Window {
            size,
            stride,
            dilation,
            padding,
        };
        Pool {
            reduction: self.reduction,
            input: shape(&self.input()),
            output: shape(&self.output()),
            windows: self.geometry.windows.iter().map(window).collect(),
            operands,
            result: tensor(self.dtype, result),
        }
    }

    fn forward(&self) -> Primitive {
        let x = dense(self.dtype, &self.input());
        Primitive::Pool(self.of(vec![x], &self.output()))
    }

    /// The operands of the vjp.
    fn operands(&self) -> Vec<Source> {
        let g = dense(self.dtype, &self.output());
        match self.reduction {
            Reduction::Sum => vec![g],
            _ => vec![dense(self.dtype, &self.input()), g],
        }
    }

    fn vjp(&self, operands: Vec<Source>) -> Primitive {
        Primitive::PoolVjp(self.of(operands, &self.input()))
    }

    fn case(&self, primitive: Primitive, numbers: &dyn Fn(usize) -> Vec<f64>) -> Case {
        let types = primitive.reads();
        let bytes = |t: &&backprop_core::TensorType| encode(t.dtype, &numbers(t.shape.count()));
        let reads = types.iter().map(bytes).collect();
        let taps: usize = self
            .geometry
            .windows
            .iter()
            .map(|window| window[0])
            .product();
        let exact = self.reduction != Reduction::Sum && matches!(primitive, Primitive::Pool(_));
        let accuracy = if exact {
            Accuracy::Exact
        } else {
            Accuracy::Sum {
                terms: taps,
                scale: 2.0,
            }
        };
        Case::new(primitive, reads, accuracy)
    }
}

/// Numbers of which some are equal.
fn with_ties(count: usize) -> Vec<f64> {
    let mut draw = Draw::new(count as u64);
    let tie = |x: f64| (x * 2.0).round() / 2.0;
    (0..count).map(|_| tie(draw.between((-2.0, 2.0)))).collect()
}

/// Whole numbers, and for bytes all of them.
fn whole(count: usize) -> Vec<f64> {
    let mut draw = Draw::new(count as u64);
    draw.numbers(DType::I32, count, (0.0, 256.0))
}

/// Infinities, zeros of both signs and NaN, whole windows of them among others.
fn special(count: usize) -> Vec<f64> {
    const SPECIAL: [f64; 6] = [f64::NEG_INFINITY, f64::INFINITY, f64::NAN, 0.0, -0.0, 1.0];
    let mut draw = Draw::new(count as u64);
    let choice = |i: usize, draw: &mut Draw| match i / 12 % 3 {
        0 => f64::NEG_INFINITY,
        1 => *draw.of(&SPECIAL),
        _ => draw.between((-2.0, 2.0)),
    };
    (0..count).map(|i| choice(i, &mut draw)).collect()
}

const REDUCTIONS: [Reduction; 3] = [Reduction::Sum, Reduction::Max, Reduction::Min];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::Bool) {
        for reduction in REDUCTIONS {
            let problem = |geometry| Problem {
                dtype,
                reduction,
                geometry,
            };
            let numbers: &dyn Fn(usize) -> Vec<f64> =
                if dtype.is_float() { &with_ties } else { &whole };
            for problem in GEOMETRIES.iter().copied().map(problem) {
                cases.push(problem.case(problem.forward(), numbers));
                cases.push(problem.case(problem.vjp(problem.operands()), numbers));
            }
            if dtype == DType::F32 {
                let problem = problem(LARGE);
                cases.push(problem.case(problem.forward(), numbers));
                cases.push(problem.case(problem.vjp(problem.operands()), numbers));
            }
            cases.extend(viewed(&problem(GEOMETRIES[3]), numbers));
            if dtype.is_float() && reduction != Reduction::Sum {
                for problem in GEOMETRIES[1..7].iter().copied().map(problem) {
                    cases.push(problem.case(problem.forward(), &special));
                    cases.push(routed(&problem));
                }
            }
        }
    }
    cases
}

/// The vjp at special numbers, of a cotangent without any.
fn routed(problem: &Problem<'_>) -> Case {
    let mut case = problem.case(problem.vjp(problem.operands()), &with_ties);
    let count = problem.input().iter().product();
    case.reads[0] = encode(problem.dtype, &special(count));
    case
}

/// Operands transposed, backwards, and repeated.
fn viewed(problem: &Problem<'_>, numbers: &dyn Fn(usize) -> Vec<f64>) -> Vec<Case> {
    let dtype = problem.dtype;
    let turned = |sizes: &[usize]| {
        let stored: Vec<usize> = sizes.iter().rev().copied().collect();
        seen(dtype, &stored, |v| v.permute(&[2, 1, 0]))
    };
    let backwards = |sizes: &[usize]| {
        let end: Vec<usize> = sizes.iter().map(|size| size - 1).collect();
        seen(dtype, sizes, |v| v.slice(&end, &[-1; 3], shape(sizes)))
    };
    let repeated = |sizes: &[usize]| seen(dtype, &[1], |v| v.broadcast(shape(sizes)));
    let ways: [Stored<'_>; 3] = [&turned, &backwards, &repeated];
    let mut cases = Vec::new();
    for way in ways {
        let x = way(&problem.input());
        let forward = Primitive::Pool(problem.of(vec![x.clone()], &problem.output()));
        cases.push(problem.case(forward, numbers));
        let g = way(&problem.output());
        let operands = match problem.reduction {
            Reduction::Sum => vec![g],
            _ => vec![x, g],
        };
        cases.push(problem.case(problem.vjp(operands), numbers));
    }
    cases
}
