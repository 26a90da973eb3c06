//! What a step changes: parameters and their new values.

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
