//! The table of elementwise functions: one entry holds everything there is to know about one.
//!
//! An entry gives the type rule, the interval on which tests try it, its value in `f64` (and on
//! integers, where it has one), its spelling in CUDA C, and the product of a cotangent `g` with each
//! partial derivative, which may use the operands, the result `y` and `g`. Because the Jacobian of
//! an elementwise function is diagonal, the same product serves the forward mode.
//!
//! Derivatives are generic over [`Calculus`]: with graph tensors they build nodes, with `f64` they
//! compute, so that one loop over [`Scalar::ALL`] checks all of them against finite differences.
//! Values are those of `libm` for Rust, because the system's functions differ between systems.
//! Where a derivative jumps, the table follows PyTorch: 0 for the steps, shared equally at the ties
//! of `max` and `min`, 0 at `relu(0)` and `abs(0)`.

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::{DType, special};

/// How a function's operand types relate to its result type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// Numbers of one type to the same type.
    Arithmetic,
    /// Floating-point numbers of one type to the same type.
    Real,
    /// Two numbers (or truth values) of one type to a truth value.
    Comparison,
    /// Truth values to a truth value.
    Logic,
    /// A truth value and two of one type to that type.
    Selection,
}

/// What derivatives are written in: graph tensors, or plain `f64`.
pub trait Calculus:
    Copy
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Add<f64, Output = Self>
    + Sub<f64, Output = Self>
    + Mul<f64, Output = Self>
{
    /// Applies a function of the table.
    fn apply(function: Scalar, operands: &[Self]) -> Self;
    /// The constant `value`, of this value's type and shape.
    fn like(self, value: f64) -> Self;
    /// The same value, cut off from differentiation: what the branches of a derivative go by, so
    /// that its own derivative is zero where it jumps.
    fn stop(self) -> Self;
}

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

