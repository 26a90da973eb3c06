//! Transcendental functions of f32 registers.
//!
//! Each says its largest error in units in the last place, which the tests
//! assert against f64 over the range where the result is a normal number. NaN
//! goes through, infinities and zeros give their limits, and results too small
//! for a normal number lose no more than their format makes them lose.
//!
//! Polynomials of exp and log are Cephes'; those of erf, sine and cosine follow
//! N. Juffa. Where a fused multiply-add stands here, it is part of the
//! function's definition, so a level cannot disagree with itself.

use crate::simd::{Float32, Mask};

#[cfg(test)]
mod tests;

/// ln 2 in two parts, the first with enough trailing zeros to be multiplied
/// exactly by an exponent.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// The logarithm of 2 to base 10 in such parts.
const LOG10_2_HIGH: f32 = 0.301_025_4;
const LOG10_2_LOW: f32 = 4.605_039e-6;

/// `coefficients[0] * x^n + ... + coefficients[n]`.
#[inline(always)]
fn polynomial<V: Float32, const N: usize>(x: V, coefficients: [f32; N]) -> V {
    let mut sum = x.like(coefficients[0]);
    for &c in &coefficients[1..] {
        sum = sum.mul_add(x, x.like(c));
    }
    sum
}

/// `x = n ln 2 + r` with integral `n` and |r| at most half of ln 2: `(n, r, q)`
/// where `q` is `(exp(r) - 1 - r) / r^2`.
#[inline(always)]
fn reduce_exp<V: Float32>(x: V) -> (V, V, V) {
    let n = x.mul(x.like(std::f32::consts::LOG2_E)).round();
    let r = n.mul_add(x.like(-LN2_HIGH), x);
    let r = n.mul_add(x.like(-LN2_LOW), r);
    (n, r, exp_tail(r))
}

/// `(exp(r) - 1 - r) / r^2` for |r| at most half of ln 2.
#[inline(always)]
fn exp_tail<V: Float32>(r: V) -> V {
    polynomial(
        r,
        [
            1.987_569_1e-4,
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            5e-1,
        ],
    )
}

/// e to the power `x`, to 1.3 ulp.
#[inline(always)]
pub(crate) fn exp<V: Float32>(x: V) -> V {
    let x = x.at_most(x.like(89.0)).at_least(x.like(-104.0));
    let (n, r, q) = reduce_exp(x);
    q.mul_add(r.mul(r), r.add(x.like(1.0))).scale(n)
}

/// 2 to the power `x`, to 1.5 ulp.
#[inline(always)]
pub(crate) fn exp2<V: Float32>(x: V) -> V {
    let x = x.at_most(x.like(129.0)).at_least(x.like(-151.0));
    let n = x.round();
    let r = x.sub(n).mul(x.like(std::f32::consts::LN_2));
    let q = exp_tail(r);
    q.mul_add(r.mul(r), r.add(x.like(1.0))).scale(n)
}

/// `exp(x) - 1`, to 2 ulp also near 0.
#[inline(always)]
pub(crate) fn expm1<V: Float32>(x: V) -> V {
    let (n, r, q) = reduce_exp(x.at_most(x.like(89.0)).at_least(x.like(-30.0)));
    let q = q.mul_add(r.mul(r), r);
    // Half of the result, because 2^128 is no f32.
    let half = n.sub(x.like(1.0)).power_of_two();
    let y = q.mul_add(half, half.sub(x.like(0.5)));
    V::select(x.abs().lt(x.like(1e-8)), x, y.add(y))
}

/// The hyperbolic tangent, to 2.5 ulp.
#[inline(always)]
pub(crate) fn tanh<V: Float32>(x: V) -> V {
    // With t = exp(2|x|) - 1 it is t / (t + 2); from |x| = 9.1 on it rounds to 1.
    let size = x.abs().at_most(x.like(10.0));
    let (n, r, q) = reduce_exp(size.add(size));
    let power = n.power_of_two();
    let t = q
        .mul_add(r.mul(r), r)
        .mul_add(power, power.sub(x.like(1.0)));
    t.div(t.add(x.like(2.0))).copysign(x)
}

