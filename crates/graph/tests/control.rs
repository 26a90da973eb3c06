//! Conditionals, counted scans and loops that end on a condition: values, gradients, and errors.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::{
    DType::Bool, DType::F32, DType::F64, DType::I32, DType::I64, Error, ErrorKind, Reference,
    Result,
};
use backprop_graph::{Graph, Left, Session, Tensor, Updates};

/// Sums of squares of the first rows, as many as `count` says: `count`, sum, and the sum's gradient.
fn squares<'g>(g: &'g Graph, x: Tensor<'g>, count: Tensor<'g>) -> Vec<Tensor<'g>> {
    let zero = g.full([], 0.0, F64);
    let scanned = g.scan_counted(count, 4, &[zero], &[x], |at| {
        let sum = at.carried[0] + at.elements[0].square();
        Left {
            carried: vec![sum],
            stacked: vec![sum],
        }
    });
    let loss = scanned.carried[0] + scanned.stacked[0].sum(..);
    let dx = g.grad(loss, &[x]).unwrap()[0];
    let curvature = g.grad((dx * dx).sum(..), &[x]).unwrap()[0];
    vec![scanned.stacked[0], dx, curvature]
}

#[test]
fn a_counted_scan_is_a_scan_of_the_first_elements() -> Result<()> {
    let g = Graph::new();
    let (x, count) = (g.input("x", [4], F64), g.input("count", [], I32));
    let keys: Vec<_> = squares(&g, x, count).iter().map(|x| x.key()).collect();
    let mut session = Session::compile(&g, Reference, &keys, Updates::none())?;
    session.feed(x, &[1.0, 2.0, 3.0, 4.0])?;
    for many in [0, 3, 1, 4, 2] {
        session.feed(count, &[many])?.step()?;
        let many = many as usize;
        // Row `i` is in the total once, and in the sums stacked from `i` on.
        let weight = |i: usize| if i < many { (many - i + 1) as f64 } else { 0.0 };
        let sums = [1.0, 5.0, 14.0, 30.0];
        let expected: [Vec<f64>; 3] = [
            (0..4)
                .map(|i| if i < many { sums[i] } else { 0.0 })
                .collect(),
            (0..4).map(|i| weight(i) * 2.0 * (i + 1) as f64).collect(),
            (0..4)
                .map(|i| 8.0 * weight(i).powi(2) * (i + 1) as f64)
                .collect(),
        ];
        for (key, expected) in keys.iter().zip(expected) {
            assert_eq!(session.fetch::<f64>(*key)?, expected, "{many} rows");
        }
    }
    Ok(())
}

#[test]
fn a_count_out_of_range_is_an_error_and_loses_nothing() -> Result<()> {
    let g = Graph::new();
    let (x, count) = (g.input("x", [4], F64), g.input("count", [], I32));
    let key = squares(&g, x, count)[0].key();
    let mut session = Session::compile(&g, Reference, &[key], Updates::none())?;
    session.feed(x, &[1.0; 4])?.feed(count, &[4])?.step()?;
    for wrong in [-1, 5] {
        let error = session.feed(count, &[wrong]).map(drop).unwrap_err();
        assert!(error.to_string().contains("count"), "{error}");
    }
    session.step()?;
    assert_eq!(session.fetch::<f64>(key)?, [1.0, 2.0, 3.0, 4.0]);

    // One that is computed is found in the step.
    let g = Graph::new();
    let (x, count) = (g.input("x", [4], F64), g.input("count", [], I64));
    let key = squares(&g, x, count * 2)[0].key();
    let mut session = Session::compile(&g, Reference, &[key], Updates::none())?;
    session.feed(x, &[1.0; 4])?.feed(count, &[2i64])?.step()?;
    let error = session.feed(count, &[3i64])?.step().unwrap_err();
    assert!(error.to_string().contains("scan_counted"), "{error}");
    assert!(error.place().is_some_and(|place| place.file() == file!()));
    Ok(())
}

#[test]
fn a_loop_ends_when_its_condition_says_so() -> Result<()> {
    let g = Graph::new();
    let x = g.input("x", [], F64);
    let halved = g.while_loop(
        40,
        &[x, g.full([], 0.0, I64)],
        |v| v[0].gt(1.0),
        |v| vec![v[0] * 0.5, v[1] + 1],
    );
    let dx = g.grad(halved[0], &[x])?[0];
    let curvature = g.grad(dx * x * x, &[x])?[0];
    let keys = [halved[0], halved[1], dx, curvature].map(Tensor::key);
    let mut session = Session::compile(&g, Reference, &keys, Updates::none())?;
    for (start, end, times) in [(0.5, 0.5, 0), (3.0, 0.75, 2), (1024.0, 1.0, 10)] {
        session.feed(x, &[start])?.step()?;
        let slope = 0.5f64.powi(times);
        let found = keys.map(|key| session.scalar(key).unwrap());
        assert_eq!(found, [end, f64::from(times), slope, 2.0 * start * slope]);
    }
    Ok(())
}

