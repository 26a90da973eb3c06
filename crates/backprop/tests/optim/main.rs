//! Optimizers and clipping against trajectories that PyTorch computed in 64 bits (see
//! `tests/data/optim/README.md`), training that goes on from saved state, and options without a meaning.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../golden/cases.rs"]
#[allow(dead_code, reason = "shared with a test that reads more of a case")]
mod cases;
mod mixed;
mod parts;
mod recipes;

use backprop::prelude::*;
use backprop::{ErrorKind, Reference};
use cases::{Case, Golden};
use recipes::{Recipe, recipes};

/// The problem of all cases: `mean((x w + b - y)^2)`.
struct Problem<'g> {
    feeds: [(&'static str, Tensor<'g>); 2],
    w: Param,
    b: Param,
    loss: Tensor<'g>,
    updates: Updates,
}

impl<'g> Problem<'g> {
    fn new(g: &'g Graph, golden: &Golden, recipe: Recipe) -> Problem<'g> {
        let start = &golden.cases[0];
        let values = |name: &str| Init::Values(golden.numbers(start, name));
        let (x, y) = (g.input("x", [8, 3], F64), g.input("y", [8, 2], F64));
        let w = g.parameter("w", [3, 2], F64, values("w"));
        let b = g.parameter("b", [2], F64, values("b"));
        let loss = (x.matmul(w) + b - y).square().mean(..);
        let gradients = g.grad(loss, &[w, b]).unwrap();
        Problem {
            feeds: [("x", x), ("y", y)],
            w,
            b,
            loss,
            updates: recipe(g, [w, b], [gradients[0], gradients[1]]),
        }
    }

    fn session<B: Backend>(&self, golden: &Golden, g: &Graph, backend: &B) -> Session<B> {
        let updates = self.updates.clone();
        let mut session =
            Session::compile(g, backend.clone(), &[self.loss.key()], updates).unwrap();
        for (name, tensor) in self.feeds {
            let values = golden.numbers(&golden.cases[0], name);
            session.feed(tensor, &values).unwrap();
        }
        session
    }
}

#[test]
fn trajectories_on_the_reference() {
    replay(&Reference);
}

#[cfg(feature = "cpu")]
#[test]
fn trajectories_on_the_cpu() {
    replay(&Cpu::new().unwrap());
}

fn replay(backend: &impl Backend) {
    let golden = Golden::load("optim");
    let named: Vec<&str> = golden.cases[1..].iter().map(|c| c.name.as_str()).collect();
    let known: Vec<&str> = recipes().map(|(name, _)| name).collect();
    assert_eq!(named, known);
    let failed: Vec<String> = golden.cases[1..]
        .iter()
        .zip(recipes())
        .filter_map(|(case, (_, recipe))| follow(&golden, case, recipe, backend).err())
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The values of a parameter by its name.
fn state(session: &Session<impl Backend>, name: &str) -> Vec<f64> {
    let all = session.parameters();
    let info = all.iter().find(|info| info.name == name).unwrap();
    match info.dtype {
        F32 => {
            let narrow = session.parameter::<f32>(info.parameter).unwrap();
            narrow.into_iter().map(f64::from).collect()
        }
        _ => session.parameter::<f64>(info.parameter).unwrap(),
    }
}

/// An error at the first step that differs.
fn follow(
    golden: &Golden,
    case: &Case,
    recipe: Recipe,
    backend: &impl Backend,
) -> std::result::Result<(), String> {
    let g = Graph::new();
    let problem = Problem::new(&g, golden, recipe);
    let mut session = problem.session(golden, &g, backend);
    let results: Vec<(&str, Vec<f64>)> = case
        .outputs
        .iter()
        .map(|spec| (spec.name.as_str(), golden.numbers(case, &spec.name)))
        .collect();
    let steps = case.outputs[0].shape[0];
    assert!(steps >= 12);
    for step in 0..steps {
        session.step().unwrap();
        for (name, all) in &results {
            let got = match *name {
                "losses" => session.fetch::<f64>(problem.loss).unwrap(),
                name => state(&session, name),
            };
            let size = all.len() / steps;
            let wanted = &all[step * size..][..size];
            let largest = wanted.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * largest;
            if got.len() != size || !got.iter().zip(wanted).all(near) {
                let case = &case.name;
                return Err(format!(
                    "{case}, step {step}: {name} is {got:?}, not {wanted:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Nothing a step goes by is frozen in a plan: a plan made anew for every step, with all state brought
/// over from the last, trains to the same bits.
#[test]
fn a_plan_kept_trains_as_plans_made_anew() {
    let golden = Golden::load("optim");
    for (name, recipe) in recipes() {
        let g = Graph::new();
        let problem = Problem::new(&g, &golden, recipe);
        let mut kept = problem.session(&golden, &g, &Reference);
        let mut saved: Option<Vec<Vec<u8>>> = None;
        for step in 0..5 {
            let h = Graph::new();
            let again = Problem::new(&h, &golden, recipe);
            let mut fresh = again.session(&golden, &h, &Reference);
            for (parameter, bytes) in h.parameters().into_iter().zip(saved.iter().flatten()) {
                fresh.set_parameter_bytes(parameter, bytes).unwrap();
            }
            kept.step().unwrap();
            fresh.step().unwrap();
            let bytes = |session: &Session<Reference>, g: &Graph| -> Vec<Vec<u8>> {
                let all = g.parameters().into_iter();
                all.map(|p| session.parameter_bytes(p).unwrap()).collect()
            };
            let state = bytes(&fresh, &h);
            assert_eq!(state, bytes(&kept, &g), "{name}, step {step}");
            saved = Some(state);
        }
    }
}

/// Every option without a meaning is an error that names it and the line of the call.
#[test]
fn options_without_a_meaning() {
    for (option, recipe) in recipes::MEANINGLESS {
        let golden = Golden::load("optim");
        let g = Graph::new();
        let problem = Problem::new(&g, &golden, *recipe);
        let compiled = Session::compile(&g, Reference, &[], problem.updates);
        let error = compiled.map(|_| ()).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Attribute { .. }),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.contains(option), "{option}: {text}");
        assert!(text.contains("recipes/meaningless.rs"), "{text}");
    }
}

/// The means of the parameters after each step, the first copied.
#[test]
fn running_means_of_parameters() {
    let golden = Golden::load("optim");
    let g = Graph::new();
    let (_, plain) = recipes().next().unwrap();
    let mut problem = Problem::new(&g, &golden, plain);
    let kept = optim::ema(&g, &[problem.w, problem.b], problem.updates, 0.8);
    problem.updates = kept.updates;
    let mut session = problem.session(&golden, &g, &Reference);
    for _ in 0..14 {
        session.step().unwrap();
    }
    for (mean, name) in kept.means.into_iter().zip(["mean_w", "mean_b"]) {
        let expected = golden.numbers(&golden.cases[0], name);
        let got = session.parameter::<f64>(mean).unwrap();
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * b.abs();
        assert!(
            got.iter().zip(&expected).all(near),
            "{got:?}, not {expected:?}"
        );
    }
}
