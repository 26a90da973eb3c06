//! Files of known content, and what other readers make of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use backprop_record::{Csv, ErrorKind, Events, Histogram, JsonLines, Record, Recorder, Result};

/// Bytes in memory, to look at while something writes to them.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Bytes {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// The file that TensorBoard's own package writes of the same events, see `check.py`.
const STORED: &[u8] = include_bytes!("run.tfevents");

#[test]
fn an_event_file_is_what_tensorboard_writes() -> Result<()> {
    let bytes = Bytes::default();
    let mut time = 1.7e9;
    let clock = move || {
        let now = time;
        time += 0.25;
        now
    };
    let mut events = Events::new(bytes.clone(), clock)?;
    events.scalar(0, "loss/train", 2.5)?;
    events.scalar(1, "loss/train", 0.0)?;
    events.scalar(300, "größe", f64::NEG_INFINITY)?;
    events.scalar(1 << 40, "loss/train", 1e-30)?;
    events.histogram(7, "weights", &Histogram::of([-1.0f32, 0.5, 0.5, 3.0]))?;
    assert!(*bytes.0.lock().unwrap() == STORED);
    Ok(())
}

#[test]
fn names_and_numbers_of_all_sorts_as_text() -> Result<()> {
    let (csv, json) = (Bytes::default(), Bytes::default());
    let mut both = Recorder::new()
        .with(Csv::new(csv.clone())?)
        .with(JsonLines::new(json.clone()));
    both.scalar(0, "loss", 0.1)?;
    both.scalar(1, "a \"b\", c\n\\", f64::NAN)?;
    both.scalar(u64::MAX, "größe", -1e300)?;
    both.histogram(2, "w", &Histogram::of([1.0f32, 3.0, f32::INFINITY]))?;
    both.histogram(3, "none", &Histogram::of([0.0f64; 0]))?;
    let expected = "step,name,value\n0,loss,0.1\n1,\"a \"\"b\"\", c\n\\\",NaN\n";
    assert!(csv.text().starts_with(expected), "{}", csv.text());
    assert!(
        csv.text()
            .contains("\n2,w.count,2\n2,w.min,1\n2,w.max,3\n2,w.mean,2\n2,w.not_finite,1\n")
    );
    assert!(
        csv.text()
            .ends_with("\n3,none.count,0\n3,none.not_finite,0\n")
    );

    let lines: Vec<serde_json::Value> = json
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines[0],
        serde_json::json!({"step": 0, "name": "loss", "value": 0.1})
    );
    assert_eq!(lines[1]["name"], "a \"b\", c\n\\");
    assert_eq!(lines[1]["value"], "NaN");
    assert_eq!(lines[2]["step"], u64::MAX);
    assert_eq!(lines[2]["value"], -1e300);
    let h = &lines[3]["histogram"];
    assert_eq!(
        (&h["min"], &h["max"], &h["not_finite"]),
        (&1.0.into(), &3.0.into(), &1.into())
    );
    assert_eq!(h["limits"].as_array().unwrap().len(), 64);
    assert_eq!(lines[4]["histogram"]["min"], serde_json::Value::Null);
    Ok(())
}

#[test]
fn a_folder_of_records() {
    let folder = std::env::temp_dir().join(format!("backprop-record-{}", std::process::id()));
    let mut recorder = Recorder::create(&folder).unwrap();
    recorder.scalar(3, "loss", 0.5).unwrap();
    recorder.flush().unwrap();
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(read("run.csv"), "step,name,value\n3,loss,0.5\n");
    assert_eq!(
        read("run.jsonl"),
        "{\"step\":3,\"name\":\"loss\",\"value\":0.5}\n"
    );
    let names = fs::read_dir(&folder).unwrap();
    let is_events = |name: &std::ffi::OsString| name.to_string_lossy().contains("tfevents");
    assert_eq!(
        names
            .filter(|entry| is_events(&entry.as_ref().unwrap().file_name()))
            .count(),
        1
    );

    let error = Recorder::create(folder.join("run.csv")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
    assert!(error.to_string().contains("run.csv"), "{error}");
    fs::remove_dir_all(&folder).unwrap();
}

/// What takes no bytes.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is full"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::Error::other("the disk is full"))
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let error = JsonLines::new(Full).scalar(0, "loss", 1.0).unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert!(Csv::new(Full).is_err() && Events::new(Full, || 0.0).is_err());
}
