//! How errors and warnings are written: in the manner of a compiler, plain or coloured.

use std::fmt::{self, Write};
use std::panic::Location;

/// A place in the user's source.
pub type Place = &'static Location<'static>;

/// A line under an error or a warning: an operand with its type and place, or an explanation.
#[derive(Clone, PartialEq, Debug)]
pub struct Note {
    /// What the line is about, as in `left`.
    pub label: String,
    /// The line.
    pub text: String,
    /// Where it comes from.
    pub place: Option<Place>,
}

/// Where something is, and what there is to say of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Details {
    pub(crate) place: Option<Place>,
    pub(crate) scope: String,
    pub(crate) notes: Vec<Note>,
}

impl Details {
    pub(crate) fn note(&mut self, label: &str, text: String, place: Option<Place>) {
        self.notes.push(Note {
            label: label.to_owned(),
            text,
            place,
        });
    }
}

/// How parts of a report are set off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    Plain,
    /// By the escape sequences of terminals (ECMA-48).
    Coloured,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Style::Plain => text.to_owned(),
            Style::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// The word that a report begins with, and its colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Severity {
    Error,
    Warning,
}

const BOLD: &str = "1";
const BLUE: &str = "1;34";
const GREEN: &str = "1;32";

/// Writes a report.
pub(crate) fn write(
    f: &mut dyn Write,
    (severity, what): (Severity, &dyn fmt::Display),
    details: &Details,
    style: Style,
) -> fmt::Result {
    let (word, colour) = match severity {
        Severity::Error => ("error", "1;31"),
        Severity::Warning => ("warning", "1;33"),
    };
    let what = style.paint(BOLD, &format!(": {what}"));
    write!(f, "{}{what}", style.paint(colour, word))?;
    if let Some(place) = details.place {
        write!(f, "\n  {} {place}", style.paint(BLUE, "-->"))?;
        if !details.scope.is_empty() {
            write!(f, " in {}", details.scope)?;
        }
    }
    let width = |text: fn(&Note) -> &str| {
        let placed = details.notes.iter().filter(|note| note.place.is_some());
        placed.map(|note| text(note).len()).max().unwrap_or(0)
    };
    let (labels, texts) = (width(|n| &n.label), width(|n| &n.text));
    for note in &details.notes {
        let bar = style.paint(BLUE, "=");
        let colour = if note.label == "help" { GREEN } else { BOLD };
        let label = style.paint(colour, &format!("{}:", note.label));
        match note.place {
            Some(place) => {
                let gap = " ".repeat(labels - note.label.len());
                write!(f, "\n   {bar} {label}{gap} {:<texts$}  {place}", note.text)?;
            }
            None => write!(f, "\n   {bar} {label} {}", note.text)?,
        }
    }
    Ok(())
}
