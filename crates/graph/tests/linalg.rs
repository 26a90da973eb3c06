//! Linear algebra: edges that can be worked out by hand, identities, sizes of graphs, and what is
//! refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::{DType, Reference};
use backprop_graph::optim::{self, Rate, Sgd};
use backprop_graph::{Graph, Init, Session, Tensor, Triangle, Updates};

const F64: DType = DType::F64;

fn values(fetched: Tensor<'_>) -> Vec<f64> {
    let key = fetched.key();
    let mut session =
        Session::compile(fetched.graph(), Reference, &[key], Updates::none()).unwrap();
    session.step().unwrap();
    session.fetch::<f64>(key).unwrap()
}

#[track_caller]
fn close(got: Tensor<'_>, expected: &[f64]) {
    let got = values(got);
    assert_eq!(got.len(), expected.len(), "{got:?}");
    for (a, b) in got.iter().zip(expected) {
        let same = a == b || (a - b).abs() <= 1e-12 * b.abs().max(1.0);
        assert!(same, "{got:?}, not {expected:?}");
    }
}

/// Two matrices of four rows whose elimination exchanges rows, and is well-conditioned.
fn pair(g: &Graph) -> Tensor<'_> {
    let numbers: Vec<f64> = (0..32).map(|i| f64::from((i * 7 + i * i) % 11)).collect();
    let exchanged = g.coordinate([2, 4, 4], 2) + g.coordinate([2, 4, 4], 1);
    g.data([2, 4, 4], &numbers) + exchanged.eq(3).select(30.0, g.full([2, 4, 4], 0.0, F64))
}

fn identity(g: &Graph) -> Vec<f64> {
    let at = |axis| g.coordinate([2, 4, 4], axis);
    values(at(1).eq(at(2)).cast(F64))
}

#[test]
fn solutions_solve() {
    let g = Graph::new();
    let a = pair(&g);
    let b = g.data([4], &[1., -2., 3., 5.]);
    let twice = [1., -2., 3., 5., 1., -2., 3., 5.];
    close(a.matmul(a.solve(b).unsqueeze(-1)), &twice);
    close(
        a.t().matmul(a.lu().solve_transposed(b).unsqueeze(-1)),
        &twice,
    );
    close(a.inverse().matmul(a), &identity(&g));
    close(a.matrix_power(-2).matmul(a.matmul(a)), &identity(&g));
    close(a.det(), &values(a.t().det()));
    let (sign, log) = a.slogdet();
    close(sign * log.exp() / a.det(), &[1., 1.]);
    let positive = a.matmul(a.t());
    let factor = positive.cholesky();
    close(factor.matmul(factor.t()) - positive, &[0.; 32]);
    close(factor.triu(1), &[0.; 32]);
    let lower = a.flip(1).tril(0);
    let right = lower.solve_triangular(a, Triangle::Lower);
    close(lower.matmul(right) - a, &[0.; 32]);
}

/// Sources: an integer matrix and its adjugate, by cofactors.
#[test]
fn determinants_of_singular_matrices() {
    let cases: [(&[f64], &[f64]); 5] = [
        (&[0.], &[1.]),
        (&[1., 2., 2., 4.], &[4., -2., -2., 1.]),
        (&[0., 1., 0., 1.], &[1., -1., 0., 0.]),
        (&[0.; 4], &[0.; 4]),
        (
            &[1., 2., 3., 4., 5., 6., 7., 8., 9.],
            &[-3., 6., -3., 6., -12., 6., -3., 6., -3.],
        ),
    ];
    for (matrix, adjugate) in cases {
        let g = Graph::new();
        let n = matrix.len().isqrt();
        let a = g.data([n, n], matrix);
        close(a.det(), &[0.]);
        close(g.grad(a.det(), &[a]).unwrap()[0].t(), adjugate);
    }
    let g = Graph::new();
    let (sign, log) = g.data([2, 2], &[1., 2., 2., 4.]).slogdet();
    close(sign, &[0.]);
    close(log, &[f64::NEG_INFINITY]);
    assert!(values(g.data([1, 1], &[-1.0]).logdet())[0].is_nan());
}

