//! Every operation of the catalogue: gradients of two orders against differences, and hand-written
//! gradients against derived ones.
#![allow(clippy::print_stdout, reason = "says what was checked")]

use backprop_graph::{Sample, Tensor};
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
