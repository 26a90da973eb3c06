//! Convolutions and their vjps.

use backprop_core::{
    Body, Conv, DType, Operand, Primitive, Reduction, Register, Scalar, Shape, Source, TensorType,
    Window,
};

use super::accuracy::Accuracy;
use super::code::{Code, Stored, axes, dense, seen, shape, tensor};
use super::rig::Case;
use crate::draw::Draw;

/// A window along an axis: taps, stride, dilation, padding.
type Taps = [usize; 4];

/// The sizes of a convolution.
#[derive(Clone, Copy)]
struct Geometry<'a> {
    /// Of the batch, the channels, the output channels; and groups.
    counts: [usize; 4],
    axes: &'a [usize],
    windows: &'a [Taps],
    places: &'a [usize],
}

const fn of<'a>(
    counts: [usize; 4],
    axes: &'a [usize],
    windows: &'a [Taps],
    places: &'a [usize],
) -> Geometry<'a> {
    Geometry {
        counts,
        axes,
        windows,
        places,
    }
}

/// Single elements, one to three spatial axes, odd sizes.
const SMALL: &[Geometry<'_>] = &[
    of([1, 1, 1, 1], &[1], &[[1, 1, 1, 0]], &[1]),
    of([2, 3, 5, 1], &[17], &[[3, 1, 1, 1]], &[17]),
    of([2, 3, 2, 1], &[5, 7], &[[3, 1, 1, 1]; 2], &[5, 7]),
    of([3, 2, 5, 1], &[9, 8], &[[3, 2, 1, 1]; 2], &[5, 4]),
    of(
        [1, 2, 3, 1],
        &[11, 9],
        &[[2, 1, 3, 2], [3, 1, 2, 0]],
        &[12, 5],
    ),
    of(
        [2, 2, 3, 1],
        &[3, 4, 5],
        &[[2, 1, 1, 0], [3, 1, 1, 1], [3, 2, 1, 1]],
        &[2, 4, 3],
    ),
    // No spatial axis; no window along one.
    of([4, 3, 5, 1], &[], &[], &[]),
    of(
        [2, 5, 6, 1],
        &[1, 13],
        &[[1, 1, 1, 0], [4, 3, 1, 2]],
        &[1, 5],
    ),
];

/// Windows that leave their axes: padded at one end alone, wholly outside at both, and beyond the
/// far end; with gaps between them; with taps between the positions of others.
const REACHING: &[Geometry<'_>] = &[
    of(
        [2, 2, 3, 1],
        &[6, 5],
        &[[3, 1, 1, 2], [2, 1, 1, 0]],
        &[6, 6],
    ),
    of([1, 3, 4, 1], &[6], &[[3, 1, 1, 5]], &[14]),
    of(
        [2, 1, 2, 1],
        &[4, 5],
        &[[2, 3, 1, 4], [3, 2, 2, 7]],
        &[5, 9],
    ),
    of(
        [1, 2, 2, 1],
        &[10, 10],
        &[[2, 5, 1, 0], [1, 3, 1, 0]],
        &[2, 4],
    ),
    of(
        [1, 2, 3, 1],
        &[12, 13],
        &[[3, 2, 2, 2], [2, 3, 2, 1]],
        &[6, 5],
    ),
    of([1, 2, 2, 1], &[13], &[[3, 4, 6, 5]], &[4]),
    of([1, 2, 2, 1], &[40], &[[7, 3, 1, 3]], &[14]),
    of([1, 3, 4, 1], &[2300], &[[2, 1100, 1, 0]], &[3]),
];

/// Groups, down to a channel each; and windows of one tap.
const GROUPED: &[Geometry<'_>] = &[
    of([2, 4, 6, 2], &[5, 6], &[[3, 1, 1, 1]; 2], &[5, 6]),
    of([2, 6, 9, 3], &[11], &[[3, 2, 1, 1]], &[6]),
    of([2, 5, 5, 5], &[7, 19], &[[3, 1, 1, 1]; 2], &[7, 19]),
    of([2, 5, 5, 5], &[7, 9], &[[3, 2, 1, 1]; 2], &[4, 5]),
    of([1, 3, 6, 3], &[8, 8], &[[5, 1, 1, 2]; 2], &[8, 8]),
    of([2, 6, 3, 3], &[9], &[[3, 1, 2, 2]], &[9]),
    of([3, 7, 11, 1], &[3, 5], &[[1, 1, 1, 0]; 2], &[3, 5]),
    of([2, 7, 5, 1], &[5, 7], &[[1, 2, 1, 0]; 2], &[3, 4]),
    of([2, 3, 4, 1], &[5], &[[1, 1, 1, 1]], &[7]),
];

