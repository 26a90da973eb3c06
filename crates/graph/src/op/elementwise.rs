//! Elementwise functions: one method for each entry of the scalar table, and conversion of types.

use std::panic::Location;

use backprop_core::{Class, DType, Place, Scalar, Shape};

use crate::graph::{Graph, bad_attribute, bad_dtype, bad_shape};
use crate::ir::Op;
use crate::op::catalogue::{ALL, Entry, POSITIVE, entries, pairs, reals, unary, within};
use crate::operand::Operand;
use crate::tensor::Tensor;

impl Graph {
    /// Applies a function of the scalar table, with operands broadcast to one shape.
    pub(crate) fn elementwise<'g>(
        &'g self,
        function: Scalar,
        operands: &[Tensor<'g>],
        place: Place,
    ) -> Tensor<'g> {
        let mut shapes = operands.iter().map(|x| x.shape());
        let common = shapes.try_fold(Shape::SCALAR, |common, shape| common.broadcast(&shape));
        let same_graph = operands.iter().all(|x| std::ptr::eq(x.graph, self));
        let broadcast: Vec<Tensor<'g>> = match common {
            Some(shape) if same_graph => self.first_error(|| {
                let to_common = |x: &Tensor<'g>| x.broadcast_from(shape, place);
                operands.iter().map(to_common).collect()
            }),
            _ => operands.to_vec(),
        };
        let name = function.name();
        self.apply(&name, &broadcast, place, |types| {
            let shape = common.ok_or_else(|| {
                let shapes: Vec<String> = types.iter().map(|t| t.1.to_string()).collect();
                bad_shape(
                    &name,
                    format!("shapes do not fit, {}", shapes.join(" and ")),
                )
                .help("axes are aligned at the end and must be equal or 1")
            })?;
            let dtypes: Vec<DType> = types.iter().map(|t| t.0).collect();
            let dtype = function.result(&dtypes).ok_or_else(|| {
                let names: Vec<&str> = dtypes.iter().map(|d| d.name()).collect();
                let help = match function.class() {
                    Class::Real => "convert with `.cast(F32)` first",
                    Class::Logic => "compare first, as in `x.ne(0)`",
                    _ => "convert one side with `.cast(..)`",
                };
                bad_dtype(
                    &name,
                    format!("element types {} do not fit", names.join(" and ")),
                )
                .help(help)
            })?;
            Ok((Op::Scalar(function), (dtype, shape)))
        })
    }
}

pub(super) fn vjp<'g>(
    function: Scalar,
    x: &[Tensor<'g>],
    y: Tensor<'g>,
    g: Tensor<'g>,
) -> Vec<Option<Tensor<'g>>> {
    let float = |k: usize| x[k].dtype().is_float();
    (0..x.len())
        .map(|k| function.vjp(k, x, y, g).filter(|_| float(k)))
        .collect()
}

