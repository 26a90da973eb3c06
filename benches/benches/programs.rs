//! Elementwise work in machine code beside the same interpreted.
//!
//! The two take turns in one process, so that whatever else the machine does falls on both. Medians
//! are printed, and their ratio.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measures")]

use std::time::{Duration, Instant};

use backprop::prelude::*;
use backprop::{ErrorKind, Programs};
use backprop_benches::fsrs::{self, Reviews, Sequences};
use backprop_benches::workload::{SEED, Workload};

/// What a round lasts at least, so that short steps are timed many at a time.
const ROUND: Duration = Duration::from_millis(5);
const ROUNDS: usize = 41;

/// Compiles the step to be timed.
type Compile = fn(Cpu) -> Result<Session<Cpu>>;

const STEPS: [(&str, Compile); 5] = [
    ("W7, elementwise", |cpu| step("W7", cpu)),
    ("W5, LSTM", |cpu| step("W5", cpu)),
    ("W6, transformer", |cpu| step("W6", cpu)),
    ("W8, U-Net", |cpu| step("W8", cpu)),
    ("scalar recurrence", recurrence),
];

fn step(id: &str, cpu: Cpu) -> Result<Session<Cpu>> {
    let missing = || format!("no workload {id}");
    let workload = Workload::named(id).ok_or_else(missing);
    let mut training = match workload {
        Ok(workload) => workload.compile(cpu)?,
        Err(what) => return Err(Error::new(ErrorKind::Unknown { what })),
    };
    training.fill(|slot| Ok(slot.fill.draw(SEED, &slot.name, slot.shape)))?;
    Ok(training.session)
}

fn recurrence(cpu: Cpu) -> Result<Session<Cpu>> {
    let size = Sequences {
        count: 512,
        reviews: 64,
    };
    Ok(fsrs::compile(&Reviews::synthetic(size, 1), cpu)?.session)
}

fn main() -> Result<()> {
    for (name, compile) in STEPS {
        let mut sides = Vec::new();
        let mut compile_times = Vec::new();
        for programs in [Programs::Interpreted, Programs::Compiled] {
            let cpu = Cpu::builder().threads(1).programs(programs).build()?;
            let start = Instant::now();
            sides.push(compile(cpu)?);
            compile_times.push(start.elapsed());
        }
        let start = Instant::now();
        sides[0].step()?;
        let steps = (ROUND.as_nanos() / start.elapsed().as_nanos().max(1)).max(1) as u32;
        let mut times = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            for (session, times) in sides.iter_mut().zip(&mut times) {
                let start = Instant::now();
                for _ in 0..steps {
                    session.step()?;
                }
                times.push(start.elapsed() / steps);
            }
        }
        let [interpreted, compiled] = times.map(median);
        println!(
            "{name}: {:.1} us interpreted, {:.1} us in machine code: {:.2} times as fast \
             (made in {:.1} and {:.1} ms)",
            micros(interpreted),
            micros(compiled),
            interpreted.as_secs_f64() / compiled.as_secs_f64(),
            micros(compile_times[0]) / 1e3,
            micros(compile_times[1]) / 1e3,
        );
    }
    Ok(())
}

/// The middle one of times.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
