//! Many values to one, in an order that the number of values alone decides.
//!
//! A run of values is cut into blocks of [`TILE`]. A block is reduced in four
//! registers of the level, which are then folded; the results of blocks are
//! combined one after the other in f64 (integers: in i64). A sweep and a row
//! program share this file, hence their bits.

use backprop_core::{DType, Reduction};

use super::TILE;
use super::lane::{self, Lane, Whole};
use crate::Level;
use crate::simd::{Real, Simd, Vector, by_level};

/// Elements of a row that are reduced to one partial result, where a long row
/// is shared out to threads.
pub(crate) const CHUNK: usize = 32 * TILE;

/// Reduces the values of one element type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reducer {
    reduction: Reduction,
    lane: Lane,
    block: Block,
}

/// Reduces at most [`TILE`] elements.
type Block = unsafe fn(*const u8, usize) -> Total;

/// A reduction in progress.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Total {
    Real(f64),
    Whole(i64),
}

impl Total {
    /// The reduction of all that two totals stand for, the earlier one first.
    #[inline]
    pub(crate) fn then(self, reduction: Reduction, later: Total) -> Total {
        match (self, later) {
            (Total::Real(a), Total::Real(b)) => Total::Real(match reduction {
                Reduction::Sum => a + b,
                Reduction::Max => Vector::max(a, b),
                Reduction::Min => Vector::min(a, b),
            }),
            (Total::Whole(a), Total::Whole(b)) => Total::Whole(match reduction {
                Reduction::Sum => a.wrapping_add(b),
                Reduction::Max => a.max(b),
                Reduction::Min => a.min(b),
            }),
            _ => self,
        }
    }

    /// Writes the total to a tile, rounded to `dtype`.
    ///
    /// # Safety
    /// An element of the lane of `dtype` must be writable.
    pub(crate) unsafe fn put(self, dtype: DType, to: *mut u8) {
        // SAFETY: handed on.
        unsafe {
            match (self, dtype) {
                (Total::Real(x), _) => lane::fill(dtype, x, to, 1),
                (Total::Whole(x), DType::I32) => to.cast::<i32>().write_unaligned(x as i32),
                (Total::Whole(x), DType::I64) => to.cast::<i64>().write_unaligned(x),
                (Total::Whole(x), DType::Bool) => to.write(u8::from(x != 0)),
                (Total::Whole(x), _) => to.write(x as u8),
            }
        }
    }

    /// The eight bytes in which a partial result waits to be combined.
    pub(crate) fn bits(self) -> u64 {
        match self {
            Total::Real(x) => x.to_bits(),
            Total::Whole(x) => x as u64,
        }
    }
}

impl Reducer {
    pub(crate) fn new(reduction: Reduction, lane: Lane, level: Level) -> Reducer {
        let block = match lane {
            Lane::F32 => real::<f32>(reduction, level),
            Lane::F64 => real::<f64>(reduction, level),
            Lane::I32 => whole::<i32>(reduction, level),
            Lane::I64 => whole::<i64>(reduction, level),
            Lane::U8 => whole::<u8>(reduction, level),
        };
        Reducer {
            reduction,
            lane,
            block,
        }
    }

    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }

    pub(crate) fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// What [`Total::bits`] stands for.
    pub(crate) fn total(&self, bits: u64) -> Total {
        match self.lane {
            Lane::F32 | Lane::F64 => Total::Real(f64::from_bits(bits)),
            _ => Total::Whole(bits as i64),
        }
    }

    /// Reduces a block.
    ///
    /// # Safety
    /// `len` elements must be readable, at least one and at most [`TILE`].
    #[inline(always)]
    pub(crate) unsafe fn block(&self, from: *const u8, len: usize) -> Total {
        // SAFETY: handed on; a reducer is only made for an available level.
        unsafe { (self.block)(from, len) }
    }

    /// Reduces a row: blocks to chunks, chunks to the row.
    ///
    /// # Safety
    /// `len` elements must be readable, at least one.
    pub(crate) unsafe fn row(&self, from: *const u8, len: usize) -> Total {
        let fold = |totals: &mut dyn Iterator<Item = Total>| {
            totals.reduce(|a, b| a.then(self.reduction, b))
        };
        let chunk = |start: usize| {
            let end = len.min(start + CHUNK);
            let mut blocks = (start..end).step_by(TILE).map(|at| {
                // SAFETY: the block lies in the row.
                unsafe { self.block(from.add(at * self.lane.size()), TILE.min(end - at)) }
            });
            fold(&mut blocks)
        };
        let total = fold(&mut (0..len).step_by(CHUNK).filter_map(chunk));
        total.unwrap_or(Total::Whole(0))
    }
}

