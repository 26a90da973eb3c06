//! Lists of axes as arguments: one, several or all, counted from the front or (negative) the back.

use std::ops::RangeFull;

use backprop_core::{Axes, ErrorKind};

/// Axes to reduce over: an `i32`, an array or slice of them, a set, or `..` for all. Negative ones count
/// from the back. In [`Keep`], the axes stay with size 1.
pub trait AxisList {
    /// The axes, as given; `None` for all.
    fn given(&self) -> Option<Vec<i32>>;
    /// Whether reduced axes stay with size 1.
    fn keeps(&self) -> bool {
        false
    }
}

/// Axes that stay with size 1: `x.sum(Keep(-1))`.
#[derive(Clone, Copy, Debug)]
pub struct Keep<A>(pub A);

impl AxisList for i32 {
    fn given(&self) -> Option<Vec<i32>> {
        Some(vec![*self])
    }
}
impl<const N: usize> AxisList for [i32; N] {
    fn given(&self) -> Option<Vec<i32>> {
        Some(self.to_vec())
    }
}
impl AxisList for &[i32] {
    fn given(&self) -> Option<Vec<i32>> {
        Some(self.to_vec())
    }
}
impl AxisList for RangeFull {
    fn given(&self) -> Option<Vec<i32>> {
        None
    }
}
impl AxisList for Axes {
    fn given(&self) -> Option<Vec<i32>> {
        Some(self.iter().map(|axis| axis as i32).collect())
    }
}
impl<A: AxisList> AxisList for &A {
    fn given(&self) -> Option<Vec<i32>> {
        (**self).given()
    }
    fn keeps(&self) -> bool {
        (**self).keeps()
    }
}
impl<A: AxisList> AxisList for Keep<A> {
    fn given(&self) -> Option<Vec<i32>> {
        self.0.given()
    }
    fn keeps(&self) -> bool {
        true
    }
}

/// The axis of a tensor of `rank` axes that `axis` names.
pub(crate) fn resolve(operation: &str, axis: i32, rank: usize) -> Result<usize, ErrorKind> {
    let counted = if axis < 0 { axis + rank as i32 } else { axis };
    let found = usize::try_from(counted).ok().filter(|&axis| axis < rank);
    found.ok_or_else(|| ErrorKind::Axis {
        operation: operation.to_owned(),
        axis: axis as isize,
        rank,
    })
}

/// The set of axes that a list names; an axis named twice is an error.
pub(crate) fn resolve_all(
    operation: &str,
    axes: Option<&[i32]>,
    rank: usize,
) -> Result<Axes, ErrorKind> {
    let Some(axes) = axes else {
        return Ok(Axes::all(rank));
    };
    let mut set = Axes::NONE;
    for &given in axes {
        let axis = resolve(operation, given, rank)?;
        if set.contains(axis) {
            let what = format!("axis {given} is named twice");
            let operation = operation.to_owned();
            return Err(ErrorKind::Attribute { operation, what });
        }
        set = set.with(axis);
    }
    Ok(set)
}
