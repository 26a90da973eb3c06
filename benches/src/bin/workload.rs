//! Runs one workload in a process of its own and prints what was measured as one line of JSON.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program talks to its terminal"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use backprop::{Backend, Cpu, PlanId};
use backprop_benches::measure::{Effort, Times, peak_memory};
use backprop_benches::peer::LOSSES;
use backprop_benches::workload::file::Reader;
use backprop_benches::workload::{ALL, Bound, SEED, Slot, Training, Values, Workload, file};
use backprop_cpu::Ceiling;
use lexopt::prelude::*;
use serde_json::{Value, json};

const USAGE: &str = "\
Times one training step, or prints what there is to time.

  workload list                  all workloads, a line of JSON each
  workload floors                what each step needs at least on an H200, by arithmetic
  workload ceiling [--threads N] what this machine reaches at best
  workload data ID FILE          draws the parameters and data of a workload into a file
  workload run ID FILE [OPTIONS] times the workload on them; with - for FILE, on values drawn on
                                 the spot, once for all tensors of a shape

  --device D   cpu, or cuda (its first device) [cpu]
  --precision P of products on a GPU: f32, or tf32 [f32]
  --threads N  of the processor [all]
  --seconds X  of timing; a fourth of that for warm-up, and a fourth for inference [2]
  --plan       print the compiled step instead of timing it
  --profile    print the time of each launch of the step instead
  --trace FILE write the launches of a step for Perfetto, with --profile
";

struct Options {
    device: Device,
    precision: Precision,
    threads: Option<usize>,
    seconds: f64,
    show: Show,
    trace: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq)]
enum Device {
    Cpu,
    Cuda,
}

/// Of products on a GPU.
#[derive(Clone, Copy, PartialEq)]
enum Precision {
    F32,
    Tf32,
}

enum Show {
    Times,
    Plan,
    Profile,
}

