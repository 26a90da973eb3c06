//! Loops that end when a condition says so, after a number of iterations at most.

use std::panic::Location;

use backprop_core::DType;

use super::{Iteration, Left};
use crate::graph::{Graph, Problem, bad_dtype, bad_shape};
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

impl Graph {
    /// Hands values from one iteration of a body to the next as long as a condition on them holds (a
    /// single truth value), `most` times at most; gives what is handed on last. A derivative sees
    /// only the iterations that ran.
    ///
    /// All `most` iterations are gone through; those after the end change nothing.
    ///
    /// ```
    /// use backprop_core::{DType::F64, Reference};
    /// use backprop_graph::{Graph, Session, Updates};
    ///
    /// let g = Graph::new();
    /// let x = g.input("x", [], F64);
    /// // Doubled until it is at least 100.
    /// let y = g.while_loop(64, &[x], |v| v[0].lt(100.0), |v| vec![v[0] * 2.0])[0];
    /// let dx = g.grad(y, &[x])?[0];
    /// let mut session = Session::compile(&g, Reference, &[y.key(), dx.key()], Updates::none())?;
    /// session.feed(x, &[7.0])?.step()?;
    /// assert_eq!((session.scalar(y)?, session.scalar(dx)?), (112.0, 16.0));
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    #[track_caller]
    pub fn while_loop<'g>(
        &'g self,
        most: usize,
        initial: &[Tensor<'g>],
        condition: impl FnOnce(&[Tensor<'g>]) -> Tensor<'g>,
        body: impl FnOnce(&[Tensor<'g>]) -> Vec<Tensor<'g>>,
    ) -> Vec<Tensor<'g>> {
        let place = Location::caller();
        let begins = self.full([], 1.0, DType::Bool);
        let carried = [initial, &[begins]].concat();
        let scanned = self.scan(most, &carried, &[], |at: Iteration<'g>| {
            let Some((&runs, values)) = at.carried.split_last() else {
                return Left::default();
            };
            let holds = condition(values);
            let holds = match check(holds) {
                Ok(()) => holds,
                Err(problem) => self.apply("while_loop", &[holds], place, |_| Err(problem)),
            };
            let runs = runs.logical_and(holds);
            let next = body(values).into_iter().enumerate().map(|(i, next)| {
                let old = values.get(i).copied().unwrap_or(next);
                runs.broadcast_to(next.shape()).select(next, old)
            });
            Left {
                carried: next.chain([runs]).collect(),
                stacked: Vec::new(),
            }
        });
        let mut values = scanned.carried;
        values.pop();
        values
    }
}

/// Whether a condition is a single truth value.
fn check(condition: Tensor<'_>) -> Result<(), Problem> {
    let (dtype, shape) = (condition.dtype(), condition.shape());
    if shape.rank() > 0 {
        let problem = bad_shape("while_loop", format!("a condition of shape {shape}"));
        return Err(problem.help("`.all(..)` or `.any(..)` makes it a single one"));
    }
    match dtype {
        DType::Bool => Ok(()),
        _ => Err(bad_dtype(
            "while_loop",
            format!("a condition of type {dtype}"),
        )),
    }
}

/// Inputs to try loops on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        while_loop reals(&[&[3], &[3]]) => |x| {
            let graph = x[0].graph();
            let steps = graph.while_loop(
                6,
                &[x[0]],
                |v| v[0].square().sum(..).lt(20.0),
                |v| vec![v[0] * 1.5 + x[1].sin()],
            );
            steps[0]
        };
    }
}
