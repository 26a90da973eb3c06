//! Warnings: what works, and is probably not meant.

use std::fmt;

use crate::report::{Details, Note, Place, Severity, Style, write};

/// What is probably not meant. `Display` gives one line without the place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WarningKind {
    /// A parameter that no plan reads or updates.
    #[error("parameter `{name}` is not used")]
    UnusedParameter {
        /// The parameter.
        name: String,
    },
    /// An input that no plan reads.
    #[error("input `{name}` is not used")]
    UnusedInput {
        /// The input.
        name: String,
    },
    /// A parameter that training reads and never changes.
    #[error("parameter `{name}` is never updated")]
    NotUpdated {
        /// The parameter.
        name: String,
    },
    /// A parameter whose gradient is zero whatever is fed.
    #[error("the gradient of parameter `{name}` is zero, whatever is fed")]
    ZeroGradient {
        /// The parameter.
        name: String,
    },
    /// An operation whose result reaches nothing that is fetched or updated.
    #[error("the result of {operation} is not used")]
    UnusedResult {
        /// The operation.
        operation: String,
    },
}

/// Something that works, and is probably not meant, with its place and a way out. `Display` prints all of
/// it, in the manner of a compiler.
#[derive(Clone, PartialEq, Debug)]
pub struct Warning {
    kind: WarningKind,
    details: Details,
}

impl Warning {
    /// A warning of this kind.
    #[must_use]
    pub fn new(kind: WarningKind) -> Warning {
        Warning {
            kind,
            details: Details::default(),
        }
    }

    /// With the place in the user's source.
    #[must_use]
    pub fn at(mut self, place: Place) -> Warning {
        self.details.place = Some(place);
        self
    }

    /// With the named scope in which it is.
    #[must_use]
    pub fn within(mut self, scope: &str) -> Warning {
        scope.clone_into(&mut self.details.scope);
        self
    }

    /// With a further line.
    #[must_use]
    pub fn note(mut self, label: &str, text: impl Into<String>, place: Option<Place>) -> Warning {
        self.details.note(label, text.into(), place);
        self
    }

    /// With a way out.
    #[must_use]
    pub fn help(self, text: impl Into<String>) -> Warning {
        self.note("help", text, None)
    }

    /// What is probably not meant.
    #[must_use]
    pub fn kind(&self) -> &WarningKind {
        &self.kind
    }

    /// Where in the user's source.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.details.place
    }

    /// The lines under it.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.details.notes
    }

    /// As `Display`, with the colours of terminals.
    #[must_use]
    pub fn coloured(&self) -> String {
        let mut text = String::new();
        let what = (Severity::Warning, &self.kind as &dyn fmt::Display);
        // Writing to a string cannot fail.
        let _ = write(&mut text, what, &self.details, Style::Coloured);
        text
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(
            f,
            (Severity::Warning, &self.kind),
            &self.details,
            Style::Plain,
        )
    }
}
