//! Conditions on values, checked in every step that uses them.

use std::panic::Location;

use backprop_core::DType;

use crate::graph::{Problem, Type, bad_dtype, bad_shape};
use crate::ir::Op;
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// This tensor, on condition that a truth value holds everywhere. A step that uses it although
    /// the condition does not hold gives the error `what` with this place; parameters keep their
    /// values then.
    #[track_caller]
    #[must_use]
    pub fn require(self, condition: Tensor<'g>, what: &str) -> Tensor<'g> {
        let place = Location::caller();
        let holds = match condition.rank() {
            0 => condition,
            _ => self.graph.at(place, || condition.all(..)),
        };
        self.graph.apply("require", &[self, holds], place, |types| {
            check_condition("require", types[1])?;
            Ok((Op::Require(what.into()), types[0]))
        })
    }
}

/// An error for what is not a single truth value.
pub(crate) fn check_condition(operation: &str, (dtype, shape): Type) -> Result<(), Problem> {
    if dtype != DType::Bool {
        let problem = bad_dtype(operation, format!("a condition of type {dtype}"));
        return Err(problem.help("compare first, as in `x.gt(0.0)`"));
    }
    if shape.rank() > 0 {
        let problem = bad_shape(operation, format!("a condition of {shape}"));
        return Err(problem.help("`.all(..)` or `.any(..)` makes it a single one"));
    }
    Ok(())
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        require reals(&[&[2, 3]]) => |x| x[0].require(x[0].lt(9.0), "too large").square();
    }
}
