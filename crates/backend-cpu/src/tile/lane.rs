//! How elements look inside of a tile, and their ways in and out.
//!
//! 16-bit floats are f32 inside, rounded to their format whenever an
//! instruction defines one, so that it makes no difference whether a value
//! visits memory. Truth values are bytes, 0 or 1.

use std::hint::black_box;
use std::ops::{BitAnd, BitOr, Range};

use backprop_core::DType;
use half::{bf16, f16};

use super::functions::{ABREAST, Loop, Values};
use super::narrow::{from_bf16, from_f16, to_bf16, to_f16};
use crate::Level;
use crate::simd::{Simd, by_level};

/// The type of an element inside of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    F32,
    F64,
    I32,
    I64,
    U8,
}

impl Lane {
    pub(crate) fn of(dtype: DType) -> Lane {
        match dtype {
            DType::F64 => Lane::F64,
            DType::I32 => Lane::I32,
            DType::I64 => Lane::I64,
            DType::U8 | DType::Bool => Lane::U8,
            _ => Lane::F32,
        }
    }

    /// The type whose elements are the lane's own.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Lane::F32 => DType::F32,
            Lane::F64 => DType::F64,
            Lane::I32 => DType::I32,
            Lane::I64 => DType::I64,
            Lane::U8 => DType::U8,
        }
    }

    /// Bytes of an element.
    pub(crate) fn size(self) -> usize {
        match self {
            Lane::F32 | Lane::I32 => 4,
            Lane::F64 | Lane::I64 => 8,
            Lane::U8 => 1,
        }
    }
}

/// Whether elements are the same in memory and in a tile.
pub(crate) fn is_native(dtype: DType) -> bool {
    Lane::of(dtype).size() == dtype.size()
}

/// An integer, or a truth value in a byte.
pub(crate) trait Whole:
    Copy + Default + Ord + BitAnd<Output = Self> + BitOr<Output = Self>
{
    fn wrapping_add(self, other: Self) -> Self;
    fn wrapping_sub(self, other: Self) -> Self;
    fn wrapping_mul(self, other: Self) -> Self;
    fn to_i64(self) -> i64;
    /// The low bits of `x`.
    fn wrap(x: i64) -> Self;
}

macro_rules! whole {
    ($($t:ident),*) => { $(
        impl Whole for $t {
            #[inline(always)]
            fn wrapping_add(self, other: Self) -> Self { $t::wrapping_add(self, other) }
            #[inline(always)]
            fn wrapping_sub(self, other: Self) -> Self { $t::wrapping_sub(self, other) }
            #[inline(always)]
            fn wrapping_mul(self, other: Self) -> Self { $t::wrapping_mul(self, other) }
            #[inline(always)]
            fn to_i64(self) -> i64 { i64::from(self) }
            #[inline(always)]
            fn wrap(x: i64) -> Self { x as $t }
        }
    )* };
}
whole!(i32, i64, u8);

/// Conversion as `as` does it: to nearest even between floats, cut off and
/// saturated from floats to integers, wrapping between integers.
trait As<T> {
    fn convert(self) -> T;
}

macro_rules! conversions {
    ($($from:ident $From:ident: $($to:ident $To:ident)*;)*) => {
        $($(impl As<$to> for $from {
            #[inline(always)]
            #[allow(clippy::unnecessary_cast, reason = "all pairs alike")]
            fn convert(self) -> $to { self as $to }
        })*)*

        fn between(from: Lane, to: Lane, level: Level) -> Loop {
            match (from, to) {
                $($((Lane::$From, Lane::$To) => cast_loop::<$from, $to>(level),)*)*
            }
        }
    };
}
conversions! {
    f32 F32: f32 F32 f64 F64 i32 I32 i64 I64 u8 U8;
    f64 F64: f32 F32 f64 F64 i32 I32 i64 I64 u8 U8;
    i32 I32: f32 F32 f64 F64 i32 I32 i64 I64 u8 U8;
    i64 I64: f32 F32 f64 F64 i32 I32 i64 I64 u8 U8;
    u8 U8: f32 F32 f64 F64 i32 I32 i64 I64 u8 U8;
}

