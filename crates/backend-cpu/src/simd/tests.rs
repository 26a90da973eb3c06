//! Every level against plain Rust, lane by lane.

use super::{Float, Float32, Mask, Real, Simd, Vector};
use crate::Level;

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

/// Values that instructions treat specially, and ordinary ones; a multiple of
/// every register width.
fn samples() -> [f64; 32] {
    let mut x = [0.0; 32];
    for (i, slot) in x.iter_mut().enumerate() {
        *slot = (i as f64 - 15.5) * 0.5;
    }
    let special = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        2.5,
        -2.5,
        1e-40,
    ];
    x[7..15].copy_from_slice(&special);
    x
}

/// One row of the table: what a register does, and what a number does.
macro_rules! table {
    ($($name:ident, |$a:ident, $b:ident, $c:ident| $vector:expr, $scalar:expr;)*) => {
        $(mod $name {
            use super::*;

            #[inline(always)]
            unsafe fn at<S: Simd, T: Real + From<f32>>(x: *const T, y: *const T, z: *const T, out: *mut T) {
                for i in (0..32).step_by(T::In::<S>::LANES) {
                    // SAFETY: the arrays have 32 elements.
                    unsafe {
                        let ($a, $b, $c) = (T::In::<S>::load(x.add(i)), T::In::<S>::load(y.add(i)), T::In::<S>::load(z.add(i)));
                        let _ = ($b, $c);
                        ($vector).store(out.add(i));
                    }
                }
            }
            by_level! { fn run [T: Real + From<f32>] [T] (x: *const T, y: *const T, z: *const T, out: *mut T) = at; }

            #[test]
            fn agrees() {
                check(stringify!($name), run::<f32>, |x| x as f32, |$a, $b, $c| { let _ = ($b, $c); $scalar }, |x| f64::from(x));
                check(stringify!($name), run::<f64>, |x| x, |$a, $b, $c| { let _ = ($b, $c); $scalar }, |x| x);
            }
        })*
    };
}

type Ternary<T> = unsafe fn(*const T, *const T, *const T, *mut T);

#[track_caller]
fn check<T: Real>(
    name: &str,
    kernel: fn(Level) -> Ternary<T>,
    from: fn(f64) -> T,
    expected: fn(T, T, T) -> T,
    to: fn(T) -> f64,
) {
    let x = samples().map(from);
    for shift in [0, 1, 7] {
        let (mut y, mut z) = (x, x);
        y.rotate_left(shift);
        z.rotate_left(2 * shift);
        for level in levels() {
            let mut out = x;
            // SAFETY: the level is available and the arrays have 32 elements.
            unsafe { kernel(level)(x.as_ptr(), y.as_ptr(), z.as_ptr(), out.as_mut_ptr()) };
            for i in 0..32 {
                let (got, want) = (to(out[i]), to(expected(x[i], y[i], z[i])));
                let same = got == want || got.is_nan() && want.is_nan();
                assert!(same, "{name} at {level}, lane {i}: {got} instead of {want}");
            }
        }
    }
}

table! {
    add, |a, b, c| a.add(b), a + b;
    sub, |a, b, c| a.sub(b), a - b;
    mul, |a, b, c| a.mul(b), a * b;
    div, |a, b, c| a.div(b), a / b;
    fma, |a, b, c| a.mul_add(b, c), a.mul_add(b, c);
    sqrt, |a, b, c| a.sqrt(), a.sqrt();
    neg, |a, b, c| a.neg(), -a;
    abs, |a, b, c| a.abs(), a.abs();
    copysign, |a, b, c| a.copysign(b), a.copysign(b);
    floor, |a, b, c| a.floor(), a.floor();
    ceil, |a, b, c| a.ceil(), a.ceil();
    round, |a, b, c| a.round(), a.round_ties_even();
    trunc, |a, b, c| a.trunc(), a.trunc();
    max, |a, b, c| a.max(b), if a.is_nan() || b.is_nan() { a + b } else { a.max(b) };
    min, |a, b, c| a.min(b), if a.is_nan() || b.is_nan() { a + b } else { a.min(b) };
    clamp, |a, b, c| a.at_least(a.like((-1f32).into())).at_most(a.like(2f32.into())), a.clamp(-1.0, 2.0);
    lt, |a, b, c| Float::select(a.lt(b), b, c), if a < b { b } else { c };
    le, |a, b, c| Float::select(a.le(b), b, c), if a <= b { b } else { c };
    equal, |a, b, c| Float::select(a.equal(b), b, c), if a == b { b } else { c };
    ne, |a, b, c| Float::select(a.ne(b), b, c), if a != b { b } else { c };
logic, |a, b, c| Float::select(a.lt(b).and(b.lt(c)).or(a.equal(c)), a, b),
        if (a < b && b < c) || a == c { a } else { b };
}

