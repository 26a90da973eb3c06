//! The first NaN or infinity of a step: planted ones are found at their lines, and nothing else is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::DType::{self, Bool, F16, F32};
use backprop_core::{Error, ErrorKind, Reference};
use backprop_graph::{
    Finite, Graph, Init, Key, Left, Mask, Param, Sample, Session, Tensor, Updates, catalogue, optim,
};
use expect_test::{Expect, expect};

/// A program with one mistake: the line that the mistake is on, and what is fed.
struct Planted<'g> {
    line: u32,
    loss: Tensor<'g>,
    fed: Vec<(Key, Vec<f32>)>,
    updates: Updates,
}

impl<'g> Planted<'g> {
    fn new(line: u32, loss: Tensor<'g>) -> Planted<'g> {
        Planted {
            line,
            loss,
            fed: Vec::new(),
            updates: Updates::none(),
        }
    }

    fn fed(mut self, key: impl Into<Key>, values: &[f32]) -> Planted<'g> {
        self.fed.push((key.into(), values.to_vec()));
        self
    }

    fn updates(self, updates: Updates) -> Planted<'g> {
        Planted { updates, ..self }
    }
}

type Program = for<'g> fn(&'g Graph) -> Planted<'g>;

/// Runs a program for at most `steps` steps, checked: the error, and the parameters before and after the
/// step that gave it.
fn run(program: Program, steps: u32) -> (u32, Result<(), Error>) {
    let g = Graph::new();
    let planted = program(&g);
    let parameters = g.parameters();
    let mut session = Session::compile(&g, Reference, &[planted.loss.key()], planted.updates);
    let session = session.as_mut().unwrap();
    for (key, values) in &planted.fed {
        session.feed(*key, values).unwrap();
    }
    session.check_finite(Finite::Checked);
    let read = |session: &Session<Reference>| -> Vec<Vec<u8>> {
        let read = |&parameter: &Param| session.parameter_bytes(parameter).unwrap();
        parameters.iter().map(read).collect()
    };
    for _ in 0..steps {
        let before = read(session);
        if let Err(error) = session.step() {
            assert_eq!(read(session), before, "a parameter changed");
            return (planted.line, Err(error));
        }
    }
    (planted.line, Ok(()))
}

