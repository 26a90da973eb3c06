//! Gradients against differences of values.
//!
//! For outputs `y = f(x)` with Jacobian `J`, a direction `v` in an input and weights `u` of the
//! outputs, `<u, J v>` is the slope of `<u, f(x + h v)>` at `h = 0`, taken from two evaluations, and
//! `<J^T u, v>` is what [`Graph::vjp`] says. One random direction an input finds a wrong gradient
//! with probability 1. The same for the gradient itself checks the second order.

use std::cell::RefCell;
use std::fmt;

use backprop_core::{Backend, DType, Error, Reference, Result};
use backprop_graph::{Graph, Key, Left, Sample, Session, Tensor, Updates};

use crate::draw::{Draw, decode, encode};

/// What is checked and how closely. In `f64`, on the reference backend.
#[derive(Clone, Debug)]
pub struct GradCheck {
    /// The seed of inputs, directions and weights.
    pub seed: u64,
    /// Half the distance of the two evaluations.
    pub step: f64,
    /// The largest difference of slopes, relative to the larger of them and 1.
    pub tolerance: f64,
    /// The highest order: 1 for gradients, 2 for gradients of gradients too.
    pub order: usize,
}

impl Default for GradCheck {
    fn default() -> GradCheck {
        GradCheck {
            seed: 1,
            step: 1e-5,
            tolerance: 2e-6,
            order: 2,
        }
    }
}

/// A slope by both ways.
#[derive(Clone, PartialEq, Debug)]
pub struct Slope {
    /// The order of the derivative: 1 or 2.
    pub order: usize,
    /// The position of the input in whose direction the slope is.
    pub input: usize,
    /// The slope by differences.
    pub differences: f64,
    /// The slope by the gradient.
    pub gradient: f64,
}

impl fmt::Display for Slope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Slope {
            order,
            input,
            differences,
            gradient,
        } = self;
        write!(
            f,
            "order {order}, input {input}: the gradient says {gradient}, differences say {differences}"
        )
    }
}

/// Why a check did not pass.
#[derive(Clone, PartialEq)]
pub enum GradError {
    /// Building, differentiating or running failed.
    Failed(Error),
    /// A slope differs.
    Differs(Slope),
    /// An operation differs from its decomposition.
    Derived {
        /// What differs: an output, or the gradient of an input.
        what: String,
        /// The value of the operation, and that of its decomposition or on the reference.
        values: (f64, f64),
    },
    /// No input has a gradient to check.
    Nothing,
}

impl fmt::Display for GradError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GradError::Failed(error) => write!(f, "{error}"),
            GradError::Differs(slope) => write!(f, "{slope}"),
            GradError::Derived { what, values } => {
                let (written, derived) = values;
                write!(f, "{what}: {written}, not {derived}")
            }
            GradError::Nothing => f.write_str("no sample with a floating-point input"),
        }
    }
}

/// As `Display`, because a test that fails prints this.
impl fmt::Debug for GradError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for GradError {}

impl From<Error> for GradError {
    fn from(error: Error) -> GradError {
        GradError::Failed(error)
    }
}

