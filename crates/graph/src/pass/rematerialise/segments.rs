//! Which values of the forward pass are not kept: the choices that are tried.
//!
//! The forward pass is cut where least is handed on. What is made and used between two cuts is made
//! once more from what crosses the first. Choices differ in how many cuts are left out, up to where
//! in the forward pass this is done (the beginning waits longest for the backward pass), and in what
//! is done behind that.

use std::collections::HashMap;

use super::program::Program;
use super::replay::Size;

/// The most segments.
const MOST_SEGMENTS: usize = 96;
/// How many points of a family of choices are tried before the best one is looked for between two.
const GRID: usize = 8;

/// What is not kept in a part of the forward pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Policy {
    /// All is kept.
    Keep,
    /// What takes next to nothing but reading.
    Cheap,
    /// What is made and used within so many segments.
    Groups(usize),
}

/// What is not kept up to a segment, and from there on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Choice {
    until: usize,
    before: Policy,
    after: Policy,
}

impl Choice {
    /// Only what checkpoints say.
    pub(super) const NOTHING: Choice = Choice {
        until: 0,
        before: Policy::Keep,
        after: Policy::Keep,
    };
}

/// Where a value is made and used in the forward pass.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: usize,
    last: usize,
}

/// The forward pass, cut.
pub(super) struct Segments {
    count: usize,
    /// For each value that need not be kept, the segments from the one that makes it to the last one
    /// that reads it in the forward pass.
    ranges: Vec<Option<Range>>,
    cheap: Vec<bool>,
    /// What checkpoints say.
    marked: Vec<bool>,
}

impl Segments {
    pub(super) fn new(program: &Program<'_>) -> Segments {
        let forward: Vec<usize> = (0..program.facts.len())
            .filter(|&step| program.facts[step].is_forward)
            .collect();
        let uses = Uses::new(program, &forward);
        let cuts = cuts(&uses.crossing(program, forward.len()));
        let segment = |at: usize| cuts.partition_point(|&cut| cut < at);
        let range = |(v, range): (usize, &Option<Range>)| {
            let range = range.filter(|_| program.can_drop[v])?;
            Some(Range {
                first: segment(range.first),
                last: segment(range.last),
            })
        };
        Segments {
            count: cuts.len() + 1,
            ranges: uses.ranges.iter().enumerate().map(range).collect(),
            cheap: cheap(program, &uses),
            marked: marked(program),
        }
    }

    /// The values that a choice does not keep.
    pub(super) fn dropped(&self, choice: Choice) -> Vec<bool> {
        let is_dropped = |(v, range): (usize, &Option<Range>)| {
            let Some(range) = range else {
                return false;
            };
            let (policy, start, end) = match range.first < choice.until {
                true => (choice.before, 0, choice.until),
                false => (choice.after, choice.until, self.count),
            };
            let by_policy = match policy {
                Policy::Keep => false,
                Policy::Cheap => self.cheap[v],
                Policy::Groups(size) => {
                    let group = (range.first - start) / size;
                    range.last < (start + (group + 1) * size).min(end)
                }
            };
            by_policy || self.marked[v]
        };
        let values = self.ranges.iter().enumerate();
        values.map(is_dropped).collect()
    }

    /// Tries choices, with what each takes.
    pub(super) fn search(
        &self,
        limit: usize,
        size: impl Fn(&[bool]) -> Size,
    ) -> Vec<(Choice, Size)> {
        let mut tried = Vec::new();
        let mut sizes: HashMap<Vec<bool>, Size> = HashMap::new();
        for (before, after) in self.families() {
            let mut fits = |until: usize| {
                let choice = Choice {
                    until,
                    before,
                    after,
                };
                let dropped = self.dropped(choice);
                let size = *sizes
                    .entry(dropped)
                    .or_insert_with_key(|dropped| size(dropped));
                tried.push((choice, size));
                size.bytes <= limit
            };
            let stride = self.count.div_ceil(GRID);
            let grid = (stride..self.count).step_by(stride).chain([self.count]);
            let mut too_much = 0;
            for until in grid {
                if !fits(until) {
                    too_much = until;
                    continue;
                }
                let (mut low, mut high) = (too_much, until);
                while high - low > 1 {
                    let middle = low.midpoint(high);
                    match fits(middle) {
                        true => high = middle,
                        false => low = middle,
                    }
                }
                break;
            }
        }
        tried
    }