#[test]
fn nothing_at_all() {
    let g = Graph::new();
    let none = |shape: &[usize]| g.full(shape, 0.0, F64);
    close(none(&[2, 0, 0]).det(), &[1., 1.]);
    close(none(&[2, 0, 0]).slogdet().1, &[0., 0.]);
    close(none(&[0, 3, 3]).det(), &[]);
    close(none(&[0, 0]).inverse(), &[]);
    close(none(&[0, 0]).cholesky(), &[]);
    close(none(&[0, 3, 3]).cholesky(), &[]);
    close(none(&[0, 0]).solve(none(&[0, 3])), &[]);
    close(none(&[0, 2, 2]).solve(none(&[2])), &[]);
    close(none(&[0, 0]).matrix_power(0), &[]);
    close(none(&[0, 0]).matrix_exp(), &[]);
    close(none(&[0, 0]).eigvalsh(), &[]);
    close(none(&[0, 3, 3]).eigvalsh(), &[]);
    close(none(&[2, 0, 3]).svdvals(), &[]);
    close(none(&[2, 0]).pinv(0.0), &[]);
    close(none(&[0, 4]).trace(), &[0.]);
    let (a, b) = (none(&[0, 0]), none(&[0, 3]));
    close(g.grad(a.solve(b).sum(..), &[b]).unwrap()[0], &[]);
    close(g.grad(a.det(), &[a]).unwrap()[0], &[]);
    close(g.grad(a.matrix_exp().sum(..), &[a]).unwrap()[0], &[]);
    close(g.grad(a.eigvalsh().sum(..), &[a]).unwrap()[0], &[]);
    close(g.grad(b.svdvals().sum(..), &[b]).unwrap()[0], &[]);
    close(g.grad(b.pinv(0.0).sum(..), &[b]).unwrap()[0], &[]);
}

#[test]
fn values_and_vectors() {
    for (m, n) in [(7, 7), (9, 4), (3, 8), (5, 1)] {
        let g = Graph::new();
        let count = 2 * m * n;
        let numbers: Vec<f64> = (0..count)
            .map(|i| ((i * i + 3 * i) % 17) as f64 - 8.0)
            .collect();
        let a = g.data([2, m, n], &numbers);
        let (u, s, v) = a.svd();
        let zeros = vec![0.; count];
        close((u * s.unsqueeze(-2)).matmul(v.t()) - a, &zeros);
        let k = m.min(n);
        let one = g.coordinate([2, k, k], 1).eq(g.coordinate([2, k, k], 2));
        for x in [u, v] {
            close(x.t().matmul(x) - one.cast(F64), &vec![0.; 2 * k * k]);
        }
        let p = a.pinv(1e-12);
        close(a.matmul(p).matmul(a) - a, &zeros);
        let square = a.matmul(a.t()) - a.matmul(a.t()).trace().mean(..) * 0.1;
        let (values, vectors) = square.eigh();
        let residual = square.matmul(vectors) - vectors * values.unsqueeze(-2);
        close(residual / 100.0, &vec![0.; 2 * m * m]);
        close(values.sum(-1) / square.trace(), &[1., 1.]);
    }
}

/// Most eigenvalues are equal to rounding: rotations take long to settle.
#[test]
fn hilbert_matrix() {
    let g = Graph::new();
    let n = 16;
    let numbers: Vec<f64> = (0..n * n)
        .map(|i| 1.0 / (i / n + i % n + 1) as f64)
        .collect();
    let a = g.data([n, n], &numbers);
    let (values, vectors) = a.eigh();
    let residual = a.matmul(vectors) - vectors * values.unsqueeze(-2);
    close(residual * 20.0, &vec![0.; n * n]);
}

