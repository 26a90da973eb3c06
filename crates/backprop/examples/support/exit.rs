//! How a program ends.

use std::error::Error;
use std::process::ExitCode;

/// Runs a program with the options that were read: success, or failure once the error is told.
pub(crate) fn after<T>(
    options: Result<T, lexopt::Error>,
    run: impl FnOnce(T) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
    let Err(error) = options.map_err(Box::from).and_then(run) else {
        return ExitCode::SUCCESS;
    };
    let text = error.to_string();
    // Errors of the engine begin with the word themselves.
    let prefix = if text.starts_with("error") {
        ""
    } else {
        "error: "
    };
    eprintln!("{prefix}{text}");
    ExitCode::FAILURE
}
