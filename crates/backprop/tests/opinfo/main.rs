//! PyTorch's own operator samples: values and gradients of hundreds of operations, as PyTorch
//! computed them in 64 bits (see `tests/data/opinfo/README.md`).
//!
//! One line is printed for each operation, and a last one with the totals. What the engine cannot run
//! is listed in `unsupported.txt` beside the cases, with the reason; the test fails if anything leaves
//! or joins the list, and `cargo xtask bless -p backprop --test opinfo` rewrites it. The environment
//! variable `OPINFO` runs only the operations that begin with its value, and leaves the list alone.
#![cfg(feature = "cpu")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[macro_use]
mod cases;
mod adapt;
mod call;
mod conv;
mod conventions;
mod diagonal;
mod elementwise;
mod getitem;
mod image;
mod index;
mod join;
mod linalg;
mod linalg_norm;
mod loss;
mod nn;
mod order;
mod product;
mod reduce;
mod report;
mod segment;
mod shape;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use backprop::{
    Backend, Cpu, DType, Error, ErrorKind, Graph, Key, Reference, Session, Tensor, Updates,
};
use call::{Call, Mapping, Unsupported};
use cases::{Case, Suite};
use report::{Report, Verdict};

const FAMILIES: &[fn(&str, &str) -> Option<Mapping>] = &[
    elementwise::find,
    reduce::find,
    order::find,
    product::find,
    shape::find,
    index::find,
    nn::find,
    loss::find,
    image::find,
    conv::find,
    linalg::find,
];

/// What stands for PyTorch's operation here.
fn find(case: &Case) -> Option<Mapping> {
    let (op, variant) = (case.op.as_str(), case.variant.as_str());
    let mut found = FAMILIES.iter().filter_map(|find| find(op, variant));
    let mapping = found.next();
    assert!(found.next().is_none(), "two families know {op}");
    mapping
}

#[test]
fn cpu() {
    let report = report(|| Cpu::builder().threads(1).build().unwrap());
    report.print();
    report.check();
}

#[test]
fn reference() {
    report(|| Reference).check();
}

/// Runs the cases, each thread with a backend of its own.
fn report<B: Backend>(backend: impl Fn() -> B + Sync) -> Report {
    let mut suite = Suite::load();
    if let Some(only) = report::only() {
        let wanted = |case: &Case| case.operation().starts_with(&only);
        suite.cases.retain(wanted);
    }
    Report::new(&suite.cases, all(&suite, backend))
}

fn all<B: Backend>(suite: &Suite, backend: impl Fn() -> B + Sync) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        let backend = backend();
        let mut verdicts = Vec::new();
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(case) = suite.cases.get(at)
        {
            verdicts.push((at, run(suite, case, &backend)));
        }
        verdicts
    };
    let mut verdicts: Vec<(usize, Verdict)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results = handles.into_iter().map(|handle| handle.join().unwrap());
        results.flatten().collect()
    });
    verdicts.sort_by_key(|&(at, _)| at);
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}

fn run(suite: &Suite, case: &Case, backend: &impl Backend) -> Verdict {
    let attempt = || attempt(suite, case, backend).err();
    let outcome = catch_unwind(AssertUnwindSafe(attempt));
    outcome
        .unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            Some(Verdict::Failed(format!("panic: {}", text.unwrap_or("?"))))
        })
        .unwrap_or(Verdict::Passed)
}

/// Something to fetch, and what it is compared as.
struct Fetch<'g> {
    tensor: Tensor<'g>,
    kind: Kind,
}

enum Kind {
    Output(usize),
    /// The new value of an input.
    After(usize),
    Gradient(usize),
}

/// `Err` with what keeps the case from passing.
fn attempt(suite: &Suite, case: &Case, backend: &impl Backend) -> Result<(), Verdict> {
    let mapping = find(case).ok_or(Unsupported("no such operation".to_owned()))?;
    let g = Graph::new();
    let inputs: Vec<Tensor<'_>> = case
        .inputs
        .iter()
        .map(|input| g.input(&input.name, &input.shape, input.dtype))
        .collect();
    let call = Call::new(&g, suite, case, &inputs);
    let outputs = mapping(&call)?;
    if let Some(unread) = call.unread() {
        return Err(Verdict::Unsupported(unread));
    }
    g.check()?;
    let mut fetches = typed(case, &outputs)?;
    let cots = cotangents(&g, case);
    let weighted: Vec<_> = cots.iter().map(|&(i, cot)| (outputs[i], cot)).collect();
    let wrt = (0..inputs.len()).filter(|&i| case.inputs[i].grad.is_some());
    for (i, gradient) in gradients(&g, &weighted, wrt.collect(), &inputs)? {
        let (tensor, kind) = (gradient, Kind::Gradient(i));
        fetches.push(Fetch { tensor, kind });
    }
    // Compared as `f64`, into which all types convert exactly.
    for fetch in &mut fetches {
        fetch.tensor = fetch.tensor.cast(DType::F64);
    }
    let keys: Vec<Key> = fetches.iter().map(|fetch| fetch.tensor.key()).collect();
    let mut session = Session::compile(&g, backend.clone(), &keys, Updates::none())?;
    let fed = inputs
        .iter()
        .zip(&case.inputs)
        .map(|(x, input)| (*x, &input.data));
    let cot = |&(i, cot): &(usize, _)| Some((cot, case.outputs[i].cot.as_ref()?));
    for (tensor, key) in fed.chain(cots.iter().filter_map(cot)) {
        suite.feed(&mut session, key, tensor).map_err(failed)?;
    }
    session.step().map_err(failed)?;
    for fetch in &fetches {
        let got = session.fetch::<f64>(fetch.tensor).map_err(failed)?;
        compare(suite, case, &fetch.kind, &got).map_err(Verdict::Failed)?;
    }
    Ok(())
}

