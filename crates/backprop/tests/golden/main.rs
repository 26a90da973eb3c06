//! Values, gradients, Hessian-vector products and optimizer steps against values that PyTorch
//! computed in 64 bits: the sets in `tests/data/golden` and `tests/data/more` (see the `README.md` of
//! each).
//!
//! A case the engine cannot run yet is named in [`SETS`]; the test fails if the list is not exactly
//! what it met.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod algebra;
mod cases;
mod layers;
mod models;
mod operations;
mod optimizers;
mod sequences;
mod windows;

use std::io::Write;

use backprop::{
    Backend, DType, ErrorKind, Graph, Key, Reference, Result, Session, Tensor, Updates,
};
use cases::{Case, Golden};

/// The folders with cases, and those whose operations are missing.
const SETS: [(&str, &[&str]); 2] = [("golden", &[]), ("more", &[])];

/// Cases that need more room in a type than [`tolerance`] gives, and why.
const EXCEPTIONS: &[(&str, DType, f64, &str)] = &[];

/// Relative to the largest magnitude of the expected tensor.
fn tolerance(case: &str, dtype: DType) -> f64 {
    let excepted = EXCEPTIONS.iter().find(|e| e.0 == case && e.1 == dtype);
    match (excepted, dtype) {
        (Some(&(_, _, tolerance, _)), _) => tolerance,
        (None, DType::F32) => 1e-4,
        (None, _) => 1e-9,
    }
}

/// What became of a case that could be built; the error says what differs.
type Outcome = std::result::Result<(), String>;

#[test]
fn reference_f64() {
    check("reference", &Reference, DType::F64);
}

#[cfg(feature = "cpu")]
#[test]
fn cpu_f64() {
    check("cpu", &backprop::Cpu::new().unwrap(), DType::F64);
}

#[cfg(feature = "cpu")]
#[test]
fn cpu_f32() {
    check("cpu", &backprop::Cpu::new().unwrap(), DType::F32);
}

/// On a GPU; where there is none, the backend's own tests run on an emulated one.
#[cfg(feature = "cuda")]
#[allow(clippy::print_stdout, reason = "a test that cannot run says so")]
fn cuda(dtype: DType) {
    match backprop::Cuda::new(0) {
        Ok(cuda) => check("cuda", &cuda, dtype),
        Err(error) if std::env::var_os("BACKPROP_REQUIRE_GPU").is_some() => panic!("{error}"),
        Err(error) => println!("skipped: golden cases on cuda: {error}"),
    }
}

#[cfg(feature = "cuda")]
#[test]
fn cuda_f64() {
    cuda(DType::F64);
}

#[cfg(feature = "cuda")]
#[test]
fn cuda_f32() {
    cuda(DType::F32);
}

fn check(name: &str, backend: &impl Backend, dtype: DType) {
    for (set, missing) in SETS {
        check_set(set, missing, name, backend, dtype);
    }
}

fn check_set(set: &str, missing: &[&str], name: &str, backend: &impl Backend, dtype: DType) {
    let golden = Golden::load(set);
    let (mut passed, mut failed, mut unsupported) = (0, Vec::new(), Vec::new());
    for case in &golden.cases {
        match run(&golden, case, backend, dtype) {
            None => unsupported.push(case.name.as_str()),
            Some(Ok(())) => passed += 1,
            Some(Err(what)) => failed.push(format!("{}: {what}", case.name)),
        }
    }
    // Not `println!`, which the test runner keeps to itself.
    let mut out = std::io::stderr();
    let (f, u) = (failed.len(), unsupported.len());
    writeln!(
        out,
        "{set} {name} {dtype}: {passed} passed, {f} failed, {u} unsupported"
    )
    .unwrap();
    writeln!(out, "  unsupported: {}", unsupported.join(" ")).unwrap();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
    assert_eq!(unsupported, missing);
}

/// `None` if the engine lacks the operation.
fn run(golden: &Golden, case: &Case, backend: &impl Backend, dtype: DType) -> Option<Outcome> {
    if case.op == "optimizer" {
        return optimizers::run(golden, case, backend, dtype);
    }
    let g = Graph::new();
    let problem = Problem::build(&g, case, dtype)?;
    Some(match problem {
        Err(error) => Err(error.to_string()),
        Ok(problem) => problem.run(golden, case, backend, dtype),
    })
}

