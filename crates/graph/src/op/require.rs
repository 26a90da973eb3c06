//! Conditions on values, checked in every step that uses them.

use std::panic::Location;

use backprop_core::DType;

use crate::graph::bad_dtype;
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
        if condition.dtype() != DType::Bool {
            return self
                .graph
                .apply("require", &[self, condition], place, |types| {
                    let what = format!("a condition of type {}", types[1].0);
                    Err(bad_dtype("require", what).help("compare first, as in `x.gt(0.0)`"))
                });
        }
        // What is violated is asked, not what holds: of an iteration that does not run, nothing is.
        let violated = self.graph.at(place, || match condition.rank() {
            0 => condition.logical_not(),
            _ => condition.all(..).logical_not(),
        });
        self.graph
            .apply("require", &[self, violated], place, |types| {
                Ok((Op::Require(what.into()), types[0]))
            })
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        require reals(&[&[2, 3]]) => |x| x[0].require(x[0].lt(9.0), "too large").square();
    }
}