/// A function that builds outputs from inputs.
pub trait Build: for<'g> Fn(&'g Graph, &[Tensor<'g>]) -> Vec<Tensor<'g>> {}

impl<F> Build for F where F: for<'g> Fn(&'g Graph, &[Tensor<'g>]) -> Vec<Tensor<'g>> {}

/// Checks the gradients of `build` at values drawn from `sample`, with the defaults of
/// [`GradCheck`].
///
/// # Errors
/// The first slope that differs, or whatever building and running report.
///
/// ```
/// use backprop_graph::Sample;
/// use backprop_testkit::gradcheck;
///
/// let sample = Sample::reals(&[&[2, 3], &[3]]);
/// let slopes = gradcheck(&sample, |_, x| vec![(x[0] * x[1]).tanh().sum(-1)])?;
/// assert_eq!(slopes.len(), 4); // two inputs, two orders
/// # Ok::<(), backprop_testkit::GradError>(())
/// ```
pub fn gradcheck(sample: &Sample, build: impl Build) -> Result<Vec<Slope>, GradError> {
    GradCheck::default().check(sample, build)
}

/// The graph of a check, compiled: scalars whose slopes are compared.
struct Compiled<B: Backend> {
    session: Session<B>,
    inputs: Vec<Key>,
    /// For each order, the scalar that is evaluated at two places.
    values: Vec<Key>,
    /// For each order, its slope along the direction in each differentiable input.
    slopes: Vec<Vec<Key>>,
}

impl GradCheck {
    /// Checks the gradients of `build` at values drawn from `sample`. Integer inputs are drawn, but
    /// not differentiated by; outputs that are no real numbers are left out.
    ///
    /// # Errors
    /// The first slope that differs, or whatever building and running report.
    pub fn check(&self, sample: &Sample, build: impl Build) -> Result<Vec<Slope>, GradError> {
        let floats = floats(sample);
        if floats.is_empty() {
            return Err(GradError::Nothing);
        }
        let at = self.draw(sample, 0);
        let directions = self.draw(&centred(sample), 1);
        let graph = Graph::new();
        let mut compiled = self.compile(&graph, sample, &directions, build)?;
        let mut here = Vec::new();
        compiled.feed(sample, &at)?.session.step()?;
        for slopes in &compiled.slopes {
            let read = |key: &Key| compiled.session.scalar(*key);
            here.push(slopes.iter().map(read).collect::<Result<Vec<f64>>>()?);
        }
        let mut checked = Vec::new();
        for (k, &input) in floats.iter().enumerate() {
            let above = compiled.values_at(sample, &moved(&at, &directions, input, self.step))?;
            let below = compiled.values_at(sample, &moved(&at, &directions, input, -self.step))?;
            for (order, gradient) in here.iter().map(|slopes| slopes[k]).enumerate() {
                let differences = (above[order] - below[order]) / (2.0 * self.step);
                let order = order + 1;
                checked.push(self.judge(Slope {
                    order,
                    input,
                    differences,
                    gradient,
                })?);
            }
        }
        Ok(checked)
    }

    fn judge(&self, slope: Slope) -> Result<Slope, GradError> {
        let (a, b) = (slope.differences, slope.gradient);
        let scale = a.abs().max(b.abs()).max(1.0);
        if (a - b).abs() <= self.tolerance * scale {
            Ok(slope)
        } else {
            Err(GradError::Differs(slope))
        }
    }

    /// Numbers for every input, from its interval.
    fn draw(&self, sample: &Sample, stream: u64) -> Vec<Vec<f64>> {
        let inputs = sample.inputs.iter().enumerate();
        let numbers = inputs.map(|(i, (dtype, shape, interval))| {
            let seed = self.seed.wrapping_mul(1000) + 100 * stream + i as u64;
            Draw::new(seed).numbers(*dtype, shape.iter().product(), *interval)
        });
        numbers.collect()
    }

    fn compile(
        &self,
        graph: &Graph,
        sample: &Sample,
        directions: &[Vec<f64>],
        build: impl Build,
    ) -> Result<Compiled<Reference>, GradError> {
        let inputs = declare(graph, sample);
        let outputs = build(graph, &inputs);
        graph.check()?;
        let wrt: Vec<Tensor<'_>> = floats(sample).into_iter().map(|i| inputs[i]).collect();
        let along: Vec<Tensor<'_>> = floats(sample)
            .into_iter()
            .map(|i| constant(graph, inputs[i], &directions[i]))
            .collect();
        let mut draw = Draw::new(self.seed ^ 0x5eed);
        let mut weights = |x: Tensor<'_>| draw.numbers(DType::F64, x.shape().count(), (-1.0, 1.0));
        let weighted: Vec<_> = outputs
            .into_iter()
            .filter(|y| y.dtype().is_float())
            .map(|y| (y, constant(graph, y, &weights(y))))
            .collect();
        let (mut values, mut slopes) = (vec![inner(graph, &weighted)], Vec::new());
        let mut gradients = graph.vjp(&weighted, &wrt)?;
        slopes.push(inner_each(&gradients, &along));
        for _ in 1..self.order {
            // Half the square of each input joins in, so that even a gradient that is constant
            // depends on all of them.
            let mut pairs: Vec<_> = gradients
                .iter()
                .map(|&g| (g, constant(graph, g, &weights(g))))
                .collect();
            pairs.extend(wrt.iter().map(|&x| (x, x * 0.5)));
            let value = inner(graph, &pairs);
            values.push(value);
            gradients = graph.grad(value, &wrt)?;
            slopes.push(inner_each(&gradients, &along));
        }
        let key = |x: &Tensor<'_>| x.key();
        let values: Vec<Key> = values.iter().map(key).collect();
        let slopes: Vec<Vec<Key>> = slopes.iter().map(|s| s.iter().map(key).collect()).collect();
        let fetches: Vec<Key> = values
            .iter()
            .chain(slopes.iter().flatten())
            .copied()
            .collect();
        Ok(Compiled {
            session: Session::compile(graph, Reference, &fetches, Updates::none())?,
            inputs: inputs.iter().map(key).collect(),
            values,
            slopes,
        })
    }

    /// Checks operations and their hand-written gradients against decompositions and the gradients
    /// derived from them.
    ///
    /// # Errors
    /// The first output or gradient that differs, or whatever building and running report.
    pub fn check_derived(&self, sample: &Sample, build: impl Build) -> Result<(), GradError> {
        let at = self.draw(sample, 0);
        let written = self.results((&Graph::new(), Reference), sample, &at, &build)?;
        let derived = self.results((&Graph::derived(), Reference), sample, &at, &build)?;
        same(written, derived)
    }

    /// Checks derivatives along directions against gradients: `<u, J v> = <J^T u, v>` for a
    /// direction `v` in each input.
    ///
    /// # Errors
    /// The first input at which they differ, or whatever building and running report.
    pub fn check_forward(&self, sample: &Sample, build: impl Build) -> Result<(), GradError> {
        let (at, directions) = (self.draw(sample, 0), self.draw(&centred(sample), 1));
        let graph = Graph::new();
        let inputs = declare(&graph, sample);
        let outputs = build(&graph, &inputs);
        let real: Vec<Tensor<'_>> = outputs
            .into_iter()
            .filter(|y| y.dtype().is_float())
            .collect();
        let mut draw = Draw::new(self.seed ^ 0x5eed);
        let weights = |y: &Tensor<'_>| draw.numbers(DType::F64, y.shape().count(), (-1.0, 1.0));
        let weights: Vec<Vec<f64>> = real.iter().map(weights).collect();
        let pairs = real.iter().zip(&weights);
        let weighted: Vec<_> = pairs.map(|(&y, w)| (y, constant(&graph, y, w))).collect();
        let mut keys = Vec::new();
        for i in floats(sample) {
            let tangent = constant(&graph, inputs[i], &directions[i]);
            let gradient = graph.vjp(&weighted, &[inputs[i]])?[0];
            let forward = graph.jvp(&real, &[(inputs[i], tangent)])?;
            let along = forward.into_iter().zip(weighted.iter().map(|&(_, w)| w));
            let along = inner(&graph, &along.collect::<Vec<_>>());
            keys.push((i, along.key(), inner(&graph, &[(gradient, tangent)]).key()));
        }
        let fetches: Vec<Key> = keys.iter().flat_map(|&(_, a, b)| [a, b]).collect();
        let mut compiled = Compiled {
            session: Session::compile(&graph, Reference, &fetches, Updates::none())?,
            inputs: inputs.iter().map(|x| x.key()).collect(),
            values: Vec::new(),
            slopes: Vec::new(),
        };
        compiled.feed(sample, &at)?.session.step()?;
        let mut found = Vec::new();
        for (i, along, gradient) in keys {
            let values = [along, gradient].map(|key| compiled.session.scalar(key));
            let [along, gradient] = values;
            found.push((format!("input {i}, forward"), vec![along?], vec![gradient?]));
        }
        let (a, b) = found
            .into_iter()
            .map(|(what, a, b)| ((what.clone(), a), (what, b)))
            .unzip();
        same(a, b)
    }

    /// Checks outputs and gradients on a backend against those on the reference.
    ///
    /// # Errors
    /// The first output or gradient that differs, or whatever building and running report.
    pub fn check_on<B: Backend>(
        &self,
        backend: &B,
        sample: &Sample,
        build: impl Build,
    ) -> Result<(), GradError> {
        let at = self.draw(sample, 0);
        let found = self.results((&Graph::new(), backend.clone()), sample, &at, &build)?;
        let expected = self.results((&Graph::new(), Reference), sample, &at, &build)?;
        same(found, expected)
    }

    /// Checks a body applied to a batch at once ([`Graph::vmap`]) against the same body applied to one
    /// element after the other ([`Graph::scan`]): outputs, gradients taken in the body, and gradients of
    /// all of these.
    ///
    /// # Errors
    /// The first output or gradient that differs, or whatever building and running report.
    pub fn check_batched(&self, sample: &Sample, build: impl Build) -> Result<(), GradError> {
        const SIZE: usize = 3;
        let mut batches = sample.clone();
        for (_, shape, _) in &mut batches.inputs {
            shape.insert(0, SIZE);
        }
        let outcome = RefCell::new(Ok(()));
        let at = self.draw(&batches, 0);
        let batched = self.results((&Graph::new(), Reference), &batches, &at, &|g, x| {
            g.vmap(x, |x| with_gradients((g, x), sample, &build, &outcome))
        })?;
        let in_turn = self.results((&Graph::new(), Reference), &batches, &at, &|g, x| {
            let scanned = g.scan(SIZE, &[], x, |at| Left {
                carried: Vec::new(),
                stacked: with_gradients((g, &at.elements), sample, &build, &outcome),
            });
            scanned.stacked
        })?;
        outcome.into_inner()?;
        same(batched, in_turn)
    }

    /// The outputs of `build` and the gradients of its real inputs, each with a name.
    fn results<B: Backend>(
        &self,
        (graph, backend): (&Graph, B),
        sample: &Sample,
        at: &[Vec<f64>],
        build: &impl Build,
    ) -> Result<Named, GradError> {
        let inputs = declare(graph, sample);
        let outputs = build(graph, &inputs);
        graph.check()?;
        let mut draw = Draw::new(self.seed ^ 0x5eed);
        let real = outputs.iter().filter(|y| y.dtype().is_float());
        let weighted: Vec<_> = real
            .map(|&y| {
                let weights = draw.numbers(DType::F64, y.shape().count(), (-1.0, 1.0));
                (y, constant(graph, y, &weights))
            })
            .collect();
        let floats = floats(sample);
        let wrt: Vec<Tensor<'_>> = floats.iter().map(|&i| inputs[i]).collect();
        let wrt = if weighted.is_empty() { vec![] } else { wrt };
        let gradients = graph.vjp(&weighted, &wrt)?;
        let outputs = outputs.into_iter().enumerate();
        let outputs = outputs.map(|(i, y)| (format!("output {i}"), y.cast(DType::F64).key()));
        let gradients = gradients.iter().zip(floats);
        let gradients = gradients.map(|(g, i)| (format!("gradient of input {i}"), g.key()));
        let named: Vec<(String, Key)> = outputs.chain(gradients).collect();
        let keys: Vec<Key> = named.iter().map(|(_, key)| *key).collect();
        let mut compiled = Compiled {
            session: Session::compile(graph, backend, &keys, Updates::none())?,
            inputs: inputs.iter().map(|x| x.key()).collect(),
            values: Vec::new(),
            slopes: Vec::new(),
        };
        compiled.feed(sample, at)?.session.step()?;
        let fetch = |(name, key)| Ok((name, compiled.session.fetch::<f64>(key)?));
        Ok(named.into_iter().map(fetch).collect::<Result<_>>()?)
    }
}

/// What `build` gives, and the gradients of its sum.
fn with_gradients<'g>(
    (graph, x): (&'g Graph, &[Tensor<'g>]),
    sample: &Sample,
    build: &impl Build,
    outcome: &RefCell<Result<()>>,
) -> Vec<Tensor<'g>> {
    let mut results = build(graph, x);
    let real = results.iter().filter(|y| y.dtype().is_float());
    let real: Vec<_> = real
        .map(|&y| (y, graph.full(y.shape(), 1.0, y.dtype())))
        .collect();
    let wrt: Vec<Tensor<'g>> = floats(sample).into_iter().map(|i| x[i]).collect();
    if !real.is_empty() {
        match graph.vjp(&real, &wrt) {
            Ok(gradients) => results.extend(gradients),
            Err(error) => *outcome.borrow_mut() = Err(error),
        }
    }
    results
}