/// `1 / (1 + exp(-x))`, to 2 ulp.
#[inline(always)]
pub(crate) fn sigmoid<V: Float32>(x: V) -> V {
    let (e, one) = (exp(x.abs().neg()), x.like(1.0));
    V::select(x.lt(x.like(0.0)), e, one).div(one.add(e))
}

/// `(e, r)` so that `x = 2^e (1 + r)`, for a positive finite `x`. `shift` replaces `r` where `e` is 0.
#[inline(always)]
fn reduce_log<V: Float32>(x: V, shift: Option<V>) -> (V, V) {
    let (m, e) = x.split();
    let big = x.like(std::f32::consts::SQRT_2).lt(m);
    let m = V::select(big, m.mul(x.like(0.5)), m);
    let e = V::select(big, e.add(x.like(1.0)), e);
    let r = m.sub(x.like(1.0));
    match shift {
        Some(shift) => (e, V::select(e.equal(x.like(0.0)), shift, r)),
        None => (e, r),
    }
}

/// `log(1 + r) - r + e low`: the low part of `e` logarithms of 2 joins where it costs no accuracy.
#[inline(always)]
fn log_tail<V: Float32>(r: V, e: V, low: f32) -> V {
    let z = r.mul(r);
    let p = polynomial(
        r,
        [
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_7e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ],
    );
    let y = e.mul_add(r.like(low), p.mul(z).mul(r));
    z.mul_add(r.like(-0.5), y)
}

/// `y` for a positive finite `x`, and the limits of a logarithm elsewhere.
#[inline(always)]
fn log_limits<V: Float32>(x: V, y: V) -> V {
    let zero = x.like(0.0);
    let ordinary = zero.lt(x).and(x.lt(x.like(f32::INFINITY)));
    let limit = V::select(x.equal(zero), x.like(f32::NEG_INFINITY), x);
    let limit = V::select(x.lt(zero), x.like(f32::NAN), limit);
    V::select(ordinary, y, limit)
}

/// The natural logarithm, to 1 ulp.
#[inline(always)]
pub(crate) fn log<V: Float32>(x: V) -> V {
    let (e, r) = reduce_log(x, None);
    let y = log_tail(r, e, LN2_LOW);
    log_limits(x, e.mul_add(x.like(LN2_HIGH), r.add(y)))
}

/// The logarithm to base 2, to 2 ulp; exact for powers of 2.
#[inline(always)]
pub(crate) fn log2<V: Float32>(x: V) -> V {
    let (e, r) = reduce_log(x, None);
    let y = r.add(log_tail(r, e, 0.0));
    log_limits(x, y.mul_add(x.like(std::f32::consts::LOG2_E), e))
}

/// The logarithm to base 10, to 2 ulp.
#[inline(always)]
pub(crate) fn log10<V: Float32>(x: V) -> V {
    let (e, r) = reduce_log(x, None);
    let y = r.add(log_tail(r, e, 0.0));
    let y = y.mul_add(
        x.like(std::f32::consts::LOG10_E),
        e.mul(x.like(LOG10_2_LOW)),
    );
    log_limits(x, e.mul_add(x.like(LOG10_2_HIGH), y))
}

/// `log(1 + x)`, to 2 ulp also near 0.
#[inline(always)]
pub(crate) fn log1p<V: Float32>(x: V) -> V {
    let one = x.like(1.0);
    let u = one.add(x);
    // What the sum lost; where 1 + x needs no power of two, `x` itself is used.
    let lost = V::select(x.lt(one), x.sub(u.sub(one)), one.sub(u.sub(x)));
    let (e, r) = reduce_log(u, Some(x));
    let y = log_tail(r, e, LN2_LOW).add(V::select(e.equal(x.like(0.0)), x.like(0.0), lost.div(u)));
    log_limits(u, e.mul_add(x.like(LN2_HIGH), r.add(y)))
}

