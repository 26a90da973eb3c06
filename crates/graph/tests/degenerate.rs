//! Every operation on shapes that its samples do not have: it gives a result or an error, and never
//! panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use backprop_core::Reference;
use backprop_graph::{Graph, Sample, Session, Tensor, Updates, catalogue};

type Change = fn(usize, &[usize]) -> Vec<usize>;

/// How the shape of input number `k` changes.
const CHANGES: &[(&str, Change)] = &[
    ("no elements", |_, shape| vec![0; shape.len()]),
    ("one element", |_, shape| vec![1; shape.len()]),
    ("no axes", |_, _| vec![]),
    ("eight axes", |_, _| vec![1; 8]),
    ("eight axes of two", |_, _| vec![2; 8]),
    ("one axis", |_, _| vec![3]),
    ("an empty first axis", |_, shape| {
        shape
            .iter()
            .enumerate()
            .map(|(axis, &size)| if axis == 0 { 0 } else { size })
            .collect()
    }),
    ("an empty last axis", |_, shape| {
        let last = shape.len().wrapping_sub(1);
        shape
            .iter()
            .enumerate()
            .map(|(axis, &size)| if axis == last { 0 } else { size })
            .collect()
    }),
    ("one axis more", |_, shape| [&[2], shape].concat()),
    ("one axis less", |_, shape| {
        shape.iter().skip(1).copied().collect()
    }),
    ("other sizes in each", |k, shape| {
        shape.iter().map(|size| size + k).collect()
    }),
    ("a huge axis", |_, shape| {
        shape
            .iter()
            .enumerate()
            .map(|(axis, &size)| if axis == 0 { 1 << 40 } else { size })
            .collect()
    }),
];

/// Builds, differentiates and compiles; whatever is wrong has to be an error.
fn attempt(sample: &Sample, build: for<'g> fn(&[Tensor<'g>]) -> Tensor<'g>, change: Change) {
    let g = Graph::new();
    let inputs = sample.inputs.iter().enumerate();
    let inputs: Vec<Tensor<'_>> = inputs
        .map(|(k, (dtype, shape, _))| g.input(&format!("x{k}"), change(k, shape), *dtype))
        .collect();
    let y = build(&inputs);
    if g.check().is_err() {
        return;
    }
    let reals: Vec<Tensor<'_>> = inputs
        .into_iter()
        .filter(|x| x.dtype().is_float())
        .collect();
    let mut keys = vec![y.key()];
    if let Ok(gradients) = g.vjp(&[(y, y)], &reals) {
        keys.extend(gradients.into_iter().map(Tensor::key));
    }
    let few =
        |key: &backprop_graph::Key| g.lookup(*key).is_some_and(|x| x.shape().count() < 1 << 20);
    if keys.iter().all(few) {
        drop(Session::compile(&g, Reference, &keys, Updates::none()));
    }
}

#[test]
fn no_shape_makes_an_operation_panic() {
    let mut panicked = Vec::new();
    for entry in catalogue() {
        for sample in &entry.samples {
            for (what, change) in CHANGES {
                let run = AssertUnwindSafe(|| attempt(sample, entry.build, *change));
                if catch_unwind(run).is_err() {
                    panicked.push(format!("{}: {what}", entry.name));
                }
            }
        }
    }
    assert!(panicked.is_empty(), "{}", panicked.join("\n"));
}
