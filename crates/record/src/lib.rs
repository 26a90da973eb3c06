//! Writes what a run measures, for eyes and for other programs: scalars and histograms as
//! [TensorBoard event files](Events), [CSV](Csv) and [JSON lines](JsonLines), or all at once by a
//! [`Recorder`].
//!
//! ```
//! use backprop_record::{Histogram, Record, Recorder};
//!
//! let folder = std::env::temp_dir().join("backprop-record-example");
//! let mut recorder = Recorder::create(&folder)?;
//! for step in 0..100 {
//!     recorder.scalar(step, "loss/train", 1.0 / (1.0 + step as f64))?;
//! }
//! recorder.histogram(99, "weights/fc1", &Histogram::of([0.5f32, -1.0, 0.25]))?;
//! recorder.flush()?;
//! // `tensorboard --logdir` shows the folder.
//! # drop(recorder);
//! # std::fs::remove_dir_all(folder).ok();
//! # Ok::<(), backprop_record::Error>(())
//! ```
//!
//! Nothing here knows of graphs or sessions: values are fetched first. Besides `backprop-core`, whose
//! [`Error`] names the file, it needs nothing.
#![forbid(unsafe_code)]

mod events;
mod histogram;
mod output;
mod table;

use std::fs;
use std::path::Path;

pub use backprop_core::{Error, ErrorKind, Result};
pub use events::Events;
pub use histogram::Histogram;
pub use table::{Csv, JsonLines};

/// Something that keeps measurements.
pub trait Record {
    /// Keeps a number, as of a step. In names, `/` separates groups from what is in them.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be written.
    fn scalar(&mut self, step: u64, name: &str, value: f64) -> Result<()>;

    /// Keeps the distribution of many numbers, as of a step.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be written.
    fn histogram(&mut self, step: u64, name: &str, histogram: &Histogram) -> Result<()>;

    /// Hands everything on to the system, so that others can read it. Also done at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be written.
    fn flush(&mut self) -> Result<()>;
}

/// Several records of the same measurements.
#[derive(Default)]
pub struct Recorder {
    records: Vec<Box<dyn Record + Send>>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let records = self.records.len();
        f.debug_struct("Recorder")
            .field("records", &records)
            .finish()
    }
}

impl Recorder {
    /// One that keeps nothing, to add to.
    #[must_use]
    pub fn new() -> Recorder {
        Recorder::default()
    }

    /// A TensorBoard event file, `run.csv` and `run.jsonl` in a folder, which is made if it is not
    /// there. The event file is a new one each time; the others are overwritten.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the folder or a file in it cannot be made.
    pub fn create(folder: impl AsRef<Path>) -> Result<Recorder> {
        let folder = folder.as_ref();
        let made = fs::create_dir_all(folder);
        made.map_err(|why| output::refused(&folder.display().to_string(), &why))?;
        Ok(Recorder::new()
            .with(Events::create(folder)?)
            .with(Csv::create(folder.join("run.csv"))?)
            .with(JsonLines::create(folder.join("run.jsonl"))?))
    }

    /// Whether it keeps nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// With one more.
    #[must_use]
    pub fn with(mut self, record: impl Record + Send + 'static) -> Recorder {
        self.records.push(Box::new(record));
        self
    }
}

impl Record for Recorder {
    fn scalar(&mut self, step: u64, name: &str, value: f64) -> Result<()> {
        let mut all = self.records.iter_mut();
        all.try_for_each(|record| record.scalar(step, name, value))
    }

    fn histogram(&mut self, step: u64, name: &str, histogram: &Histogram) -> Result<()> {
        let mut all = self.records.iter_mut();
        all.try_for_each(|record| record.histogram(step, name, histogram))
    }

    fn flush(&mut self) -> Result<()> {
        self.records
            .iter_mut()
            .try_for_each(|record| record.flush())
    }
}