/// Of some tensors nothing: no image, no channel, no output channel, no place, no position.
const EMPTY: &[Geometry<'_>] = &[
    of([0, 2, 3, 1], &[4, 3], &[[3, 1, 1, 1]; 2], &[4, 3]),
    of([2, 0, 3, 1], &[4, 3], &[[3, 1, 1, 1]; 2], &[4, 3]),
    of([2, 2, 0, 2], &[4, 3], &[[3, 2, 1, 1]; 2], &[2, 2]),
    of([2, 2, 3, 1], &[4, 3], &[[3, 1, 1, 1]; 2], &[4, 0]),
    of([2, 2, 3, 1], &[0, 3], &[[3, 2, 1, 1]; 2], &[2, 3]),
];

/// Just past register tiles; sums just past a block and past several; enough for several threads.
const LARGE: &[Geometry<'_>] = &[
    of([1, 9, 35, 1], &[6, 9], &[[3, 1, 1, 1]; 2], &[6, 9]),
    of([2, 45, 5, 1], &[5, 4], &[[3, 1, 1, 1]; 2], &[5, 4]),
    of([1, 2, 5, 1], &[700], &[[5, 1, 1, 2]], &[700]),
    of([3, 5, 3, 1], &[900], &[[1, 1, 1, 0]], &[900]),
    of([1, 12, 20, 1], &[12, 11], &[[3, 1, 1, 1]; 2], &[12, 11]),
    of([3, 8, 16, 1], &[17, 18], &[[3, 2, 1, 1]; 2], &[9, 9]),
    of([2, 16, 16, 16], &[33, 31], &[[3, 1, 1, 1]; 2], &[33, 31]),
];

/// One of the three tensors, from the other two.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Output,
    Input,
    Filter,
}

/// A convolution under construction.
#[derive(Clone, Copy)]
struct Problem<'a> {
    dtype: DType,
    geometry: Geometry<'a>,
    wanted: Wanted,
}

impl Problem<'_> {
    fn input(&self) -> Vec<usize> {
        let [batch, channels, ..] = self.geometry.counts;
        [&[batch, channels], self.geometry.axes].concat()
    }

    fn filter(&self) -> Vec<usize> {
        let [_, channels, out, groups] = self.geometry.counts;
        let taps = self.geometry.windows.iter().map(|window| window[0]);
        [out, channels / groups].into_iter().chain(taps).collect()
    }

    fn output(&self) -> Vec<usize> {
        let [batch, _, out, _] = self.geometry.counts;
        [&[batch, out], self.geometry.places].concat()
    }

    /// The sizes of the left and right operand and of the result.
    fn sizes(&self) -> [Vec<usize>; 3] {
        let (x, w, y) = (self.input(), self.filter(), self.output());
        match self.wanted {
            Wanted::Output => [x, w, y],
            Wanted::Input => [y, w, x],
            Wanted::Filter => [x, y, w],
        }
    }

    /// The most products in a sum.
    fn terms(&self) -> usize {
        let [batch, channels, out, groups] = self.geometry.counts;
        let taps: usize = self
            .geometry
            .windows
            .iter()
            .map(|window| window[0])
            .product();
        match self.wanted {
            Wanted::Output => channels / groups * taps,
            Wanted::Input => out / groups * taps,
            Wanted::Filter => batch * self.geometry.places.iter().product::<usize>(),
        }
    }

    /// This convolution, of dense operands and with its sums stored in their type.
    fn plain(&self) -> Conv {
        let [left, right, result] = self.sizes();
        let window = |&[size, stride, dilation, padding]: &Taps| Window {
            size,
            stride,
            dilation,
            padding,
        };
        let accumulator = self.dtype.accumulator();
        Conv {
            input: shape(&self.input()),
            filter: shape(&self.filter()),
            output: shape(&self.output()),
            windows: self.geometry.windows.iter().map(window).collect(),
            groups: self.geometry.counts[3],
            left: Operand::plain(dense(self.dtype, &left)),
            right: Operand::plain(dense(self.dtype, &right)),
            accumulator,
            space: shape(&result),
            epilogue: Body::store_rounded(accumulator, tensor(self.dtype, &result)),
        }
    }

    fn seen(&self, left: Option<Source>, right: Option<Source>) -> Conv {
        let mut spec = self.plain();
        if let Some(left) = left {
            spec.left = Operand::plain(left);
        }
        if let Some(right) = right {
            spec.right = Operand::plain(right);
        }
        spec
    }

    fn primitive(&self, spec: Conv) -> Primitive {
        match self.wanted {
            Wanted::Output => Primitive::Conv(spec),
            Wanted::Input => Primitive::ConvVjpInput(spec),
            Wanted::Filter => Primitive::ConvVjpFilter(spec),
        }
    }

    fn case(&self, spec: Conv, seed: u64) -> Case {
        let primitive = self.primitive(spec);
        let mut draw = Draw::new(seed);
        let bytes = |t: &&TensorType| draw.bytes(t.dtype, t.shape.count(), (-2.0, 2.0));
        let reads = primitive.reads().iter().map(bytes).collect();
        let accuracy = Accuracy::Sum {
            terms: self.terms() + 2,
            scale: 4.0,
        };
        Case::new(primitive, reads, accuracy)
    }
}

