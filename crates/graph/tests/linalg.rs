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
    close(none(&[0, 4]).trace(), &[0.]);
    let (a, b) = (none(&[0, 0]), none(&[0, 3]));
    close(g.grad(a.solve(b).sum(..), &[b]).unwrap()[0], &[]);
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
        ("trace: axis -2 is out of range", |x| x.sum(0).trace()),
        ("solve: [2, 2] with right sides [3, 2]", |x| {
            x.matmul(x.t()).solve(x.t())
        }),
        ("solve: f64 and f32", |x| {
            x.matmul(x.t()).solve(x.cast(DType::F32))
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
        let _ = build(g.input("x", [2, 3], F64));
        let error = g.check().unwrap_err();
        let text = error.kind().to_string();
        assert!(text.starts_with(expected), "{text}, not {expected}");
        assert_eq!(error.all().count(), 1, "{error}");
        assert_eq!(error.place().unwrap().file(), file!(), "{error}");
    }
}
