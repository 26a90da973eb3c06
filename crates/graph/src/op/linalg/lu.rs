//! Square matrices as products of triangular ones, and what follows: solutions, inverses,
//! determinants.

use std::panic::Location;

use backprop_core::{DType, Place, Shape};

use crate::axes::Keep;
use crate::composite::{Composite, Sample, Vjp};
use crate::graph::{Problem, bad_dtype};
use crate::op::catalogue::{Entry, entries, reals};
use crate::op::linalg::triangular::substitute;
use crate::op::linalg::{System, Triangle, identity, regular, square, stacked};
use crate::operand::Operand;
use crate::tensor::Tensor;

/// Square matrices `[.., n, n]`, factored: `P A = L U`, with rows exchanged so that pivots are as
/// large as can be. Everything made from it, and its derivatives of any order, share the factors.
#[derive(Clone, Copy, Debug)]
pub struct Lu<'g> {
    matrix: Tensor<'g>,
    /// `U` and, below the diagonal, `L` without its diagonal of ones.
    factors: Tensor<'g>,
    /// `[.., n, 1]`: where each row of `P A` is in `A`.
    order: Tensor<'g>,
    /// `[..]`: the determinant of `P`.
    sign: Tensor<'g>,
    /// Results have this type.
    dtype: DType,
}

impl<'g> Tensor<'g> {
    /// The triangular factors of square matrices `[.., n, n]`, by Gaussian elimination with partial
    /// pivoting. 16-bit types are computed in `f32`.
    #[track_caller]
    #[must_use]
    pub fn lu(self) -> Lu<'g> {
        self.factored("lu")
    }

    /// The `x` of `a x = b`, for this `[.., n, n]` and right sides `[.., n, m]` or `[n]`; batch axes
    /// are broadcast. A singular matrix is an error of the step. For several right sides at
    /// different times, use [`lu`](Tensor::lu).
    #[track_caller]
    #[must_use]
    pub fn solve(self, right: impl Operand<'g>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "solve");
        let right = right.on(self.graph, Some(self.dtype()), place);
        self.graph.compose(name, &[self, right], place, || {
            System::new(name, self, right)?;
            Ok(self.factored(name).solve(right))
        })
    }

    /// The inverses of square matrices `[.., n, n]`; a singular one is an error of the step. To
    /// multiply by one, [`solve`](Tensor::solve) is faster and more accurate.
    #[track_caller]
    #[must_use]
    pub fn inverse(self) -> Tensor<'g> {
        let origin = self.graph.origin_of("inverse", Location::caller());
        let build = || self.factored("inverse").inverse();
        self.graph.within(origin, build)
    }

    /// The determinants of square matrices `[.., n, n]`: 0 for singular ones, where the gradient,
    /// the transposed adjugate, is right too (but a second derivative has no correct digits).
    #[track_caller]
    #[must_use]
    pub fn det(self) -> Tensor<'g> {
        let origin = self.graph.origin_of("det", Location::caller());
        self.graph.within(origin, || self.factored("det").det())
    }

    /// The signs of the determinants of square matrices `[.., n, n]`, and the logarithms of their
    /// magnitudes: 0 and minus infinity for singular ones.
    #[track_caller]
    #[must_use]
    pub fn slogdet(self) -> (Tensor<'g>, Tensor<'g>) {
        let origin = self.graph.origin_of("slogdet", Location::caller());
        let build = || self.factored("slogdet").slogdet();
        self.graph.within(origin, build)
    }

    /// The logarithms of the determinants of square matrices `[.., n, n]`: NaN for negative ones,
    /// minus infinity for singular matrices.
    #[track_caller]
    #[must_use]
    pub fn logdet(self) -> Tensor<'g> {
        let origin = self.graph.origin_of("logdet", Location::caller());
        self.graph.within(origin, || {
            let (sign, log) = self.factored("logdet").slogdet();
            sign.lt(0.0).select(f64::NAN, log)
        })
    }

    #[track_caller]
    fn factored(self, name: &str) -> Lu<'g> {
        let origin = self.graph.origin_of(name, Location::caller());
        self.graph.within(origin, || {
            let checked = self.graph.compose(name, &[self], origin.place, || {
                square(name, self)?;
                Ok(self.widened())
            });
            let dtype = self.dtype();
            Lu::new(checked, dtype)
        })
    }
}

