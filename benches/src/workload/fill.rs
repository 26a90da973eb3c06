//! What parameters and inputs start with, drawn from a seed.

use std::f64::consts::TAU;

use backprop::core::random::{philox_block, uniform_f64};
use backprop::{DType, Init, Shape};

/// How a tensor is filled. Random values are a function of the seed, the tensor's name and the
/// position.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fill {
    /// 0 everywhere.
    Zeros,
    /// 1 everywhere.
    Ones,
    /// One number everywhere.
    Constant(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform from 0 to 1.
    Uniform,
    /// Integers from 0 up to this, exclusive.
    Below(i32),
    /// Each row the sines and then the cosines of a random time below 1000, with wavelengths from 1 to
    /// 10000 (arXiv:2006.11239, appendix B).
    Sinusoids,
}

/// The values of a tensor, in row-major order.
#[derive(Clone, PartialEq, Debug)]
pub enum Values {
    /// Of parameters and most inputs.
    F32(Vec<f32>),
    /// Of labels and tokens.
    I32(Vec<i32>),
}

impl Fill {
    /// The element type.
    #[must_use]
    pub fn dtype(self) -> DType {
        match self {
            Fill::Below(_) => DType::I32,
            _ => DType::F32,
        }
    }

    /// How a parameter starts that the graph draws alike. Only inputs are filled in ways of their own.
    pub(super) fn init(self) -> Init {
        match self {
            Fill::Ones => Init::Ones,
            Fill::Constant(value) => Init::Constant(value.into()),
            Fill::Normal(std) => Init::Normal { mean: 0.0, std },
            Fill::Uniform => Init::Uniform {
                low: 0.0,
                high: 1.0,
            },
            Fill::Zeros | Fill::Below(_) | Fill::Sinusoids => Init::Zeros,
        }
    }

    /// The values of a tensor.
    #[must_use]
    pub fn draw(self, seed: u64, name: &str, shape: Shape) -> Values {
        let count = shape.count();
        let stream = stream(name);
        let pair = |i: usize| {
            let words = philox_block(seed as i64, stream, i as u64);
            [
                uniform_f64(words[0], words[1]),
                uniform_f64(words[2], words[3]),
            ]
        };
        let uniform = (0..).flat_map(pair).take(count);
        Values::F32(match self {
            Fill::Below(end) => {
                return Values::I32(uniform.map(|u| (u * f64::from(end)) as i32).collect());
            }
            Fill::Zeros => vec![0.0; count],
            Fill::Ones => vec![1.0; count],
            Fill::Constant(value) => vec![value; count],
            Fill::Uniform => collect(count, uniform.map(|u| u as f32)),
            Fill::Normal(std) => {
                let normals = (0..).flat_map(|i| gaussians(pair(i)));
                collect(count, normals.map(|x| (x * std) as f32))
            }
            Fill::Sinusoids => {
                let width = shape.sizes().last().copied().unwrap_or(1).max(1);
                let times = uniform.take(count / width);
                collect(
                    count,
                    times.flat_map(|u| sinusoids((u * 1000.0).floor(), width)),
                )
            }
        })
    }
}

/// So many values, in no more memory than they take.
fn collect(count: usize, values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut all = Vec::with_capacity(count);
    all.extend(values.take(count));
    all
}

/// Two normal numbers of two uniform ones: Box and Muller's transformation. 1 - u is never 0. The same
/// on every system, whose own functions would differ.
fn gaussians([u, v]: [f64; 2]) -> [f64; 2] {
    let radius = (-2.0 * libm::log(1.0 - u)).sqrt();
    let (sine, cosine) = libm::sincos(TAU * v);
    [radius * cosine, radius * sine]
}

fn sinusoids(time: f64, width: usize) -> impl Iterator<Item = f32> {
    let half = width / 2;
    (0..width).map(move |i| {
        let angle = time * libm::pow(10000.0, -((i % half.max(1)) as f64) / half.max(1) as f64);
        let wave = if i < half { libm::sin } else { libm::cos };
        wave(angle) as f32
    })
}

/// A stream of random numbers for a name: the 64-bit FNV-1a hash.
fn stream(name: &str) -> i64 {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let hash = name.bytes().fold(start, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(fill: Fill, name: &str, shape: &[usize]) -> Vec<f32> {
        match fill.draw(1, name, Shape::new(shape).unwrap()) {
            Values::F32(values) => values,
            Values::I32(_) => panic!("integers"),
        }
    }

    #[test]
    fn normals_have_their_moments() {
        let values = floats(Fill::Normal(2.0), "w", &[301, 333]);
        let n = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n;
        assert!(
            mean.abs() < 0.03 && (variance - 4.0).abs() < 0.1,
            "{mean} {variance}"
        );
        assert_ne!(values, floats(Fill::Normal(2.0), "v", &[301, 333]));
    }

    #[test]
    fn labels_reach_both_ends() {
        let Values::I32(labels) = Fill::Below(3).draw(1, "labels", Shape::new(&[99]).unwrap())
        else {
            panic!("floats");
        };
        assert_eq!(labels.iter().min(), Some(&0));
        assert_eq!(labels.iter().max(), Some(&2));
    }

    #[test]
    fn sines_and_cosines_are_of_one_angle() {
        let values = floats(Fill::Sinusoids, "time", &[5, 64]);
        for row in values.chunks(64) {
            for i in 0..32 {
                assert!((row[i].hypot(row[i + 32]) - 1.0).abs() < 1e-6);
            }
        }
    }
}