/// The loop that converts from `from` to `dtype`.
pub(crate) fn cast(from: Lane, dtype: DType, level: Level) -> Loop {
    macro_rules! by_lane {
        ($loop:ident) => {
            match from {
                Lane::F32 => $loop::<f32>(level),
                Lane::F64 => $loop::<f64>(level),
                Lane::I32 => $loop::<i32>(level),
                Lane::I64 => $loop::<i64>(level),
                Lane::U8 => $loop::<u8>(level),
            }
        };
    }
    match dtype {
        DType::Bool => by_lane!(truth_loop),
        DType::F16 | DType::BF16 => match from {
            Lane::F32 => narrowing(dtype, level),
            // Both formats have all bytes.
            Lane::U8 => between(from, Lane::F32, level),
            Lane::F64 => to_narrow::<f64>(dtype),
            Lane::I32 => to_narrow::<i32>(dtype),
            Lane::I64 => to_narrow::<i64>(dtype),
        },
        _ => between(from, Lane::of(dtype), level),
    }
}

/// The loop that rounds to a 16-bit format what f32 does not hold. Rare, hence the same for every
/// level, with a call an element.
fn to_narrow<A: As<f64> + Copy>(dtype: DType) -> Loop {
    #[inline(never)]
    fn to_f16(x: f64) -> f32 {
        f16::from_f64(x).to_f32()
    }
    #[inline(never)]
    fn to_bf16(x: f64) -> f32 {
        bf16::from_f64(x).to_f32()
    }
    match dtype {
        DType::F16 => |to, [x, ..], n| {
            // SAFETY: handed on.
            unsafe { one_by_one(to, x, 0..n, |x: A| to_f16(x.convert())) }
        },
        _ => |to, [x, ..], n| {
            // SAFETY: handed on.
            unsafe { one_by_one(to, x, 0..n, |x: A| to_bf16(x.convert())) }
        },
    }
}

/// The loop that turns truth values round.
pub(super) fn opposite(level: Level) -> Loop {
    opposite_loop(level)
}

/// The loop that rounds what an instruction computed, where its type is
/// narrower than its lane.
pub(crate) fn rounding(dtype: DType, level: Level) -> Option<Loop> {
    matches!(dtype, DType::F16 | DType::BF16).then(|| narrowing(dtype, level))
}

/// The loop that rounds f32 to a 16-bit format.
fn narrowing(dtype: DType, level: Level) -> Loop {
    match dtype {
        DType::F16 => round_f16_loop(level),
        _ => round_bf16_loop(level),
    }
}

/// `to[i] = convert(from[i])`, also in place where sizes are the same. The compiler vectorises within
/// a block; `black_box` keeps it from taking several blocks lane by lane, in a hundred times the code.
#[inline(always)]
unsafe fn each<A: Copy, B: Copy>(to: *mut u8, from: Values, n: usize, convert: impl Fn(A) -> B) {
    let whole = n - n % ABREAST;
    // SAFETY: the caller passes `n` elements on both sides.
    unsafe {
        for i in (0..whole).step_by(ABREAST) {
            black_box(());
            let x = from.at::<A>(i).cast::<[A; ABREAST]>().read_unaligned();
            let y: [B; ABREAST] = std::array::from_fn(|k| convert(x[k]));
            let to = to.cast::<B>().add(i);
            to.cast::<[B; ABREAST]>().write_unaligned(y);
        }
        one_by_one(to, from, whole..n, convert);
    }
}

/// The same for a range, without vector instructions: for less than a block they take more than they
/// give.
#[inline(always)]
unsafe fn one_by_one<A: Copy, B: Copy>(
    to: *mut u8,
    from: Values,
    range: Range<usize>,
    convert: impl Fn(A) -> B,
) {
    for i in range {
        black_box(());
        // SAFETY: the caller passes elements for the range on both sides.
        unsafe {
            let x = from.at::<A>(i).read_unaligned();
            to.cast::<B>().add(i).write_unaligned(convert(x));
        }
    }
}

macro_rules! conversion_loops {
    ($($name:ident = $at:ident [$($declared:tt)*] [$($passed:tt)*] $convert:expr;)*) => { $(
        #[inline(always)]
        unsafe fn $at<S: Simd, $($declared)*>(to: *mut u8, from: [Values; 3], n: usize) {
            // SAFETY: handed on.
            unsafe { each(to, from[0], n, $convert) }
        }
        by_level! { fn $name [$($declared)*] [$($passed)*]
        (to: *mut u8, from: [Values; 3], n: usize) = $at; }
    )* };
}
conversion_loops! {
    cast_loop = cast_at [A: As<B> + Copy, B: Copy] [A, B] |x: A| x.convert();
    truth_loop = truth_at [A: Copy + Default + PartialEq] [A] |x: A| u8::from(x != A::default());
    opposite_loop = opposite_at [] [] |x: u8| u8::from(x == 0);
    round_f16_loop = round_f16_at [] [] |x: f32| from_f16(to_f16(x));
    round_bf16_loop = round_bf16_at [] [] |x: f32| from_bf16(to_bf16(x));
}