impl<'g> Lu<'g> {
    /// Eliminates column after column. The state is all rows not yet used, in full width.
    fn new(matrix: Tensor<'g>, dtype: DType) -> Lu<'g> {
        let (g, shape) = (matrix.graph, matrix.shape());
        let [.., n, _] = *shape.sizes() else {
            // Failed to build, and says so.
            let (factors, order, sign) = (matrix, matrix, matrix);
            return Lu {
                matrix,
                factors,
                order,
                sign,
                dtype,
            };
        };
        let row_axis = shape.rank() - 2;
        let column_of = |shape: Shape| shape.with(row_axis + 1, 1);
        let mut rows = matrix;
        let mut order = g.coordinate(column_of(shape), row_axis);
        let no_order = order;
        let (mut factors, mut taken, mut exchanges) = (Vec::new(), Vec::new(), Vec::new());
        for k in 0..n {
            let best = rows.narrow(-1, k, k + 1).abs().argmax(-2).unsqueeze(-2);
            let here = g.coordinate(column_of(rows.shape()), row_axis).eq(best);
            let pick = |x: Tensor<'g>| here.select(x, x.number(0.0)).sum(Keep(-2));
            // The first row goes where the best one was.
            let left = n - k;
            let others = |x: Tensor<'g>| here.select(x.narrow(-2, 0, 1), x).narrow(-2, 1, left);
            let row = pick(rows);
            factors.push(row);
            taken.push(pick(order));
            exchanges.push(best.ne(0.0));
            if left > 1 {
                order = others(order);
                rows = eliminate(others(rows), row, k);
            }
        }
        let exchanges = stacked(&exchanges, no_order.ne(no_order)).cast(DType::I64);
        let odd = exchanges.sum([-2, -1]) % 2.0;
        Lu {
            matrix,
            factors: stacked(&factors, matrix),
            order: stacked(&taken, no_order),
            sign: odd.cast(matrix.dtype()) * -2.0 + 1.0,
            dtype,
        }
    }

    /// The `x` of `a x = b`, for right sides `[.., n, m]` or `[n]`; batch axes are broadcast.
    #[track_caller]
    #[must_use]
    pub fn solve(self, right: impl Operand<'g>) -> Tensor<'g> {
        self.solve_by(Of::Matrix, right, Location::caller())
    }

    /// The `x` of `transposed(a) x = b`, for right sides `[.., n, m]` or `[n]`; batch axes are
    /// broadcast.
    #[track_caller]
    #[must_use]
    pub fn solve_transposed(self, right: impl Operand<'g>) -> Tensor<'g> {
        self.solve_by(Of::Transposed, right, Location::caller())
    }

    fn solve_by(self, of: Of, right: impl Operand<'g>, place: backprop_core::Place) -> Tensor<'g> {
        let (graph, matrix) = (self.matrix.graph, self.matrix);
        let right = right.on(graph, Some(self.dtype), place);
        graph.compose("solve", &[matrix, right], place, || {
            if right.dtype() != self.dtype {
                let what = format!("{} and {}", self.dtype, right.dtype());
                return Err(bad_dtype("solve", what));
            }
            let system = System::new("solve", matrix, right.cast(matrix.dtype()))?;
            let spread = Lu {
                matrix: system.spread(matrix),
                factors: system.spread(self.invertible()),
                order: system.spread(self.order),
                ..self
            };
            let x = spread.solution(of, system.right);
            Ok(system.solution(x).cast(self.dtype))
        })
    }

    /// The solution for right sides with the batch axes of the matrices.
    fn solution(self, of: Of, right: Tensor<'g>) -> Tensor<'g> {
        let inputs = [self.matrix, right, self.factors, self.order];
        self.matrix.graph.apply_one(Solve { of }, &inputs)
    }

    /// The inverses.
    #[track_caller]
    #[must_use]
    pub fn inverse(self) -> Tensor<'g> {
        self.result("inverse", Location::caller(), |lu| {
            let inputs = [lu.matrix, lu.invertible(), lu.order];
            Ok(lu.matrix.graph.apply_one(Inverse, &inputs))
        })
    }

    /// The determinants; see [`Tensor::det`].
    #[track_caller]
    #[must_use]
    pub fn det(self) -> Tensor<'g> {
        self.result("det", Location::caller(), |lu| Ok(lu.determinant()))
    }

    fn determinant(self) -> Tensor<'g> {
        let inputs = [self.matrix, self.factors, self.order, self.sign];
        self.matrix.graph.apply_one(Determinant, &inputs)
    }

    /// The signs of the determinants and the logarithms of their magnitudes; see
    /// [`Tensor::slogdet`].
    #[track_caller]
    #[must_use]
    pub fn slogdet(self) -> (Tensor<'g>, Tensor<'g>) {
        let place = Location::caller();
        let sign = self.result("slogdet", place, |lu| {
            let signs = lu.pivots().sign().prod(-1);
            Ok((lu.sign * signs).stop_gradient())
        });
        let log = self.result("slogdet", place, |lu| {
            let inputs = [lu.matrix, lu.factors, lu.order];
            Ok(lu.matrix.graph.apply_one(LogDeterminant, &inputs))
        });
        (sign, log)
    }

    /// The diagonal of `U`.
    fn pivots(self) -> Tensor<'g> {
        pivots(self.factors)
    }

    /// The factors, on condition that the matrices are not singular.
    fn invertible(self) -> Tensor<'g> {
        let regular = self.pivots().ne(0.0);
        self.factors.require(regular, "the matrix is singular")
    }

