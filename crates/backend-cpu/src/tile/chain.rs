//! Pairs of instructions that run as one loop.
//!
//! Most of what a cheap instruction costs is bringing its operands into
//! registers and its result out of them. A result that only the next
//! instruction wants therefore stays in its register: `(a * b) + c` is one
//! step. It is still rounded in between, so the bits are those of two steps.

use std::marker::PhantomData;

use backprop_core::{Body, DType, Inst, Register, Scalar};

use super::functions::{
    Add, Algebra, Curve, Div, Erf, Exp, Mul, Sigmoid, Sub, Tanh, algebra_loop, curve_loop,
};
use super::{Lane, Loop};
use crate::Level;
use crate::simd::{Float, Float32, Real};

/// Where the inner instruction's result stands among the outer one's operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// An instruction that another one has taken in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inner {
    pub(super) register: Register,
    pub(super) side: Side,
}

/// `(a P b) Q c`.
struct OnLeft<P, Q>(PhantomData<(P, Q)>);
/// `c Q (a P b)`.
struct OnRight<P, Q>(PhantomData<(P, Q)>);

impl<P: Algebra, Q: Algebra> Algebra for OnLeft<P, Q> {
    const ARITY: usize = 3;
    #[inline(always)]
    fn apply<V: Float<Element: From<f32>>>(a: V, b: V, c: V) -> V {
        Q::apply(P::apply(a, b, b), c, c)
    }
}

impl<P: Algebra, Q: Algebra> Algebra for OnRight<P, Q> {
    const ARITY: usize = 3;
    #[inline(always)]
    fn apply<V: Float<Element: From<f32>>>(a: V, b: V, c: V) -> V {
        Q::apply(c, P::apply(a, b, b), c)
    }
}

/// `C(a P b)`.
struct After<P, C>(PhantomData<(P, C)>);
/// `C(a) * b`.
struct Times<C>(PhantomData<C>);

impl<P: Algebra, C: Curve> Curve for After<P, C> {
    const ARITY: usize = 2;
    #[inline(always)]
    fn apply<V: Float32>(a: V, b: V) -> V {
        let x = P::apply(a, b, b);
        C::apply(x, x)
    }
}

impl<C: Curve> Curve for Times<C> {
    const ARITY: usize = 2;
    #[inline(always)]
    fn apply<V: Float32>(a: V, b: V) -> V {
        C::apply(a, a).mul(b)
    }
}

/// The loop of two functions. Its operands are those of the inner one (twice
/// the same for a square), then the other one of the outer function.
pub(super) fn chained(
    (inner, outer): (Scalar, Scalar),
    side: Side,
    (lane, level): (Lane, Level),
) -> Option<Loop> {
    match lane {
        Lane::F32 => of_inner::<f32>(inner, (outer, side), level)
            .or_else(|| with_curve((inner, outer), level)),
        Lane::F64 => of_inner::<f64>(inner, (outer, side), level),
        _ => None,
    }
}

fn of_inner<T: Real + From<f32>>(
    inner: Scalar,
    outer: (Scalar, Side),
    level: Level,
) -> Option<Loop> {
    match inner {
        Scalar::Add => of_outer::<T, Add>(outer, level),
        Scalar::Sub => of_outer::<T, Sub>(outer, level),
        Scalar::Mul | Scalar::Square => of_outer::<T, Mul>(outer, level),
        Scalar::Div => of_outer::<T, Div>(outer, level),
        _ => None,
    }
}

fn of_outer<T: Real + From<f32>, P: Algebra>(
    (outer, side): (Scalar, Side),
    level: Level,
) -> Option<Loop> {
    Some(match (outer, side) {
        (Scalar::Add, _) => algebra_loop::<T, OnLeft<P, Add>>(level),
        (Scalar::Mul, _) => algebra_loop::<T, OnLeft<P, Mul>>(level),
        (Scalar::Sub, Side::Left) => algebra_loop::<T, OnLeft<P, Sub>>(level),
        (Scalar::Sub, Side::Right) => algebra_loop::<T, OnRight<P, Sub>>(level),
        (Scalar::Div, Side::Left) => algebra_loop::<T, OnLeft<P, Div>>(level),
        (Scalar::Div, Side::Right) => algebra_loop::<T, OnRight<P, Div>>(level),
        _ => return None,
    })
}