/// Values by the name of what they are.
type Named = Vec<(String, Vec<f64>)>;

fn same(found: Named, expected: Named) -> Result<(), GradError> {
    for ((what, found), (_, expected)) in found.into_iter().zip(expected) {
        for values in found.into_iter().zip(expected) {
            let (a, b): (f64, f64) = values;
            // A NaN differs from everything.
            let near = (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0);
            if !near && a.to_bits() != b.to_bits() {
                return Err(GradError::Derived { what, values });
            }
        }
    }
    Ok(())
}

impl<B: Backend> Compiled<B> {
    fn feed(&mut self, sample: &Sample, at: &[Vec<f64>]) -> Result<&mut Compiled<B>> {
        for ((&key, numbers), (dtype, ..)) in self.inputs.iter().zip(at).zip(&sample.inputs) {
            feed(&mut self.session, key, *dtype, numbers)?;
        }
        Ok(self)
    }

    fn values_at(&mut self, sample: &Sample, at: &[Vec<f64>]) -> Result<Vec<f64>> {
        self.feed(sample, at)?.session.step()?;
        let read = |key: &Key| self.session.scalar(*key);
        self.values.iter().map(read).collect()
    }
}

/// Feeds numbers as elements of whatever type.
pub(crate) fn feed<B: Backend>(
    session: &mut Session<B>,
    key: Key,
    dtype: DType,
    numbers: &[f64],
) -> Result<()> {
    fn all<T: backprop_core::Element>(numbers: &[f64]) -> Vec<T> {
        numbers.iter().map(|&x| T::from_f64(x)).collect()
    }
    match dtype {
        DType::F32 => session.feed(key, &all::<f32>(numbers))?,
        DType::F64 => session.feed(key, &all::<f64>(numbers))?,
        DType::F16 => session.feed(key, &all::<half::f16>(numbers))?,
        DType::BF16 => session.feed(key, &all::<half::bf16>(numbers))?,
        DType::I32 => session.feed(key, &all::<i32>(numbers))?,
        DType::I64 => session.feed(key, &all::<i64>(numbers))?,
        DType::U8 => session.feed(key, &all::<u8>(numbers))?,
        _ => session.feed(key, &all::<bool>(numbers))?,
    };
    Ok(())
}

