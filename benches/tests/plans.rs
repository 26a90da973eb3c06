//! What the step of each workload does, read off its plan: a lost fusion fails here, without a clock.
//!
//! `plans.txt` and, for GPUs, `plans-cuda.txt` have a paragraph for each workload: launches by kind, bytes moved and bytes of memory,
//! and below them the launches, equal ones together.
#![allow(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::fmt::Write as _;

use backprop::Level;
use backprop::core::Plan;
use backprop::core::plan::{Buffer, format_bytes};
use backprop::prelude::*;
use backprop_benches::workload::{ALL, Training, Workload};
use backprop_cuda::Paper;
use expect_test::expect_file;

/// What is compiled for: memory depends on the number of threads and, a little, on the level.
const THREADS: usize = 2;
const LEVEL: Level = Level::Avx2;

/// Longer lines are cut: programs of optimizers, which their beginning tells apart.
const WIDTH: usize = 120;

#[test]
fn steps_do_what_they_did() {
    if !LEVEL.is_available() {
        return;
    }
    let cpu = Cpu::builder().threads(THREADS).level(LEVEL);
    let cpu = cpu.build().unwrap();
    let text = paragraphs(|workload| {
        workload
            .compile(cpu.clone())
            .map(|t| paragraph(workload, t))
    });
    expect_file!["plans.txt"].assert_eq(&text);
}

/// The same for GPUs, with the launches that these are on the device.
#[test]
fn steps_on_a_gpu_do_what_they_did() {
    let text = paragraphs(|workload| {
        let training = workload.compile(Paper)?;
        let launches = Paper.launches(training.session.step_plan())?;
        let text = paragraph(workload, training);
        Ok(format!("{text}{launches:>5} on the device\n"))
    });
    expect_file!["plans-cuda.txt"].assert_eq(&text);
}

fn paragraphs(of: impl Fn(&Workload) -> Result<String>) -> String {
    // The huge one is W9 with larger numbers, and takes 4 GB.
    let workloads = ALL.iter().filter(|workload| workload.id != "W9-3163");
    let paragraphs: Vec<String> = workloads.map(|workload| of(workload).unwrap()).collect();
    paragraphs.join("\n")
}

fn paragraph<B: Backend>(workload: &Workload, training: Training<B>) -> String {
    let plan = training.session.step_plan();
    let kinds: Vec<String> = plan
        .launches_by_kind()
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let memory = |buffer| format_bytes(plan.bytes(buffer));
    let mut text = format!(
        "{}: {} launches ({}), {} moved\n      {} of parameters, {} of temporaries, {} of inputs and \
         results\n",
        workload.id,
        plan.launches(),
        kinds.join(", "),
        format_bytes(plan.bytes_moved()),
        memory(Buffer::State),
        memory(Buffer::Arena),
        memory(Buffer::Io),
    );
    for (line, count) in counted(plan) {
        let _ = writeln!(text, "{count:>5} {line}");
    }
    text
}

/// What a step launches without the names of values, each once, in the order of the plan.
fn counted(plan: &Plan) -> Vec<(String, usize)> {
    let mut counted: Vec<(String, usize)> = Vec::new();
    for (command, times) in plan.commands() {
        let line = plan.primitives()[command.kernel()].to_string();
        let line: String = line.chars().take(WIDTH).collect();
        match counted.iter_mut().find(|(known, _)| *known == line) {
            Some((_, count)) => *count += times,
            None => counted.push((line, times)),
        }
    }
    counted
}
