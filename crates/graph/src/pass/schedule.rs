//! Orders launches.
//!
//! A launch waits for whoever writes what it reads; one that writes a parameter's new value also
//! waits for all who read the old one, and so does what leaves an iteration of a loop for what entered
//! it. Bodies of loops are ordered first. Two orders are tried: that of the program, and one that
//! always runs the launch which frees most bytes; the one with fewer live bytes at its peak wins.

use std::collections::{BTreeSet, HashMap};

use backprop_core::{Error, ErrorKind, Result, View};

use super::launches::{Home, Launches, Step, Value, add_value, copy};

pub(super) fn schedule(mut launches: Launches) -> Result<Launches> {
    let list = std::mem::take(&mut launches.list);
    launches.list = ordered(&mut launches.values, list)?;
    Ok(launches)
}

/// A list in order, with the bodies of its loops.
fn ordered(values: &mut Vec<Value>, mut list: Vec<Step>) -> Result<Vec<Step>> {
    for step in &mut list {
        if let Step::Loop(inner) = step {
            inner.body = ordered(values, std::mem::take(&mut inner.body))?;
        }
    }
    for value in unsafe_in_place(values, &list) {
        copy_later(values, &mut list, value);
    }
    loop {
        let graph = Dependencies::new(values, &list);
        let Err(stuck) = graph.order(values, &list, Preference::Program) else {
            break;
        };
        // Somebody reads both the old and the new value: replace it by a copy.
        let update = stuck
            .into_iter()
            .find_map(|step| updated(values, &list[step]));
        let Some(value) = update else {
            let what = "launches wait for each other".to_owned();
            return Err(Error::new(ErrorKind::Plan { what }));
        };
        copy_later(values, &mut list, value);
    }
    let graph = Dependencies::new(values, &list);
    let orders = [Preference::Program, Preference::FewBytes];
    let orders = orders
        .iter()
        .filter_map(|&preference| graph.order(values, &list, preference).ok());
    match orders.min_by_key(|order| peak(values, &list, order)) {
        Some(order) => {
            let mut steps: Vec<Option<Step>> = list.into_iter().map(Some).collect();
            Ok(order.into_iter().filter_map(|i| steps[i].take()).collect())
        }
        None => Ok(list),
    }
}

/// What a value takes the place of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Old {
    Parameter(u32),
    Entering(usize),
}

fn replaced(value: &Value) -> Option<Old> {
    match value.home {
        Home::Update(parameter) => Some(Old::Parameter(parameter)),
        Home::Leave(enter) => Some(Old::Entering(enter)),
        _ => None,
    }
}

/// What may be replaced, for a value that is read.
fn old(values: &[Value], v: usize) -> Option<Old> {
    match values[v].home {
        Home::Parameter(parameter) => Some(Old::Parameter(parameter)),
        Home::Enter => Some(Old::Entering(v)),
        // A loop inside of a loop begins with what another one left.
        Home::Leave(_) => Some(Old::Entering(v)),
        _ => None,
    }
}

fn updated(values: &[Value], step: &Step) -> Option<usize> {
    let launch = step.launch()?;
    let by_copy = launch.primitive.name() == "relocate";
    let mut writes = launch.writes.iter().copied().filter(|_| !by_copy);
    writes.find(|&v| replaced(&values[v]).is_some())
}

/// New values written by a launch that reads the old one in a way that forbids taking its place.
fn unsafe_in_place(values: &[Value], list: &[Step]) -> Vec<usize> {
    let mut found = Vec::new();
    for launch in list.iter().filter_map(Step::launch) {
        for (w, &write) in launch.writes.iter().enumerate() {
            let Some(place) = replaced(&values[write]) else {
                continue;
            };
            let forbidden = launch.reads.iter().enumerate().any(|(r, &read)| {
                old(values, read) == Some(place) && !launch.primitive.may_overwrite(w, r)
            });
            if forbidden {
                found.push(write);
            }
        }
    }
    found
}

/// Computes a new value in the arena, where everybody reads it, and copies it over the old one.
fn copy_later(values: &mut Vec<Value>, list: &mut Vec<Step>, value: usize) {
    let new = values[value].clone();
    let writer = list.iter().find(|step| step.writes().contains(&value));
    let origin = writer
        .and_then(Step::launch)
        .and_then(|launch| launch.origin);
    let view = View::dense(new.tensor.shape);
    let early = Value {
        home: Home::Temporary,
        ..new.clone()
    };
    let early = add_value(values, early);
    rename(list, value, early);
    list.push(copy(values, (early, view), value, origin));
}

