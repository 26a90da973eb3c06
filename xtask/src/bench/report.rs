//! The table that is printed, and the files that are written.

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

use super::machine::Machine;
use super::measurement::{Case, Cases, Run, Summary};
use super::options::Options;
use super::{Ceiling, Workload, folder};
use crate::Outcome;

/// Everything that a comparison came to.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) machine: Machine,
    /// Engines that are not set up.
    pub(super) missing: Vec<String>,
    /// Engines without some of the workloads.
    pub(super) left_out: Vec<String>,
    pub(super) ceilings: Vec<Ceiling>,
    pub(super) workloads: Vec<Workload>,
    pub(super) cases: Cases,
    pub(super) options: Options,
}

const HEADER: &str = "\
| threads | engine | step | spread | shortest | processor | speed | by shortest | by processor | inference | step / inference | peak memory | compile | reached |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

const LEGEND: &str = "\
`step` is the median over rounds of the median step, `spread` the range of these medians, `shortest` the
shortest step, and `processor` what a step spends on all processors together, which depends least on what
else the machine does. `speed` is how many times faster than the fastest peer, by medians, shortest steps
and processor time. `reached` is the arithmetic of a step over the measured peak of multiply-adds, or the
bytes that a step has to move over the measured bandwidth, by medians.
";