#[inline(always)]
unsafe fn horizontal_at<S: Simd, T: Real>(x: *const T, out: *mut T) {
    // SAFETY: the caller passes a full register and four slots.
    unsafe {
        let v = T::In::<S>::load(x);
        out.write(v.sum());
        out.add(1).write(v.largest());
        out.add(2).write(v.smallest());
        out.add(3).write(v.first());
    }
}
by_level! { fn horizontal [T: Real] [T] (x: *const T, out: *mut T) = horizontal_at; }

#[inline(always)]
unsafe fn lanes_at<S: Simd, T: Real>() -> usize {
    T::In::<S>::LANES
}
by_level! { fn lanes [T: Real] [T] () -> usize = lanes_at; }

/// The order that [`Vector::sum`] promises.
fn fold(x: &mut [f32]) -> f32 {
    let mut n = x.len();
    while n > 1 {
        n /= 2;
        for i in 0..n {
            x[i] += x[i + n];
        }
    }
    x[0]
}

#[test]
fn a_horizontal_sum_halves() {
    for level in levels() {
        let x: [f32; 16] = std::array::from_fn(|i| (i as f32 * 0.37 - 2.0).exp());
        let mut out = [0.0; 4];
        // SAFETY: the level is available, no register is longer than 16.
        let n = unsafe { lanes::<f32>(level)() };
        // SAFETY: as above.
        unsafe { horizontal::<f32>(level)(x.as_ptr(), out.as_mut_ptr()) };
        assert_eq!(
            out,
            [fold(&mut x[..n].to_vec()), x[n - 1], x[0], x[0]],
            "{level}"
        );
        let x = x.map(f64::from);
        let mut out = [0.0; 4];
        // SAFETY: as above.
        let n = unsafe { lanes::<f64>(level)() };
        // SAFETY: as above.
        unsafe { horizontal::<f64>(level)(x.as_ptr(), out.as_mut_ptr()) };
        assert!(
            (out[0] - x[..n].iter().sum::<f64>()).abs() < 1e-12,
            "{level}"
        );
        assert_eq!(out[1..], [x[n - 1], x[0], x[0]], "{level}");
    }
}

#[inline(always)]
unsafe fn partial_at<S: Simd, T: Real>(x: *const T, n: usize, out: *mut T) {
    // SAFETY: the caller passes `n` elements on both sides.
    unsafe { T::In::<S>::load_first(x, n).store_first(out, n) }
}
by_level! { fn partial [T: Real] [T] (x: *const T, n: usize, out: *mut T) = partial_at; }

#[inline(always)]
unsafe fn bytes_at<S: Simd, T: Real>(x: *const u8, out: *mut u8) {
    for i in (0..32).step_by(T::In::<S>::LANES) {
        // SAFETY: both sides have 32 bytes.
        unsafe { T::In::<S>::store_mask(T::In::<S>::load_mask(x.add(i)), out.add(i)) }
    }
}
by_level! { fn bytes [T: Real] [T] (x: *const u8, out: *mut u8) = bytes_at; }

#[test]
fn partial_registers_touch_nothing_else() {
    fn check<T: Real + std::fmt::Debug>(x: [T; 16], canary: T) {
        for level in levels() {
            // SAFETY: the level is available.
            let lanes = unsafe { lanes::<T>(level)() };
            for n in 0..lanes {
                let mut out = [canary; 16];
                // SAFETY: `n` elements are there on both sides.
                unsafe { partial::<T>(level)(x.as_ptr(), n, out.as_mut_ptr()) };
                assert_eq!(out[..n], x[..n], "{level}");
                assert_eq!(out[n..], [canary; 16][n..], "{level}");
            }
        }
    }
    check::<f32>(std::array::from_fn(|i| i as f32), -1.0);
    check::<f64>(std::array::from_fn(|i| i as f64), -1.0);
}

