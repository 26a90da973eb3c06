//! Matrix products and convolutions as one problem: for each batch element,
//! `C[m, n] = sum over k of A[m, k] * B[k, n]`, where `m`, `n`, `k` and the batch are made of axes.

use backprop_core::{Body, Conv, DType, MatMul, Operand, Primitive, Shape};

/// What an index of a matrix counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Batch,
    /// Rows of `A`, columns of `B`.
    Free,
    /// What is summed over.
    Inner,
}

/// Steps along an axis of an operand, for each step along an axis of a part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    pub(super) part: Part,
    pub(super) axis: usize,
    pub(super) step: isize,
}

/// The coordinate along an axis of an operand: `(constant + sum of terms) / divisor`. Where that is
/// no whole number, or outside of `0..bound`, the operand is zero.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) terms: Vec<Term>,
    pub(super) constant: isize,
    pub(super) divisor: usize,
    pub(super) bound: Option<usize>,
}

/// One side of the product.
#[derive(Clone, Debug)]
pub(super) struct Matrix<'a> {
    pub(super) operand: &'a Operand,
    /// The number of its first input among the reads.
    pub(super) first: usize,
    /// One for each axis of the operand's space.
    pub(super) places: Vec<Place>,
    pub(super) batch: Vec<usize>,
    pub(super) free: Vec<usize>,
    pub(super) inner: Vec<usize>,
}

/// The whole problem.
#[derive(Clone, Debug)]
pub(super) struct Problem<'a> {
    pub(super) left: Matrix<'a>,
    pub(super) right: Matrix<'a>,
    pub(super) accumulator: DType,
    pub(super) space: Shape,
    pub(super) epilogue: &'a Body,
    /// The points of the space that go by along each axis of the batch, of `m` and of `n`.
    pub(super) batch_points: Vec<usize>,
    pub(super) m_points: Vec<usize>,
    pub(super) n_points: Vec<usize>,
}

impl<'a> Problem<'a> {
    pub(super) fn new(primitive: &'a Primitive) -> Option<Problem<'a>> {
        match primitive {
            Primitive::MatMul(spec) => Some(product(spec)),
            Primitive::Conv(spec) => Some(Geometry::new(spec).forward()),
            Primitive::ConvVjpInput(spec) => Some(Geometry::new(spec).vjp_input()),
            Primitive::ConvVjpFilter(spec) => Some(Geometry::new(spec).vjp_filter()),
            _ => None,
        }
    }

    pub(super) fn batch(&self) -> usize {
        self.left.batch.iter().product()
    }

    pub(super) fn m(&self) -> usize {
        self.left.free.iter().product()
    }

    pub(super) fn n(&self) -> usize {
        self.right.free.iter().product()
    }

    pub(super) fn k(&self) -> usize {
        self.left.inner.iter().product()
    }

    /// The number of neighbours along `n` that are neighbours among the points.
    pub(super) fn run(&self) -> usize {
        let mut run = 1;
        for (&size, &points) in self.right.free.iter().zip(&self.n_points).rev() {
            if size > 1 && points != run {
                return run;
            }
            run *= size;
        }
        run
    }
}

fn one(part: Part, axis: usize) -> Place {
    Place {
        terms: vec![Term {
            part,
            axis,
            step: 1,
        }],
        constant: 0,
        divisor: 1,
        bound: None,
    }
}

fn product(spec: &MatMul) -> Problem<'_> {
    let batch = spec.batch.sizes().to_vec();
    let side = |operand, first, free, places: [Part; 2]| {
        let axes = (0..batch.len()).map(|axis| one(Part::Batch, axis));
        Matrix {
            operand,
            first,
            places: axes.chain(places.map(|part| one(part, 0))).collect(),
            batch: batch.clone(),
            free: vec![free],
            inner: vec![spec.k],
        }
    };
    let strides = spec.batch.strides();
    let points = strides.iter().take(batch.len());
    Problem {
        left: side(&spec.left, 0, spec.m, [Part::Free, Part::Inner]),
        right: side(
            &spec.right,
            spec.left.inputs.len(),
            spec.n,
            [Part::Inner, Part::Free],
        ),
        accumulator: spec.accumulator,
        space: spec.space,
        epilogue: &spec.epilogue,
        batch_points: points.map(|&s| s as usize * spec.m * spec.n).collect(),
        m_points: vec![spec.n],
        n_points: vec![1],
    }
}

/// A convolution and the sizes of its parts.
struct Geometry<'a> {
    spec: &'a Conv,
    /// Output channels of a group.
    outputs: usize,
    /// Channels of a group.
    channels: usize,
    axes: Vec<usize>,
    taps: Vec<usize>,
    places: Vec<usize>,
}

/// `first` and the rest.
fn with(first: usize, rest: &[usize]) -> Vec<usize> {
    [&[first], rest].concat()
}

/// The points that go by along the axes of a dense shape with these sizes.
fn dense(sizes: &[usize]) -> Vec<usize> {
    let place = |axis: usize| sizes[axis + 1..].iter().product();
    (0..sizes.len()).map(place).collect()
}

