//! The bytes of a checkpoint: a JSON header with names, types, shapes and notes, then the values.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use backprop_core::checksum::crc32c;
use backprop_core::{Error, ErrorKind, Result};
use safetensors::SafeTensors;
use serde_json::{Map, Value as Json, json};

use super::replace::replace;
use super::{Checkpoint, Value, malformed};

/// The entry of the header that holds the notes.
const METADATA: &str = "__metadata__";
/// What the names of notes of the format itself begin with.
const RESERVED: &str = "backprop.";
const FORMAT: &str = "backprop.format";
/// CRC-32C in hexadecimal digits, of the notes (each as `name\0note\0`) and then of each value (as
/// `name\0type[shape]\0` and its bytes), all in the order of their names.
const CHECKSUMS: &str = "backprop.checksums";
/// The format that is written, and read.
const VERSION: &str = "1";

impl Checkpoint {
    /// Writes the checkpoint in place of what is at `path`: to another name in the same folder first, so
    /// that whatever happens meanwhile, the file is either what it was or all of the new one. The same
    /// values and notes give the same bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be written; what was there is then still there. Names as
    /// [`to_bytes`](Checkpoint::to_bytes).
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let header = self.header()?;
        replace(path, |out| self.encode(&header, out)).map_err(|why| {
            Error::new(ErrorKind::Io {
                file: path.display().to_string(),
                what: format!("cannot be written: {why}"),
            })
        })
    }

    /// Reads a file, and checks all that can be checked without a session.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read; otherwise as [`from_bytes`](Checkpoint::from_bytes).
    pub fn read(path: impl AsRef<Path>) -> Result<Checkpoint> {
        let path = path.as_ref();
        let file = path.display().to_string();
        match fs::read(path) {
            Ok(bytes) => decode(file, bytes),
            Err(why) => {
                let what = format!("cannot be read: {why}");
                Err(Error::new(ErrorKind::Io { file, what }))
            }
        }
    }

    /// The content of its file.
    ///
    /// # Errors
    /// [`ErrorKind::Attribute`] for a parameter named `__metadata__` and for a note whose name begins
    /// with `backprop.`: the format keeps them for itself.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let header = self.header()?;
        let mut bytes = Vec::with_capacity(header.len() + self.data.len());
        let encoded = self.encode(&header, &mut bytes);
        encoded.map_err(|why| self.malformed(why.to_string()))?;
        Ok(bytes)
    }

    /// A checkpoint from the content of its file.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when it is no whole safetensors file, does not agree with its checksums (all
    /// values that do not are named), or is of a later format.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Checkpoint> {
        decode("checkpoint".to_owned(), bytes.into())
    }

    /// The values in the order of the data.
    fn in_order(&self) -> Vec<(&String, &Value)> {
        let mut values: Vec<_> = self.values.iter().collect();
        values.sort_by_key(|(_, value)| (value.at.start, value.at.end));
        values
    }

    /// All that stands in front of the values.
    fn header(&self) -> Result<Vec<u8>> {
        let reserved = self
            .notes
            .keys()
            .map(|name| (name, name.starts_with(RESERVED)))
            .chain(self.values.keys().map(|name| (name, name == METADATA)))
            .find(|(_, is_reserved)| *is_reserved);
        if let Some((name, _)) = reserved {
            let operation = "checkpoint".to_owned();
            let what = format!("the format keeps the name `{name}` for itself");
            return Err(Error::new(ErrorKind::Attribute { operation, what }));
        }
        let mut notes: BTreeMap<&str, &str> = self.notes().collect();
        let checksums = self.checksums().join(" ");
        notes.extend([(FORMAT, VERSION), (CHECKSUMS, &checksums)]);
        let mut entries = Map::new();
        entries.insert(METADATA.to_owned(), json!(notes));
        let mut end = 0;
        for (name, value) in self.in_order() {
            let start = end;
            end += value.at.len();
            let dtype = value.dtype.to_string();
            let entry =
                json!({ "dtype": dtype, "shape": value.shape, "data_offsets": [start, end] });
            entries.insert(name.clone(), entry);
        }
        let mut text = Json::Object(entries).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        Ok([&(text.len() as u64).to_le_bytes(), text.as_slice()].concat())
    }

    fn encode(&self, header: &[u8], out: &mut impl Write) -> io::Result<()> {
        out.write_all(header)?;
        let values = self.in_order();
        let mut parts = values.iter().map(|(_, value)| &self.data[value.at.clone()]);
        parts.try_for_each(|part| out.write_all(part))
    }

    fn checksums(&self) -> Vec<String> {
        let text: String = self
            .notes()
            .map(|(name, note)| format!("{name}\0{note}\0"))
            .collect();
        let notes = crc32c([text.as_bytes()]);
        let of_value = |(name, value): (&String, &Value)| {
            let what = format!("{name}\0{value}\0");
            crc32c([what.as_bytes(), &self.data[value.at.clone()]])
        };
        let values = self.values.iter().map(of_value);
        let all = std::iter::once(notes).chain(values);
        all.map(|sum| format!("{sum:08x}")).collect()
    }

    /// Compares everything with the checksums that the file gives.
    fn verify(&self, given: &str) -> Result<()> {
        let damaged = |what: &str, found: &str, given: &str| {
            let what = format!("{what} damaged: the checksum is {found}, not {given}");
            self.malformed(what)
        };
        let found = self.checksums();
        let given: Vec<&str> = given.split(' ').collect();
        if given.len() != found.len() {
            let (given, found) = (given.len(), found.len());
            let what = format!("the header is damaged: {given} checksums where there are {found}");
            return Err(self.malformed(what));
        }
        let values = self
            .values
            .iter()
            .map(|(name, v)| format!("`{name}` {v} is"));
        let parts = std::iter::once("the notes are".to_owned()).chain(values);
        let sums = found.iter().zip(given).zip(parts);
        let wrong = sums.filter(|((found, given), _)| found != given);
        let errors = wrong.map(|((found, given), part)| damaged(&part, found, given));
        Error::gather(errors).map_or(Ok(()), Err)
    }
}

