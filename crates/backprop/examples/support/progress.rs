//! How far a training has come.

use std::fmt::Write;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// A bar that counts to `total`, with a message, how many `things` are done in a second and how long
/// the rest will take. Drawn on
/// standard error, and not at all where that is no terminal.
pub(crate) fn bar(total: usize, things: &'static str) -> ProgressBar {
    let template = "{bar:40.cyan/dim} {percent:>3}%  {msg}  {pace}, {eta} left";
    let pace = move |state: &ProgressState, out: &mut dyn Write| {
        // Nothing can be done about a terminal that refuses a few letters.
        let _ = write!(out, "{:.0} {things}/s", state.per_sec());
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total as u64).with_style(style.with_key("pace", pace).progress_chars("━╸─"))
}
