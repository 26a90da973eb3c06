//! Functions of the scalar table that neither Rust nor `libm` has.

use std::f64::consts::{FRAC_2_SQRT_PI, PI};

/// From here on the asymptotic series of [`digamma`] and [`zeta`] are exact to the last place.
const ASYMPTOTIC: f64 = 12.0;

/// `B(2j) / 2j` with the Bernoulli numbers, for `j` from 1 on.
const DIGAMMA_SERIES: [f64; 7] = [
    1.0 / 12.0,
    -1.0 / 120.0,
    1.0 / 252.0,
    -1.0 / 240.0,
    1.0 / 132.0,
    -691.0 / 32_760.0,
    1.0 / 12.0,
];

/// `B(2j) / (2j)!` with the Bernoulli numbers, for `j` from 1 on.
const EULER_MACLAURIN: [f64; 8] = [
    1.0 / 12.0,
    -1.0 / 720.0,
    1.0 / 30_240.0,
    -1.0 / 1_209_600.0,
    1.0 / 47_900_160.0,
    -691.0 / 1_307_674_368_000.0,
    1.0 / 74_724_249_600.0,
    -3_617.0 / 10_670_622_842_880_000.0,
];

/// The logarithmic derivative of the gamma function (NIST DLMF 5.5.2, 5.5.4 and 5.11.2). At 0 it goes
/// to the infinity of the other sign; at negative integers it is NaN.
pub(crate) fn digamma(x: f64) -> f64 {
    if x == 0.0 {
        return f64::INFINITY.copysign(-x);
    }
    if x < 0.0 {
        return digamma(1.0 - x) - PI * cotangent(x);
    }
    let (mut x, mut sum) = (x, 0.0);
    while x < ASYMPTOTIC {
        sum -= 1.0 / x;
        x += 1.0;
    }
    if x == f64::INFINITY {
        return x;
    }
    let square = 1.0 / (x * x);
    let series = DIGAMMA_SERIES
        .iter()
        .rev()
        .fold(0.0, |sum, c| (sum + c) * square);
    sum + libm::log(x) - 0.5 / x - series
}

/// The derivative of order `n` of [`digamma`], by Hurwitz's zeta function (NIST DLMF 25.11.12) and by
/// reflection (5.15.6) for negative `x`. `n` is rounded to a whole number.
pub(crate) fn polygamma(n: f64, x: f64) -> f64 {
    let n = n.round();
    if n == 0.0 {
        return digamma(x);
    }
    // The factorial of larger ones is no f64.
    if !(1.0..=170.0).contains(&n) || x.is_nan() || x == f64::NEG_INFINITY {
        return f64::NAN;
    }
    let order = n as usize;
    let odd = order % 2 == 1;
    let sign = if odd { 1.0 } else { -1.0 };
    if x > 0.0 {
        let factorial: f64 = (1..=order).map(|k| k as f64).product();
        return sign * factorial * zeta(n + 1.0, x);
    }
    if x == x.floor() {
        return if odd { f64::INFINITY } else { f64::NAN };
    }
    let slope = libm::pow(PI, n + 1.0) * cotangent_derivative(order, cotangent(x));
    -sign * polygamma(n, 1.0 - x) - slope
}

/// Hurwitz's zeta function, the sum of `(q + k)^-s` over `k` from 0 on, for `s > 1` and `q > 0`, by
/// Euler's and Maclaurin's formula (NIST DLMF 25.11.5).
fn zeta(s: f64, q: f64) -> f64 {
    if q == f64::INFINITY {
        return 0.0;
    }
    let (mut q, mut sum) = (q, 0.0);
    while q < ASYMPTOTIC + s {
        sum += libm::pow(q, -s);
        q += 1.0;
    }
    let power = libm::pow(q, -s);
    let mut factor = s * power / q;
    sum += power * (q / (s - 1.0) + 0.5);
    for (j, coefficient) in EULER_MACLAURIN.iter().enumerate() {
        sum += coefficient * factor;
        let k = 2.0 * j as f64 + 1.0;
        factor *= (s + k) / q * ((s + k + 1.0) / q);
    }
    sum
}

/// `cot(pi x)`; NaN at the poles.
fn cotangent(x: f64) -> f64 {
    let part = x - x.round();
    if part == 0.0 {
        f64::NAN
    } else {
        1.0 / libm::tan(PI * part)
    }
}

