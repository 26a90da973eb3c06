//! Random numbers as functions of keys: no hidden state, the same numbers for the same key.
//!
//! A key is a seed and a stream number, `i64[2]`. A draw reads blocks 0, 1, .. of its stream, so two
//! draws from one key are not independent of each other: every draw wants a key of its own, derived
//! by [`split_key`](Tensor::split_key) or [`fold_in`](Tensor::fold_in) (as in Claessen and Pałka,
//! "Splittable pseudorandom number generators using cryptographic hashing", Haskell 2013).

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2, TAU};
use std::panic::Location;

use backprop_core::random::{philox_block, uniform_f64};
use backprop_core::{DType, Element, Order, Scalar, Shape};

use crate::axes::resolve;
use crate::graph::{Graph, Problem, bad_attribute, bad_dtype, bad_shape};
use crate::ir::Op;
use crate::op::catalogue::{Entry, entries, reals, within};
use crate::operand::Operand;
use crate::tensor::Tensor;

impl Graph {
    /// The key of a seed.
    #[track_caller]
    pub fn random_key(&self, seed: u64) -> Tensor<'_> {
        self.at(Location::caller(), || self.data([2], &[seed as i64, 0]))
    }

    /// Uniform random numbers in [0, 1) of `dtype` (`f32` or `f64`): multiples of `2^-24` and
    /// `2^-53`, the same on every backend.
    #[track_caller]
    pub fn uniform<'g>(
        &'g self,
        key: Tensor<'g>,
        shape: impl AsRef<[usize]>,
        dtype: DType,
    ) -> Tensor<'g> {
        let (name, wanted) = ("uniform", Shape::new(shape.as_ref()));
        self.apply(name, &[key], Location::caller(), |types| {
            let shape = wanted.ok_or_else(|| bad_shape(name, "too many axes"))?;
            check_key(name, types[0])?;
            if !matches!(dtype, DType::F32 | DType::F64) {
                let problem = bad_dtype(name, format!("numbers of type {dtype}"));
                return Err(problem.help("draw `F32` and convert with `.cast(..)`"));
            }
            Ok((Op::Random, (dtype, shape)))
        })
    }

    /// Uniform random numbers in [low, high), of which the bounds are numbers or tensors that
    /// broadcast to `shape`; differentiable with respect to both. Where `high` is not above `low`,
    /// `low`; for bounds that are numbers an error. `high - low` has to be a number of `dtype`.
    #[track_caller]
    pub fn uniform_between<'g>(
        &'g self,
        key: Tensor<'g>,
        low: impl Operand<'g>,
        high: impl Operand<'g>,
        shape: impl AsRef<[usize]>,
        dtype: DType,
    ) -> Tensor<'g> {
        let (place, name, shape) = (Location::caller(), "uniform_between", shape.as_ref());
        let low = low.on(self, Some(dtype), place);
        let high = high.on(self, Some(dtype), place);
        self.compose(name, &[key, low, high], place, || {
            if let (Some(a), Some(b)) = (low.constant_value(), high.constant_value())
                && !(a < b && (b - a).is_finite())
            {
                let problem = bad_attribute(name, format!("numbers from {a} to {b}"));
                return Err(problem.help("`low` is below `high`, and both are finite"));
            }
            let (low, high) = (low.broadcast_to(shape), high.broadcast_to(shape));
            let drawn = self.uniform(key, shape, dtype) * (high - low) + low;
            // Rounding may reach the upper bound.
            Ok(drawn.ge(high).select(low, drawn))
        })
    }

    /// Random numbers of the standard normal distribution, by Box and Muller's transformation
    /// ("A note on the generation of random normal deviates", 1958) of two uniform numbers each.
    /// None is larger in magnitude than 5.8 in `f32` and 8.6 in `f64`, of which a true one would be
    /// with probability 8e-9 and 1e-17. Numbers on two backends differ by the rounding of their
    /// logarithms and cosines, a few units in the last place.
    #[track_caller]
    pub fn standard_normal<'g>(
        &'g self,
        key: Tensor<'g>,
        shape: impl AsRef<[usize]>,
        dtype: DType,
    ) -> Tensor<'g> {
        let (place, name, shape) = (Location::caller(), "standard_normal", shape.as_ref());
        self.compose(name, &[key], place, || {
            let known = Shape::new(shape).and_then(|shape| Some((shape, shape.checked_count()?)));
            let Some((shape, count)) = known else {
                return Err(bad_shape(name, format!("too many numbers: {shape:?}")));
            };
            let pairs = self.uniform(key, [2, count], dtype);
            let part = |i: usize| pairs.narrow(0, i, i + 1).reshape_to(shape);
            // 1 - u is exact, and never 0.
            let radius = ((-part(0) + 1.0).log() * -2.0).sqrt();
            Ok(radius * (part(1) * TAU).cos())
        })
    }

    /// Normal random numbers of mean `loc` and standard deviation `scale`, numbers or tensors that
    /// broadcast to `shape`: `loc` plus `scale` times [`standard_normal`](Graph::standard_normal),
    /// and differentiated as such (the reparametrisation of Kingma and Welling, arXiv:1312.6114).
    #[track_caller]
    pub fn normal<'g>(
        &'g self,
        key: Tensor<'g>,
        loc: impl Operand<'g>,
        scale: impl Operand<'g>,
        shape: impl AsRef<[usize]>,
        dtype: DType,
    ) -> Tensor<'g> {
        let (place, name, shape) = (Location::caller(), "normal", shape.as_ref());
        let loc = loc.on(self, Some(dtype), place);
        let scale = scale.on(self, Some(dtype), place);
        self.compose(name, &[key, loc, scale], place, || {
            if let Some(scale) = scale.constant_value().filter(|scale| *scale < 0.0) {
                let problem = bad_attribute(name, format!("a standard deviation of {scale}"));
                return Err(problem.help("it is at least 0"));
            }
            let (loc, scale) = (loc.broadcast_to(shape), scale.broadcast_to(shape));
            Ok(self.standard_normal(key, shape, dtype) * scale + loc)
        })
    }

    /// Random numbers of the standard normal distribution on condition that they lie in
    /// `low..=high`, by inversion of the distribution function. Either end may be infinite: none is
    /// larger in magnitude than 5.5 in `f32` and 8.3 in `f64`. An interval that holds less than a
    /// thousandth of the distribution is an error, because too few uniform numbers lead there.
    #[track_caller]
    pub fn truncated_normal<'g>(
        &'g self,
        key: Tensor<'g>,
        (low, high): (f64, f64),
        shape: impl AsRef<[usize]>,
        dtype: DType,
    ) -> Tensor<'g> {
        let (place, name, shape) = (Location::caller(), "truncated_normal", shape.as_ref());
        self.compose(name, &[key], place, || {
            let [start, end] = [low, high].map(|x| Scalar::Erf.eval(&[x * FRAC_1_SQRT_2]));
            let probable = (end - start) / 2.0 >= 1e-3;
            if !probable {
                let problem = bad_attribute(name, format!("numbers from {low} to {high}"));
                let help = "the interval holds at least a thousandth of the distribution";
                return Err(problem.help(help));
            }
            let u = self.uniform(key, shape, dtype);
            let step = resolution(dtype);
            // In the middle of the steps, and never -1 or 1.
            let at = (u + step / 2.0) * (end - start) + start;
            let at = at.clamp(step - 1.0, 1.0 - step);
            Ok((at.erfinv() * SQRT_2).clamp(low, high))
        })
    }

    /// Random numbers of the exponential distribution of mean 1, `-log(1 - u)`: in `f32` at most
    /// 16.7, in `f64` 36.8.
    #[track_caller]
    pub fn standard_exponential<'g>(
        &'g self,
        key: Tensor<'g>,
        shape: impl AsRef<[usize]>,
        dtype: DType,
    ) -> Tensor<'g> {
        let (place, shape) = (Location::caller(), shape.as_ref());
        self.compose("standard_exponential", &[key], place, || {
            Ok(-(-self.uniform(key, shape, dtype)).log1p())
        })
    }

    /// Random numbers of the standard Gumbel distribution, `-log` of exponential ones: in `f32`
    /// between -2.9 and 17.4, in `f64` between -3.7 and 37.5.
    #[track_caller]
    pub fn standard_gumbel<'g>(
        &'g self,
        key: Tensor<'g>,
        shape: impl AsRef<[usize]>,
        dtype: DType,
    ) -> Tensor<'g> {
        let (place, shape) = (Location::caller(), shape.as_ref());
        self.compose("standard_gumbel", &[key], place, || {
            let waits = self.standard_exponential(key, shape, dtype);
            Ok(-waits.maximum(resolution(dtype) / 2.0).log())
        })
    }

    /// Truth values that hold with probability `p`, a number or a tensor that broadcasts to `shape`:
    /// where a uniform number is below it. A number outside of [0, 1] is an error, and a tensor with
    /// one (or a NaN) an error of the step.
    #[track_caller]
    pub fn bernoulli<'g>(
        &'g self,
        key: Tensor<'g>,
        p: impl Operand<'g>,
        shape: impl AsRef<[usize]>,
    ) -> Tensor<'g> {
        let (place, name, shape) = (Location::caller(), "bernoulli", shape.as_ref());
        let p = p.on(self, None, place);
        self.compose(name, &[key, p], place, || {
            p.floats(name)?;
            let sure = match p.constant_value() {
                Some(value) if (0.0..=1.0).contains(&value) => p,
                Some(value) => {
                    let problem = bad_attribute(name, format!("a probability of {value}"));
                    return Err(problem.help("it is at least 0 and at most 1"));
                }
                None => {
                    let inside = p.ge(0.0).logical_and(p.le(1.0));
                    p.require(inside, "bernoulli: a probability is outside of [0, 1]")
                }
            };
            let sure = sure.widened();
            let drawn = self.uniform(key, shape, sure.dtype());
            Ok(drawn.lt(sure.broadcast_to(shape)))
        })
    }

    /// The numbers below `count` in random order, as `i64[count]`: the order of as many uniform
    /// numbers of 53 bits.
    #[track_caller]
    pub fn permutation<'g>(&'g self, key: Tensor<'g>, count: usize) -> Tensor<'g> {
        self.compose("permutation", &[key], Location::caller(), || {
            let drawn = self.uniform(key, [count], DType::F64);
            Ok(drawn.argsort(0, Order::Ascending))
        })
    }
}

