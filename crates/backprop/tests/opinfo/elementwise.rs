//! Functions of elements: arithmetic, transcendental ones, activations, conversions of types.

use std::f64::consts::LN_2;

use backprop::{DType, Tensor};

use crate::adapt::{along, binary, in_dtype, lined, promoted, unary};
use crate::call::{Argument, Call, Mapping, Outputs, Unsupported, unsupported};

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    one(op)
        .or_else(|| two(op))
        .or_else(|| several(op))
        .or_else(|| activation(op))
}

fn one(op: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "abs" => |c| unary(c, |x| x.abs()),
        "acos" => |c| unary(c, |x| x.acos()),
        "acosh" => |c| unary(c, |x| x.acosh()),
        "asin" => |c| unary(c, |x| x.asin()),
        "asinh" => |c| unary(c, |x| x.asinh()),
        "atan" => |c| unary(c, |x| x.atan()),
        "atanh" => |c| unary(c, |x| x.atanh()),
        "bfloat16" => |c| unary(c, |x| x.cast(DType::BF16)),
        "ceil" => |c| unary(c, |x| x.ceil()),
        "cos" => |c| unary(c, |x| x.cos()),
        "cosh" => |c| unary(c, |x| x.cosh()),
        "deg2rad" => |c| unary(c, |x| x * 1f64.to_radians()),
        "digamma" => |c| unary(c, |x| x.digamma()),
        "double" => |c| unary(c, |x| x.cast(DType::F64)),
        "erf" => |c| unary(c, |x| x.erf()),
        "erfc" => |c| unary(c, |x| x.erfc()),
        "erfinv" => |c| unary(c, |x| x.erfinv()),
        "exp" => |c| unary(c, |x| x.exp()),
        "exp2" => |c| unary(c, |x| x.exp2()),
        "expm1" => |c| unary(c, |x| x.expm1()),
        "float" => |c| unary(c, |x| x.cast(DType::F32)),
        "floor" => |c| unary(c, |x| x.floor()),
        "frac" => |c| unary(c, |x| x - x.trunc()),
        "half" => |c| unary(c, |x| x.cast(DType::F16)),
        "lgamma" => |c| unary(c, |x| x.lgamma()),
        "log" => |c| unary(c, |x| x.log()),
        "log10" => |c| unary(c, |x| x.log10()),
        "log1p" => |c| unary(c, |x| x.log1p()),
        "log2" => |c| unary(c, |x| x.log2()),
        "neg" => |c| unary(c, |x| -x),
        "positive" => |c| unary(c, |x| x),
        "rad2deg" => |c| unary(c, |x| x * 1f64.to_degrees()),
        "reciprocal" => |c| unary(c, |x| x.reciprocal()),
        "rsqrt" => |c| unary(c, |x| x.rsqrt()),
        "sigmoid" => |c| unary(c, |x| x.sigmoid()),
        // PyTorch's is 0 for NaN.
        "sign" | "sgn" => |c| unary(c, |x| x.is_nan().select(0.0, x).sign()),
        "sin" => |c| unary(c, |x| x.sin()),
        "sinc" => |c| unary(c, |x| x.sinc()),
        "sinh" => |c| unary(c, |x| x.sinh()),
        "sqrt" => |c| unary(c, |x| x.sqrt()),
        "square" => |c| unary(c, |x| x.square()),
        "tan" => |c| unary(c, |x| x.tan()),
        "tanh" => |c| unary(c, |x| x.tanh()),
        "trunc" => |c| unary(c, |x| x.trunc()),
        _ => return None,
    };
    Some(mapping)
}

