//! What there is to know of each launch and value of a list.

use backprop_core::Plan;
use backprop_core::plan::{ALIGNMENT, Phase};

use crate::pass::launches::{Home, Launch, Launches, Loop, Step, Value, flat};

/// A step of the list.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) is_forward: bool,
    pub(super) is_loop: bool,
    /// The checkpoint around it.
    pub(super) checkpoint: Option<u32>,
    /// The scratch memory; for a loop all that an iteration takes.
    pub(super) scratch: usize,
    /// What it takes to run it, by the model of time.
    pub(super) time: u64,
    /// The parameters whose old values it reads, and those that it updates.
    pub(super) old: Vec<u32>,
    pub(super) updates: Vec<u32>,
    /// Which of its results may take the place of which operand.
    pub(super) over: Vec<(usize, usize)>,
    /// Whether it takes little beside its results, as a matrix product does not.
    pub(super) is_cheap: bool,
}

/// A list with all that its replays need to know.
pub(super) struct Program<'l> {
    pub(super) launches: &'l Launches,
    pub(super) facts: Vec<Facts>,
    /// The step that makes each value.
    pub(super) maker: Vec<Option<usize>>,
    /// The bytes of each value in the arena.
    pub(super) bytes: Vec<usize>,
    /// Whether a value need not be kept.
    pub(super) can_drop: Vec<bool>,
}

/// Whether a checkpoint is around some launch.
pub(super) fn is_marked(launches: &Launches) -> bool {
    let mut steps = launches.list.iter().filter_map(Step::launch);
    steps.any(|launch| checkpoint(launch).is_some())
}

fn checkpoint(launch: &Launch) -> Option<u32> {
    launch.origin.and_then(|origin| origin.checkpoint)
}

impl<'l> Program<'l> {
    pub(super) fn new(launches: &'l Launches, scratch: &dyn Fn(&Launch) -> usize) -> Program<'l> {
        let values = &launches.values;
        let facts: Vec<Facts> = launches
            .list
            .iter()
            .map(|step| match step {
                Step::Launch(launch) => of_launch(values, launch, scratch(launch)),
                Step::Loop(inner) => of_loop(values, inner, scratch),
            })
            .collect();
        let mut program = Program {
            launches,
            facts,
            maker: vec![None; values.len()],
            bytes: values.iter().map(bytes).collect(),
            can_drop: vec![false; values.len()],
        };
        for (i, step) in launches.list.iter().enumerate() {
            let runs_again = program.facts[i].is_forward && runs_again(values, step);
            for &write in step.writes() {
                program.maker[write] = Some(i);
                program.can_drop[write] = runs_again && values[write].home == Home::Temporary;
            }
        }
        for step in launches.list.iter().filter(|step| step.launch().is_none()) {
            for &read in step.reads() {
                program.can_drop[read] = false;
            }
        }
        program
    }

    pub(super) fn reads(&self, step: usize) -> &[usize] {
        self.launches.list[step].reads()
    }

    pub(super) fn writes(&self, step: usize) -> &[usize] {
        self.launches.list[step].writes()
    }
}

/// The bytes that a value takes in the arena.
fn bytes(value: &Value) -> usize {
    match value.home {
        Home::Temporary | Home::Enter | Home::Leave(_) => room(value),
        _ => 0,
    }
}

/// The bytes of a value that lies in the arena.
pub(super) fn room(value: &Value) -> usize {
    value.tensor.bytes().max(1).next_multiple_of(ALIGNMENT)
}

/// Whether a step can run once more later: it is no loop, and what it reads is there as it was.
fn runs_again(values: &[Value], step: &Step) -> bool {
    let Some(launch) = step.launch() else {
        return false;
    };
    let stays = |&v: &usize| {
        let moves = matches!(
            values[v].home,
            Home::Enter | Home::Leave(_) | Home::Slice { .. }
        );
        !moves
    };
    let writes = launch.writes.iter();
    let mut homes = writes.map(|&v| &values[v].home);
    launch.reads.iter().all(stays)
        && homes.all(|home| matches!(home, Home::Temporary | Home::Result(_)))
}

fn of_launch(values: &[Value], launch: &Launch, scratch: usize) -> Facts {
    let mut facts = Facts {
        is_forward: launch.phase() == Phase::Forward,
        checkpoint: checkpoint(launch),
        scratch: match scratch {
            0 => 0,
            bytes => bytes.next_multiple_of(ALIGNMENT),
        },
        time: Plan::modelled_time(&launch.primitive),
        is_cheap: is_cheap(launch),
        ..Facts::default()
    };
    for &read in &launch.reads {
        if let Home::Parameter(p) = values[read].home {
            facts.old.push(p);
        }
    }
    for (w, &write) in launch.writes.iter().enumerate() {
        if let Home::Update(p) = values[write].home {
            facts.updates.push(p);
        }
        for (r, &read) in launch.reads.iter().enumerate() {
            let same = launch.reads.iter().enumerate().filter(|&(_, &x)| x == read);
            let fits = values[read].tensor.bytes() == values[write].tensor.bytes();
            let allowed = |(r, _): (usize, &usize)| launch.primitive.may_overwrite(w, r);
            if fits && same.into_iter().all(allowed) {
                facts.over.push((w, r));
            }
        }
    }
    facts
}

fn of_loop(values: &[Value], inner: &Loop, scratch: &dyn Fn(&Launch) -> usize) -> Facts {
    let all = flat(&inner.body);
    let update = |launch: &Launch| {
        let homes = launch.writes.iter().map(|&v| values[v].home.clone());
        let updates = homes.filter_map(|home| match home {
            Home::Update(p) => Some(p),
            _ => None,
        });
        updates.collect::<Vec<u32>>()
    };
    Facts {
        is_forward: all
            .first()
            .is_none_or(|launch| launch.phase() == Phase::Forward),
        is_loop: true,
        scratch: most_live(values, &inner.body, scratch),
        updates: all.into_iter().flat_map(update).collect(),
        ..Facts::default()
    }
}

/// The most bytes that an iteration takes besides what is carried.
fn most_live(values: &[Value], body: &[Step], scratch: &dyn Fn(&Launch) -> usize) -> usize {
    let is_inner = |&v: &usize| values[v].home == Home::Temporary;
    let mut last = std::collections::HashMap::new();
    for (i, step) in body.iter().enumerate() {
        for v in step.writes().iter().copied().filter(is_inner) {
            last.insert(v, i);
        }
        for v in step.reads() {
            last.entry(*v).and_modify(|last| *last = i);
        }
    }
    let (mut live, mut most) = (0, 0);
    for (i, step) in body.iter().enumerate() {
        let made = step.writes().iter().filter(|v| is_inner(v));
        live += made.map(|&v| bytes(&values[v])).sum::<usize>();
        let besides = match step {
            Step::Launch(launch) => scratch(launch),
            Step::Loop(inner) => most_live(values, &inner.body, scratch),
        };
        most = most.max(live + besides);
        let dying = step.touches().into_iter();
        let dying = dying.filter(|v| last.get(v) == Some(&i));
        live -= dying.map(|v| bytes(&values[v])).sum::<usize>();
    }
    most
}

fn is_cheap(launch: &Launch) -> bool {
    use backprop_core::Primitive;
    matches!(
        *launch.primitive,
        Primitive::Sweep(_)
            | Primitive::Rows(_)
            | Primitive::Relocate(_)
            | Primitive::Gather(_)
            | Primitive::Random(_)
            | Primitive::Pool(_)
    )
}