impl Report {
    /// Prints the table and writes the files; an error if engines failed or computed different things.
    pub(super) fn finish(&self) -> Outcome {
        let text = self.text();
        println!("\n{text}");
        let folder = folder();
        let write = |name: String, text: &str| {
            let file = folder.join(name);
            let written = fs::write(&file, text);
            written.map_err(|why| format!("{}: {why}", file.display()))?;
            println!("written: {}", file.display());
            Ok::<(), String>(())
        };
        let name = self.machine.date.replace(':', "");
        write(format!("{name}.md"), &text)?;
        write(format!("{name}.json"), &format!("{:#}\n", self.to_json()))?;
        let mut wrong = self.cases.mismatches();
        let failed = self
            .cases
            .failures()
            .map(|(case, why)| format!("{case}: {why}"));
        wrong.extend(failed);
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(wrong.join("\nerror: ")),
        }
    }

    fn text(&self) -> String {
        let Machine {
            date,
            processor,
            features,
            cores,
            system,
            load,
            compiler,
            commit,
            ..
        } = &self.machine;
        let memory = self.machine.memory_bytes.map_or(0, |bytes| bytes >> 30);
        let mut text = format!("# Workloads, {date}\n\n");
        let _ = writeln!(
            text,
            "{processor} ({}), {cores} cores, {memory} GiB, {system}; load {load}; {compiler}; commit \
             {commit}; {} rounds of {} s.\n",
            features.join(", "),
            self.options.rounds,
            self.options.seconds,
        );
        for ceiling in &self.ceilings {
            let Ceiling {
                threads,
                operations,
                copied,
            } = ceiling;
            let (operations, copied) = (operations / 1e9, copied / 1e9);
            let _ = writeln!(
                text,
                "- {threads} threads: {operations:.1} GFLOP/s, {copied:.1} GB/s copied"
            );
        }
        let _ = writeln!(text, "- versions: {}", self.versions().join(", "));
        for name in &self.missing {
            let _ = writeln!(text, "- not set up: {name}");
        }
        for engine in &self.left_out {
            let _ = writeln!(text, "- left out by {engine}");
        }
        let _ = writeln!(text, "\n{LEGEND}");
        for workload in &self.workloads {
            let _ = writeln!(text, "## {}: {}\n", workload.id, workload.about);
            text.push_str(HEADER);
            self.rows(&mut text, workload);
            text.push('\n');
        }
        let mismatches = self.cases.mismatches();
        let losses = match mismatches.is_empty() {
            true => "The losses of all engines agree.".to_owned(),
            false => format!("Losses differ: {}.", mismatches.join("; ")),
        };
        let _ = writeln!(text, "{losses}");
        text
    }

    fn rows(&self, text: &mut String, workload: &Workload) {
        let of_workload = |case: &Case| case.workload == workload.id;
        for &threads in &self.options.threads {
            let runs = self.cases.runs();
            let here: Vec<(&Case, Summary)> = runs
                .filter(|(case, _)| of_workload(case) && case.threads == threads)
                .map(|(case, runs)| (case, Summary::of(runs)))
                .collect();
            let peers = here.iter().filter(|(case, _)| !is_own(case));
            let fastest = |times: Measure| {
                peers
                    .clone()
                    .filter_map(|(_, summary)| times(summary))
                    .reduce(f64::min)
            };
            let best = MEASURES.map(fastest);
            for (case, summary) in &here {
                let reached = self.reached(workload, threads, summary);
                let _ = writeln!(text, "{}", row(case, summary, best, &reached));
            }
        }
        for (case, why) in self.cases.failures().filter(|(case, _)| of_workload(case)) {
            let _ = writeln!(
                text,
                "| {} | {} | failed: {why} |",
                case.threads, case.engine
            );
        }
    }

    /// How much of the machine a step uses.
    fn reached(&self, workload: &Workload, threads: usize, summary: &Summary) -> String {
        let ceiling = self
            .ceilings
            .iter()
            .find(|ceiling| ceiling.threads == threads);
        let Some(ceiling) = ceiling else {
            return String::new();
        };
        let part = |work: f64, most: f64, unit: &str| {
            let rate = work / summary.step.median;
            format!("{:.1} {unit} ({:.0}%)", rate / 1e9, 100.0 * rate / most)
        };
        match (workload.operations, workload.bytes) {
            (Some(operations), _) => part(operations, ceiling.operations, "GFLOP/s"),
            (_, Some(bytes)) => part(bytes, ceiling.copied, "GB/s"),
            _ => String::new(),
        }
    }

    fn versions(&self) -> Vec<String> {
        let mut versions: Vec<String> = self
            .cases
            .runs()
            .map(|(case, runs)| format!("{} {}", case.engine, runs[0].version))
            .collect();
        versions.sort();
        versions.dedup();
        versions
    }

    fn to_json(&self) -> Value {
        let ceilings = self.ceilings.iter().map(|ceiling| {
            json!({
                "threads": ceiling.threads, "operations": ceiling.operations,
                "copied": ceiling.copied,
            })
        });
        let case = |(case, runs): (&Case, &[Run])| {
            let runs: Vec<&Value> = runs.iter().map(|run| &run.printed).collect();
            json!({
                "workload": case.workload, "threads": case.threads, "engine": case.engine,
                "runs": runs,
            })
        };
        let failure = |(case, why): (&Case, &str)| json!({ "case": case.to_string(), "why": why });
        json!({
            "machine": self.machine.to_json(), "ceilings": ceilings.collect::<Vec<_>>(),
            "missing": self.missing, "left_out": self.left_out, "mismatches": self.cases.mismatches(),
            "cases": self.cases.runs().map(case).collect::<Vec<_>>(),
            "failures": self.cases.failures().map(failure).collect::<Vec<_>>(),
        })
    }
}

/// Whether the engine is this one, or another revision of it.
fn is_own(case: &Case) -> bool {
    case.engine.split(' ').next() == Some("backprop")
}

/// One way to say how long a step takes.
type Measure = fn(&Summary) -> Option<f64>;

/// By which engines are compared.
const MEASURES: [Measure; 3] = [
    |summary| Some(summary.step.median),
    |summary| Some(summary.step.min),
    |summary| summary.step.processor,
];