/// Pairs of which one is among the transcendental functions met most.
fn with_curve((inner, outer): (Scalar, Scalar), level: Level) -> Option<Loop> {
    fn of<C: Curve>(other: Scalar, level: Level) -> Option<Loop> {
        Some(match other {
            Scalar::Add => curve_loop::<After<Add, C>>(level),
            Scalar::Sub => curve_loop::<After<Sub, C>>(level),
            Scalar::Mul => curve_loop::<After<Mul, C>>(level),
            _ => return None,
        })
    }
    match (inner, outer) {
        (Scalar::Exp, Scalar::Mul) => Some(curve_loop::<Times<Exp>>(level)),
        (Scalar::Tanh, Scalar::Mul) => Some(curve_loop::<Times<Tanh>>(level)),
        (Scalar::Sigmoid, Scalar::Mul) => Some(curve_loop::<Times<Sigmoid>>(level)),
        (Scalar::Erf, Scalar::Mul) => Some(curve_loop::<Times<Erf>>(level)),
        (other, Scalar::Exp) => of::<Exp>(other, level),
        (other, Scalar::Tanh) => of::<Tanh>(other, level),
        (other, Scalar::Sigmoid) => of::<Sigmoid>(other, level),
        (other, Scalar::Erf) => of::<Erf>(other, level),
        _ => None,
    }
}

/// The pairs of a program: for each instruction the one it takes in, and which
/// ones are taken in.
#[derive(Debug)]
pub(super) struct Chains {
    pub(super) inner: Vec<Option<Inner>>,
    pub(super) taken: Vec<bool>,
}

impl Chains {
    /// Pairs instructions of a program and extends the lives of the operands
    /// of those taken in.
    pub(super) fn find(body: &Body, row_valued: &[bool], last_use: &mut [usize]) -> Chains {
        let code = body.program.code();
        let uses = uses(body, last_use);
        let mut chains = Chains {
            inner: vec![None; code.len()],
            taken: vec![false; code.len()],
        };
        for (at, &(inst, dtype)) in code.iter().enumerate() {
            let Inst::Apply(outer, _) = inst else {
                continue;
            };
            let is_float = matches!(dtype, DType::F32 | DType::F64);
            if last_use[at] == 0 || !is_float || inst.operands().len() > 2 {
                continue;
            }
            let candidate = |(&register, side): (&Register, Side)| {
                let p = register.index();
                let Inst::Apply(inner, _) = code[p].0 else {
                    return None;
                };
                let lane = Lane::of(dtype);
                let fits = uses[p] == 1
                    && chains.inner[p].is_none()
                    && row_valued[p] == row_valued[at]
                    && chained((inner, outer), side, (lane, Level::Scalar)).is_some();
                fits.then_some(Inner { register, side })
            };
            let mut sides = inst.operands().iter().zip([Side::Left, Side::Right]);
            if let Some(inner) = sides.find_map(candidate) {
                let p = inner.register.index();
                chains.inner[at] = Some(inner);
                chains.taken[p] = true;
                for operand in code[p].0.operands() {
                    let last = &mut last_use[operand.index()];
                    *last = (*last).max(at);
                }
            }
        }
        chains
    }
}

/// How often each register is read or stored.
fn uses(body: &Body, last_use: &[usize]) -> Vec<usize> {
    let code = body.program.code();
    let mut uses = vec![0; code.len()];
    for output in &body.outputs {
        // Stored, so it has to be written down anyway.
        uses[output.register.index()] = 2;
    }
    for (at, (inst, _)) in code.iter().enumerate() {
        if last_use[at] > 0 {
            for operand in inst.operands() {
                uses[operand.index()] += 1;
            }
        }
    }
    uses
}
