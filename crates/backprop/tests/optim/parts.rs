//! A batch by parts: the gradients are those of the whole, the memory is that of a part.

use backprop::core::plan::Buffer;
use backprop::optim::{MicroBatches, accumulate, micro_batches};
use backprop::prelude::*;
use backprop::{ErrorKind, Reference};

/// Some numbers around 0, and a number that makes others of them.
fn numbers(count: usize, seed: f64) -> Vec<f64> {
    (0..count).map(|i| (i as f64 * 1.7 + seed).sin()).collect()
}

/// The loss of two rows of weights on `rows` rows.
fn problem(g: &Graph, rows: usize) -> ([Tensor<'_>; 3], Param) {
    let (x, y) = (g.input("x", [rows, 3], F64), g.input("y", [rows, 2], F64));
    let w = g.parameter("w", [3, 2], F64, Init::Values(numbers(6, 3.0)));
    let loss = (x.matmul(w).tanh() - y).square().mean(..);
    ([x, y, loss], w)
}

/// Four steps on two rows each move the weights as one step on eight, each time.
#[test]
fn steps_on_parts_are_a_step_on_the_whole() {
    let how = || AdamW {
        lr: Rate::exponential(0.1, 0.9),
        ..AdamW::default()
    };
    let (g, h) = (Graph::new(), Graph::new());
    let ([x, y, loss], w) = problem(&g, 8);
    let gradients = g.grad(loss, &[w]).unwrap();
    let updates = optim::adamw(&g, &[w], &gradients, how());
    let mut whole = Session::compile(&g, Reference, &[], updates).unwrap();
    let ([part_x, part_y, loss], part_w) = problem(&h, 2);
    let gradients = h.grad(loss, &[part_w]).unwrap();
    let updates = accumulate(&h, &[part_w], &gradients, MicroBatches::mean(4), |d| {
        optim::adamw(&h, &[part_w], d, how())
    });
    let mut parts = Session::compile(&h, Reference, &[], updates).unwrap();
    for step in 0..12 {
        let (xs, ys) = (
            numbers(24, f64::from(step)),
            numbers(16, 0.5 * f64::from(step)),
        );
        whole.feed(x, &xs).unwrap().feed(y, &ys).unwrap();
        whole.step().unwrap();
        for (xs, ys) in xs.chunks(6).zip(ys.chunks(4)) {
            parts.feed(part_x, xs).unwrap().feed(part_y, ys).unwrap();
            parts.step().unwrap();
        }
        let [a, b] = [whole.parameter::<f64>(w), parts.parameter::<f64>(part_w)];
        let (a, b) = (a.unwrap(), b.unwrap());
        let near = a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near, "step {step}: {a:?}, not {b:?}");
    }
}

/// The memory of a step does not depend on how many steps are added up.
#[test]
fn sums_take_the_same_memory_for_any_count() {
    let bytes = |count: usize| {
        let g = Graph::new();
        let ([_, _, loss], w) = problem(&g, 2);
        let gradients = g.grad(loss, &[w]).unwrap();
        let updates = accumulate(&g, &[w], &gradients, MicroBatches::sum(count), |d| {
            optim::sgd(&g, &[w], d, Sgd::default())
        });
        let session = Session::compile(&g, Reference, &[], updates).unwrap();
        session.memory_bytes()
    };
    assert_eq!(bytes(2), bytes(1000));
}

const LAYERS: usize = 6;
const WIDTH: usize = 16;
const ROWS: usize = 64;

/// A deep network, with its loss and gradients as `graded` makes them: their values, and the bytes that
/// live within a step.
fn deep(
    graded: impl for<'g> FnOnce(&'g Graph, [Tensor<'g>; 2], &[Param]) -> Vec<Tensor<'g>>,
) -> (Vec<Vec<f64>>, usize) {
    let g = Graph::new();
    let (x, y) = (
        g.input("x", [ROWS, WIDTH], F64),
        g.input("y", [ROWS, WIDTH], F64),
    );
    let weight = |i: usize| {
        let values = Init::Values(numbers(WIDTH * WIDTH, i as f64));
        g.parameter(&format!("w{i}"), [WIDTH, WIDTH], F64, values)
    };
    let weights: Vec<Param> = (0..LAYERS).map(weight).collect();
    let results = graded(&g, [x, y], &weights);
    let keys: Vec<Key> = results.iter().map(|x| x.key()).collect();
    let mut session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
    session.feed(x, &numbers(ROWS * WIDTH, 0.3)).unwrap();
    session.feed(y, &numbers(ROWS * WIDTH, 0.7)).unwrap();
    session.step().unwrap();
    let values = keys.iter().map(|&key| session.fetch(key).unwrap());
    (values.collect(), session.step_plan().bytes(Buffer::Arena))
}

fn loss<'g>(x: Tensor<'g>, y: Tensor<'g>, weights: &[Param]) -> Tensor<'g> {
    let out = weights.iter().fold(x, |x, &w| (x.matmul(w) * 0.3).tanh());
    (out - y).square().mean(..)
}

#[test]
fn parts_of_a_step_take_less_memory() {
    let (whole, most) = deep(|g, [x, y], weights| {
        let loss = loss(x, y, weights);
        let gradients = g.grad(loss, weights).unwrap();
        [vec![loss], gradients].concat()
    });
    let (parts, bytes) = deep(|g, [x, y], weights| {
        let graded = micro_batches(g, &[x, y], weights, MicroBatches::mean(8), |part| {
            loss(part.elements[0], part.elements[1], weights)
        });
        let graded = graded.unwrap();
        [vec![graded.loss], graded.gradients].concat()
    });
    for (a, b) in whole.iter().zip(&parts) {
        let near = a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near, "{a:?}, not {b:?}");
    }
    assert_eq!(whole.len(), parts.len());
    // The gradients themselves are of one size in both.
    assert!(2 * bytes < most, "{bytes} bytes, not half of {most}");
}

