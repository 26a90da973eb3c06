//! The elementwise-and-reduction primitive.

use std::fmt;

use super::{Body, Check, Output, Sink};
use crate::Shape;

/// One pass over an index space: a program at every point, whose results are stored or reduced.
///
/// Inputs are visited through views, so broadcasting, transposing and slicing need no copy; several
/// results are computed in one pass; a stored result may take the place of an input that is
/// visited in the same order. All inputs of a point are loaded before any result of it is stored.
///
/// Plain (what every backend executes): any program, any views, and either stored results only, or
/// exactly one result, which is reduced. A result of several registers ([`Sink::Concat`]) is optional.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sweep {
    /// The index space.
    pub space: Shape,
    /// What happens at each point.
    pub body: Body,
}

impl Sweep {
    pub(super) fn is_plain(&self) -> bool {
        let outputs = &self.body.outputs;
        let reduced = |output: &Output| matches!(output.sink, Sink::Reduce(..));
        outputs.iter().all(|output| output.sink == Sink::Store)
            || (outputs.len() == 1 && reduced(&outputs[0]))
    }

    pub(super) fn check(&self) -> Check {
        self.body.check_pointwise(self.space, None)
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.space)?;
        fmt::Display::fmt(&self.body, f)
    }
}
