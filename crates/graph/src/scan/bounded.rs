//! Loops that end when a condition says so, after a number of iterations at most.

use std::panic::Location;

use backprop_core::DType;

use super::{Left, Trips};
use crate::graph::Graph;
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

impl Graph {
    /// Hands values from one iteration of a body to the next as long as a condition on them holds (a
    /// single truth value), `most` times at most; gives what is handed on last. A derivative sees
    /// only the iterations that ran.
    ///
    /// Iterations after the end take no time, and their derivative none either.
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
        condition: impl Fn(&[Tensor<'g>]) -> Tensor<'g>,
        body: impl FnOnce(&[Tensor<'g>]) -> Vec<Tensor<'g>>,
    ) -> Vec<Tensor<'g>> {
        let (name, place) = ("while_loop", Location::caller());
        // One more iteration than there were, as long as the condition holds.
        let counted = |values: &[Tensor<'g>]| {
            self.at(place, || {
                self.truth(name, condition(values), place).cast(DType::I64)
            })
        };
        let carried = [initial, &[counted(initial)]].concat();
        let how = Trips::Counted { most };
        let mut scanned = self.iterate((name, place), how, (&carried, &[]), |mut at| {
            at.carried.pop();
            let mut next = body(&at.carried);
            next.push(self.at(place, || at.index + 1 + counted(&next)));
            Left {
                carried: next,
                stacked: Vec::new(),
            }
        });
        scanned.carried.pop();
        scanned.carried
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
