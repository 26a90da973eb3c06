//! Bad input, one row each: the kind of error, the line it names, and that nothing is lost.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics is a test that fails"
)]

mod files;
mod networks;
mod operations;
mod regions;
mod sessions;
mod steps;
mod table;
mod windows;

use backprop::prelude::*;
use backprop::{ErrorKind, Reference};
use expect_test::expect;

/// More iterations than a counter holds: the plan, if there is memory for it, still prints.
#[test]
fn loops_of_loops_do_not_overflow() {
    let g = Graph::new();
    let x = g.input("x", [2], F32);
    let outer = g.scan(1 << 40, &[x], &[], |at| {
        let inner = g.scan(1 << 40, &at.carried, &[], |at| backprop::Left {
            carried: vec![at.carried[0].tanh()],
            stacked: vec![],
        });
        backprop::Left {
            carried: inner.carried,
            stacked: vec![],
        }
    });
    let y = outer.carried[0].key();
    let session = Session::compile(&g, Reference, &[y], Updates::none()).unwrap();
    assert_eq!(session.step_plan().bytes_moved(), usize::MAX);
    assert!(
        session.plan_text().contains("tanh"),
        "{}",
        session.plan_text()
    );
}

#[test]
fn all_errors_are_reported_at_once() {
    let g = Graph::new();
    let (x, y) = (g.input("x", [2, 3], F32), g.input("y", [4, 5], F32));
    let _ = x.matmul(y);
    let _ = (x + y).relu();
    let w = g.parameter("w", [2], F32, Init::Values(vec![1.0]));
    let error = g.grad((x * w).sum(..), &[w]).unwrap_err();
    assert_eq!(error.all().count(), 4, "{error}");
}

