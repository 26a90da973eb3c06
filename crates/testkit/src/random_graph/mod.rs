//! Random graphs: what nobody thought of when writing a compiler pass.
//!
//! A graph grows one operation at a time from a few inputs; each picks its operands among all
//! tensors so far, so that values are shared, broadcast, rearranged and used again. All numbers stay
//! finite: what grows is brought back by `tanh`, and products of matrices are divided by their inner
//! size. The same seed gives the same graph, so a failure needs no more than its seed.

mod growth;

use backprop_core::{Backend, DType, ErrorKind, Reference, Result};
use backprop_graph::{CompileOptions, Graph, Init, Key, Sample, Session, Tensor, Updates};

use growth::Growth;

use crate::draw::{Draw, decode, encode};
use crate::gradcheck::{GradCheck, GradError, Slope, declare, feed};
use crate::wrap::Unfused;

/// A random graph, by its seed.
///
/// ```
/// use backprop_testkit::RandomGraph;
///
/// let graph = RandomGraph { seed: 7, operations: 20, ..RandomGraph::default() };
/// graph.check_values(backprop_core::Reference)?;
/// graph.check_gradients()?;
/// # Ok::<(), backprop_testkit::GraphError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RandomGraph {
    /// Which graph.
    pub seed: u64,
    /// How many operations.
    pub operations: usize,
    /// The type of its real numbers.
    pub dtype: DType,
}

impl Default for RandomGraph {
    fn default() -> RandomGraph {
        RandomGraph {
            seed: 0,
            operations: 25,
            dtype: DType::F64,
        }
    }
}

/// What a random graph brought to light, with what it takes to see it again.
#[derive(Clone, PartialEq)]
pub struct GraphError {
    /// The graph's seed.
    pub seed: u64,
    /// What went wrong.
    pub what: String,
}

impl std::fmt::Display for GraphError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "random graph with seed {}: {}", self.seed, self.what)
    }
}

/// As `Display`, because a test that fails prints this.
impl std::fmt::Debug for GraphError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for GraphError {}

/// The sizes from which shapes are made; few, so that shapes meet again.
const SIZES: [usize; 4] = [1, 2, 3, 5];

impl RandomGraph {
    /// The inputs: three real ones, and indices below 2, the smallest size of an axis that is not 1.
    #[must_use]
    pub fn inputs(&self) -> Sample {
        let mut draw = Draw::new(self.seed);
        let mut inputs = Vec::new();
        for _ in 0..3 {
            let rank = draw.below(4);
            let shape = (0..rank).map(|_| *draw.of(&SIZES)).collect();
            inputs.push((self.dtype, shape, (-1.5, 1.5)));
        }
        inputs.push((DType::I64, vec![1 + draw.below(4)], (0.0, 2.0)));
        Sample { inputs }
    }

