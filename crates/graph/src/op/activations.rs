//! Activation functions, made of the scalar table's.
//!
//! Where a function has branches, the operand of a branch that could overflow is masked as well as
//! its result: otherwise the branch not taken gives the gradient `0 * inf`, a NaN.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};
use std::panic::Location;

use crate::axes::resolve;
use crate::composite::{Composite, Sample, Vjp};
use crate::graph::bad_shape;
use crate::op::catalogue::{ALL, Entry, entries, pairs, reals, unary, within};
use crate::tensor::Tensor;

macro_rules! activations {
    ($($(#[$doc:meta])* $name:ident($x:ident $(, $attribute:ident)*) => $body:expr;)*) => {
        impl<'g> Tensor<'g> { $(
            $(#[$doc])*
            #[track_caller]
            #[must_use]
            pub fn $name(self $(, $attribute: f64)*) -> Tensor<'g> {
                let $x = self;
                self.graph.compose(stringify!($name), &[self], Location::caller(), || Ok($body))
            }
        )* }
    };
}

activations! {
    /// `x * Phi(x)` with the normal distribution function (Hendrycks and Gimpel, 2016,
    /// arXiv:1606.08415).
    gelu(x) => x * 0.5 * ((x * FRAC_1_SQRT_2).erf() + 1.0);
    /// The approximation of [`gelu`](Tensor::gelu) by `tanh(sqrt(2 / pi) (x + 0.044715 x^3))`.
    gelu_tanh(x) => x.graph.apply_one(GeluTanh, &[x]);
    /// `x * sigmoid(x)`, also known as swish (arXiv:1702.03118).
    silu(x) => x * x.sigmoid();
    /// `x * tanh(softplus(x))` (arXiv:1908.08681).
    mish(x) => x * x.softplus().tanh();
    /// `x * relu6(x + 3) / 6` (arXiv:1905.02244).
    hard_swish(x) => {
        let below = x.lt(3.0);
        let held = below.select(x, 0.0);
        let ramp = held.gt(-3.0).select(held + 3.0, 0.0) * (1.0 / 6.0);
        below.select(held * ramp, x)
    };
    /// `relu6(x + 3) / 6`; gradient 0 at the bounds.
    hard_sigmoid(x) => {
        let held = x.stop_gradient().clamp(-3.0, 3.0);
        (x.abs().lt(3.0).select(x, held) + 3.0) * (1.0 / 6.0)
    };
    /// Limited to -1..=1; gradient 0 at the bounds.
    hard_tanh(x) => x.inside(-1.0, 1.0);
    /// Limited to 0..=6; gradient 0 at the bounds.
    relu6(x) => x.inside(0.0, 6.0);
    /// `x` above 0, `alpha (e^x - 1)` elsewhere (arXiv:1511.07289).
    elu(x, alpha) => {
        let negative = x.le(0.0);
        negative.select(negative.select(x, 0.0).expm1() * alpha, x)
    };
    /// [`elu`](Tensor::elu) with `alpha` divided out of the exponent: `alpha (e^(x / alpha) - 1)`
    /// below 0 (arXiv:1704.07483).
    celu(x, alpha) => {
        let negative = x.le(0.0);
        negative.select((negative.select(x, 0.0) * (1.0 / alpha)).expm1() * alpha, x)
    };
    /// [`elu`](Tensor::elu) scaled so that mean 0 and variance 1 are a fixed point
    /// (arXiv:1706.02515, whose constants these are).
    selu(x) => x.elu(1.673_263_242_354_377_2) * 1.050_700_987_355_480_5;
    /// `x` above 0, `slope * x` elsewhere; gradient `slope` at 0.
    leaky_relu(x, slope) => x.gt(0.0).select(x, x * slope);
    /// `log(sigmoid(x))` without overflow.
    log_sigmoid(x) => -(-x).softplus();
    /// `x / (1 + |x|)`.
    softsign(x) => x / (x.abs() + 1.0);
    /// `x - tanh(x)`.
    tanh_shrink(x) => x - x.tanh();
    /// `x` moved towards 0 by `lambda`, 0 within it.
    soft_shrink(x, lambda) => {
        let moved = x - x.sign() * lambda;
        x.abs().le(lambda).select(0.0, moved)
    };
    /// `x` outside of `-lambda..=lambda`, 0 within.
    hard_shrink(x, lambda) => x.abs().le(lambda).select(0.0, x);
}

impl<'g> Tensor<'g> {
    /// `x` where it is above 0, `slope * x` elsewhere, with a learned slope that is broadcast
    /// (arXiv:1502.01852).
    #[track_caller]
    #[must_use]
    pub fn prelu(self, slope: impl crate::Operand<'g>) -> Tensor<'g> {
        let place = Location::caller();
        let slope = slope.on(self.graph, Some(self.dtype()), place);
        self.graph.compose("prelu", &[self, slope], place, || {
            let positive = self.gt(0.0);
            Ok(positive.select(self, positive.select(0.0, self) * slope))
        })
    }

    /// The first half along `axis`, times the sigmoid of the second (arXiv:1612.08083).
    #[track_caller]
    #[must_use]
    pub fn glu(self, axis: i32) -> Tensor<'g> {
        self.graph.compose("glu", &[self], Location::caller(), || {
            let size = self.shape().size(resolve("glu", axis, self.rank())?);
            if !size.is_multiple_of(2) {
                return Err(bad_shape("glu", format!("no halves of an axis of {size}")));
            }
            let gate = self.narrow(axis, size / 2, size).sigmoid();
            Ok(self.narrow(axis, 0, size / 2) * gate)
        })
    }

    /// Limited to `low..=high`; the gradient passes strictly inside only, unlike that of
    /// [`clamp`](Tensor::clamp).
    #[track_caller]
    fn inside(self, low: f64, high: f64) -> Tensor<'g> {
        let limited = self.ge(high).select(high, self);
        self.le(low).select(low, limited)
    }
}

/// Has its own gradient because the derived one takes half as many operations again, and the
/// function is often the costliest elementwise one of a network.
#[derive(Debug)]
struct GeluTanh;

impl GeluTanh {
    const CUBIC: f64 = 0.044_715;

    fn tanh<'g>(x: Tensor<'g>) -> Tensor<'g> {
        let scale = FRAC_2_PI.sqrt();
        (x * (x * x * (scale * GeluTanh::CUBIC) + scale)).tanh()
    }
}

