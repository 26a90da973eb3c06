//! What counts as equal, and which parts of some results are free by PyTorch's conventions.

use backprop::DType;

use crate::cases::{Case, Suite};

const RELATIVE: f64 = 1e-9;
const ABSOLUTE: f64 = 1e-11;

/// Operations that need more room than [`RELATIVE`], and why.
const EXCEPTIONS: &[(&str, f64, &str)] = &[
    (
        "nn.functional.celu",
        1e-6,
        "PyTorch's gradient has 1 / alpha in 32 bits",
    ),
    (
        "nn.functional.hardsigmoid",
        1e-7,
        "PyTorch's gradient has 1 / 6 in 32 bits",
    ),
];

/// Operations that choose elements along an axis and name them by an index output: the position of
/// the argument `dim`, and its default. Which of equal elements is chosen is free, so that gradients
/// count by their sum over equal elements.
const CHOICES: &[(&str, usize, Option<i64>)] = &[
    ("max", 1, None),
    ("min", 1, None),
    ("median", 1, None),
    ("nanmedian", 1, None),
    ("cummax", 1, None),
    ("cummin", 1, None),
    ("mode", 1, Some(-1)),
    ("sort", 1, Some(-1)),
    ("kthvalue", 2, Some(-1)),
    ("topk", 2, Some(-1)),
];

/// Functions of a symmetric matrix: the symmetric part of the gradient counts.
const SYMMETRIC: &[&str] = &[
    "linalg.cholesky",
    "linalg.eigvalsh",
    "linalg.pinv.hermitian",
];

/// Functions of a triangle of an input, the lower one unless `upper` at a position says otherwise:
/// that part of the gradient counts.
const TRIANGULAR: &[(&str, &str, usize)] =
    &[("cholesky_inverse", "i0", 1), ("cholesky_solve", "i1", 2)];

/// Operations whose gradient at a NaN PyTorch computes differently in vector registers and for the
/// elements left over: it is free.
const FREE_AT_NAN: &[&str] = &[
    "nn.functional.hardshrink",
    "nn.functional.hardtanh",
    "nn.functional.relu6",
    "nn.functional.softshrink",
];

/// Compares an output in this type.
pub(crate) fn output(
    suite: &Suite,
    case: &Case,
    dtype: DType,
    got: &[f64],
    expected: &[f64],
) -> Result<(), String> {
    if dtype == DType::I64
        && let Some(choice) = Choice::of(case)
    {
        let source = suite.numbers(&case.inputs[0].data);
        let chosen = |indices: &[f64]| choice.values(&source, indices);
        return close(&chosen(got), &chosen(expected), 0.0);
    }
    close(got, expected, tolerance(case, dtype))
}

/// Compares the gradient of an input, up to what is free.
pub(crate) fn gradient(
    suite: &Suite,
    case: &Case,
    at: usize,
    got: &[f64],
    expected: &[f64],
) -> Result<(), String> {
    let [got, expected] = [got, expected].map(|gradient| counted(suite, case, at, gradient));
    // No more accurate than the least accurate output, or the type itself.
    let outputs = case.outputs.iter().map(|output| output.dtype);
    let types = outputs.chain([case.inputs[at].dtype]);
    let narrow = types.map(|dtype| tolerance(case, dtype));
    close(&got, &expected, narrow.fold(RELATIVE, f64::max))
}

/// The part of a gradient that is not free.
fn counted(suite: &Suite, case: &Case, at: usize, gradient: &[f64]) -> Vec<f64> {
    let (input, operation) = (&case.inputs[at], case.operation());
    let numbers = || suite.numbers(&input.data);
    let chosen = |keep: &dyn Fn(usize) -> bool| -> Vec<f64> {
        let each = gradient.iter().enumerate();
        each.map(|(i, &g)| if keep(i) { g } else { 0.0 }).collect()
    };
    if let (Some(choice), 0) = (Choice::of(case), at) {
        return choice.merged(&numbers(), gradient);
    }
    if FREE_AT_NAN.contains(&operation.as_str()) {
        let numbers = numbers();
        return chosen(&|i| !numbers[i].is_nan());
    }
    let [.., rows, columns] = input.shape[..] else {
        return gradient.to_vec();
    };
    let place = |i: usize| (i / columns % rows, i % columns);
    if SYMMETRIC.contains(&operation.as_str()) {
        let mirrored = |i: usize| {
            let (row, column) = place(i);
            gradient[i - row * columns - column + column * columns + row]
        };
        let each = gradient.iter().enumerate();
        return each.map(|(i, g)| 0.5 * (g + mirrored(i))).collect();
    }
    let mut triangles = TRIANGULAR.iter();
    let triangle = triangles.find(|row| row.0 == operation && row.1 == input.name);
    if let Some(&(_, _, position)) = triangle {
        let upper = case.argument(position, "upper");
        let upper = upper.is_some_and(|(value, _)| value.as_bool() == Some(true));
        return chosen(&|i| match (upper, place(i)) {
            (true, (row, column)) => row <= column,
            (false, (row, column)) => row >= column,
        });
    }
    gradient.to_vec()
}

