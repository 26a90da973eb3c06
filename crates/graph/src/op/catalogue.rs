//! Every operation with inputs to try it on: what the tests of gradients walk over.

use backprop_core::DType;

use crate::composite::Sample;
use crate::op::*;
use crate::tensor::Tensor;

/// An operation with inputs to try it on.
#[derive(Debug)]
pub struct Entry {
    /// The name.
    pub name: &'static str,
    /// Types, shapes and intervals of the inputs; integers are labels, indices or masks.
    pub samples: Vec<Sample>,
    /// Builds the operation.
    pub build: for<'g> fn(&[Tensor<'g>]) -> Tensor<'g>,
}

macro_rules! entries {
    ($($name:ident $samples:expr => |$x:ident| $build:expr;)*) => {
        vec![$(Entry { name: stringify!($name), samples: $samples, build: |$x| $build },)*]
    };
}
pub(crate) use entries;

/// Every operation that gives one tensor, with inputs on which derivatives of two orders exist
/// (besides kinks that random numbers do not meet).
#[must_use]
pub fn catalogue() -> Vec<Entry> {
    [
        activations::entries(),
        arrange::entries(),
        attention::entries(),
        classification::entries(),
        conv::entries(),
        ctc::entries(),
        diagonal::entries(),
        einsum::entries(),
        elementwise::entries(),
        functions::entries(),
        grid_sample::entries(),
        im2col::entries(),
        index::entries(),
        interpolate::entries(),
        linalg::entries(),
        loss::entries(),
        matmul::entries(),
        metric_loss::entries(),
        norm::entries(),
        padding::entries(),
        quantile::entries(),
        pool::entries(),
        random::entries(),
        recurrent::entries(),
        reduce::entries(),
        require::entries(),
        rotary::entries(),
        running::entries(),
        cumulative::entries(),
        scatter::entries(),
        crate::scan::entries(),
        shape::entries(),
        shuffle::entries(),
        similarity::entries(),
        softmax::entries(),
        sort::entries(),
        statistics::entries(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Inputs of these shapes, with values between -2 and 2.
pub(crate) fn reals(shapes: &[&[usize]]) -> Vec<Sample> {
    vec![Sample::reals(shapes)]
}

/// Inputs of these shapes, with values in an interval.
pub(super) fn within(range: (f64, f64), shapes: &[&[usize]]) -> Vec<Sample> {
    let none = Sample::reals(&[]);
    let add = |sample: Sample, shape: &&[usize]| sample.with(DType::F64, shape, range);
    vec![shapes.iter().fold(none, add)]
}

/// Real inputs, then whole numbers below `high`.
pub(crate) fn labelled(shapes: &[&[usize]], labels: &[usize], high: usize) -> Vec<Sample> {
    let sample = Sample::reals(shapes).with(DType::I64, labels, (0.0, high as f64));
    vec![sample]
}

/// One input of more than one shape.
pub(super) fn unary() -> Vec<Sample> {
    vec![Sample::reals(&[&[3, 5]]), Sample::reals(&[&[]])]
}

/// Two inputs, alike and broadcast.
pub(super) fn pairs(range: (f64, f64)) -> Vec<Sample> {
    let shapes: [[&[usize]; 2]; 3] = [[&[2, 3], &[2, 3]], [&[2, 1, 4], &[3, 1]], [&[], &[5]]];
    shapes.iter().flat_map(|pair| within(range, pair)).collect()
}

pub(super) const POSITIVE: (f64, f64) = (0.2, 3.0);
pub(super) const ALL: (f64, f64) = (-2.0, 2.0);

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Operations whose results are no real numbers, or that cut the gradient off.
    const NOT_DIFFERENTIABLE: &[&str] = &[
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "logical_not",
        "logical_and",
        "logical_or",
        "is_nan",
        "is_inf",
        "is_finite",
        "next_key",
        "random_state",
        "stop_gradient",
    ];

    /// The operations that a file makes public: methods and functions that give tensors or structs of
    /// them, and the lines of the macros that define whole families.
    fn operations(source: &str) -> Vec<&str> {
        let mut found = Vec::new();
        for (start, _) in source.match_indices("pub fn ") {
            let signature = &source[start + "pub fn ".len()..];
            let name = signature.split(['(', '<']).next().unwrap_or_default();
            let signature = signature.split('{').next().unwrap_or_default();
            let result = signature.split_once("->").map_or("", |(_, result)| result);
            let gives = ["<'g>", "<'_>"]
                .iter()
                .any(|handle| result.contains(handle));
            if gives && !name.starts_with('$') {
                found.push(name);
            }
        }
        let documented = |line: &str| line.starts_with("    ///");
        let pairs = source.lines().zip(source.lines().skip(1));
        for (_, line) in pairs.filter(|(before, line)| documented(before) && !documented(line)) {
            let is_row = line.contains("=>") || line.ends_with(';');
            let name = line.trim().split(['(', ' ']).next().unwrap_or_default();
            if is_row && !["pub", "fn", "const", "let"].contains(&name) {
                found.push(name);
            }
        }
        found
    }

    #[test]
    fn every_operation_has_samples() {
        let folder = |name| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let files = |name| std::fs::read_dir(folder(name)).unwrap();
        let mut missing = Vec::new();
        for entry in files("src/op")
            .chain(files("src/op/linalg"))
            .chain(files("src/scan"))
        {
            let path = entry.unwrap().path();
            let source = std::fs::read_to_string(&path).unwrap_or_default();
            let (code, samples) = source.split_once("fn entries()").unwrap_or((&source, ""));
            for name in operations(code) {
                let tried = samples.contains(&format!(".{name}("));
                if !tried && !NOT_DIFFERENTIABLE.contains(&name) {
                    missing.push(format!("{}: {name}", path.display()));
                }
            }
        }
        assert!(
            missing.is_empty(),
            "without samples:\n{}",
            missing.join("\n")
        );
    }
}
