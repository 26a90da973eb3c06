//! Files that hold the state of a session: its parameters by name, optimizer state, step counts,
//! random counters and loss scales among them, as safetensors, the format that other frameworks read.
//!
//! [`Persist`] gives sessions `save` and `load`. A [`Checkpoint`] is the same in two steps, with notes
//! beside the values: where a [`Loader`](crate::Loader) stands, and whatever else a run goes by.
//!
//! A file comes into place whole or not at all, and a session either takes all of it or keeps every
//! value that it had. What is written here carries checksums, so that a damaged file is refused.
//!
//! ```
//! use backprop::prelude::*;
//! use backprop::{Batches, Loader, Position};
//!
//! let g = Graph::new();
//! let w = g.parameter("w", [3], F32, Init::Kaiming);
//! let updates = optim::adamw(&g, &[w], &[g.read(w)], AdamW::default());
//! let mut session = Session::compile(&g, Cpu::new()?, &[], updates)?;
//! let mut loader = Loader::new(100, Batches::shuffled(8, 1))?;
//! loader.next_batch();
//! session.step()?;
//!
//! let file = std::env::temp_dir().join(format!("doc-{}.safetensors", std::process::id()));
//! Checkpoint::of(&session)?.with("loader", loader.position()).write(&file)?;
//!
//! let saved = Checkpoint::read(&file)?;
//! loader.seek(saved.get::<Position>("loader")?)?;
//! saved.restore(&mut session)?;
//! # std::fs::remove_file(&file).ok();
//! # Ok::<(), Error>(())
//! ```

mod file;
mod persist;
mod replace;

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};
use std::ops::Range;
use std::panic::Location;
use std::str::FromStr;

use backprop_core::{Backend, DType, Error, ErrorKind, Place, Result};
use backprop_graph::{Param, ParameterInfo, Session};
use safetensors::Dtype;

pub use persist::Persist;

/// Values of parameters by name, and notes: a file in memory. It borrows nothing, so that it can be
/// written by another thread while training goes on.
#[derive(Clone)]
pub struct Checkpoint {
    /// What errors call it: its file, if it was read.
    origin: String,
    /// The bytes of all values, little-endian.
    data: Vec<u8>,
    values: BTreeMap<String, Value>,
    notes: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Value {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Where it lies in the data.
    at: Range<usize>,
}

impl Checkpoint {
    /// The values of all parameters of a session.
    ///
    /// # Errors
    /// Whatever the device reports.
    #[track_caller]
    pub fn of<B: Backend>(session: &Session<B>) -> Result<Checkpoint> {
        Checkpoint::of_all(session, session.parameters())
    }

    /// The values of some parameters of a session. Graphs know the parameters of a model
    /// ([`Graph::parameters`](crate::Graph::parameters)) until optimizers add their state.
    ///
    /// # Errors
    /// As [`of`](Checkpoint::of), and [`ErrorKind::MixedGraphs`] for a parameter of another graph.
    #[track_caller]
    pub fn of_only<B: Backend>(session: &Session<B>, parameters: &[Param]) -> Result<Checkpoint> {
        Checkpoint::of_all(session, chosen(session, parameters, Location::caller())?)
    }

    fn of_all<B: Backend>(
        session: &Session<B>,
        mut parameters: Vec<ParameterInfo>,
    ) -> Result<Checkpoint> {
        let mut made = Checkpoint {
            origin: "checkpoint".to_owned(),
            data: Vec::new(),
            values: BTreeMap::new(),
            notes: BTreeMap::new(),
        };
        // Large elements first, so that all are aligned in the file.
        parameters.sort_by(|a, b| {
            let size = |info: &ParameterInfo| std::cmp::Reverse(info.dtype.size());
            (size(a), &a.name).cmp(&(size(b), &b.name))
        });
        for info in parameters {
            let dtype = stored_type(info.dtype)
                .ok_or_else(|| made.malformed(format!("no place for {}", described(&info))))?;
            let mut bytes = session.parameter_bytes(info.parameter)?;
            swap_to_little_endian(&mut bytes, info.dtype.size());
            let start = made.data.len();
            made.data.extend(bytes);
            let value = Value {
                dtype,
                shape: info.shape.sizes().to_vec(),
                at: start..made.data.len(),
            };
            made.values.insert(info.name, value);
        }
        Ok(made)
    }

    /// With a note: a text, a number, the [position](crate::Position) of a loader. One of the same name
    /// is replaced.
    #[must_use]
    pub fn with(mut self, name: &str, note: impl Display) -> Checkpoint {
        self.notes.insert(name.to_owned(), note.to_string());
        self
    }

