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

pub(super) fn place(
    launches: &Launches,
    mut draft: Draft,
    primitives: &[usize],
    homes: &Homes,
) -> Draft {
    let (old, mut values) = outer_values(launches, homes);
    let mut arena = Arena::default();
    let last = last_uses(launches);
    let mut spans: Vec<Option<Span>> = launches
        .values
        .iter()
        .enumerate()
        .map(|(v, _)| resident(launches, homes, v))
        .collect();
    for (at, launch) in launches.list.iter().enumerate() {
        let mut taken: Vec<usize> = Vec::new();
        for (w, &write) in launch.writes.iter().enumerate() {
            if spans[write].is_some() {
                continue;
            }
            let bytes = launches.values[write].tensor.bytes();
            let heir = launch.reads.iter().copied().find(|&read| {
                let inherits = launches.values[read].home == Home::Temporary
                    && last[read] == at
                    && !taken.contains(&read)
                    && launches.values[read].tensor.bytes() == bytes;
                let everywhere = || {
                    let reads = launch.reads.iter().enumerate().filter(|&(_, &r)| r == read);
                    reads
                        .into_iter()
                        .all(|(r, _)| launch.primitive.may_overwrite(w, r))
                };
                inherits && everywhere()
            });
            spans[write] = match heir {
                Some(read) => {
                    taken.push(read);
                    spans[read]
                }
                None => Some(arena.take(bytes)),
            };
        }
        let needed = draft.scratch[primitives[at]];
        let scratch = (needed > 0).then(|| arena.take(needed));
        let mut dying: Vec<usize> = launch.reads.iter().chain(&launch.writes).copied().collect();
        dying.sort_unstable();
        dying.dedup();
        for v in dying {
            let temporary = launches.values[v].home == Home::Temporary;
            if let Some(span) =
                spans[v].filter(|_| temporary && last[v] == at && !taken.contains(&v))
            {
                arena.give(span);
            }
        }
        if let Some(span) = scratch {
            arena.give(span);
        }
        let whole = |&v: &usize| Access::whole(ValueId(v as u32));
        draft.steps.push(Step::Launch(Launch {
            primitive: primitives[at],
            reads: launch.reads.iter().map(whole).collect(),
            writes: launch.writes.iter().map(whole).collect(),
            scratch,
            place: launch.origin.map(|origin| origin.place),
            scope: launch.origin.map_or_else(String::new, |origin| {
                launches.scopes[origin.scope as usize].clone()
            }),
        }));
    }
    for (v, value) in launches.values.iter().enumerate() {
        values[v] = Value {
            tensor: value.tensor.clone(),
            role: role(&value.home, &old),
            span: spans[v].unwrap_or(Span {
                buffer: Buffer::Arena,
                offset: 0,
                bytes: 0,
            }),
            name: value.name.clone(),
        };
    }
    draft.values = values;
    draft.sizes = [arena.size, homes.state_bytes, homes.io_bytes];
    draft
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
            span: Span {
                buffer: Buffer::Arena,
                offset: 0,
                bytes: 0,
            },
            name: String::new(),
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
