//! A training that is killed at random moments, and resumed each time, ends with the bits of one that
//! was left alone.
//!
//! The program starts itself as the training that it kills: a few times as a part of the tests, and as
//! often as `BACKPROP_KILLS` says, over the whole training, for `cargo xtask kill`.
#![allow(clippy::print_stdout, reason = "this test is a program of its own")]

mod training;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use backprop::core::random::{philox_block, uniform_f64};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the program is called with when it is to train.
const TRAIN: &str = "--train";
/// The file of the run that is killed.
const KILLED: &str = "killed.safetensors";

/// How much there is to do.
struct Trial {
    kills: u32,
    epochs: u64,
    folder: PathBuf,
}

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, file, epochs] = words.as_slice()
        && word == TRAIN
    {
        return Ok(training::train(Path::new(file), epochs.parse()?)?);
    }
    let (kills, epochs) = match std::env::var("BACKPROP_KILLS") {
        Ok(kills) => (kills.parse()?, 30),
        Err(_) => (4, 1),
    };
    let folder = std::env::temp_dir().join(format!("backprop-kill-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let trial = Trial {
        kills,
        epochs,
        folder,
    };
    let outcome = trial.run();
    fs::remove_dir_all(&trial.folder)?;
    outcome
}

impl Trial {
    fn run(&self) -> Outcome<()> {
        let [alone, killed] = ["alone", KILLED].map(|name| self.folder.join(name));
        let started = Instant::now();
        self.finish(&self.folder.join("nothing"), 0)?;
        let beginning = started.elapsed();
        self.finish(&alone, self.epochs)?;
        let work = started.elapsed().saturating_sub(2 * beginning);
        let steps = training::steps(&alone)?;
        println!("left alone: {steps} steps, each saved, in {work:.2?}");

        // So that the training outlasts all kills on average.
        let longest = 2 * beginning + work.mul_f64(1.2 / f64::from(self.kills));
        let (mut kills, mut writing, mut tries) = (0, 0, 0);
        while kills < self.kills {
            let delay = longest.mul_f64(uniform(tries));
            tries += 1;
            let (process, was_killed) = self.kill(&killed, delay)?;
            if was_killed {
                kills += 1;
                let cut = self.was_writing(process)?;
                writing += u32::from(cut);
                let steps = training::steps(&killed)?;
                let note = if cut { ", in the middle of a save" } else { "" };
                println!("kill {kills} after {delay:.0?}: {steps} steps saved{note}");
            } else {
                self.compare(&alone, &killed)?;
                fs::remove_file(&killed)?;
                println!("it ended before it was killed, as the one that was left alone");
            }
        }
        self.finish(&killed, self.epochs)?;
        self.compare(&alone, &killed)?;
        println!("{kills} kills, {writing} in the middle of a save: in the end the same bits");
        Ok(())
    }

    /// Starts or resumes the training of a file.
    fn start(&self, file: &Path, epochs: u64) -> Outcome<Child> {
        let mut program = Command::new(std::env::current_exe()?);
        let child = program.arg(TRAIN).arg(file).arg(epochs.to_string());
        Ok(child.spawn()?)
    }

    fn finish(&self, file: &Path, epochs: u64) -> Outcome<()> {
        match self.start(file, epochs)?.wait()? {
            status if status.success() => Ok(()),
            status => Err(format!("the training failed: {status}").into()),
        }
    }

    /// The number of the process, and whether it was still at work when it was killed.
    fn kill(&self, file: &Path, delay: Duration) -> Outcome<(u32, bool)> {
        let mut child = self.start(file, self.epochs)?;
        std::thread::sleep(delay);
        child.kill()?;
        let status = child.wait()?;
        let process = child.id();
        match status.code() {
            Some(0) => Ok((process, false)),
            None => Ok((process, true)),
            Some(1) if cfg!(windows) => Ok((process, true)),
            Some(_) => Err(format!("the training failed: {status}").into()),
        }
    }

    /// Whether a process has left part of a file under another name.
    fn was_writing(&self, process: u32) -> Outcome<bool> {
        let partial = format!("{KILLED}.{process}.");
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            if name.to_string_lossy().starts_with(&partial) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn compare(&self, alone: &Path, killed: &Path) -> Outcome<()> {
        match fs::read(alone)? == fs::read(killed)? {
            true => Ok(()),
            false => Err("the training that was killed ended with other bits".into()),
        }
    }
}

fn uniform(number: u64) -> f64 {
    let [low, high, ..] = philox_block(1, 0, number);
    uniform_f64(low, high)
}
