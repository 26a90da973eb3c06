//! Scans: values, derivatives to the second order, nesting, and plans that do not grow.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::{DType::F64, Error, ErrorKind, Reference};
use backprop_graph::{Graph, Init, Left, Recurrent, Session, Tensor, Updates};

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
fn what_is_stacked_twice_gets_both_cotangents() {
    // The states are stacked by the user, and by the derivative that is taken in the body.
    let found = run(&[0.7, 0.1, -0.4], |g, x| {
        let states = |x| {
            let scanned = g.scan(2, &[x], &[], |at| {
                let next = (at.carried[0] * x).sin();
                Left {
                    carried: vec![next],
                    stacked: vec![next],
                }
            });
            scanned.stacked[0]
        };
        let scanned = g.scan(3, &[], &[x], |at| {
            let y = states(at.elements[0]);
            let dx = g.grad(y.sum(..), &at.elements).unwrap()[0];
            Left {
                carried: vec![],
                stacked: vec![y.sum(..) * dx],
            }
        });
        let unrolled: Vec<Tensor<'_>> = (0..3)
            .map(|i| {
                let x = x.narrow(0, i, i + 1).sum(..);
                let first = (x * x).sin();
                let y = first + (first * x).sin();
                y * g.grad(y, &[x]).unwrap()[0]
            })
            .collect();
        let unrolled = g.stack(&unrolled, 0);
        let all = [scanned.stacked[0], unrolled];
        let grads = all.map(|y| g.grad(y.square().sum(..), &[x]).unwrap()[0]);
        [all, grads].concat()
    });
    for (a, b) in found[0]
        .iter()
        .zip(&found[1])
        .chain(found[2].iter().zip(&found[3]))
    {
        assert!((a - b).abs() < 1e-12, "{a}, not {b}");
    }
}

/// The nodes of a training step through an LSTM over `times` steps, and the lines of its plan.
fn size(times: usize) -> (usize, usize) {
    let g = Graph::new();
    let x = g.input("x", [times, 2, 3], F64);
    let [w, u] = [("w", [16, 3]), ("u", [16, 4])].map(|(name, shape)| {
        let parameter = g.parameter(name, shape, F64, Init::Kaiming);
        g.read(parameter)
    });
    let zeros = g.full([16], 0.0, F64);
    let layer = Recurrent {
        weight_ih: w,
        weight_hh: u,
        bias_ih: zeros,
        bias_hh: zeros,
    };
    let loss = layer.lstm(x).square().mean(..);
    let grads = g.grad(loss, &[w, u]).unwrap();
    let keys = [loss.key(), grads[0].key(), grads[1].key()];
    let mut session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
    session
        .feed(x, &vec![0.5; times * 6])
        .unwrap()
        .step()
        .unwrap();
    assert!(
        session
            .fetch::<f64>(keys[1])
            .unwrap()
            .iter()
            .all(|x| x.is_finite())
    );
    (g.len(), session.plan_text().lines().count())
}

#[test]
fn a_thousand_iterations_take_no_more_nodes_than_ten() {
    assert_eq!(size(1000), size(10));
}

#[test]
fn what_makes_no_sense_is_an_error_with_its_place() {
    type Build = for<'g> fn(&'g Graph, Tensor<'g>);
    let rows: &[(&str, Build)] = &[
        ("0 iterations", |g, x| {
            let _ = g.scan(0, &[x], &[], |at| Left {
                carried: at.carried,
                stacked: vec![],
            });
        }),
        ("5 iterations over a sequence [4]", |g, x| {
            let _ = g.scan(5, &[], &[x], |_| Left::default());
        }),
        ("f64[4] comes in, f64[1] is handed on", |g, x| {
            let _ = g.scan(2, &[x], &[], |at| Left {
                carried: vec![at.carried[0].narrow(0, 0, 1)],
                stacked: vec![],
            });
        }),
        ("1 values come in, 0 are handed on", |g, x| {
            let _ = g.scan(2, &[x], &[], |_| Left::default());
        }),
        ("stacking makes more axes than there can be", |g, x| {
            let deep = x.reshape([4, 1, 1, 1, 1, 1, 1, 1]);
            let _ = g.scan(4, &[], &[x], |at| Left {
                carried: vec![],
                stacked: vec![deep * at.elements[0]],
            });
        }),
        ("a tensor of a scan's body is used outside of it", |g, x| {
            let mut leaked = None;
            let _ = g.scan(2, &[x], &[], |at| {
                leaked = Some(at.carried[0]);
                Left {
                    carried: at.carried,
                    stacked: vec![],
                }
            });
            let _ = leaked.map(|leaked| leaked + x);
        }),
        ("a tensor of a scan's body is used outside of it", |g, x| {
            let mut leaked = x;
            let _ = g.scan(2, &[x], &[], |at| {
                leaked = at.carried[0];
                Left {
                    carried: at.carried,
                    stacked: vec![],
                }
            });
            let _ = g.scan(4, &[], &[leaked], |at| Left {
                carried: vec![],
                stacked: at.elements,
            });
        }),
        ("reshape", |g, x| {
            let bad = x.reshape([3]);
            let scanned = g.scan(7, &[bad], &[bad], |at| {
                let next = at.carried[0].matmul(at.elements[0]);
                Left {
                    carried: vec![next],
                    stacked: vec![next],
                }
            });
            let _ = scanned.carried[0] + scanned.stacked[0];
        }),
    ];
    for (what, build) in rows {
        let g = Graph::new();
        build(&g, g.input("x", [4], F64));
        let error = g.check().unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(error.all().count(), 1, "{error}");
        assert!(
            error.place().is_some_and(|place| place.file() == file!()),
            "{error}"
        );
    }
}