/// A choice along an axis of `size` elements, `inner` apart.
struct Choice {
    size: usize,
    inner: usize,
}

impl Choice {
    fn of(case: &Case) -> Option<Choice> {
        let &(_, at, default) = CHOICES.iter().find(|row| row.0 == case.op)?;
        let given = case
            .argument(at, "dim")
            .and_then(|(value, _)| value.as_i64());
        let shape = &case.inputs[0].shape;
        let axis = given.or(default)?.rem_euclid(shape.len().max(1) as i64) as usize;
        let size = shape.get(axis).copied().unwrap_or(1);
        let inner = shape.iter().skip(axis + 1).product();
        Some(Choice { size, inner })
    }

    /// The chosen values.
    fn values(&self, source: &[f64], indices: &[f64]) -> Vec<f64> {
        let lines = source.len() / self.size.max(1);
        let chosen = indices.len() / lines.max(1);
        let value = |(at, &index): (usize, &f64)| {
            let (outer, inner) = (at / (chosen * self.inner), at % self.inner);
            let from = outer * self.size * self.inner + inner;
            source.get(from + index as usize * self.inner).copied()
        };
        let found = indices.iter().enumerate().map(value);
        found.map(|value| value.unwrap_or(f64::INFINITY)).collect()
    }

    /// A gradient in which every element has the sum over the equal ones of its line.
    fn merged(&self, source: &[f64], gradient: &[f64]) -> Vec<f64> {
        let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
        let element = |at: usize| {
            let first = at - at / self.inner % self.size * self.inner;
            let line = (0..self.size).map(|k| first + k * self.inner);
            let equal = line.filter(|&other| same(source[other], source[at]));
            equal.map(|other| gradient[other]).sum()
        };
        (0..gradient.len()).map(element).collect()
    }
}

/// What is allowed relative to a value of this type.
fn tolerance(case: &Case, dtype: DType) -> f64 {
    let operation = case.operation();
    let excepted = EXCEPTIONS.iter().find(|row| row.0 == operation);
    match dtype {
        DType::F32 => 1e-5,
        // A rounding in the other direction, as 32 bits meet on the way.
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        DType::F64 => excepted.map_or(RELATIVE, |row| row.1),
        _ => 0.0,
    }
}

/// Whether every number is near the expected one; NaN equals NaN.
fn close(got: &[f64], expected: &[f64], relative: f64) -> Result<(), String> {
    if got.len() != expected.len() {
        return Err(format!(
            "has {} elements, not {}",
            got.len(),
            expected.len()
        ));
    }
    let absolute = if relative > 0.0 { ABSOLUTE } else { 0.0 };
    let error = |(at, (&g, &e)): (usize, (&f64, &f64))| {
        let near = g == e || g.is_nan() && e.is_nan();
        let error = (g - e).abs() / (absolute + relative * e.abs());
        // A NaN is the largest error.
        let error = if error.is_nan() { f64::INFINITY } else { error };
        (!near && error > 1.0).then_some((at, error))
    };
    let wrong = got.iter().zip(expected).enumerate().filter_map(error);
    match wrong.max_by(|a, b| a.1.total_cmp(&b.1)) {
        None => Ok(()),
        Some((at, _)) => {
            let (g, e) = (got[at], expected[at]);
            Err(format!("[{at}] is {g:e}, not {e:e} (off by {:.1e})", g - e))
        }
    }
}
