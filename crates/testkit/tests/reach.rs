//! Gradients are never silently cut: every operation's vjp reaches each of its real operands, or asking
//! for it is an error; and mistakes that vjps are known to have are found.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use backprop_core::{DType, ErrorKind};
use backprop_graph::{Entry, Graph, Keep, PerAxis, Pool, Resample, Sample, Tensor, Vjp, catalogue};
use backprop_testkit::{GradCheck, GradError, gradcheck};
use expect_test::expect;

/// The real operands of an operation that no sample's gradient reaches with a number other than 0,
/// though asking for it is no error.
fn unreached(entry: &Entry) -> Vec<String> {
    let check = GradCheck {
        order: 1,
        ..GradCheck::default()
    };
    let (mut asked, mut reached) = (BTreeSet::new(), BTreeSet::new());
    for sample in &entry.samples {
        let inputs = sample.inputs.iter().enumerate();
        asked.extend(
            inputs
                .filter(|(_, input)| input.0.is_float())
                .map(|(k, _)| k),
        );
        match check.check(sample, |_, x| vec![(entry.build)(x)]) {
            Ok(slopes) => {
                let moved = slopes.iter().filter(|slope| slope.gradient.abs() > 1e-9);
                reached.extend(moved.map(|slope| slope.input));
            }
            Err(GradError::Nothing) => {}
            Err(GradError::Failed(error)) if is_refused(error.kind()) => reached.extend(&asked),
            Err(error) => return vec![format!("{}: {error}", entry.name)],
        }
    }
    let missing = asked.difference(&reached);
    missing
        .map(|k| format!("{}: operand {k}", entry.name))
        .collect()
}

fn is_refused(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotDifferentiable { .. } | ErrorKind::Unreachable { .. }
    )
}

#[test]
fn every_gradient_reaches_every_operand_or_is_an_error() {
    let missing: Vec<String> = catalogue().iter().flat_map(unreached).collect();
    // What follows is constant between jumps, or says that it cuts.
    expect![[r#"
        copysign: operand 1
        div_floor: operand 1
        margin_ranking_loss: operand 2"#]]
    .assert_eq(&missing.join("\n"));
}

#[test]
fn truth_values_and_positions_have_no_gradient() {
    type Row = (&'static str, for<'g> fn(Tensor<'g>) -> Tensor<'g>);
    let rows: &[Row] = &[
        ("eq", |x| x.eq(0.5)),
        ("ne", |x| x.ne(0.5)),
        ("lt", |x| x.lt(0.5)),
        ("le", |x| x.le(0.5)),
        ("gt", |x| x.gt(0.5)),
        ("ge", |x| x.ge(0.5)),
        ("is_nan", |x| x.is_nan()),
        ("is_inf", |x| x.is_inf()),
        ("is_finite", |x| x.is_finite()),
        ("logical", |x| {
            x.lt(0.5)
                .logical_and(x.gt(0.0))
                .logical_or(x.eq(2.0))
                .logical_not()
        }),
        ("argmax", |x| x.argmax(0)),
        ("argmin", |x| x.argmin(0)),
        ("argsort", |x| x.sort(0, backprop_core::Order::Ascending).1),
        ("integer", |x| x.cast(DType::I64)),
    ];
    for (name, build) in rows {
        let g = Graph::new();
        let x = g.input("x", [3], DType::F64);
        let y = build(x).cast(DType::F64).sum(..);
        let error = g.grad(y, &[x]).map(|_| ()).unwrap_err();
        assert!(is_refused(error.kind()), "{name}: {error}");
        // Nor beside a way that has one is it counted: the gradient is that of the other way.
        assert!(g.grad(y + x.sum(..), &[x]).is_ok(), "{name}");
    }
    let g = Graph::new();
    let (x, other) = (
        g.input("x", [3], DType::F64),
        g.input("other", [3], DType::F64),
    );
    let error = g.grad(x.sum(..), &[other]).map(|_| ()).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Unreachable { .. }),
        "{error}"
    );
}

/// An operation, and a gradient of it with a mistake.
struct Mistake {
    name: &'static str,
    sample: Sample,
    right: for<'g> fn(Tensor<'g>) -> Tensor<'g>,
    wrong: for<'g, 'a, 'b> fn(&'a Vjp<'g, 'b>) -> Option<Tensor<'g>>,
}

