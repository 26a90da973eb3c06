//! The loops that instructions become: one per function, element type and
//! instruction set, each over a whole tile.
//!
//! A function without a loop of its own here is computed element by element
//! through the scalar table ([`evaluate`]), so a new entry of that table works
//! at once and gets fast when somebody adds a line.

use std::hint::black_box;

use backprop_core::Scalar;

use super::lane::{Lane, Whole, opposite};
use crate::Level;
use crate::math;
use crate::simd::{Float, Float32, Real, Simd, Vector, by_level, keep_single};

/// Computes `n` elements at the first place from those that the operands are read from, which may be
/// the same place.
pub(crate) type Loop = unsafe fn(*mut u8, [Values; 3], usize);

/// Values that a loop reads: one element for each point, or [`ABREAST`] times the same for all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values {
    start: *const u8,
    /// 1, or 0 where all points have the same value.
    step: usize,
}

impl Values {
    pub(super) fn new(start: *const u8, step: usize) -> Values {
        Values { start, step }
    }

    /// One element for each point.
    pub(crate) fn each(start: *const u8) -> Values {
        Values { start, step: 1 }
    }

    /// Where the values of points from number `i` on are.
    #[inline(always)]
    pub(super) fn at<T>(self, i: usize) -> *const T {
        self.start.cast::<T>().wrapping_add(i * self.step)
    }
}

/// Elements that integer loops and conversions read before they write any, so that the compiler may
/// use registers although both sides can be the same place; no register has more lanes.
pub(super) const ABREAST: usize = 32;

/// What works on registers of both floating-point types.
pub(super) trait Algebra {
    const ARITY: usize;
    fn apply<V: Float<Element: From<f32>>>(a: V, b: V, c: V) -> V;
}

/// What works on f32 only: a transcendental function, alone or paired.
pub(super) trait Curve {
    const ARITY: usize;
    fn apply<V: Float32>(a: V, b: V) -> V;
}

/// What gives truth values.
trait Comparison {
    fn apply<V: Float>(a: V, b: V) -> V::Mask;
    fn whole<T: Whole>(a: T, b: T) -> bool;
}

/// What integers have a loop for.
trait Arithmetic {
    fn apply<T: Whole>(a: T, b: T) -> T;
}

/// The number `x` in every lane.
#[inline(always)]
fn number<V: Float<Element: From<f32>>>(like: V, x: f32) -> V {
    like.like(x.into())
}

macro_rules! algebra {
    ($($name:ident/$arity:literal |$a:ident $(, $b:ident $(, $c:ident)?)?| $value:expr;)*) => {
        $(pub(super) struct $name;
        impl Algebra for $name {
            const ARITY: usize = $arity;
            #[inline(always)]
            #[allow(unused_variables, reason = "a function uses as many operands as it has")]
            fn apply<V: Float<Element: From<f32>>>($a: V, b: V, c: V) -> V {
                $(let $b = b; $(let $c = c;)?)?
                $value
            }
        })*

        /// The value of a function of both floating-point types.
        pub(super) fn algebra_of<V: Float<Element: From<f32>>>(
            function: Scalar,
            [a, b, c]: [V; 3],
        ) -> Option<V> {
            Some(match function {
                $(Scalar::$name => $name::apply(a, b, c),)*
                _ => return None,
            })
        }

        fn algebra<T: Real + From<f32>>(function: Scalar, level: Level) -> Option<Loop> {
            Some(match function {
                $(Scalar::$name => algebra_loop::<T, $name>(level),)*
                _ => return None,
            })
        }
    };
}