    fn result(
        self,
        name: &str,
        place: Place,
        build: impl FnOnce(Lu<'g>) -> Result<Tensor<'g>, Problem>,
    ) -> Tensor<'g> {
        let matrix = self.matrix;
        matrix
            .graph
            .compose(name, &[matrix], place, || Ok(build(self)?.cast(self.dtype)))
    }

    /// With tiny pivots in place of zeros. In the determinant times the inverse, which is the
    /// adjugate, they cancel: what stays wrong is of the order of their size (G. W. Stewart, "On the
    /// adjugate matrix", 1998).
    fn nudged(self) -> Lu<'g> {
        let tiny = match self.matrix.dtype() {
            DType::F64 => f64::EPSILON,
            _ => f64::from(f32::EPSILON),
        };
        if self.factors.shape().count() == 0 {
            return self;
        }
        let largest = self.factors.abs().max(Keep([-2, -1])) * tiny;
        let nudge = largest.gt(0.0).select(largest, tiny);
        let diagonal = identity(self.matrix.graph, self.matrix.shape(), DType::Bool);
        let zero = diagonal.logical_and(self.factors.eq(0.0));
        Lu {
            factors: zero.select(nudge, self.factors),
            ..self
        }
    }
}

/// Takes multiples of the pivot `row` from the others, so that column `k` would become 0, and keeps
/// the factors there instead.
fn eliminate<'g>(others: Tensor<'g>, row: Tensor<'g>, k: usize) -> Tensor<'g> {
    let pivot = row.narrow(-1, k, k + 1);
    // Below a pivot of 0 there are only zeros.
    let divisor = pivot.eq(0.0).select(1.0, pivot);
    let factor = others.narrow(-1, k, k + 1) / divisor;
    let column = others.graph.coordinate(others.shape(), others.rank() - 1);
    let number = |k: usize| column.number(k as f64);
    let kept = column.eq(number(k)).select(factor, others);
    column.gt(number(k)).select(others - factor * row, kept)
}

fn pivots(factors: Tensor<'_>) -> Tensor<'_> {
    factors.diagonal(0, -2, -1)
}

/// Which equation: `a x = b`, or that of the transposed matrix.
#[derive(Clone, Copy, Debug)]
enum Of {
    Matrix,
    Transposed,
}

/// From the matrix, right sides, factors and their order. Derivatives go to the matrix itself, and
/// pass by the factors.
#[derive(Debug)]
struct Solve {
    of: Of,
}

impl Composite for Solve {
    fn name(&self) -> &str {
        "solve"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let (b, factors, order) = (inputs[1], inputs[2], inputs[3]);
        vec![match self.of {
            Of::Matrix => {
                let y = substitute(factors, permuted(b, order), Triangle::UnitLower);
                substitute(factors, y, Triangle::Upper)
            }
            Of::Transposed => {
                let y = substitute(factors.t(), b, Triangle::Lower);
                let y = substitute(factors.t(), y, Triangle::UnitUpper);
                permuted(y, inverted(order))
            }
        }]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (x, g) = (cx.outputs[0], cx.cotangents[0]?);
        let (a, factors, order) = (cx.inputs[0], cx.inputs[2], cx.inputs[3]);
        let of = match self.of {
            Of::Matrix => Of::Transposed,
            Of::Transposed => Of::Matrix,
        };
        let right = a.graph.apply_one(Solve { of }, &[a, g, factors, order]);
        let left = match self.of {
            Of::Matrix => -right.matmul(x.t()),
            Of::Transposed => -x.matmul(right.t()),
        };
        Some(vec![Some(left), Some(right), None, None])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[3, 3], &[3, 2]])]
    }
}

