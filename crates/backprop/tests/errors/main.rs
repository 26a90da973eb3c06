//! Bad input, one row each: the kind of error, the line it names, and that nothing is lost.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics is a test that fails"
)]

mod build;
mod steps;

use backprop::prelude::*;
use backprop::{ErrorKind, Reference};
use expect_test::expect;

type Kind = fn(&ErrorKind) -> bool;

macro_rules! kind {
    ($pattern:pat) => {
        |kind| matches!(kind, $pattern)
    };
}
use kind;

#[test]
fn sizes_beyond_the_machine_are_refused() {
    let g = Graph::new();
    let _ = g.input("x", [usize::MAX, 2], F32);
    let _ = g.input("y", [1; 9], F32);
    let huge = g.input("z", [1 << 40, 1], F32);
    let _ = huge.broadcast_to([1 << 40, 1 << 40]);
    let error = g.check().unwrap_err();
    assert_eq!(error.all().count(), 3, "{error}");
    assert!(
        error
            .all()
            .all(|e| matches!(e.kind(), ErrorKind::Shape { .. })),
        "{error}"
    );
}

#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let g = Graph::new();
    let w = g.parameter("w", [4], F32, Init::Zeros);
    let y = g.read(w).reshape([4, 1]).broadcast_to([4, 1 << 58]);
    let outcome = Session::compile(&g, Reference, &[y.key()], Updates::none());
    let error = outcome.map(|_| ()).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::OutOfMemory { .. }),
        "{error}"
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

struct Trained {
    session: Session<Reference>,
    x: Key,
    labels: Key,
    loss: Key,
    logits: Key,
    w: Param,
}

fn trained() -> Trained {
    let g = Graph::new();
    let (x, labels) = (g.input("x", [2, 3], F32), g.input("labels", [2], I32));
    let w = g.parameter("w", [3, 4], F32, Init::Xavier);
    let logits = x.matmul(w);
    let loss = logits.cross_entropy(labels, CrossEntropy::default());
    let grads = g.grad(loss, &[w]).unwrap();
    let updates = optim::sgd(&g, &[w], &grads, Sgd::default());
    let (x, labels, loss, logits) = (x.key(), labels.key(), loss.key(), logits.key());
    let session = Session::compile(&g, Reference, &[loss], updates).unwrap();
    Trained {
        session,
        x,
        labels,
        loss,
        logits,
        w,
    }
}

#[test]
fn a_session_survives_bad_requests() {
    let Trained {
        mut session,
        x,
        labels,
        loss,
        logits,
        w,
    } = trained();
    let before: Vec<f32> = session.parameter(w).unwrap();
    let is = |outcome: Result<()>, expected: Kind| {
        let error = outcome.unwrap_err();
        assert!(expected(error.kind()), "{error}");
        assert!(error.to_string().contains(file!()), "{error}");
    };
    is(session.step(), kind!(ErrorKind::NotFed { .. }));
    is(
        session.feed(x, &[0.0f32; 5]).map(|_| ()),
        kind!(ErrorKind::Mismatch { .. }),
    );
    is(
        session.feed(x, &[0.0f64; 6]).map(|_| ()),
        kind!(ErrorKind::Mismatch { .. }),
    );
    is(
        session.feed(loss, &[0.0f32]).map(|_| ()),
        kind!(ErrorKind::Unknown { .. }),
    );
    session.feed(x, &[0.5f32; 6]).unwrap();
    is(session.step(), kind!(ErrorKind::NotFed { .. }));
    is(
        session.feed(labels, &[0i32, 4]).map(|_| ()),
        kind!(ErrorKind::OutOfRange { .. }),
    );
    is(
        session.feed(labels, &[-1i32, 0]).map(|_| ()),
        kind!(ErrorKind::OutOfRange { .. }),
    );
    is(session.step(), kind!(ErrorKind::NotFed { .. }));
    is(
        session.scalar(loss).map(|_| ()),
        kind!(ErrorKind::Unknown { .. }),
    );
    is(
        session.fetch::<f32>(logits).map(|_| ()),
        kind!(ErrorKind::Unknown { .. }),
    );
    is(
        session.set_parameter(w, &[0.0f32; 3]),
        kind!(ErrorKind::Mismatch { .. }),
    );
    is(
        session.set_parameter(w, &[0.0f64; 12]),
        kind!(ErrorKind::Mismatch { .. }),
    );
    is(
        session.parameter::<i32>(w).map(|_| ()),
        kind!(ErrorKind::Mismatch { .. }),
    );
    let other = Graph::new();
    let (foreign, v) = (
        other.input("x", [6], F32),
        other.parameter("w", [1], F32, Init::Zeros),
    );
    is(
        session.feed(foreign, &[0.0f32; 6]).map(|_| ()),
        kind!(ErrorKind::MixedGraphs { .. }),
    );
    is(
        session.parameter::<f32>(v).map(|_| ()),
        kind!(ErrorKind::MixedGraphs { .. }),
    );
    is(
        session.plan(&[foreign.key()], Updates::none()).map(|_| ()),
        kind!(ErrorKind::MixedGraphs { .. }),
    );
    assert_eq!(session.parameter::<f32>(w).unwrap(), before);
    session.feed(labels, &[0i32, 3]).unwrap().step().unwrap();
    is(
        session.fetch::<f64>(loss).map(|_| ()),
        kind!(ErrorKind::Mismatch { .. }),
    );
    assert!(session.scalar(loss).unwrap().is_finite());
    assert_ne!(session.parameter::<f32>(w).unwrap(), before);
}

#[test]
fn updates_are_checked_when_compiled() {
    let g = Graph::new();
    let w = g.parameter("w", [3], F32, Init::Ones);
    let v = g.parameter("v", [3], F32, Init::Ones);
    let compile = |updates: Updates| Session::compile(&g, Reference, &[], updates).map(|_| ());
    let value = g.read(w) * 2.0;
    let cases: [(Updates, Kind); 5] = [
        (
            Updates::set(w, value.sum(..)),
            kind!(ErrorKind::Mismatch { .. }),
        ),
        (
            Updates::set(w, value.cast(F64)),
            kind!(ErrorKind::Mismatch { .. }),
        ),
        (
            Updates::set(w, value).with(w, value),
            kind!(ErrorKind::Unknown { .. }),
        ),
        (
            optim::sgd(&g, &[w, v], &[value], Sgd::default()),
            kind!(ErrorKind::Attribute { .. }),
        ),
        (
            optim::adamw(&g, &[w], &[value.sum(..)], AdamW::default()),
            kind!(_),
        ),
    ];
    for (updates, expected) in cases {
        let error = compile(updates).unwrap_err();
        assert!(expected(error.kind()), "{error}");
    }
    compile(Updates::set(w, value)).unwrap();
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