impl<'g> Tensor<'g> {
    /// `N` keys derived from this one, to be used in its place:
    /// `let [weights, noise] = key.split_key();`. They are blocks of Philox in a stream of their own
    /// (the complement of this key's), 106 bits of each: as good as independent of one another, of
    /// this key's draws and of what [`fold_in`](Tensor::fold_in) gives. Fewer keys are the first of
    /// more.
    #[track_caller]
    #[must_use]
    pub fn split_key<const N: usize>(self) -> [Tensor<'g>; N] {
        let (place, name) = (Location::caller(), "split_key");
        let keys = self.graph.compose(name, &[self], place, || {
            check_key(name, (self.dtype(), self.shape()))?;
            Ok(self.derived(N))
        });
        self.graph.at(place, || {
            let pair = Shape::from_iter([2]);
            std::array::from_fn(|i| keys.narrow(0, i, i + 1).reshape_to(pair))
        })
    }

    /// The key number `number` derived from this one: of a step, a layer, a sample. `number` is an
    /// integer or an integer tensor without axes. Different numbers give inputs of one Philox
    /// permutation that differ, so that the derived keys are 106 bits of different blocks: two
    /// coincide with probability `2^-106`.
    #[track_caller]
    #[must_use]
    pub fn fold_in(self, number: impl Operand<'g>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "fold_in");
        let number = number.on(self.graph, Some(DType::I64), place);
        self.graph.compose(name, &[self, number], place, || {
            check_key(name, (self.dtype(), self.shape()))?;
            if !matches!(number.dtype(), DType::I32 | DType::I64) || number.rank() > 0 {
                let what = format!("the number {}{}", number.dtype(), number.shape());
                return Err(bad_dtype(name, what).help("it is an integer without axes"));
            }
            let constant = |pair: [i64; 2]| self.graph.data([2], &pair);
            // A seed below 0, which no derived key has: this stream is never drawn from.
            let base = self.derived(1).reshape_to(Shape::from_iter([2]));
            let base = base * constant([-1, 1]) - constant([1, 0]);
            let numbered = base + number.cast(DType::I64) * constant([0, 1]);
            Ok(numbered.drawn_keys(1).reshape_to(Shape::from_iter([2])))
        })
    }

