//! Singular values and symmetric eigenvalues, by one-sided Jacobi rotations (Hestenes, 1958).
//!
//! Rotations turn pairs of columns until all are orthogonal to each other. Disjoint pairs turn at
//! once: in a round, columns 0 and 1, 2 and 3, .. do; then all but the first move on by one place, so
//! that everybody meets everybody in a sweep of `n - 1` rounds and ends where it began. Convergence is
//! quadratic; sweeps are as many as the worst of tried matrices need, and what has not converged is an
//! error of the step.

use std::panic::Location;

use backprop_core::{Axes, DType, Order};

use crate::axes::Keep;
use crate::composite::{Composite, Sample, Vjp};
use crate::graph::{Graph, Problem, bad_attribute, bad_dtype, bad_shape};
use crate::op::catalogue::{Entry, entries, reals};
use crate::op::linalg::{identity, square, symmetric};
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// `u [.., m, k]`, `s [.., k]` and `v [.., n, k]` of matrices `u diagonal(s) transposed(v)`
    /// `[.., m, n]`, where `k` is the smaller of `m` and `n`: columns of `u` and `v` are orthonormal,
    /// and singular values `s` descend. Where a singular value is 0, the column of `u` (or of `v`, if
    /// there are more columns than rows) is 0 too, but `u` and `v` are identities if all are. The signs of pairs of columns are free, so that only
    /// what does not depend on them has a meaningful gradient; and only of distinct singular values
    /// do the vectors have one. Meant for `k` up to about 32.
    #[track_caller]
    #[must_use]
    pub fn svd(self) -> (Tensor<'g>, Tensor<'g>, Tensor<'g>) {
        let origin = self.graph.origin_of("svd", Location::caller());
        self.graph.within(origin, || match self.wide("svd") {
            Err(problem) => {
                let failed = self.failed("svd", Some(problem));
                (failed, failed, failed)
            }
            Ok(true) => {
                let (v, s, u) = self.t().tall_svd();
                (u, s, v)
            }
            Ok(false) => self.tall_svd(),
        })
    }

    /// The singular values of matrices `[.., m, n]`, descending; see [`svd`](Tensor::svd).
    #[track_caller]
    #[must_use]
    pub fn svdvals(self) -> Tensor<'g> {
        let origin = self.graph.origin_of("svdvals", Location::caller());
        self.graph.within(origin, || self.svd().1)
    }

    /// The eigenvalues `[.., n]` of symmetric matrices `[.., n, n]`, ascending, and orthonormal
    /// eigenvectors as columns `[.., n, n]`; of a matrix that is not symmetric, the symmetric part is
    /// taken. The signs of eigenvectors are free, and they have a gradient only where eigenvalues are
    /// distinct. Meant for `n` up to about 32.
    #[track_caller]
    #[must_use]
    pub fn eigh(self) -> (Tensor<'g>, Tensor<'g>) {
        let origin = self.graph.origin_of("eigh", Location::caller());
        self.graph.within(origin, || {
            if let Err(problem) = square("eigh", self) {
                let failed = self.failed("eigh", Some(problem));
                return (failed, failed);
            }
            let outputs = self.graph.apply_composite(Eigh, &[self.widened()]);
            let result = |i: usize| outputs.get(i).map_or(self, |x| x.cast(self.dtype()));
            (result(0), result(1))
        })
    }

    /// The eigenvalues of symmetric matrices `[.., n, n]`, ascending; see [`eigh`](Tensor::eigh).
    #[track_caller]
    #[must_use]
    pub fn eigvalsh(self) -> Tensor<'g> {
        let origin = self.graph.origin_of("eigvalsh", Location::caller());
        self.graph.within(origin, || self.eigh().0)
    }

    /// The pseudoinverses `[.., n, m]` of matrices `[.., m, n]` (Moore and Penrose): singular values
    /// that are at most `tolerance` times the largest count as 0. The gradient is that of matrices of
    /// the same rank.
    #[track_caller]
    #[must_use]
    pub fn pinv(self, tolerance: f64) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "pinv");
        self.graph.compose(name, &[self], place, || {
            self.wide(name)?;
            if tolerance.is_nan() || tolerance < 0.0 {
                return Err(bad_attribute(name, format!("a tolerance of {tolerance}")));
            }
            let inverse = self
                .graph
                .apply_one(PseudoInverse { tolerance }, &[self.widened()]);
            Ok(inverse.cast(self.dtype()))
        })
    }

    /// Whether matrices have more columns than rows.
    fn wide(self, operation: &str) -> Result<bool, Problem> {
        if !self.dtype().is_float() {
            let problem = bad_dtype(operation, format!("matrices of type {}", self.dtype()));
            return Err(problem.help("convert with `.cast(F64)`"));
        }
        match self.shape().sizes() {
            [.., rows, columns] => Ok(columns > rows),
            _ => Err(bad_shape(
                operation,
                format!("{} is no matrix", self.shape()),
            )),
        }
    }

    /// Of matrices with at least as many rows as columns.
    #[track_caller]
    fn tall_svd(self) -> (Tensor<'g>, Tensor<'g>, Tensor<'g>) {
        let outputs = self.graph.apply_composite(Svd, &[self.widened()]);
        let result = |i: usize| outputs.get(i).map_or(self, |x| x.cast(self.dtype()));
        (result(0), result(1), result(2))
    }
}

