//! Orders launches.
//!
//! A launch waits for whoever writes what it reads; one that writes a parameter's new value also
//! waits for all who read the old one. Two orders are tried: that of the program, and one that
//! always runs the launch which frees most bytes; the one with fewer live bytes at its peak wins.

use std::collections::{BTreeSet, HashMap};

use backprop_core::{Error, ErrorKind, Result, View};

use super::launches::{Home, Launches, Value};

pub(super) fn schedule(mut launches: Launches) -> Result<Launches> {
    for value in unsafe_in_place(&launches) {
        copy_later(&mut launches, value);
    }
    loop {
        let graph = Dependencies::new(&launches);
        let Err(stuck) = graph.order(&launches, Preference::Program) else {
            break;
        };
        // Somebody reads both the old and the new value of a parameter: update it by a copy.
        let update = stuck
            .into_iter()
            .find_map(|launch| updated(&launches, launch));
        let Some(value) = update else {
            let what = "launches wait for each other".to_owned();
            return Err(Error::new(ErrorKind::Plan { what }));
        };
        copy_later(&mut launches, value);
    }
    let graph = Dependencies::new(&launches);
    let orders = [Preference::Program, Preference::FewBytes];
    let orders = orders
        .iter()
        .filter_map(|&preference| graph.order(&launches, preference).ok());
    if let Some(order) = orders.min_by_key(|order| peak(&launches, order)) {
        launches.list = order.iter().map(|&i| launches.list[i].clone()).collect();
    }
    Ok(launches)
}

fn is_update(value: &Value) -> Option<u32> {
    match value.home {
        Home::Update(parameter) => Some(parameter),
        _ => None,
    }
}

fn updated(launches: &Launches, launch: usize) -> Option<usize> {
    let launch = &launches.list[launch];
    let by_copy = launch.primitive.name() == "relocate";
    let mut writes = launch.writes.iter().copied().filter(|_| !by_copy);
    writes.find(|&v| is_update(&launches.values[v]).is_some())
}

/// Updates written by a launch that reads the old value in a way that forbids taking its place.
fn unsafe_in_place(launches: &Launches) -> Vec<usize> {
    let mut found = Vec::new();
    for launch in &launches.list {
        for (w, &write) in launch.writes.iter().enumerate() {
            let Some(parameter) = is_update(&launches.values[write]) else {
                continue;
            };
            let forbidden = launch.reads.iter().enumerate().any(|(r, &read)| {
                launches.values[read].home == Home::Parameter(parameter)
                    && !launch.primitive.may_overwrite(w, r)
            });
            if forbidden {
                found.push(write);
            }
        }
    }
    found
}

/// Computes an update in the arena and copies it over the parameter.
fn copy_later(launches: &mut Launches, value: usize) {
    let update = launches.values[value].clone();
    launches.values[value].home = Home::Temporary;
    let view = View::dense(update.tensor.shape);
    let origin = launches
        .list
        .iter()
        .find(|l| l.writes.contains(&value))
        .and_then(|l| l.origin);
    launches.add_copy(value, view, update, origin);
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
    fn new(launches: &Launches) -> Dependencies {
        let count = launches.list.len();
        let mut graph = Dependencies {
            followers: vec![Vec::new(); count],
            waits: vec![0; count],
            readers: vec![Vec::new(); launches.values.len()],
        };
        let mut writer = vec![None; launches.values.len()];
        let mut old_readers: HashMap<u32, Vec<usize>> = HashMap::new();
        for (i, launch) in launches.list.iter().enumerate() {
            for &write in &launch.writes {
                writer[write] = Some(i);
            }
            for &read in &launch.reads {
                if graph.readers[read].last() != Some(&i) {
                    graph.readers[read].push(i);
                }
                if let Home::Parameter(p) = launches.values[read].home {
                    old_readers.entry(p).or_default().push(i);
                }
            }
        }
        for (i, launch) in launches.list.iter().enumerate() {
            for &read in &launch.reads {
                if let Some(from) = writer[read] {
                    graph.edge(from, i);
                }
            }
            for &write in &launch.writes {
                let Some(p) = is_update(&launches.values[write]) else {
                    continue;
                };
                for &from in old_readers.get(&p).into_iter().flatten() {
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
    fn order(&self, launches: &Launches, preference: Preference) -> Result<Vec<usize>, Vec<usize>> {
        let mut waits = self.waits.clone();
        let mut unread: Vec<usize> = self.readers.iter().map(Vec::len).collect();
        let mut ready: BTreeSet<(isize, usize)> = BTreeSet::new();
        let mut key: Vec<Option<isize>> = vec![None; waits.len()];
        let mut done = vec![false; waits.len()];
        let growth = |i: usize, unread: &[usize]| match preference {
            Preference::Program => 0,
            Preference::FewBytes => growth(launches, i, unread),
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
            let mut reads = launches.list[i].reads.clone();
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
fn growth(launches: &Launches, i: usize, unread: &[usize]) -> isize {
    let launch = &launches.list[i];
    let made: isize = launch
        .writes
        .iter()
        .map(|&v| bytes(&launches.values[v]))
        .sum();
    let freed = launch.reads.iter().filter(|&&v| unread[v] == 1);
    made - freed.map(|&v| bytes(&launches.values[v])).sum::<isize>()
}

/// The most live bytes at any time, without regard to values that take each other's place.
fn peak(launches: &Launches, order: &[usize]) -> isize {
    let mut last = vec![usize::MAX; launches.values.len()];
    for (at, &i) in order.iter().enumerate() {
        for &v in launches.list[i]
            .reads
            .iter()
            .chain(&launches.list[i].writes)
        {
            last[v] = at;
        }
    }
    let (mut live, mut most) = (0, 0);
    for (at, &i) in order.iter().enumerate() {
        let launch = &launches.list[i];
        live += launch
            .writes
            .iter()
            .map(|&v| bytes(&launches.values[v]))
            .sum::<isize>();
        most = most.max(live);
        let mut touched: Vec<usize> = launch.reads.iter().chain(&launch.writes).copied().collect();
        touched.sort_unstable();
        touched.dedup();
        let dying = touched.into_iter().filter(|&v| last[v] == at);
        live -= dying.map(|v| bytes(&launches.values[v])).sum::<isize>();
    }
    most
}