const TYPES: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

fn plain(wanted: Wanted) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in TYPES {
        let large = if dtype == DType::F32 {
            LARGE
        } else {
            &LARGE[..2]
        };
        let all = [SMALL, REACHING, GROUPED, EMPTY, large].concat();
        for (seed, geometry) in (0..).zip(all) {
            let problem = Problem {
                dtype,
                geometry,
                wanted,
            };
            cases.push(problem.case(problem.plain(), seed));
        }
        cases.extend(viewed(dtype, wanted));
    }
    cases
}

pub(super) fn forward() -> Vec<Case> {
    plain(Wanted::Output)
}

pub(super) fn vjps() -> Vec<Case> {
    [plain(Wanted::Input), plain(Wanted::Filter)].concat()
}

/// Operands with their channels last, with the batch inside, cut out of larger ones, backwards, and
/// repeated.
fn viewed(dtype: DType, wanted: Wanted) -> Vec<Case> {
    let windows = &[[3, 1, 1, 1], [2, 2, 1, 1]];
    let problem = Problem {
        dtype,
        geometry: of([2, 4, 6, 2], &[5, 8], windows, &[5, 5]),
        wanted,
    };
    let [left, right, _] = problem.sizes();
    let last = |sizes: &[usize]| {
        let [a, b, c, d] = [sizes[0], sizes[1], sizes[2], sizes[3]];
        seen(dtype, &[a, c, d, b], |v| v.permute(&[0, 3, 1, 2]))
    };
    let inside = |sizes: &[usize]| {
        let stored = [sizes[1], sizes[0], sizes[2], sizes[3]];
        seen(dtype, &stored, |v| v.permute(&[1, 0, 2, 3]))
    };
    let cut = |sizes: &[usize]| {
        let larger: Vec<usize> = sizes.iter().map(|size| size + 2).collect();
        seen(dtype, &larger, |v| {
            v.slice(&[1, 0, 2, 1], &[1; 4], shape(sizes))
        })
    };
    let backwards = |sizes: &[usize]| {
        let end: Vec<usize> = sizes.iter().map(|size| size - 1).collect();
        seen(dtype, sizes, |v| v.slice(&end, &[-1; 4], shape(sizes)))
    };
    let repeated = |sizes: &[usize]| {
        let one = [1, sizes[1], 1, sizes[3]];
        seen(dtype, &one, |v| v.broadcast(shape(sizes)))
    };
    let everywhere = |sizes: &[usize]| {
        let one = [sizes[0], sizes[1], 1, 1];
        seen(dtype, &one, |v| v.broadcast(shape(sizes)))
    };
    let ways: [Stored<'_>; 6] = [&last, &inside, &cut, &backwards, &repeated, &everywhere];
    let both = ways.iter().flat_map(|way| {
        [
            problem.seen(Some(way(&left)), None),
            problem.seen(None, Some(way(&right))),
        ]
    });
    (100..)
        .zip(both)
        .map(|(seed, spec)| problem.case(spec, seed))
        .collect()
}

/// What becomes of the sums of a fused convolution.
struct Epilogue {
    dtype: DType,
    result: Vec<usize>,
    code: Code,
    inputs: Vec<Source>,
    sum: Register,
}

impl Epilogue {
    fn new(problem: &Problem<'_>) -> Epilogue {
        let [_, _, result] = problem.sizes();
        let mut code = Code::default();
        let sum = code.input(0, problem.dtype.accumulator());
        Epilogue {
            dtype: problem.dtype,
            result,
            code,
            inputs: Vec::new(),
            sum,
        }
    }

    /// A number of another type, if it has not that type already.
    fn cast(&mut self, x: Register, from: DType, to: DType) -> Register {
        if from == to { x } else { self.code.cast(x, to) }
    }

    /// A further input, as numbers of the accumulator's type.
    fn input(&mut self, source: Source) -> Register {
        self.inputs.push(source);
        let x = self.code.input(self.inputs.len(), self.dtype);
        self.cast(x, self.dtype, self.dtype.accumulator())
    }

    fn store(&mut self, x: Register) {
        let x = self.cast(x, self.dtype.accumulator(), self.dtype);
        self.code.store(x, &self.result);
    }

    /// A number for each channel of the result.
    fn channels(&self) -> Source {
        let space = shape(&self.result);
        let mut sizes = vec![1; self.result.len()];
        sizes[1] = self.result[1];
        seen(self.dtype, &sizes, |v| v.broadcast(space))
    }

    fn body(self) -> Body {
        self.code.body(self.inputs)
    }
}

/// `relu(conv + b)`: a layer.
fn layer(problem: &Problem<'_>) -> Conv {
    let mut e = Epilogue::new(problem);
    let channels = e.channels();
    let bias = e.input(channels);
    let y = e.code.apply(Scalar::Add, &[e.sum, bias]);
    let y = e.code.apply(Scalar::Relu, &[y]);
    e.store(y);
    Conv {
        epilogue: e.body(),
        ..problem.plain()
    }
}

/// `r + conv`, which may take the place of `r`; and where the sum is positive.
fn residual(problem: &Problem<'_>) -> Conv {
    let mut e = Epilogue::new(problem);
    let before = e.input(dense(problem.dtype, &e.result));
    let y = e.code.apply(Scalar::Add, &[before, e.sum]);
    let zero = e.code.constant(0.5, problem.dtype.accumulator());
    let above = e.code.apply(Scalar::Gt, &[e.sum, zero]);
    e.store(y);
    let result = e.result.clone();
    e.code.store(above, &result);
    Conv {
        epilogue: e.body(),
        ..problem.plain()
    }
}

/// The result, and its sum for each channel.
fn summed(problem: &Problem<'_>) -> Conv {
    let mut e = Epilogue::new(problem);
    e.store(e.sum);
    let result = e.result.clone();
    let others: Vec<usize> = (0..result.len()).filter(|&axis| axis != 1).collect();
    e.code
        .reduce(Reduction::Sum, e.sum, (&result, axes(&others)));
    Conv {
        epilogue: e.body(),
        ..problem.plain()
    }
}

/// A layer of `relu` of the left operand.
fn with_prologue(problem: &Problem<'_>) -> Conv {
    let mut spec = layer(problem);
    let mut code = Code::default();
    let x = code.input(0, problem.dtype);
    code.apply(Scalar::Relu, &[x]);
    spec.left.program = code.program();
    spec
}

/// The same results for a space of one axis.
fn flat(problem: &Problem<'_>) -> Conv {
    let mut spec = residual(problem);
    let space: Shape = [spec.space.count()].into_iter().collect();
    spec.space = space;
    for input in &mut spec.epilogue.inputs {
        input.view = backprop_core::View::dense(space);
    }
    spec
}

/// Convolutions with prologues, epilogues, several results. Optional.
pub(super) fn fused() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in TYPES {
        for geometry in [
            SMALL[0], SMALL[2], SMALL[3], GROUPED[1], GROUPED[2], GROUPED[6], LARGE[0],
        ] {
            for wanted in [Wanted::Output, Wanted::Input, Wanted::Filter] {
                let problem = Problem {
                    dtype,
                    geometry,
                    wanted,
                };
                // The epilogue's input comes after the two operands.
                let over_input = [(0, 2)];
                cases.push(problem.case(layer(&problem), 1));
                cases.push(problem.case(residual(&problem), 2));
                cases.push(problem.case(residual(&problem), 2).in_place(&over_input));
                cases.push(problem.case(summed(&problem), 3));
                cases.push(problem.case(with_prologue(&problem), 4));
                cases.push(problem.case(flat(&problem), 5));
            }
        }
    }
    cases
}

/// A layer in one launch, and its parts.
pub(super) struct Layer {
    pub(super) fused: Case,
    pub(super) plain: Primitive,
    pub(super) dtype: DType,
    pub(super) result: Vec<usize>,
    pub(super) bias: Source,
}

/// Layers of all three primitives, by every way that a backend may have.
pub(super) fn layers() -> Vec<Layer> {
    let mut layers = Vec::new();
    for dtype in [DType::F32, DType::F64] {
        for geometry in [SMALL[3], GROUPED[2], GROUPED[6], LARGE[0], LARGE[5]] {
            for wanted in [Wanted::Output, Wanted::Input, Wanted::Filter] {
                let problem = Problem {
                    dtype,
                    geometry,
                    wanted,
                };
                let [_, _, result] = problem.sizes();
                layers.push(Layer {
                    fused: problem.case(layer(&problem), 7),
                    plain: problem.primitive(problem.plain()),
                    dtype,
                    result,
                    bias: Epilogue::new(&problem).channels(),
                });
            }
        }
    }
    layers
}