/// Matrices `a v` with columns orthogonal to each other, and the orthogonal `v`.
fn orthogonalised(a: Tensor<'_>) -> (Tensor<'_>, Tensor<'_>) {
    let (rank, shape) = (a.rank(), a.shape());
    let n = shape.size(rank - 1);
    let squares = shape.with(rank - 2, n);
    if n < 2 {
        return (a, identity(a.graph, squares, a.dtype()));
    }
    // A column of zeros makes their number even. It never turns.
    let even = n + n % 2;
    let mut added = vec![0; rank];
    added[rank - 1] = even - n;
    let mut columns = a.pad(vec![0; rank], added, 0.0);
    let squares = squares.with(rank - 1, even).with(rank - 2, even);
    let mut turns = identity(a.graph, squares, a.dtype());
    let round = Round::new(a.graph, even, a.dtype());
    let sweeps = 4 + 2 * even.ilog2() as usize;
    for _ in 0..sweeps * (even - 1) {
        let turn = round.turn(columns);
        columns = columns.matmul(turn);
        turns = turns.matmul(turn);
    }
    let columns = columns.narrow(-1, 0, n);
    let turns = turns.narrow(-1, 0, n).narrow(-2, 0, n);
    (
        columns.require(
            is_orthogonal(columns),
            "the iteration did not converge; is there a NaN or an infinity?",
        ),
        turns,
    )
}

/// Whether products of different columns are small beside the largest square of one.
fn is_orthogonal(columns: Tensor<'_>) -> Tensor<'_> {
    let columns = columns.stop_gradient();
    let products = columns.t().matmul(columns);
    let diagonal = identity(columns.graph, products.shape(), DType::Bool);
    let epsilon = match columns.dtype() {
        DType::F64 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    };
    let rounding = epsilon * 64.0 * products.shape().size(products.rank() - 1) as f64;
    let limit = products.abs().max(Keep([-2, -1])) * rounding;
    products.abs().le(limit).logical_or(diagonal)
}

/// What the rounds have in common.
struct Round<'g> {
    /// `[n, n]`: moves every column but the first on by one place.
    stays: Tensor<'g>,
    /// `[n, n]`: changes the columns of a pair, one with a minus, and moves them on.
    swaps: Tensor<'g>,
}