impl<'a> Geometry<'a> {
    fn new(spec: &'a Conv) -> Geometry<'a> {
        Geometry {
            outputs: spec.filter.size(0) / spec.groups.max(1),
            channels: spec.filter.size(1),
            axes: spec.input.sizes()[2..].to_vec(),
            taps: spec.filter.sizes()[2..].to_vec(),
            places: spec.output.sizes()[2..].to_vec(),
            spec,
        }
    }

    fn images(&self) -> usize {
        self.spec.input.size(0)
    }

    /// A channel, which is number `within` of its group.
    fn grouped(of_group: usize, within: Part) -> Place {
        let group = Term {
            part: Part::Batch,
            axis: 0,
            step: of_group as isize,
        };
        let mut place = one(within, 0);
        place.terms.push(group);
        place
    }

    /// Spatial axes in order.
    fn spatial(&self, part: Part) -> impl Iterator<Item = Place> {
        (0..self.spec.windows.len()).map(move |axis| one(part, axis + 1))
    }

    /// The positions that windows visit.
    fn visited(&self, places: Part, taps: Part) -> impl Iterator<Item = Place> {
        let axes = self.spec.windows.iter().enumerate();
        axes.map(move |(axis, window)| {
            let term = |part, step: usize| Term {
                part,
                axis: axis + 1,
                step: step as isize,
            };
            let reach = self.places[axis].saturating_sub(1) * window.stride
                + (window.size - 1) * window.dilation;
            let inside = window.padding == 0 && reach < self.axes[axis];
            Place {
                terms: vec![term(places, window.stride), term(taps, window.dilation)],
                constant: -(window.padding as isize),
                divisor: 1,
                bound: (!inside).then_some(self.axes[axis]),
            }
        })
    }

    /// The places whose windows visit positions.
    fn visiting(&self) -> impl Iterator<Item = Place> {
        let axes = self.spec.windows.iter().enumerate();
        axes.map(|(axis, window)| {
            let term = |part, step| Term {
                part,
                axis: axis + 1,
                step,
            };
            let single = window.size == 1 && window.stride == 1 && window.padding == 0;
            let inside = single && self.axes[axis] <= self.places[axis];
            Place {
                terms: vec![
                    term(Part::Free, 1),
                    term(Part::Inner, -(window.dilation as isize)),
                ],
                constant: window.padding as isize,
                divisor: window.stride,
                bound: (!inside).then_some(self.places[axis]),
            }
        })
    }

    fn matrix(&self, side: Side, places: Vec<Place>, sizes: [Vec<usize>; 2]) -> Matrix<'a> {
        let [free, inner] = sizes;
        let (operand, first) = match side {
            Side::Left => (&self.spec.left, 0),
            Side::Right => (&self.spec.right, self.spec.left.inputs.len()),
        };
        Matrix {
            operand,
            first,
            places,
            batch: vec![self.spec.groups],
            free,
            inner,
        }
    }

    /// `A` and `B` with the points that go by along the axes of `n`; along those of the result's
    /// channels they are as many as `channel`.
    fn problem(
        &self,
        [left, right]: [Matrix<'a>; 2],
        (channel, n_points): (usize, Vec<usize>),
    ) -> Problem<'a> {
        Problem {
            accumulator: self.spec.accumulator,
            space: self.spec.space,
            epilogue: &self.spec.epilogue,
            batch_points: vec![left.free[0] * channel],
            m_points: vec![channel],
            n_points,
            left,
            right,
        }
    }

    /// Output channels by images and places, summed over channels and taps.
    fn forward(&self) -> Problem<'a> {
        let inner = with(self.channels, &self.taps);
        let mut filter = vec![Self::grouped(self.outputs, Part::Free), one(Part::Inner, 0)];
        filter.extend(self.spatial(Part::Inner));
        let mut input = vec![one(Part::Free, 0), Self::grouped(self.channels, Part::Inner)];
        input.extend(self.visited(Part::Free, Part::Inner));
        let columns = with(self.images(), &self.places);
        let a = self.matrix(Side::Right, filter, [vec![self.outputs], inner.clone()]);
        let b = self.matrix(Side::Left, input, [columns, inner]);
        let count: usize = self.places.iter().product();
        let image = self.spec.output.size(1) * count;
        self.problem([a, b], (count, with(image, &dense(&self.places))))
    }

    /// Channels by images and positions, summed over output channels and taps.
    fn vjp_input(&self) -> Problem<'a> {
        let inner = with(self.outputs, &self.taps);
        let mut filter = vec![Self::grouped(self.outputs, Part::Inner), one(Part::Free, 0)];
        filter.extend(self.spatial(Part::Inner));
        let mut output = vec![one(Part::Free, 0), Self::grouped(self.outputs, Part::Inner)];
        output.extend(self.visiting());
        let columns = with(self.images(), &self.axes);
        let a = self.matrix(Side::Right, filter, [vec![self.channels], inner.clone()]);
        let b = self.matrix(Side::Left, output, [columns, inner]);
        let count: usize = self.axes.iter().product();
        let image = self.spec.input.size(1) * count;
        self.problem([a, b], (count, with(image, &dense(&self.axes))))
    }

    /// Output channels by channels and taps, summed over images and places.
    fn vjp_filter(&self) -> Problem<'a> {
        let inner = with(self.images(), &self.places);
        let mut output = vec![one(Part::Inner, 0), Self::grouped(self.outputs, Part::Free)];
        output.extend(self.spatial(Part::Inner));
        let mut input = vec![one(Part::Inner, 0), Self::grouped(self.channels, Part::Free)];
        input.extend(self.visited(Part::Inner, Part::Free));
        let columns = with(self.channels, &self.taps);
        let a = self.matrix(Side::Right, output, [vec![self.outputs], inner.clone()]);
        let b = self.matrix(Side::Left, input, [columns.clone(), inner]);
        let count: usize = columns.iter().product();
        self.problem([a, b], (count, dense(&columns)))
    }
}

/// An operand of the primitive.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}