fn pooled(x: Tensor<'_>) -> Tensor<'_> {
    let windows = Pool {
        size: PerAxis::from(2),
        stride: Some(1.into()),
        ..Pool::default()
    };
    x.max_pool(windows)
}

fn enlarged(x: Tensor<'_>) -> Tensor<'_> {
    x.interpolate([4, 4], Resample::Nearest)
}

/// The gradient as it should be.
fn derived<'g>(cx: &Vjp<'g, '_>, build: fn(Tensor<'g>) -> Tensor<'g>) -> Option<Tensor<'g>> {
    let (x, g) = (cx.inputs[0], cx.cotangents[0]?);
    x.graph().vjp(&[(build(x), g)], &[x]).ok()?.first().copied()
}

fn mistakes() -> Vec<Mistake> {
    vec![
        Mistake {
            name: "a layer norm that takes mean and variance for constants",
            sample: Sample::reals(&[&[3, 5]]),
            right: |x| x.layer_norm(-1, 1e-5),
            wrong: |cx| {
                let deviation = (cx.inputs[0].var(Keep(-1)) + 1e-5).sqrt();
                Some(cx.cotangents[0]? / deviation)
            },
        },
        Mistake {
            name: "a softmax that forgets that its sum moves",
            sample: Sample::reals(&[&[3, 5]]),
            right: |x| x.softmax(-1),
            wrong: |cx| Some(cx.cotangents[0]? * cx.outputs[0]),
        },
        Mistake {
            name: "a max pool that is off by one in the window",
            sample: Sample::reals(&[&[1, 2, 5, 5]]),
            right: pooled,
            wrong: |cx| Some(derived(cx, pooled)?.roll(1, -1)),
        },
        Mistake {
            name: "an upsampling whose points overwrite each other",
            sample: Sample::reals(&[&[1, 1, 2, 2]]),
            right: enlarged,
            wrong: |cx| {
                let last = cx.cotangents[0]?.slice([0, 0, 1, 1], [1, 1, 4, 4], [1, 1, 2, 2]);
                Some(last)
            },
        },
    ]
}

#[test]
fn mistakes_that_are_known_elsewhere_are_found() {
    for Mistake {
        name,
        sample,
        right,
        wrong,
    } in mistakes()
    {
        let slopes = gradcheck(&sample, |_, x| vec![right(x[0])]).unwrap();
        assert!(
            slopes.iter().any(|slope| slope.gradient.abs() > 1e-6),
            "{name}"
        );
        let outcome = gradcheck(&sample, |_, x| {
            vec![right(x[0]).custom_vjp(&[x[0]], move |cx| vec![wrong(cx)])]
        });
        match outcome {
            Err(GradError::Differs(slope)) => assert_eq!(slope.order, 1, "{name}"),
            other => assert!(
                matches!(other, Err(GradError::Differs(_))),
                "{name}: {other:?}"
            ),
        }
    }
}

#[test]
fn a_rule_that_leaves_out_an_operand_is_an_error() {
    let g = Graph::new();
    let (x, w) = (
        g.input("x", [3, 4], DType::F64),
        g.input("w", [4], DType::F64),
    );
    // A fused layer norm that forgets its weight.
    let y = (x.layer_norm(-1, 1e-5) * w).custom_vjp(&[x, w], |cx| vec![cx.cotangents[0], None]);
    let error = g.grad(y.sum(..), &[w]).map(|_| ()).unwrap_err();
    assert!(is_refused(error.kind()), "{error}");
    assert!(error.to_string().contains("`w`"), "{error}");
}