algebra! {
    Neg/1 |a| a.neg();
    Abs/1 |a| a.abs();
    Sign/1 |a| {
        let zero = number(a, 0.0);
        let step = V::select(zero.lt(a), number(a, 1.0), a);
        V::select(a.lt(zero), number(a, -1.0), step)
    };
    Floor/1 |a| a.floor();
    Ceil/1 |a| a.ceil();
    Round/1 |a| a.round();
    Trunc/1 |a| a.trunc();
    Sqrt/1 |a| a.sqrt();
    Rsqrt/1 |a| number(a, 1.0).div(a.sqrt());
    Reciprocal/1 |a| number(a, 1.0).div(a);
    Square/1 |a| a.mul(a);
    Relu/1 |a| {
        let zero = number(a, 0.0);
        V::select(a.le(zero), zero, a)
    };
    Add/2 |a, b| a.add(b);
    Sub/2 |a, b| a.sub(b);
    Mul/2 |a, b| a.mul(b);
    Div/2 |a, b| a.div(b);
    Max/2 |a, b| a.max(b);
    Min/2 |a, b| a.min(b);
    Copysign/2 |a, b| a.copysign(b);
    Fma/3 |a, b, c| a.mul_add(b, c);
}

macro_rules! curves {
    ($($name:ident $function:ident),*) => {
        $(pub(super) struct $name;
        impl Curve for $name {
            const ARITY: usize = 1;
            #[inline(always)]
            fn apply<V: Float32>(a: V, _: V) -> V {
                math::$function(a)
            }
        })*

        /// The value of a transcendental function.
        pub(super) fn curve_of<V: Float32>(function: Scalar, x: V) -> Option<V> {
            Some(match function {
                $(Scalar::$name => $name::apply(x, x),)*
                _ => return None,
            })
        }

        fn curve(function: Scalar, level: Level) -> Option<Loop> {
            Some(match function {
                $(Scalar::$name => curve_loop::<$name>(level),)*
                _ => return None,
            })
        }
    };
}

curves!(
    Exp exp, Exp2 exp2, Expm1 expm1, Log log, Log2 log2, Log10 log10, Log1p log1p, Tanh tanh, Sigmoid sigmoid, Softplus softplus,
    Erf erf, Sin sin, Cos cos
);

macro_rules! comparisons {
    ($($name:ident |$a:ident, $b:ident| $vector:expr, $whole:expr;)*) => {
        $(struct $name;
        impl Comparison for $name {
            #[inline(always)]
            fn apply<V: Float>($a: V, $b: V) -> V::Mask {
                $vector
            }
            #[inline(always)]
            fn whole<T: Whole>($a: T, $b: T) -> bool {
                $whole
            }
        })*

        /// The value of a comparison.
        pub(super) fn comparison_of<V: Float>(function: Scalar, a: V, b: V) -> Option<V::Mask> {
            Some(match function {
                $(Scalar::$name => $name::apply(a, b),)*
                _ => return None,
            })
        }

        fn comparison<T: Real>(function: Scalar, level: Level) -> Option<Loop> {
            Some(match function {
                $(Scalar::$name => comparison_loop::<T, $name>(level),)*
                _ => return None,
            })
        }

        fn whole_comparison<T: Whole>(function: Scalar, level: Level) -> Option<Loop> {
            Some(match function {
                $(Scalar::$name => whole_comparison_loop::<T, $name>(level),)*
                _ => return None,
            })
        }
    };
}

comparisons! {
    Eq |a, b| a.equal(b), a == b;
    Ne |a, b| a.ne(b), a != b;
    Lt |a, b| a.lt(b), a < b;
    Le |a, b| a.le(b), a <= b;
    Gt |a, b| b.lt(a), a > b;
    Ge |a, b| b.le(a), a >= b;
}

macro_rules! arithmetic {
    ($($name:ident |$a:ident, $b:ident| $value:expr;)*) => {
        mod whole {
            $(pub(super) struct $name;)*
        }
        $(impl Arithmetic for whole::$name {
            #[inline(always)]
            fn apply<T: Whole>($a: T, $b: T) -> T {
                $value
            }
        })*

        fn arithmetic<T: Whole>(function: Scalar, level: Level) -> Option<Loop> {
            Some(match function {
                $(Scalar::$name => arithmetic_loop::<T, whole::$name>(level),)*
                _ => return None,
            })
        }
    };
}

