//! Many values to one, in an order that the number of values alone decides.
//!
//! A run of values is cut into blocks of [`TILE`]. A block is reduced in four
//! registers of the level, which are then folded; the results of blocks are
//! combined one after the other in f64 (integers: in i64). A sweep and a row
//! program share this file, hence their bits.

use backprop_core::{DType, Reduction, Scalar};

use super::TILE;
use super::lane::{self, Lane, Whole};
use crate::Level;
use crate::simd::{Float, Real, Simd, Vector, by_level};

/// Elements of a row that are reduced to one partial result, where a long row
/// is shared out to threads.
pub(crate) const CHUNK: usize = 32 * TILE;

/// Reduces the values of one element type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reducer {
    reduction: Reduction,
    lane: Lane,
    blocks: Blocks,
}

/// Reduces each of `rows` rows, which follow each other and have at most
/// [`TILE`] elements, to the bits of a total.
type Blocks = unsafe fn(from: *const u8, width: usize, rows: usize, to: *mut u64);

/// The function that reduces two values of a type, and their lane.
pub(crate) fn combining(reduction: Reduction, dtype: DType) -> (Scalar, Lane) {
    let scalar = match reduction {
        Reduction::Sum if dtype == DType::Bool => Scalar::Or,
        Reduction::Sum => Scalar::Add,
        Reduction::Max => Scalar::Max,
        Reduction::Min => Scalar::Min,
    };
    (scalar, Lane::of(dtype))
}

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
                Reduction::Max => Float::max(a, b),
                Reduction::Min => Float::min(a, b),
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
        let blocks = match lane {
            Lane::F32 => real::<f32>(reduction, level),
            Lane::F64 => real::<f64>(reduction, level),
            Lane::I32 => whole::<i32>(reduction, level),
            Lane::I64 => whole::<i64>(reduction, level),
            Lane::U8 => whole::<u8>(reduction, level),
        };
        Reducer {
            reduction,
            lane,
            blocks,
        }
    }

    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }

    pub(crate) fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// Writes to `n` elements of the lane what changes nothing: a sum may be a negative zero.
    ///
    /// # Safety
    /// The elements must be writable.
    pub(crate) unsafe fn clear(&self, to: *mut u8, n: usize) {
        let neutral = match self.reduction {
            Reduction::Sum => -0.0,
            Reduction::Max => f64::NEG_INFINITY,
            Reduction::Min => f64::INFINITY,
        };
        // SAFETY: handed on. Integers are rounded to their own limits.
        unsafe { lane::fill(self.lane.dtype(), neutral, to, n) };
    }

    /// What [`Total::bits`] stands for.
    pub(crate) fn total(&self, bits: u64) -> Total {
        match self.lane {
            Lane::F32 | Lane::F64 => Total::Real(f64::from_bits(bits)),
            _ => Total::Whole(bits as i64),
        }
    }

    /// Reduces rows of at most [`TILE`] elements to the bits of their totals.
    ///
    /// # Safety
    /// `rows` rows of `width` elements must be readable, both at least one, and
    /// `rows` totals writable.
    #[inline(always)]
    pub(crate) unsafe fn blocks(
        &self,
        from: *const u8,
        (width, rows): (usize, usize),
        to: *mut u64,
    ) {
        // SAFETY: handed on; a reducer is only made for an available level.
        unsafe { (self.blocks)(from, width, rows, to) }
    }

    /// Reduces a block.
    ///
    /// # Safety
    /// `len` elements must be readable, at least one and at most [`TILE`].
    #[inline(always)]
    pub(crate) unsafe fn block(&self, from: *const u8, len: usize) -> Total {
        let mut bits = 0;
        // SAFETY: handed on.
        unsafe { self.blocks(from, (len, 1), &mut bits) };
        self.total(bits)
    }

    /// Reduces each of `rows` rows of any width, and writes the results to a
    /// tile, rounded to `dtype`.
    ///
    /// # Safety
    /// The rows must be readable, and as many elements of the lane writable.
    pub(crate) unsafe fn rows(
        &self,
        from: *const u8,
        (width, rows): (usize, usize),
        (dtype, to): (DType, *mut u8),
    ) {
        let size = self.lane.size();
        for start in (0..rows).step_by(TILE) {
            let n = TILE.min(rows - start);
            let mut bits = [0; TILE];
            // SAFETY: handed on.
            unsafe {
                if width <= TILE {
                    let from = from.add(start * width * size);
                    self.blocks(from, (width, n), bits.as_mut_ptr());
                } else {
                    for (row, bits) in bits[..n].iter_mut().enumerate() {
                        let from = from.add((start + row) * width * size);
                        *bits = self.row(from, width).bits();
                    }
                }
                self.put(&bits[..n], dtype, to.add(start * size));
            }
        }
    }

    /// Writes totals to a tile, rounded to `dtype`.
    ///
    /// # Safety
    /// As many elements of the lane must be writable.
    pub(crate) unsafe fn put(&self, totals: &[u64], dtype: DType, to: *mut u8) {
        for (i, &bits) in totals.iter().enumerate() {
            // SAFETY: handed on.
            unsafe {
                match dtype {
                    DType::F32 => to
                        .cast::<f32>()
                        .add(i)
                        .write_unaligned(f64::from_bits(bits) as f32),
                    _ => self.total(bits).put(dtype, to.add(i * self.lane.size())),
                }
            }
        }
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

        fn real<T: Real + From<f32> + Into<f64>>(reduction: Reduction, level: Level) -> Blocks {
            match reduction {
                $(Reduction::$name => real_blocks::<T, $name>(level),)*
            }
        }

        fn whole<T: Whole>(reduction: Reduction, level: Level) -> Blocks {
            match reduction {
                $(Reduction::$name => whole_blocks::<T, $name>(level),)*
            }
        }
    };
}
folds! {
    Sum: 0.0, add, sum, 0, wrapping_add;
    Max: f32::NEG_INFINITY, max, largest, i64::MIN, max;
    Min: f32::INFINITY, min, smallest, i64::MAX, min;
}