#[test]
fn a_side_that_is_not_chosen_is_not_looked_at() -> Result<()> {
    let g = Graph::new();
    let x = g.input("x", [], F64);
    let positive = x.gt(0.0);
    let y = g.cond(
        positive,
        || {
            let checked = x.require(x.lt(100.0), "too large");
            vec![checked.log(), checked.sqrt()]
        },
        || {
            let checked = x.require(x.gt(-100.0), "too small");
            vec![checked.square(), x]
        },
    );
    let dx = g.grad(y[0] * y[1], &[x])?[0];
    let keys = [y[0], y[1], dx].map(Tensor::key);
    let mut session = Session::compile(&g, Reference, &keys, Updates::none())?;
    session.feed(x, &[4.0])?.step()?;
    let slope = 0.25 * 2.0 + 4f64.ln() * 0.25;
    let found = keys.map(|key| session.scalar(key).unwrap());
    assert_eq!(found[..2], [4f64.ln(), 2.0]);
    assert!((found[2] - slope).abs() < 1e-15);
    session.feed(x, &[-3.0])?.step()?;
    assert_eq!(
        keys.map(|key| session.scalar(key).unwrap()),
        [9.0, -3.0, 27.0]
    );
    for (wrong, what) in [(200.0, "too large"), (-200.0, "too small")] {
        let error = session.feed(x, &[wrong])?.step().unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
    Ok(())
}

#[test]
fn tensors_of_another_graph_are_an_error() {
    let (g, other) = (Graph::new(), Graph::new());
    let x = g.input("x", [4], F32);
    let foreign = (0..50).fold(other.input("y", [4], F32), |y, _| y.exp());
    g.cond(foreign.gt(0.0).all(..), || vec![x], || vec![x]);
    g.cond(x.gt(0.0).all(..), || vec![foreign], || vec![x]);
    g.while_loop(3, &[x], |_| foreign.gt(0.0).all(..), |v| v.to_vec());
    g.scan_counted(foreign.sum(..).cast(I32), 4, &[], &[x], |_| Left::default());
    g.vmap(&[x], |_| vec![foreign]);
    g.vmap(&[foreign], |y| y.to_vec());
    let error = g.check().unwrap_err();
    let mixed = |e: &Error| matches!(e.kind(), ErrorKind::MixedGraphs { .. });
    assert!(error.all().all(mixed), "{error}");
    assert!(error.all().count() >= 6, "{error}");
}

#[test]
fn what_makes_no_sense_is_an_error_with_its_place() {
    type Build = for<'g> fn(&'g Graph, Tensor<'g>);
    let rows: &[(&str, Build)] = &[
        ("a condition of type f32", |g, x| {
            g.cond(x.sum(..), || vec![x], || vec![x]);
        }),
        ("a condition of shape [4]", |g, x| {
            g.cond(x.gt(0.0), || vec![x], || vec![x]);
        }),
        ("one side gives 1 tensors, the other 2", |g, x| {
            g.cond(g.full([], 1.0, Bool), || vec![x], || vec![x, x]);
        }),
        ("one side gives f32[4], the other f32[]", |g, x| {
            g.cond(g.full([], 1.0, Bool), || vec![x], || vec![x.sum(..)]);
        }),
        ("one side gives f32[4], the other f64[4]", |g, x| {
            g.cond(g.full([], 1.0, Bool), || vec![x], || vec![x.cast(F64)]);
        }),
        ("reshape", |g, x| {
            g.cond(g.full([], 1.0, Bool), || vec![x.reshape([3])], || vec![x]);
        }),
        ("reshape", |g, x| {
            let holds = x.reshape([3]).gt(0.0).all(..);
            let y = g.cond(holds, || vec![x.exp()], || vec![x])[0];
            let _ = y + 1.0;
        }),
        ("a tensor of a scan's body is used outside of it", |g, x| {
            let mut leaked = None;
            let inside = || {
                leaked = Some(x.exp());
                vec![x.log()]
            };
            g.cond(g.full([], 1.0, Bool), inside, || vec![x]);
            let _ = leaked.map(|leaked| leaked + x);
        }),
        ("a condition of type f32", |g, x| {
            g.while_loop(3, &[x], |v| v[0].sum(..), |v| v.to_vec());
        }),
        ("a count of type f32", |g, x| {
            g.scan_counted(x.sum(..), 4, &[], &[x], |_| Left::default());
        }),
        ("a count of shape [4]", |g, x| {
            g.scan_counted(x.cast(I32), 4, &[], &[x], |_| Left::default());
        }),
        ("outside of 0..5", |g, x| {
            g.scan_counted(g.full([], 5.0, I32), 4, &[], &[x], |_| Left::default());
        }),
    ];
    for (what, build) in rows {
        let g = Graph::new();
        build(&g, g.input("x", [4], F32));
        let error = g.check().unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(error.all().count(), 1, "{error}");
        let here = error.place().is_some_and(|place| place.file() == file!());
        assert!(here, "{error}");
    }
}