impl<'g> Round<'g> {
    fn new(graph: &'g Graph, n: usize, dtype: DType) -> Round<'g> {
        // Places 0, 2, 4, .. and back over .., 5, 3, 1 form a ring, in which 0 stands still.
        let ring: Vec<usize> = (2..n).step_by(2).chain((1..n).step_by(2).rev()).collect();
        let mut next = vec![0; n];
        for (i, &place) in ring.iter().enumerate() {
            next[place] = ring[(i + 1) % ring.len()];
        }
        let (mut stays, mut swaps) = (vec![0.0f64; n * n], vec![0.0f64; n * n]);
        for place in 0..n {
            let (pair, sign) = match place % 2 {
                0 => (place + 1, 1.0),
                _ => (place - 1, -1.0),
            };
            stays[place * n + next[place]] = 1.0;
            swaps[place * n + next[pair]] = sign;
        }
        Round {
            stays: graph.data([n, n], &stays).cast(dtype),
            swaps: graph.data([n, n], &swaps).cast(dtype),
        }
    }

    /// The rotations that make the columns of every pair orthogonal, and move them on.
    fn turn(&self, columns: Tensor<'g>) -> Tensor<'g> {
        let side = |k: usize| {
            let (mut start, mut step) = (vec![0; columns.rank()], vec![1; columns.rank()]);
            (start[columns.rank() - 1], step[columns.rank() - 1]) = (k, 2);
            columns.slice(start, columns.shape(), step)
        };
        let (left, right) = (side(0), side(1));
        let product = (left * right).sum(-2) * 2.0;
        let difference = ((right - left) * (right + left)).sum(-2);
        // The smaller of the two angles: its tangent is at most 1.
        let squares = difference.square() + product.square();
        let none = squares.eq(0.0);
        let root = none.select(1.0, squares).sqrt();
        let sum = difference
            .lt(0.0)
            .select(difference - root, difference + root);
        let tangent = product / sum;
        let cosine = (tangent.square() + 1.0).rsqrt();
        let sine = tangent * cosine;
        let of_rows = |x: Tensor<'g>| x.repeat_interleave(2, -1).unsqueeze(-1);
        of_rows(cosine) * self.stays + of_rows(sine) * self.swaps
    }
}

/// Columns of `x` in the order that `positions` say.
fn reordered<'g>(x: Tensor<'g>, positions: Tensor<'g>) -> Tensor<'g> {
    x.gather(-1, positions.unsqueeze(-2).broadcast_to(x.shape()))
}

/// Numbers `[.., n]` as diagonals.
fn diagonal(x: Tensor<'_>) -> Tensor<'_> {
    x.diag_embed(0)
}

/// `1 / (x[j] - x[i])` in row `i` and column `j`, and 0 for equal ones.
fn gaps(x: Tensor<'_>) -> Tensor<'_> {
    let difference = x.unsqueeze(-2) - x.unsqueeze(-1);
    or_zero(difference, Tensor::reciprocal)
}

/// `function` where `x` is not 0.
fn or_zero<'g>(x: Tensor<'g>, function: impl FnOnce(Tensor<'g>) -> Tensor<'g>) -> Tensor<'g> {
    let zero = x.eq(0.0);
    zero.select(0.0, function(zero.select(1.0, x)))
}

/// The largest magnitude of each matrix, and 1 where all of it is 0.
fn magnitude(a: Tensor<'_>) -> Tensor<'_> {
    let largest = a.stop_gradient().abs().max(Keep([-2, -1]));
    largest.eq(0.0).select(1.0, largest)
}

/// Of matrices with at least as many rows as columns.
#[derive(Debug)]
struct Svd;

impl Composite for Svd {
    fn name(&self) -> &str {
        "svd"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let a = inputs[0];
        if a.shape().count() == 0 {
            let (g, n) = (a.graph, a.shape().size(a.rank() - 1));
            let square = a.shape().with(a.rank() - 2, n);
            let values = g.full(
                a.shape().without(Axes::NONE.with(a.rank() - 2)),
                0.0,
                a.dtype(),
            );
            return vec![a, values, identity(g, square, a.dtype())];
        }
        let scale = magnitude(a);
        let (columns, v) = orthogonalised(a / scale);
        let lengths = or_zero(columns.square().sum(-2), Tensor::sqrt);
        let positions = lengths.argsort(-1, Order::Descending);
        let values = lengths.gather(-1, positions);
        let wide = values.unsqueeze(-2);
        let u = reordered(columns, positions) * or_zero(wide, Tensor::reciprocal);
        let nothing = a.stop_gradient().abs().max(Keep([-2, -1])).eq(0.0);
        let u = nothing.select(identity(a.graph, a.shape(), a.dtype()), u);
        let values = values * scale.squeeze(-1);
        vec![u, values, reordered(v, positions)]
    }

    /// Townsend, "Differentiating the singular value decomposition" (2016).
    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let [u, s, v] = *cx.outputs else { return None };
        let [of_u, of_s, of_v] = *cx.cotangents else {
            return None;
        };
        let gaps = gaps(s.square());
        let turn = |x: Tensor<'g>, g: Tensor<'g>| {
            let product = x.t().matmul(g);
            gaps * (product - product.t())
        };
        let parts = [
            of_s.map(diagonal),
            of_u.map(|g| turn(u, g) * s.unsqueeze(-2)),
            of_v.map(|g| turn(v, g) * s.unsqueeze(-1)),
        ];
        let inner = parts.into_iter().flatten().reduce(|sum, part| sum + part)?;
        let mut left = u.matmul(inner);
        if let Some(g) = of_u {
            let outside = g - u.matmul(u.t().matmul(g));
            left = left + outside * or_zero(s, Tensor::reciprocal).unsqueeze(-2);
        }
        Some(vec![Some(left.matmul(v.t()))])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[4, 3]])]
    }
}

