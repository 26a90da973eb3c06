//! Gives each value its bytes: temporaries share one arena, best fit among what is free, and take
//! the place of an operand that dies where the primitive allows it.

use std::collections::{BTreeMap, HashMap, HashSet};

use backprop_core::Primitive;
use backprop_core::plan::{
    ALIGNMENT, Access, Buffer, Carry, Draft, Launch as PlanLaunch, Role, Span, Step as PlanStep,
    Value, ValueId,
};

use super::launches::{Home, Launch, Launches, Loop, Step};
use crate::ir::Turn;

/// Where values that outlive a step lie.
#[derive(Clone, Debug, Default)]
pub(crate) struct Homes {
    pub(crate) parameters: Vec<Span>,
    pub(crate) inputs: HashMap<u32, Span>,
    /// By position in [`Launches::values`].
    pub(crate) data: HashMap<usize, Span>,
    pub(crate) results: Vec<Span>,
    /// The sizes of the state and the io buffer.
    pub(crate) state_bytes: usize,
    pub(crate) io_bytes: usize,
}

/// The position of each primitive and the scratch memory of its kernel.
pub(super) type Kernels<'k> = HashMap<&'k Primitive, (usize, usize)>;

/// Turns launches into a draft, but for its primitives.
pub(super) fn place(launches: &Launches, kernels: &Kernels<'_>, homes: &Homes) -> Draft {
    let resident = |v| resident(launches, homes, v);
    let mut placer = Placer {
        launches,
        kernels,
        arena: Arena::default(),
        spans: (0..launches.values.len()).map(resident).collect(),
        ids: ids(launches),
    };
    let steps = placer.list(&launches.list);
    let (old, mut values) = outer_values(launches, &placer.ids, homes);
    for (v, value) in launches.values.iter().enumerate() {
        if let Some(id) = placer.ids[v] {
            values[id.index()].role = role(&value.home, &old);
            values[id.index()].span = placer.spans[v].unwrap_or(NOWHERE);
        }
    }
    values.shrink_to_fit();
    Draft {
        values,
        steps,
        sizes: [placer.arena.size, homes.state_bytes, homes.io_bytes],
        ..Draft::default()
    }
}

/// The values of the plan: all but those that are slices of others.
fn ids(launches: &Launches) -> Vec<Option<ValueId>> {
    let mut next = 0;
    let mut id = |value: &super::launches::Value| {
        let is_slice = matches!(value.home, Home::Slice { .. });
        next += u32::from(!is_slice);
        (!is_slice).then(|| ValueId(next - 1))
    };
    launches.values.iter().map(&mut id).collect()
}

/// The span of a value without bytes.
const NOWHERE: Span = Span {
    buffer: Buffer::Arena,
    offset: 0,
    bytes: 0,
};

struct Placer<'l> {
    launches: &'l Launches,
    kernels: &'l Kernels<'l>,
    arena: Arena,
    spans: Vec<Option<Span>>,
    ids: Vec<Option<ValueId>>,
}

/// A list of steps while it is placed.
struct List {
    /// For each value that the list makes in the arena, the last step that touches it.
    last: HashMap<usize, usize>,
}