    /// Keys from the stream that is the complement of this key's: known now if this one is.
    #[track_caller]
    fn derived(self, count: usize) -> Tensor<'g> {
        if let Op::Data(bytes) = &self.graph.node(self.id).op {
            let mut key = [0i64; 2];
            i64::copy_from_bytes(&mut key, bytes);
            let [seed, stream] = key;
            let block = |i: usize| derived_key(seed, !stream, i as u64);
            let keys: Vec<i64> = (0..count).flat_map(block).collect();
            return self.graph.data([count, 2], &keys);
        }
        let constant = |pair: [i64; 2]| self.graph.data([2], &pair);
        (self * constant([1, -1]) - constant([0, 1])).drawn_keys(count)
    }

    /// The blocks of this key's stream, 53 bits for a seed and 53 for a stream.
    #[track_caller]
    fn drawn_keys(self, count: usize) -> Tensor<'g> {
        let drawn = self.graph.uniform(self, [count, 2], DType::F64);
        (drawn / resolution(DType::F64)).cast(DType::I64)
    }

    /// Random positions along `axis`, drawn with the probabilities of the softmax of these logits
    /// along it: where the logits plus Gumbel noise are largest (Jang, Gu and Poole,
    /// arXiv:1611.01144). `i64`, without the axis. A logit of minus infinity is never drawn beside
    /// others, and a NaN always. The noise is `f64`, so that rare ones of many are drawn as often as
    /// they should be.
    #[track_caller]
    #[must_use]
    pub fn categorical(self, axis: i32, key: Tensor<'g>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "categorical");
        self.graph.compose(name, &[self, key], place, || {
            self.floats(name)?;
            resolve(name, axis, self.rank())?;
            let noise = self.graph.standard_gumbel(key, self.shape(), DType::F64);
            Ok((self.stop_gradient().cast(DType::F64) + noise).argmax(axis))
        })
    }

    /// Zeros with probability `p`, and this divided by `1 - p` elsewhere, so that the mean stays
    /// (Srivastava et al., "Dropout", 2014, inverted). For training: an evaluation goes without it.
    /// `p` is at least 0 and below 1.
    #[track_caller]
    #[must_use]
    pub fn dropout(self, p: f64, key: Tensor<'g>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "dropout");
        self.graph.compose(name, &[self, key], place, || {
            self.floats(name)?;
            if !(0.0..1.0).contains(&p) {
                let problem = bad_attribute(name, format!("a probability of {p}"));
                return Err(problem.help("it is at least 0 and below 1"));
            }
            let drawn = self.graph.uniform(key, self.shape(), DType::F32);
            Ok(drawn.ge(p).select(self * (1.0 / (1.0 - p)), 0.0))
        })
    }
}

