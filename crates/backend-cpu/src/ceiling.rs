//! What the processor reaches at best, measured: what a profile or a bench is held against.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::Level;

/// The limits of a machine for so many threads.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ceiling {
    /// Multiplications and additions of `f32` in a second, in registers. 0 where no vector
    /// instructions are known.
    pub operations: f64,
    /// Bytes read and written in a second, scaling more numbers than a cache holds.
    pub copied: f64,
}

/// Elements that each thread scales: more than a cache has.
const COPIED: usize = 24 << 20;
/// How long each of the two is measured.
const TIME: Duration = Duration::from_millis(300);

impl Ceiling {
    /// Measures for about a second, with all threads at once; the best of many short samples.
    #[must_use]
    pub fn measure(threads: usize) -> Ceiling {
        Ceiling {
            operations: together(threads, |_| multiply_adds()),
            copied: together(threads, copies),
        }
    }
}

/// The sum of what all threads reach at the same time.
fn together(threads: usize, rate: fn(&mut [Vec<f32>; 2]) -> f64) -> f64 {
    let start = std::sync::Barrier::new(threads.max(1));
    let one = || {
        // Written once, so that the system has given the memory before time is taken.
        let mut buffers = [vec![1.0; COPIED], vec![2.0; COPIED]];
        start.wait();
        rate(&mut buffers)
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(one)).collect();
        let rates = running.into_iter().filter_map(|thread| thread.join().ok());
        rates.sum()
    })
}

/// The best of samples until the time is up, each of so much work.
fn best(work: f64, mut sample: impl FnMut()) -> f64 {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < TIME {
        let begin = Instant::now();
        sample();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    work / best
}

fn copies([from, to]: &mut [Vec<f32>; 2]) -> f64 {
    let bytes = 2 * size_of_val(&**from);
    // Not `copy_from_slice`: some processors are slower at their instruction for copying than at loads
    // and stores.
    best(bytes as f64, || {
        let pairs = black_box(&mut *to).iter_mut().zip(black_box(&*from));
        pairs.for_each(|(to, from)| *to = 3.0 * from);
    })
}

#[cfg(target_arch = "x86_64")]
fn multiply_adds() -> f64 {
    use x86::{NARROW, ROUNDS, WIDE, narrow, wide};
    let burn: (f64, fn(f32) -> f32) = if Level::Avx512.is_available() {
        // SAFETY: the level is available.
        (WIDE, |factor| unsafe { wide(factor) })
    } else if Level::Avx2.is_available() {
        // SAFETY: the level is available.
        (NARROW, |factor| unsafe { narrow(factor) })
    } else {
        return 0.0;
    };
    best(burn.0 * f64::from(ROUNDS), || {
        black_box(burn.1(black_box(0.5)));
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_adds() -> f64 {
    0.0
}

/// Chains of multiply-adds, enough of them to hide their latency.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    pub(super) const ROUNDS: u32 = 40_000;
    const CHAINS: usize = 12;
    /// Operations of a round.
    pub(super) const WIDE: f64 = (CHAINS * 16 * 2) as f64;
    pub(super) const NARROW: f64 = (CHAINS * 8 * 2) as f64;

    #[target_feature(enable = "avx512f")]
    pub(super) fn wide(factor: f32) -> f32 {
        let mut sums = black_box([_mm512_setzero_ps(); CHAINS]);
        let factor = _mm512_set1_ps(factor);
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, factor);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn narrow(factor: f32) -> f32 {
        let mut sums = black_box([_mm256_setzero_ps(); CHAINS]);
        let factor = _mm256_set1_ps(factor);
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, factor);
            }
        }
        sums.into_iter().map(|sum| _mm256_cvtss_f32(sum)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_reaches_something() {
        let ceiling = Ceiling::measure(1);
        assert!(
            ceiling.copied > 0.0 && ceiling.operations >= 0.0,
            "{ceiling:?}"
        );
        assert!(ceiling.copied.is_finite() && ceiling.operations.is_finite());
        let counted = cfg!(target_arch = "x86_64") && Level::Avx2.is_available();
        assert_eq!(ceiling.operations > 0.0, counted, "{ceiling:?}");
    }
}
