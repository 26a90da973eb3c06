//! Values that break a step.

use std::panic::Location;

use backprop::prelude::*;
use backprop::{ErrorKind, Reference};

/// A step that updates `w`, which is `[3, 3]`, by `build`'s result fails as `what` on the caller's
/// line or the ones below, and leaves `w` as it is; once the input is in order, it works.
#[track_caller]
fn check_step(
    what: &str,
    [bad, good]: [[f64; 9]; 2],
    build: impl for<'g> FnOnce(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
) {
    let (file, line) = (Location::caller().file(), Location::caller().line());
    let g = Graph::new();
    let w = g.parameter("w", [3, 3], F64, Init::Constant(1.0));
    let x = g.input("x", [3, 3], F64);
    let loss = build(x, g.read(w)).sum(..);
    let grads = g.grad(loss, &[w]).unwrap();
    let updates = optim::sgd(&g, &[w], &grads, Sgd::default());
    let mut session = Session::compile(&g, Reference, &[loss.key()], updates).unwrap();
    let error = session.feed(x, &bad).unwrap().step().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Violated { .. }),
        "{error}"
    );
    assert!(error.to_string().contains(what), "{error}");
    let place = error.place().unwrap();
    assert_eq!(place.file(), file, "{error}");
    assert!(
        (line..=line + 3).contains(&place.line()),
        "line {line}: {error}"
    );
    assert_eq!(session.parameter::<f64>(w).unwrap(), [1.0; 9]);
    session.feed(x, &good).unwrap().step().unwrap();
    assert_ne!(session.parameter::<f64>(w).unwrap(), [1.0; 9]);
    assert!(session.scalar(loss).unwrap().is_finite());
}

#[test]
fn values_that_break_a_step_are_errors_that_change_nothing() {
    let eye = [1., 0., 0., 0., 1., 0., 0., 0., 1.];
    let singular = [1., 2., 3., 2., 4., 6., 0., 0., 1.];
    let negative = [-1., 0., 0., 0., 1., 0., 0., 0., 1.];
    check_step(
        "take: an index is outside of 0..3",
        [[0.5; 9], [3.0; 9]].map(|x| x.map(|x| 3.5 - x)),
        |x, w| w.take(x.cast(I64), 0),
    );
    check_step(
        "gather: an index is outside of 0..3",
        [[-1.0; 9], [2.0; 9]],
        |x, w| w.gather(1, x.cast(I32)),
    );
    check_step("the matrix is singular", [singular, eye], |x, w| x.solve(w));
    check_step("the matrix is singular", [singular, eye], |x, w| {
        x.inverse() * w
    });
    check_step(
        "the matrix is not positive definite",
        [negative, eye],
        |x, w| x.cholesky() * w,
    );
    check_step("the rows differ", [singular, [2.0; 9]], |x, w| {
        (x * w).require(x.eq(x.narrow(0, 0, 1)), "the rows differ")
    });
}
