//! Measurements as text: a line each.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use backprop_core::Result;

use crate::output::Output;
use crate::{Histogram, Record};

/// Comma-separated values: `step,name,value`, a header first. A histogram becomes a line for each of
/// `name.count`, `.min`, `.max`, `.mean` and `.not_finite`.
#[derive(Debug)]
pub struct Csv(Output);

impl Csv {
    /// A new file, in the place of an old one.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be made.
    pub fn create(path: impl AsRef<Path>) -> Result<Csv> {
        Csv::begin(Output::create(path.as_ref())?)
    }

    /// Lines written somewhere else.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the header cannot be written.
    pub fn new(to: impl Write + Send + 'static) -> Result<Csv> {
        Csv::begin(Output::new(to))
    }

    fn begin(mut output: Output) -> Result<Csv> {
        output.write(b"step,name,value\n")?;
        Ok(Csv(output))
    }
}

/// A name as a field (RFC 4180).
fn field(name: &str) -> String {
    match name.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", name.replace('"', "\"\"")),
        false => name.to_owned(),
    }
}

impl Record for Csv {
    fn scalar(&mut self, step: u64, name: &str, value: f64) -> Result<()> {
        let line = format!("{step},{},{value}\n", field(name));
        self.0.write(line.as_bytes())
    }

    fn histogram(&mut self, step: u64, name: &str, histogram: &Histogram) -> Result<()> {
        let parts = [
            ("count", Some(histogram.count() as f64)),
            ("min", histogram.low()),
            ("max", histogram.high()),
            ("mean", histogram.mean()),
            ("not_finite", Some(histogram.not_finite() as f64)),
        ];
        for (part, value) in parts {
            if let Some(value) = value {
                self.scalar(step, &format!("{name}.{part}"), value)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}

/// A JSON object a line: `{"step":3,"name":"loss","value":0.5}`, or with `histogram` instead of
/// `value`. JSON has no numbers that are not finite: they are `"NaN"`, `"inf"` and `"-inf"`.
#[derive(Debug)]
pub struct JsonLines(Output);

impl JsonLines {
    /// A new file, in the place of an old one.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be made.
    pub fn create(path: impl AsRef<Path>) -> Result<JsonLines> {
        Ok(JsonLines(Output::create(path.as_ref())?))
    }

    /// Lines written somewhere else.
    pub fn new(to: impl Write + Send + 'static) -> JsonLines {
        JsonLines(Output::new(to))
    }

    fn line(&mut self, step: u64, name: &str, rest: &str) -> Result<()> {
        let line = format!("{{\"step\":{step},\"name\":{},{rest}}}\n", text(name));
        self.0.write(line.as_bytes())
    }
}

fn text(name: &str) -> String {
    let mut quoted = String::from("\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn number(value: f64) -> String {
    match value.is_finite() {
        true => format!("{value:?}"),
        false => format!("\"{value}\""),
    }
}

fn list(numbers: impl Iterator<Item = String>) -> String {
    format!("[{}]", numbers.collect::<Vec<_>>().join(","))
}

impl Record for JsonLines {
    fn scalar(&mut self, step: u64, name: &str, value: f64) -> Result<()> {
        self.line(step, name, &format!("\"value\":{}", number(value)))
    }

    fn histogram(&mut self, step: u64, name: &str, histogram: &Histogram) -> Result<()> {
        let end = |value: Option<f64>| value.map_or_else(|| "null".to_owned(), number);
        let fields = [
            ("count", histogram.count().to_string()),
            ("min", end(histogram.low())),
            ("max", end(histogram.high())),
            ("sum", number(histogram.sum)),
            ("sum_of_squares", number(histogram.sum_of_squares)),
            ("limits", list(histogram.limits().map(number))),
            ("counts", list(histogram.counts.iter().map(u64::to_string))),
            ("not_finite", histogram.not_finite().to_string()),
        ];
        let fields = fields.map(|(name, value)| format!("\"{name}\":{value}"));
        self.line(
            step,
            name,
            &format!("\"histogram\":{{{}}}", fields.join(",")),
        )
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}
