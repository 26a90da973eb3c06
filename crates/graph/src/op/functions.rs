//! Elementwise functions made of others.

use std::f64::consts::PI;
use std::panic::Location;

use backprop_core::{DType, Scalar};

use crate::composite::{Composite, Sample, Vjp};
use crate::graph::bad_dtype;
use crate::op::catalogue::{ALL, Entry, POSITIVE, entries, pairs, reals, unary, within};
use crate::operand::Operand;
use crate::tensor::Tensor;

macro_rules! unary_functions {
    ($($(#[$doc:meta])* $name:ident($x:ident) => $body:expr;)*) => {
        impl<'g> Tensor<'g> { $(
            $(#[$doc])*
            #[track_caller]
            #[must_use]
            pub fn $name(self) -> Tensor<'g> {
                let $x = self;
                self.graph.compose(stringify!($name), &[self], Location::caller(), || Ok($body))
            }
        )* }
    };
}

unary_functions! {
    /// Whether NaN.
    is_nan(x) => x.ne(x);
    /// Whether an infinity of either sign.
    is_inf(x) => x.abs().eq(f64::INFINITY);
    /// Whether neither NaN nor an infinity.
    is_finite(x) => x.abs().lt(f64::INFINITY);
    /// The same with 0 for NaN, and the largest finite numbers of the type for infinities; gradient 0
    /// where it differs.
    nan_to_num(x) => {
        let Some(largest) = largest(x.dtype()) else {
            return Err(bad_dtype("nan_to_num", format!("of {}", x.dtype())));
        };
        let x = x.is_nan().select(0.0, x);
        let x = x.eq(f64::INFINITY).select(largest, x);
        x.eq(f64::NEG_INFINITY).select(-largest, x)
    };
    /// `log(x / (1 - x))`, the inverse of [`sigmoid`](Tensor::sigmoid). NaN outside of 0 to 1, with a
    /// gradient of NaN.
    logit(x) => x.graph.apply_one(Logit, &[x]);
    /// `sin(pi x) / (pi x)`, 1 at 0.
    sinc(x) => {
        let angle = x * PI;
        // Taylor's polynomial near 0 is exact, and so are its derivatives.
        let near = angle.abs().lt(0.1);
        let small = near.select(angle, 0.0).square();
        let terms = [1.0 / 362_880.0, -1.0 / 5_040.0, 1.0 / 120.0, -1.0 / 6.0, 1.0];
        let start = small * 0.0;
        let taylor = terms.iter().fold(start, |sum, &term| sum * small + term);
        let angle = near.select(1.0, angle);
        near.select(taylor, angle.sin() / angle)
    };
}

/// The largest finite number of a floating-point type.
fn largest(dtype: DType) -> Option<f64> {
    match dtype {
        DType::F64 => Some(f64::MAX),
        DType::F32 => Some(f64::from(f32::MAX)),
        DType::F16 => Some(65_504.0),
        DType::BF16 => Some(f64::from(f32::from_bits(0x7f7f_0000))),
        _ => None,
    }
}

macro_rules! binary_functions {
    ($($(#[$doc:meta])* $name:ident($x:ident, $right:ident) => $body:expr;)*) => {
        impl<'g> Tensor<'g> { $(
            $(#[$doc])*
            #[track_caller]
            #[must_use]
            pub fn $name(self, right: impl Operand<'g>) -> Tensor<'g> {
                let place = Location::caller();
                let ($x, $right) = (self, right.on(self.graph, Some(self.dtype()), place));
                let operands = [$x, $right];
                self.graph.compose(stringify!($name), &operands, place, || Ok($body))
            }
        )* }
    };
}

binary_functions! {
    /// The larger one, or the one that is no NaN; the gradient is shared equally at ties.
    fmax(x, right) => {
        let larger = x.is_nan().select(right, x).maximum(right);
        right.is_nan().select(x, larger)
    };
    /// The smaller one, or the one that is no NaN; the gradient is shared equally at ties.
    fmin(x, right) => {
        let smaller = x.is_nan().select(right, x).minimum(right);
        right.is_nan().select(x, smaller)
    };
    /// The remainder with the sign of the divisor, as Python's `%`; that with the sign of the dividend
    /// is Rust's `%`.
    remainder(x, right) => match x.shape().broadcast(&right.shape()) {
        Some(shape) => {
            let operands = [x.broadcast_to(shape), right.broadcast_to(shape)];
            x.graph.apply_one(Remainder, &operands)
        }
        None => x % right,
    };
    /// The quotient rounded down, as Python's `//`, also where the quotient in floating point would be
    /// rounded up to a whole number; gradient 0.
    div_floor(x, right) => {
        let exact = (x - x.remainder(right)) / right;
        let exact = if x.dtype().is_float() { exact.round() } else { exact };
        right.eq(0.0).select(x / right, exact).stop_gradient()
    };
    /// `x * log(right)`, 0 where `x` is 0.
    xlogy(x, right) => {
        let undefined = right.le(0.0).logical_or(right.eq(f64::INFINITY));
        let nothing = x.eq(0.0).logical_and(undefined);
        nothing.select(0.0, x * nothing.select(1.0, right).log())
    };
    /// `log(e^self + e^right)` without overflow.
    log_add_exp(x, right) => {
        let above = x.ge(right);
        let (high, low) = (above.select(x, right), above.select(right, x));
        // Equal infinities have no difference.
        let same = x.eq(right).logical_and(x.is_inf());
        high + same.select(f64::NEG_INFINITY, low - high).softplus()
    };
}

impl<'g> Tensor<'g> {
    /// The derivative of order `n` of [`digamma`](Tensor::digamma): `n` + 1 derivatives of
    /// [`lgamma`](Tensor::lgamma).
    #[track_caller]
    #[must_use]
    pub fn polygamma(self, n: u32) -> Tensor<'g> {
        let order = self.number(f64::from(n));
        let place = Location::caller();
        self.graph
            .elementwise(Scalar::Polygamma, &[order, self], place)
    }

    /// `self + weight * (end - self)`: from this tensor to `end` as `weight` goes from 0 to 1.
    #[track_caller]
    #[must_use]
    pub fn lerp(self, end: impl Operand<'g>, weight: impl Operand<'g>) -> Tensor<'g> {
        let (place, like) = (Location::caller(), Some(self.dtype()));
        let (end, weight) = (
            end.on(self.graph, like, place),
            weight.on(self.graph, like, place),
        );
        let operands = [self, end, weight];
        self.graph.compose(
            "lerp",
            &operands,
            place,
            || Ok(self + weight * (end - self)),
        )
    }
}

/// Has its own gradient because that is NaN outside of the domain.
#[derive(Debug)]
struct Logit;

impl Composite for Logit {
    fn name(&self) -> &str {
        "logit"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        vec![inputs[0].log() - (-inputs[0]).log1p()]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        // 1 / (x (1 - x)) in terms of the result, which is NaN where there is none.
        let slope = cx.outputs[0].cosh() * 2.0 + 2.0;
        Some(vec![Some(cx.cotangents[0]? * slope)])
    }

    fn samples(&self) -> Vec<Sample> {
        within((0.1, 0.9), &[&[3, 5]])
    }
}

/// Has its own gradient because the derived one goes by the rounded quotient.
#[derive(Debug)]
struct Remainder;

impl Composite for Remainder {
    fn name(&self) -> &str {
        "remainder"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let (x, divisor) = (inputs[0], inputs[1]);
        let rest = x % divisor;
        let other_sign = rest.lt(0.0).ne(divisor.lt(0.0));
        let corrected = rest.ne(0.0).logical_and(other_sign);
        vec![corrected.select(rest + divisor, rest)]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let cotangent = cx.cotangents[0]?;
        let quotient = cx.inputs[0].div_floor(cx.inputs[1]);
        Some(vec![Some(cotangent), Some(-cotangent * quotient)])
    }

    fn samples(&self) -> Vec<Sample> {
        within(POSITIVE, &[&[3, 5], &[3, 5]])
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        nan_to_num unary() => |x| x[0].nan_to_num();
        logit within((0.1, 0.9), &[&[3, 5]]) => |x| x[0].logit();
        sinc unary() => |x| x[0].sinc();
        sinc_near_zero within((-0.02, 0.02), &[&[3, 5]]) => |x| x[0].sinc();
        fmax pairs(ALL) => |x| x[0].fmax(x[1]);
        fmin pairs(ALL) => |x| x[0].fmin(x[1]);
        remainder pairs(POSITIVE) => |x| x[0].remainder(-x[1]);
        div_floor pairs(POSITIVE) => |x| x[0].div_floor(x[1]) * x[0];
        xlogy pairs(POSITIVE) => |x| x[0].xlogy(x[1]);
        log_add_exp pairs(ALL) => |x| x[0].log_add_exp(x[1]);
        log_add_exp_ties reals(&[&[3]]) => |x| x[0].log_add_exp(x[0]);
        polygamma within(POSITIVE, &[&[3, 5]]) => |x| x[0].polygamma(2);
        lerp pairs(ALL) => |x| x[0].lerp(x[1], x[0] * 0.5);
    }
}