/// Makes all steps use another value instead of one.
fn rename(list: &mut [Step], from: usize, to: usize) {
    let replace = |v: &mut usize| {
        if *v == from {
            *v = to;
        }
    };
    for step in list {
        match step {
            Step::Launch(launch) => {
                launch
                    .reads
                    .iter_mut()
                    .chain(&mut launch.writes)
                    .for_each(replace);
            }
            Step::Loop(inner) => {
                inner
                    .reads
                    .iter_mut()
                    .chain(&mut inner.writes)
                    .for_each(replace);
                inner.count.iter_mut().for_each(replace);
                rename(&mut inner.body, from, to);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Preference {
    Program,
    FewBytes,
}

struct Dependencies {
    /// For each launch, those that wait for it.
    followers: Vec<Vec<usize>>,
    /// For each launch, how many it waits for.
    waits: Vec<usize>,
    /// For each value, the launches that read it.
    readers: Vec<Vec<usize>>,
}

impl Dependencies {
    fn new(values: &[Value], list: &[Step]) -> Dependencies {
        let count = list.len();
        let mut graph = Dependencies {
            followers: vec![Vec::new(); count],
            waits: vec![0; count],
            readers: vec![Vec::new(); values.len()],
        };
        let mut writer = vec![None; values.len()];
        let mut old_readers: HashMap<Old, Vec<usize>> = HashMap::new();
        for (i, step) in list.iter().enumerate() {
            for &write in step.writes() {
                writer[write] = Some(i);
            }
            for &read in step.reads() {
                if graph.readers[read].last() != Some(&i) {
                    graph.readers[read].push(i);
                }
                if let Some(place) = old(values, read) {
                    old_readers.entry(place).or_default().push(i);
                }
            }
        }
        for (i, step) in list.iter().enumerate() {
            for &read in step.reads() {
                if let Some(from) = writer[read] {
                    graph.edge(from, i);
                }
            }
            for &write in step.writes() {
                let Some(place) = replaced(&values[write]) else {
                    continue;
                };
                for &from in old_readers.get(&place).into_iter().flatten() {
                    graph.edge(from, i);
                }
            }
        }
        graph
    }

    fn edge(&mut self, from: usize, to: usize) {
        if from != to {
            self.followers[from].push(to);
            self.waits[to] += 1;
        }
    }

    /// An order that respects all dependencies, or the launches that wait for each other.
    fn order(
        &self,
        values: &[Value],
        list: &[Step],
        preference: Preference,
    ) -> Result<Vec<usize>, Vec<usize>> {
        let mut waits = self.waits.clone();
        let mut unread: Vec<usize> = self.readers.iter().map(Vec::len).collect();
        let mut ready: BTreeSet<(isize, usize)> = BTreeSet::new();
        let mut key: Vec<Option<isize>> = vec![None; waits.len()];
        let mut done = vec![false; waits.len()];
        let growth = |i: usize, unread: &[usize]| match preference {
            Preference::Program => 0,
            Preference::FewBytes => growth(values, &list[i], unread),
        };
        for i in (0..waits.len()).filter(|&i| waits[i] == 0) {
            key[i] = Some(growth(i, &unread));
            ready.insert((growth(i, &unread), i));
        }
        let mut order = Vec::with_capacity(waits.len());
        while let Some((_, i)) = ready.pop_first() {
            order.push(i);
            done[i] = true;
            for &follower in &self.followers[i] {
                waits[follower] -= 1;
                if waits[follower] == 0 {
                    key[follower] = Some(growth(follower, &unread));
                    ready.insert((growth(follower, &unread), follower));
                }
            }
            let mut reads = list[i].reads().to_vec();
            reads.sort_unstable();
            reads.dedup();
            for read in reads {
                unread[read] -= 1;
                if unread[read] != 1 {
                    continue;
                }
                // The one reader that is left would free the value.
                let last = self.readers[read]
                    .iter()
                    .copied()
                    .find(|&reader| !done[reader]);
                let Some(last) = last else { continue };
                if let Some(old) = key[last].filter(|&old| ready.remove(&(old, last))) {
                    let new = growth(last, &unread).min(old);
                    key[last] = Some(new);
                    ready.insert((new, last));
                }
            }
        }
        if order.len() == waits.len() {
            return Ok(order);
        }
        Err((0..done.len()).filter(|&i| !done[i]).collect())
    }
}

fn bytes(value: &Value) -> isize {
    match value.home {
        Home::Temporary => value.tensor.bytes() as isize,
        _ => 0,
    }
}

/// How many more bytes are live after a launch than before.
fn growth(values: &[Value], step: &Step, unread: &[usize]) -> isize {
    let made: isize = step.writes().iter().map(|&v| bytes(&values[v])).sum();
    let freed = step.reads().iter().filter(|&&v| unread[v] == 1);
    made - freed.map(|&v| bytes(&values[v])).sum::<isize>()
}

/// The most live bytes at any time, without regard to values that take each other's place.
fn peak(values: &[Value], list: &[Step], order: &[usize]) -> isize {
    let mut last = vec![usize::MAX; values.len()];
    for (at, &i) in order.iter().enumerate() {
        for v in list[i].touches() {
            last[v] = at;
        }
    }
    let (mut live, mut most) = (0, 0);
    for (at, &i) in order.iter().enumerate() {
        let made = list[i].writes().iter().map(|&v| bytes(&values[v]));
        live += made.sum::<isize>();
        most = most.max(live);
        let dying = list[i].touches().into_iter().filter(|&v| last[v] == at);
        live -= dying.map(|v| bytes(&values[v])).sum::<isize>();
    }
    most
}
