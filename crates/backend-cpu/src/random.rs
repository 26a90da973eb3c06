//! Counter-based random numbers, many blocks abreast.

use std::ops::Range;

use backprop_core::random::{uniform_f32, uniform_f64};
use backprop_core::{DType, Random as Spec, Result};

use crate::Level;
use crate::memory::Operands;
use crate::pool::Pool;
use crate::simd::{Simd, by_level};
use crate::split::Split;

/// Blocks that are computed abreast.
const ABREAST: usize = 16;

/// A prepared generator.
#[derive(Debug)]
pub(crate) struct Random {
    count: usize,
    dtype: DType,
    blocks: Blocks,
    split: Split,
}

/// Words of [`ABREAST`] blocks.
type Words = [[u32; ABREAST]; 4];

/// The blocks from a number on, under a key.
type Blocks = unsafe fn([i64; 2], u64) -> Words;

impl Random {
    pub(crate) fn new(spec: &Spec, level: Level) -> Random {
        let count = spec.output.shape.count();
        Random {
            count,
            dtype: spec.output.dtype,
            blocks: blocks(level),
            split: Split::of(count.saturating_mul(16)),
        }
    }

    /// # Safety
    /// The operands are those of a checked launch of the spec.
    pub(crate) unsafe fn run(&self, pool: &Pool, operands: &Operands<'_>) -> Result<()> {
        let per_block = if self.dtype == DType::F64 { 2 } else { 4 };
        let step = per_block * ABREAST;
        let key: *const i64 = operands.read(0).cast();
        // SAFETY: the key is two i64 (P4).
        let key = unsafe { [key.read_unaligned(), key.add(1).read_unaligned()] };
        self.split.run(pool, &|worker| {
            for batch in worker.share(self.count.div_ceil(step)) {
                let range = batch * step..self.count.min((batch + 1) * step);
                // SAFETY: the level is available; batches are shared out and
                // lie in the output (P4).
                unsafe {
                    let words = (self.blocks)(key, (batch * ABREAST) as u64);
                    self.write(&words, operands.write(0), range);
                }
            }
        })
    }

    unsafe fn write(&self, words: &Words, to: *mut u8, range: Range<usize>) {
        let (start, n) = (range.start, range.len());
        // SAFETY: handed on.
        unsafe {
            if self.dtype == DType::F64 {
                let to = to.cast::<f64>().add(start);
                let element = |k: usize| {
                    let (block, half) = (k / 2, 2 * (k % 2));
                    uniform_f64(words[half][block], words[half + 1][block])
                };
                (0..n).for_each(|k| to.add(k).write_unaligned(element(k)));
            } else {
                let to = to.cast::<f32>().add(start);
                let element = |k: usize| uniform_f32(words[k % 4][k / 4]);
                (0..n).for_each(|k| to.add(k).write_unaligned(element(k)));
            }
        }
    }
}

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
unsafe fn blocks_at<S: Simd>(key: [i64; 2], first: u64) -> Words {
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
by_level! { fn blocks(key: [i64; 2], first: u64) -> Words = blocks_at; }

#[cfg(test)]
mod tests {
    use backprop_core::random::philox_block;

    use super::{ABREAST, blocks};
    use crate::Level;

    #[test]
    fn blocks_are_those_of_the_definition() {
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            for (seed, stream, first) in
                [(0, 0, 0), (-1, 7, 3), (1 << 40, -(1 << 50), (1 << 32) - 5)]
            {
                // SAFETY: the level is available.
                let words = unsafe { blocks(level)([seed, stream], first) };
                for lane in 0..ABREAST {
                    let expected = philox_block(seed, stream, first + lane as u64);
                    assert_eq!(words.map(|word| word[lane]), expected, "{level}");
                }
            }
        }
    }
}
