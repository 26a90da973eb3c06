//! Whole training steps on the reference backend.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics is a test that fails"
)]

use backprop_core::{DType::F64, Reference, Result};
use backprop_graph::{Graph, Init, Key, Param, Session, Tensor, Updates};

fn sgd(g: &Graph, parameters: &[Param], grads: &[Tensor<'_>], rate: f64) -> Updates {
    let pairs = parameters.iter().zip(grads);
    pairs.fold(Updates::none(), |updates, (&p, &d)| {
        updates.with(p, g.read(p) - d * rate)
    })
}

/// `y = x w + b` fitted to data by gradient descent.
fn regression() -> Result<(Session<Reference>, [Key; 3], [Param; 2])> {
    let g = Graph::new();
    let (x, y) = (g.input("x", [8, 2], F64), g.input("y", [8, 1], F64));
    let w = g.parameter("w", [2, 1], F64, Init::Zeros);
    let b = g.parameter("b", [1], F64, Init::Zeros);
    let loss = (x.matmul(w) + b - y).square().mean(..);
    let grads = g.grad(loss, &[w, b])?;
    let updates = sgd(&g, &[w, b], &grads, 0.1);
    let session = Session::compile(&g, Reference, &[loss.key()], updates)?;
    Ok((session, [x.key(), y.key(), loss.key()], [w, b]))
}

#[test]
fn gradient_descent_finds_the_line() {
    let (mut session, [x, y, loss], [w, b]) = regression().unwrap();
    let xs: Vec<f64> = (0..16).map(|i| f64::from(i * 7 % 11) / 5.0 - 1.0).collect();
    let ys: Vec<f64> = xs
        .chunks(2)
        .map(|x| 2.0 * x[0] - 3.0 * x[1] + 0.5)
        .collect();
    session.feed(x, &xs).unwrap().feed(y, &ys).unwrap();
    println!("{}", session.plan_text());
    println!("{}", session.summary());
    let mut losses = Vec::new();
    for _ in 0..300 {
        session.step().unwrap();
        losses.push(session.scalar(loss).unwrap());
    }
    assert!(
        losses[299] < 1e-6 * losses[0],
        "{} to {}",
        losses[0],
        losses[299]
    );
    let found = session.parameter::<f64>(w).unwrap();
    assert!(
        (found[0] - 2.0).abs() < 1e-2 && (found[1] + 3.0).abs() < 1e-2,
        "{found:?}"
    );
    assert!((session.parameter::<f64>(b).unwrap()[0] - 0.5).abs() < 1e-2);
}

#[test]
fn parameters_can_change_places() {
    let g = Graph::new();
    let a = g.parameter("a", [2], F64, Init::Constant(1.0));
    let b = g.parameter("b", [2], F64, Init::Constant(2.0));
    let both = g.read(a) + b;
    let updates = Updates::set(a, g.read(b)).with(b, g.read(a) * 10.0);
    let mut session =
        Session::compile(&g, Reference, &[both.key(), g.read(a).key()], updates).unwrap();
    session.step().unwrap();
    assert_eq!(session.parameter::<f64>(a).unwrap(), [2.0, 2.0]);
    assert_eq!(session.parameter::<f64>(b).unwrap(), [10.0, 10.0]);
    assert_eq!(session.fetch::<f64>(both).unwrap(), [3.0, 3.0]);
    assert_eq!(session.fetch::<f64>(g.read(a)).unwrap(), [1.0, 1.0]);
}

#[test]
fn second_derivatives_of_a_composition() {
    let g = Graph::new();
    let x = g.input("x", [3], F64);
    let y = (x.square() * x).sum(..);
    let d = g.grad(y, &[x]).unwrap()[0];
    let dd = g.grad(d.sum(..), &[x]).unwrap()[0];
    let keys = [y.key(), d.key(), dd.key()];
    let mut session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
    session.feed(x, &[1.0, 2.0, -3.0]).unwrap().step().unwrap();
    assert_eq!(session.scalar(y).unwrap(), 1.0 + 8.0 - 27.0);
    assert_eq!(session.fetch::<f64>(d).unwrap(), [3.0, 12.0, 27.0]);
    assert_eq!(session.fetch::<f64>(dd).unwrap(), [6.0, 12.0, -18.0]);
}
