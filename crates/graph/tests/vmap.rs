//! Computations on batches: gradients of single examples, nesting, loops of different lengths, errors.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::{DType::F64, DType::I64, Reference, Result};
use backprop_graph::{CrossEntropy, Graph, Left, Reduce, Session, Tensor, Updates};

#[track_caller]
fn fetch(g: &Graph, feeds: &[(Tensor<'_>, &[f64])], results: &[Tensor<'_>]) -> Vec<Vec<f64>> {
    let keys: Vec<_> = results.iter().map(|x| x.key()).collect();
    let mut session = Session::compile(g, Reference, &keys, Updates::none()).unwrap();
    for (x, values) in feeds {
        session.feed(*x, values).unwrap();
    }
    session.step().unwrap();
    keys.iter()
        .map(|&key| session.fetch(key).unwrap())
        .collect()
}

#[test]
fn the_gradients_of_examples_add_up_to_that_of_the_batch() {
    let g = Graph::new();
    let (x, w) = (g.input("x", [5, 3], F64), g.input("w", [3, 4], F64));
    let labels = g.data([5], &[0i64, 3, 1, 1, 2]);
    let sum = CrossEntropy {
        reduce: Reduce::Sum,
        ..CrossEntropy::default()
    };
    let (losses, of_each) = g
        .grad_of_each(&[x, labels], &[w], |x| {
            let logits = x[0].matmul(w).tanh().unsqueeze(0);
            logits.cross_entropy(x[1].unsqueeze(0), sum)
        })
        .unwrap();
    let of_each = of_each[0];
    assert_eq!(losses.shape().sizes(), [5]);
    let whole = x.matmul(w).tanh().cross_entropy(labels, sum);
    let whole = g.grad(whole, &[w]).unwrap()[0];
    assert_eq!(of_each.shape().sizes(), [5, 3, 4]);
    let xs: Vec<f64> = (0..15).map(|i| f64::from(i).sin()).collect();
    let ws: Vec<f64> = (0..12).map(|i| f64::from(i).cos()).collect();
    let found = fetch(&g, &[(x, &xs), (w, &ws)], &[of_each.sum(0), whole]);
    for (a, b) in found[0].iter().zip(&found[1]) {
        assert!((a - b).abs() < 1e-12, "{a}, not {b}");
    }
}

#[test]
fn batches_nest_and_stand_in_loops() {
    let g = Graph::new();
    let (x, y) = (g.input("x", [2], F64), g.input("y", [3], F64));
    // All pairs, the inner batch in the body of the outer one; and the same in a scan.
    let pairs = g.vmap(&[x], |a| {
        g.vmap(&[y], |b| vec![(a[0] * b[0]).sin() + b[0], a[0]])
    });
    let scanned = g.scan(2, &[], &[x], |at| Left {
        carried: vec![],
        stacked: g.vmap(&[y], |b| vec![(at.elements[0] * b[0]).sin() + b[0]]),
    });
    let grads =
        [pairs[0], scanned.stacked[0]].map(|z| g.grad(z.square().sum(..), &[x, y]).unwrap());
    let results = [pairs[0], scanned.stacked[0], pairs[1]];
    let [a, b] = grads;
    let all = [results.to_vec(), a, b].concat();
    let found = fetch(&g, &[(x, &[0.5, -2.0]), (y, &[1.0, 0.3, 4.0])], &all);
    assert_eq!(found[0], found[1]);
    assert_eq!(found[2], [0.5, 0.5, 0.5, -2.0, -2.0, -2.0]);
    for (a, b) in found[3..5]
        .iter()
        .flatten()
        .zip(found[5..].iter().flatten())
    {
        assert!((a - b).abs() < 1e-12, "{a}, not {b}");
    }
}

/// Newton's square root of `x`, in as many steps as it takes.
fn root<'g>(g: &'g Graph, x: Tensor<'g>) -> Vec<Tensor<'g>> {
    g.while_loop(
        50,
        &[x, g.full([], 0.0, I64)],
        |v| (v[0].square() - x).abs().gt(1e-9),
        |v| vec![(v[0] + x / v[0]) * 0.5, v[1] + 1],
    )
}

#[test]
fn each_element_has_its_own_loop() {
    let g = Graph::new();
    let x = g.input("x", [4], F64);
    let roots = g.vmap(&[x], |x| root(&g, x[0]));
    let alone: Vec<Vec<Tensor<'_>>> = (0..4)
        .map(|i| root(&g, x.narrow(0, i, i + 1).sum(..)))
        .collect();
    let slope = g.grad(roots[0].sum(..), &[x]).unwrap()[0];
    let counts: Vec<Tensor<'_>> = alone.iter().map(|root| root[1].cast(F64)).collect();
    let values: Vec<Tensor<'_>> = alone.iter().map(|root| root[0]).collect();
    let results = [
        roots[0],
        roots[1].cast(F64),
        slope,
        g.stack(&values, 0),
        g.stack(&counts, 0),
    ];
    let xs = [1.0, 2.0, 1e6, 9.0];
    let found = fetch(&g, &[(x, &xs)], &results);
    assert_eq!(found[0], found[3]);
    assert_eq!(found[1], found[4]);
    assert!(found[1][0] == 0.0 && found[1][2] > found[1][1]);
    // No step is taken at 1, whose root is then x itself.
    let expected = [1.0, 0.5 / 2f64.sqrt(), 0.5e-3, 0.5 / 3.0];
    for (a, b) in found[2].iter().zip(expected) {
        assert!((a - b).abs() < 1e-6, "{a}, not {b}");
    }
}

#[test]
fn what_makes_no_sense_is_an_error_with_its_place() -> Result<()> {
    type Build = for<'g> fn(&'g Graph, Tensor<'g>);
    let rows: &[(&str, Build)] = &[
        ("no batch", |g, _| {
            g.vmap(&[], |x| x.to_vec());
        }),
        ("over the first axes of [4, 2] and []", |g, x| {
            g.vmap(&[x, x.sum(..)], |x| x.to_vec());
        }),
        ("over the first axes of [4, 2] and [2, 4]", |g, x| {
            g.vmap(&[x, x.t()], |x| x.to_vec());
        }),
        ("reshape", |g, x| {
            let y = g.vmap(&[x], |x| vec![x[0].reshape([3])])[0];
            let _ = y + x;
        }),
        ("reshape", |g, x| {
            let y = g.vmap(&[x.reshape([3])], |x| vec![x[0].exp(), x[0]]);
            let _ = y[0] + y[1];
        }),
        ("used outside of it", |g, x| {
            let mut leaked = x;
            g.vmap(&[x], |x| {
                leaked = x[0];
                x.to_vec()
            });
            let _ = leaked + x;
        }),
        ("more than 8 axes", |g, _| {
            let deep = [1; 8];
            g.vmap(&[g.full([2], 0.0, F64)], |x| vec![x[0].reshape(deep)]);
        }),
    ];
    let g = Graph::new();
    let x = g.input("x", [4, 2], F64);
    let error = g.grad_of_each(&[x], &[x], |x| x[0].sum(..)).unwrap_err();
    assert!(error.to_string().contains("does not depend"), "{error}");
    for (what, build) in rows {
        let g = Graph::new();
        build(&g, g.input("x", [4, 2], F64));
        let error = g.check().unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(error.all().count(), 1, "{error}");
        let here = error.place().is_some_and(|place| place.file() == file!());
        assert!(here, "{error}");
    }
    Ok(())
}
