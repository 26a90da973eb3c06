//! The matrix product: from its specification to a prepared kernel.
//!
//! Views become strides, which packing absorbs, so no transpose, slice or broadcast costs a pass of
//! its own. An epilogue runs on finished blocks of sums while they are in cache; where it only
//! stores the sums as they are, the kernel writes them to their place itself. Both give the same
//! bits, as an epilogue sees complete sums only.

#[cfg(feature = "blas")]
mod blas;
mod whole;

use backprop_core::{DType, Error, ErrorKind, MatMul as Spec, Primitive, Result, Source};

use crate::Level;
use crate::contraction::{Contraction, Fate, Place};
use crate::gemm::{self, BatchAxis, Finish, Gemm, Make, Number, Problem, Product, Strides};
use whole::Whole;

/// Whether [`new`] can prepare this.
pub(crate) fn supports(spec: &Spec, level: Level) -> bool {
    let Some((left, _)) = spec.plain_operands() else {
        return false;
    };
    let types = (left.tensor.dtype, spec.accumulator);
    sums_as(types) && Fate::new(&spec.epilogue, (spec.space, spec.accumulator), level).is_ok()
}

/// Whether products of a type can be summed in another.
fn sums_as((operand, accumulator): (DType, DType)) -> bool {
    let whole = !operand.is_float() && !accumulator.is_float();
    whole || gemm::sums_as(operand, accumulator)
}

/// Prepares a product for at most so many threads.
pub(crate) fn new(spec: &Spec, level: Level, threads: usize) -> Result<Contraction> {
    prepared(spec, level, threads).map_err(|what| {
        Error::new(ErrorKind::Unsupported {
            backend: format!("cpu ({what})"),
            primitive: Primitive::MatMul(spec.clone()).to_string(),
        })
    })
}

fn prepared(spec: &Spec, level: Level, threads: usize) -> Result<Contraction, String> {
    let (left, right) = spec.plain_operands().ok_or("a prologue")?;
    let dtype = left.tensor.dtype;
    if !sums_as((dtype, spec.accumulator)) {
        return Err(format!("{dtype} summed in {}", spec.accumulator));
    }
    let fate = Fate::new(&spec.epilogue, (spec.space, spec.accumulator), level)?;
    let problem = Problem {
        finish: fate.finish(),
        level,
        threads,
        ..problem(spec, left, right)
    };
    Ok(Contraction {
        product: product(&problem, dtype, spec.accumulator),
        operands: [(0, left), (1, right)].map(Place::of),
        fate,
    })
}

/// The kernel for a pair of types that [`sums_as`] allows.
fn product(problem: &Problem, operand: DType, accumulator: DType) -> Box<dyn Product> {
    #[cfg(feature = "blas")]
    if let Some(product) = blas::Blas::new(problem, operand, accumulator) {
        return Box::new(product);
    }
    gemm::make(operand, accumulator, Plain(problem))
        .unwrap_or_else(|| Box::new(Whole::new(problem, operand, accumulator)))
}

/// A product of strided operands.
struct Plain<'a>(&'a Problem);

impl Make for Plain<'_> {
    fn make<T: Number + gemm::Source<T>, E: gemm::Source<T>>(self) -> Box<dyn Product> {
        Box::new(Gemm::<T, E>::new(self.0))
    }
}

/// The sizes and strides of a product.
fn problem(spec: &Spec, left: &Source, right: &Source) -> Problem {
    let rank = spec.batch.rank();
    let strides = |source: &Source| Strides {
        row: source.view.strides[rank],
        column: source.view.strides[rank + 1],
    };
    let axis = |axis: usize| BatchAxis {
        size: spec.batch.size(axis),
        left: left.view.strides[axis],
        right: right.view.strides[axis],
    };
    let mut problem = Problem {
        batch: (0..rank).map(axis).filter(|axis| axis.size > 1).collect(),
        m: spec.m,
        k: spec.k,
        n: spec.n,
        left: strides(left),
        right: strides(right),
        finish: Finish::Store,
        level: Level::Scalar,
        threads: 1,
    };
    merge_rows(&mut problem);
    problem
}

/// A batch that shares its right operand, and whose left ones lie one below the other, is one
/// taller product.
fn merge_rows(problem: &mut Problem) {
    while let Some(&axis) = problem.batch.last() {
        if problem.m == 1 {
            problem.left.row = axis.left;
        }
        if axis.right != 0 || axis.left != problem.left.row * problem.m as isize {
            break;
        }
        problem.m *= axis.size;
        problem.batch.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(batch: &[(usize, isize, isize)], (m, row): (usize, isize), want: (usize, usize)) {
        let axis = |&(size, left, right): &(usize, isize, isize)| BatchAxis { size, left, right };
        let mut problem = Problem {
            batch: batch.iter().map(axis).collect(),
            m,
            k: 5,
            n: 6,
            left: Strides { row, column: 1 },
            right: Strides { row: 6, column: 1 },
            finish: Finish::Store,
            level: Level::Scalar,
            threads: 1,
        };
        merge_rows(&mut problem);
        assert_eq!((problem.batch.len(), problem.m), want);
    }

    #[test]
    fn batches_with_one_right_operand_are_merged() {
        check(&[(2, 15, 0)], (3, 5), (0, 6));
        check(&[(4, 30, 0), (2, 15, 0)], (3, 5), (0, 24));
        check(&[(4, 30, 7), (2, 15, 0)], (3, 5), (1, 6));
        check(&[(2, 15, 30)], (3, 5), (1, 3));
        check(&[(2, 40, 0)], (3, 5), (1, 3));
        check(&[(7, 40, 0)], (1, 5), (0, 7));
    }
}