/// Loads `n` elements, `stride` elements apart, into a tile.
pub(crate) type Load = unsafe fn(*mut u8, *const u8, isize, usize);

/// How elements of `dtype` come into a tile.
pub(crate) fn load(dtype: DType, level: Level) -> Load {
    match dtype {
        DType::F16 => load_loop::<u16, f32, Half>(level),
        DType::BF16 => load_loop::<u16, f32, Brain>(level),
        _ => match dtype.size() {
            1 => load_loop::<u8, u8, Same>(level),
            4 => load_loop::<u32, u32, Same>(level),
            _ => load_loop::<u64, u64, Same>(level),
        },
    }
}

/// A way from bits in memory to bits in a tile.
trait Widen<A, B> {
    fn widen(x: A) -> B;
}

struct Same;
impl<A> Widen<A, A> for Same {
    #[inline(always)]
    fn widen(x: A) -> A {
        x
    }
}

struct Half;
impl Widen<u16, f32> for Half {
    #[inline(always)]
    fn widen(x: u16) -> f32 {
        from_f16(x)
    }
}

struct Brain;
impl Widen<u16, f32> for Brain {
    #[inline(always)]
    fn widen(x: u16) -> f32 {
        from_bf16(x)
    }
}

#[inline(always)]
unsafe fn load_run<S: Simd, A: Copy, B: Copy, W: Widen<A, B>>(
    to: *mut u8,
    from: *const u8,
    stride: isize,
    n: usize,
) {
    let (to, from): (*mut B, *const A) = (to.cast(), from.cast());
    // SAFETY: the caller passes `n` elements on both sides, `stride` apart.
    unsafe {
        match stride {
            0 => {
                let x = W::widen(from.read_unaligned());
                (0..n).for_each(|i| to.add(i).write_unaligned(x));
            }
            1 => (0..n).for_each(|i| {
                to.add(i)
                    .write_unaligned(W::widen(from.add(i).read_unaligned()))
            }),
            _ => {
                let mut from = from;
                for i in 0..n {
                    to.add(i).write_unaligned(W::widen(from.read_unaligned()));
                    from = from.wrapping_offset(stride);
                }
            }
        }
    }
}

by_level! { fn load_loop [A: Copy, B: Copy, W: Widen<A, B>] [A, B, W]
(to: *mut u8, from: *const u8, stride: isize, n: usize) = load_run; }

/// Stores `n` elements of a tile as `dtype`.
///
/// # Safety
/// `n` elements on both sides.
pub(crate) unsafe fn store(dtype: DType, to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: handed on; what is the same in memory and in a tile is copied.
    unsafe {
        match dtype {
            DType::F16 => each(to, Values::each(from), n, to_f16),
            DType::BF16 => each(to, Values::each(from), n, to_bf16),
            _ => std::ptr::copy_nonoverlapping(from, to, n * dtype.size()),
        }
    }
}

/// Repeats a number of type `dtype` over `n` elements of a tile.
///
/// # Safety
/// `n` elements must be writable.
pub(crate) unsafe fn fill(dtype: DType, value: f64, to: *mut u8, n: usize) {
    // SAFETY: handed on.
    unsafe {
        match dtype {
            DType::F32 => each_of(to, value as f32, n),
            DType::F16 => each_of(to, f16::from_f64(value).to_f32(), n),
            DType::BF16 => each_of(to, bf16::from_f64(value).to_f32(), n),
            DType::I32 => each_of(to, value as i32, n),
            DType::I64 => each_of(to, value as i64, n),
            DType::U8 => each_of(to, value as u8, n),
            DType::Bool => each_of(to, u8::from(value != 0.0), n),
            _ => each_of(to, value, n),
        }
    }
}

unsafe fn each_of<T: Copy>(to: *mut u8, value: T, n: usize) {
    for i in 0..n {
        // SAFETY: the caller passes `n` elements.
        unsafe { to.cast::<T>().add(i).write_unaligned(value) };
    }
}