arithmetic! {
    Add |a, b| a.wrapping_add(b);
    Sub |a, b| a.wrapping_sub(b);
    Mul |a, b| a.wrapping_mul(b);
    Max |a, b| a.max(b);
    Min |a, b| a.min(b);
    And |a, b| a & b;
    Or |a, b| a | b;
}

/// The loop of a function on operands of type `lane`, where it has one.
pub(crate) fn function(function: Scalar, lane: Lane, level: Level) -> Option<Loop> {
    if function == Scalar::Where {
        return Some(match lane {
            Lane::F32 => choice_loop::<f32>(level),
            Lane::F64 => choice_loop::<f64>(level),
            Lane::I32 => whole_choice_loop::<i32>(level),
            Lane::I64 => whole_choice_loop::<i64>(level),
            Lane::U8 => whole_choice_loop::<u8>(level),
        });
    }
    match lane {
        Lane::F32 => algebra::<f32>(function, level)
            .or_else(|| curve(function, level))
            .or_else(|| comparison::<f32>(function, level)),
        Lane::F64 => algebra::<f64>(function, level).or_else(|| comparison::<f64>(function, level)),
        Lane::I32 => whole::<i32>(function, level),
        Lane::I64 => whole::<i64>(function, level),
        Lane::U8 if function == Scalar::Not => Some(opposite(level)),
        Lane::U8 => whole::<u8>(function, level),
    }
}

fn whole<T: Whole>(function: Scalar, level: Level) -> Option<Loop> {
    arithmetic::<T>(function, level).or_else(|| whole_comparison::<T>(function, level))
}

#[inline(always)]
unsafe fn algebra_at<S: Simd, T: Real + From<f32>, O: Algebra>(
    to: *mut u8,
    [a, b, c]: [Values; 3],
    n: usize,
) {
    let to: *mut T = to.cast();
    let lanes = T::In::<S>::LANES;
    let whole = n - n % lanes;
    // SAFETY: the caller passes `n` elements for each operand of the function.
    unsafe {
        let second = |i| if O::ARITY > 1 { b.at(i) } else { a.at(i) };
        let third = |i| if O::ARITY > 2 { c.at(i) } else { a.at(i) };
        for i in (0..whole).step_by(lanes) {
            let x = T::In::<S>::load(a.at(i));
            let y = T::In::<S>::load(second(i));
            let z = T::In::<S>::load(third(i));
            O::apply(x, y, z).store(to.add(i));
        }
        if whole < n {
            let x = T::In::<S>::load_first(a.at(whole), n - whole);
            let y = T::In::<S>::load_first(second(whole), n - whole);
            let z = T::In::<S>::load_first(third(whole), n - whole);
            O::apply(x, y, z).store_first(to.add(whole), n - whole);
        }
    }
}
by_level! { pub(super) fn algebra_loop [T: Real + From<f32>, O: Algebra] [T, O]
(to: *mut u8, from: [Values; 3], n: usize) = algebra_at; }

#[inline(always)]
unsafe fn curve_at<S: Simd, O: Curve>(to: *mut u8, [a, b, _]: [Values; 3], n: usize) {
    let to: *mut f32 = to.cast();
    let lanes = S::F32::LANES;
    // SAFETY: the caller passes `n` elements for each operand of the function.
    unsafe {
        let second = |i| if O::ARITY > 1 { b.at(i) } else { a.at(i) };
        // One copy of a long function serves whole registers and what is left.
        for i in (0..n).step_by(lanes) {
            keep_single(lanes);
            let have = n - i;
            let (x, y) = if have >= lanes {
                (S::F32::load(a.at(i)), S::F32::load(second(i)))
            } else {
                let x = S::F32::load_first(a.at(i), have);
                (x, S::F32::load_first(second(i), have))
            };
            let value = O::apply(x, y);
            if have >= lanes {
                value.store(to.add(i));
            } else {
                value.store_first(to.add(i), have);
            }
        }
    }
}
by_level! { pub(super) fn curve_loop [O: Curve] [O]
(to: *mut u8, from: [Values; 3], n: usize) = curve_at; }