/// One of the three reductions, on registers and on integers.
trait Fold {
    /// Changes nothing.
    const NEUTRAL: f32;
    fn two<V: Vector>(a: V, b: V) -> V;
    fn lanes<V: Vector>(x: V) -> V::Element;
    fn start() -> i64;
    fn whole(a: i64, b: i64) -> i64;
}

macro_rules! folds {
    ($($name:ident: $neutral:expr, $two:ident, $lanes:ident, $start:expr, $whole:ident;)*) => {
        $(struct $name;
        impl Fold for $name {
            const NEUTRAL: f32 = $neutral;
            #[inline(always)]
            fn two<V: Vector>(a: V, b: V) -> V {
                a.$two(b)
            }
            #[inline(always)]
            fn lanes<V: Vector>(x: V) -> V::Element {
                x.$lanes()
            }
            #[inline(always)]
            fn start() -> i64 {
                $start
            }
            #[inline(always)]
            fn whole(a: i64, b: i64) -> i64 {
                a.$whole(b)
            }
        })*

        fn real<T: Real + From<f32> + Into<f64>>(reduction: Reduction, level: Level) -> Block {
            match reduction {
                $(Reduction::$name => real_block::<T, $name>(level),)*
            }
        }

        fn whole<T: Whole>(reduction: Reduction, level: Level) -> Block {
            match reduction {
                $(Reduction::$name => whole_block::<T, $name>(level),)*
            }
        }
    };
}
folds! {
    Sum: 0.0, add, sum, 0, wrapping_add;
    Max: f32::NEG_INFINITY, max, largest, i64::MIN, max;
    Min: f32::INFINITY, min, smallest, i64::MAX, min;
}

#[inline(always)]
unsafe fn real_block_at<S: Simd, T: Real + From<f32> + Into<f64>, F: Fold>(
    from: *const u8,
    len: usize,
) -> Total {
    let from: *const T = from.cast();
    let lanes = T::In::<S>::LANES;
    // SAFETY: the caller passes `len` elements and an available level.
    unsafe {
        let neutral: T = F::NEUTRAL.into();
        let mut sums = [T::In::<S>::splat(neutral); 4];
        let mut at = 0;
        while at + 4 * lanes <= len {
            for (k, sum) in sums.iter_mut().enumerate() {
                *sum = F::two(*sum, T::In::<S>::load(from.add(at + k * lanes)));
            }
            at += 4 * lanes;
        }
        for sum in &mut sums {
            if at + lanes <= len {
                *sum = F::two(*sum, T::In::<S>::load(from.add(at)));
                at += lanes;
            }
        }
        if at < len {
            let mut last = [neutral; 16];
            std::ptr::copy_nonoverlapping(from.add(at), last.as_mut_ptr(), len - at);
            sums[3] = F::two(sums[3], T::In::<S>::load(last.as_ptr()));
        }
        let sum = F::two(F::two(sums[0], sums[1]), F::two(sums[2], sums[3]));
        Total::Real(F::lanes(sum).into())
    }
}
by_level! { fn real_block [T: Real + From<f32> + Into<f64>, F: Fold] [T, F]
(from: *const u8, len: usize) -> Total = real_block_at; }

#[inline(always)]
unsafe fn whole_block_at<S: Simd, T: Whole, F: Fold>(from: *const u8, len: usize) -> Total {
    let mut total = F::start();
    for i in 0..len {
        // SAFETY: the caller passes `len` elements.
        let x = unsafe { from.cast::<T>().add(i).read_unaligned() };
        total = F::whole(total, x.to_i64());
    }
    Total::Whole(total)
}
by_level! { fn whole_block [T: Whole, F: Fold] [T, F]
(from: *const u8, len: usize) -> Total = whole_block_at; }
