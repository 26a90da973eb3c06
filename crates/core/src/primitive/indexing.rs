//! Rows of a table by index, in both directions.

use std::fmt;

use super::{Check, TensorType, ensure};

/// Relates a `table` of `outer x rows x inner` elements with `outer x count x inner` picked ones by
/// `count` row numbers (`i32` or `i64`).
///
/// - gather: `picked[o, i, :] = table[o, indices[i], :]`; reads the table and the indices.
/// - scatter-add: `table[o, r, :] = sum of picked[o, i, :] over all i with indices[i] == r`, in
///   ascending `i`, starting from 0; reads the picked rows and the indices.
///
/// A row number outside `0..rows` counts as the nearest one inside (whoever builds a graph checks
/// them; kernels stay inside their memory whatever they find). `rows` is at least 1 unless nothing
/// is picked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Indexing {
    /// The table, of `outer * rows * inner` elements.
    pub table: TensorType,
    /// The row numbers.
    pub indices: TensorType,
    /// The picked rows, of `outer * count * inner` elements.
    pub picked: TensorType,
    /// Independent tables.
    pub outer: usize,
    /// Rows of a table.
    pub rows: usize,
    /// Elements of a row.
    pub inner: usize,
}

impl Indexing {
    /// The number of rows picked.
    #[must_use]
    pub fn count(&self) -> usize {
        self.indices.shape.count()
    }

    pub(super) fn check(&self) -> Check {
        let elements = |rows: usize| {
            let row = self.outer.checked_mul(self.inner)?;
            row.checked_mul(rows)
        };
        ensure(
            elements(self.rows) == Some(self.table.shape.count()),
            || {
                format!(
                    "{} x {} x {} rows in {}",
                    self.outer, self.rows, self.inner, self.table
                )
            },
        )?;
        ensure(
            elements(self.count()) == Some(self.picked.shape.count()),
            || format!("{} picked into {}", self.count(), self.picked),
        )?;
        ensure(self.rows > 0 || self.picked.shape.count() == 0, || {
            format!("rows picked from {}", self.table)
        })?;
        ensure(self.table.dtype == self.picked.dtype, || {
            format!("{} and {}", self.table, self.picked)
        })?;
        let index = self.indices.dtype;
        ensure(index.is_integer() && index.size() >= 4, || {
            format!("indices of type {index}")
        })
    }
}

impl fmt::Display for Indexing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {} of {}", self.table, self.indices, self.picked)
    }
}