impl Placer<'_> {
    fn list(&mut self, steps: &[Step]) -> Vec<PlanStep<PlanLaunch>> {
        let written = || steps.iter().flat_map(|step| step.writes().iter().copied());
        let home = |v: usize| &self.launches.values[v].home;
        let begun: HashSet<usize> = written().filter(|&v| *home(v) == Home::Enter).collect();
        let made = |&v: &usize| match home(v) {
            Home::Temporary | Home::Enter => true,
            Home::Leave(enter) => begun.contains(enter),
            _ => false,
        };
        let mut last: HashMap<usize, usize> = written().filter(made).map(|v| (v, 0)).collect();
        for (at, step) in steps.iter().enumerate() {
            for v in step.touches() {
                last.entry(v).and_modify(|last| *last = at);
            }
        }
        let list = List { last };
        let mut placed = Vec::with_capacity(steps.len());
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Launch(launch) => {
                    placed.push(PlanStep::Launch(self.launch(&list, at, launch)));
                }
                Step::Loop(inner) => self.iterated(&list, at, inner, &mut placed),
            }
        }
        placed
    }

    /// Places what a launch writes, and its scratch memory; frees what dies with it.
    fn launch(&mut self, list: &List, at: usize, launch: &Launch) -> PlanLaunch {
        let mut taken: Vec<usize> = Vec::new();
        for (w, &write) in launch.writes.iter().enumerate() {
            if self.spans[write].is_some() || !list.last.contains_key(&write) {
                continue;
            }
            self.spans[write] = match self.heir(list, (at, launch), w, &taken) {
                Some(read) => {
                    taken.push(read);
                    self.spans[read]
                }
                None => Some(self.arena.take(self.launches.values[write].tensor.bytes())),
            };
        }
        let scratch = self.scratch(launch);
        let touched = launch.reads.iter().chain(&launch.writes).copied();
        self.free(list, at, touched.filter(|v| !taken.contains(v)).collect());
        self.command(launch, scratch)
    }

    /// Scratch memory of a launch, while it lasts.
    fn scratch(&mut self, launch: &Launch) -> Option<Span> {
        let (_, bytes) = self.kernels[&*launch.primitive];
        (bytes > 0).then(|| self.arena.take(bytes))
    }

    /// A launch all of whose values are placed. Gives its scratch memory back.
    fn command(&mut self, launch: &Launch, scratch: Option<Span>) -> PlanLaunch {
        if let Some(span) = scratch {
            self.arena.give(span);
        }
        let (primitive, _) = self.kernels[&*launch.primitive];
        let access = |&v: &usize| self.access(v);
        let scope = launch
            .origin
            .map(|origin| &self.launches.scopes[origin.scope as usize]);
        PlanLaunch {
            primitive,
            reads: launch.reads.iter().map(access).collect(),
            writes: launch.writes.iter().map(access).collect(),
            scratch,
            place: launch.origin.map(|origin| origin.place),
            scope: scope.cloned().unwrap_or_default(),
            phase: launch.phase(),
        }
    }

    /// Places a loop: what leaves an iteration lies where something entered it.
    fn iterated(
        &mut self,
        list: &List,
        at: usize,
        inner: &Loop,
        placed: &mut Vec<PlanStep<PlanLaunch>>,
    ) {
        for &(enter, leave) in &inner.carries {
            self.spans[leave] = self.spans[enter];
        }
        for &write in &inner.writes {
            if self.spans[write].is_none() {
                let bytes = self.launches.values[write].tensor.bytes();
                self.spans[write] = Some(self.arena.take(bytes));
            }
        }
        for launch in &inner.before {
            let scratch = self.scratch(launch);
            placed.push(PlanStep::Launch(self.command(launch, scratch)));
        }
        let body = self.list(&inner.body);
        let is_entering = |v: &usize| {
            inner
                .carries
                .iter()
                .any(|&(enter, leave)| enter == *v && leave != *v)
        };
        let touched = inner.reads.iter().chain(&inner.writes).copied();
        self.free(list, at, touched.filter(|v| !is_entering(v)).collect());
        let carry = |&(enter, leave): &(usize, usize)| {
            Some(Carry {
                enter: self.ids[enter]?,
                leave: self.ids[leave]?,
            })
        };
        placed.push(PlanStep::Loop {
            times: inner.times,
            count: inner.count.and_then(|v| self.ids[v]),
            reverse: inner.turn == Turn::Backward,
            carries: inner.carries.iter().filter_map(carry).collect(),
            body,
        });
    }

    /// Gives back the bytes of those values that die with step number `at`.
    fn free(&mut self, list: &List, at: usize, mut values: Vec<usize>) {
        values.sort_unstable();
        values.dedup();
        for v in values {
            if let Some(span) = self.spans[v].filter(|_| list.last.get(&v) == Some(&at)) {
                self.arena.give(span);
            }
        }
    }

    /// A value, or a slice that moves with the loops around it.
    fn access(&self, v: usize) -> Access {
        let mut access = Access::whole(ValueId(0));
        let mut v = v;
        while let Home::Slice { of, depth } = self.launches.values[v].home {
            access.strides.get_or_insert_default()[depth] = self.launches.values[v].tensor.bytes();
            v = of;
        }
        access.value = self.ids[v].unwrap_or(ValueId(u32::MAX));
        access
    }

    /// An operand of a launch that dies with it, and whose place its result number `w` may take.
    fn heir(
        &self,
        list: &List,
        (at, launch): (usize, &Launch),
        w: usize,
        taken: &[usize],
    ) -> Option<usize> {
        let bytes = |v: usize| self.launches.values[v].tensor.bytes();
        let is_temporary = |v: usize| self.launches.values[v].home != Home::Enter;
        let dies = |v: usize| list.last.get(&v) == Some(&at) && is_temporary(v);
        launch.reads.iter().copied().find(|&read| {
            let mut reads = launch.reads.iter().enumerate().filter(|&(_, &r)| r == read);
            dies(read)
                && !taken.contains(&read)
                && bytes(read) == bytes(launch.writes[w])
                && reads.all(|(r, _)| launch.primitive.may_overwrite(w, r))
        })
    }
}