/// Ones, then zeros: from `16 - n` on, truth for the first `n` lanes.
static FIRST: [u8; 32] = {
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 16 {
        bytes[i] = 1;
        i += 1;
    }
    bytes
};

/// The first `n` elements from `from`, then lanes that change nothing.
#[inline(always)]
unsafe fn padded<V: Vector<Element: From<f32>>, F: Fold>(from: *const V::Element, n: usize) -> V {
    // SAFETY: the caller passes `n` elements, less than a register, and an
    // available level; a register has at most 16 lanes.
    unsafe {
        let neutral = V::splat(F::NEUTRAL.into());
        let mask = V::load_mask(FIRST.as_ptr().add(16 - n));
        V::select(mask, V::load_first(from, n), neutral)
    }
}

#[inline(always)]
unsafe fn real_block<V: Vector<Element: From<f32> + Into<f64>>, F: Fold>(
    from: *const V::Element,
    len: usize,
) -> f64 {
    let lanes = V::LANES;
    // SAFETY: the caller passes `len` elements and an available level.
    unsafe {
        if len < lanes {
            return F::lanes(padded::<V, F>(from, len)).into();
        }
        let mut sums = [V::splat(F::NEUTRAL.into()); 4];
        let mut at = 0;
        while at + 4 * lanes <= len {
            for (k, sum) in sums.iter_mut().enumerate() {
                *sum = F::two(*sum, V::load(from.add(at + k * lanes)));
            }
            at += 4 * lanes;
        }
        for sum in &mut sums {
            if at + lanes <= len {
                *sum = F::two(*sum, V::load(from.add(at)));
                at += lanes;
            }
        }
        if at < len {
            sums[3] = F::two(sums[3], padded::<V, F>(from.add(at), len - at));
        }
        let sum = F::two(F::two(sums[0], sums[1]), F::two(sums[2], sums[3]));
        F::lanes(sum).into()
    }
}

#[inline(always)]
unsafe fn real_blocks_at<S: Simd, T: Real + From<f32> + Into<f64>, F: Fold>(
    from: *const u8,
    width: usize,
    rows: usize,
    to: *mut u64,
) {
    for row in 0..rows {
        // SAFETY: handed on.
        unsafe {
            let from = from.cast::<T>().add(row * width);
            to.add(row)
                .write(real_block::<T::In<S>, F>(from, width).to_bits());
        }
    }
}
by_level! { fn real_blocks [T: Real + From<f32> + Into<f64>, F: Fold] [T, F]
(from: *const u8, width: usize, rows: usize, to: *mut u64) = real_blocks_at; }

#[inline(always)]
unsafe fn whole_blocks_at<S: Simd, T: Whole, F: Fold>(
    from: *const u8,
    width: usize,
    rows: usize,
    to: *mut u64,
) {
    for row in 0..rows {
        let mut total = F::start();
        for i in row * width..(row + 1) * width {
            // SAFETY: the caller passes `rows * width` elements.
            let x = unsafe { from.cast::<T>().add(i).read_unaligned() };
            total = F::whole(total, x.to_i64());
        }
        // SAFETY: the caller passes room for `rows` totals.
        unsafe { to.add(row).write(total as u64) };
    }
}
by_level! { fn whole_blocks [T: Whole, F: Fold] [T, F]
(from: *const u8, width: usize, rows: usize, to: *mut u64) = whole_blocks_at; }
