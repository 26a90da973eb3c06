//! Every operation of the catalogue: gradients of two orders against differences, and hand-written
//! gradients against derived ones.
#![allow(clippy::print_stdout, reason = "says what was checked")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::{DType, Reference};
use backprop_graph::{Graph, Sample, Session, Tensor, Updates};
use backprop_testkit::{GradError, gradcheck, gradcheck_all};

#[test]
fn every_operation_to_the_second_order() {
    let checked = gradcheck_all();
    let mut failed = Vec::new();
    for operation in &checked {
        println!("{}: {} slopes", operation.name, operation.slopes);
        let named = |what: &String| format!("{}: {what}", operation.name);
        failed.extend(operation.failed.iter().map(named));
    }
    assert!(checked.len() > 50, "the catalogue is short");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Squares with a gradient of their own, `slope x` times the cotangent.
fn squares<'g>(x: Tensor<'g>, slope: f64) -> Tensor<'g> {
    x.square().custom_vjp(&[x], move |cx| {
        vec![cx.cotangents[0].map(|g| g * cx.inputs[0] * slope)]
    })
}

#[test]
fn a_wrong_gradient_is_found() {
    let sample = Sample::reals(&[&[2], &[3]]);
    let build = |slope: f64| gradcheck(&sample, |_, x| vec![x[0].sum(..), squares(x[1], slope)]);
    assert!(build(2.0).is_ok());
    match build(2.001) {
        Err(GradError::Differs(slope)) => assert_eq!((slope.order, slope.input), (1, 1)),
        other => assert!(other.is_err(), "{other:?}"),
    }
}

#[test]
fn a_wrong_second_derivative_is_found() {
    let sample = Sample::reals(&[&[4]]);
    let outcome = gradcheck(&sample, |_, x| {
        vec![x[0].square().custom_vjp(&[x[0]], |cx| {
            // The gradient is right, but pretends to be constant.
            let twice = cx.inputs[0].stop_gradient() * 2.0;
            vec![cx.cotangents[0].map(|g| g * twice)]
        })]
    });
    match outcome {
        Err(GradError::Differs(slope)) => assert_eq!((slope.order, slope.input), (2, 0)),
        other => assert!(other.is_err(), "{other:?}"),
    }
}

#[test]
fn a_rule_that_names_the_result_is_applied_again() {
    let g = Graph::new();
    let x = g.input("x", [1], DType::F64);
    // Squares that pretend to be their own derivative, three times.
    let y = x.square().custom_vjp(&[x], |cx| {
        vec![cx.cotangents[0].map(|g| g * cx.outputs[0] * 3.0)]
    });
    let dx = g.grad(y, &[x]).unwrap()[0];
    let curvature = g.grad(dx, &[x]).unwrap()[0];
    let keys = [dx.key(), curvature.key()];
    let mut session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
    session.feed(x, &[2.0]).unwrap().step().unwrap();
    let found = keys.map(|key| session.scalar(key).unwrap());
    assert_eq!(found, [12.0, 36.0]);
}

/// Builds a value that is fine where its derivative, but for a branch that is not taken, is not.
type Branches = for<'g> fn(Tensor<'g>) -> Tensor<'g>;

#[test]
fn branches_that_are_not_taken_make_no_nan() {
    let at = [0.0, 1.0, 4.0, -1.0];
    let rows: &[(&str, Branches, [f64; 4])] = &[
        (
            "log",
            |x| x.gt(0.0).select(x.log(), 0.0),
            [0.0, 1.0, 0.25, 0.0],
        ),
        (
            "sqrt",
            |x| x.le(0.0).select(x, x.sqrt()),
            [1.0, 0.5, 0.25, 1.0],
        ),
        (
            "chain",
            |x| x.gt(0.0).select((x.log() * 2.0).exp() / x, 7.0),
            [0.0, 1.0, 1.0, 0.0],
        ),
        (
            "twice",
            |x| {
                let log = x.log();
                x.gt(0.0).select(log * x + log, x)
            },
            [1.0, 2.0, 4f64.ln() + 1.25, 1.0],
        ),
        (
            "moved",
            |x| {
                let log = x.reshape([2, 2]).log().t();
                x.reshape([2, 2]).t().gt(0.0).select(log, 0.0)
            },
            [0.0, 1.0, 0.25, 0.0],
        ),
        (
            "nested",
            |x| {
                let roots = x.lt(2.0).select(x.sqrt(), x.log());
                x.gt(0.0).select(roots, 0.0)
            },
            [0.0, 0.5, 0.25, 0.0],
        ),
        (
            "maximum",
            |x| x.abs().log().maximum(-5.0),
            [0.0, 1.0, 0.25, -1.0],
        ),
        (
            "minimum",
            |x| x.reciprocal().abs().minimum(2.0),
            [0.0, -1.0, -0.0625, 1.0],
        ),
        ("relu", |x| x.abs().log().relu(), [0.0, 0.0, 0.25, 0.0]),
    ];
    for (name, build, expected) in rows {
        let g = Graph::new();
        let x = g.input("x", [4], DType::F64);
        let y = build(x).sum(..);
        let dx = g.grad(y, &[x]).unwrap();
        let curvature = g.grad(dx[0].sum(..), &[x]).unwrap();
        let keys = [dx[0].key(), curvature[0].key()];
        let mut session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
        session.feed(x, &at).unwrap().step().unwrap();
        let found: Vec<f64> = session.fetch(keys[0]).unwrap();
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-12,
                "{name}: {found}, not {expected}"
            );
        }
        let second: Vec<f64> = session.fetch(keys[1]).unwrap();
        assert!(second.iter().all(|x| x.is_finite()), "{name}: {second:?}");
    }
}
