//! Errors against f64, and the values at the edges, at every level.

use backprop_core::Scalar;

use crate::Level;
use crate::simd::{Simd, Vector, by_level};

type Kernel = unsafe fn(*const f32, *mut f32, usize);

macro_rules! kernels {
    ($($name:ident),*) => { $(
        fn $name(level: Level) -> Kernel {
            #[inline(always)]
            unsafe fn at<S: Simd>(x: *const f32, y: *mut f32, n: usize) {
                for i in (0..n).step_by(S::F32::LANES) {
                    // SAFETY: `n` elements are there, a multiple of the lanes.
                    unsafe { super::$name(S::F32::load(x.add(i))).store(y.add(i)) }
                }
            }
            by_level! { fn run(x: *const f32, y: *mut f32, n: usize) = at; }
            run(level)
        }
    )* };
}
kernels!(
    exp, exp2, expm1, log, log2, log10, log1p, tanh, sigmoid, softplus, erf, sin, cos
);

struct Row {
    name: &'static str,
    kernel: fn(Level) -> Kernel,
    exact: fn(f64) -> f64,
    /// The arguments tried, in bits of f32 so that all magnitudes occur.
    from: f32,
    to: f32,
    ulp: f64,
}

/// Distance in units of the last place that an f32 near `exact` has.
fn ulps(got: f32, exact: f64) -> f64 {
    let near = exact as f32;
    if got == near || got.is_nan() && exact.is_nan() {
        return 0.0;
    }
    let unit = f64::from(f32::from_bits(near.abs().to_bits() + 1)) - f64::from(near.abs());
    (f64::from(got) - exact).abs() / unit
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

fn run(kernel: Kernel, x: &[f32]) -> Vec<f32> {
    assert_eq!(x.len() % 16, 0);
    let mut y = vec![0.0; x.len()];
    // SAFETY: both sides have `len` elements, a multiple of every width; the
    // caller made the kernel for an available level.
    unsafe { kernel(x.as_ptr(), y.as_mut_ptr(), x.len()) };
    y
}

/// Arguments evenly spread over the bits between two of one sign, and over
/// the numbers between them.
fn arguments(from: f32, to: f32) -> Vec<f32> {
    let n = if cfg!(miri) { 64 } else { 1 << 17 };
    let (a, b) = (u64::from(from.to_bits()), u64::from(to.to_bits()));
    let by_bits = (0..n).map(|i| f32::from_bits((a + (b - a) * i / (n - 1)) as u32));
    let by_size = (0..n).map(|i| from + (to - from) * (i as f32 / (n - 1) as f32));
    by_bits.chain(by_size).collect()
}

#[track_caller]
fn check(row: &Row) {
    let x = arguments(row.from, row.to);
    for level in levels() {
        let y = run((row.kernel)(level), &x);
        let (mut worst, mut place) = (0.0, 0.0);
        for (&x, &y) in x.iter().zip(&y) {
            let error = ulps(y, (row.exact)(f64::from(x)));
            if error.is_nan() || error > worst {
                (worst, place) = (error, x);
            }
        }
        println!(
            "{} at {level} from {:e} to {:e}: {worst:.2} ulp at {place:e}",
            row.name, row.from, row.to
        );
        assert!(
            worst <= row.ulp,
            "{} at {level}: {worst} ulp at {place:e}",
            row.name
        );
    }
}

macro_rules! rows {
    ($($name:ident $exact:expr, $from:expr, $to:expr, $ulp:expr;)*) => {
        [$(Row { name: stringify!($name), kernel: $name, exact: $exact, from: $from, to: $to, ulp: $ulp }),*]
    };
}

#[test]
fn errors_stay_within_their_bounds() {
    let sigmoid_exact = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus_exact = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let rows = rows! {
        exp f64::exp, 1e-30, 89.0, 1.3;
        exp f64::exp, -1e-30, -104.0, 1.3;
        exp2 f64::exp2, 1e-30, 128.0, 1.5;
        exp2 f64::exp2, -1e-30, -150.0, 1.5;
        expm1 f64::exp_m1, 1e-40, 89.0, 2.0;
        expm1 f64::exp_m1, -1e-40, -100.0, 2.0;
        log f64::ln, 1e-45, f32::MAX, 1.0;
        log f64::ln, 0.5, 2.0, 1.0;
        log2 f64::log2, 1e-45, f32::MAX, 2.0;
        log2 f64::log2, 0.5, 2.0, 2.0;
        log10 f64::log10, 1e-45, f32::MAX, 2.0;
        log10 f64::log10, 0.5, 2.0, 2.0;
        log1p f64::ln_1p, 1e-45, f32::MAX, 2.0;
        log1p f64::ln_1p, -1e-45, -0.999_999_94, 2.0;
        tanh f64::tanh, 1e-45, 100.0, 2.5;
        tanh f64::tanh, -1e-45, -12.0, 2.5;
        sigmoid sigmoid_exact, 1e-30, 100.0, 2.0;
        sigmoid sigmoid_exact, -1e-30, -87.0, 2.5;
        softplus softplus_exact, 1e-30, 200.0, 3.0;
        softplus softplus_exact, -1e-30, -87.0, 3.0;
        erf |x| Scalar::Erf.eval(&[x]), 1e-45, 10.0, 1.5;
        erf |x| Scalar::Erf.eval(&[x]), -1e-45, -10.0, 1.5;
        sin f64::sin, 1e-45, 48_000.0, 1.5;
        sin f64::sin, -1e-3, -1e6, 1.5;
        cos f64::cos, 1e-45, 48_000.0, 1.5;
        cos f64::cos, -1e-3, -1e6, 1.5;
    };
    rows.iter().for_each(check);
}

#[test]
fn edges_give_their_limits() {
    const INF: f32 = f32::INFINITY;
    let tiny = f32::from_bits(1);
    let x = [
        f32::NAN,
        INF,
        -INF,
        0.0,
        -0.0,
        tiny,
        -tiny,
        f32::MAX,
        f32::MIN,
        -1.0,
        88.722_83,
        88.722_84,
        -87.4,
        -103.9,
        -104.1,
        1.0,
    ];
    let sigmoid_exact = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus_exact = |x: f64| {
        if x.is_nan() {
            x
        } else {
            x.max(0.0) + (-x.abs()).exp().ln_1p()
        }
    };
    let rows = rows! {
        exp f64::exp, 0.0, 0.0, 1.5;
        exp2 f64::exp2, 0.0, 0.0, 1.5;
        expm1 f64::exp_m1, 0.0, 0.0, 2.0;
        log f64::ln, 0.0, 0.0, 1.5;
        log2 f64::log2, 0.0, 0.0, 2.0;
        log10 f64::log10, 0.0, 0.0, 2.0;
        log1p f64::ln_1p, 0.0, 0.0, 2.0;
        tanh f64::tanh, 0.0, 0.0, 2.5;
        sigmoid sigmoid_exact, 0.0, 0.0, 2.0;
        softplus softplus_exact, 0.0, 0.0, 2.0;
        erf |x| Scalar::Erf.eval(&[x]), 0.0, 0.0, 1.5;
        sin f64::sin, 0.0, 0.0, 1.5;
        cos f64::cos, 0.0, 0.0, 1.5;
    };
    for row in &rows {
        for level in levels() {
            for (&x, y) in x.iter().zip(run((row.kernel)(level), &x)) {
                let exact = (row.exact)(f64::from(x));
                let fine = y == exact as f32 || ulps(y, exact) <= row.ulp;
                assert!(
                    fine,
                    "{} at {level}: {y:e} at {x:e}, not {exact:e}",
                    row.name
                );
            }
        }
    }
}