pub(crate) fn floats(sample: &Sample) -> Vec<usize> {
    let inputs = sample.inputs.iter().enumerate();
    inputs
        .filter(|(_, (dtype, ..))| dtype.is_float())
        .map(|(i, _)| i)
        .collect()
}

/// Inputs of the same types, with values around 0.
fn centred(sample: &Sample) -> Sample {
    let mut sample = sample.clone();
    for (_, _, interval) in &mut sample.inputs {
        *interval = (-1.0, 1.0);
    }
    sample
}

pub(crate) fn declare<'g>(graph: &'g Graph, sample: &Sample) -> Vec<Tensor<'g>> {
    let inputs = sample.inputs.iter().enumerate();
    inputs
        .map(|(i, (dtype, shape, _))| graph.input(&format!("x{i}"), shape, *dtype))
        .collect()
}

fn moved(at: &[Vec<f64>], directions: &[Vec<f64>], input: usize, step: f64) -> Vec<Vec<f64>> {
    let mut at = at.to_vec();
    for (x, v) in at[input].iter_mut().zip(&directions[input]) {
        *x += step * v;
    }
    at
}

/// Known numbers, of the type and shape of `like`.
fn constant<'g>(graph: &'g Graph, like: Tensor<'g>, numbers: &[f64]) -> Tensor<'g> {
    let rounded = decode(like.dtype(), &encode(like.dtype(), numbers));
    graph.data(like.shape(), &rounded).cast(like.dtype())
}

/// The sum of the products of all pairs.
fn inner<'g>(graph: &'g Graph, pairs: &[(Tensor<'g>, Tensor<'g>)]) -> Tensor<'g> {
    let zero = graph.full([], 0.0, DType::F64);
    let each = pairs.iter().map(|&(a, b)| (a * b).cast(DType::F64).sum(..));
    each.fold(zero, |sum, x| sum + x)
}

fn inner_each<'g>(a: &[Tensor<'g>], b: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
    let pairs = a.iter().zip(b);
    pairs
        .map(|(&a, &b)| (a * b).cast(DType::F64).sum(..))
        .collect()
}
