//! How much arithmetic a primitive does.

use super::{Body, Conv, Heads, Primitive};
use crate::{Inst, Program, Shape};

/// The multiplications and additions of one element of a product.
const MULTIPLY_ADD: u64 = 2;

impl Primitive {
    /// Floating-point operations of one launch: two for each multiply-add of a contraction, and one
    /// for each function of an elementwise program at each point.
    #[must_use]
    pub fn operations(&self) -> u64 {
        match self {
            Primitive::Sweep(spec) => elementwise(&spec.body, spec.space),
            Primitive::Rows(spec) => elementwise(&spec.body, spec.space),
            Primitive::MatMul(spec) => {
                let sizes = [spec.batch.count(), spec.m, spec.k, spec.n];
                MULTIPLY_ADD * product(&sizes) + elementwise(&spec.epilogue, spec.space)
            }
            Primitive::Conv(spec)
            | Primitive::ConvVjpInput(spec)
            | Primitive::ConvVjpFilter(spec) => {
                MULTIPLY_ADD * pairs(spec) + elementwise(&spec.epilogue, spec.space)
            }
            Primitive::Attention(spec) => {
                let heads = &spec.heads;
                let products = scores(heads) * (heads.depth + heads.width) as u64;
                MULTIPLY_ADD * products + elementwise(&spec.epilogue, spec.space)
            }
            // Scores once more, the cotangent of the probabilities, and the three results.
            Primitive::AttentionVjp(spec) => {
                let heads = &spec.heads;
                let products = scores(heads) * (3 * heads.depth + 2 * heads.width) as u64;
                MULTIPLY_ADD * products
            }
            Primitive::Pool(spec) | Primitive::PoolVjp(spec) => {
                let taps = spec.windows.iter().map(|window| window.size as u64);
                spec.output.count() as u64 * taps.product::<u64>()
            }
            Primitive::ScatterAdd(spec) => spec.picked.shape.count() as u64,
            Primitive::Relocate(_)
            | Primitive::Gather(_)
            | Primitive::Random(_)
            | Primitive::Sort(_) => 0,
        }
    }
}

fn product(sizes: &[usize]) -> u64 {
    sizes.iter().map(|&size| size as u64).product()
}

fn elementwise(body: &Body, space: Shape) -> u64 {
    functions(&body.program) * space.count() as u64
}

/// Functions and reductions: neither loads, constants nor casts.
fn functions(program: &Program) -> u64 {
    let counts = |inst: &Inst| matches!(inst, Inst::Apply(..) | Inst::Reduce(..));
    let code = program.code().iter();
    code.filter(|(inst, _)| counts(inst)).count() as u64
}

/// Products of an element of the input with one of the filter, taps in the padding among them.
fn pairs(spec: &Conv) -> u64 {
    let filter = spec.filter.sizes();
    product(spec.output.sizes()) * product(&filter[1..])
}

fn scores(heads: &Heads) -> u64 {
    product(&[heads.batch.count(), heads.queries, heads.keys])
}