/// The values of the plan: those of the launches, and the old values of parameters that are updated
/// without being read. With the position of each parameter's old value.
fn outer_values(
    launches: &Launches,
    ids: &[Option<ValueId>],
    homes: &Homes,
) -> (HashMap<u32, ValueId>, Vec<Value>) {
    let mut old = HashMap::new();
    let mut values: Vec<Value> = Vec::with_capacity(launches.values.len());
    for (value, id) in launches.values.iter().zip(ids) {
        let Some(id) = *id else { continue };
        if let Home::Parameter(p) = value.home {
            old.insert(p, id);
        }
        values.push(Value {
            tensor: value.tensor.clone(),
            role: Role::Temporary,
            purpose: value.purpose,
            span: NOWHERE,
            name: value.name.clone(),
        });
    }
    for value in &launches.values {
        if let Home::Update(p) = value.home {
            old.entry(p).or_insert_with(|| {
                values.push(Value {
                    tensor: value.tensor.clone(),
                    role: Role::Parameter,
                    purpose: value.purpose,
                    span: homes.parameters[p as usize],
                    name: value.name.clone(),
                });
                ValueId(values.len() as u32 - 1)
            });
        }
    }
    (old, values)
}

fn role(home: &Home, old: &HashMap<u32, ValueId>) -> Role {
    match home {
        Home::Temporary | Home::Enter | Home::Leave(_) | Home::Slice { .. } => Role::Temporary,
        Home::Parameter(_) => Role::Parameter,
        Home::Update(p) => Role::Update { of: old[p] },
        Home::Input(_) => Role::Input,
        Home::Data(_) => Role::Constant,
        Home::Result(_) => Role::Result,
    }
}

fn resident(launches: &Launches, homes: &Homes, v: usize) -> Option<Span> {
    match launches.values[v].home {
        Home::Temporary | Home::Enter | Home::Leave(_) | Home::Slice { .. } => None,
        Home::Parameter(p) | Home::Update(p) => homes.parameters.get(p as usize).copied(),
        Home::Input(i) => homes.inputs.get(&i).copied(),
        Home::Data(_) => homes.data.get(&v).copied(),
        Home::Result(k) => homes.results.get(k).copied(),
    }
}

/// Free and used bytes.
#[derive(Default)]
struct Arena {
    size: usize,
    /// Free ranges: offset -> bytes.
    free: BTreeMap<usize, usize>,
}

impl Arena {
    fn take(&mut self, bytes: usize) -> Span {
        let padded = bytes.max(1).next_multiple_of(ALIGNMENT);
        let fits = self.free.iter().filter(|&(_, &size)| size >= padded);
        let best = fits
            .min_by_key(|&(_, &size)| size)
            .map(|(&at, &size)| (at, size));
        let (offset, size) = best.unwrap_or_else(|| {
            // Grow at the end, starting in the free range there, if there is one.
            let tail = self
                .free
                .last_key_value()
                .filter(|&(&at, &size)| at + size == self.size);
            let at = tail.map_or(self.size, |(&at, _)| at);
            self.size = at + padded;
            (at, padded)
        });
        self.free.remove(&offset);
        if size > padded {
            self.free.insert(offset + padded, size - padded);
        }
        Span {
            buffer: Buffer::Arena,
            offset,
            bytes,
        }
    }

    fn give(&mut self, span: Span) {
        let mut offset = span.offset;
        let mut size = span.bytes.max(1).next_multiple_of(ALIGNMENT);
        if let Some((&before, &bytes)) = self.free.range(..offset).next_back()
            && before + bytes == offset
        {
            self.free.remove(&before);
            (offset, size) = (before, size + bytes);
        }
        if let Some(bytes) = self.free.remove(&(offset + size)) {
            size += bytes;
        }
        self.free.insert(offset, size);
    }
}
