//! How a program ends.

use std::error::Error;
use std::process::ExitCode;

/// Success, or failure once the error is told. Errors of building a graph begin with a word of their
/// own.
pub(crate) fn code(outcome: Result<(), Box<dyn Error>>) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    let text = error.to_string();
    let prefix = if text.starts_with("error") {
        ""
    } else {
        "error: "
    };
    eprintln!("{prefix}{text}");
    ExitCode::FAILURE
}