#[inline(always)]
unsafe fn pairs_at<S: Simd, T: Real>(x: *const T, halves: *mut T, back: *mut T) {
    let lanes = T::In::<S>::LANES;
    for i in (0..16).step_by(lanes) {
        // SAFETY: `x` and `back` have 32 elements, `halves` has 16 of each half.
        unsafe {
            let even = T::In::<S>::load_every_other(x.add(2 * i));
            let odd = T::In::<S>::load_every_other(x.add(2 * i + 1));
            even.store(halves.add(i));
            odd.store(halves.add(16 + i));
            let (low, high) = even.interleave(odd);
            low.store(back.add(2 * i));
            high.store(back.add(2 * i + lanes));
        }
    }
}
by_level! { fn pairs[T: Real][T](x: *const T, halves: *mut T, back: *mut T) = pairs_at; }

#[test]
fn every_other_element_and_back() {
    fn check<T: Real + Default + std::fmt::Debug>(of: fn(f64) -> T) {
        let x: [T; 32] = std::array::from_fn(|i| of(i as f64));
        let apart = |i: usize| of((i % 16 * 2 + i / 16) as f64);
        for level in levels() {
            let (mut halves, mut back) = ([T::default(); 32], [T::default(); 32]);
            // SAFETY: the level is available, and the arrays are long enough.
            unsafe { pairs(level)(x.as_ptr(), halves.as_mut_ptr(), back.as_mut_ptr()) };
            assert_eq!(halves, std::array::from_fn(apart), "{level}");
            assert_eq!(back, x, "{level}");
        }
    }
    check(|x| x as f32);
    check(|x| x);
}

#[test]
fn masks_round_trip_through_bytes() {
    let x: [u8; 32] = std::array::from_fn(|i| if i % 3 == 0 { i as u8 } else { 0 });
    for level in levels() {
        for kernel in [bytes::<f32>(level), bytes::<f64>(level)] {
            let mut out = [9; 32];
            // SAFETY: the level is available and both sides have 32 bytes.
            unsafe { kernel(x.as_ptr(), out.as_mut_ptr()) };
            assert_eq!(out, x.map(|b| u8::from(b != 0)), "{level}");
        }
    }
}

#[inline(always)]
unsafe fn powers_at<S: Simd>(x: *const f32, n: *const f32, out: *mut f32) {
    for i in (0..16).step_by(S::F32::LANES) {
        // SAFETY: the inputs have 16 elements, the output 48.
        unsafe {
            let (v, n) = (S::F32::load(x.add(i)), S::F32::load(n.add(i)));
            let (m, e) = v.split();
            m.store(out.add(i));
            e.store(out.add(16 + i));
            m.scale(n).store(out.add(32 + i));
        }
    }
}
by_level! { fn powers(x: *const f32, n: *const f32, out: *mut f32) = powers_at; }

#[test]
fn powers_of_two_come_apart_and_together() {
    let mut x: [f32; 16] = std::array::from_fn(|i| 0.7 * 3f32.powi(i as i32 * 5 - 35));
    x[3] = f32::MIN_POSITIVE;
    x[4] = f32::from_bits(1);
    x[5] = f32::MIN_POSITIVE / 3.0;
    x[6] = f32::MAX;
    let n = [
        -160., -149., -140., -127., -126., -1., 0., 1., 127., 128., 200., 5., -5., 30., 64., -64.,
    ];
    for level in levels() {
        let mut out = [0.0; 48];
        // SAFETY: the level is available; the lengths are as `powers_at` asks.
        unsafe { powers(level)(x.as_ptr(), n.as_ptr(), out.as_mut_ptr()) };
        for i in 0..16 {
            let (m, e, scaled) = (out[i], out[16 + i], out[32 + i]);
            assert!((1.0..2.0).contains(&m), "{level}: {m}");
            assert_eq!(
                f64::from(m) * f64::from(e).exp2(),
                f64::from(x[i]),
                "{level}"
            );
            assert_eq!(
                scaled,
                (f64::from(m) * f64::from(n[i]).exp2()) as f32,
                "{level}"
            );
        }
    }
}