/// The derivative of order `n` of the cotangent where that is `c`: a polynomial of `c`, because the
/// first is `-(1 + c^2)`.
fn cotangent_derivative(n: usize, c: f64) -> f64 {
    let mut polynomial = vec![0.0, 1.0];
    for _ in 0..n {
        let mut next = vec![0.0; polynomial.len() + 1];
        for (k, &coefficient) in polynomial.iter().enumerate().skip(1) {
            next[k - 1] -= k as f64 * coefficient;
            next[k + 1] -= k as f64 * coefficient;
        }
        polynomial = next;
    }
    polynomial
        .iter()
        .rev()
        .fold(0.0, |sum, coefficient| sum * c + coefficient)
}

/// The inverse of the error function: a guess to three digits (S. Winitzki, 2008) and Halley's steps,
/// each of which makes three times as many. NaN outside of -1 to 1.
pub(crate) fn erfinv(y: f64) -> f64 {
    let size = y.abs();
    if size >= 1.0 || size.is_nan() {
        return if size == 1.0 {
            y * f64::INFINITY
        } else {
            f64::NAN
        };
    }
    if size < 1e-10 {
        return y / FRAC_2_SQRT_PI;
    }
    const A: f64 = 0.147;
    let log = libm::log((1.0 - size) * (1.0 + size));
    let half = 2.0 / (PI * A) + 0.5 * log;
    let mut x = ((half * half - log / A).sqrt() - half).sqrt();
    for _ in 0..3 {
        // In the tail the distance from 1 has more digits than the value.
        let error = match size < 0.5 {
            true => libm::erf(x) - size,
            false => (1.0 - size) - libm::erfc(x),
        };
        let newton = error / (FRAC_2_SQRT_PI * libm::exp(-x * x));
        x -= newton / (1.0 + x * newton);
    }
    x.copysign(y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(got: f64, expected: f64) {
        let fine = (got - expected).abs() <= 1e-13 * expected.abs();
        assert!(fine, "{got:e}, not {expected:e}");
    }

    /// Values of mpmath 1.3 to 20 digits.
    #[test]
    fn values_of_a_table() {
        near(digamma(0.1), -10.423754940411076);
        near(digamma(1.5), 0.03648997397857652);
        near(digamma(3.25), 1.016990911068179);
        near(digamma(20.0), 2.970523992242149);
        near(digamma(-0.75), -2.894120200042932);
        near(digamma(-12.3), 4.832199881811456);
        near(digamma(1e-8), -100000000.57721564);
        near(digamma(1e10), 23.025850929890456);
        near(polygamma(1.0, 0.1), 101.43329915079275);
        near(polygamma(1.0, 2.5), 0.49035775610023485);
        near(polygamma(1.0, -0.3), 13.945160267805722);
        near(polygamma(1.0, -7.25), 19.61035453929327);
        near(polygamma(2.0, 0.6), -9.96283153714346);
        near(polygamma(2.0, -1.4), 22.0160314366175);
        near(polygamma(3.0, 15.5), 0.0005912808080750433);
        near(polygamma(5.0, -2.7), 165660.11051361315);
        near(polygamma(9.0, 1.25), 39076.04868190494);
        near(polygamma(1.0, 1e5), 1.0000050000166667e-05);
        near(erfinv(1e-12), 8.86226925452758e-13);
        near(erfinv(0.001), 0.0008862271574665521);
        near(erfinv(0.3), 0.2724627147267543);
        near(erfinv(0.5), 0.4769362762044699);
        near(erfinv(-0.7), -0.7328690779592167);
        near(erfinv(0.99), 1.8213863677184494);
        near(erfinv(-0.999999), -3.458910737275499);
        near(erfinv(0.9999999999999), 5.261483331372676);
    }

    #[test]
    fn edges() {
        assert_eq!(digamma(0.0), f64::NEG_INFINITY);
        assert_eq!(digamma(-0.0), f64::INFINITY);
        assert!(digamma(-3.0).is_nan());
        assert_eq!(digamma(f64::INFINITY), f64::INFINITY);
        assert_eq!(polygamma(1.0, 0.0), f64::INFINITY);
        assert_eq!(polygamma(1.0, f64::INFINITY), 0.0);
        assert_eq!(erfinv(1.0), f64::INFINITY);
        assert_eq!(erfinv(-1.0), f64::NEG_INFINITY);
        assert!(erfinv(1.1).is_nan());
    }
}