/// Rows in the order that says where each comes from.
fn permuted<'g>(x: Tensor<'g>, order: Tensor<'g>) -> Tensor<'g> {
    x.gather(-2, order.broadcast_to(x.shape()))
}

fn inverted(order: Tensor<'_>) -> Tensor<'_> {
    let (row, n) = (order.rank() - 2, order.shape().size(order.rank() - 2));
    let wide = order.shape().with(row + 1, n);
    let at = |axis| order.graph.coordinate(wide, axis);
    let position = at(row);
    let hit = order.eq(at(row + 1));
    hit.select(position, position.number(0.0))
        .sum(-2)
        .unsqueeze(-1)
}

/// From the matrix, factors and their order.
#[derive(Debug)]
struct Inverse;

impl Composite for Inverse {
    fn name(&self) -> &str {
        "inverse"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let (a, factors, order) = (inputs[0], inputs[1], inputs[2]);
        let one = identity(a.graph, a.shape(), a.dtype());
        let solve = Solve { of: Of::Matrix };
        vec![a.graph.apply_one(solve, &[a, one, factors, order])]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (x, g) = (cx.outputs[0].t(), cx.cotangents[0]?);
        Some(vec![Some(-x.matmul(g).matmul(x)), None, None])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[3, 3]])]
    }
}

/// From the matrix, factors, their order and its sign.
#[derive(Debug)]
struct Determinant;

impl Composite for Determinant {
    fn name(&self) -> &str {
        "det"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let (factors, sign) = (inputs[1], inputs[3]);
        vec![pivots(factors).prod(-1) * sign]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (matrix, g) = (cx.inputs[0], cx.cotangents[0]?);
        let lu = Lu {
            matrix,
            factors: cx.inputs[1],
            order: cx.inputs[2],
            sign: cx.inputs[3],
            dtype: matrix.dtype(),
        };
        let nudged = lu.nudged();
        let scale = (g * nudged.determinant()).unsqueeze(-1).unsqueeze(-1);
        let one = identity(matrix.graph, matrix.shape(), matrix.dtype());
        let adjugate = nudged.solution(Of::Transposed, one * scale);
        Some(vec![Some(adjugate), None, None, None])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[3, 3]])]
    }
}

/// The logarithm of the magnitude, from the matrix, factors and their order.
#[derive(Debug)]
struct LogDeterminant;

impl Composite for LogDeterminant {
    fn name(&self) -> &str {
        "slogdet"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        vec![pivots(inputs[1]).abs().log().sum(-1)]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (a, g) = (cx.inputs[0], cx.cotangents[0]?);
        let one = identity(a.graph, a.shape(), a.dtype());
        let right = one * g.unsqueeze(-1).unsqueeze(-1);
        let of = Of::Transposed;
        let inputs = [a, right, cx.inputs[1], cx.inputs[2]];
        let inverse = a.graph.apply_one(Solve { of }, &inputs);
        Some(vec![Some(inverse), None, None])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[3, 3]])]
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let square = || reals(&[&[2, 3, 3]]);
    let system = || reals(&[&[2, 3, 3], &[3, 2]]);
    entries! {
        solve system() => |x| regular(x[0]).solve(x[1]);
        solve_vector reals(&[&[4, 4], &[4]]) => |x| regular(x[0].flip(0)).solve(x[1]);
        solve_exchanging reals(&[&[4, 4], &[4, 1]]) => |x| regular(x[0]).flip(0).solve(x[1]);
        lu system() => |x| regular(x[0]).flip(-1).lu().solve(x[1]);
        solve_transposed system() => |x| regular(x[0]).flip(-1).lu().solve_transposed(x[1]);
        inverse square() => |x| regular(x[0]).flip(0).inverse();
        det square() => |x| x[0].det();
        slogdet square() => |x| regular(x[0]).flip(0).slogdet().1;
        slogdet_sign square() => |x| x[0].slogdet().0 * x[0].sum([1, 2]);
        logdet square() => |x| regular(x[0]).logdet();
    }
}