/// Random numbers of a part are its own, and the mean over parts is that of the losses.
#[test]
fn parts_draw_by_their_index() {
    let g = Graph::new();
    let x = g.full([6, 2], 1.0, F64);
    let w = g.parameter("w", [2], F64, Init::Ones);
    let key = g.random_key(5);
    let graded = micro_batches(&g, &[x], &[w], MicroBatches::sum(3), |part| {
        let key = key.fold_in(part.index);
        (part.elements[0] * w).dropout(0.5, key).sum(..)
    });
    let one_by_one = (0..3).map(|i| {
        x.narrow(0, 2 * i, 2 * i + 2)
            .dropout(0.5, key.fold_in(i as i32))
    });
    let sums = one_by_one.map(|x| x.sum(0)).reduce(|a, b| a + b).unwrap();
    let keys = [graded.unwrap().gradients[0].key(), sums.key()];
    let mut session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
    session.step().unwrap();
    let [got, expected] = keys.map(|key| session.fetch::<f64>(key).unwrap());
    assert_eq!(got, expected);
}

#[test]
fn parts_without_a_meaning() {
    let check = |says: &str, build: &dyn for<'g> Fn(&'g Graph, Tensor<'g>, Param) -> Error| {
        let g = Graph::new();
        let x = g.input("x", [8, 3], F64);
        let w = g.parameter("w", [3], F64, Init::Ones);
        let error = build(&g, x, w);
        let text = error.to_string();
        assert!(text.contains(says), "{says}: {text}");
        assert!(text.contains("optim/parts.rs"), "{text}");
        assert!(!text.contains("graph/src"), "{text}");
        error
    };
    let zero = check("0 micro-batches", &|g, x, w| {
        let parts = MicroBatches::mean(0);
        micro_batches(g, &[x], &[w], parts, |at| (at.elements[0] * w).sum(..)).unwrap_err()
    });
    assert!(matches!(zero.kind(), ErrorKind::Attribute { .. }));
    let uneven = check("[8, 3] in 3 parts", &|g, x, w| {
        let parts = MicroBatches::mean(3);
        micro_batches(g, &[x], &[w], parts, |at| (at.elements[0] * w).sum(..)).unwrap_err()
    });
    assert!(matches!(uneven.kind(), ErrorKind::Shape { .. }));
    let unused = check("`w`", &|g, x, w| {
        let parts = MicroBatches::mean(2);
        micro_batches(g, &[x], &[w], parts, |at| at.elements[0].sum(..)).unwrap_err()
    });
    assert!(matches!(unused.kind(), ErrorKind::Unreachable { .. }));
    check("the loss has shape", &|g, x, w| {
        let parts = MicroBatches::mean(2);
        micro_batches(g, &[x], &[w], parts, |at| at.elements[0] * w).unwrap_err()
    });
    check("matmul: ", &|g, x, w| {
        let parts = MicroBatches::mean(2);
        micro_batches(g, &[x], &[w], parts, |at| {
            at.elements[0].matmul(at.elements[0])
        })
        .unwrap_err()
    });
}

/// A condition that is no single truth value, and one of another graph.
#[test]
fn conditions_without_a_meaning() {
    let check = |says: &str, condition: &dyn for<'g> Fn(&'g Graph) -> Tensor<'g>| {
        let g = Graph::new();
        let w = g.parameter("w", [3], F64, Init::Ones);
        let updates = Updates::set(w, g.read(w) * 2.0).when(condition(&g));
        let error = Session::compile(&g, Reference, &[], updates)
            .map(|_| ())
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains(says), "{says}: {text}");
        assert!(text.contains("optim/parts.rs"), "{text}");
    };
    check("when: a condition of type f64", &|g| g.full([], 1.0, F64));
    check("when: a condition of shape [3]", &|g| {
        g.full([3], 1.0, DType::Bool)
    });
    let (g, h) = (Graph::new(), Graph::new());
    let w = g.parameter("w", [3], F64, Init::Ones);
    let updates = Updates::set(w, g.read(w) * 2.0).when(h.full([], 1.0, DType::Bool));
    let error = Session::compile(&g, Reference, &[], updates)
        .map(|_| ())
        .unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::MixedGraphs { .. }),
        "{error}"
    );
    // A new value that does not fit is not broadcast to one that does.
    let updates = Updates::set(w, g.read(w).sum(..)).when(g.full([], 1.0, DType::Bool));
    let error = Session::compile(&g, Reference, &[], updates)
        .map(|_| ())
        .unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Mismatch { .. }),
        "{error}"
    );
}
