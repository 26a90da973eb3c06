//! The transformations, along one axis.
//!
//! Four sums of three products each, or three of four, take six multiplications in the algorithm of
//! Toom and Cook: polynomials are evaluated at six points, multiplied there and interpolated. With
//! the points 0, +-1/sqrt(2), +-sqrt(2) and infinity all factors are within 3 of 1, which keeps the
//! rounding of f32 below twice that of plain sums; with the usual 0, +-1, +-2 it is four times as
//! much.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use crate::simd::Float;

/// Points at which lines are multiplied.
pub(super) const POINTS: usize = 6;

/// The larger point, the smaller one, and their squares.
const A: f32 = SQRT_2;
const B: f32 = FRAC_1_SQRT_2;
const A2: f32 = 2.0;
const B2: f32 = 0.5;
/// The denominators of interpolation, inverted.
const OVER_A: f32 = 1.0 / 6.0;
const OVER_B: f32 = -2.0 / 3.0;

/// A linear function of the first elements of a line.
pub(super) trait Line {
    /// Elements that count, before and after.
    const FROM: usize;
    const TO: usize;

    fn of<V: Float<Element = f32>>(x: [V; POINTS]) -> [V; POINTS];
}

/// `x` times a number.
#[inline(always)]
fn times<V: Float<Element = f32>>(x: V, factor: f32) -> V {
    x.mul(x.like(factor))
}

/// `sum + factor * x`.
#[inline(always)]
fn plus<V: Float<Element = f32>>(sum: V, factor: f32, x: V) -> V {
    x.mul_add(x.like(factor), sum)
}

/// A polynomial at all points over the denominators of interpolation, given its coefficients 0 and 2,
/// its odd part over `x` at the smaller point and at the larger one, and its last coefficient.
#[inline(always)]
fn evaluated<V: Float<Element = f32>>(
    [g0, g2]: [V; 2],
    [odd_b, odd_a]: [V; 2],
    last: V,
) -> [V; POINTS] {
    let even_b = times(plus(g0, B2, g2), OVER_B);
    let even_a = times(plus(g0, A2, g2), OVER_A);
    [
        g0,
        plus(even_b, B * OVER_B, odd_b),
        plus(even_b, -B * OVER_B, odd_b),
        plus(even_a, A * OVER_A, odd_a),
        plus(even_a, -A * OVER_A, odd_a),
        last,
    ]
}

/// The even and the odd part of what is at a point and at its negative, doubled.
#[inline(always)]
fn parts<V: Float<Element = f32>>(at: V, opposite: V) -> (V, V) {
    (at.add(opposite), at.sub(opposite))
}

/// Six neighbours that four windows see.
pub(super) struct Seen;

impl Line for Seen {
    const FROM: usize = 6;
    const TO: usize = 6;

    #[inline(always)]
    fn of<V: Float<Element = f32>>([d0, d1, d2, d3, d4, d5]: [V; POINTS]) -> [V; POINTS] {
        let (even_b, odd_b) = (plus(d4, -A2, d2), plus(d3, -A2, d1));
        let (even_a, odd_a) = (plus(d4, -B2, d2), plus(d3, -B2, d1));
        [
            plus(d0.add(d4), -(A2 + B2), d2),
            plus(even_b, B, odd_b),
            plus(even_b, -B, odd_b),
            plus(even_a, A, odd_a),
            plus(even_a, -A, odd_a),
            plus(d1.add(d5), -(A2 + B2), d3),
        ]
    }
}

/// Three taps.
pub(super) struct Taps;

impl Line for Taps {
    const FROM: usize = 3;
    const TO: usize = 6;

    #[inline(always)]
    fn of<V: Float<Element = f32>>([g0, g1, g2, ..]: [V; POINTS]) -> [V; POINTS] {
        evaluated([g0, g2], [g1, g1], g2)
    }
}

/// What four windows sum up, from the six products.
pub(super) struct Sums;

impl Line for Sums {
    const FROM: usize = 6;
    const TO: usize = 4;

    #[inline(always)]
    fn of<V: Float<Element = f32>>([m0, m1, m2, m3, m4, m5]: [V; POINTS]) -> [V; POINTS] {
        let [(even_b, odd_b), (even_a, odd_a)] = [parts(m1, m2), parts(m3, m4)];
        [
            m0.add(even_b.add(even_a)),
            plus(times(odd_a, A), B, odd_b),
            plus(times(even_a, A2), B2, even_b),
            plus(plus(m5, A * A2, odd_a), B * B2, odd_b),
            m0,
            m0,
        ]
    }
}

/// The cotangents of four windows.
pub(super) struct Cotangents;

impl Line for Cotangents {
    const FROM: usize = 4;
    const TO: usize = 6;

    #[inline(always)]
    fn of<V: Float<Element = f32>>([g0, g1, g2, g3, ..]: [V; POINTS]) -> [V; POINTS] {
        evaluated([g0, g2], [plus(g1, B2, g3), plus(g1, A2, g3)], g3)
    }
}

/// The cotangents of three taps, from the six products.
pub(super) struct TapSums;

impl Line for TapSums {
    const FROM: usize = 6;
    const TO: usize = 3;

    #[inline(always)]
    fn of<V: Float<Element = f32>>([m0, m1, m2, m3, m4, m5]: [V; POINTS]) -> [V; POINTS] {
        let [(even_b, odd_b), (even_a, odd_a)] = [parts(m1, m2), parts(m3, m4)];
        [
            m0.add(even_b.add(even_a)),
            plus(times(odd_a, A), B, odd_b),
            plus(plus(m5, A2, even_a), B2, even_b),
            m0,
            m0,
            m0,
        ]
    }
}
