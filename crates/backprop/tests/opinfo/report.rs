//! What became of the cases, by operation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use crate::cases::Case;

/// What became of a case.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    Passed,
    /// What differs.
    Failed(String),
    /// Why the engine cannot run it.
    Unsupported(String),
}

/// With what the operations begin that are to run, if not all are.
pub(crate) fn only() -> Option<String> {
    std::env::var("OPINFO").ok()
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    /// How many cases there are for each reason.
    unsupported: BTreeMap<String, usize>,
}

pub(crate) struct Report {
    operations: BTreeMap<String, Tally>,
}

impl Report {
    pub(crate) fn new(cases: &[Case], verdicts: Vec<Verdict>) -> Report {
        assert_eq!(cases.len(), verdicts.len());
        let mut operations: BTreeMap<String, Tally> = BTreeMap::new();
        for (case, verdict) in cases.iter().zip(verdicts) {
            let tally = operations.entry(case.operation()).or_default();
            match verdict {
                Verdict::Passed => tally.passed += 1,
                Verdict::Failed(what) => tally.failed.push(format!("{}: {what}", case.name)),
                Verdict::Unsupported(why) => *tally.unsupported.entry(why).or_default() += 1,
            }
        }
        Report { operations }
    }

    /// A line for each operation, and the totals.
    pub(crate) fn print(&self) {
        // Not `println!`, which the test runner keeps to itself.
        let mut out = std::io::stderr().lock();
        let mut totals = [0; 3];
        for (operation, tally) in &self.operations {
            let counts = tally.counts();
            let [p, f, u] = counts;
            let why: Vec<&str> = tally.unsupported.keys().map(String::as_str).collect();
            let why = why.join("; ");
            let dash = if why.is_empty() { "" } else { ": " };
            let line = format!("{operation}: {p} passed, {f} failed, {u} unsupported{dash}{why}");
            writeln!(out, "{line}").unwrap();
            totals = std::array::from_fn(|i| totals[i] + counts[i]);
        }
        let [p, f, u] = totals;
        writeln!(out, "opinfo: {p} passed, {f} failed, {u} unsupported").unwrap();
    }

    /// Fails with the cases that failed, or if the list of what is not supported is another.
    pub(crate) fn check(&self) {
        let failed = self.operations.values().flat_map(|tally| &tally.failed);
        let failed: Vec<&str> = failed.map(String::as_str).collect();
        assert!(failed.is_empty(), "\n{}", failed.join("\n"));
        if only().is_none() {
            let list = expect_test::expect_file!["../data/opinfo/unsupported.txt"];
            list.assert_eq(&self.unsupported());
        }
    }

    /// A line for each operation of which some case is not supported: how many of how many, and why.
    fn unsupported(&self) -> String {
        let mut text = String::new();
        for (operation, tally) in &self.operations {
            let [passed, failed, missing] = tally.counts();
            if missing > 0 {
                let why: Vec<&str> = tally.unsupported.keys().map(String::as_str).collect();
                let (all, why) = (passed + failed + missing, why.join("; "));
                writeln!(text, "{operation} {missing}/{all}: {why}").unwrap();
            }
        }
        text
    }
}

impl Tally {
    fn counts(&self) -> [usize; 3] {
        let unsupported = self.unsupported.values().sum();
        [self.passed, self.failed.len(), unsupported]
    }
}