/// The outputs and new values with the types that PyTorch gives them.
fn typed<'g>(case: &Case, outputs: &[Tensor<'g>]) -> Result<Vec<Fetch<'g>>, Verdict> {
    let given = case.outputs.iter().enumerate();
    let given = given.map(|(i, output)| (Kind::Output(i), output.dtype, &output.shape));
    let changed = case
        .inputs
        .iter()
        .enumerate()
        .filter(|(_, input)| input.after.is_some());
    let changed = changed.map(|(i, input)| (Kind::After(i), input.dtype, &input.shape));
    let expected: Vec<_> = given.chain(changed).collect();
    // New values of inputs that PyTorch leaves as they are follow unasked for.
    let changes = expected.len() > case.outputs.len();
    if outputs.len() < expected.len() || changes && outputs.len() > expected.len() {
        let what = format!("{} outputs, not {}", outputs.len(), expected.len());
        return Err(Verdict::Failed(what));
    }
    let pairs = outputs.iter().zip(expected).enumerate();
    let fetch =
        |(i, (&tensor, (kind, dtype, shape))): (usize, (&Tensor<'g>, (_, DType, &Vec<usize>)))| {
            let alike =
                tensor.dtype() == dtype || tensor.dtype().is_integer() && dtype.is_integer();
            if alike && tensor.shape().as_ref() == shape.as_slice() {
                return Ok(Fetch { tensor, kind });
            }
            let got = format!("{}{}", tensor.dtype(), tensor.shape());
            Err(Verdict::Failed(format!(
                "output {i} is {got}, not {dtype}{shape:?}"
            )))
        };
    pairs.map(fetch).collect()
}

/// An input for the cotangent of each differentiable output.
fn cotangents<'g>(g: &'g Graph, case: &Case) -> Vec<(usize, Tensor<'g>)> {
    let outputs = case.outputs.iter().enumerate();
    let differentiable = outputs.filter(|(_, output)| output.cot.is_some());
    differentiable
        .map(|(i, output)| {
            let name = format!("cot{i}");
            (i, g.input(&name, &output.shape, output.dtype))
        })
        .collect()
}

/// The gradients of these inputs; zeros where there is none.
fn gradients<'g>(
    g: &'g Graph,
    weighted: &[(Tensor<'g>, Tensor<'g>)],
    wrt: Vec<usize>,
    inputs: &[Tensor<'g>],
) -> Result<Vec<(usize, Tensor<'g>)>, Error> {
    let tensors: Vec<Tensor<'g>> = wrt.iter().map(|&i| inputs[i]).collect();
    if let Ok(gradients) = g.vjp(weighted, &tensors) {
        return Ok(wrt.into_iter().zip(gradients).collect());
    }
    // One of them has none, and hides the others.
    let single = |i: usize| match g.vjp(weighted, &[inputs[i]]) {
        Ok(gradient) => Ok((i, gradient[0])),
        Err(error) if is_absent(&error) => {
            Ok((i, g.full(inputs[i].shape(), 0.0, inputs[i].dtype())))
        }
        Err(error) => Err(error),
    };
    wrt.into_iter().map(single).collect()
}

fn is_absent(error: &Error) -> bool {
    use ErrorKind::{NotDifferentiable, Unreachable};
    matches!(error.kind(), Unreachable { .. } | NotDifferentiable { .. })
}

fn compare(suite: &Suite, case: &Case, kind: &Kind, got: &[f64]) -> Result<(), String> {
    let (name, compared) = match *kind {
        Kind::Output(i) => {
            let output = &case.outputs[i];
            let expected = suite.numbers(&output.data);
            let compared = conventions::output(suite, case, output.dtype, got, &expected);
            (output.name.clone(), compared)
        }
        Kind::After(i) => {
            let input = &case.inputs[i];
            let expected = suite.numbers(input.after.as_ref().unwrap());
            let compared = conventions::output(suite, case, input.dtype, got, &expected);
            (format!("{} afterwards", input.name), compared)
        }
        Kind::Gradient(i) => {
            let input = &case.inputs[i];
            let expected = suite.numbers(input.grad.as_ref().unwrap());
            let compared = conventions::gradient(suite, case, i, got, &expected);
            (format!("gradient of {}", input.name), compared)
        }
    };
    compared.map_err(|what| format!("{name}{what}"))
}

fn failed(error: Error) -> Verdict {
    Verdict::Failed(error.to_string())
}

impl From<Unsupported> for Verdict {
    fn from(Unsupported(why): Unsupported) -> Verdict {
        Verdict::Unsupported(why)
    }
}

/// What the engine refuses with an error of its own is not supported; trouble inside of it is a
/// failure.
impl From<Error> for Verdict {
    fn from(error: Error) -> Verdict {
        match error.kind() {
            ErrorKind::Shape { .. }
            | ErrorKind::DType { .. }
            | ErrorKind::Axis { .. }
            | ErrorKind::Attribute { .. }
            | ErrorKind::Unsupported { .. } => Verdict::Unsupported(error.kind().to_string()),
            _ => failed(error),
        }
    }
}
