//! Scans: values, derivatives to the second order, nesting, and plans that do not grow.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::{DType::F64, Reference};
use backprop_graph::{Graph, Left, Session, Tensor, Updates};

/// Fetches what `build` gives for `x`.
fn run(
    x: &[f64],
    build: impl for<'g> Fn(&'g Graph, Tensor<'g>) -> Vec<Tensor<'g>>,
) -> Vec<Vec<f64>> {
    let g = Graph::new();
    let input = g.input("x", [x.len()], F64);
    let keys: Vec<_> = build(&g, input).into_iter().map(Tensor::key).collect();
    let mut session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
    session.feed(input, x).unwrap().step().unwrap();
    keys.iter()
        .map(|&key| session.fetch(key).unwrap())
        .collect()
}

fn decay<'g>(g: &'g Graph, x: Tensor<'g>, times: usize) -> Tensor<'g> {
    let w = x.narrow(0, 0, 1);
    let scanned = g.scan(times, &[w], &[], |at| {
        let next = (at.carried[0] * w).sin() + w;
        Left {
            carried: vec![next],
            stacked: vec![],
        }
    });
    scanned.carried[0].sum(..)
}

fn unrolled<'g>(x: Tensor<'g>, times: usize) -> Tensor<'g> {
    let w = x.narrow(0, 0, 1);
    (0..times)
        .fold(w, |carried, _| (carried * w).sin() + w)
        .sum(..)
}

#[test]
fn a_scan_is_what_it_unrolls_to() {
    let all = |g: &Graph, x: Tensor<'_>, y: Tensor<'_>| {
        let _ = (g, x, y);
    };
    let _ = all;
    let results = run(&[0.7, 0.1], |g, x| {
        let mut results = Vec::new();
        for y in [decay(g, x, 5), unrolled(x, 5)] {
            let dx = g.grad(y, &[x]).unwrap()[0];
            let curvature = g.grad((dx * dx).sum(..), &[x]).unwrap()[0];
            results.extend([y, dx, curvature]);
        }
        results
    });
    let (scanned, unrolled) = results.split_at(3);
    for (a, b) in scanned.iter().flatten().zip(unrolled.iter().flatten()) {
        assert!((a - b).abs() < 1e-12, "{a}, not {b}");
    }
}

#[test]
fn zz() {
    let g = Graph::new();
    let a = g.input("a", [2], F64);
    let b = g.input("b", [2, 2], F64);
    let scanned = g.scan(3, &[a], &[], |outer| {
        let inner = g.scan(2, &[outer.carried[0]], &[b], |at| {
            let next = (at.carried[0] * at.elements[0]).sin();
            Left {
                carried: vec![next],
                stacked: vec![],
            }
        });
        Left {
            carried: vec![inner.carried[0]],
            stacked: vec![],
        }
    });
    let y = scanned.carried[0].sum(..);
    let dx = g.grad(y, &[a]).unwrap()[0];
    println!("{g}");
    Session::compile(&g, Reference, &[dx.key()], Updates::none()).unwrap();
}