/// What `drawn_keys` computes of one block.
fn derived_key(seed: i64, stream: i64, block: u64) -> [i64; 2] {
    let [a, b, c, d] = philox_block(seed, stream, block);
    let scale = 1.0 / resolution(DType::F64);
    [uniform_f64(a, b), uniform_f64(c, d)].map(|drawn| (drawn * scale) as i64)
}

/// The distance of neighbouring uniform numbers.
fn resolution(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(f32::EPSILON) / 2.0,
        _ => f64::EPSILON / 2.0,
    }
}

fn check_key(operation: &str, (dtype, shape): (DType, Shape)) -> Result<(), Problem> {
    if dtype == DType::I64 && shape.sizes() == [2] {
        return Ok(());
    }
    let problem = bad_dtype(operation, "the key is not i64[2]");
    Err(problem.help("a key is a seed and a stream number, as of `g.random_key(seed)`"))
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    const SHAPE: [usize; 2] = [3, 5];
    let matrix = || reals(&[&SHAPE]);
    let parameters = || within((0.5, 2.0), &[&SHAPE, &[5]]);
    entries! {
        random_key matrix() => |x| {
            let g = x[0].graph();
            x[0] * g.random_key(1).cast(DType::F64).sum(..)
        };
        uniform matrix() => |x| {
            let g = x[0].graph();
            x[0] * g.uniform(g.random_key(1), SHAPE, DType::F64)
        };
        uniform_between parameters() => |x| {
            let g = x[0].graph();
            g.uniform_between(g.random_key(2), x[0], x[0] + x[1], SHAPE, DType::F64).square()
        };
        standard_normal matrix() => |x| {
            let g = x[0].graph();
            x[0] * g.standard_normal(g.random_key(3), SHAPE, DType::F64)
        };
        normal parameters() => |x| {
            let g = x[0].graph();
            g.normal(g.random_key(4), x[0], x[1], SHAPE, DType::F64).square()
        };
        truncated_normal matrix() => |x| {
            let g = x[0].graph();
            x[0] * g.truncated_normal(g.random_key(5), (-2.0, 1.0), SHAPE, DType::F64)
        };
        standard_exponential matrix() => |x| {
            let g = x[0].graph();
            x[0] * g.standard_exponential(g.random_key(6), SHAPE, DType::F64)
        };
        standard_gumbel matrix() => |x| {
            let g = x[0].graph();
            x[0] * g.standard_gumbel(g.random_key(7), SHAPE, DType::F64)
        };
        bernoulli within((0.0, 1.0), &[&SHAPE]) => |x| {
            let g = x[0].graph();
            g.bernoulli(g.random_key(8), x[0], SHAPE)
        };
        permutation matrix() => |x| {
            let g = x[0].graph();
            x[0].take(g.permutation(g.random_key(9), 3), 0)
        };
        fold_in matrix() => |x| {
            let g = x[0].graph();
            x[0] * g.uniform(g.random_key(10).fold_in(3), SHAPE, DType::F64)
        };
        split_key matrix() => |x| {
            let g = x[0].graph();
            let [_, key] = g.random_key(11).split_key();
            x[0] * g.uniform(key, SHAPE, DType::F64)
        };
        categorical matrix() => |x| x[0].categorical(1, x[0].graph().random_key(12));
        dropout matrix() => |x| x[0].dropout(0.4, x[0].graph().random_key(13)).square();
    }
}