impl Composite for GeluTanh {
    fn name(&self) -> &str {
        "gelu_tanh"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let x = inputs[0];
        vec![x * 0.5 * (GeluTanh::tanh(x) + 1.0)]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (x, g) = (cx.inputs[0], cx.cotangents[0]?);
        let (tanh, scale) = (GeluTanh::tanh(x), FRAC_2_PI.sqrt());
        let inner = x * x * (3.0 * scale * GeluTanh::CUBIC) + scale;
        let slope = (tanh + 1.0) * (x * (1.0 - tanh) * inner + 1.0) * 0.5;
        Some(vec![Some(g * slope)])
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[3, 5]])]
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        gelu unary() => |x| x[0].gelu();
        gelu_tanh unary() => |x| x[0].gelu_tanh();
        silu unary() => |x| x[0].silu();
        mish unary() => |x| x[0].mish();
        hard_swish within((-4.0, 4.0), &[&[3, 5]]) => |x| x[0].hard_swish();
        hard_sigmoid within((-4.0, 4.0), &[&[3, 5]]) => |x| x[0].hard_sigmoid();
        hard_tanh unary() => |x| x[0].hard_tanh();
        relu6 within((-2.0, 8.0), &[&[3, 5]]) => |x| x[0].relu6();
        elu unary() => |x| x[0].elu(0.7);
        celu unary() => |x| x[0].celu(0.7);
        selu unary() => |x| x[0].selu();
        leaky_relu unary() => |x| x[0].leaky_relu(0.02);
        log_sigmoid unary() => |x| x[0].log_sigmoid();
        softsign unary() => |x| x[0].softsign();
        tanh_shrink unary() => |x| x[0].tanh_shrink();
        soft_shrink unary() => |x| x[0].soft_shrink(0.5);
        hard_shrink unary() => |x| x[0].hard_shrink(0.5);
        prelu pairs(ALL) => |x| x[0].prelu(x[1]);
        glu reals(&[&[3, 4]]) => |x| x[0].glu(-1);
    }
}
