//! Sorting.

use std::fmt;

use super::{Check, Source, TensorType, ensure};
use crate::{DType, Shape};

/// Which values come first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Order {
    /// The small ones; NaN comes last.
    Ascending,
    /// The large ones; NaN comes first.
    Descending,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Ascending => "ascending",
            Order::Descending => "descending",
        })
    }
}

/// The positions of the first `count` elements along an axis in sorted order. Equal elements (zeros
/// of either sign, and all NaN among themselves) keep their order. Optional.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sort {
    /// The shape of what is sorted.
    pub space: Shape,
    /// The axis along which it is sorted.
    pub axis: usize,
    /// The order.
    pub order: Order,
    /// What is sorted, viewed from `space`.
    pub input: Source,
    /// The positions: `i64`, `space` with `count` places along the axis.
    pub positions: TensorType,
}

impl Sort {
    /// How many positions are written along the axis.
    #[must_use]
    pub fn count(&self) -> usize {
        let rows = self.space.filter(|axis| axis != self.axis).count();
        self.positions.shape.count().checked_div(rows).unwrap_or(0)
    }

    pub(super) fn check(&self) -> Check {
        self.input.check(self.space)?;
        ensure(self.axis < self.space.rank(), || {
            format!("no axis {} in {}", self.axis, self.space)
        })?;
        let count = self.count();
        let whole = count <= self.space.size(self.axis)
            && self.space.with(self.axis, count).count() == self.positions.shape.count()
            && self.positions.dtype == DType::I64;
        ensure(whole, || {
            format!("{} sorted into {}", self.space, self.positions)
        })
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sort {
            space, axis, order, ..
        } = self;
        write!(
            f,
            "{space} {order} along {axis}, the first {}",
            self.count()
        )
    }
}
