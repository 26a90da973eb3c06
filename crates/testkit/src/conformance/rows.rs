//! Row programs: softmax, norms and losses with their vjps. All optional.

use backprop_core::{Axes, DType, Reduction, Register, Scalar, Source};

use super::accuracy::Accuracy;
use super::code::{Code, axes, dense, seen, shape};
use super::rig::Case;
use crate::draw::Draw;

/// Spaces with the axes that make a row: the last one, several, the first, one in the middle.
const ROWS: [(&[usize], &[usize]); 11] = [
    (&[1, 2], &[1]),
    (&[5, 3], &[1]),
    (&[4, 257], &[1]),
    (&[2, 1025], &[1]),
    (&[37, 601], &[1]),
    (&[3, 5, 7], &[1, 2]),
    (&[30], &[0]),
    (&[1, 300], &[1]),
    (&[7, 33], &[0]),
    (&[3, 5, 7], &[1]),
    (&[3, 5, 7], &[0, 2]),
];

const TYPES: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

/// A space, its rows, and their type.
#[derive(Clone, Copy)]
struct Setting {
    space: &'static [usize],
    axes: Axes,
    dtype: DType,
}

impl Setting {
    fn full(&self) -> Source {
        dense(self.dtype, self.space)
    }

    /// The sizes of what has one value a row.
    fn outer(&self) -> Vec<usize> {
        shape(self.space).without(self.axes).sizes().to_vec()
    }

    /// A tensor with one value a row.
    fn per_row(&self, dtype: DType) -> Source {
        let kept = |axis: &usize| !self.axes.contains(*axis);
        let kept: Vec<usize> = (0..self.space.len()).filter(kept).collect();
        seen(dtype, &self.outer(), |v| {
            let mut strides = [0; backprop_core::MAX_RANK];
            for (from, axis) in kept.into_iter().enumerate() {
                strides[axis] = v.strides[from];
            }
            backprop_core::View {
                shape: shape(self.space),
                strides,
                ..v
            }
        })
    }

    /// A tensor with one value for each place in a row.
    fn per_place(&self) -> Source {
        let mut sizes = self.space.to_vec();
        for (axis, size) in sizes.iter_mut().enumerate() {
            *size = if self.axes.contains(axis) { *size } else { 1 };
        }
        seen(self.dtype, &sizes, |v| v.broadcast(shape(self.space)))
    }

    fn len(&self) -> usize {
        self.axes.iter().map(|axis| self.space[axis]).product()
    }