fn two(op: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "add" => |c| {
            let alpha = scale(c)?;
            binary(c, |a, b| a + b * alpha)
        },
        "atan2" => |c| binary(c, |a, b| a.atan2(b)),
        "copysign" => |c| binary(c, |a, b| a.copysign(b)),
        "div" => |c| match c.text(usize::MAX, "rounding_mode", "none")? {
            "trunc" => binary(c, |a, b| (a / b).trunc()),
            "floor" => binary(c, |a, b| a.div_floor(b)),
            _ => binary(c, |a, b| a / b),
        },
        "float_power" => |c| binary(c, |a, b| a.cast(DType::F64).pow(b.cast(DType::F64))),
        "fmax" => |c| binary(c, |a, b| a.fmax(b)),
        "fmin" => |c| binary(c, |a, b| a.fmin(b)),
        "fmod" => |c| binary(c, |a, b| a % b),
        "hypot" => |c| binary(c, |a, b| a.hypot(b)),
        "ldexp" => |c| binary(c, |a, b| a * b.exp2()),
        "logaddexp" => |c| binary(c, |a, b| a.log_add_exp(b)),
        "logaddexp2" => |c| binary(c, |a, b| (a * LN_2).log_add_exp(b * LN_2) * (1.0 / LN_2)),
        "maximum" => |c| binary(c, |a, b| a.maximum(b)),
        "minimum" => |c| binary(c, |a, b| a.minimum(b)),
        "mul" => |c| binary(c, |a, b| a * b),
        "pow" => |c| binary(c, |a, b| a.pow(b)),
        "remainder" => |c| binary(c, |a, b| a.remainder(b)),
        "rsub" => |c| {
            let alpha = scale(c)?;
            binary(c, |a, b| b - a * alpha)
        },
        "sub" => |c| {
            let alpha = scale(c)?;
            binary(c, |a, b| a - b * alpha)
        },
        "xlogy" => |c| binary(c, |a, b| a.xlogy(b)),
        _ => return None,
    };
    Some(mapping)
}

/// `alpha`, which multiplies what is added or taken away.
fn scale(c: &Call<'_, '_>) -> Result<f64, Unsupported> {
    c.float(usize::MAX, "alpha", 1.0)
}

fn several(op: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "addcdiv" => |c| {
            let [x, a, b] = three(c, "tensor1", "tensor2")?;
            Ok(vec![x + a / b * c.float(usize::MAX, "value", 1.0)?])
        },
        "addcmul" => |c| {
            let [x, a, b] = three(c, "tensor1", "tensor2")?;
            Ok(vec![x + a * b * c.float(usize::MAX, "value", 1.0)?])
        },
        "clamp" => |c| {
            let low = c.has(1, "min").then(|| c.argument(1, "min"));
            let high = c.has(2, "max").then(|| c.argument(2, "max"));
            let low = low.unwrap_or(Ok(Argument::Number(f64::NEG_INFINITY, DType::Bool)))?;
            let high = high.unwrap_or(Ok(Argument::Number(f64::INFINITY, DType::Bool)))?;
            let [x, low, high] = promoted(c, [c.argument(0, "input")?, low, high]);
            Ok(vec![x.clamp(low, high)])
        },
        "clamp_max" => |c| {
            let [x, high] = promoted(c, [c.argument(0, "input")?, c.argument(1, "max")?]);
            Ok(vec![x.clamp(f64::NEG_INFINITY, high)])
        },
        "clamp_min" => |c| {
            let [x, low] = promoted(c, [c.argument(0, "input")?, c.argument(1, "min")?]);
            Ok(vec![x.clamp(low, f64::INFINITY)])
        },
        "lerp" => |c| {
            let [x, end, weight] = three(c, "end", "weight")?;
            Ok(vec![x.lerp(end, weight)])
        },
        "logit" => |c| match c.float(1, "eps", f64::NAN)? {
            eps if eps.is_nan() => unary(c, |x| x.logit()),
            eps => unary(c, |x| {
                // The bounds may cross.
                let high = 1.0 - eps;
                let limited = x.gt(high).select(high, x);
                x.lt(eps).select(eps, limited).logit()
            }),
        },
        "nan_to_num" => |c| {
            let mut x = c.tensor(0, "input")?;
            if c.has(2, "posinf") {
                x = x.eq(f64::INFINITY).select(c.float(2, "posinf", 0.0)?, x);
            }
            if c.has(3, "neginf") {
                x = x
                    .eq(f64::NEG_INFINITY)
                    .select(c.float(3, "neginf", 0.0)?, x);
            }
            x = x.is_nan().select(c.float(1, "nan", 0.0)?, x);
            Ok(vec![x.nan_to_num()])
        },
        "round" => |c| match c.int(usize::MAX, "decimals", 0)? {
            0 => unary(c, |x| x.round()),
            decimals => {
                let scale = 10f64.powi(decimals.unsigned_abs() as i32);
                match decimals > 0 {
                    true => unary(c, |x| (x * scale).round() / scale),
                    false => unary(c, |x| (x / scale).round() * scale),
                }
            }
        },
        _ => return None,
    };
    Some(mapping)
}

fn three<'g>(c: &Call<'g, '_>, second: &str, third: &str) -> Result<[Tensor<'g>; 3], Unsupported> {
    let arguments = [
        c.argument(0, "input")?,
        c.argument(1, second)?,
        c.argument(2, third)?,
    ];
    Ok(promoted(c, arguments))
}