    /// Pairs of policies, each with the next weaker ones behind it.
    fn families(&self) -> Vec<(Policy, Policy)> {
        let mut policies = vec![Policy::Keep, Policy::Cheap];
        let mut size = 1;
        while size <= self.count {
            policies.push(Policy::Groups(size));
            size = (size + 1).max(size * 3 / 2);
        }
        let mut families = Vec::new();
        for k in 1..policies.len() {
            let weaker = [0, k - 1, 1.min(k - 1)];
            for (i, &weak) in weaker.iter().enumerate() {
                if !weaker[..i].contains(&weak) {
                    families.push((policies[k], policies[weak]));
                }
            }
        }
        families
    }
}

/// Where values are made and used, by position in the forward pass.
struct Uses {
    ranges: Vec<Option<Range>>,
    /// Whether the backward pass reads a value.
    is_saved: Vec<bool>,
}

impl Uses {
    fn new(program: &Program<'_>, forward: &[usize]) -> Uses {
        let mut uses = Uses {
            ranges: vec![None; program.bytes.len()],
            is_saved: vec![false; program.bytes.len()],
        };
        for (at, &step) in forward.iter().enumerate() {
            for &v in program.writes(step) {
                uses.ranges[v] = Some(Range {
                    first: at,
                    last: at,
                });
            }
            for &v in program.reads(step) {
                if let Some(range) = &mut uses.ranges[v] {
                    range.last = at;
                }
            }
        }
        for (step, facts) in program.facts.iter().enumerate() {
            for &v in program.reads(step).iter().filter(|_| !facts.is_forward) {
                uses.is_saved[v] = true;
            }
        }
        uses
    }

    /// The bytes that the forward pass itself hands on behind each position.
    fn crossing(&self, program: &Program<'_>, positions: usize) -> Vec<usize> {
        let (mut come, mut go) = (vec![0; positions + 1], vec![0; positions + 1]);
        for (range, bytes) in self.ranges.iter().zip(&program.bytes) {
            if let Some(range) = range {
                come[range.first] += bytes;
                go[range.last] += bytes;
            }
        }
        let mut live = 0;
        let changes = come.into_iter().zip(go).take(positions);
        let after = changes.map(|(more, less)| {
            live = live + more - less;
            live
        });
        after.collect()
    }
}

/// The positions behind which little is handed on: no neighbour hands on less.
fn cuts(crossing: &[usize]) -> Vec<usize> {
    let Some(inner) = crossing.len().checked_sub(1) else {
        return Vec::new();
    };
    let is_low = |&at: &usize| {
        let before = at.checked_sub(1).map(|before| crossing[before]);
        before.is_none_or(|bytes| crossing[at] <= bytes) && crossing[at] <= crossing[at + 1]
    };
    let all: Vec<usize> = (0..inner).filter(is_low).collect();
    let stride = all.len().div_ceil(MOST_SEGMENTS).max(1);
    all.chunks(stride)
        .filter_map(|chunk| chunk.iter().copied().min_by_key(|&at| crossing[at]))
        .collect()
}

/// Values that take next to nothing but reading, where what is read is kept anyway or is less.
fn cheap(program: &Program<'_>, uses: &Uses) -> Vec<bool> {
    let mut cheap = vec![false; program.bytes.len()];
    for (step, facts) in program.facts.iter().enumerate() {
        if !facts.is_cheap {
            continue;
        }
        let writes = program.writes(step).iter();
        let freed = writes.clone().filter(|&&v| uses.is_saved[v]);
        let freed: usize = freed.map(|&v| program.bytes[v]).sum();
        let reads = program.reads(step).iter();
        let kept = reads.filter(|&&v| !uses.is_saved[v] && !cheap[v]);
        let kept: usize = kept.map(|&v| program.bytes[v]).sum();
        for &v in writes {
            cheap[v] = freed > kept && program.can_drop[v];
        }
    }
    cheap
}

/// What stands in a checkpoint and does not leave it.
fn marked(program: &Program<'_>) -> Vec<bool> {
    let checkpoint = |v: usize| program.maker[v].and_then(|step| program.facts[step].checkpoint);
    let mut marked: Vec<bool> = (0..program.bytes.len())
        .map(|v| program.can_drop[v] && checkpoint(v).is_some())
        .collect();
    for (step, facts) in program.facts.iter().enumerate() {
        for &v in program.reads(step).iter().filter(|_| facts.is_forward) {
            marked[v] &= checkpoint(v) == facts.checkpoint;
        }
    }
    marked
}