/// A case as a graph: what to feed, and what to fetch.
struct Problem<'g> {
    feeds: Vec<(String, Tensor<'g>)>,
    /// Names of expected tensors with the computed ones; none for a derivative that is zero because
    /// there is nothing to differentiate.
    results: Vec<(String, Option<Tensor<'g>>)>,
}

impl<'g> Problem<'g> {
    fn build(g: &'g Graph, case: &Case, dtype: DType) -> Option<Result<Problem<'g>>> {
        let mut feeds = Vec::new();
        let mut feed = |name: &str, shape: &[usize], integer: bool| {
            let dtype = if integer { DType::I64 } else { dtype };
            let tensor = g.input(&name.replace('.', "_"), shape, dtype);
            feeds.push((name.to_owned(), tensor));
            tensor
        };
        let declare = |spec: &cases::Spec| feed(&spec.name, &spec.shape, spec.integer);
        let inputs: Vec<Tensor<'g>> = case.inputs.iter().map(declare).collect();
        let outputs = operations::build(g, case, &inputs)?;
        let mut results: Vec<(String, Option<Tensor<'g>>)> = Vec::new();
        let mut sum: Vec<(Tensor<'g>, Tensor<'g>)> = Vec::new();
        for (i, (spec, &output)) in case.outputs.iter().zip(&outputs).enumerate() {
            results.push((spec.name.clone(), Some(output)));
            if case.op == "model" {
                sum.push((output, g.full([], 1.0, dtype)));
            } else if spec.grad {
                sum.push((output, feed(&format!("cot{i}"), &spec.shape, false)));
            }
        }
        let wrt: Vec<usize> = (0..inputs.len()).filter(|&i| case.inputs[i].grad).collect();
        let tensors: Vec<Tensor<'g>> = wrt.iter().map(|&i| inputs[i]).collect();
        if tensors.is_empty() {
            return Some(g.check().map(|()| Problem { feeds, results }));
        }
        let gradients = match g.vjp(&sum, &tensors) {
            Ok(gradients) => gradients,
            Err(error) => return Some(Err(error)),
        };
        for (&i, &gradient) in wrt.iter().zip(&gradients) {
            results.push((format!("d_{}", case.inputs[i].name), Some(gradient)));
        }
        if case.hvp {
            let directions = wrt.iter().zip(&gradients).map(|(&i, &gradient)| {
                let spec = &case.inputs[i];
                (
                    gradient,
                    feed(&format!("v_{}", spec.name), &spec.shape, false),
                )
            });
            let directions: Vec<_> = directions.collect();
            for &i in &wrt {
                let name = format!("hvp_{}", case.inputs[i].name);
                results.push((name, second(g, &directions, inputs[i])));
            }
            // The same, forward over reverse.
            let moved: Vec<_> = wrt
                .iter()
                .zip(&directions)
                .map(|(&i, d)| (inputs[i], d.1))
                .collect();
            let along = g.jvp(&gradients, &moved);
            for (&i, along) in wrt.iter().zip(along.into_iter().flatten()) {
                results.push((format!("hvp_{}", case.inputs[i].name), Some(along)));
            }
        }
        Some(g.check().map(|()| Problem { feeds, results }))
    }

    fn run(&self, golden: &Golden, case: &Case, backend: &impl Backend, dtype: DType) -> Outcome {
        let text = |error: backprop::Error| error.to_string();
        let keys: Vec<Key> = self
            .results
            .iter()
            .filter_map(|(_, t)| Some(t.as_ref()?.key()))
            .collect();
        let g = self.feeds[0].1.graph();
        let mut session =
            Session::compile(g, backend.clone(), &keys, Updates::none()).map_err(text)?;
        for (name, tensor) in &self.feeds {
            golden
                .feed(&mut session, case, name, *tensor)
                .map_err(text)?;
        }
        session.step().map_err(text)?;
        for (name, tensor) in &self.results {
            let expected = golden.numbers(case, name);
            let got = match tensor {
                Some(tensor) => cases::fetch(&session, *tensor).map_err(text)?,
                None => vec![0.0; expected.len()],
            };
            compare(name, &got, &expected, tolerance(&case.name, dtype))?;
        }
        Ok(())
    }
}

/// The derivative of the products of gradients and directions; `None` where there is none.
fn second<'g>(
    g: &'g Graph,
    directions: &[(Tensor<'g>, Tensor<'g>)],
    wrt: Tensor<'g>,
) -> Option<Tensor<'g>> {
    match g.vjp(directions, &[wrt]) {
        Ok(products) => Some(products[0]),
        Err(error) if matches!(error.kind(), ErrorKind::Unreachable { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn compare(name: &str, got: &[f64], expected: &[f64], tolerance: f64) -> Outcome {
    if got.len() != expected.len() {
        let (g, e) = (got.len(), expected.len());
        return Err(format!("{name} has {g} elements, not {e}"));
    }
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let allowed = tolerance * if largest > 0.0 { largest } else { 1.0 };
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let close = (g - e).abs() <= allowed;
        // A NaN is not close.
        if !close {
            let relative = (g - e).abs() / largest;
            return Err(format!(
                "{name}[{i}] is {g}, not {e} ({relative:.1e} of the largest)"
            ));
        }
    }
    Ok(())
}