fn main() -> ExitCode {
    match run(&mut lexopt::Parser::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn run(parser: &mut lexopt::Parser) -> Result<(), Box<dyn Error>> {
    let command = match parser.next()? {
        Some(Value(command)) => command.string()?,
        Some(Short('h') | Long("help")) | None => {
            print!("{USAGE}");
            return Ok(());
        }
        Some(other) => return Err(other.unexpected().into()),
    };
    if command == "list" {
        ALL.iter()
            .for_each(|workload| println!("{}", listed(workload)));
        return Ok(());
    }
    if command == "floors" {
        return floors();
    }
    if command == "ceiling" {
        ceiling(&options(parser)?);
        return Ok(());
    }
    let id = parser.value()?.string()?;
    let workload = Workload::named(&id).ok_or_else(|| format!("no workload is called `{id}`"))?;
    let path = PathBuf::from(parser.value()?);
    match command.as_str() {
        "data" => Ok(file::write(workload, &path)?),
        "run" => time(workload, &path, &options(parser)?),
        other => Err(format!("no command is called `{other}`").into()),
    }
}

fn options(parser: &mut lexopt::Parser) -> Result<Options, lexopt::Error> {
    let mut options = Options {
        device: Device::Cpu,
        precision: Precision::F32,
        threads: None,
        seconds: 2.0,
        show: Show::Times,
        trace: None,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("device") => {
                options.device = match parser.value()?.string()?.as_str() {
                    "cpu" => Device::Cpu,
                    "cuda" => Device::Cuda,
                    other => return Err(format!("no device is called `{other}`").into()),
                };
            }
            Long("precision") => {
                options.precision = match parser.value()?.string()?.as_str() {
                    "f32" => Precision::F32,
                    "tf32" => Precision::Tf32,
                    other => return Err(format!("no precision is called `{other}`").into()),
                };
            }
            Long("threads") => options.threads = Some(parser.value()?.parse()?),
            Long("seconds") => options.seconds = parser.value()?.parse()?,
            Long("plan") => options.show = Show::Plan,
            Long("profile") => options.show = Show::Profile,
            Long("trace") => options.trace = Some(PathBuf::from(parser.value()?)),
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

fn ceiling(options: &Options) {
    let threads = options.threads.unwrap_or(1);
    let Ceiling { operations, copied } = Ceiling::measure(threads);
    let result = json!({ "threads": threads, "operations": operations, "copied": copied });
    println!("{result}");
}

/// Rates of an H200, as measured on one: 32-bit multiplications and additions, those of tensor cores,
/// bytes copied, and the least time from one launch of a recorded step to the next.
#[cfg(feature = "cuda")]
const H200: [f64; 4] = [52e12, 390e12, 4.3e12, 1.1e-6];

/// Prints the floors of every workload's step on a GPU.
#[cfg(feature = "cuda")]
fn floors() -> Result<(), Box<dyn Error>> {
    use backprop::cuda::Paper;
    let [strict, tensor, copied, launch] = H200;
    println!(
        "| | parameters | operations | f32 | TF32 | bytes moved | copy | launches | in a row |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for workload in ALL.iter().filter(|workload| workload.id != "W9-3163") {
        let training = workload.compile(Paper)?;
        let plan = training.session.step_plan();
        let (operations, bytes) = (workload.operations.step as f64, plan.bytes_moved() as f64);
        let launches = Paper.launches(plan)?;
        println!(
            "| {} | {:.1} MB | {:.3} G | {:.1} us | {:.1} us | {:.1} MB | {:.1} us | {launches} | {:.1} us |",
            workload.id,
            plan.bytes(backprop::core::plan::Buffer::State) as f64 / 1e6,
            operations / 1e9,
            operations / strict * 1e6,
            operations / tensor * 1e6,
            bytes / 1e6,
            bytes / copied * 1e6,
            launches as f64 * launch * 1e6,
        );
    }
    Ok(())
}

#[cfg(not(feature = "cuda"))]
fn floors() -> Result<(), Box<dyn Error>> {
    Err("this program was built without the feature `cuda`".into())
}

fn listed(workload: &Workload) -> Value {
    let bytes = match workload.bound {
        Bound::Bandwidth(bytes) => Some(bytes),
        Bound::Latency | Bound::Arithmetic => None,
    };
    let operations = (workload.bound == Bound::Arithmetic).then_some(workload.operations.step);
    json!({
        "id": workload.id, "about": workload.about, "operations": operations, "bytes": bytes,
    })
}

fn time(workload: &Workload, path: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    match options.device {
        Device::Cpu => {
            let cpu = match options.threads {
                Some(threads) => Cpu::builder().threads(threads).build()?,
                None => Cpu::new()?,
            };
            time_on(cpu.clone(), cpu.threads(), workload, path, options)
        }
        #[cfg(feature = "cuda")]
        Device::Cuda => {
            let precision = match options.precision {
                Precision::F32 => backprop::cuda::Precision::Strict,
                Precision::Tf32 => backprop::cuda::Precision::Tf32,
            };
            let cuda = backprop::Cuda::builder().precision(precision).build()?;
            time_on(cuda, 1, workload, path, options)
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda => Err("this program was built without the feature `cuda`".into()),
    }
}

fn time_on<B: Backend>(
    backend: B,
    threads: usize,
    workload: &Workload,
    path: &Path,
    options: &Options,
) -> Result<(), Box<dyn Error>> {
    let engine = backend.name();
    let start = Instant::now();
    let mut training = workload.compile(backend)?;
    let compiled = start.elapsed();
    fill(&mut training, path)?;
    match options.show {
        Show::Times => {}
        Show::Plan => {
            print!("{}", training.session.plan_text());
            return Ok(());
        }
        Show::Profile => return profile(&mut training, options),
    }
    let losses = training.losses(LOSSES)?;
    let step = PlanId::STEP;
    let step = times(&mut training, step, (options.device, options.seconds))?;
    let peak = peak_memory();
    let inference = training.inference()?;
    let inference = times(
        &mut training,
        inference,
        (options.device, options.seconds / 4.0),
    )?;
    let plan = training.session.step_plan();
    let result = json!({
        "engine": "backprop", "version": env!("CARGO_PKG_VERSION"), "workload": workload.id,
        "backend": engine,
        "threads": threads, "step": step.to_json(), "inference": inference.to_json(),
        "peak_bytes": peak, "planned_bytes": training.session.memory_bytes(),
        "compile_seconds": compiled.as_secs_f64(), "losses": losses,
        "launches": plan.launches(), "bytes_moved": plan.bytes_moved(),
        "operations": workload.operations.step,
    });
    println!("{result}");
    Ok(())
}

/// Sets parameters and inputs to what a file holds, or to values drawn on the spot.
fn fill<B: Backend>(training: &mut Training<B>, path: &Path) -> Result<(), Box<dyn Error>> {
    if path != Path::new("-") {
        let mut reader = Reader::open(path)?;
        training.fill(|slot| reader.values(slot))?;
        return Ok(());
    }
    let mut drawn: Vec<(Slot, Values)> = Vec::new();
    training.fill(|slot| {
        let alike =
            |(other, _): &&mut (Slot, Values)| other.shape == slot.shape && other.fill == slot.fill;
        if let Some((_, values)) = drawn.iter_mut().find(alike) {
            turn(values, slot);
            return Ok(values.clone());
        }
        let values = slot.fill.draw(SEED, &slot.name, slot.shape);
        drawn.push((slot.clone(), values.clone()));
        Ok(values)
    })?;
    Ok(())
}

/// Other values of the same kind: a product of equal matrices would grow without bound.
fn turn(values: &mut Values, slot: &Slot) {
    let row = slot.shape.sizes().last().copied().unwrap_or(1);
    let by = (31 * row) % slot.shape.count().max(1);
    match values {
        Values::F32(values) => values.rotate_left(by),
        Values::I32(values) => values.rotate_left(by),
    }
}

/// Times a plan. A GPU works on its own: its steps are started together, and waited for.
fn times<B: Backend>(
    training: &mut Training<B>,
    plan: PlanId,
    (device, seconds): (Device, f64),
) -> Result<Times, backprop::Error> {
    let effort = Effort::seconds(seconds);
    let session = &mut training.session;
    match device {
        Device::Cpu => Times::of(effort, || session.run(plan)),
        Device::Cuda => Times::together(effort, |steps| {
            (0..steps).try_for_each(|_| session.run(plan))?;
            session.scalar(training.loss).map(drop)
        }),
    }
}

/// Prints where the time of a step goes.
fn profile<B: Backend>(
    training: &mut Training<B>,
    options: &Options,
) -> Result<(), Box<dyn Error>> {
    let effort = Effort::seconds(options.seconds);
    let step = Times::of(effort, || training.session.step())?.quantile(0.5);
    let steps = (options.seconds / step).ceil().clamp(1.0, 1e6);
    let profile = training.session.profile(steps as u32)?;
    print!("{profile}");
    if let Some(path) = &options.trace {
        std::fs::write(path, profile.trace())?;
    }
    Ok(())
}