fn activation(op: &str) -> Option<Mapping> {
    let mapping: Mapping = match op.strip_prefix("nn.functional.").unwrap_or(op) {
        "celu" => |c| with(c, "alpha", 1.0, |x, alpha| x.celu(alpha)),
        "elu" => |c| with(c, "alpha", 1.0, |x, alpha| x.elu(alpha)),
        "gelu" => |c| match c.text(1, "approximate", "none")? {
            "tanh" => unary(c, |x| x.gelu_tanh()),
            _ => unary(c, |x| x.gelu()),
        },
        "glu" => |c| along(c, -1, |x, axis| x.glu(axis)),
        "hardshrink" => |c| with(c, "lambd", 0.5, |x, lambda| x.hard_shrink(lambda)),
        "hardsigmoid" => |c| in_place(c, |x| x.hard_sigmoid()),
        "hardswish" => |c| in_place(c, |x| x.hard_swish()),
        "hardtanh" => |c| {
            let (low, high) = (c.float(1, "min_val", -1.0)?, c.float(2, "max_val", 1.0)?);
            in_place(c, |x| x.ge(high).select(high, x.le(low).select(low, x)))
        },
        "leaky_relu" => |c| with(c, "negative_slope", 0.01, |x, slope| x.leaky_relu(slope)),
        "log_softmax" => |c| normalized(c, |x, axis| x.log_softmax(axis)),
        "logsigmoid" => |c| unary(c, |x| x.log_sigmoid()),
        "mish" => |c| in_place(c, |x| x.mish()),
        "prelu" => |c| {
            let (x, weight) = (c.tensor(0, "input")?, c.tensor(1, "weight")?);
            // One slope for all, or one for each channel.
            let shape = match (x.rank(), weight.shape().count()) {
                (0 | 1, _) | (_, 1) => vec![],
                (rank, channels) => {
                    let mut shape = vec![1; rank];
                    shape[1] = channels as isize;
                    shape
                }
            };
            Ok(vec![x.prelu(weight.reshape(shape))])
        },
        "relu" => |c| in_place(c, |x| x.relu()),
        "relu6" => |c| in_place(c, |x| x.relu6()),
        "selu" => |c| in_place(c, |x| x.selu()),
        "silu" => |c| in_place(c, |x| x.silu()),
        "softmax" => |c| normalized(c, |x, axis| x.softmax(axis)),
        "softmin" => |c| normalized(c, |x, axis| (-x).softmax(axis)),
        "softplus" => |c| {
            let (beta, threshold) = (c.float(1, "beta", 1.0)?, c.float(2, "threshold", 20.0)?);
            unary(c, |x| {
                let scaled = x * beta;
                let linear = scaled.gt(threshold);
                linear.select(x, linear.select(0.0, scaled).softplus() * (1.0 / beta))
            })
        },
        "softshrink" => |c| with(c, "lambd", 0.5, |x, lambda| x.soft_shrink(lambda)),
        "softsign" => |c| unary(c, |x| x.softsign()),
        "tanhshrink" => |c| unary(c, |x| x.tanh_shrink()),
        "threshold" => |c| {
            let (from, value) = (c.float(1, "threshold", 0.0)?, c.float(2, "value", 0.0)?);
            in_place(c, |x| x.le(from).select(value, x))
        },
        _ => return None,
    };
    Some(mapping)
}

/// A function that PyTorch would also compute in place.
fn in_place<'g>(c: &Call<'g, '_>, function: impl FnOnce(Tensor<'g>) -> Tensor<'g>) -> Outputs<'g> {
    match c.flag(usize::MAX, "inplace", false)? {
        true => unsupported("in place"),
        false => unary(c, function),
    }
}

/// A function with an attribute.
fn with<'g>(
    c: &Call<'g, '_>,
    name: &str,
    default: f64,
    function: impl FnOnce(Tensor<'g>, f64) -> Tensor<'g>,
) -> Outputs<'g> {
    let attribute = c.float(1, name, default)?;
    in_place(c, |x| function(x, attribute))
}

/// A softmax or one like it, in the type that may be asked for.
fn normalized<'g>(
    c: &Call<'g, '_>,
    function: impl FnOnce(Tensor<'g>, i32) -> Tensor<'g>,
) -> Outputs<'g> {
    let (x, axis) = (in_dtype(c, c.tensor(0, "input")?)?, c.axis(1, "dim", -1)?);
    Ok(lined(x, |x| vec![function(x, axis)]))
}