macro_rules! scalars {
    ($(
        $(#[$doc:meta])*
        $Name:ident($($x:ident),+) -> $y:ident: $class:ident on $domain:expr => {
            eval: $eval:expr,
            $(int: $int:expr,)?
            cuda: $cuda:literal,
            vjp($g:ident): [$($vjp:expr),*]
        }
    )*) => {
        /// An elementwise function: one entry of a table holds its type rule, its value, its CUDA
        /// spelling and its derivative. Where a derivative jumps, the table follows PyTorch: 0 for
        /// the steps, shared equally at the ties of `max` and `min`, 0 at `relu(0)` and `abs(0)`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "an entry without a doc comment is named by its formula")]
        pub enum Scalar { $($(#[$doc])* $Name,)* }

        impl Scalar {
            /// Every function of the table.
            pub const ALL: &[Scalar] = &[$(Scalar::$Name,)*];

            const NAMES: &[&str] = &[$(stringify!($Name),)*];

            /// The number of operands.
            #[must_use]
            pub const fn arity(self) -> usize {
                match self { $(Scalar::$Name => [$(stringify!($x)),+].len(),)* }
            }

            /// The type rule.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Scalar::$Name => Class::$class,)* }
            }

            /// Whether there is a derivative (with respect to floating-point operands).
            #[must_use]
            pub const fn is_differentiable(self) -> bool {
                match self { $(Scalar::$Name => {
                    const RULES: &[&str] = &[$(stringify!($vjp)),*];
                    !RULES.is_empty()
                })* }
            }

            /// The interval from which tests draw every operand.
            #[must_use]
            pub const fn domain(self) -> (f64, f64) {
                match self { $(Scalar::$Name => $domain,)* }
            }

            /// The spelling in CUDA C, with `{0}`, `{1}`, `{2}` for the operands.
            #[must_use]
            pub const fn cuda(self) -> &'static str {
                match self { $(Scalar::$Name => $cuda,)* }
            }

            /// The value in `f64`; truth values are 0 and 1. NaN for the wrong number of operands.
            #[must_use]
            #[allow(clippy::redundant_closure_call, reason = "one shape for all entries")]
            pub fn eval(self, operands: &[f64]) -> f64 {
                match (self, operands) {
                    $((Scalar::$Name, &[$($x),+]) => $eval,)*
                    _ => f64::NAN,
                }
            }

            /// The value on integers (truth values are 0 and 1), for functions that have one.
            /// Sums and products wrap; dividing by zero gives zero.
            #[must_use]
            #[allow(unused_variables, reason = "functions of reals alone use none")]
            pub fn eval_int(self, operands: &[i64]) -> Option<i64> {
                match (self, operands) {
                    $((Scalar::$Name, &[$($x),+]) => optional!($($int)?),)*
                    _ => None,
                }
            }

            /// Whether the function takes integers or truth values.
            #[must_use]
            pub fn takes_integers(self) -> bool {
                self.eval_int(&[1, 1, 1][..self.arity()]).is_some()
            }

            /// The cotangent `g` of the result times the partial derivative by operand `wrt`; `None`
            /// where there is no derivative.
            #[allow(unused_variables, reason = "a rule uses what it needs")]
            pub fn vjp<C: Calculus>(self, wrt: usize, operands: &[C], y: C, g: C) -> Option<C> {
                match (self, operands) {
                    $((Scalar::$Name, &[$($x),+]) => {
                        let ($y, $g) = (y, g);
                        let rules: &[&dyn Fn() -> C] = &[$(&|| $vjp),*];
                        rules.get(wrt).map(|rule| rule())
                    })*
                    _ => None,
                }
            }
        }
    };
}

const R: f64 = std::f64::consts::FRAC_2_SQRT_PI;

scalars! {
    Neg(x) -> y: Arithmetic on (-2.0, 2.0) => {
        eval: -x, int: x.wrapping_neg(), cuda: "(-{0})", vjp(g): [-g] }
    Abs(x) -> y: Arithmetic on (-2.0, 2.0) => {
        eval: x.abs(), int: x.wrapping_abs(), cuda: "fabs({0})", vjp(g): [flip(x, g)] }
    /// -1, 0 or 1; NaN stays NaN.
    Sign(x) -> y: Arithmetic on (-2.0, 2.0) => {
        eval: if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x }, int: x.signum(),
        cuda: "({0} > 0 ? 1 : {0} < 0 ? -1 : {0})", vjp(g): [g.like(0.0)] }
    Floor(x) -> y: Real on (-2.0, 2.0) => {
        eval: x.floor(), cuda: "floor({0})", vjp(g): [g.like(0.0)] }
    Ceil(x) -> y: Real on (-2.0, 2.0) => {
        eval: x.ceil(), cuda: "ceil({0})", vjp(g): [g.like(0.0)] }
    /// To the nearest integer, halves to even.
    Round(x) -> y: Real on (-2.0, 2.0) => {
        eval: x.round_ties_even(), cuda: "rint({0})", vjp(g): [g.like(0.0)] }
    /// To the nearest integer towards zero.
    Trunc(x) -> y: Real on (-2.0, 2.0) => {
        eval: x.trunc(), cuda: "trunc({0})", vjp(g): [g.like(0.0)] }
    Exp(x) -> y: Real on (-2.0, 2.0) => {
        eval: libm::exp(x), cuda: "exp({0})", vjp(g): [g * y] }
    /// 2 to the power `x`.
    Exp2(x) -> y: Real on (-2.0, 2.0) => {
        eval: libm::exp2(x), cuda: "exp2({0})", vjp(g): [g * y * std::f64::consts::LN_2] }
    /// `exp(x) - 1` without cancellation near 0.
    Expm1(x) -> y: Real on (-2.0, 2.0) => {
        eval: libm::expm1(x), cuda: "expm1({0})", vjp(g): [g * (y + 1.0)] }
    /// The natural logarithm.
    Log(x) -> y: Real on (0.2, 3.0) => {
        eval: libm::log(x), cuda: "log({0})", vjp(g): [g / x] }
    Log2(x) -> y: Real on (0.2, 3.0) => {
        eval: libm::log2(x), cuda: "log2({0})", vjp(g): [g * std::f64::consts::LOG2_E / x] }
    Log10(x) -> y: Real on (0.2, 3.0) => {
        eval: libm::log10(x), cuda: "log10({0})", vjp(g): [g * std::f64::consts::LOG10_E / x] }
    /// `log(1 + x)` without cancellation near 0.
    Log1p(x) -> y: Real on (-0.8, 2.0) => {
        eval: libm::log1p(x), cuda: "log1p({0})", vjp(g): [g / (x + 1.0)] }
    Sqrt(x) -> y: Real on (0.2, 3.0) => {
        eval: x.sqrt(), cuda: "sqrt({0})", vjp(g): [g * 0.5 / y] }
    /// `1 / sqrt(x)`.
    Rsqrt(x) -> y: Real on (0.2, 3.0) => {
        eval: 1.0 / x.sqrt(), cuda: "(1 / sqrt({0}))", vjp(g): [g * -0.5 * (y * y * y)] }
    /// `1 / x`.
    Reciprocal(x) -> y: Real on (0.2, 3.0) => {
        eval: 1.0 / x, cuda: "(1 / {0})", vjp(g): [-(g * (y * y))] }
    Square(x) -> y: Arithmetic on (-2.0, 2.0) => {
        eval: x * x, int: x.wrapping_mul(x), cuda: "({0} * {0})", vjp(g): [g * (x * 2.0)] }
    Sin(x) -> y: Real on (-2.0, 2.0) => {
        eval: libm::sin(x), cuda: "sin({0})", vjp(g): [g * C::apply(Scalar::Cos, &[x])] }
    Cos(x) -> y: Real on (-2.0, 2.0) => {
        eval: libm::cos(x), cuda: "cos({0})", vjp(g): [-(g * C::apply(Scalar::Sin, &[x]))] }
    Tan(x) -> y: Real on (-1.2, 1.2) => {
        eval: libm::tan(x), cuda: "tan({0})", vjp(g): [g * (y * y + 1.0)] }
    Asin(x) -> y: Real on (-0.8, 0.8) => {
        eval: libm::asin(x), cuda: "asin({0})", vjp(g): [g * rsqrt(-(x * x) + 1.0)] }
    Acos(x) -> y: Real on (-0.8, 0.8) => {
        eval: libm::acos(x), cuda: "acos({0})", vjp(g): [-(g * rsqrt(-(x * x) + 1.0))] }
    Atan(x) -> y: Real on (-2.0, 2.0) => {
        eval: libm::atan(x), cuda: "atan({0})", vjp(g): [g / (x * x + 1.0)] }
    Sinh(x) -> y: Real on (-2.0, 2.0) => {
        eval: libm::sinh(x), cuda: "sinh({0})", vjp(g): [g * C::apply(Scalar::Cosh, &[x])] }
    Cosh(x) -> y: Real on (-2.0, 2.0) => {
        eval: libm::cosh(x), cuda: "cosh({0})", vjp(g): [g * C::apply(Scalar::Sinh, &[x])] }
    Tanh(x) -> y: Real on (-2.0, 2.0) => {
        eval: libm::tanh(x), cuda: "tanh({0})", vjp(g): [g * (-(y * y) + 1.0)] }
    Asinh(x) -> y: Real on (-2.0, 2.0) => {
        eval: libm::asinh(x), cuda: "asinh({0})", vjp(g): [g * rsqrt(x * x + 1.0)] }
    Acosh(x) -> y: Real on (1.2, 3.0) => {
        eval: libm::acosh(x), cuda: "acosh({0})", vjp(g): [g * rsqrt(x * x - 1.0)] }
    Atanh(x) -> y: Real on (-0.8, 0.8) => {
        eval: libm::atanh(x), cuda: "atanh({0})", vjp(g): [g / (-(x * x) + 1.0)] }
    /// The error function.
    Erf(x) -> y: Real on (-2.0, 2.0) => {
        eval: libm::erf(x), cuda: "erf({0})", vjp(g): [g * C::apply(Scalar::Exp, &[-(x * x)]) * R] }
    /// `1 - erf(x)` without cancellation for large `x`.
    Erfc(x) -> y: Real on (-2.0, 2.0) => {
        eval: libm::erfc(x), cuda: "erfc({0})", vjp(g): [g * C::apply(Scalar::Exp, &[-(x * x)]) * -R] }
    /// The inverse of the error function.
    Erfinv(x) -> y: Real on (-0.8, 0.8) => {
        eval: special::erfinv(x), cuda: "erfinv({0})",
        vjp(g): [g * C::apply(Scalar::Exp, &[y * y]) * (1.0 / R)] }
    /// The logarithm of the gamma function's magnitude.
    Lgamma(x) -> y: Real on (0.2, 3.0) => {
        eval: libm::lgamma(x), cuda: "lgamma({0})", vjp(g): [g * C::apply(Scalar::Digamma, &[x])] }
    /// The derivative of `lgamma`. CUDA has none: a backend defines it, by the evaluation here.
    Digamma(x) -> y: Real on (0.2, 3.0) => {
        eval: special::digamma(x), cuda: "digamma({0})",
        vjp(g): [g * C::apply(Scalar::Polygamma, &[x.like(1.0), x])] }
    /// `1 / (1 + exp(-x))`.
    Sigmoid(x) -> y: Real on (-2.0, 2.0) => {
        eval: 1.0 / (1.0 + libm::exp(-x)), cuda: "(1 / (1 + exp(-{0})))", vjp(g): [g * (y * (-y + 1.0))] }
    /// `log(1 + exp(x))` without overflow.
    Softplus(x) -> y: Real on (-2.0, 2.0) => {
        eval: if x.is_nan() { x } else { x.max(0.0) + libm::log1p(libm::exp(-x.abs())) },
        cuda: "(({0} > 0 || {0} != {0} ? {0} : 0) + log1p(exp(-fabs({0}))))",
        vjp(g): [g * C::apply(Scalar::Sigmoid, &[x])] }
    /// `max(x, 0)`; NaN stays NaN.
    Relu(x) -> y: Arithmetic on (-2.0, 2.0) => {
        eval: if x <= 0.0 { 0.0 } else { x }, int: x.max(0), cuda: "({0} <= 0 ? 0 : {0})",
        vjp(g): [select(le(y, y.like(0.0)), g.like(0.0), g)] }

    Add(a, b) -> y: Arithmetic on (-2.0, 2.0) => {
        eval: a + b, int: a.wrapping_add(b), cuda: "({0} + {1})", vjp(g): [g, g] }
    Sub(a, b) -> y: Arithmetic on (-2.0, 2.0) => {
        eval: a - b, int: a.wrapping_sub(b), cuda: "({0} - {1})", vjp(g): [g, -g] }
    Mul(a, b) -> y: Arithmetic on (-2.0, 2.0) => {
        eval: a * b, int: a.wrapping_mul(b), cuda: "({0} * {1})", vjp(g): [g * b, g * a] }
    /// The quotient; that of integers is cut off towards zero.
    Div(a, b) -> y: Arithmetic on (0.2, 3.0) => {
        eval: a / b, int: a.checked_div(b).unwrap_or(0), cuda: "({0} / {1})",
        vjp(g): [g / b, -(g * y / b)] }
    /// The remainder with the sign of the dividend, as Rust's `%`.
    Rem(a, b) -> y: Arithmetic on (0.2, 3.0) => {
        eval: a % b, int: a.checked_rem(b).unwrap_or(0), cuda: "fmod({0}, {1})",
        vjp(g): [g, -(g * C::apply(Scalar::Trunc, &[a / b]))] }
    /// `a` to the power `b`.
    Pow(a, b) -> y: Real on (0.2, 3.0) => {
        eval: libm::pow(a, b), cuda: "pow({0}, {1})",
        vjp(g): [
            select(eq(b, b.like(0.0)), g.like(0.0), g * (b * C::apply(Scalar::Pow, &[a, b - 1.0]))),
            select(vanishes(a, b), g.like(0.0), g * (y * C::apply(Scalar::Log, &[a])))
        ] }
    /// The angle of the point (`b`, `a`).
    Atan2(a, b) -> y: Real on (0.2, 3.0) => {
        eval: libm::atan2(a, b), cuda: "atan2({0}, {1})",
        vjp(g): [g * (b / square_norm(a, b)), -(g * (a / square_norm(a, b)))] }
    /// `sqrt(a^2 + b^2)` without overflow.
    Hypot(a, b) -> y: Real on (0.2, 3.0) => {
        eval: libm::hypot(a, b), cuda: "hypot({0}, {1})", vjp(g): [g * (a / y), g * (b / y)] }
    /// The magnitude of `a` with the sign of `b` (IEEE 754: that of a zero and a NaN too).
    Copysign(a, b) -> y: Real on (0.2, 3.0) => {
        eval: a.copysign(b), cuda: "copysign({0}, {1})",
        vjp(g): [flip(a, flip(y, g)), g.like(0.0)] }
    /// The derivative of order `n` of `digamma`, with `n` rounded. CUDA has none, as of `digamma`.
    Polygamma(n, x) -> y: Real on (0.2, 3.0) => {
        eval: special::polygamma(n, x), cuda: "polygamma({0}, {1})",
        vjp(g): [g.like(0.0), g * C::apply(Scalar::Polygamma, &[n + 1.0, x])] }
    /// The larger one; NaN if either is.
    Max(a, b) -> y: Arithmetic on (-2.0, 2.0) => {
        eval: if a > b || a.is_nan() { a } else { b }, int: a.max(b),
        cuda: "({0} > {1} || {0} != {0} ? {0} : {1})",
        vjp(g): [winner(Scalar::Ge, a, b, g), winner(Scalar::Ge, b, a, g)] }
    /// The smaller one; NaN if either is.
    Min(a, b) -> y: Arithmetic on (-2.0, 2.0) => {
        eval: if a < b || a.is_nan() { a } else { b }, int: a.min(b),
        cuda: "({0} < {1} || {0} != {0} ? {0} : {1})",
        vjp(g): [winner(Scalar::Le, a, b, g), winner(Scalar::Le, b, a, g)] }
    /// `a * b + c` in one rounding.
    Fma(a, b, c) -> y: Real on (-2.0, 2.0) => {
        eval: a.mul_add(b, c), cuda: "fma({0}, {1}, {2})", vjp(g): [g * b, g * a, g] }

    Eq(a, b) -> y: Comparison on (-2.0, 2.0) => {
        eval: truth(a == b), int: i64::from(a == b), cuda: "({0} == {1})", vjp(g): [] }
    Ne(a, b) -> y: Comparison on (-2.0, 2.0) => {
        eval: truth(a != b), int: i64::from(a != b), cuda: "({0} != {1})", vjp(g): [] }
    Lt(a, b) -> y: Comparison on (-2.0, 2.0) => {
        eval: truth(a < b), int: i64::from(a < b), cuda: "({0} < {1})", vjp(g): [] }
    Le(a, b) -> y: Comparison on (-2.0, 2.0) => {
        eval: truth(a <= b), int: i64::from(a <= b), cuda: "({0} <= {1})", vjp(g): [] }
    Gt(a, b) -> y: Comparison on (-2.0, 2.0) => {
        eval: truth(a > b), int: i64::from(a > b), cuda: "({0} > {1})", vjp(g): [] }
    Ge(a, b) -> y: Comparison on (-2.0, 2.0) => {
        eval: truth(a >= b), int: i64::from(a >= b), cuda: "({0} >= {1})", vjp(g): [] }
    And(a, b) -> y: Logic on (-2.0, 2.0) => {
        eval: truth(a != 0.0 && b != 0.0), int: i64::from(a != 0 && b != 0), cuda: "({0} && {1})",
        vjp(g): [] }
    Or(a, b) -> y: Logic on (-2.0, 2.0) => {
        eval: truth(a != 0.0 || b != 0.0), int: i64::from(a != 0 || b != 0), cuda: "({0} || {1})",
        vjp(g): [] }
    Not(a) -> y: Logic on (-2.0, 2.0) => {
        eval: truth(a == 0.0), int: i64::from(a == 0), cuda: "(!{0})", vjp(g): [] }
    /// `a` where `c` holds, `b` elsewhere; the branch not taken never reaches the gradient.
    Where(c, a, b) -> y: Selection on (-2.0, 2.0) => {
        eval: if c != 0.0 { a } else { b }, int: if c != 0 { a } else { b }, cuda: "({0} ? {1} : {2})",
        vjp(g): [g.like(0.0), select(c, g, g.like(0.0)), select(c, g.like(0.0), g)] }
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
/// `g` where `x` is positive, `-g` where it is negative, 0 elsewhere.
fn flip<C: Calculus>(x: C, g: C) -> C {
    let zero = g.like(0.0);
    let above = select(C::apply(Scalar::Gt, &[x.stop(), zero]), g, zero);
    select(C::apply(Scalar::Lt, &[x.stop(), zero]), -g, above)
}
fn rsqrt<C: Calculus>(x: C) -> C {
    C::apply(Scalar::Rsqrt, &[x])
}
fn le<C: Calculus>(a: C, b: C) -> C {
    C::apply(Scalar::Le, &[a.stop(), b])
}
fn eq<C: Calculus>(a: C, b: C) -> C {
    C::apply(Scalar::Eq, &[a.stop(), b.stop()])
}
fn select<C: Calculus>(c: C, a: C, b: C) -> C {
    C::apply(Scalar::Where, &[c, a, b])
}
/// `a^2 + b^2`, or 1 where both are 0.
fn square_norm<C: Calculus>(a: C, b: C) -> C {
    let sum = a * a + b * b;
    select(eq(sum, sum.like(0.0)), sum.like(1.0), sum)
}
/// Whether the power `b` of `a` is that of 0, with an exponent that gives no infinity.
fn vanishes<C: Calculus>(a: C, b: C) -> C {
    let zero = eq(a, a.like(0.0));
    C::apply(
        Scalar::And,
        &[zero, C::apply(Scalar::Ge, &[b.stop(), b.like(0.0)])],
    )
}
/// `g` where `a` beats `b`, half of it at a tie.
fn winner<C: Calculus>(holds: Scalar, a: C, b: C, g: C) -> C {
    let shared = select(eq(a, b), g * 0.5, g);
    select(C::apply(holds, &[a.stop(), b.stop()]), shared, g.like(0.0))
}

impl Scalar {
    /// The name in lower case, as in `log1p`.
    #[must_use]
    pub fn name(self) -> String {
        Scalar::NAMES[self as usize].to_lowercase()
    }

    /// The result type for these operand types, or `None` where the function does not take them.
    #[must_use]
    pub fn result(self, operands: &[DType]) -> Option<DType> {
        let (&last, rest) = operands.split_last()?;
        let numeric = last.is_float() || (last != DType::Bool && self.takes_integers());
        let alike = rest.iter().all(|&dtype| dtype == last);
        if operands.len() != self.arity() {
            return None;
        }
        match self.class() {
            Class::Arithmetic if alike && numeric => Some(last),
            Class::Real if alike && last.is_float() => Some(last),
            Class::Comparison if alike => Some(DType::Bool),
            Class::Logic if alike && last == DType::Bool => Some(DType::Bool),
            Class::Selection if operands[0] == DType::Bool && operands[1] == last => Some(last),
            _ => None,
        }
    }

    /// A rough cost beside an addition, by which fusion decides what is cheap to compute twice.
    #[must_use]
    pub fn cost(self) -> usize {
        match self {
            Scalar::Div | Scalar::Reciprocal | Scalar::Sqrt | Scalar::Rsqrt => 4,
            Scalar::Floor | Scalar::Ceil | Scalar::Round | Scalar::Trunc => 1,
            Scalar::Copysign | Scalar::Fma => 1,
            _ if self.class() == Class::Real => 10,
            _ => 1,
        }
    }
}

impl Calculus for f64 {
    fn apply(function: Scalar, operands: &[Self]) -> Self {
        function.eval(operands)
    }
    fn like(self, value: f64) -> Self {
        value
    }
    fn stop(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A spread of operand tuples from the function's domain.
    fn points(function: Scalar) -> Vec<Vec<f64>> {
        let (low, high) = function.domain();
        let at = |i: usize, k: usize| {
            let golden = (i as f64 * 0.618_034 + k as f64 * 0.377).fract();
            low + (high - low) * golden
        };
        (1..40)
            .map(|i| (0..function.arity()).map(|k| at(i, k)).collect())
            .collect()
    }

    #[test]
    fn derivatives_agree_with_finite_differences() {
        for &function in Scalar::ALL.iter().filter(|f| f.is_differentiable()) {
            for x in points(function) {
                for wrt in 0..function.arity() {
                    if function == Scalar::Where && wrt == 0 {
                        continue;
                    }
                    let h = 1e-6;
                    let shifted = |by: f64| {
                        let mut x = x.clone();
                        x[wrt] += by;
                        function.eval(&x)
                    };
                    let expected = (shifted(h) - shifted(-h)) / (2.0 * h);
                    let y = function.eval(&x);
                    let got = function.vjp(wrt, &x, y, 1.0).unwrap();
                    assert!(
                        (got - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                        "{function:?} by operand {wrt} at {x:?}: {got}, differences say {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn conventions_at_kinks() {
        let cases = [
            (Scalar::Max, 0, vec![1.0, 1.0], 0.5),
            (Scalar::Min, 1, vec![1.0, 1.0], 0.5),
            (Scalar::Relu, 0, vec![0.0], 0.0),
            (Scalar::Abs, 0, vec![0.0], 0.0),
            (Scalar::Round, 0, vec![0.5], 0.0),
            (Scalar::Pow, 0, vec![0.0, 0.0], 0.0),
            (Scalar::Pow, 1, vec![0.0, 2.0], 0.0),
            (Scalar::Where, 1, vec![0.0, f64::NAN, 1.0], 0.0),
        ];
        for (function, wrt, x, expected) in cases {
            let got = function.vjp(wrt, &x, function.eval(&x), 1.0);
            assert_eq!(got, Some(expected), "{function:?} at {x:?}");
        }
    }

    #[test]
    fn nan_is_never_hidden() {
        // Only the sign of the second operand counts.
        let all = Scalar::ALL.iter().filter(|&&f| f != Scalar::Copysign);
        for &function in all {
            if matches!(function.class(), Class::Arithmetic | Class::Real) {
                for k in 0..function.arity() {
                    let mut x = vec![0.5; function.arity()];
                    x[k] = f64::NAN;
                    assert!(function.eval(&x).is_nan(), "{function:?} hides a NaN");
                }
            }
        }
    }

    #[test]
    fn integers_agree_with_f64() {
        for &function in Scalar::ALL.iter().filter(|f| f.takes_integers()) {
            for (a, b, c) in [(3, 2, 1), (-7, 2, 5), (0, 0, 4), (1, -3, 0)] {
                let x = &[a, b, c][..function.arity()];
                let floats: Vec<f64> = x.iter().map(|&v| v as f64).collect();
                let expected = function.eval(&floats).trunc();
                if expected.is_finite() {
                    assert_eq!(
                        function.eval_int(x),
                        Some(expected as i64),
                        "{function:?} {x:?}"
                    );
                }
            }
        }
    }
}