    /// The notes, in the order of their names. Those of files from elsewhere are the entries of their
    /// metadata.
    pub fn notes(&self) -> impl Iterator<Item = (&str, &str)> {
        let notes = self.notes.iter();
        notes.map(|(name, note)| (name.as_str(), note.as_str()))
    }

    /// What a note says.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if there is no such note, or it says something else.
    pub fn get<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T> {
        let note = self.notes.get(name);
        let note = note.ok_or_else(|| self.malformed(format!("it has no note `{name}`")))?;
        note.parse()
            .map_err(|why| self.malformed(format!("the note `{name}` is `{note}`: {why}")))
    }

    /// Sets all parameters of a session, which have to be exactly those of the checkpoint.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for each parameter that is missing, unknown, or of another type or shape,
    /// all of them at once. Unless the device itself fails, the session is unchanged then.
    pub fn restore<B: Backend>(&self, session: &mut Session<B>) -> Result<()> {
        self.restore_all(session, &session.parameters())
    }

    /// Sets some parameters of a session, which have to be exactly those of the checkpoint; the others
    /// keep their values.
    ///
    /// # Errors
    /// As [`restore`](Checkpoint::restore), and [`ErrorKind::MixedGraphs`] for a parameter of another
    /// graph.
    #[track_caller]
    pub fn restore_only<B: Backend>(
        &self,
        session: &mut Session<B>,
        parameters: &[Param],
    ) -> Result<()> {
        let parameters = chosen(session, parameters, Location::caller())?;
        self.restore_all(session, &parameters)
    }

    fn restore_all<B: Backend>(
        &self,
        session: &mut Session<B>,
        parameters: &[ParameterInfo],
    ) -> Result<()> {
        if let Some(error) = Error::gather(self.differences(parameters)) {
            return Err(error);
        }
        for info in parameters {
            if let Some(value) = self.values.get(&info.name) {
                let mut bytes = self.data[value.at.clone()].to_vec();
                swap_to_little_endian(&mut bytes, info.dtype.size());
                session.set_parameter_bytes(info.parameter, &bytes)?;
            }
        }
        Ok(())
    }

    /// Everything in which the checkpoint is not what these parameters need.
    fn differences(&self, parameters: &[ParameterInfo]) -> Vec<Error> {
        let difference = |info: &ParameterInfo| {
            let parameter = described(info);
            let Some(value) = self.values.get(&info.name) else {
                return Some(format!("{parameter} is missing"));
            };
            if stored_type(info.dtype) != Some(value.dtype) || value.shape != info.shape.sizes() {
                return Some(format!("{parameter} is {value} in the file"));
            }
            let mut bytes = self.data[value.at.clone()].iter();
            let position = bytes.position(|&byte| info.dtype == DType::Bool && byte > 1)?;
            let what = format!("{parameter}: element {position} is neither 0 nor 1");
            Some(what)
        };
        let is_unknown = |name: &&String| parameters.iter().all(|info| info.name != **name);
        let unknown = self.values.keys().filter(is_unknown);
        let unknown = unknown.map(|name| format!("`{name}` is none of the parameters to load"));
        let all = parameters.iter().filter_map(difference).chain(unknown);
        all.map(|what| self.malformed(what)).collect()
    }

    fn malformed(&self, what: String) -> Error {
        malformed(&self.origin, what)
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self
            .values
            .iter()
            .map(|(name, value)| format!("{name} {value}"));
        f.debug_struct("Checkpoint")
            .field("origin", &self.origin)
            .field("values", &values.collect::<Vec<_>>())
            .field("notes", &self.notes)
            .finish()
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dtype = self.dtype.to_string().to_lowercase();
        write!(f, "{dtype}{:?}", self.shape)
    }
}

/// What a session knows of some parameters.
fn chosen<B: Backend>(
    session: &Session<B>,
    parameters: &[Param],
    place: Place,
) -> Result<Vec<ParameterInfo>> {
    let all: HashMap<Param, ParameterInfo> = session
        .parameters()
        .into_iter()
        .map(|info| (info.parameter, info))
        .collect();
    let find = |parameter: &Param| {
        all.get(parameter).cloned().ok_or_else(|| {
            let operation = "checkpoint".to_owned();
            Error::new(ErrorKind::MixedGraphs { operation }).at(place)
        })
    };
    parameters.iter().map(find).collect()
}

fn described(info: &ParameterInfo) -> String {
    format!("parameter `{}` {}{}", info.name, info.dtype, info.shape)
}

fn malformed(file: &str, what: String) -> Error {
    let file = file.to_owned();
    Error::new(ErrorKind::Format { file, what })
}

fn stored_type(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
        _ => return None,
    })
}

/// The format is little-endian; its own inverse.
fn swap_to_little_endian(bytes: &mut [u8], size: usize) {
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
}

#[cfg(test)]
mod tests;
