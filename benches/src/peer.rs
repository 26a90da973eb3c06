//! What a peer written in Rust shares with this engine's own program: values, timing and the line of
//! JSON that is printed.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use backprop::ErrorKind;
use serde_json::json;

use crate::measure::{Effort, Times, peak_memory};
use crate::workload::file::Reader;
use crate::workload::{Slot, Values, Workload};

/// Losses that engines are compared by: before the first step, and after up to ten.
pub const LOSSES: usize = 11;

/// A workload to run: `PROGRAM WORKLOAD FILE THREADS SECONDS`.
#[derive(Debug)]
pub struct Call {
    /// The workload.
    pub workload: &'static Workload,
    /// Parameters and inputs by name.
    pub values: HashMap<String, (Slot, Values)>,
    threads: usize,
    seconds: f64,
}

/// An engine with a workload's network.
pub trait Peer {
    /// One step; its loss before the update, however the engine holds it.
    ///
    /// # Errors
    /// Whatever the engine reports.
    fn step(&mut self) -> Result<(), Box<dyn Error>>;

    /// The loss of the last step.
    ///
    /// # Errors
    /// Whatever the engine reports.
    fn loss(&self) -> Result<f64, Box<dyn Error>>;

    /// The output of the network.
    ///
    /// # Errors
    /// Whatever the engine reports.
    fn infer(&mut self) -> Result<(), Box<dyn Error>>;
}

impl Call {
    /// The command line of this process, with the values read.
    ///
    /// # Errors
    /// Words that make no sense; a file that is not the workload's.
    pub fn from_arguments() -> Result<Call, Box<dyn Error>> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let [workload, file, threads, seconds] = &words[..] else {
            return Err("usage: PROGRAM WORKLOAD FILE THREADS SECONDS".into());
        };
        let workload = Workload::named(workload).ok_or("no such workload")?;
        let mut reader = Reader::open(Path::new(file))?;
        let mut values = HashMap::new();
        for slot in workload.slots()? {
            let read = reader.values(&slot)?;
            values.insert(slot.name.clone(), (slot, read));
        }
        Ok(Call {
            workload,
            values,
            threads: threads.parse()?,
            seconds: seconds.parse()?,
        })
    }

    /// Runs and times a peer, and gives what was measured as JSON.
    ///
    /// # Errors
    /// Whatever the engine reports.
    pub fn measure(
        &self,
        engine: &str,
        version: &str,
        peer: &mut impl Peer,
    ) -> Result<serde_json::Value, Box<dyn Error>> {
        let mut losses = Vec::new();
        for _ in 0..LOSSES {
            peer.step()?;
            losses.push(peer.loss()?);
        }
        let step = Times::of(Effort::seconds(self.seconds), || {
            peer.step().map_err(|why| broken(&*why))
        })?;
        let peak = peak_memory();
        let inference = Times::of(Effort::seconds(self.seconds / 4.0), || {
            peer.infer().map_err(|why| broken(&*why))
        })?;
        Ok(json!({
            "engine": engine, "version": version, "workload": self.workload.id,
            "threads": self.threads, "step": step.to_json(), "inference": inference.to_json(),
            "peak_bytes": peak, "compile_seconds": 0.0,
            "losses": losses,
        }))
    }
}

fn broken(why: &dyn Error) -> backprop::Error {
    backprop::Error::new(ErrorKind::Device {
        what: why.to_string(),
    })
}