#[test]
fn a_condition_in_a_body_has_to_hold_in_every_iteration() {
    let g = Graph::new();
    let x = g.input("x", [3, 2], F64);
    let scanned = g.scan(3, &[g.full([], 0.0, F64)], &[x], |outer| {
        let inner = g.scan(2, &[outer.carried[0]], &[outer.elements[0]], |at| {
            let element = at.elements[0].require(at.elements[0].gt(0.0), "not positive");
            let sum = at.carried[0] + element.sqrt();
            Left {
                carried: vec![sum],
                stacked: vec![],
            }
        });
        Left {
            carried: inner.carried,
            stacked: vec![],
        }
    });
    let loss = scanned.carried[0];
    let dx = g.grad(loss, &[x]).unwrap()[0];
    let keys = [loss.key(), dx.key()];
    let mut session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
    session.feed(x, &[4.0; 6]).unwrap().step().unwrap();
    assert_eq!(session.scalar(keys[0]).unwrap(), 12.0);
    assert_eq!(session.fetch::<f64>(keys[1]).unwrap(), [0.25; 6]);
    let error = session
        .feed(x, &[4.0, 4.0, 4.0, 0.0, 4.0, 4.0])
        .unwrap()
        .step()
        .unwrap_err();
    assert!(error.to_string().contains("not positive"), "{error}");
}

#[test]
fn tensors_of_another_graph_are_an_error() {
    let (g, other) = (Graph::new(), Graph::new());
    let x = g.input("x", [4], F64);
    let foreign = (0..50).fold(other.input("y", [4], F64), |y, _| y.exp());
    let _ = g.scan(4, &[foreign], &[x], |at| Left {
        carried: at.carried,
        stacked: vec![],
    });
    let _ = g.scan(4, &[], &[foreign], |at| Left {
        carried: vec![],
        stacked: at.elements,
    });
    let _ = g.scan(4, &[x], &[], |_| Left {
        carried: vec![foreign],
        stacked: vec![],
    });
    let _ = g.scan(4, &[], &[x], |_| Left {
        carried: vec![],
        stacked: vec![foreign],
    });
    let error = g.check().unwrap_err();
    assert_eq!(error.all().count(), 4, "{error}");
    let mixed = |e: &Error| matches!(e.kind(), ErrorKind::MixedGraphs { .. });
    assert!(error.all().all(mixed), "{error}");
}

#[test]
fn derivatives_of_another_graph_are_an_error() {
    let mixed = |error: Error| matches!(error.kind(), ErrorKind::MixedGraphs { .. });
    let other = Graph::new();
    let foreign = (0..50).fold(other.input("y", [], F64), |y, _| y.exp());
    let g = Graph::new();
    let x = g.input("x", [], F64);
    assert!(g.grad(foreign, &[x]).is_err_and(mixed));
    let g = Graph::new();
    let x = g.input("x", [], F64);
    assert!(g.jvp(&[x], &[(x, foreign)]).is_err_and(mixed));
    let g = Graph::new();
    let x = g.input("x", [], F64);
    assert!(g.jvp(&[foreign], &[(x, x)]).is_err_and(mixed));
}
