//! Conditions on values, checked in every step that uses them.

use std::panic::Location;

use backprop_core::{DType, Place};

use crate::graph::{Graph, bad_dtype, bad_shape};
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
        let holds = self.graph.truth("require", holds, place);
        // What is violated is asked, not what holds: of an iteration that does not run, nothing is.
        let violated = self.graph.at(place, || holds.logical_not());
        self.graph
            .apply("require", &[self, violated], place, |types| {
                Ok((Op::Require(what.into()), types[0]))
            })
    }
}

impl Graph {
    /// A condition, known to be a single truth value.
    pub(crate) fn truth<'g>(
        &'g self,
        operation: &str,
        condition: Tensor<'g>,
        place: Place,
    ) -> Tensor<'g> {
        let (dtype, shape) = (condition.dtype(), condition.shape());
        let problem = match (dtype, shape.rank()) {
            (DType::Bool, 0) => return condition,
            (_, 0) => bad_dtype(operation, format!("a condition of type {dtype}"))
                .help("compare first, as in `x.gt(0.0)`"),
            _ => bad_shape(operation, format!("a condition of shape {shape}"))
                .help("`.all(..)` or `.any(..)` makes it a single one"),
        };
        self.refuse(operation, &[condition], place, problem)
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        require reals(&[&[2, 3]]) => |x| x[0].require(x[0].lt(9.0), "too large").square();
    }
}
