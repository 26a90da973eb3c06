//! How many bytes a step may take, and what is said where they do not suffice.

use backprop_core::plan::format_bytes;
use backprop_core::{Error, ErrorKind, Plan};

/// How a step is compiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CompileOptions {
    /// The most bytes of all buffers of the session together: parameters, optimizer state, what lives
    /// within a step, inputs and results. To stay below it, parts of the forward pass run again in
    /// the backward pass, with the same bits. Nothing runs again without need, nor without a budget.
    pub budget: Option<usize>,
}

/// How many of the values that hold most memory an error names.
const NAMED: usize = 5;

/// The error for a budget that does not suffice, given the plan that needs least and the bytes of the
/// one without a budget, where that is another one.
pub(super) fn exceeded(smallest: &Plan, (budget, without): (usize, Option<usize>)) -> Error {
    let memory = smallest.memory();
    let mut error = Error::new(ErrorKind::OverBudget {
        budget,
        smallest: memory.total(),
        without: without.unwrap_or(memory.total()),
    });
    error = error.note("at the least", memory.to_string(), None);
    let lines = smallest.lines();
    for stay in smallest.stays_at_peak().into_iter().take(NAMED) {
        let what = match stay.value {
            Some(id) => {
                let value = &smallest.values()[id.index()];
                format!("{} {}", value.name, value.tensor)
            }
            None => "scratch".to_owned(),
        };
        let text = format!("{} of {what}", format_bytes(stay.span.bytes));
        error = error.note("holds", text, lines[stay.first].place);
    }
    error.help("a smaller batch takes fewer bytes, and so does an optimizer with less state")
}