    /// Builds the graph on its inputs; gives the tensors that nothing else uses.
    pub fn build<'g>(&self, graph: &'g Graph, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let draw = Draw::new(self.seed ^ 0x9e37_79b9_7f4a_7c15);
        let mut growth = Growth::new(graph, draw, inputs);
        for _ in 0..self.operations {
            growth.grow();
        }
        growth.ends()
    }

    /// Values on a backend as it is, against values on the same backend without any fused form
    /// ([`Unfused`]), and against the reference: the first two in the same bits, the third within a
    /// rounding of sums. Compiling runs the plan checker.
    ///
    /// # Errors
    /// The first difference, or whatever building and running report.
    pub fn check_values<B: Backend>(&self, backend: B) -> Result<(), GraphError> {
        let outcome = self.compare(backend);
        outcome.map_err(|what| self.error(what))
    }

    /// The gradients of the graph against differences, to the second order.
    ///
    /// # Errors
    /// The first slope that differs, or whatever building and running report.
    pub fn check_gradients(&self) -> Result<Vec<Slope>, GraphError> {
        let graph = RandomGraph {
            dtype: DType::F64,
            ..self.clone()
        };
        let check = GradCheck {
            seed: self.seed + 1,
            tolerance: 1e-5,
            ..GradCheck::default()
        };
        // Inputs on which nothing depends join in, as every input has to be reached.
        let outcome = check.check(&graph.inputs(), |g, x| {
            let mut outputs = graph.build(g, x);
            outputs.extend(x.iter().filter(|x| x.dtype().is_float()));
            outputs
        });
        match outcome {
            Ok(slopes) => Ok(slopes),
            Err(GradError::Failed(error)) if stops_only(&error) => Ok(Vec::new()),
            Err(error) => Err(self.error(error.to_string())),
        }
    }

    /// Training: the real inputs become parameters, which a few steps move against the gradient of
    /// the graph's mean, each leaving its old value in another parameter. The parameters have the
    /// same bits on the backend as it is and without any fused form.
    ///
    /// # Errors
    /// The first difference, or whatever building and running report.
    pub fn check_training<B: Backend>(&self, backend: B) -> Result<(), GraphError> {
        let failed = |error: backprop_core::Error| self.error(error.to_string());
        let free = CompileOptions::default();
        let unfused = Unfused::new(backend.clone());
        let unfused = self.train(unfused, free).map_err(failed)?;
        let fused = self.train(backend, free).map_err(failed)?;
        self.compare_parameters(&fused, (&unfused, "unfused"))
    }

    /// [Training](RandomGraph::check_training) in the fewest bytes that it can be compiled to, and in
    /// half of those that can be saved: the same bits as without a budget. Gives the fewest bytes, and
    /// those without a budget.
    ///
    /// # Errors
    /// The first difference, or whatever building and running report.
    pub fn check_budgets<B: Backend>(&self, backend: B) -> Result<(usize, usize), GraphError> {
        let failed = |error: backprop_core::Error| self.error(error.to_string());
        let within = |budget: usize| CompileOptions {
            budget: Some(budget),
        };
        let free = CompileOptions::default();
        let free = self.train(backend.clone(), free).map_err(failed)?;
        let (smallest, without) = match self.train(backend.clone(), within(0)) {
            Err(error) => match *error.kind() {
                ErrorKind::OverBudget {
                    smallest, without, ..
                } => (smallest, without),
                _ => return Err(failed(error)),
            },
            Ok(_) => return Err(self.error("no byte suffices".to_owned())),
        };
        for budget in [smallest, smallest.midpoint(without)] {
            let bounded = self.train(backend.clone(), within(budget));
            self.compare_parameters(&free, (&bounded.map_err(failed)?, "within a budget"))?;
        }
        Ok((smallest, without))
    }

    fn compare_parameters(
        &self,
        parameters: &[Vec<u8>],
        (others, how): (&[Vec<u8>], &str),
    ) -> Result<(), GraphError> {
        for (i, (one, other)) in parameters.iter().zip(others).enumerate() {
            if one != other {
                let [a, b] = [one, other].map(|bytes| decode(self.dtype, bytes));
                return Err(self.error(format!("parameter {i} is {a:?}, {how} {b:?}")));
            }
        }
        Ok(())
    }

    /// The bytes of all parameters after three steps.
    fn train<B: Backend>(&self, backend: B, options: CompileOptions) -> Result<Vec<Vec<u8>>> {
        let graph = Graph::new();
        let sample = self.inputs();
        let (mut inputs, mut parameters, mut fed) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (dtype, shape, interval)) in sample.inputs.iter().enumerate() {
            let numbers = Draw::new(i as u64).numbers(*dtype, shape.iter().product(), *interval);
            let name = format!("x{i}");
            if dtype.is_float() {
                let now = graph.parameter(&name, shape, *dtype, Init::Values(numbers));
                let before = graph.parameter(&format!("{name}.before"), shape, *dtype, Init::Zeros);
                parameters.push((now, before));
                inputs.push(graph.read(now));
            } else {
                let input = graph.input(&name, shape, *dtype);
                fed.push((input.key(), *dtype, numbers));
                inputs.push(input);
            }
        }
        let mut outputs = self.build(&graph, &inputs);
        outputs.extend(inputs.iter().map(|x| x.cast(self.dtype).square()));
        let zero = graph.full([], 0.0, self.dtype);
        let real = outputs.iter().filter(|y| y.dtype().is_float());
        let loss = real.fold(zero, |sum, y| sum + y.mean(..));
        let now: Vec<_> = parameters.iter().map(|&(now, _)| now).collect();
        let mut updates = Updates::none();
        for (&(now, before), gradient) in parameters.iter().zip(graph.grad(loss, &now)?) {
            updates = updates.with(now, graph.read(now) - gradient * 0.125);
            updates = updates.with(before, graph.read(now));
        }
        let fetches = [loss.key()];
        let mut session = Session::compile_with(&graph, backend, &fetches, updates, options)?;
        for (key, dtype, numbers) in fed {
            feed(&mut session, key, dtype, &numbers)?;
        }
        for _ in 0..3 {
            session.step()?;
        }
        let both = parameters
            .into_iter()
            .flat_map(|(now, before)| [now, before]);
        both.map(|p| session.parameter_bytes(p)).collect()
    }

    fn error(&self, what: String) -> GraphError {
        let seed = self.seed;
        GraphError { seed, what }
    }

    fn compare<B: Backend>(&self, backend: B) -> Result<(), String> {
        let graph = Graph::new();
        let sample = self.inputs();
        let inputs = declare(&graph, &sample);
        let outputs = self.build(&graph, &inputs);
        graph.check().map_err(|error| error.to_string())?;
        let fused = values(&graph, backend.clone(), &sample, (&inputs, &outputs))?;
        let unfused = values(&graph, Unfused::new(backend), &sample, (&inputs, &outputs))?;
        let reference = values(&graph, Reference, &sample, (&inputs, &outputs))?;
        for (i, output) in outputs.iter().enumerate() {
            let dtype = output.dtype();
            let [fused, unfused, reference] =
                [&fused[i], &unfused[i], &reference[i]].map(|bytes| decode(dtype, bytes));
            for (at, &x) in fused.iter().enumerate() {
                let (apart, expected) = (unfused[at], reference[at]);
                if !x.is_finite() {
                    return Err(format!("{output:?}: element {at} is {x}"));
                }
                if x.to_bits() != apart.to_bits() {
                    return Err(format!("{output:?}: element {at} is {x}, unfused {apart}"));
                }
                if (x - expected).abs() > self.slack() * expected.abs().max(1.0) {
                    return Err(format!("{output:?}: element {at} is {x}, not {expected}"));
                }
            }
        }
        Ok(())
    }

    /// How far results may be from the reference: a few dozen roundings.
    fn slack(&self) -> f64 {
        match self.dtype {
            DType::F32 => 1e-4,
            DType::F64 => 1e-11,
            _ => 0.25,
        }
    }
}

