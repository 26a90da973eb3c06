//! What the step of each workload does, read off its plan: a lost fusion fails here, without a clock.
//!
//! `plans.txt` has a paragraph for each workload: launches by kind, bytes moved and bytes of memory,
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
use backprop_benches::workload::{ALL, Workload};
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
    // The huge one is W9 with larger numbers, and takes 4 GB.
    let workloads = ALL.iter().filter(|workload| workload.id != "W9-3163");
    let paragraphs: Vec<String> = workloads
        .map(|workload| {
            let training = workload.compile(cpu.clone()).unwrap();
            paragraph(workload, training.session.step_plan())
        })
        .collect();
    expect_file!["plans.txt"].assert_eq(&paragraphs.join("\n"));
}

fn paragraph(workload: &Workload, plan: &Plan) -> String {
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
