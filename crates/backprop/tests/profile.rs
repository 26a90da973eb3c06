//! What a profile tells of a step: every launch, with its name, its place and its work. Nothing is said
//! of how long anything takes.
#![allow(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::time::Duration;

use backprop::prelude::*;
use backprop::{Left, Profile, Reference};
use serde_json::Value;

const STEPS: u32 = 3;
/// Of the loop.
const TIMES: u64 = 5;

struct Net<B: Backend> {
    session: Session<B>,
    x: Key,
    w: Param,
    output: Key,
}

/// A layer whose result goes through a loop, and a step that changes its weight.
fn net<B: Backend>(backend: B) -> Net<B> {
    let g = Graph::new();
    let x = g.input("x", [4, 6], F32);
    let (w, hidden) = g.scope("a \"first\" layer", |g| {
        let w = g.parameter("w", [6, 6], F32, Init::Kaiming);
        (w, x.matmul(w).tanh())
    });
    let scanned = g.scan(TIMES as usize, &[hidden], &[], |at| Left {
        carried: vec![at.carried[0].matmul(w).sin()],
        stacked: vec![],
    });
    let output = scanned.carried[0];
    let loss = output.square().mean(..);
    let gradients = g.grad(loss, &[w]).unwrap();
    let updates = optim::sgd(&g, &[w], &gradients, Sgd::default());
    Net {
        session: Session::compile(&g, backend, &[loss.key()], updates).unwrap(),
        x: x.key(),
        w,
        output: output.key(),
    }
}

fn fed<B: Backend>(backend: B) -> Net<B> {
    let mut net = net(backend);
    net.session.feed(net.x, &[0.5f32; 24]).unwrap();
    net
}

fn profile<B: Backend>(backend: B) -> (Profile, usize) {
    let mut session = fed(backend).session;
    let launches = session.step_plan().launches();
    (session.profile(STEPS).unwrap(), launches)
}

#[test]
fn every_line_of_the_plan_is_told() {
    let mut session = fed(Cpu::new().unwrap()).session;
    let profile = session.profile(STEPS).unwrap();
    let plan = session.step_plan();
    let told: Vec<&str> = profile.lines().iter().map(|line| &*line.text).collect();
    let lines: Vec<String> = plan.lines().into_iter().map(|l| plan.describe(l)).collect();
    assert_eq!(told, lines);
    for line in profile.lines() {
        assert!(line.text.contains(line.name), "{line:?}");
        let place = line.place.unwrap();
        assert!(place.file().ends_with("profile.rs"), "{line:?}");
        assert!(
            line.text
                .contains(&format!("// profile.rs:{}", place.line()))
        );
    }
    let is_first = |line: &&backprop::LineTime| line.scope == "a \"first\" layer";
    let first = profile.lines().iter().find(is_first).unwrap();
    assert_eq!(first.name, "matmul");
    // A product, and a tanh of each of its elements; x, w and the result.
    assert_eq!(first.operations, 2 * 4 * 6 * 6 + 4 * 6);
    assert_eq!(first.bytes, 4 * (4 * 6 + 6 * 6 + 4 * 6));
}

#[test]
fn what_is_in_a_loop_is_launched_as_often() {
    let (profile, launches) = profile(Reference);
    let counts: Vec<u64> = profile.lines().iter().map(|line| line.launches).collect();
    let (once, in_loop) = (u64::from(STEPS), u64::from(STEPS) * TIMES);
    assert!(
        counts.iter().all(|&n| n == once || n == in_loop),
        "{counts:?}"
    );
    assert!(
        counts.contains(&once) && counts.contains(&in_loop),
        "{counts:?}"
    );
    assert_eq!(
        counts.iter().sum::<u64>(),
        u64::from(STEPS) * launches as u64
    );
}

#[test]
fn a_counted_loop_is_launched_as_often_as_it_runs() {
    let g = Graph::new();
    let (x, count) = (g.input("x", [3], F32), g.input("count", [], I64));
    let scanned = g.scan_counted(count, 50, &[x], &[], |at| Left {
        carried: vec![at.carried[0].sin()],
        stacked: vec![],
    });
    let result = scanned.carried[0].key();
    let mut session = Session::compile(&g, Reference, &[result], Updates::none()).unwrap();
    session.feed(x, &[1f32; 3]).unwrap();
    session.feed(count, &[7i64]).unwrap();
    let profile = session.profile(1).unwrap();
    let most = profile.lines().iter().map(|line| line.launches).max();
    assert_eq!(most, Some(7));
}

#[test]
fn lines_add_up_to_no_more_than_the_step() {
    let (profile, _) = profile(Cpu::new().unwrap());
    let lines: Duration = profile.lines().iter().map(|line| line.time).sum();
    // The time of a step is rounded down to nanoseconds.
    let steps = (profile.step() + Duration::from_nanos(1)) * STEPS;
    assert!(
        lines > Duration::ZERO && lines <= steps,
        "{lines:?} of {steps:?}"
    );
}

#[test]
fn profiled_steps_are_steps() {
    let [mut stepped, mut profiled] = [(); 2].map(|()| fed(Cpu::new().unwrap()));
    (0..STEPS).for_each(|_| stepped.session.step().unwrap());
    profiled.session.profile(STEPS).unwrap();
    let [a, b] = [&stepped, &profiled].map(|net| net.session.parameter::<f32>(net.w).unwrap());
    assert_eq!(a, b);
}

#[test]
fn other_plans_have_profiles_too() {
    let Net {
        mut session,
        output,
        ..
    } = fed(Cpu::new().unwrap());
    let plan = session.plan(&[output], Updates::none()).unwrap();
    let profile = session.profile_of(plan, STEPS).unwrap();
    assert!(profile.lines().iter().all(|line| line.launches > 0));
    let all = session.step_plan().lines().len();
    assert!(profile.lines().len() < all);
}

#[test]
fn what_is_missing_is_an_error() {
    let error = net(Reference).session.profile(1).unwrap_err().to_string();
    assert!(
        error.contains("`x`") && error.contains("profile.rs"),
        "{error}"
    );
}

#[test]
fn a_trace_has_every_launch_of_a_step() {
    let (profile, launches) = profile(Cpu::new().unwrap());
    let trace: Value = serde_json::from_str(&profile.trace()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert_eq!(events.len(), launches);
    let mut end = 0.0;
    for event in events {
        let text = event["args"]["line"].as_str().unwrap();
        let mut lines = profile.lines().iter();
        let line = lines.find(|line| line.text == text).unwrap();
        assert_eq!(
            (&event["name"], &event["ph"]),
            (&line.name.into(), &"X".into())
        );
        let (begin, time) = (
            event["ts"].as_f64().unwrap(),
            event["dur"].as_f64().unwrap(),
        );
        // One after the other, up to the rounding of numbers to nanoseconds.
        assert!(begin > end - 2e-3 && time >= 0.0, "{event}");
        end = begin + time;
    }
}

#[test]
fn a_table_has_every_line() {
    let (profile, _) = profile(Cpu::new().unwrap());
    let table = profile.to_string();
    assert_eq!(table.lines().count(), 2 + profile.lines().len());
    let rows = table.lines().skip(2).zip(profile.lines());
    for (row, line) in rows {
        assert!(row.ends_with(&line.text), "{row}");
    }
}
