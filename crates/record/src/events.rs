//! TensorBoard's event files.
//!
//! A file is a series of records: the length as `u64`, its [checksum](masked), a message, its
//! checksum. A message is an `Event` of TensorFlow's `event.proto`, written by hand here: a field is
//! its number and wire type in a byte, and then eight bytes, four bytes, a variable-length number, or
//! a length and as many bytes. As in Protocol Buffers' own writers, fields come in the order of their
//! numbers, and those that are 0 are left out.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use backprop_core::Result;
use backprop_core::checksum::crc32c;

use crate::output::Output;
use crate::{Histogram, Record};

/// A TensorBoard event file.
pub struct Events {
    output: Output,
    clock: Box<dyn FnMut() -> f64 + Send>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Events").field(&self.output).finish()
    }
}

/// The seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

impl Events {
    /// A new file in a folder, with a name that TensorBoard looks for.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be made.
    pub fn create(folder: impl AsRef<Path>) -> Result<Events> {
        let (seconds, process) = (now() as u64, std::process::id());
        let name = format!("events.out.tfevents.{seconds:010}.backprop.{process}");
        let output = Output::create(&folder.as_ref().join(name))?;
        Events::begin(output, Box::new(now))
    }

    /// Events written somewhere else, with the times, in seconds since 1970, that `clock` says.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the first event cannot be written.
    pub fn new(
        to: impl Write + Send + 'static,
        clock: impl FnMut() -> f64 + Send + 'static,
    ) -> Result<Events> {
        Events::begin(Output::new(to), Box::new(clock))
    }

    fn begin(output: Output, clock: Box<dyn FnMut() -> f64 + Send>) -> Result<Events> {
        let mut events = Events { output, clock };
        let version = Message::default().text(3, "brain.Event:2");
        events.event(0, version)?;
        Ok(events)
    }

    /// An event of now, with what else there is in it.
    fn event(&mut self, step: u64, rest: Message) -> Result<()> {
        let time = (self.clock)();
        let event = Message::default().double(1, time).number(2, step).and(rest);
        let length = (event.0.len() as u64).to_le_bytes();
        let sums = [&length[..], &event.0].map(|bytes| masked(bytes).to_le_bytes());
        let record = [&length[..], &sums[0], &event.0, &sums[1]].concat();
        self.output.write(&record)
    }

    /// An event with one value of a summary.
    fn value(&mut self, step: u64, name: &str, value: Message) -> Result<()> {
        let value = Message::default().text(1, name).and(value);
        let summary = Message::default().message(1, value);
        self.event(step, Message::default().message(5, summary))
    }
}

/// The checksum as records have it: turned and shifted, so that one of bytes that hold one differs.
fn masked(bytes: &[u8]) -> u32 {
    crc32c([bytes]).rotate_right(15).wrapping_add(0xa282_ead8)
}

impl Record for Events {
    fn scalar(&mut self, step: u64, name: &str, value: f64) -> Result<()> {
        self.value(step, name, Message::default().float(2, value as f32))
    }

    fn histogram(&mut self, step: u64, name: &str, histogram: &Histogram) -> Result<()> {
        if histogram.not_finite() > 0 {
            let name = format!("{name}/not finite");
            self.scalar(step, &name, histogram.not_finite() as f64)?;
        }
        let mut described = Message::default();
        if let (Some(low), Some(high)) = (histogram.low(), histogram.high()) {
            described = described.double(1, low).double(2, high);
        }
        let counts = histogram.counts.iter().map(|&count| count as f64);
        let described = described
            .double(3, histogram.count() as f64)
            .double(4, histogram.sum)
            .double(5, histogram.sum_of_squares)
            .doubles(6, histogram.limits())
            .doubles(7, counts);
        self.value(step, name, Message::default().message(5, described))
    }

    fn flush(&mut self) -> Result<()> {
        self.output.flush()
    }
}

/// The fields of a message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u8, wire_type: u8) {
        self.0.push(field << 3 | wire_type);
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(mut self, field: u8, bytes: &[u8]) -> Message {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn number(mut self, field: u8, number: u64) -> Message {
        if number != 0 {
            self.key(field, 0);
            self.varint(number);
        }
        self
    }

    fn double(mut self, field: u8, number: f64) -> Message {
        if number.to_bits() != 0 {
            self.key(field, 1);
            self.0.extend(number.to_le_bytes());
        }
        self
    }

    fn doubles(self, field: u8, numbers: impl Iterator<Item = f64>) -> Message {
        let bytes: Vec<u8> = numbers.flat_map(f64::to_le_bytes).collect();
        match bytes.is_empty() {
            true => self,
            false => self.bytes(field, &bytes),
        }
    }

    /// A number of a choice of fields, which is there even if it is 0.
    fn float(mut self, field: u8, number: f32) -> Message {
        self.key(field, 5);
        self.0.extend(number.to_le_bytes());
        self
    }

    fn text(self, field: u8, text: &str) -> Message {
        match text.is_empty() {
            true => self,
            false => self.bytes(field, text.as_bytes()),
        }
    }

    fn message(self, field: u8, message: Message) -> Message {
        self.bytes(field, &message.0)
    }

    fn and(mut self, more: Message) -> Message {
        self.0.extend(more.0);
        self
    }
}