/// Rank 1, equal and opposite eigenvalues, and nothing but zeros.
#[test]
fn special_spectra() {
    let g = Graph::new();
    close(g.data([2, 2], &[1., 2., 2., 4.]).svdvals(), &[5., 0.]);
    close(g.data([2, 2], &[0., 1., 1., 0.]).eigvalsh(), &[-1., 1.]);
    close(
        g.data([3, 3], &[2., 0., 0., 0., 2., 0., 0., 0., 2.])
            .eigvalsh(),
        &[2.; 3],
    );
    close(g.full([3, 3], 0.0, F64).eigvalsh(), &[0.; 3]);
    close(g.full([2, 3], 0.0, F64).svdvals(), &[0.; 2]);
    close(g.full([2, 3], 0.0, F64).pinv(0.0), &[0.; 6]);
    close(
        g.data([2, 2], &[1., 2., 2., 4.]).pinv(1e-12),
        &[0.04, 0.08, 0.08, 0.16],
    );
    let zeros = g.full([2, 2], 0.0, F64);
    let slope = g.grad(zeros.svdvals().sum(..), &[zeros]).unwrap()[0];
    close(slope, &[1., 0., 0., 1.]);
}

#[test]
fn exponentials() {
    let g = Graph::new();
    let nilpotent = g.data([3, 3], &[0., 2., 3., 0., 0., 4., 0., 0., 0.]);
    close(
        nilpotent.matrix_exp(),
        &[1., 2., 7., 0., 1., 4., 0., 0., 1.],
    );
    let turn = g.data([2, 2], &[0., -300.0, 300.0, 0.]).matrix_exp();
    let (sin, cos) = 300f64.sin_cos();
    close(turn, &[cos, -sin, sin, cos]);
    close(g.data([1, 1], &[-5000.0]).matrix_exp(), &[0.]);
    close(g.data([1, 1], &[1.0]).matrix_exp(), &[std::f64::consts::E]);
}

/// Computed in 32 bits and rounded once.
#[test]
fn sixteen_bits() {
    for dtype in [DType::F16, DType::BF16] {
        let g = Graph::new();
        let a = g.data([2, 2], &[0.0, 2.0, 4.0, 1.0]).cast(dtype);
        let b = g.data([2], &[2.0, 9.0]).cast(dtype);
        let positive = g.data([2, 2], &[4.0, 2.0, 2.0, 5.0]).cast(dtype);
        let cases: [(Tensor<'_>, &[f64]); 7] = [
            (a.solve(b), &[2.0, 1.0]),
            (a.lu().solve_transposed(b), &[4.25, 0.5]),
            (a.det(), &[-8.0]),
            (a.matrix_power(-1).matmul(a), &[1.0, 0.0, 0.0, 1.0]),
            (a.solve_triangular(b, Triangle::UnitLower), &[2.0, 1.0]),
            (positive.cholesky(), &[2.0, 0.0, 1.0, 2.0]),
            (g.full([2, 3], 0.0, dtype).svdvals(), &[0.0, 0.0]),
        ];
        for (got, expected) in cases {
            assert_eq!(got.dtype(), dtype);
            close(got.cast(F64), expected);
        }
    }
}

/// The step says so, and parameters keep their values.
#[test]
fn matrices_that_cannot_be_factored() {
    type Build = for<'g> fn(Tensor<'g>) -> Tensor<'g>;
    let cases: &[(&str, Build)] = &[
        ("the matrix is singular", |x| x.solve(x.sum(0))),
        ("the matrix is singular", |x| x.inverse()),
        ("the matrix is singular", |x| x.matrix_power(-1)),
        ("the matrix is singular", |x| {
            (x - x).solve_triangular(x, Triangle::Lower)
        }),
        ("the matrix is not positive definite", |x| x.cholesky()),
        ("the matrix is too large", |x| (x * 1e5).matrix_exp()),
        ("the iteration did not converge", |x| (x / 0.0).svdvals()),
        ("the matrix is not positive definite", |x| (-x).cholesky()),
    ];
    for (expected, build) in cases {
        let g = Graph::new();
        let w = g.parameter("w", [2, 2], F64, Init::Values(vec![1., 2., 2., 4.]));
        let loss = build(g.read(w)).sum(..);
        let gradients = g.grad(loss, &[w]).unwrap();
        let sgd = Sgd {
            lr: Rate::constant(0.1),
            ..Sgd::default()
        };
        let updates = optim::sgd(&g, &[w], &gradients, sgd);
        let mut session = Session::compile(&g, Reference, &[], updates).unwrap();
        let error = session.step().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.place().unwrap().file(), file!(), "{error}");
        assert_eq!(session.parameter::<f64>(w).unwrap(), [1., 2., 2., 4.]);
    }
}