/// `log(1 + exp(x))`, to 3 ulp.
#[inline(always)]
pub(crate) fn softplus<V: Float32>(x: V) -> V {
    x.max(x.like(0.0)).add(log1p(exp(x.abs().neg())))
}

/// The error function, to 1.5 ulp.
#[inline(always)]
pub(crate) fn erf<V: Float32>(x: V) -> V {
    let (t, z) = (x.abs(), x.mul(x));
    // The outer exponent falls for ever once t is held below 4.
    let held = t.at_most(x.like(4.0));
    let outer = polynomial(
        held,
        [
            -1.728_534_7e-5,
            3.831_971_3e-4,
            -3.883_964_4e-3,
            2.425_462_2e-2,
            -1.067_778_8e-1,
            -6.348_467e-1,
            -1.287_175_1e-1,
        ],
    );
    let outer = exp(outer.mul_add(held, held.neg()));
    let outer = x.like(1.0).sub(outer).copysign(x);
    let inner = polynomial(
        z,
        [
            -5.967_617e-4,
            4.991_194_2e-3,
            -2.676_813_5e-2,
            1.128_199_25e-1,
            -3.761_253_4e-1,
            1.283_791_7e-1,
        ],
    );
    V::select(x.like(0.927_734_4).lt(t), outer, inner.mul_add(x, x))
}

/// The first of three parts of pi/2, with enough trailing zeros to be
/// multiplied exactly.
const QUARTER: f32 = f32::from_bits(0x3fc9_0fd8);

/// Beyond this, three parts of pi/2 no longer make an accurate remainder.
const CIRCLE_LIMIT: f32 = 48_000.0;

/// The sine of `x` plus `quarters` quarter turns.
#[inline(always)]
fn circle<V: Float32>(x: V, quarters: f32) -> V {
    let turns = x.mul(x.like(std::f32::consts::FRAC_2_PI)).round();
    let r = turns.mul_add(x.like(-QUARTER), x);
    let r = turns.mul_add(x.like(-3.139_164_7e-7), r);
    let r = turns.mul_add(x.like(-5.390_302_5e-15), r);
    let z = r.mul(r);
    let sine = polynomial(
        z,
        [
            2.865_679_6e-6,
            -1.985_599_2e-4,
            8.333_386e-3,
            -1.666_666_7e-1,
        ],
    );
    let sine = sine.mul_add(r.mul(z), r);
    let cosine = polynomial(
        z,
        [2.446_770_7e-5, -1.388_773e-3, 4.166_665_7e-2, -0.5, 1.0],
    );
    // The quadrant, 0 to 3: odd ones take the cosine, the upper two the sign.
    let quadrant = turns.add(x.like(quarters));
    let quadrant = quadrant.sub(quadrant.mul(x.like(0.25)).floor().mul(x.like(4.0)));
    let one = x.like(1.0);
    let odd = quadrant.equal(one).or(quadrant.equal(x.like(3.0)));
    let y = V::select(odd, cosine, sine);
    V::select(one.lt(quadrant), y.neg(), y)
}

/// The sine, to 1.5 ulp.
#[inline(always)]
pub(crate) fn sin<V: Float32>(x: V) -> V {
    if x.like(CIRCLE_LIMIT).lt(x.abs()).any() {
        return x.by_lane(libm::sin);
    }
    circle(x, 0.0)
}

/// The cosine, to 1.5 ulp.
#[inline(always)]
pub(crate) fn cos<V: Float32>(x: V) -> V {
    if x.like(CIRCLE_LIMIT).lt(x.abs()).any() {
        return x.by_lane(libm::cos);
    }
    circle(x, 1.0)
}
