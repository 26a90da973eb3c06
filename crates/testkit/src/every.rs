//! Checks of every operation of the catalogue.

use backprop_core::Backend;
use backprop_graph::{Entry, Graph, Sample, Tensor, catalogue};

use crate::gradcheck::{GradCheck, GradError, declare, floats};

/// Builds an operation.
type Operation = for<'g> fn(&[Tensor<'g>]) -> Tensor<'g>;

/// What became of one operation of the catalogue.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The operation.
    pub name: &'static str,
    /// How many slopes agreed; 0 for an operation whose result has no derivative.
    pub slopes: usize,
    /// What went wrong, by sample.
    pub failed: Vec<String>,
}

/// Checks every operation of the catalogue on all of its samples: gradients to the second order,
/// and hand-written ones against derived ones. An operation without samples fails.
#[must_use]
pub fn gradcheck_all() -> Vec<Checked> {
    catalogue().iter().map(check_entry).collect()
}

/// Runs every operation of the catalogue on all of its samples: outputs and gradients on `backend`
/// against those on the reference.
#[must_use]
pub fn compare_all<B: Backend>(backend: &B) -> Vec<Checked> {
    let check = GradCheck::default();
    on_all(|sample, build| check.check_on(backend, sample, |_, x| vec![build(x)]))
}

/// Runs every operation of the catalogue on batches of all of its samples, at once and one element after
/// the other.
#[must_use]
pub fn batched_all() -> Vec<Checked> {
    let check = GradCheck::default();
    on_all(|sample, build| check.check_batched(sample, |_, x| vec![build(x)]))
}

/// Checks all samples of every operation.
fn on_all(check: impl Fn(&Sample, Operation) -> Result<(), GradError>) -> Vec<Checked> {
    let checked = |entry: &Entry| {
        let mut checked = Checked {
            name: entry.name,
            slopes: 0,
            failed: Vec::new(),
        };
        for (i, sample) in entry.samples.iter().enumerate() {
            match check(sample, entry.build) {
                Ok(()) => checked.slopes += 1,
                Err(what) => checked.failed.push(format!("sample {i}: {what}")),
            }
        }
        checked
    };
    catalogue().iter().map(checked).collect()
}

fn check_entry(entry: &Entry) -> Checked {
    let mut checked = Checked {
        name: entry.name,
        slopes: 0,
        failed: Vec::new(),
    };
    if entry.samples.is_empty() {
        checked.failed.push("has no samples".into());
    }
    for (i, sample) in entry.samples.iter().enumerate() {
        match check_sample(entry, sample) {
            Ok(slopes) => checked.slopes += slopes,
            Err(what) => checked.failed.push(format!("sample {i}: {what}")),
        }
    }
    checked
}

/// The number of slopes that agree.
fn check_sample(entry: &Entry, sample: &Sample) -> Result<usize, GradError> {
    let check = GradCheck::default();
    check.check_derived(sample, |_, x| vec![(entry.build)(x)])?;
    if !is_differentiable(entry, sample) {
        return Ok(0);
    }
    check.check_forward(sample, |_, x| vec![(entry.build)(x)])?;
    let slopes = check.check(sample, |_, x| vec![(entry.build)(x)])?;
    Ok(slopes.len())
}

/// Whether the result is a real number that depends on real inputs.
fn is_differentiable(entry: &Entry, sample: &Sample) -> bool {
    let graph = Graph::new();
    let output = (entry.build)(&declare(&graph, sample));
    output.dtype().is_float() && !floats(sample).is_empty()
}
