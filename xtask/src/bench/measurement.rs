//! What was measured: runs of cases, and what several runs of one case come to.

use std::fmt;

use serde_json::Value;

/// An engine on a workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Case {
    pub(super) workload: String,
    pub(super) threads: usize,
    pub(super) engine: String,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case {
            workload,
            threads,
            engine,
        } = self;
        write!(f, "{workload}, threads {threads}, {engine}")
    }
}

/// Times of something, in seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Times {
    pub(super) median: f64,
    pub(super) min: f64,
    /// Of all processors together, where it is known.
    pub(super) processor: Option<f64>,
}

/// What one process measured.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Run {
    pub(super) version: String,
    pub(super) step: Times,
    pub(super) inference: Times,
    pub(super) peak_bytes: Option<f64>,
    pub(super) compile_seconds: f64,
    pub(super) losses: Vec<f64>,
    /// As it was printed.
    pub(super) printed: Value,
}

impl Run {
    pub(super) fn read(line: &str) -> Result<Run, String> {
        let printed = super::json(line)?;
        let number = |value: &Value, what: &str| {
            let found = value.as_f64();
            found.ok_or_else(|| format!("no {what} in {line}"))
        };
        let times = |name: &str| {
            Ok::<Times, String>(Times {
                median: number(&printed[name]["median"], name)?,
                min: number(&printed[name]["min"], name)?,
                processor: printed[name]["processor"].as_f64(),
            })
        };
        let losses = printed["losses"].as_array().into_iter().flatten();
        Ok(Run {
            version: printed["version"].as_str().unwrap_or_default().to_owned(),
            step: times("step")?,
            inference: times("inference")?,
            peak_bytes: printed["peak_bytes"].as_f64(),
            compile_seconds: number(&printed["compile_seconds"], "compile_seconds")?,
            losses: losses
                .map(|loss| number(loss, "loss"))
                .collect::<Result<_, _>>()?,
            printed,
        })
    }
}

/// All cases, in the order in which they were first run, with their runs and what went wrong.
#[derive(Debug, Default)]
pub(super) struct Cases(Vec<(Case, Vec<Run>, Option<String>)>);

/// What the runs of a case come to.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Summary {
    /// The median of the medians, and the shortest step of all.
    pub(super) step: Times,
    /// From the smallest to the largest median, as a share of the median, if there are several.
    pub(super) spread: Option<f64>,
    pub(super) inference: Times,
    pub(super) peak_bytes: Option<f64>,
    /// Of the first run: a cache may serve the later ones.
    pub(super) compile_seconds: f64,
}

impl Cases {
    pub(super) fn add(&mut self, case: Case, run: Result<Run, String>) {
        let at = self.0.iter().position(|(known, ..)| *known == case);
        let at = at.unwrap_or_else(|| {
            self.0.push((case, Vec::new(), None));
            self.0.len() - 1
        });
        match run {
            Ok(run) => self.0[at].1.push(run),
            Err(why) => self.0[at].2 = Some(why),
        }
    }

    pub(super) fn has_failed(&self, case: &Case) -> bool {
        self.failures().any(|(failed, _)| failed == case)
    }

    /// Cases that failed, with why.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&Case, &str)> {
        self.0
            .iter()
            .filter_map(|(case, _, why)| Some((case, why.as_deref()?)))
    }

    /// Cases that ran, with their runs.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&Case, &[Run])> {
        let ran = self.0.iter().filter(|(_, runs, _)| !runs.is_empty());
        ran.map(|(case, runs, _)| (case, &runs[..]))
    }

    /// Everything in which engines differ from the first on the same workload.
    pub(super) fn mismatches(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (case, runs) in self.runs() {
            let mut same = self
                .runs()
                .filter(|(other, _)| other.workload == case.workload);
            let Some((first, expected)) = same.next() else {
                continue;
            };
            for run in runs {
                if let Some(what) = difference(&expected[0].losses, &run.losses) {
                    found.push(format!("{case} and {} ({what})", first.engine));
                    break;
                }
            }
        }
        found
    }
}

/// How far losses may lie apart, relative to their size: the first, and all that follow. Rounding
/// differs, and a deep network at batch 1 doubles its differences at every step.
const FIRST: f64 = 1e-4;
const LATER: f64 = 1e-2;

