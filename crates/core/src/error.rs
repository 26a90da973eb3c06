//! Errors: what went wrong, where in the user's code, between which operands, and a way out.

use std::fmt;

use crate::plan::format_bytes;
use crate::report::{Details, Note, Place, Severity, Style, write};

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. `Display` gives one line without the place.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Shapes that an operation cannot take.
    #[error("{operation}: {what}")]
    Shape {
        /// The operation.
        operation: String,
        /// What does not fit.
        what: String,
    },
    /// Element types that an operation cannot take.
    #[error("{operation}: {what}")]
    DType {
        /// The operation.
        operation: String,
        /// What does not fit.
        what: String,
    },
    /// An axis that the tensor does not have.
    #[error("{operation}: axis {axis} is out of range for a tensor of {rank} axes")]
    Axis {
        /// The operation.
        operation: String,
        /// The axis asked for.
        axis: isize,
        /// How many there are.
        rank: usize,
    },
    /// An attribute (a stride, a rate, an equation) that makes no sense.
    #[error("{operation}: {what}")]
    Attribute {
        /// The operation.
        operation: String,
        /// What is wrong with it.
        what: String,
    },
    /// Operands that belong to different graphs.
    #[error("{operation}: the operands belong to two graphs")]
    MixedGraphs {
        /// The operation.
        operation: String,
    },
    /// A gradient by something the loss does not depend on.
    #[error("grad: the loss does not depend on `{name}`")]
    Unreachable {
        /// What the gradient was asked for.
        name: String,
    },
    /// A gradient that could only come through an operation without a derivative.
    #[error("grad: the loss depends on `{name}` only through {operation}, which has no derivative")]
    NotDifferentiable {
        /// What the gradient was asked for.
        name: String,
        /// The first such operation on the way back.
        operation: String,
    },
    /// A name given twice.
    #[error("the name `{name}` is taken")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// An input that the plan reads and nobody has fed.
    #[error("input `{name}` has not been fed")]
    NotFed {
        /// The input.
        name: String,
    },
    /// Host data or a file that does not match what it is for.
    #[error("`{name}` is {expected}, not {found}")]
    Mismatch {
        /// What the data was for.
        name: String,
        /// Its type, shape or length.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A value outside of the range that the graph relies on, as a label or an index.
    #[error("`{name}`: element {position} is {value}, outside of {low}..{high}")]
    OutOfRange {
        /// The input.
        name: String,
        /// The position of the first such element.
        position: usize,
        /// Its value.
        value: i64,
        /// The lowest value allowed.
        low: i64,
        /// One above the highest value allowed.
        high: i64,
    },
    /// A scan, a conditional or a loop is put together wrongly.
    #[error("{operation}: {what}")]
    Region {
        /// The operation.
        operation: String,
        /// What is wrong.
        what: String,
    },
    /// What a graph requires of its values did not hold in a step.
    #[error("{what}")]
    Violated {
        /// What is wrong.
        what: String,
    },
    /// A step made a value that is not finite.
    #[error("{operation}: {what} in step {step}")]
    NotFinite {
        /// The operation that made it, or the input that holds it.
        operation: String,
        /// What it makes or holds: NaN or infinity.
        what: String,
        /// The number of the step, from 1 on, among those of the plan in this session.
        step: u64,
    },
    /// Something asked for that is not there.
    #[error("{what}")]
    Unknown {
        /// What was asked for.
        what: String,
    },
    /// A primitive that the backend does not execute.
    #[error("{backend} does not execute {primitive}")]
    Unsupported {
        /// The backend.
        backend: String,
        /// The primitive.
        primitive: String,
    },
    /// A budget of bytes that no choice of what to compute again suffices for.
    #[error(
        "a budget of {} is not enough: the step takes {} at the least, {} without a budget",
        format_bytes(*budget),
        format_bytes(*smallest),
        format_bytes(*without)
    )]
    OverBudget {
        /// The budget, in bytes.
        budget: usize,
        /// The fewest bytes with which the step can be compiled.
        smallest: usize,
        /// The bytes that it takes without a budget.
        without: usize,
    },
    /// Memory that could not be had.
    #[error("out of memory: {bytes} bytes could not be allocated")]
    OutOfMemory {
        /// The bytes asked for.
        bytes: usize,
    },
    /// A plan that the checker refuses: a bug in a compiler pass, never in the user's program.
    #[error("invalid plan: {what}")]
    Plan {
        /// The property that does not hold.
        what: String,
    },
    /// A file whose content is not what it should be.
    #[error("{file}: {what}")]
    Format {
        /// The file.
        file: String,
        /// What was found and what was expected.
        what: String,
    },
    /// A file that could not be read or written.
    #[error("{file}: {what}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        what: String,
    },
    /// Trouble with a device, a driver or a thread.
    #[error("{what}")]
    Device {
        /// What happened.
        what: String,
    },
}

#[derive(Clone, PartialEq)]
struct Report {
    kind: ErrorKind,
    details: Details,
    also: Vec<Error>,
}

/// An error with its place, notes, and perhaps further errors found at the same time.
///
/// `Display` and `Debug` print all of it, in the manner of a compiler.
#[derive(Clone, PartialEq)]
pub struct Error(Box<Report>);

impl Error {
    /// An error of this kind.
    #[must_use]
    pub fn new(kind: ErrorKind) -> Error {
        Error(Box::new(Report {
            kind,
            details: Details::default(),
            also: Vec::new(),
        }))
    }

    /// With the place in the user's source.
    #[must_use]
    pub fn at(mut self, place: Place) -> Error {
        self.0.details.place = Some(place);
        self
    }

    /// With the named scope in which it happened.
    #[must_use]
    pub fn within(mut self, scope: &str) -> Error {
        scope.clone_into(&mut self.0.details.scope);
        self
    }

    /// With a further line.
    #[must_use]
    pub fn note(mut self, label: &str, text: impl Into<String>, place: Option<Place>) -> Error {
        self.0.details.note(label, text.into(), place);
        self
    }

    /// With a way out.
    #[must_use]
    pub fn help(self, text: impl Into<String>) -> Error {
        self.note("help", text, None)
    }

    /// Several errors as one; `None` if there is none.
    #[must_use]
    pub fn gather(errors: impl IntoIterator<Item = Error>) -> Option<Error> {
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        first.0.also.extend(errors);
        Some(first)
    }

    /// What went wrong (first).
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Where in the user's source.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.0.details.place
    }

    /// The lines under it.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.0.details.notes
    }

    /// This error and all that were found with it.
    pub fn all(&self) -> impl Iterator<Item = &Error> {
        std::iter::once(self).chain(self.0.also.iter())
    }

    /// As `Display`, with the colours of terminals. Whether a terminal wants them is for the program to
    /// find out (`NO_COLOR`, <https://no-color.org>).
    ///
    /// ```
    /// use backprop_core::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::DuplicateName { name: "w".into() });
    /// let error = error.help("choose another one");
    /// assert_eq!(error.to_string(), "error: the name `w` is taken\n   = help: choose another one");
    /// assert!(error.coloured().starts_with("\x1b[1;31merror\x1b[0m"));
    /// ```
    #[must_use]
    pub fn coloured(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, Style::Coloured);
        text
    }

    fn write(&self, f: &mut dyn fmt::Write, style: Style) -> fmt::Result {
        for (i, error) in self.all().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            let what = (Severity::Error, &error.0.kind as &dyn fmt::Display);
            write(f, what, &error.0.details, style)?;
        }
        Ok(())
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Error {
        Error::new(kind)
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, Style::Plain)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
