//! Random graphs: what nobody thought of when writing a compiler pass.
//!
//! A graph grows one operation at a time from a few inputs; each picks its operands among all
//! tensors so far, so that values are shared, broadcast, rearranged and used again. All numbers stay
//! finite: what grows is brought back by `tanh`, and products of matrices are divided by their inner
//! size. The same seed gives the same graph, so a failure needs no more than its seed.

use backprop_core::{Backend, DType, ErrorKind, Reference, Result};
use backprop_graph::{Graph, Init, Keep, Key, Sample, Session, Tensor, Updates};

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
        let mut growth = Growth {
            graph,
            draw: Draw::new(self.seed ^ 0x9e37_79b9_7f4a_7c15),
            real: Vec::new(),
            indices: Vec::new(),
        };
        for &input in inputs {
            let used = if input.dtype().is_float() {
                &mut growth.real
            } else {
                &mut growth.indices
            };
            used.push((input, 0));
        }
        for _ in 0..self.operations {
            growth.grow();
        }
        let (real, indices) = (growth.real.iter(), growth.indices.iter());
        let ends = real.chain(indices).filter(|(_, uses)| *uses == 0);
        ends.map(|&(tensor, _)| tensor).collect()
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
        let run = || -> Result<(Vec<Vec<u8>>, Vec<Vec<u8>>)> {
            let unfused = self.train(Unfused::new(backend.clone()))?;
            Ok((self.train(backend)?, unfused))
        };
        let (fused, unfused) = run().map_err(|error| self.error(error.to_string()))?;
        for (i, (fused, unfused)) in fused.iter().zip(&unfused).enumerate() {
            if fused != unfused {
                let [a, b] = [fused, unfused].map(|bytes| decode(self.dtype, bytes));
                return Err(self.error(format!("parameter {i} is {a:?}, unfused {b:?}")));
            }
        }
        Ok(())
    }

    /// The bytes of all parameters after three steps.
    fn train<B: Backend>(&self, backend: B) -> Result<Vec<Vec<u8>>> {
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
        let mut session = Session::compile(&graph, backend, &[loss.key()], updates)?;
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

/// A graph while it grows: all tensors so far, with how often each is used.
struct Growth<'g> {
    graph: &'g Graph,
    draw: Draw,
    /// Numbers between about -2 and 2.
    real: Vec<(Tensor<'g>, usize)>,
    /// Whole numbers of which each is 0 or 1.
    indices: Vec<(Tensor<'g>, usize)>,
}

impl<'g> Growth<'g> {
    fn grow(&mut self) {
        let x = self.real();
        let y = match self.draw.below(16) {
            0..=2 => self.elementwise(x),
            3..=6 => self.pair(x),
            7 | 8 => self.reduced(x),
            9 | 10 => self.moved(x),
            11 => self.cut(x),
            12 => self.product(x),
            13 => self.looked_up(x),
            14 => self.chosen(x),
            _ => return self.whole(x),
        };
        // What has become large is brought back.
        if y.shape().count() <= 2000 {
            self.real.push((y, 0));
        }
    }

    /// A tensor: often one of the latest, sometimes an old one.
    fn real(&mut self) -> Tensor<'g> {
        let count = self.real.len();
        let at = if self.draw.once_in(3) {
            self.draw.below(count)
        } else {
            count - 1 - self.draw.below(count.min(4))
        };
        self.real[at].1 += 1;
        self.real[at].0
    }

    fn index(&mut self) -> Tensor<'g> {
        let at = self.draw.below(self.indices.len());
        self.indices[at].1 += 1;
        self.indices[at].0
    }

    fn axis(&mut self, x: Tensor<'g>) -> i32 {
        let axis = self.draw.below(x.rank()) as i32;
        if self.draw.once_in(2) {
            axis
        } else {
            axis - x.rank() as i32
        }
    }

    fn elementwise(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        match self.draw.below(14) {
            0 => x.tanh(),
            1 => x.sin(),
            2 => x.sigmoid(),
            3 => (x * 0.5).exp() * 0.4,
            4 => x.relu(),
            5 => -x,
            6 => x * 0.5 + 0.25,
            7 => (x.square() + 1.0).sqrt() - 1.0,
            8 => (x.square() + 0.5).log(),
            9 => 1.0 / (x.square() + 1.0),
            10 => x.erf(),
            11 => x.clamp(-1.25, 1.25),
            12 => x.abs(),
            _ => (x - 0.0) * 1.0 + x.floor() * 0.25,
        }
    }

    /// Two tensors; the second one is made to fit by summing and unsqueezing what differs.
    fn pair(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        let other = self.real();
        let y = self.fitted(other, x);
        let together = match self.draw.below(6) {
            0 => x + y,
            1 => x - y,
            2 => x * y,
            3 => x.maximum(y),
            4 => x.minimum(y),
            _ => x / (y.square() + 1.0),
        };
        together.tanh()
    }

    /// `y` in a shape that broadcasts with that of `x`.
    fn fitted(&mut self, y: Tensor<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if x.shape().broadcast(&y.shape()).is_some() {
            return y;
        }
        let mut y = y;
        for back in 1..=y.rank().min(x.rank()) as i32 {
            let sizes = [x, y].map(|t| t.shape().size(t.rank() - back as usize));
            if sizes[0] != sizes[1] && !sizes.contains(&1) {
                y = y.mean(Keep(-back));
            }
        }
        y
    }

    fn reduced(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        if x.rank() == 0 {
            return x.sum(..).cos();
        }
        let axis = self.axis(x);
        match self.draw.below(7) {
            0 => x.mean(axis),
            1 => x.sum(axis).tanh(),
            2 => x.max(axis),
            3 => x - x.mean(Keep(axis)),
            4 => x.softmax(axis),
            5 => x - x.max(Keep(axis)),
            _ => (x * 0.5).sum(..).tanh(),
        }
    }

    /// Other orders and shapes of the same elements.
    fn moved(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        let rank = x.rank();
        match self.draw.below(6) {
            0 if rank >= 2 => {
                let (a, b) = (self.axis(x), self.axis(x));
                x.transpose(a, b)
            }
            1 => x.reshape([-1]),
            2 if rank < 5 => x.unsqueeze(0),
            3 if rank >= 1 => {
                let axis = self.axis(x);
                x.flip(axis)
            }
            4 if rank < 4 => {
                let mut shape = vec![*self.draw.of(&SIZES)];
                shape.extend(x.shape().sizes());
                x.broadcast_to(shape)
            }
            _ => x.reshape([x.shape().count() as isize, 1]),
        }
    }

    /// Parts and surroundings.
    fn cut(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        if x.rank() == 0 {
            return x.cos();
        }
        let axis = self.axis(x);
        let at = if axis < 0 {
            (axis + x.rank() as i32) as usize
        } else {
            axis as usize
        };
        let size = x.shape().size(at);
        match self.draw.below(4) {
            0 => x.narrow(axis, self.draw.below(size), size),
            1 => {
                let (mut low, mut high) = (vec![0; x.rank()], vec![0; x.rank()]);
                (low[at], high[at]) = (self.draw.below(2), 1);
                x.pad(low, high, 0.5)
            }
            2 => self.graph.concat(&[x, x.sin()], axis),
            _ => {
                let mut steps = vec![1; x.rank()];
                steps[at] = 2;
                x.slice(vec![0; x.rank()], x.shape(), steps)
            }
        }
    }

    /// A product with a tensor, its own transpose, or a batch of itself.
    fn product(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        let x = if x.rank() < 2 { x.reshape([-1, 1]) } else { x };
        let inner = x.shape().size(x.rank() - 1);
        let other = self.real();
        let right = if other.rank() == 2 && other.shape().size(0) == inner {
            other
        } else {
            x.transpose(-1, -2)
        };
        let product = x.matmul(right) * (1.0 / inner as f64);
        match self.draw.below(3) {
            0 => product.tanh(),
            1 => (product + 0.5).relu().tanh(),
            _ => {
                let bias = self.real();
                let bias = self.fitted(bias, product);
                (product + bias).tanh()
            }
        }
    }

    fn looked_up(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        let wide = (0..x.rank()).find(|&axis| x.shape().size(axis) >= 2);
        let index = self.index();
        match wide {
            Some(axis) if x.rank() - 1 + index.rank() <= 4 => x.take(index, axis as i32),
            _ => x.cos(),
        }
    }

    fn chosen(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        let other = self.real();
        let y = self.fitted(other, x);
        let condition = if self.draw.once_in(2) {
            x.gt(y)
        } else {
            x.le(0.125)
        };
        condition.select(x, y * 0.5)
    }

    /// Whole numbers from real ones, or from other whole ones, and back.
    fn whole(&mut self, x: Tensor<'g>) {
        let index = self.index();
        let new = match self.draw.below(3) {
            0 => x.gt(0.25).cast(DType::I64),
            1 => (index + 1) % 2,
            _ => index.maximum(1 - index),
        };
        if new.rank() <= 2 {
            self.indices.push((new, 0));
        }
        let mask = index.eq(1).cast(x.dtype());
        let mask = self.fitted(mask, x);
        self.real.push((x * mask, 0));
    }
}