    fn case(&self, code: Code, inputs: Vec<Source>, seed: u64) -> Case {
        let mut draw = Draw::new(seed);
        let reads = inputs.iter().map(|source| {
            let (dtype, count) = (source.tensor.dtype, source.tensor.shape.count());
            let interval = if dtype.is_float() {
                (-2.0, 2.0)
            } else {
                (0.0, self.len() as f64)
            };
            draw.bytes(dtype, count, interval)
        });
        let reads = reads.collect();
        let spec = code.rows(self.space, self.axes, inputs);
        let accuracy = Accuracy::Rows {
            points: self.len(),
            scale: 4.0,
        };
        Case::new(spec, reads, accuracy)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in TYPES {
        for (space, over) in ROWS {
            let setting = Setting {
                space,
                axes: axes(over),
                dtype,
            };
            cases.push(softmax(setting));
            cases.push(softmax(setting).in_place(&[(0, 0)]));
            cases.push(softmax_vjp(setting).in_place(&[(0, 1)]));
            cases.push(layer_norm(setting));
            cases.push(cross_entropy(setting));
            cases.push(log_sum_exp(setting));
            cases.push(extremes(setting).in_place(&[(1, 1)]));
            cases.push(exchange(setting).in_place(&[(0, 0), (1, 1)]));
        }
    }
    cases
}

/// `exp(x - max x)` and its row sum.
fn shifted(code: &mut Code, x: Register) -> (Register, Register, Register) {
    let max = code.row(Reduction::Max, x);
    let below = code.apply(Scalar::Sub, &[x, max]);
    let exp = code.apply(Scalar::Exp, &[below]);
    let sum = code.row(Reduction::Sum, exp);
    (below, exp, sum)
}

fn softmax(s: Setting) -> Case {
    let mut code = Code::default();
    let x = code.input(0, s.dtype);
    let (_, exp, sum) = shifted(&mut code, x);
    let y = code.apply(Scalar::Div, &[exp, sum]);
    code.store(y, s.space);
    s.case(code, vec![s.full()], 1)
}

/// `y (g - sum(g y))`, the vjp of softmax.
fn softmax_vjp(s: Setting) -> Case {
    let mut code = Code::default();
    let (y, g) = (code.input(0, s.dtype), code.input(1, s.dtype));
    let both = code.apply(Scalar::Mul, &[y, g]);
    let n = code.constant(1.0 / s.len() as f64, s.dtype);
    let scaled = code.apply(Scalar::Mul, &[both, n]);
    let sum = code.row(Reduction::Sum, scaled);
    let centred = code.apply(Scalar::Sub, &[g, sum]);
    let x = code.apply(Scalar::Mul, &[y, centred]);
    code.store(x, s.space);
    s.case(code, vec![s.full(), s.full()], 2)
}

/// Normalised rows, scaled by place, with mean and inverse deviation a row.
fn layer_norm(s: Setting) -> Case {
    let mut code = Code::default();
    let (x, weight) = (code.input(0, s.dtype), code.input(1, s.dtype));
    let n = code.constant(1.0 / s.len() as f64, s.dtype);
    let scaled = code.apply(Scalar::Mul, &[x, n]);
    let mean = code.row(Reduction::Sum, scaled);
    let centred = code.apply(Scalar::Sub, &[x, mean]);
    let square = code.apply(Scalar::Square, &[centred]);
    let scaled = code.apply(Scalar::Mul, &[square, n]);
    let variance = code.row(Reduction::Sum, scaled);
    let epsilon = code.constant(0.5, s.dtype);
    let shifted = code.apply(Scalar::Add, &[variance, epsilon]);
    let inverse = code.apply(Scalar::Rsqrt, &[shifted]);
    let normal = code.apply(Scalar::Mul, &[centred, inverse]);
    let y = code.apply(Scalar::Mul, &[normal, weight]);
    let outer = s.outer();
    code.store(y, s.space)
        .store(mean, &outer)
        .store(inverse, &outer);
    s.case(code, vec![s.full(), s.per_place()], 3)
}

/// The loss of each row by its label, found by coordinate, with its derivative.
fn cross_entropy(s: Setting) -> Case {
    let mut code = Code::default();
    let x = code.input(0, s.dtype);
    let label = code.input(1, DType::I64);
    let (below, exp, sum) = shifted(&mut code, x);
    let log = code.apply(Scalar::Log, &[sum]);
    let last = s.axes.iter().next_back().unwrap_or(0);
    let place = code.coordinate(last as u8);
    let hot = code.apply(Scalar::Eq, &[place, label]);
    let zero = code.constant(0.0, s.dtype);
    let one = code.constant(1.0, s.dtype);
    let picked = code.apply(Scalar::Where, &[hot, below, zero]);
    let picked = code.row(Reduction::Sum, picked);
    let loss = code.apply(Scalar::Sub, &[log, picked]);
    let p = code.apply(Scalar::Div, &[exp, sum]);
    let target = code.apply(Scalar::Where, &[hot, one, zero]);
    let g = code.apply(Scalar::Sub, &[p, target]);
    code.store(loss, &s.outer()).store(g, s.space);
    s.case(code, vec![s.full(), s.per_row(DType::I64)], 4)
}

/// One value a row and nothing else.
fn log_sum_exp(s: Setting) -> Case {
    let mut code = Code::default();
    let x = code.input(0, s.dtype);
    let max = code.row(Reduction::Max, x);
    let (_, _, sum) = shifted(&mut code, x);
    let log = code.apply(Scalar::Log, &[sum]);
    let y = code.apply(Scalar::Add, &[log, max]);
    code.store(y, &s.outer());
    s.case(code, vec![s.full()], 5)
}

/// The smallest of a row, and its largest added to a value a row, which it may replace.
fn extremes(s: Setting) -> Case {
    let mut code = Code::default();
    let (x, before) = (code.input(0, s.dtype), code.input(1, s.dtype));
    let (low, high) = (code.row(Reduction::Min, x), code.row(Reduction::Max, x));
    let after = code.apply(Scalar::Add, &[before, high]);
    let outer = s.outer();
    code.store(low, &outer).store(after, &outer);
    s.case(code, vec![s.full(), s.per_row(s.dtype)], 6)
}

/// The second operand less its mean in the place of the first one, which goes to the second one's.
fn exchange(s: Setting) -> Case {
    let mut code = Code::default();
    let (x, y) = (code.input(0, s.dtype), code.input(1, s.dtype));
    let n = code.constant(1.0 / s.len() as f64, s.dtype);
    let scaled = code.apply(Scalar::Mul, &[y, n]);
    let mean = code.row(Reduction::Sum, scaled);
    let centred = code.apply(Scalar::Sub, &[y, mean]);
    code.store(centred, s.space).store(x, s.space);
    s.case(code, vec![s.full(), s.full()], 7)
}