/// As many bytes as a register has lanes, at most.
type Bytes = [u8; 16];

#[inline(always)]
unsafe fn comparison_at<S: Simd, T: Real, O: Comparison>(
    to: *mut u8,
    [a, b, _]: [Values; 3],
    n: usize,
) {
    let lanes = T::In::<S>::LANES;
    let whole = n - n % lanes;
    // SAFETY: the caller passes `n` elements of both operands and `n` bytes.
    unsafe {
        for i in (0..whole).step_by(lanes) {
            let (x, y) = (T::In::<S>::load(a.at(i)), T::In::<S>::load(b.at(i)));
            T::In::<S>::store_mask(O::apply(x, y), to.add(i));
        }
        if whole < n {
            let x = T::In::<S>::load_first(a.at(whole), n - whole);
            let y = T::In::<S>::load_first(b.at(whole), n - whole);
            let mut bytes = Bytes::default();
            T::In::<S>::store_mask(O::apply(x, y), bytes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.add(whole), n - whole);
        }
    }
}
by_level! { fn comparison_loop [T: Real, O: Comparison] [T, O]
(to: *mut u8, from: [Values; 3], n: usize) = comparison_at; }

#[inline(always)]
unsafe fn choice_at<S: Simd, T: Real>(to: *mut u8, [c, a, b]: [Values; 3], n: usize) {
    let to: *mut T = to.cast();
    let lanes = T::In::<S>::LANES;
    let whole = n - n % lanes;
    // SAFETY: the caller passes `n` bytes and `n` elements of both operands.
    unsafe {
        for i in (0..whole).step_by(lanes) {
            let (x, y) = (T::In::<S>::load(a.at(i)), T::In::<S>::load(b.at(i)));
            T::In::<S>::select(T::In::<S>::load_mask(c.at(i)), x, y).store(to.add(i));
        }
        if whole < n {
            let x = T::In::<S>::load_first(a.at(whole), n - whole);
            let y = T::In::<S>::load_first(b.at(whole), n - whole);
            let mut bytes = Bytes::default();
            std::ptr::copy_nonoverlapping(c.at(whole), bytes.as_mut_ptr(), n - whole);
            let mask = T::In::<S>::load_mask(bytes.as_ptr());
            T::In::<S>::select(mask, x, y).store_first(to.add(whole), n - whole);
        }
    }
}
by_level! { fn choice_loop [T: Real] [T] (to: *mut u8, from: [Values; 3], n: usize) = choice_at; }

// Integer loops are left to the compiler to vectorise for the level, within a block: `black_box` keeps
// it from taking several blocks lane by lane, in a hundred times the code, and so what is left.

/// `to[i] = apply(a[i], b[i])`, also in place where sizes are the same.
#[inline(always)]
unsafe fn pairs<A: Copy, B: Copy>(
    to: *mut u8,
    [a, b]: [Values; 2],
    n: usize,
    apply: impl Fn(A, A) -> B,
) {
    let to: *mut B = to.cast();
    let whole = n - n % ABREAST;
    // SAFETY: the caller passes `n` elements on all sides.
    unsafe {
        for i in (0..whole).step_by(ABREAST) {
            black_box(());
            let x = a.at::<A>(i).cast::<[A; ABREAST]>().read_unaligned();
            let y = b.at::<A>(i).cast::<[A; ABREAST]>().read_unaligned();
            let z: [B; ABREAST] = std::array::from_fn(|k| apply(x[k], y[k]));
            to.add(i).cast::<[B; ABREAST]>().write_unaligned(z);
        }
        for i in whole..n {
            black_box(());
            let (x, y) = (a.at::<A>(i).read_unaligned(), b.at::<A>(i).read_unaligned());
            to.add(i).write_unaligned(apply(x, y));
        }
    }
}