#[derive(Debug)]
struct Eigh;

impl Composite for Eigh {
    fn name(&self) -> &str {
        "eigh"
    }

    /// Shifted by a bound of all eigenvalues, no two of different sign have one magnitude.
    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let a = symmetric(inputs[0]);
        let (values, vectors) = match a.shape().count() {
            0 => (a.diagonal(0, -2, -1), a),
            _ => {
                let bound = a.stop_gradient().abs().sum(Keep(-1)).max(Keep(-2));
                let scale = bound.eq(0.0).select(1.0, bound);
                let one = identity(a.graph, a.shape(), a.dtype());
                let (_, vectors) = orthogonalised(a / scale + one);
                let values = (a.matmul(vectors) * vectors).sum(-2);
                (values, vectors)
            }
        };
        let positions = values.argsort(-1, Order::Ascending);
        vec![values.gather(-1, positions), reordered(vectors, positions)]
    }

    /// Giles (2008), section 3.1.
    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let [values, vectors] = *cx.outputs else {
            return None;
        };
        let [of_values, of_vectors] = *cx.cotangents else {
            return None;
        };
        let turn = |g: Tensor<'g>| gaps(values) * vectors.t().matmul(g);
        let parts = [of_values.map(diagonal), of_vectors.map(turn)];
        let inner = parts.into_iter().flatten().reduce(|sum, part| sum + part)?;
        let product = vectors.matmul(inner).matmul(vectors.t());
        Some(vec![Some(symmetric(product))])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[3, 3]])]
    }
}

#[derive(Debug)]
struct PseudoInverse {
    tolerance: f64,
}

impl Composite for PseudoInverse {
    fn name(&self) -> &str {
        "pinv"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let a = inputs[0];
        if a.shape().count() == 0 {
            return vec![a.t()];
        }
        let (u, s, v) = a.svd();
        let kept = s.gt(s.narrow(-1, 0, 1) * self.tolerance);
        let inverse = kept.select(1.0, s.number(0.0)) * or_zero(s, Tensor::reciprocal);
        vec![(v * inverse.unsqueeze(-2)).matmul(u.t())]
    }

    /// Golub and Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares
    /// problems whose variables separate" (1973), equation 4.12.
    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (a, p, g) = (cx.inputs[0], cx.outputs[0], cx.cotangents[0]?);
        let inner = p.t().matmul(g).matmul(p.t());
        let rows = g.t().matmul(p).matmul(p.t());
        let columns = p.t().matmul(p).matmul(g.t());
        let outside_rows = rows - a.matmul(p.matmul(rows));
        let outside_columns = columns - columns.matmul(p).matmul(a);
        Some(vec![Some(outside_rows + outside_columns - inner)])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[3, 2]])]
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let tall = || reals(&[&[2, 4, 3]]);
    let wide = || reals(&[&[2, 3]]);
    let square = || reals(&[&[2, 3, 3]]);
    entries! {
        svd tall() => |x| {
            let (u, s, v) = x[0].svd();
            (u * s.square().unsqueeze(-2)).matmul(v.t())
        };
        svd_wide wide() => |x| {
            let (u, _, v) = x[0].svd();
            u.matmul(v.t())
        };
        svdvals tall() => |x| x[0].svdvals();
        eigh square() => |x| {
            let (values, vectors) = x[0].eigh();
            (vectors * values.exp().unsqueeze(-2)).matmul(vectors.t())
        };
        eigvalsh square() => |x| x[0].eigvalsh();
        pinv tall() => |x| x[0].pinv(1e-12);
        pinv_wide wide() => |x| x[0].pinv(1e-12);
        pinv_of_product reals(&[&[4, 2], &[2, 3]]) => |x| x[0].matmul(x[1]).pinv(1e-12);
    }
}