fn row(case: &Case, summary: &Summary, best: [Option<f64>; 3], reached: &str) -> String {
    let speeds = [0, 1, 2].map(|i| match (best[i], MEASURES[i](summary)) {
        (Some(best), Some(time)) => format!("{:.2}", best / time),
        _ => String::new(),
    });
    let Summary {
        step, inference, ..
    } = summary;
    let known = |value: Option<f64>, show: fn(f64) -> String| value.map_or_else(String::new, show);
    // An engine that does not compile has nothing to tell.
    let compile = Some(summary.compile_seconds).filter(|&seconds| seconds > 0.0);
    let cells = [
        case.threads.to_string(),
        case.engine.clone(),
        duration(step.median),
        known(summary.spread, |spread| format!("{:.0}%", 100.0 * spread)),
        duration(step.min),
        known(step.processor, duration),
        speeds.join(" | "),
        duration(inference.median),
        format!("{:.1}", step.median / inference.median),
        known(summary.peak_bytes, |bytes| format!("{:.1} MB", bytes / 1e6)),
        known(compile, duration),
        reached.to_owned(),
    ];
    format!("| {} |", cells.join(" | "))
}

/// A time in seconds, with a unit that leaves a number of at least 1.
pub(super) fn duration(seconds: f64) -> String {
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "us")];
    let fits = units.iter().find(|(unit, _)| seconds >= *unit);
    match fits {
        Some((unit, name)) => format!("{:.2} {name}", seconds / unit),
        None => format!("{:.0} ns", seconds * 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine;
    use super::super::measurement::tests::{case, run};
    use super::*;

    fn report() -> Report {
        let mut cases = Cases::default();
        cases.add(case("backprop"), Ok(run(1e-3, [2.0, 1.0])));
        cases.add(case("torch"), Ok(run(5e-3, [2.0, 1.0])));
        cases.add(case("jax"), Ok(run(3e-3, [2.0, 1.0])));
        Report {
            machine: machine::describe(),
            missing: vec!["tensorflow".to_owned()],
            left_out: vec!["dfdx: W4, W5".to_owned()],
            ceilings: vec![Ceiling {
                threads: 1,
                operations: 4e9,
                copied: 1e9,
            }],
            workloads: vec![Workload {
                id: "W1".to_owned(),
                about: "an example".to_owned(),
                operations: Some(2e6),
                bytes: None,
            }],
            cases,
            options: Options::default(),
        }
    }

    #[test]
    fn the_table_compares_with_the_fastest_peer() {
        let text = report().text();
        let row = |engine: &str| {
            let start = format!("| 1 | {engine} |");
            text.lines().find(|line| line.starts_with(&start)).unwrap()
        };
        assert_eq!(
            row("backprop"),
            "| 1 | backprop | 1.00 ms |  | 500.00 us | 2.00 ms | 3.00 | 3.00 | 3.00 | 250.00 us | 4.0 | \
             1.0 MB | 500.00 ms | 2.0 GFLOP/s (50%) |"
        );
        assert!(row("jax").contains("| 1.00 | 1.00 | 1.00 |"));
        assert!(row("torch").contains("| 0.60 | 0.60 |"));
        assert!(text.contains("- not set up: tensorflow"));
        assert!(text.contains("- left out by dfdx: W4, W5"));
        assert!(text.contains("The losses of all engines agree."));
    }

    #[test]
    fn failures_and_differences_are_told() {
        let mut report = report();
        report
            .cases
            .add(case("candle"), Err("no memory".to_owned()));
        report
            .cases
            .add(case("jax-other"), Ok(run(1.0, [3.0, 1.0])));
        let text = report.text();
        assert!(
            text.contains("| 1 | candle | failed: no memory |"),
            "{text}"
        );
        assert!(text.contains("Losses differ: W1, threads 1, jax-other and backprop"));
        assert_eq!(report.to_json()["failures"][0]["why"], "no memory");
    }

    #[test]
    fn durations_have_units() {
        let shown = [2.5, 0.0025, 2.5e-6, 2.5e-9].map(duration);
        assert_eq!(shown, ["2.50 s", "2.50 ms", "2.50 us", "2 ns"]);
    }
}