/// Whether an error says no more than that a derivative is stopped by what has none.
fn stops_only(error: &backprop_core::Error) -> bool {
    let stops = |kind: &ErrorKind| matches!(kind, ErrorKind::NotDifferentiable { .. });
    error.all().all(|error| stops(error.kind()))
}

/// The bytes of all outputs on a backend.
fn values<B: Backend>(
    graph: &Graph,
    backend: B,
    sample: &Sample,
    (inputs, outputs): (&[Tensor<'_>], &[Tensor<'_>]),
) -> Result<Vec<Vec<u8>>, String> {
    let run = || -> Result<Vec<Vec<u8>>> {
        let keys: Vec<Key> = outputs.iter().map(|x| x.key()).collect();
        let mut session = Session::compile(graph, backend, &keys, Updates::none())?;
        for (i, (input, (dtype, shape, interval))) in inputs.iter().zip(&sample.inputs).enumerate()
        {
            let count = shape.iter().product();
            let numbers = Draw::new(i as u64).numbers(*dtype, count, *interval);
            feed(&mut session, input.key(), *dtype, &numbers)?;
        }
        session.step()?;
        let fetch = |x: &Tensor<'_>| fetch(&session, *x);
        outputs.iter().map(fetch).collect()
    };
    run().map_err(|error| error.to_string())
}

/// A fetched value as bytes.
fn fetch<B: Backend>(session: &Session<B>, x: Tensor<'_>) -> Result<Vec<u8>> {
    let dtype = x.dtype();
    fn all<B: Backend, T: backprop_core::Element>(s: &Session<B>, key: Key) -> Result<Vec<f64>> {
        Ok(s.fetch::<T>(key)?.into_iter().map(T::to_f64).collect())
    }
    let numbers = match dtype {
        DType::F32 => all::<B, f32>(session, x.key()),
        DType::F64 => all::<B, f64>(session, x.key()),
        DType::F16 => all::<B, half::f16>(session, x.key()),
        DType::BF16 => all::<B, half::bf16>(session, x.key()),
        DType::I64 => all::<B, i64>(session, x.key()),
        _ => all::<B, bool>(session, x.key()),
    };
    Ok(encode(dtype, &numbers?))
}