#[test]
fn an_error_reads_like_a_compilers() {
    let g = Graph::new();
    let x = g.input("x", [32, 64], F32).relu();
    let w = g.parameter("w2", [10, 64], F32, Init::Zeros);
    let y = g.scope("decoder", |_| x.matmul(w));
    let text = g.grad(y.sum(..), &[w]).unwrap_err().to_string();
    // Lines move when this file is edited.
    let text: Vec<String> = text
        .split_inclusive(':')
        .map(|part| part.replace(|c: char| c.is_ascii_digit() && part.len() < 6, "_"))
        .collect();
    expect![[r#"
        error: matmul: inner sizes differ, 64 and 10
          --> crates/backprop/tests/errors/main.rs:__:38 in decoder
           = left:  relu         f32[32, 64]  crates/backprop/tests/errors/main.rs:__:41
           = right: parameter w2 f32[10, 64]  crates/backprop/tests/errors/main.rs:__:15
           = help: the right side may be stored transposed: `x.matmul(w.t())`"#]]
    .assert_eq(&text.concat());
}

#[test]
fn names_are_taken_once() {
    let g = Graph::new();
    let _ = g.parameter("w", [2], F32, Init::Zeros);
    let _ = g.scope("block", |g| g.parameter("w", [2], F32, Init::Zeros));
    g.check().unwrap();
    let _ = g.parameter("w", [2], F32, Init::Zeros);
    let _ = g.input("x", [2], F32);
    let _ = g.input("x", [2], F32);
    let error = g.check().unwrap_err();
    let taken = |e: &Error| matches!(e.kind(), ErrorKind::DuplicateName { .. });
    assert_eq!(error.all().filter(|e| taken(e)).count(), 2, "{error}");
}

#[test]
fn graphs_do_not_mix() {
    let (g, other) = (Graph::new(), Graph::new());
    let (x, y) = (g.input("x", [2], F32), other.input("y", [2], F32));
    let w = other.parameter("w", [2], F32, Init::Zeros);
    let _ = x + y;
    let _ = x * w;
    let error = g.check().unwrap_err();
    assert_eq!(error.all().count(), 2, "{error}");
    assert!(
        error
            .all()
            .all(|e| matches!(e.kind(), ErrorKind::MixedGraphs { .. })),
        "{error}"
    );
    let both = error
        .notes()
        .iter()
        .filter(|note| note.place.is_some())
        .count();
    assert_eq!(both, 2, "{error}");
}

#[test]
fn gradients_that_do_not_exist() {
    let g = Graph::new();
    let x = g.input("x", [3, 4], F32);
    let (w, unused) = (
        g.parameter("w", [4], F32, Init::Ones),
        g.parameter("v", [1], F32, Init::Ones),
    );
    let scores = x * w;
    let fine = scores.sum(..);
    let kind = |outcome: Result<Vec<Tensor<'_>>>| outcome.unwrap_err();

    let error = kind(g.grad(fine, &[w, unused]));
    assert!(
        matches!(error.kind(), ErrorKind::Unreachable { name } if name == "v"),
        "{error}"
    );

    let cut = scores.argmax(1).cast(F32).sum(..);
    let error = kind(g.grad(cut, &[w]));
    assert!(
        matches!(error.kind(), ErrorKind::NotDifferentiable { .. }),
        "{error}"
    );
    assert!(error.to_string().contains(file!()), "{error}");

    let cut = scores.cast(I32).cast(F32).sum(..);
    let error = kind(g.grad(cut, &[w]));
    assert!(
        matches!(error.kind(), ErrorKind::NotDifferentiable { .. }),
        "{error}"
    );

    let cut = scores.gt(0.5).select(1.0, 0.0).sum(..);
    let error = kind(g.grad(cut, &[w]));
    assert!(
        matches!(error.kind(), ErrorKind::NotDifferentiable { .. }),
        "{error}"
    );

    let error = kind(g.grad(scores, &[w]));
    assert!(matches!(error.kind(), ErrorKind::Shape { .. }), "{error}");

    // Where a derivative jumps, its own derivative is zero and no error.
    let slope = g.grad(scores.relu().sum(..), &[scores]).unwrap()[0];
    g.grad(slope.sum(..), &[w]).unwrap();

    let stopped = scores.stop_gradient().sum(..);
    let zero = g.grad(stopped, &[w]).unwrap()[0];
    let good = g.grad(fine, &[w]).unwrap()[0];
    let keys = [zero.key(), good.key()];
    let mut session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
    session.feed(x, &[1.0f32; 12]).unwrap().step().unwrap();
    assert_eq!(session.fetch::<f32>(zero).unwrap(), [0.0; 4]);
    assert_eq!(session.fetch::<f32>(good).unwrap(), [3.0; 4]);
}

/// A session over a graph with state, and keys of all sorts.
struct Trained {
    session: Session<Reference>,
    x: Key,
    labels: Key,
    loss: Key,
    logits: Key,
    /// Built after the session was compiled.
    late: Key,
    /// Of another graph.
    foreign: Key,
    w: Param,
    mask: Param,
    /// Of another graph.
    v: Param,
}

fn trained() -> Trained {
    let g = Graph::new();
    let (x, labels) = (g.input("x", [2, 3], F32), g.input("labels", [2], I32));
    let w = g.parameter("w", [3, 4], F32, Init::Xavier);
    let mask = g.parameter("mask", [3], Bool, Init::Ones);
    let logits = x.matmul(w);
    let loss = logits.cross_entropy(labels, CrossEntropy::default());
    let grads = g.grad(loss, &[w]).unwrap();
    let updates = optim::adamw(&g, &[w], &grads, AdamW::default());
    let session = Session::compile(&g, Reference, &[loss.key()], updates).unwrap();
    let other = Graph::new();
    Trained {
        session,
        x: x.key(),
        labels: labels.key(),
        loss: loss.key(),
        logits: logits.key(),
        late: g.input("late", [], F32).key(),
        foreign: other.input("x", [6], F32).key(),
        w,
        mask,
        v: other.parameter("w", [1], F32, Init::Zeros),
    }
}

/// Rank 0 and empty axes work wherever the result is defined.
#[test]
fn degenerate_shapes_that_are_fine() {
    let g = Graph::new();
    let (s, e) = (g.input("s", [], F32), g.input("e", [2, 0], F32));
    let results = [
        (s * 2.0 + s.sum(..), vec![9.0]),
        (e.sum(1), vec![0.0, 0.0]),
        (e.sum(..), vec![0.0]),
        (e.mean(..), vec![f32::NAN]),
        (e.exp() * 2.0, vec![]),
        (e.matmul(g.full([0, 3], 1.0, F32)), vec![0.0; 6]),
        (g.concat(&[e, g.full([2, 1], 7.0, F32)], 1), vec![7.0, 7.0]),
        (s.broadcast_to([3]), vec![3.0; 3]),
        (s.reshape([1, 1]).max(0), vec![3.0]),
    ];
    let keys: Vec<Key> = results.iter().map(|(y, _)| y.key()).collect();
    let mut session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
    session
        .feed(s, &[3.0f32])
        .unwrap()
        .feed(e, &[0.0f32; 0])
        .unwrap()
        .step()
        .unwrap();
    for (y, expected) in results {
        let got: Vec<f32> = session.fetch(y).unwrap();
        let same = got.len() == expected.len()
            && got
                .iter()
                .zip(&expected)
                .all(|(a, b)| a == b || a.is_nan() && b.is_nan());
        assert!(same, "{y:?}: {got:?}, not {expected:?}");
    }
}
