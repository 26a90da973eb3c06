//! Products that are left to cuBLASLt. What becomes of their sums is a kernel after it, so that the
//! sums are the same whatever comes next.

use backprop_core::{Inst, MatMul, Primitive};

use super::epilogue::Epilogue;
use super::problem::Problem;
use super::tile::Sizes;
use super::{Options, vector};
use crate::blas::{Product, Workspace};
use crate::lowered::{Arg, Launch, Lowered, Work, arguments};
use crate::source::{parameters, value};

/// The product and its epilogue; `None` where own kernels do it all.
pub(super) fn lower(spec: &MatMul, problem: &Problem<'_>, options: Options) -> Option<Lowered> {
    let mut product = Product::new(spec, options).filter(|product| !has_few(product))?;
    let bytes = spec.space.count() * spec.accumulator.size();
    let stores = stores_sums(spec);
    let sums = if stores { 0 } else { bytes };
    product.result = match stores {
        true => Arg::Write(0),
        false => Arg::Scratch(0),
    };
    product.workspace = Workspace::new(sums.next_multiple_of(Workspace::ALIGNMENT), bytes);
    let scratch = product.workspace.end();
    let mut works = vec![Work::Product(product)];
    if !stores {
        works.push(Work::Kernel(finish(spec, problem)));
    }
    Some(Lowered { works, scratch })
}

/// Whether a matrix is read for a few rows or columns only, which own kernels do as fast as it gets.
fn has_few(product: &Product) -> bool {
    let &Product { batch, m, n, k, .. } = product;
    vector::suits(Sizes { batch, m, n, k })
}

/// Whether the sums as they are make the result.
fn stores_sums(spec: &MatMul) -> bool {
    let code = spec.epilogue.program.code();
    let is_sum = |output: &backprop_core::Output| {
        code.get(usize::from(output.register.0)) == Some(&(Inst::Input(0), spec.accumulator))
            && output.tensor.layout.is_dense()
    };
    spec.is_unfused() && spec.epilogue.outputs.iter().all(is_sum)
}

/// The epilogue of the sums at the beginning of the scratch memory.
fn finish(spec: &MatMul, problem: &Problem<'_>) -> Launch {
    let primitive = Primitive::MatMul(spec.clone());
    let mut parameters = parameters(&primitive);
    let mut args = arguments(&primitive);
    parameters.push(format!("{}* p", value(spec.accumulator)));
    args.push(Arg::Scratch(0));
    Epilogue::new(problem).finish(&parameters, args, 1)
}