#[inline(always)]
unsafe fn arithmetic_at<S: Simd, T: Whole, O: Arithmetic>(
    to: *mut u8,
    [a, b, _]: [Values; 3],
    n: usize,
) {
    // SAFETY: handed on.
    unsafe { pairs(to, [a, b], n, O::apply::<T>) }
}
by_level! { fn arithmetic_loop [T: Whole, O: Arithmetic] [T, O]
(to: *mut u8, from: [Values; 3], n: usize) = arithmetic_at; }

#[inline(always)]
unsafe fn whole_comparison_at<S: Simd, T: Whole, O: Comparison>(
    to: *mut u8,
    [a, b, _]: [Values; 3],
    n: usize,
) {
    // SAFETY: handed on.
    unsafe { pairs(to, [a, b], n, |x: T, y: T| u8::from(O::whole(x, y))) }
}
by_level! { fn whole_comparison_loop [T: Whole, O: Comparison] [T, O]
(to: *mut u8, from: [Values; 3], n: usize) = whole_comparison_at; }

#[inline(always)]
unsafe fn whole_choice_at<S: Simd, T: Whole>(to: *mut u8, [c, a, b]: [Values; 3], n: usize) {
    let to: *mut T = to.cast();
    for i in 0..n {
        // SAFETY: the caller passes `n` elements on all sides.
        unsafe {
            let (x, y) = (a.at::<T>(i).read_unaligned(), b.at::<T>(i).read_unaligned());
            let holds = c.at::<u8>(i).read() != 0;
            to.add(i).write_unaligned(if holds { x } else { y });
        }
    }
}
by_level! { fn whole_choice_loop [T: Whole] [T]
(to: *mut u8, from: [Values; 3], n: usize) = whole_choice_at; }

/// Computes `n` elements through the scalar table: reals in f64, rounded once,
/// integers and truth values exactly.
///
/// # Safety
/// `n` elements of type `lane` at each operand, and of the result's type at `to`.
pub(crate) unsafe fn evaluate(
    (function, lane): (Scalar, Lane),
    to: *mut u8,
    from: [Values; 3],
    n: usize,
) {
    // SAFETY: handed on.
    unsafe {
        match lane {
            Lane::F32 => evaluate_real::<f32>(function, to, from, n, |x| x as f32),
            Lane::F64 => evaluate_real::<f64>(function, to, from, n, |x| x),
            Lane::I32 => evaluate_whole::<i32>(function, to, from, n),
            Lane::I64 => evaluate_whole::<i64>(function, to, from, n),
            Lane::U8 => evaluate_whole::<u8>(function, to, from, n),
        }
    }
}

unsafe fn evaluate_real<T: Copy + Into<f64>>(
    function: Scalar,
    to: *mut u8,
    from: [Values; 3],
    n: usize,
    round: fn(f64) -> T,
) {
    let mut x = [0.0; 3];
    let x = &mut x[..function.arity()];
    for i in 0..n {
        for (x, from) in x.iter_mut().zip(from) {
            // SAFETY: the caller passes `n` elements for each operand.
            *x = unsafe { from.at::<T>(i).read_unaligned() }.into();
        }
        // SAFETY: the caller passes `n` elements.
        unsafe {
            to.cast::<T>()
                .add(i)
                .write_unaligned(round(function.eval(x)))
        };
    }
}

unsafe fn evaluate_whole<T: Whole>(function: Scalar, to: *mut u8, from: [Values; 3], n: usize) {
    let mut x = [0; 3];
    let x = &mut x[..function.arity()];
    for i in 0..n {
        for (x, from) in x.iter_mut().zip(from) {
            // SAFETY: the caller passes `n` elements for each operand.
            *x = unsafe { from.at::<T>(i).read_unaligned() }.to_i64();
        }
        let value = T::wrap(function.eval_int(x).unwrap_or(0));
        // SAFETY: the caller passes `n` elements.
        unsafe { to.cast::<T>().add(i).write_unaligned(value) };
    }
}
