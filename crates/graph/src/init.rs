//! Initial values of parameters.

use std::f64::consts::TAU;

use backprop_core::random::{philox_block, uniform_f64};
use backprop_core::{DType, Error, ErrorKind, Shape};

use crate::graph::has_value;

/// How a parameter starts. Random values are a function of the graph's seed and the parameter's
/// name alone, so that adding a parameter changes no other.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Init {
    /// 0 everywhere.
    Zeros,
    /// 1 everywhere.
    Ones,
    /// One number everywhere.
    Constant(f64),
    /// Uniform in an interval.
    Uniform {
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
    },
    /// Normal.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        std: f64,
    },
    /// Normal with variance `2 / fan_in`, for layers followed by a ReLU (He et al., 2015,
    /// arXiv:1502.01852).
    Kaiming,
    /// Uniform with variance `2 / (fan_in + fan_out)` (Glorot and Bengio, 2010).
    Xavier,
    /// These values, in row-major order.
    Values(Vec<f64>),
}

impl Init {
    /// Whether the values suit the type.
    pub(crate) fn check(&self, name: &str, (dtype, shape): (DType, Shape)) -> Result<(), Error> {
        let meaningless = |what: String| {
            let operation = format!("parameter `{name}`");
            Err(Error::new(ErrorKind::Attribute { operation, what }))
        };
        match self {
            Init::Values(values) if values.len() != shape.count() => {
                Err(Error::new(ErrorKind::Mismatch {
                    name: name.to_owned(),
                    expected: shape.to_string(),
                    found: format!("initialised by {} values", values.len()),
                }))
            }
            Init::Values(values) if !values.iter().all(|&value| has_value(dtype, value)) => {
                meaningless(format!("initial values that are no {dtype}"))
            }
            Init::Constant(value) if !has_value(dtype, *value) => {
                meaningless(format!("{value} at first, which is no {dtype}"))
            }
            Init::Normal { mean, std } if !mean.is_finite() || !std.is_finite() || *std < 0.0 => {
                meaningless(format!("a mean of {mean} and a deviation of {std}"))
            }
            Init::Uniform { low, high }
                if !(low.is_finite() && high.is_finite() && low <= high) =>
            {
                meaningless(format!("numbers from {low} to {high}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether memory that is 0 everywhere has these values.
    pub(crate) fn is_zero(&self) -> bool {
        matches!(self, Init::Zeros)
    }

    /// The values of a parameter from number `start` on, in row-major order.
    pub(crate) fn fill(&self, start: usize, values: &mut [f64], (shape, stream): (Shape, Stream)) {
        let (fan_in, fan_out) = fans(shape);
        let mut each = |value: &dyn Fn(usize) -> f64| {
            for (i, place) in values.iter_mut().enumerate() {
                *place = value(start + i);
            }
        };
        let mut uniform = |low: f64, high: f64| each(&|i| low + (high - low) * stream.pair(i).0);
        match self {
            Init::Zeros => values.fill(0.0),
            Init::Ones => values.fill(1.0),
            Init::Constant(value) => values.fill(*value),
            Init::Uniform { low, high } => uniform(*low, *high),
            Init::Xavier => {
                let bound = (6.0 / (fan_in + fan_out)).sqrt();
                uniform(-bound, bound);
            }
            Init::Normal { mean, std } => each(&|i| mean + std * stream.normal(i)),
            Init::Kaiming => {
                let std = (2.0 / fan_in).sqrt();
                each(&|i| std * stream.normal(i));
            }
            Init::Values(all) => values.copy_from_slice(&all[start..start + values.len()]),
        }
    }
}

/// The random numbers of one parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    seed: i64,
    number: i64,
}

impl Stream {
    pub(crate) fn new(seed: u64, name: &str) -> Stream {
        Stream {
            seed: seed as i64,
            number: fingerprint(name) as i64,
        }
    }

    /// Two uniform numbers.
    fn pair(self, i: usize) -> (f64, f64) {
        let [a, b, c, d] = philox_block(self.seed, self.number, i as u64);
        (uniform_f64(a, b), uniform_f64(c, d))
    }

    /// A normal number, by Box and Muller's transformation; 1 - u is never 0. The system's logarithm and
    /// cosine would differ between systems.
    fn normal(self, i: usize) -> f64 {
        let (u, v) = self.pair(i);
        (-2.0 * libm::log(1.0 - u)).sqrt() * libm::cos(TAU * v)
    }
}

/// The numbers of inputs and outputs of a weight: `[in, out]` for a matrix, and
/// `[out, in, kernel..]` for the filter of a convolution.
fn fans(shape: Shape) -> (f64, f64) {
    let size = |axis| shape.size(axis) as f64;
    match shape.rank() {
        0 | 1 => (size(0).max(1.0), size(0).max(1.0)),
        2 => (size(0).max(1.0), size(1).max(1.0)),
        _ => {
            let kernel: f64 = shape.sizes()[2..].iter().map(|&size| size as f64).product();
            ((size(1) * kernel).max(1.0), (size(0) * kernel).max(1.0))
        }
    }
}

/// FNV-1a, 64 bits.
fn fingerprint(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_their_moments_and_depend_on_the_name() {
        let shape = Shape::new(&[50, 400]).unwrap();
        let moments = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
            (mean, (square / values.len() as f64).sqrt())
        };
        let cases = [
            (Init::Kaiming, 0.0, (2.0f64 / 50.0).sqrt()),
            (Init::Xavier, 0.0, (2.0f64 / 450.0).sqrt()),
            (
                Init::Normal {
                    mean: 1.0,
                    std: 3.0,
                },
                1.0,
                3.0,
            ),
            (
                Init::Uniform {
                    low: 0.0,
                    high: 12.0,
                },
                6.0,
                12.0f64.sqrt(),
            ),
        ];
        for (init, mean, std) in cases {
            let draw = |seed, name| {
                let mut values = vec![0.0; shape.count()];
                init.fill(0, &mut values, (shape, Stream::new(seed, name)));
                values
            };
            let values = draw(1, "w");
            let (m, s) = moments(&values);
            assert!(
                (m - mean).abs() < 0.05 * std && (s / std - 1.0).abs() < 0.02,
                "{init:?}"
            );
            assert_eq!(values, draw(1, "w"));
            assert_ne!(values, draw(1, "v"));
            assert_ne!(values, draw(2, "w"));
            let mut part = [0.0; 7];
            init.fill(100, &mut part, (shape, Stream::new(1, "w")));
            assert_eq!(values[100..107], part);
        }
    }
}
