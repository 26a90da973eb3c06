//! What a step changes: parameters and their new values.

use std::panic::Location;

use backprop_core::Error;

use crate::tensor::{Key, Param, Tensor};

/// Parameters with the tensors that become their values at the end of a step. Made by optimizers,
/// given to [`Session::compile`](crate::Session::compile).
#[derive(Clone, Debug, Default)]
#[must_use = "updates do nothing until a session is compiled with them"]
pub struct Updates {
    pairs: Vec<(Param, Key)>,
    errors: Vec<Error>,
}

impl Updates {
    /// No updates: a plan that only evaluates.
    pub fn none() -> Updates {
        Updates::default()
    }

    /// One parameter and its new value.
    pub fn set(parameter: Param, value: Tensor<'_>) -> Updates {
        Updates::none().with(parameter, value)
    }

    /// With one more.
    pub fn with(mut self, parameter: Param, value: Tensor<'_>) -> Updates {
        self.pairs.push((parameter, value.key()));
        self
    }

    /// These and others.
    pub fn and(mut self, others: Updates) -> Updates {
        self.pairs.extend(others.pairs);
        self.errors.extend(others.errors);
        self
    }

    /// These in the steps in which a condition holds, a truth value without axes. In all others the
    /// parameters keep their values, whatever the new ones would have been (NaN too): parameters,
    /// moments and counts of an optimizer do not move. A
    /// [random state](crate::RandomState::updates) should go on, and is joined afterwards.
    ///
    /// ```
    /// use backprop_core::{DType::F32, Reference};
    /// use backprop_graph::optim::{AdamW, adamw};
    /// use backprop_graph::{Graph, Init, Session};
    ///
    /// let g = Graph::new();
    /// let x = g.input("x", [2], F32);
    /// let w = g.parameter("w", [2], F32, Init::Ones);
    /// let loss = (x * w).square().sum(..);
    /// let gradients = g.grad(loss, &[w])?;
    /// let updates = adamw(&g, &[w], &gradients, AdamW::default()).when(loss.lt(9.0));
    ///
    /// let mut session = Session::compile(&g, Reference, &[loss.key()], updates)?;
    /// session.feed(x, &[1f32, f32::NAN])?.step()?;
    /// assert_eq!(session.parameter::<f32>(w)?, [1.0, 1.0]);
    /// session.feed(x, &[1f32, 1.0])?.step()?;
    /// assert!(session.parameter::<f32>(w)?.iter().all(|&w| w < 1.0));
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    #[track_caller]
    pub fn when(self, holds: Tensor<'_>) -> Updates {
        let (graph, place) = (holds.graph, Location::caller());
        let holds = graph.truth("when", holds, place);
        let ty = |x: Tensor<'_>| (x.dtype(), x.shape());
        let chosen = |&(parameter, key): &(Param, Key)| {
            let (Some(new), old) = (graph.lookup(key), graph.read(parameter)) else {
                return (parameter, graph.foreign("when").key());
            };
            // A value of another type is left as it is, for the session to refuse.
            let fits = ty(new) == ty(old);
            (
                parameter,
                if fits {
                    holds.select(new, old).key()
                } else {
                    key
                },
            )
        };
        Updates {
            pairs: graph.at(place, || self.pairs.iter().map(chosen).collect()),
            errors: self.errors,
        }
    }

    /// What went wrong while the updates were made.
    pub(crate) fn failed(error: Error) -> Updates {
        Updates {
            errors: vec![error],
            ..Updates::default()
        }
    }

    pub(crate) fn pairs(&self) -> &[(Param, Key)] {
        &self.pairs
    }

    pub(crate) fn errors(&self) -> &[Error] {
        &self.errors
    }
}
