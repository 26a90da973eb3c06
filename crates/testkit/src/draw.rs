//! Deterministic pseudo-random choices, and numbers as bytes.

use backprop_core::random::{philox_block, uniform_f64};
use backprop_core::{DType, Element};
use half::{bf16, f16};

/// A stream of choices: the same for the same seed, on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    seed: u64,
    block: u64,
}

impl Draw {
    pub(crate) fn new(seed: u64) -> Draw {
        Draw { seed, block: 0 }
    }

    /// A number in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        let words = philox_block(self.seed as i64, 0, self.block);
        self.block += 1;
        uniform_f64(words[0], words[1])
    }

    pub(crate) fn between(&mut self, (low, high): (f64, f64)) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A number below `end`, which is at least 1.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.unit() * end as f64) as usize
    }

    /// Whether something happens that does so once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of several; they are not empty.
    pub(crate) fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Numbers from an interval; for integers whole ones.
    pub(crate) fn numbers(&mut self, dtype: DType, count: usize, interval: (f64, f64)) -> Vec<f64> {
        let round = |x: f64| if dtype.is_float() { x } else { x.floor() };
        (0..count).map(|_| round(self.between(interval))).collect()
    }

    pub(crate) fn bytes(&mut self, dtype: DType, count: usize, interval: (f64, f64)) -> Vec<u8> {
        encode(dtype, &self.numbers(dtype, count, interval))
    }
}

/// Numbers as elements of a type; those unequal to 0 are true.
pub(crate) fn encode(dtype: DType, numbers: &[f64]) -> Vec<u8> {
    fn all<T: Element>(numbers: &[f64]) -> Vec<u8> {
        let elements: Vec<T> = numbers.iter().map(|&x| T::from_f64(x)).collect();
        T::bytes(&elements).to_vec()
    }
    match dtype {
        DType::F32 => all::<f32>(numbers),
        DType::F64 => all::<f64>(numbers),
        DType::F16 => all::<f16>(numbers),
        DType::BF16 => all::<bf16>(numbers),
        DType::I32 => all::<i32>(numbers),
        DType::I64 => all::<i64>(numbers),
        DType::U8 => all::<u8>(numbers),
        _ => all::<bool>(numbers),
    }
}

/// Elements of a type as numbers.
pub(crate) fn decode(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    fn all<T: Element>(bytes: &[u8]) -> Vec<f64> {
        let mut elements = vec![T::default(); bytes.len() / T::DTYPE.size()];
        T::copy_from_bytes(&mut elements, bytes);
        elements.into_iter().map(T::to_f64).collect()
    }
    match dtype {
        DType::F32 => all::<f32>(bytes),
        DType::F64 => all::<f64>(bytes),
        DType::F16 => all::<f16>(bytes),
        DType::BF16 => all::<bf16>(bytes),
        DType::I32 => all::<i32>(bytes),
        DType::I64 => all::<i64>(bytes),
        _ => bytes.iter().map(|&byte| f64::from(byte)).collect(),
    }
}
