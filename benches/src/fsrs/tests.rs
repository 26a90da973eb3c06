//! The engine and the hand-written version check each other, and differences check both.

use backprop::Reference;
use backprop_testkit::{Counting, Counts};

use super::*;
use crate::fsrs::by_hand::ByHand;

const SMALL: Sequences = Sequences {
    count: 24,
    reviews: 17,
};

/// The loss and its gradient in f64.
fn in_f64(log: &Reviews) -> Result<(Session<Cpu>, [Key; 2], Param)> {
    let g = Graph::new();
    let model = Fsrs::build(&g, log.size, F64);
    let gradient = g.grad(model.loss, &[model.parameters])?[0];
    let keys = [model.loss.key(), gradient.key()];
    let mut session = Session::compile(&g, Cpu::new()?, &keys, Updates::none())?;
    model.feed(&mut session, log)?;
    Ok((session, keys, model.parameters))
}

#[track_caller]
fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    let largest = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    assert_eq!(got.len(), expected.len());
    for (k, (got, expected)) in got.iter().zip(expected).enumerate() {
        let off = (got - expected).abs();
        let limit = tolerance * (expected.abs() + 1e-2 * largest);
        assert!(off <= limit, "{what} {k}: {got}, expected {expected}");
    }
}

#[test]
fn the_engine_agrees_with_differences() -> Result<()> {
    let (mut session, [loss, gradient], p) = in_f64(&Reviews::synthetic(SMALL, 3))?;
    session.step()?;
    let got = session.fetch::<f64>(gradient)?;
    let mut expected = Vec::new();
    for k in 0..PARAMETERS {
        let h = 1e-6;
        let mut at = |by: f64| {
            let mut shifted = INITIAL;
            shifted[k] += by;
            session.set_parameter(p, &shifted)?;
            session.step()?;
            session.scalar(loss)
        };
        expected.push((at(h)? - at(-h)?) / (2.0 * h));
    }
    assert_close("gradient", &got, &expected, 1e-6);
    let moved = expected.iter().filter(|x| **x != 0.0).count();
    assert_eq!(moved, 17, "every parameter of the model counts");
    Ok(())
}

#[test]
fn by_hand_is_the_same_function() -> Result<()> {
    let log = Reviews::synthetic(SMALL, 3);
    let (mut session, [loss, gradient], _) = in_f64(&log)?;
    session.step()?;
    let expected = [vec![session.scalar(loss)?], session.fetch(gradient)?].concat();

    let p = INITIAL.map(|value| value as f32);
    let (loss, gradient) = ByHand::new(&log).gradient(&p);
    let got: Vec<f64> = [loss].iter().chain(&gradient).map(|&x| x.into()).collect();
    assert_close("by hand", &got, &expected, 1e-3);

    let mut fitting = compile(&log, Cpu::new()?)?;
    fitting.session.step()?;
    let gradient = fitting.session.fetch::<f32>(fitting.gradient)?;
    let loss = [fitting.session.scalar(fitting.loss)?];
    let gradient = gradient.into_iter().map(f64::from);
    let got: Vec<f64> = loss.into_iter().chain(gradient).collect();
    assert_close("engine", &got, &expected, 1e-3);
    Ok(())
}

#[test]
fn the_number_of_threads_does_not_show() -> Result<()> {
    let log = Reviews::synthetic(SMALL, 3);
    let gradient = |threads| {
        let cpu = Cpu::builder().threads(threads).build()?;
        let mut fitting = compile(&log, cpu)?;
        fitting.session.step()?;
        fitting.session.fetch::<f32>(fitting.gradient)
    };
    assert_eq!(gradient(1)?, gradient(3)?);
    Ok(())
}

#[test]
fn a_step_only_launches_whatever_the_length() -> Result<()> {
    let entries = |reviews| {
        let size = Sequences { count: 3, reviews };
        let backend = Counting::new(Reference);
        let mut fitting = compile(&Reviews::synthetic(size, 1), backend.clone())?;
        fitting.session.step()?;
        let before = backend.counts();
        fitting.session.step()?;
        let spent = backend.counts() - before;
        let launches = spent.launches;
        let expected = Counts {
            launches,
            ..Counts::default()
        };
        assert_eq!(spent, expected, "{reviews} reviews");
        Ok::<_, Error>(fitting.session.plan_text().lines().count())
    };
    assert_eq!(entries(4)?, entries(40)?);
    Ok(())
}

#[test]
fn training_finds_what_the_log_was_drawn_from() -> Result<()> {
    let size = Sequences {
        count: 64,
        reviews: 20,
    };
    let log = Reviews::synthetic(size, 5);
    let g = Graph::new();
    let model = Fsrs::build(&g, size, F32);
    let gradient = g.grad(model.loss, &[model.parameters])?;
    let options = Adam {
        lr: 0.02.into(),
        ..Adam::default()
    };
    let updates = optim::adam(&g, &[model.parameters], &gradient, options);
    let mut session = Session::compile(&g, Cpu::new()?, &[model.loss.key()], updates)?;
    model.feed(&mut session, &log)?;
    // Stabilities of first reviews as of a learner who forgets twice as fast.
    let mut p = INITIAL.map(|value| value as f32);
    p[..4].iter_mut().for_each(|stability| *stability *= 0.5);
    session.set_parameter(model.parameters, &p)?;
    session.step()?;
    let first = session.scalar(model.loss)?;
    for _ in 0..100 {
        session.step()?;
    }
    let last = session.scalar(model.loss)?;
    let (drawn, _) = ByHand::new(&log).gradient(&INITIAL.map(|value| value as f32));
    assert!(last < first, "{first} to {last}");
    assert!(
        last < f64::from(drawn) * 1.001,
        "{last}, drawn with {drawn}"
    );
    Ok(())
}
