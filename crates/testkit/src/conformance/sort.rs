//! Positions in sorted order. All optional.

use backprop_core::{DType, Order, Primitive, Sort, Source, View};

use super::accuracy::Accuracy;
use super::code::{seen, shape, tensor};
use super::rig::Case;
use crate::draw::{Draw, encode};

/// Spaces, the axis that is sorted, and how many of its elements are wanted.
const SPACES: [(&[usize], usize, usize); 11] = [
    (&[1], 0, 1),
    (&[3, 2], 1, 2),
    (&[5], 0, 0),
    (&[3, 0], 1, 0),
    (&[7, 33], 1, 33),
    (&[33, 7], 0, 33),
    (&[3, 100, 4], 1, 10),
    (&[2, 1000], 1, 1000),
    (&[2, 1000], 1, 5),
    (&[1, 257], 1, 257),
    (&[65, 129], 1, 1),
];

/// What rows are made of.
#[derive(Clone, Copy)]
enum Content {
    /// Numbers that hardly ever are the same.
    Various,
    /// A few numbers again and again.
    Ties,
    /// Zeros of either sign, infinities and NaN among small numbers; the ends of integers.
    Specials,
}

impl Content {
    fn bytes(self, dtype: DType, count: usize, draw: &mut Draw) -> Vec<u8> {
        let (low, high) = match dtype {
            DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            // As far as numbers are exact on their way.
            DType::I64 => (-9e15, 9e15),
            DType::U8 => (0.0, 255.0),
            DType::Bool => (0.0, 1.0),
            _ => (-1e3, 1e3),
        };
        let specials: &[f64] = if dtype.is_float() {
            let (infinity, nan) = (f64::INFINITY, f64::NAN);
            &[0.0, -0.0, infinity, -infinity, nan, -nan, 1.0, -1.0, 1e-7]
        } else {
            &[low, high, 0.0, 1.0]
        };
        let numbers: Vec<f64> = match self {
            Content::Various => draw.numbers(dtype, count, (low, high)),
            Content::Ties => draw.numbers(dtype, count, (0.0, 4.0)),
            Content::Specials => (0..count).map(|_| *draw.of(specials)).collect(),
        };
        encode(dtype, &numbers)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        for (space, axis, count) in SPACES {
            for order in [Order::Ascending, Order::Descending] {
                let sorted = |input, content| {
                    let spec = Sort {
                        space: shape(space),
                        axis,
                        order,
                        input,
                        positions: tensor(DType::I64, shape(space).with(axis, count).sizes()),
                    };
                    case(spec, content, axis as u64)
                };
                let dense = || seen(dtype, space, |v| v);
                for content in [Content::Various, Content::Ties, Content::Specials] {
                    cases.push(sorted(dense(), content));
                }
                cases.push(sorted(backwards(dtype, space), Content::Ties));
            }
        }
        let repeated = seen(dtype, &[9, 1], |v| v.broadcast(shape(&[9, 4])));
        for axis in [0, 1] {
            let spec = Sort {
                space: shape(&[9, 4]),
                axis,
                order: Order::Descending,
                input: repeated.clone(),
                positions: tensor(DType::I64, &[9, 4]),
            };
            cases.push(case(spec, Content::Specials, 3));
        }
    }
    cases
}

/// Axes stored in the opposite order, each from its end.
fn backwards(dtype: DType, space: &[usize]) -> Source {
    let stored: Vec<usize> = space.iter().rev().copied().collect();
    let order: Vec<usize> = (0..space.len()).rev().collect();
    let last: Vec<usize> = space.iter().map(|size| size.saturating_sub(1)).collect();
    let step = vec![-1; space.len()];
    let view = |v: View| v.permute(&order).slice(&last, &step, shape(space));
    seen(dtype, &stored, view)
}

fn case(spec: Sort, content: Content, seed: u64) -> Case {
    let (dtype, count) = (spec.input.tensor.dtype, spec.input.tensor.shape.count());
    let reads = vec![content.bytes(dtype, count, &mut Draw::new(seed))];
    Case::new(Primitive::Sort(spec), reads, Accuracy::Bits)
}