fn decode(origin: String, data: Vec<u8>) -> Result<Checkpoint> {
    let (header, metadata) = SafeTensors::read_metadata(&data).map_err(|why| {
        let what = format!("no whole safetensors file ({} bytes): {why}", data.len());
        malformed(&origin, what)
    })?;
    let start = size_of::<u64>() + header;
    let value = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let (from, to) = info.data_offsets;
        let value = Value {
            dtype: info.dtype,
            shape: info.shape.clone(),
            at: start + from..start + to,
        };
        (name, value)
    };
    let values = metadata.tensors().into_iter().map(value).collect();
    let notes = metadata.metadata().iter().flatten();
    let (of_format, notes): (BTreeMap<_, _>, _) = notes
        .map(|(name, note)| (name.clone(), note.clone()))
        .partition(|(name, _)| name.starts_with(RESERVED));
    let read = Checkpoint {
        origin,
        data,
        values,
        notes,
    };
    let own = |name| of_format.get(name).map(String::as_str);
    match (own(FORMAT), own(CHECKSUMS), of_format.len()) {
        // From elsewhere.
        (None, None, 0) => Ok(read),
        (Some(VERSION), Some(checksums), 2) => read.verify(checksums).map(|()| read),
        (Some(other), ..) if other != VERSION => {
            let what = format!("a checkpoint of format {other}; this version reads {VERSION}");
            let help = "read it with the version that wrote it, or a later one";
            Err(read.malformed(what).help(help))
        }
        _ => {
            let found: Vec<&String> = of_format.keys().collect();
            let what = format!("{found:?} where `{FORMAT}` and `{CHECKSUMS}` belong");
            Err(read.malformed(format!("the header is damaged: {what}")))
        }
    }
}