/// The error without its last lines' line numbers.
fn check(program: Program, expected: Expect) {
    let (line, outcome) = run(program, 50);
    let error = outcome.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::NotFinite { .. }),
        "{error}"
    );
    assert_eq!(
        error.place().map(|place| place.line()),
        Some(line),
        "{error}"
    );
    let text = error.to_string();
    let lines = text.lines().map(|line| {
        // Places move when this file is edited.
        line.split("  crates/")
            .next()
            .unwrap_or_default()
            .trim_end()
    });
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with("  -->")).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn log_of_a_negative() {
    let program: Program = |g| {
        let x = g.input("x", [3], F32);
        let shifted = x - 1.0;
        let y = shifted.log();
        Planted::new(line!() - 1, y.sum(..)).fed(x, &[2.0, 0.5, 3.0])
    };
    check(
        program,
        expect![[r#"
        error: log: makes NaN in step 1
           = operand: sub f32[3]: -0.5 to 2
           = result: f32[3]: 0 to 0.6931, 1 NaN, first at [1]
           = run:     the step
           = help: log wants positive numbers: `maximum` with something small, or `log1p`"#]],
    );
}

#[test]
fn zero_by_zero() {
    let program: Program = |g| {
        let (a, b) = (g.input("a", [2], F32), g.input("b", [2], F32));
        let share = g.scope("shares", |_| a / (b - b));
        Planted::new(line!() - 1, share.sum(..))
            .fed(a, &[0.0, 0.0])
            .fed(b, &[1.0, 1.0])
    };
    check(
        program,
        expect![[r#"
        error: div: makes NaN in step 1
           = operand 0: input a f32[2]: 0
           = operand 1: sub f32[2]: 0
           = result: f32[2]: nothing finite, 2 NaN, first at [0]
           = run:       the step
           = help: `select` another divisor where it is 0"#]],
    );
}

#[test]
fn overflow_in_exp() {
    let program: Program = |g| {
        let x = g.input("x", [2, 2], F32);
        let y = (x * 10.0).exp();
        Planted::new(line!() - 1, (y / (y + 1.0)).mean(..)).fed(x, &[1.0, 2.0, 9.5, -9.5])
    };
    check(
        program,
        expect![[r#"
        error: exp: makes infinity in step 1
           = operand: mul f32[2, 2]: -95 to 95
           = result: f32[2, 2]: 5.52e-42 to 4.85e8, 1 infinite, first at [1, 0]
           = run:     the step
           = help: subtract the largest element first, as `softmax` and `logsumexp` do"#]],
    );
}

#[test]
fn infinity_minus_infinity_in_softmax() {
    let program: Program = |g| {
        let (x, allowed) = (
            g.input("x", [2, 2], F32),
            g.data([2, 2], &[true, true, false, false]),
        );
        let scores = allowed.select(x, f64::NEG_INFINITY);
        let y = scores.softmax(-1);
        Planted::new(line!() - 1, y.sum(..)).fed(x, &[1.0; 4])
    };
    check(
        program,
        expect![[r#"
        error: softmax: makes NaN in step 1
           = operand: where f32[2, 2]: 1, 2 infinite, first at [1, 0]
           = result: f32[2, 2]: 0.5, 2 NaN, first at [1, 0]
           = inside: sub
           = run:     the step"#]],
    );
}

#[test]
fn gradient_of_sqrt_at_zero() {
    let program: Program = |g| {
        let w = g.parameter("w", [3], F32, Init::Constant(0.0));
        let length = g.read(w).square().sum(..).sqrt();
        let line = line!() - 1;
        let gradients = g.grad(length * 2.0, &[w]).unwrap();
        Planted::new(line, length).updates(optim::sgd(g, &[w], &gradients, Default::default()))
    };
    check(
        program,
        expect![[r#"
        error: gradient of sqrt: makes infinity in step 1
           = operand 0: gradient of mul f32[]: 2
           = operand 1: sqrt f32[]: 0
           = result: f32[]: nothing finite, 1 infinite
           = run:       the step
           = help: the derivative of sqrt at 0 is infinite: add something small first"#]],
    );
}

#[test]
fn bad_input_data() {
    let program: Program = |g| {
        let x = g.input("pixels", [2, 2], F32);
        let line = line!() - 1;
        let w = g.parameter("w", [2, 3], F32, Init::Ones);
        Planted::new(line, x.matmul(w).square().mean(..)).fed(x, &[0.5, 0.5, f32::NAN, 0.5])
    };
    check(
        program,
        expect![[r#"
        error: input pixels: holds NaN in step 1
           = result: f32[2, 2]: 0.5, 1 NaN, first at [1, 0]
           = run: the step
           = help: the data that is fed holds it"#]],
    );
}

#[test]
fn exploding_learning_rate() {
    let program: Program = |g| {
        let x = g.input("x", [4], F32);
        let w = g.parameter("w", [4], F32, Init::Ones);
        let error = (x * w).sum(..) - 1.0;
        let loss = error.square();
        let line = line!() - 1;
        let gradients = g.grad(loss, &[w]).unwrap();
        let sgd = optim::Sgd {
            lr: 300.0.into(),
            ..Default::default()
        };
        let updates = optim::sgd(g, &[w], &gradients, sgd);
        Planted::new(line, loss)
            .updates(updates)
            .fed(x, &[1.0, 2.0, 3.0, 4.0])
    };
    check(
        program,
        expect![[r#"
            error: square: makes infinity in step 6
               = operand: sub f32[]: -1.70e22
               = result: f32[]: nothing finite, 1 infinite
               = run:     the step
               = help: `w` has grown to 2.27e21: a lower learning rate, or `optim::clip_by_norm`"#]],
    );
}

#[test]
fn overflow_of_f16() {
    let program: Program = |g| {
        let x = g.input("x", [2, 3], F32);
        let (a, b) = (x.cast(F16), g.full([3, 2], 200.0, F16));
        let y = a.matmul(b);
        Planted::new(line!() - 1, y.cast(F32).sum(..)).fed(x, &[1.0, 2.0, 3.0, 400.0, 500.0, 600.0])
    };
    check(
        program,
        expect![[r#"
        error: matmul: makes infinity in step 1
           = operand: cast f16[2, 3]: 1 to 600
           = result: f16[2, 2]: 1200, 2 infinite, first at [1, 0]
           = run:     the step
           = help: f16 ends at 65504: scale down, or use bf16 or f32"#]],
    );
}

#[test]
fn mean_of_nothing() {
    let program: Program = |g| {
        let x = g.input("x", [3, 2], F32);
        let chosen = x.slice([0, 0], [0, 2], [1, 1]);
        let y = chosen.mean(0);
        Planted::new(line!() - 1, y.sum(..)).fed(x, &[1.0; 6])
    };
    check(
        program,
        expect![[r#"
        error: mean: makes NaN in step 1
           = operand: mean f32[2]: 0
           = result: f32[2]: nothing finite, 2 NaN, first at [0]
           = run:     the step
           = help: `select` another divisor where it is 0"#]],
    );
}

#[test]
fn a_row_that_attends_to_nothing_gives_zeros() {
    let g = Graph::new();
    let x = g.input("x", [1, 1, 3, 2], F32);
    let mask = g.input("mask", [3, 3], Bool);
    let y = x.attention(x, x, Mask::Where(mask));
    let gradient = g.grad(y.square().sum(..), &[x]).unwrap()[0];
    let keys = [y.key(), gradient.key()];
    let mut session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
    session.check_finite(Finite::Checked);
    let allowed = [true, false, false, false, false, false, true, true, true];
    session.feed(x, &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    session.feed(mask, &allowed).unwrap().step().unwrap();
    assert_eq!(session.fetch::<f32>(y).unwrap()[2..4], [0.0, 0.0]);
    assert!(
        session
            .fetch::<f32>(gradient)
            .unwrap()
            .iter()
            .all(|x| x.is_finite())
    );
}

/// Numbers between `low` and `high`, always the same.
fn numbers(count: usize, (low, high): (f64, f64)) -> Vec<f64> {
    let mut state = 9u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        low + (high - low) * (state >> 33) as f64 / f64::from(1u32 << 31)
    };
    (0..count).map(|_| next()).collect()
}

fn feed(session: &mut Session<Reference>, key: Key, dtype: DType, values: &[f64]) {
    let fed = match dtype {
        DType::F64 => session.feed(key, values),
        DType::F32 => session.feed(key, &values.iter().map(|&x| x as f32).collect::<Vec<_>>()),
        DType::I32 => session.feed(key, &values.iter().map(|&x| x as i32).collect::<Vec<_>>()),
        DType::I64 => session.feed(key, &values.iter().map(|&x| x as i64).collect::<Vec<_>>()),
        DType::Bool => session.feed(key, &values.iter().map(|&x| x >= 1.0).collect::<Vec<_>>()),
        _ => session.feed(key, &values.iter().map(|&x| x as u8).collect::<Vec<_>>()),
    };
    fed.unwrap();
}

/// Runs an operation and its gradients, checked.
fn run_sample(
    sample: &Sample,
    build: for<'g> fn(&[Tensor<'g>]) -> Tensor<'g>,
) -> Result<(), Error> {
    let g = Graph::new();
    let inputs = sample.inputs.iter().enumerate();
    let x: Vec<Tensor<'_>> = inputs
        .map(|(k, (dtype, shape, _))| g.input(&format!("x{k}"), shape, *dtype))
        .collect();
    let y = build(&x);
    let mut fetches = vec![y.key()];
    let real: Vec<Tensor<'_>> = x.iter().copied().filter(|x| x.dtype().is_float()).collect();
    if y.dtype().is_float() {
        let gradients = g.grad(y.sum(..), &real);
        fetches.extend(gradients.into_iter().flatten().map(Tensor::key));
    }
    let mut session = Session::compile(&g, Reference, &fetches, Updates::none())?;
    session.check_finite(Finite::Checked);
    for (x, (dtype, shape, range)) in x.iter().zip(&sample.inputs) {
        let values = numbers(shape.iter().product(), *range);
        feed(&mut session, x.key(), *dtype, &values);
    }
    session.step()
}

#[test]
fn no_operation_is_reported_for_what_is_inside_of_it() {
    let mut reported = Vec::new();
    for entry in catalogue() {
        for sample in entry.samples.iter().take(1) {
            if let Err(error) = run_sample(sample, entry.build) {
                let what = error.to_string();
                let what = what.lines().next().unwrap_or_default().to_owned();
                reported.push(format!("{}: {what}", entry.name));
            }
        }
    }
    // Their samples make NaN on purpose, by logarithms of negative numbers.
    expect![[r#"
        nanquantile: error: log: makes NaN in step 1
        nansum: error: log: makes NaN in step 1
        nanmean: error: log: makes NaN in step 1"#]]
    .assert_eq(&reported.join("\n"));
}

#[test]
fn in_the_body_of_a_scan() {
    let program: Program = |g| {
        let x = g.input("x", [4], F32);
        let outer = x.sum(..) * 0.0;
        let scanned = g.scan(4, &[g.full([], 1.0, F32)], &[x], |at| {
            let moved = at.carried[0] + at.elements[0];
            let root = moved.log() + outer;
            Left {
                carried: vec![root],
                stacked: vec![],
            }
        });
        let line = line!() - 6;
        Planted::new(line, scanned.carried[0]).fed(x, &[2.0, 1.0, -4.0, 1.0])
    };
    check(
        program,
        expect![[r#"
        error: log: makes NaN in step 1
           = operand: add f32[]: -3.2587
           = result: f32[]: nothing finite, 1 NaN
           = iteration: 3 of 4
           = run:     the step
           = help: log wants positive numbers: `maximum` with something small, or `log1p`"#]],
    );
}

#[test]
fn in_the_reverse_of_a_scan_in_a_scan() {
    let program: Program = |g| {
        let w = g.parameter("w", [3], F32, Init::Ones);
        let x = g.input("x", [2, 3], F32);
        let scanned = g.scan(2, &[g.read(w)], &[x], |outer| {
            let inner = g.scan(3, &[outer.carried[0]], &[outer.elements[0]], |at| Left {
                carried: vec![at.carried[0] * (at.elements[0] + 1.0)],
                stacked: vec![at.elements[0].broadcast_to([3]) * at.carried[0]],
            });
            let roots = inner.stacked[0].sqrt();
            Left {
                carried: inner.carried,
                stacked: vec![roots],
            }
        });
        let line = line!() - 6;
        let loss = scanned.stacked[0].sum(..);
        let gradients = g.grad(loss, &[w]).unwrap();
        let updates = optim::sgd(g, &[w], &gradients, Default::default());
        let x_fed = [1.0, 1.0, 1.0, 1.0, 0.0, 1.0];
        Planted::new(line, loss).updates(updates).fed(x, &x_fed)
    };
    check(
        program,
        expect![[r#"
        error: gradient of sqrt: makes infinity in step 1
           = operand 0: gradient of scan 2 f32[3, 3]: 1
           = operand 1: scan 2 f32[2, 3, 3]: 0 to 4
           = result: f32[3, 3]: 0.125 to 0.1768, 3 infinite, first at [1, 0]
           = iteration: 2 of 2
           = run:       the step
           = help: the derivative of sqrt at 0 is infinite: add something small first"#]],
    );
}

#[test]
fn a_condition_that_does_not_hold_makes_nothing() {
    let g = Graph::new();
    let x = g.input("x", [], F32);
    let y = g.cond(x.gt(0.0), || vec![x.log()], || vec![x - 1.0])[0];
    let mut session = Session::compile(&g, Reference, &[y.key()], Updates::none()).unwrap();
    session.check_finite(Finite::Checked);
    session.feed(x, &[-1f32]).unwrap().step().unwrap();
    assert_eq!(session.scalar(y).unwrap(), -2.0);
    session.feed(x, &[0.25f32]).unwrap().step().unwrap();
}

#[test]
fn infinities_that_are_given() {
    let g = Graph::new();
    let (x, mask) = (g.input("x", [2, 3], F32), g.input("mask", [3], F32));
    let best = g.parameter("best", [], F32, Init::Constant(f64::INFINITY));
    let scores = x + mask;
    let loss = scores.softmax(-1).square().sum(..);
    let fetches = [scores.key(), loss.key()];
    let updates = Updates::set(best, g.read(best).minimum(loss));
    let mut session = Session::compile(&g, Reference, &fetches, updates).unwrap();
    session.check_finite(Finite::Checked);
    session.feed(x, &[1f32; 6]).unwrap();
    let low = f32::NEG_INFINITY;
    session
        .feed(mask, &[0.0, low, 0.0])
        .unwrap()
        .step()
        .unwrap();
    assert_eq!(session.parameter::<f32>(best).unwrap(), [1.0]);
}

#[test]
fn an_infinity_that_was_given_and_comes_out() {
    let program: Program = |g| {
        let x = g.input("x", [2], F32);
        let line = line!() - 1;
        Planted::new(line, x.sum(..)).fed(x, &[1.0, f32::INFINITY])
    };
    check(
        program,
        expect![[r#"
        error: input x: holds infinity in step 1
           = result: f32[2]: 1, 1 infinite, first at [1]
           = run: the step
           = help: the data that is fed holds it"#]],
    );
}

#[test]
fn infinities_may_be_allowed() {
    let g = Graph::new();
    let x = g.input("x", [], F32);
    let y = (x.log() * x).exp();
    let mut session = Session::compile(&g, Reference, &[y.key()], Updates::none()).unwrap();
    session.check_finite(Finite::NoNan);
    session.feed(x, &[1e30f32]).unwrap().step().unwrap();
    assert_eq!(session.scalar(y).unwrap(), f64::INFINITY);
    let error = session.feed(x, &[0f32]).unwrap().step().unwrap_err();
    assert!(
        error.to_string().contains("mul: makes NaN in step 2"),
        "{error}"
    );
}

#[test]
fn a_checked_step_has_the_same_bits() {
    let g = Graph::new();
    let random = g.random_state("random", 5);
    let (x, w) = (
        g.input("x", [8, 5], F32),
        g.parameter("w", [5, 3], F32, Init::Kaiming),
    );
    let loss = x
        .matmul(w)
        .tanh()
        .dropout(0.5, random.next_key())
        .softmax(-1)
        .log()
        .mean(..);
    let gradients = g.grad(loss, &[w]).unwrap();
    let updates = optim::adam(&g, &[w], &gradients, Default::default()).and(random.updates());
    let train = |finite: Finite| {
        let mut session = Session::compile(&g, Reference, &[loss.key()], updates.clone()).unwrap();
        session.check_finite(finite);
        let values = numbers(40, (-1.0, 1.0));
        feed(&mut session, x.key(), F32, &values);
        let losses: Vec<f64> = (0..4)
            .map(|_| {
                session.step().unwrap();
                session.scalar(loss).unwrap()
            })
            .collect();
        (losses, session.parameter::<f32>(w).unwrap())
    };
    assert_eq!(train(Finite::Checked), train(Finite::Unchecked));
}
