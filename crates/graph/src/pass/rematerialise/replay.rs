//! The order in which launches run, given which values of the forward pass are not kept for the
//! backward pass.

use std::collections::HashSet;

use backprop_core::plan::{Phase, Purpose};

use super::program::{Program, room};
use crate::pass::launches::{Home, Launches, Step, Value};

/// Attempts at an order in which nothing runs again after a parameter that it reads was updated.
const ATTEMPTS: usize = 8;

/// A step of the list that runs here.
#[derive(Debug)]
struct Entry {
    step: usize,
    /// Whether it ran before.
    again: bool,
    reads: Vec<usize>,
    writes: Vec<usize>,
}

/// An order.
#[derive(Debug, Default)]
pub(super) struct Replay {
    entries: Vec<Entry>,
    /// What each value beyond those of the program is made once more of.
    copies: Vec<usize>,
}

/// What an order takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// The most bytes of the arena at any time, without gaps.
    pub(super) bytes: usize,
    /// What runs again, by the model of time.
    pub(super) time: u64,
}

impl Program<'_> {
    /// The order without `dropped` values: the backward pass makes them once more.
    pub(super) fn replay(&self, dropped: &[bool]) -> Replay {
        let mut dropped = dropped.to_vec();
        for _ in 0..ATTEMPTS {
            let mut writer = Writer::new(self, &dropped);
            writer.run();
            if writer.late.is_empty() {
                return writer.replay;
            }
            for v in writer.late {
                dropped[v] = false;
            }
        }
        let mut writer = Writer::new(self, &[]);
        writer.run();
        writer.replay
    }
}

struct Writer<'p> {
    program: &'p Program<'p>,
    dropped: &'p [bool],
    replay: Replay,
    /// What the backward pass reads instead of a value.
    current: Vec<usize>,
    updated: HashSet<u32>,
    /// The steps that have run again.
    done: Vec<bool>,
    /// Values that can't be made once more where they are needed.
    late: Vec<usize>,
}

impl<'p> Writer<'p> {
    fn new(program: &'p Program<'p>, dropped: &'p [bool]) -> Writer<'p> {
        Writer {
            program,
            dropped,
            replay: Replay::default(),
            current: (0..program.bytes.len()).collect(),
            updated: HashSet::new(),
            done: vec![false; program.facts.len()],
            late: Vec::new(),
        }
    }

    fn run(&mut self) {
        for (step, facts) in self.program.facts.iter().enumerate() {
            let mut reads = self.program.reads(step).to_vec();
            if !facts.is_forward {
                for read in &mut reads {
                    self.make(*read);
                    *read = self.current[*read];
                }
            }
            self.replay.entries.push(Entry {
                step,
                again: false,
                reads,
                writes: self.program.writes(step).to_vec(),
            });
            self.updated.extend(&facts.updates);
        }
    }

    /// Whether a value has to be made once more before it is read.
    fn is_missing(&self, v: usize) -> bool {
        self.dropped.get(v) == Some(&true) && self.current[v] == v
    }

    /// Makes a value once more if it is not there, with all that is missing below it.
    fn make(&mut self, v: usize) {
        let maker = |v: usize| self.program.maker[v];
        let mut open: Vec<usize> = match self.is_missing(v) {
            true => maker(v).into_iter().collect(),
            false => Vec::new(),
        };
        while let Some(&step) = open.last() {
            if self.done[step] {
                open.pop();
                continue;
            }
            let reads = self.program.reads(step).iter().copied();
            let missing = reads.filter(|&read| self.is_missing(read));
            let below: Vec<usize> = missing
                .filter_map(|read| self.program.maker[read])
                .collect();
            if !below.is_empty() {
                open.extend(below);
                continue;
            }
            self.run_again(step);
            open.pop();
        }
    }

    fn run_again(&mut self, step: usize) {
        self.done[step] = true;
        let program = self.program;
        let facts = &program.facts[step];
        let is_late = facts.old.iter().any(|p| self.updated.contains(p));
        let reads = program.reads(step).iter().map(|&v| self.current[v]);
        let reads = reads.collect();
        let mut writes = Vec::new();
        for &v in program.writes(step) {
            let copy = program.bytes.len() + self.replay.copies.len();
            self.replay.copies.push(v);
            writes.push(copy);
            if self.dropped[v] {
                self.current[v] = copy;
                self.late.extend(is_late.then_some(v));
            }
        }
        self.replay.entries.push(Entry {
            step,
            again: true,
            reads,
            writes,
        });
    }
}

impl Replay {
    /// What it takes, by the program's figures.
    pub(super) fn size(&self, program: &Program<'_>) -> Size {
        let known = program.bytes.len();
        let original = |v: usize| match v.checked_sub(known) {
            Some(copy) => self.copies[copy],
            None => v,
        };
        let bytes = |v: usize| match v < known {
            true => program.bytes[v],
            // A copy of a result lies in the arena.
            false => room(&program.launches.values[original(v)]),
        };
        let mut last = vec![0; known + self.copies.len()];
        for (at, entry) in self.entries.iter().enumerate() {
            for &v in entry.reads.iter().chain(&entry.writes) {
                last[v] = at;
            }
        }
        let mut size = Size { bytes: 0, time: 0 };
        let mut live = 0;
        for (at, entry) in self.entries.iter().enumerate() {
            let facts = &program.facts[entry.step];
            size.time += if entry.again { facts.time } else { 0 };
            let mut dying: Vec<usize> = entry.reads.iter().chain(&entry.writes).copied().collect();
            dying.sort_unstable();
            dying.dedup();
            dying.retain(|&v| last[v] == at && bytes(v) > 0);
            if facts.is_loop {
                // What leaves takes the place of what enters.
                let is_entering = |v: &usize| program.launches.values[*v].home == Home::Enter;
                live -= dying
                    .iter()
                    .filter(|v| is_entering(v))
                    .map(|&v| bytes(v))
                    .sum::<usize>();
                dying.retain(|v| !is_entering(v));
            }
            let made = entry.writes.iter().enumerate();
            for (w, &write) in made.filter(|&(_, &write)| bytes(write) > 0) {
                let heir = facts.over.iter().filter(|&&(result, _)| result == w);
                let heir = heir
                    .map(|&(_, r)| entry.reads[r])
                    .find(|read| dying.contains(read));
                match heir {
                    Some(read) => dying.retain(|&v| v != read),
                    None => live += bytes(write),
                }
            }
            size.bytes = size.bytes.max(live + facts.scratch);
            live -= dying.iter().map(|&v| bytes(v)).sum::<usize>();
        }
        size
    }

    /// As launches.
    pub(super) fn launches(&self, program: &Program<'_>) -> Launches {
        let Launches {
            values,
            list,
            scopes,
        } = program.launches;
        let mut values = values.clone();
        for &of in &self.copies {
            let copy = Value {
                home: Home::Temporary,
                purpose: Purpose::Plain,
                ..values[of].clone()
            };
            values.push(copy);
        }
        let run = |entry: &Entry| {
            let mut step = list[entry.step].clone();
            if let Step::Launch(launch) = &mut step {
                launch.reads.clone_from(&entry.reads);
                launch.writes.clone_from(&entry.writes);
                if let Some(origin) = launch.origin.as_mut().filter(|_| entry.again) {
                    origin.phase = Phase::Again;
                }
            }
            step
        };
        Launches {
            values,
            list: self.entries.iter().map(run).collect(),
            scopes: scopes.clone(),
        }
    }
}
