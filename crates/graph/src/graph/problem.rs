//! What is wrong with an operation, recorded for later with its place and operands.

use std::panic::Location;

use backprop_core::{DType, Error, ErrorKind, Place, Result, Shape};

use super::{Graph, leaf};
use crate::ir::{Op, Origin};
use crate::tensor::Tensor;

/// Why an operation cannot be built, with a way out.
pub(crate) struct Problem {
    pub(crate) kind: ErrorKind,
    pub(crate) help: Option<String>,
}

impl From<ErrorKind> for Problem {
    fn from(kind: ErrorKind) -> Problem {
        Problem { kind, help: None }
    }
}

impl Problem {
    pub(crate) fn help(self, text: impl Into<String>) -> Problem {
        Problem {
            help: Some(text.into()),
            ..self
        }
    }
}

/// A problem with shapes.
pub(crate) fn bad_shape(operation: &str, what: impl Into<String>) -> Problem {
    let (operation, what) = (operation.to_owned(), what.into());
    ErrorKind::Shape { operation, what }.into()
}

/// A problem with element types.
pub(crate) fn bad_dtype(operation: &str, what: impl Into<String>) -> Problem {
    let (operation, what) = (operation.to_owned(), what.into());
    ErrorKind::DType { operation, what }.into()
}

/// A problem with an attribute.
pub(crate) fn bad_attribute(operation: &str, what: impl Into<String>) -> Problem {
    let (operation, what) = (operation.to_owned(), what.into());
    ErrorKind::Attribute { operation, what }.into()
}

impl Graph {
    /// The errors recorded so far.
    ///
    /// # Errors
    /// All of them, as one.
    pub fn check(&self) -> Result<()> {
        Error::gather(self.build.borrow().errors.iter().cloned()).map_or(Ok(()), Err)
    }

    /// Stands in for a tensor of another graph.
    #[track_caller]
    pub(crate) fn foreign(&self, operation: &str) -> Tensor<'_> {
        let operation = operation.to_owned();
        let error = Error::new(ErrorKind::MixedGraphs { operation });
        self.fail(error, self.origin(Location::caller()))
    }

    /// Records an error and stands in for the result.
    pub(crate) fn fail(&self, error: Error, origin: Origin) -> Tensor<'_> {
        let scope = self.ir.borrow().scopes[origin.scope as usize].clone();
        let error = error.at(origin.place).within(&scope);
        self.build.borrow_mut().errors.push(error);
        self.poison(origin)
    }

    /// What `build` builds, and at most one new error with it: the first, of which the others follow.
    pub(crate) fn first_error<R>(&self, build: impl FnOnce() -> R) -> R {
        let before = self.build.borrow().errors.len();
        let result = build();
        self.build.borrow_mut().errors.truncate(before + 1);
        result
    }

    /// What an operation comes to that has a problem: an error that shows the operands.
    pub(crate) fn refuse<'g>(
        &'g self,
        operation: &str,
        operands: &[Tensor<'g>],
        place: Place,
        problem: Problem,
    ) -> Tensor<'g> {
        self.apply(operation, operands, place, |_| Err(problem))
    }

    pub(crate) fn poison(&self, origin: Origin) -> Tensor<'_> {
        let node = leaf(Op::Poison, DType::F32, Shape::SCALAR);
        self.tensor(self.ir.borrow_mut().push(node, origin))
    }

    /// Adds a line for each operand: what it is, its type, and where it was built.
    pub(crate) fn show(&self, mut error: Error, inputs: &[Tensor<'_>]) -> Error {
        let labels: Vec<String> = inputs
            .iter()
            .map(|x| x.graph.ir.borrow().label(x.id))
            .collect();
        let width = labels.iter().map(String::len).max().unwrap_or(0);
        for (i, (x, label)) in inputs.iter().zip(&labels).enumerate() {
            let side = match (inputs.len(), i) {
                (1, _) => "operand".to_owned(),
                (2, 0) => "left".to_owned(),
                (2, _) => "right".to_owned(),
                (_, i) => format!("operand {i}"),
            };
            let place = x.graph.ir.borrow().origins[x.id.index()].place;
            let text = format!("{label:<width$} {}{}", x.dtype(), x.shape());
            error = error.note(&side, text, Some(place));
        }
        error
    }
}