macro_rules! functions {
    ($($(#[$doc:meta])* $method:ident $function:ident;)*) => {
        impl<'g> Tensor<'g> { $(
            $(#[$doc])*
            #[track_caller]
            #[must_use]
            pub fn $method(self) -> Tensor<'g> {
                self.graph.elementwise(Scalar::$function, &[self], Location::caller())
            }
        )* }
    };
}
functions! {
    /// The absolute value; gradient 0 at 0.
    abs Abs;
    /// -1, 0 or 1; gradient 0.
    sign Sign;
    /// Rounded down; gradient 0.
    floor Floor;
    /// Rounded up; gradient 0.
    ceil Ceil;
    /// Rounded to the nearest integer, halves to even; gradient 0.
    round Round;
    /// Rounded towards zero; gradient 0.
    trunc Trunc;
    /// `e^x`.
    exp Exp;
    /// `2^x`.
    exp2 Exp2;
    /// `e^x - 1`.
    expm1 Expm1;
    /// The natural logarithm.
    log Log;
    /// The logarithm to base 2.
    log2 Log2;
    /// The logarithm to base 10.
    log10 Log10;
    /// `log(1 + x)`.
    log1p Log1p;
    /// The square root.
    sqrt Sqrt;
    /// `1 / sqrt(x)`.
    rsqrt Rsqrt;
    /// `1 / x`.
    reciprocal Reciprocal;
    /// `x^2`.
    square Square;
    /// The sine.
    sin Sin;
    /// The cosine.
    cos Cos;
    /// The tangent.
    tan Tan;
    /// The inverse sine.
    asin Asin;
    /// The inverse cosine.
    acos Acos;
    /// The inverse tangent.
    atan Atan;
    /// The hyperbolic sine.
    sinh Sinh;
    /// The hyperbolic cosine.
    cosh Cosh;
    /// The hyperbolic tangent.
    tanh Tanh;
    /// The inverse hyperbolic sine.
    asinh Asinh;
    /// The inverse hyperbolic cosine.
    acosh Acosh;
    /// The inverse hyperbolic tangent.
    atanh Atanh;
    /// The error function.
    erf Erf;
    /// `1 - erf(x)`.
    erfc Erfc;
    /// The inverse of [`erf`](Tensor::erf): infinite at -1 and 1, NaN beyond.
    erfinv Erfinv;
    /// The logarithm of the magnitude of the gamma function.
    lgamma Lgamma;
    /// The derivative of [`lgamma`](Tensor::lgamma).
    digamma Digamma;
    /// `1 / (1 + e^-x)`.
    sigmoid Sigmoid;
    /// `log(1 + e^x)`.
    softplus Softplus;
    /// `max(x, 0)`; gradient 0 at 0.
    relu Relu;
    /// Whether a truth value does not hold.
    logical_not Not;
}

macro_rules! binary_functions {
    ($($(#[$doc:meta])* $method:ident $function:ident;)*) => {
        impl<'g> Tensor<'g> { $(
            $(#[$doc])*
            #[track_caller]
            #[must_use]
            pub fn $method(self, right: impl Operand<'g>) -> Tensor<'g> {
                let place = Location::caller();
                let right = right.on(self.graph, Some(self.dtype()), place);
                self.graph.elementwise(Scalar::$function, &[self, right], place)
            }
        )* }
    };
}
binary_functions! {
    /// This to the power of the other.
    pow Pow;
    /// The larger one; the gradient is shared equally at ties.
    maximum Max;
    /// The smaller one; the gradient is shared equally at ties.
    minimum Min;
    /// The angle of the point (`right`, `self`).
    atan2 Atan2;
    /// `sqrt(self^2 + right^2)` without overflow.
    hypot Hypot;
    /// The magnitude of this with the sign of the other.
    copysign Copysign;
    /// Whether equal.
    eq Eq;
    /// Whether different.
    ne Ne;
    /// Whether less.
    lt Lt;
    /// Whether less or equal.
    le Le;
    /// Whether greater.
    gt Gt;
    /// Whether greater or equal.
    ge Ge;
    /// Whether both hold.
    logical_and And;
    /// Whether either holds.
    logical_or Or;
}

impl<'g> Tensor<'g> {
    /// `a` where this truth value holds, `b` elsewhere. The branch not taken gets no gradient, not
    /// even through a NaN in it.
    #[track_caller]
    #[must_use]
    pub fn select(self, a: impl Operand<'g>, b: impl Operand<'g>) -> Tensor<'g> {
        let place = Location::caller();
        // A number takes the type of the other side.
        let a_first = a.on(self.graph, None, place);
        let b = b.on(self.graph, Some(a_first.dtype()), place);
        let a = match a_first.constant_value() {
            Some(value) if a_first.dtype() != b.dtype() => {
                value.on(self.graph, Some(b.dtype()), place)
            }
            _ => a_first,
        };
        self.graph.elementwise(Scalar::Where, &[self, a, b], place)
    }

    /// Limited to `low..=high`, to `high` where they cross. At a bound that is a number the gradient
    /// passes; with one that is a tensor it is shared equally.
    #[track_caller]
    #[must_use]
    pub fn clamp(self, low: impl Operand<'g>, high: impl Operand<'g>) -> Tensor<'g> {
        let (place, name, like) = (Location::caller(), "clamp", Some(self.dtype()));
        let (low, high) = (
            low.on(self.graph, like, place),
            high.on(self.graph, like, place),
        );
        self.graph.compose(name, &[self, low, high], place, || {
            let numbers = [low, high].map(|bound| bound.constant_value());
            if let [Some(low), Some(high)] = numbers
                && (low > high || low.is_nan() || high.is_nan())
            {
                return Err(bad_attribute(name, format!("to {low}..={high}")));
            }
            let raised = match numbers[0] {
                Some(low) => self.lt(low).select(low, self),
                None => self.maximum(low),
            };
            Ok(match numbers[1] {
                Some(high) => raised.gt(high).select(high, raised),
                None => raised.minimum(high),
            })
        })
    }

    /// The same numbers as elements of `dtype`: rounded to nearest even between floats, cut off
    /// towards zero and saturated from floats to integers, compared with 0 to truth values. The
    /// gradient passes between floats.
    #[track_caller]
    #[must_use]
    pub fn cast(self, dtype: DType) -> Tensor<'g> {
        if self.dtype() == dtype {
            return self;
        }
        let cast = |types: &[(DType, Shape)]| Ok((Op::Cast, (dtype, types[0].1)));
        self.graph.apply("cast", &[self], Location::caller(), cast)
    }

    /// The same values, cut off from differentiation.
    #[track_caller]
    #[must_use]
    pub fn stop_gradient(self) -> Tensor<'g> {
        self.graph
            .apply("stop_gradient", &[self], Location::caller(), |types| {
                Ok((Op::Stop, types[0]))
            })
    }

    /// A number of this tensor's type and shape.
    #[track_caller]
    pub(crate) fn number(self, value: f64) -> Tensor<'g> {
        self.graph
            .constant(value, self.dtype(), self.shape(), Location::caller())
    }

    pub(super) fn constant_value(self) -> Option<f64> {
        self.graph.ir.borrow().node(self.id).constant()
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let positive = || within(POSITIVE, &[&[3, 5]]);
    let open = || within((-0.8, 0.8), &[&[3, 5]]);
    entries! {
        neg unary() => |x| -x[0];
        abs unary() => |x| x[0].abs();
        sign unary() => |x| x[0].sign() * x[0];
        floor unary() => |x| x[0].floor() * x[0];
        ceil unary() => |x| x[0].ceil() * x[0];
        round unary() => |x| x[0].round() * x[0];
        trunc unary() => |x| x[0].trunc() * x[0];
        exp unary() => |x| x[0].exp();
        exp2 unary() => |x| x[0].exp2();
        expm1 unary() => |x| x[0].expm1();
        log positive() => |x| x[0].log();
        log2 positive() => |x| x[0].log2();
        log10 positive() => |x| x[0].log10();
        log1p open() => |x| x[0].log1p();
        sqrt positive() => |x| x[0].sqrt();
        rsqrt positive() => |x| x[0].rsqrt();
        reciprocal positive() => |x| x[0].reciprocal();
        square unary() => |x| x[0].square();
        sin unary() => |x| x[0].sin();
        cos unary() => |x| x[0].cos();
        tan open() => |x| x[0].tan();
        asin open() => |x| x[0].asin();
        acos open() => |x| x[0].acos();
        atan unary() => |x| x[0].atan();
        sinh unary() => |x| x[0].sinh();
        cosh unary() => |x| x[0].cosh();
        tanh unary() => |x| x[0].tanh();
        asinh unary() => |x| x[0].asinh();
        acosh within((1.2, 3.0), &[&[3, 5]]) => |x| x[0].acosh();
        atanh open() => |x| x[0].atanh();
        erf unary() => |x| x[0].erf();
        erfc unary() => |x| x[0].erfc();
        erfinv open() => |x| x[0].erfinv();
        lgamma positive() => |x| x[0].lgamma();
        digamma positive() => |x| x[0].digamma();
        sigmoid unary() => |x| x[0].sigmoid();
        softplus unary() => |x| x[0].softplus();
        relu unary() => |x| x[0].relu();
        add pairs(ALL) => |x| x[0] + x[1];
        sub pairs(ALL) => |x| x[0] - x[1];
        mul pairs(ALL) => |x| x[0] * x[1];
        div pairs(POSITIVE) => |x| x[0] / x[1];
        rem pairs(POSITIVE) => |x| x[0] % x[1];
        pow pairs(POSITIVE) => |x| x[0].pow(x[1]);
        maximum pairs(ALL) => |x| x[0].maximum(x[1]);
        minimum pairs(ALL) => |x| x[0].minimum(x[1]);
        hypot pairs(POSITIVE) => |x| x[0].hypot(x[1]);
        copysign pairs(POSITIVE) => |x| x[0].copysign(-x[1]);
        atan2 pairs(POSITIVE) => |x| x[0].atan2(x[1]);
        select reals(&[&[2, 3], &[2, 3]]) => |x| x[0].gt(x[1]).select(x[0].exp(), x[1]);
        clamp unary() => |x| x[0].clamp(-0.5, 0.8);
        clamp_between pairs(ALL) => |x| x[0].clamp(x[1] - 0.6, x[1].square());
        cast unary() => |x| x[0].cast(DType::F64);
    }
}
