//! Trains a transformer of 12 blocks within a budget of bytes, and prints what the plan says and what
//! was seen, as one line of JSON.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program talks to its terminal"
)]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use backprop::{CompileOptions, Cpu};
use backprop_benches::measure::{file_memory, memory, peak_memory};
use backprop_benches::workload::{DEEP_GPT, SEED, Start, Training, Variant};
use lexopt::prelude::*;
use serde_json::{Value, json};

const USAGE: &str = "\
Trains a transformer of 12 blocks within a budget of bytes.

  memory run [OPTIONS]    the plan, and the resident memory of this process
  memory times [OPTIONS]  the times of steps that keep all, half and a quarter of the saved activations

  --budget N    bytes of all buffers together [no limit]
  --steps N     [10]
  --threads N   of the processor [all]
  --chart FILE  draw the plan's memory over time as SVG
";

#[derive(Default)]
struct Options {
    budget: Option<usize>,
    steps: Option<usize>,
    threads: Option<usize>,
    chart: Option<PathBuf>,
}

/// The parts of the unbudgeted saved activations that are kept, in percent.
const KEPT: [usize; 3] = [100, 50, 25];

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run(&mut lexopt::Parser::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn run(parser: &mut lexopt::Parser) -> Outcome {
    let command = match parser.next()? {
        Some(Value(command)) => command.string()?,
        _ => {
            print!("{USAGE}");
            return Ok(());
        }
    };
    let mut options = Options::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("budget") => options.budget = Some(parser.value()?.parse()?),
            Long("steps") => options.steps = Some(parser.value()?.parse()?),
            Long("threads") => options.threads = Some(parser.value()?.parse()?),
            Long("chart") => options.chart = Some(PathBuf::from(parser.value()?)),
            other => return Err(other.unexpected().into()),
        }
    }
    let found = match command.as_str() {
        "run" => train(&options)?,
        "times" => times(&options)?,
        other => return Err(format!("no command is called `{other}`").into()),
    };
    println!("{found}");
    Ok(())
}

fn cpu(options: &Options) -> Outcome<Cpu> {
    let builder = Cpu::builder();
    let builder = match options.threads {
        Some(threads) => builder.threads(threads),
        None => builder,
    };
    Ok(builder.build()?)
}

/// A training within a budget, with the time that compiling takes.
fn compile(cpu: Cpu, budget: Option<usize>) -> Outcome<(Training<Cpu>, f64)> {
    let variant = Variant {
        start: Start::Drawn,
        options: CompileOptions { budget },
        ..Variant::default()
    };
    let begin = Instant::now();
    let mut training = DEEP_GPT.compile_as(variant, cpu)?;
    let seconds = begin.elapsed().as_secs_f64();
    training.fill(|slot| Ok(slot.fill.draw(SEED, &slot.name, slot.shape)))?;
    Ok((training, seconds))
}

fn of_plan(training: &Training<Cpu>) -> Value {
    let plan = training.session.step_plan();
    let (memory, again) = (plan.memory(), plan.recomputation());
    json!({
        "planned": training.session.memory_bytes(),
        "parameters": memory.parameters,
        "optimizer_state": memory.optimizer_state,
        "gradients": memory.gradients,
        "saved": memory.saved,
        "temporaries": memory.temporaries,
        "scratch": memory.scratch,
        "io": memory.io,
        "unused": memory.unused,
        "saved_activations": plan.saved_activations(),
        "launches": plan.launches(),
        "again": again.launches,
        "again_share": again.share,
    })
}

fn train(options: &Options) -> Outcome<Value> {
    let cpu = cpu(options)?;
    let (base, base_files) = (memory(), file_memory());
    let (mut training, seconds) = compile(cpu, options.budget)?;
    let losses = training.losses(options.steps.unwrap_or(10))?;
    let mut found = of_plan(&training);
    found["compile_seconds"] = json!(seconds);
    found["base_resident"] = json!(base);
    found["base_files"] = json!(base_files);
    found["files"] = json!(file_memory());
    found["peak_resident"] = json!(peak_memory());
    found["losses"] = json!(losses);
    if let Some(file) = &options.chart {
        std::fs::write(file, training.session.step_plan().memory_chart())?;
    }
    Ok(found)
}

/// Steps in turn, one of each training, so that whatever else the machine does falls on all.
fn times(options: &Options) -> Outcome<Value> {
    let cpu = cpu(options)?;
    let (first, _) = compile(cpu.clone(), None)?;
    let whole = first.session.memory_bytes();
    let saved = first.session.step_plan().saved_activations();
    let mut trainings = vec![first];
    for kept in &KEPT[1..] {
        let budget = whole - saved * (100 - kept) / 100;
        trainings.push(compile(cpu.clone(), Some(budget))?.0);
    }
    let mut seconds = vec![Vec::new(); KEPT.len()];
    let mut losses = vec![Vec::new(); KEPT.len()];
    for _ in 0..options.steps.unwrap_or(10) {
        for (k, training) in trainings.iter_mut().enumerate() {
            let begin = Instant::now();
            training.session.step()?;
            seconds[k].push(begin.elapsed().as_secs_f64());
            losses[k].push(training.session.scalar(training.loss)?);
        }
    }
    let mut rows = Vec::new();
    for (k, training) in trainings.iter().enumerate() {
        seconds[k].sort_by(f64::total_cmp);
        let mut row = of_plan(training);
        row["kept"] = json!(KEPT[k]);
        row["median_seconds"] = json!(seconds[k][seconds[k].len() / 2]);
        row["equal_losses"] = json!(losses[k] == losses[0]);
        rows.push(row);
    }
    Ok(json!(rows))
}
