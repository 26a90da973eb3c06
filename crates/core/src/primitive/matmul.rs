//! The matrix product.

use std::fmt;

use super::{Body, Check, Operand, TensorType, ensure};
use crate::{DType, Shape, Source};

/// `epilogue(left x right)`, batched: for each batch element, `[m, k] x [k, n] -> [m, n]`.
///
/// Operands are visited through views, so transposes, slices and broadcast batch axes need no copy.
/// Products are summed over `k` in type `accumulator`, in fixed blocks of `k` that depend on the
/// shape alone. The sum becomes input 0 of the epilogue's program (of type `accumulator`); the
/// epilogue's own inputs are numbered from 1. Its index space is `space`, whose points in row-major
/// order are those of `batch x [m, n]`.
///
/// Plain (what every backend executes): both operands without a prologue and of one type, summed in
/// [that type's accumulator](DType::accumulator), and the epilogue [`Body::store`] or a cast to the
/// operands' type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MatMul {
    /// The batch axes.
    pub batch: Shape,
    /// Rows of the left operand and of the result.
    pub m: usize,
    /// Columns of the left and rows of the right operand.
    pub k: usize,
    /// Columns of the right operand and of the result.
    pub n: usize,
    /// Viewed from `batch x [m, k]`.
    pub left: Operand,
    /// Viewed from `batch x [k, n]`.
    pub right: Operand,
    /// The type in which products are summed.
    pub accumulator: DType,
    /// The index space of the epilogue: as many points as `batch x [m, n]`, in the same order.
    pub space: Shape,
    /// What becomes of the sums.
    pub epilogue: Body,
}

impl MatMul {
    /// The two plain operands, where neither has a prologue.
    #[must_use]
    pub fn plain_operands(&self) -> Option<(&Source, &Source)> {
        Some((self.left.as_plain()?, self.right.as_plain()?))
    }

    /// Whether the epilogue only stores the sums (rounded to the result's type).
    #[must_use]
    pub fn is_unfused(&self) -> bool {
        self.epilogue.is_store()
    }

    pub(super) fn is_plain(&self) -> bool {
        let Some((left, right)) = self.plain_operands() else {
            return false;
        };
        let dtype = left.tensor.dtype;
        self.is_unfused()
            && right.tensor.dtype == dtype
            && self.accumulator == dtype.accumulator()
            && [dtype, self.accumulator].contains(&self.epilogue.outputs[0].tensor.dtype)
    }

    pub(super) fn reads(&self) -> impl Iterator<Item = &TensorType> {
        let operands = self.left.inputs.iter().chain(&self.right.inputs);
        operands.map(|s| &s.tensor).chain(self.epilogue.reads())
    }

    pub(super) fn may_overwrite(&self, write: usize, read: usize) -> bool {
        let operands = self.left.inputs.len() + self.right.inputs.len();
        read.checked_sub(operands)
            .is_some_and(|read| self.epilogue.may_overwrite(self.space, write, read))
    }

    /// The batch shape with two more axes.
    fn operand_space(&self, rows: usize, columns: usize) -> Option<Shape> {
        let sizes: Vec<usize> = [self.batch.sizes(), &[rows, columns]].concat();
        Shape::new(&sizes)
    }

    pub(super) fn check(&self) -> Check {
        let too_many = || "too many batch axes".to_owned();
        let left = self.operand_space(self.m, self.k).ok_or_else(too_many)?;
        let right = self.operand_space(self.k, self.n).ok_or_else(too_many)?;
        self.left.check(left)?;
        self.right.check(right)?;
        let points = self.operand_space(self.m, self.n).map(|s| s.count());
        ensure(points == Some(self.space.count()), || {
            format!(
                "{} x [{}, {}] in a space of {}",
                self.batch, self.m, self.n, self.space
            )
        })?;
        self.epilogue
            .check_pointwise(self.space, Some(self.accumulator))
    }
}

impl fmt::Display for MatMul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.batch.rank() > 0 {
            write!(f, "{}x", self.batch)?;
        }
        write!(f, "[{}, {}]x[{}, {}]", self.m, self.k, self.k, self.n)?;
        if !self.is_unfused() {
            f.write_str(" then ")?;
        }
        fmt::Display::fmt(&self.epilogue, f)
    }
}
