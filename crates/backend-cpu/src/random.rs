//! Counter-based random numbers, many blocks abreast.

use backprop_core::random::{uniform_f32, uniform_f64};
use backprop_core::{DType, Random as Spec, Result};

use crate::Level;
use crate::memory::Operands;
use crate::pool::Pool;
use crate::simd::{Simd, by_level};
use crate::split::Split;

/// Blocks that are computed abreast.
const ABREAST: usize = 16;

/// Numbers of a batch: all those of [`ABREAST`] blocks.
const BATCH_F32: usize = 4 * ABREAST;
const BATCH_F64: usize = 2 * ABREAST;

/// A prepared generator.
#[derive(Debug)]
pub(crate) struct Random {
    count: usize,
    batch: usize,
    fill: Fill,
    element: usize,
    split: Split,
}

/// Words of [`ABREAST`] blocks.
type Words = [[u32; ABREAST]; 4];

/// Writes a batch of numbers, from the block of the given number on.
type Fill = unsafe fn(key: [i64; 2], first: u64, to: *mut u8);

impl Random {
    pub(crate) fn new(spec: &Spec, level: Level) -> Random {
        let (count, dtype) = (spec.output.shape.count(), spec.output.dtype);
        let (fill, batch) = match dtype {
            DType::F64 => (fill_f64(level), BATCH_F64),
            _ => (fill_f32(level), BATCH_F32),
        };
        Random {
            count,
            batch,
            fill,
            element: dtype.size(),
            split: Split::of(count.saturating_mul(16)),
        }
    }

    /// # Safety
    /// The operands are those of a checked launch of the spec.
    pub(crate) unsafe fn run(&self, pool: &Pool, operands: &Operands<'_>) -> Result<()> {
        let key: *const i64 = operands.read(0).cast();
        // SAFETY: the key is two i64 (P4).
        let key = unsafe { [key.read_unaligned(), key.add(1).read_unaligned()] };
        self.split.run(pool, &|worker| {
            for number in worker.share(self.count.div_ceil(self.batch)) {
                let start = number * self.batch;
                let n = self.batch.min(self.count - start);
                let first = (number * ABREAST) as u64;
                // SAFETY: the level is available; batches are shared out and
                // lie in the output (P4). The last one goes by way of the stack.
                unsafe {
                    let to = operands.write(0).add(start * self.element);
                    if n == self.batch {
                        (self.fill)(key, first, to);
                    } else {
                        let mut batch = [0u64; BATCH_F64];
                        let batch: *mut u8 = batch.as_mut_ptr().cast();
                        (self.fill)(key, first, batch);
                        std::ptr::copy_nonoverlapping(batch, to, n * self.element);
                    }
                }
            }
        })
    }
}

#[inline(always)]
unsafe fn fill_f32_at<S: Simd>(key: [i64; 2], first: u64, to: *mut u8) {
    let words = blocks(key, first).map(|words| words.map(uniform_f32));
    let numbers: [[f32; 4]; ABREAST] = std::array::from_fn(|block| words.map(|word| word[block]));
    // SAFETY: the caller passes room for a batch.
    unsafe { to.cast::<[[f32; 4]; ABREAST]>().write_unaligned(numbers) };
}
by_level! { fn fill_f32(key: [i64; 2], first: u64, to: *mut u8) = fill_f32_at; }

#[inline(always)]
unsafe fn fill_f64_at<S: Simd>(key: [i64; 2], first: u64, to: *mut u8) {
    let [a, b, c, d] = blocks(key, first);
    let pair = |block: usize| {
        [
            uniform_f64(a[block], b[block]),
            uniform_f64(c[block], d[block]),
        ]
    };
    let numbers: [[f64; 2]; ABREAST] = std::array::from_fn(pair);
    // SAFETY: the caller passes room for a batch.
    unsafe { to.cast::<[[f64; 2]; ABREAST]>().write_unaligned(numbers) };
}
by_level! { fn fill_f64(key: [i64; 2], first: u64, to: *mut u8) = fill_f64_at; }

/// The high and the low words of products.
#[inline(always)]
fn multiply(words: &[u32; ABREAST], factor: u32) -> ([u32; ABREAST], [u32; ABREAST]) {
    let (mut high, mut low) = ([0; ABREAST], [0; ABREAST]);
    for ((high, low), word) in high.iter_mut().zip(&mut low).zip(words) {
        let product = u64::from(*word) * u64::from(factor);
        (*high, *low) = ((product >> 32) as u32, product as u32);
    }
    (high, low)
}

#[inline(always)]
fn mix(a: &[u32; ABREAST], b: &[u32; ABREAST], key: u32) -> [u32; ABREAST] {
    let mut mixed = [0; ABREAST];
    for (mixed, (a, b)) in mixed.iter_mut().zip(a.iter().zip(b)) {
        *mixed = a ^ b ^ key;
    }
    mixed
}

/// [`philox_block`](backprop_core::random::philox_block), for [`ABREAST`] consecutive numbers.
#[inline(always)]
fn blocks(key: [i64; 2], first: u64) -> Words {
    let [seed, stream] = key.map(|part| part as u64);
    let number = |lane: usize| first + lane as u64;
    let mut c: Words = [
        std::array::from_fn(|lane| number(lane) as u32),
        std::array::from_fn(|lane| (number(lane) >> 32) as u32),
        [stream as u32; ABREAST],
        [(stream >> 32) as u32; ABREAST],
    ];
    let mut k = [seed as u32, (seed >> 32) as u32];
    for _ in 0..10 {
        let (products, others) = (multiply(&c[0], 0xD251_1F53), multiply(&c[2], 0xCD9E_8D57));
        c = [
            mix(&others.0, &c[1], k[0]),
            others.1,
            mix(&products.0, &c[3], k[1]),
            products.1,
        ];
        k = [
            k[0].wrapping_add(0x9E37_79B9),
            k[1].wrapping_add(0xBB67_AE85),
        ];
    }
    c
}

#[cfg(test)]
mod tests {
    use backprop_core::random::philox_block;

    use super::{ABREAST, blocks};

    #[test]
    fn blocks_are_those_of_the_definition() {
        for (seed, stream, first) in [(0, 0, 0), (-1, 7, 3), (1 << 40, -(1 << 50), (1 << 32) - 5)] {
            let words = blocks([seed, stream], first);
            for lane in 0..ABREAST {
                let expected = philox_block(seed, stream, first + lane as u64);
                assert_eq!(words.map(|word| word[lane]), expected);
            }
        }
    }
}
