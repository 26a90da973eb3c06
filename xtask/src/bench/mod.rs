//! The workloads on this engine and on every peer that is set up, each in a process of its own.
//!
//! Rounds go through all workloads and engines before they begin again, so that whatever the machine
//! does meanwhile hits all alike. All engines read the same values, and do the same work if their
//! losses agree.

mod against;
mod engine;
mod machine;
mod measurement;
mod options;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub(crate) use engine::{PYTHON, RUST_PEERS};

use crate::{Outcome, root};
use engine::Engine;
use measurement::{Case, Cases};
use options::{Options, Request};
use report::Report;

/// A workload, as the engine lists it.
#[derive(Clone, Debug)]
struct Workload {
    id: String,
    about: String,
    /// Of a step that multiply-adds limit.
    operations: Option<f64>,
    /// Of a step that the memory's bandwidth limits.
    bytes: Option<f64>,
}

/// What a machine reaches at best with so many threads.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Ceiling {
    threads: usize,
    operations: f64,
    copied: f64,
}

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let options = match options::read(arguments)? {
        Request::Help => {
            print!("{}", options::USAGE);
            return Ok(());
        }
        Request::Bench(options) => options,
    };
    let program = build(root(), None)?;
    let mut engines = vec![Engine::own("backprop", &program)];
    if let Some(revision) = &options.against {
        engines.push(against::engine(revision)?);
    }
    let (present, missing): (Vec<Engine>, Vec<Engine>) = options
        .peers
        .iter()
        .map(|&peer| Engine::peer(peer))
        .partition(|engine| engine.is_present());
    for engine in &missing {
        println!("not set up: {} (`cargo xtask peers`)", engine.name);
    }
    engines.extend(present);
    let workloads = chosen(&program, &options)?;
    for workload in &workloads {
        draw(&program, workload)?;
    }
    let before = ceilings(&program, &options)?;
    let cases = measure(&workloads, &engines, &options);
    let left_out = left_out(&workloads, &engines);
    let after = ceilings(&program, &options)?;
    let report = Report {
        machine: machine::describe(),
        missing: missing.into_iter().map(|engine| engine.name).collect(),
        left_out,
        ceilings: best(&before, &after),
        workloads,
        cases,
        options,
    };
    report.finish()
}

/// The program that times this engine, of the workspace in a folder.
fn build(workspace: &Path, target: Option<&Path>) -> Result<PathBuf, String> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--package", "backprop-benches"])
        .args(["--bin", "workload"])
        .current_dir(workspace);
    if let Some(target) = target {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    println!("$ {}", shown(&cargo));
    let status = cargo.status();
    let status = status.map_err(|why| format!("cargo did not start: {why}"))?;
    if !status.success() {
        return Err(format!("{} does not build", workspace.display()));
    }
    let target = target.map_or_else(target_folder, Path::to_owned);
    Ok(target.join("release").join("workload"))
}

/// Where cargo puts what it builds for this workspace.
pub(crate) fn target_folder() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

fn folder() -> PathBuf {
    target_folder().join("bench")
}

/// The file of values that all engines read.
fn values_file(workload: &str) -> PathBuf {
    folder()
        .join("data")
        .join(format!("{workload}.safetensors"))
}

pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn output(command: &mut Command) -> Result<String, String> {
    let line = shown(command);
    let output = command.output();
    let output = output.map_err(|why| format!("`{line}` did not start: {why}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{line}` failed: {}", why.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|why| format!("no JSON ({why}): {text}"))
}

/// The workloads to run, in the order of tables. One of gigabytes has to be asked for.
fn chosen(program: &Path, options: &Options) -> Result<Vec<Workload>, String> {
    let text = output(Command::new(program).arg("list"))?;
    let lines: Vec<Value> = text.lines().map(json).collect::<Result<_, _>>()?;
    let read = |value: &Value| Workload {
        id: value["id"].as_str().unwrap_or_default().to_owned(),
        about: value["about"].as_str().unwrap_or_default().to_owned(),
        operations: value["operations"].as_f64(),
        bytes: value["bytes"].as_f64(),
    };
    let all: Vec<Workload> = lines.iter().map(read).collect();
    if let Some(unknown) = options
        .only
        .iter()
        .find(|id| all.iter().all(|w| w.id != **id))
    {
        let known: Vec<&str> = all.iter().map(|workload| &*workload.id).collect();
        return Err(format!(
            "no workload `{unknown}`, only {}",
            known.join(", ")
        ));
    }
    let wanted = |workload: &Workload| match options.only.is_empty() {
        true => workload.id != "W9-3163",
        false => options.only.contains(&workload.id),
    };
    Ok(all.into_iter().filter(wanted).collect())
}

fn draw(program: &Path, workload: &Workload) -> Outcome {
    let file = values_file(&workload.id);
    // The file is drawn anew if the program has changed since.
    let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    if modified(&file) > modified(program) {
        return Ok(());
    }
    let mut command = Command::new(program);
    output(command.arg("data").arg(&workload.id).arg(&file)).map(drop)
}

fn ceilings(program: &Path, options: &Options) -> Result<Vec<Ceiling>, String> {
    let measure = |&threads: &usize| {
        let threads_word = threads.to_string();
        let text = output(Command::new(program).args(["ceiling", "--threads", &threads_word]))?;
        let value = json(&text)?;
        Ok(Ceiling {
            threads,
            operations: value["operations"].as_f64().unwrap_or(0.0),
            copied: value["copied"].as_f64().unwrap_or(0.0),
        })
    };
    options.threads.iter().map(measure).collect()
}

/// The larger of two measurements each: nothing but noise makes a machine slower than it is.
fn best(before: &[Ceiling], after: &[Ceiling]) -> Vec<Ceiling> {
    let pairs = before.iter().zip(after);
    let larger = |(a, b): (&Ceiling, &Ceiling)| Ceiling {
        threads: a.threads,
        operations: a.operations.max(b.operations),
        copied: a.copied.max(b.copied),
    };
    pairs.map(larger).collect()
}

/// Engines that have no program for a workload, with these workloads.
fn left_out(workloads: &[Workload], engines: &[Engine]) -> Vec<String> {
    let of_engine = |engine: &Engine| {
        let ids = workloads.iter().map(|workload| &*workload.id);
        let out: Vec<&str> = ids.filter(|id| engine.leaves_out(id)).collect();
        (!out.is_empty()).then(|| format!("{}: {}", engine.name, out.join(", ")))
    };
    engines.iter().filter_map(of_engine).collect()
}

fn measure(workloads: &[Workload], engines: &[Engine], options: &Options) -> Cases {
    let mut cases = Cases::default();
    for round in 0..options.rounds {
        for workload in workloads {
            for &threads in &options.threads {
                for engine in engines {
                    if engine.leaves_out(&workload.id) {
                        continue;
                    }
                    let case = Case {
                        workload: workload.id.clone(),
                        threads,
                        engine: engine.name.clone(),
                    };
                    if cases.has_failed(&case) {
                        continue;
                    }
                    let file = values_file(&workload.id);
                    let run = engine.run(&case, &file, options.seconds);
                    let told = match &run {
                        Ok(run) => report::duration(run.step.median),
                        Err(why) => format!("failed: {why}"),
                    };
                    println!("round {}: {case}: {told}", round + 1);
                    cases.add(case, run);
                }
            }
        }
    }
    cases
}
