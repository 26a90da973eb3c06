//! Gives each value its bytes: temporaries share one arena, best fit among what is free, and take
//! the place of an operand that dies where the primitive allows it.

use std::collections::{BTreeMap, HashMap};

use backprop_core::plan::{
    ALIGNMENT, Access, Buffer, Draft, Launch, Role, Span, Step, Value, ValueId,
};

use super::launches::{Home, Launches};

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

/// Turns launches into a draft. `primitives` says which primitive each launch runs.
pub(super) fn place(
    launches: &Launches,
    mut draft: Draft,
    primitives: &[usize],
    homes: &Homes,
) -> Draft {
    let resident = |v| resident(launches, homes, v);
    let mut placer = Placer {
        launches,
        arena: Arena::default(),
        last: last_uses(launches),
        spans: (0..launches.values.len()).map(resident).collect(),
    };
    for (at, launch) in launches.list.iter().enumerate() {
        let scratch = placer.step(at, draft.scratch[primitives[at]]);
        let whole = |&v: &usize| Access::whole(ValueId(v as u32));
        let scope = launch
            .origin
            .map(|origin| &launches.scopes[origin.scope as usize]);
        draft.steps.push(Step::Launch(Launch {
            primitive: primitives[at],
            reads: launch.reads.iter().map(whole).collect(),
            writes: launch.writes.iter().map(whole).collect(),
            scratch,
            place: launch.origin.map(|origin| origin.place),
            scope: scope.cloned().unwrap_or_default(),
        }));
    }
    let (old, mut values) = outer_values(launches, homes);
    for (v, value) in launches.values.iter().enumerate() {
        values[v].role = role(&value.home, &old);
        values[v].span = placer.spans[v].unwrap_or(NOWHERE);
    }
    draft.values = values;
    draft.sizes = [placer.arena.size, homes.state_bytes, homes.io_bytes];
    draft
}

/// The span of a value without bytes.
const NOWHERE: Span = Span {
    buffer: Buffer::Arena,
    offset: 0,
    bytes: 0,
};

struct Placer<'l> {
    launches: &'l Launches,
    arena: Arena,
    /// For each value, the last launch that touches it.
    last: Vec<usize>,
    spans: Vec<Option<Span>>,
}

impl Placer<'_> {
    /// Places what a launch writes, and its scratch memory; frees what dies with it.
    fn step(&mut self, at: usize, scratch: usize) -> Option<Span> {
        let launch = &self.launches.list[at];
        let mut taken: Vec<usize> = Vec::new();
        for (w, &write) in launch.writes.iter().enumerate() {
            if self.spans[write].is_some() {
                continue;
            }
            self.spans[write] = match self.heir(at, w, &taken) {
                Some(read) => {
                    taken.push(read);
                    self.spans[read]
                }
                None => Some(self.arena.take(self.launches.values[write].tensor.bytes())),
            };
        }
        let scratch = (scratch > 0).then(|| self.arena.take(scratch));
        let mut dying: Vec<usize> = launch.reads.iter().chain(&launch.writes).copied().collect();
        dying.sort_unstable();
        dying.dedup();
        for v in dying {
            let dies = self.is_temporary(v) && self.last[v] == at && !taken.contains(&v);
            if let Some(span) = self.spans[v].filter(|_| dies) {
                self.arena.give(span);
            }
        }
        if let Some(span) = scratch {
            self.arena.give(span);
        }
        scratch
    }

    fn is_temporary(&self, v: usize) -> bool {
        self.launches.values[v].home == Home::Temporary
    }

    /// An operand of a launch that dies with it, and whose place its result number `w` may take.
    fn heir(&self, at: usize, w: usize, taken: &[usize]) -> Option<usize> {
        let launch = &self.launches.list[at];
        let bytes = |v: usize| self.launches.values[v].tensor.bytes();
        let free = |v: usize| self.is_temporary(v) && self.last[v] == at && !taken.contains(&v);
        launch.reads.iter().copied().find(|&read| {
            let mut reads = launch.reads.iter().enumerate().filter(|&(_, &r)| r == read);
            free(read)
                && bytes(read) == bytes(launch.writes[w])
                && reads.all(|(r, _)| launch.primitive.may_overwrite(w, r))
        })
    }
}

/// The values of the plan: those of the launches, and the old values of parameters that are updated
/// without being read. With the position of each parameter's old value.
fn outer_values(launches: &Launches, homes: &Homes) -> (HashMap<u32, ValueId>, Vec<Value>) {
    let mut old = HashMap::new();
    let mut values: Vec<Value> = Vec::with_capacity(launches.values.len());
    for (v, value) in launches.values.iter().enumerate() {
        if let Home::Parameter(p) = value.home {
            old.insert(p, ValueId(v as u32));
        }
        values.push(Value {
            tensor: value.tensor.clone(),
            role: Role::Temporary,
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
        Home::Temporary => Role::Temporary,
        Home::Parameter(_) => Role::Parameter,
        Home::Update(p) => Role::Update { of: old[p] },
        Home::Input(_) => Role::Input,
        Home::Data(_) => Role::Constant,
        Home::Result(_) => Role::Result,
    }
}

fn resident(launches: &Launches, homes: &Homes, v: usize) -> Option<Span> {
    match launches.values[v].home {
        Home::Temporary => None,
        Home::Parameter(p) | Home::Update(p) => homes.parameters.get(p as usize).copied(),
        Home::Input(i) => homes.inputs.get(&i).copied(),
        Home::Data(_) => homes.data.get(&v).copied(),
        Home::Result(k) => homes.results.get(k).copied(),
    }
}

/// For each value, the last launch that touches it.
fn last_uses(launches: &Launches) -> Vec<usize> {
    let mut last = vec![usize::MAX; launches.values.len()];
    for (at, launch) in launches.list.iter().enumerate() {
        for &v in launch.reads.iter().chain(&launch.writes) {
            last[v] = at;
        }
    }
    last
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