/// In what losses differ, if they do.
fn difference(expected: &[f64], found: &[f64]) -> Option<String> {
    if expected.len() != found.len() {
        return Some(format!("{} losses, {}", found.len(), expected.len()));
    }
    let pairs = expected.iter().zip(found).enumerate();
    let differs = |&(i, (a, b)): &(usize, (&f64, &f64))| {
        let most = if i == 0 { FIRST } else { LATER };
        // What is not a number differs from everything.
        (a - b).abs() > most * a.abs() || a.is_nan() || b.is_nan()
    };
    let mut differing = pairs.filter(differs);
    differing
        .next()
        .map(|(i, (a, b))| format!("loss {i} is {b}, {a}"))
}

impl Summary {
    pub(super) fn of(runs: &[Run]) -> Summary {
        let steps = sorted(runs.iter().map(|run| run.step.median));
        let median = middle(&steps);
        let inferences = sorted(runs.iter().map(|run| run.inference.median));
        let least = |times: fn(&Run) -> f64| runs.iter().map(times).fold(f64::INFINITY, f64::min);
        let spent = |times: fn(&Run) -> Option<f64>| {
            let spent = sorted(runs.iter().filter_map(times));
            (!spent.is_empty()).then(|| middle(&spent))
        };
        let peaks = runs.iter().filter_map(|run| run.peak_bytes);
        let range = steps.last().unwrap_or(&median) - steps.first().unwrap_or(&median);
        Summary {
            step: Times {
                median,
                min: least(|run| run.step.min),
                processor: spent(|run| run.step.processor),
            },
            spread: (runs.len() > 1).then_some(range / median),
            inference: Times {
                median: middle(&inferences),
                min: least(|run| run.inference.min),
                processor: spent(|run| run.inference.processor),
            },
            peak_bytes: peaks.reduce(f64::max),
            compile_seconds: runs.first().map_or(0.0, |run| run.compile_seconds),
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run of one step time, with two losses.
    pub(in crate::bench) fn run(step: f64, losses: [f64; 2]) -> Run {
        let line = serde_json::json!({
            "version": "1.0", "step": {"median": step, "min": step / 2.0, "processor": 2.0 * step},
            "inference": {"median": step / 4.0, "min": step / 8.0},
            "peak_bytes": 1e6, "compile_seconds": 0.5, "losses": losses,
        });
        Run::read(&line.to_string()).unwrap()
    }

    pub(in crate::bench) fn case(engine: &str) -> Case {
        Case {
            workload: "W1".to_owned(),
            threads: 1,
            engine: engine.to_owned(),
        }
    }

    #[test]
    fn sums_up_runs() {
        let runs = [3.0, 1.0, 2.0].map(|step| run(step, [1.0, 0.5]));
        let summary = Summary::of(&runs);
        assert_eq!(summary.step.median, 2.0);
        assert_eq!(summary.step.min, 0.5);
        assert_eq!(summary.spread, Some(1.0));
        assert_eq!(summary.step.processor, Some(4.0));
        assert_eq!(summary.inference.median, 0.5);
        assert_eq!(summary.peak_bytes, Some(1e6));
    }

    #[test]
    fn finds_engines_that_compute_something_else() {
        let mut cases = Cases::default();
        cases.add(case("backprop"), Ok(run(1.0, [2.0, 1.0])));
        cases.add(case("near"), Ok(run(1.0, [2.0001, 1.005])));
        assert_eq!(cases.mismatches(), Vec::<String>::new());
        cases.add(case("far"), Ok(run(1.0, [2.0, 1.05])));
        cases.add(case("lost"), Ok(run(1.0, [f64::MAX, 1.0])));
        let found = cases.mismatches();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(
            found[0],
            "W1, threads 1, far and backprop (loss 1 is 1.05, 1)"
        );
    }

    #[test]
    fn a_failure_is_kept() {
        let mut cases = Cases::default();
        cases.add(case("broken"), Err("no memory".to_owned()));
        assert!(cases.has_failed(&case("broken")));
        assert_eq!(cases.runs().count(), 0);
    }

    #[test]
    fn refuses_what_was_not_measured() {
        for line in ["", "{}", r#"{"step": {"median": 1}}"#] {
            assert!(Run::read(line).is_err(), "{line}");
        }
    }
}