/// A fixed number of nodes for every column.
#[test]
fn graphs_grow_with_the_columns() {
    let nodes = |n: usize| {
        let g = Graph::new();
        let a = g.input("a", [3, n, n], F64);
        let x = a.solve(a).sum(..) + a.det().sum(..) + a.cholesky().sum(..);
        g.grad(x, &[a]).unwrap();
        g.len()
    };
    let (small, middle, large) = (nodes(8), nodes(16), nodes(32));
    assert!(
        large - middle <= 2 * (middle - small) + 16,
        "{small} {middle} {large}"
    );
    assert!(large < 200 * 32, "{large}");
}

#[test]
fn refusals() {
    type Build = for<'g> fn(Tensor<'g>) -> Tensor<'g>;
    let cases: &[(&str, Build)] = &[
        ("solve: [2, 3] is not square", |x| x.solve(x)),
        ("lu: [2, 3] is not square", |x| x.lu().solve(x)),
        ("inverse: [2, 3] is not square", |x| x.inverse()),
        ("det: [2, 3] is not square", |x| x.det()),
        ("slogdet: [2, 3] is not square", |x| x.slogdet().1),
        ("logdet: [3] is not square", |x| x.sum(0).logdet()),
        ("cholesky: [2, 3] is not square", |x| x.cholesky()),
        ("matrix_power: [2, 3] is not square", |x| x.matrix_power(2)),
        ("inverse: matrices of type i64", |x| x.argmax(0).inverse()),
        ("matrix_exp: [2, 3] is not square", |x| x.matrix_exp()),
        ("eigh: [2, 3] is not square", |x| x.eigvalsh()),
        ("svd: [3] is no matrix", |x| x.sum(0).svdvals()),
        ("pinv: a tolerance of -1", |x| x.pinv(-1.0)),
        ("cross: [2, 3] and [2, 3] along axis 0", |x| x.cross(x, 0)),
        ("trace: axis -2 is out of range", |x| x.sum(0).trace()),
        ("solve: [2, 2] with right sides [3, 2]", |x| {
            x.matmul(x.t()).solve(x.t())
        }),
        ("solve: f64 and f32", |x| {
            x.matmul(x.t()).solve(x.cast(DType::F32))
        }),
        ("solve: f64 and f32", |x| {
            x.matmul(x.t()).lu().solve(x.cast(DType::F32))
        }),
        ("solve_triangular: [2, 3] is not square", |x| {
            x.solve_triangular(x, Triangle::Upper)
        }),
        ("solve: [4, 2, 2] with right sides [3, 2, 1]", |x| {
            let a = x.matmul(x.t()).broadcast_to([4, 2, 2]);
            a.lu().solve(x.t().unsqueeze(-1))
        }),
    ];
    for (expected, build) in cases {
        let g = Graph::new();
        // What follows is silent.
        let failed = build(g.input("x", [2, 3], F64));
        let _ = failed.solve(failed) + failed.det() + failed.svdvals() + failed.eigvalsh();
        let _ =
            failed.pinv(0.0) + failed.cholesky() + failed.matrix_exp() + failed.cross(failed, 0);
        let _ =
            failed.lu().inverse() + failed.matrix_power(-1) + failed.slogdet().1 + failed.trace();
        let _ = failed.solve_triangular(failed, Triangle::Lower);
        let error = g.check().unwrap_err();
        let text = error.kind().to_string();
        assert!(text.starts_with(expected), "{text}, not {expected}");
        assert_eq!(error.all().count(), 1, "{error}");
        assert_eq!(error.place().unwrap().file(), file!(), "{error}");
    }
}
