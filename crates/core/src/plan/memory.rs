//! What the bytes of a plan are for, and when: known before the first step.

use std::collections::HashMap;
use std::fmt;

use super::{
    Access, Buffer, Launch, Phase, Plan, Purpose, Role, Span, Step, Value, ValueId, format_bytes,
};
use crate::Primitive;

/// Operations that take as long as moving a byte, in the model of time.
const BYTE: u64 = 4;

/// What a stretch of the arena holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Use {
    /// The gradient of a parameter.
    Gradient,
    /// What the forward pass makes and the backward pass reads.
    Saved,
    /// Anything else that is made and used within the step.
    Temporary,
    /// Scratch memory of a kernel.
    Scratch,
}

/// A range of the arena, and the [lines](Plan::lines) during which it is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stay {
    /// What lies there; `None` for scratch memory.
    pub value: Option<ValueId>,
    /// What it is counted as.
    pub holds: Use,
    /// Where.
    pub span: Span,
    /// The first line that needs it.
    pub first: usize,
    /// The last line that needs it.
    pub last: usize,
}

/// The bytes of all buffers by what they hold at the moment at which most of the arena is taken.
/// Together they are what is allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryUse {
    /// Parameters that this plan touches.
    pub parameters: usize,
    /// What optimizers keep of them.
    pub optimizer_state: usize,
    /// Gradients of parameters that have memory of their own: most are used where they are made.
    pub gradients: usize,
    /// What the forward pass makes and the backward pass reads.
    pub saved: usize,
    /// Everything else that is made and used within the step.
    pub temporaries: usize,
    /// Scratch memory of kernels.
    pub scratch: usize,
    /// Inputs, constants and results.
    pub io: usize,
    /// Gaps between values, and what only other plans of the session use.
    pub unused: usize,
}

impl MemoryUse {
    /// All bytes: the sizes of the three buffers.
    #[must_use]
    pub fn total(&self) -> usize {
        self.named().into_iter().map(|(_, bytes)| bytes).sum()
    }

    fn named(&self) -> [(&'static str, usize); 8] {
        [
            ("parameters", self.parameters),
            ("optimizer state", self.optimizer_state),
            ("gradients", self.gradients),
            ("saved activations", self.saved),
            ("temporaries", self.temporaries),
            ("scratch", self.scratch),
            ("inputs and results", self.io),
            ("unused", self.unused),
        ]
    }
}

/// One line: what there is, in the order of the fields.
impl fmt::Display for MemoryUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = self.named().into_iter().filter(|&(_, bytes)| bytes > 0);
        let parts = there.map(|(name, bytes)| format!("{} {name}", format_bytes(bytes)));
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}

/// What it takes to run parts of the forward pass again.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Recomputation {
    /// Launches that run again.
    pub launches: usize,
    /// Their floating-point operations ([`Primitive::operations`]).
    pub operations: u64,
    /// The bytes that they read and write.
    pub bytes: u64,
    /// Their time as a part of that of all other launches, by [`Plan::modelled_time`].
    pub share: f64,
}

/// The bytes that a launch reads and writes.
fn bytes_of(primitive: &Primitive) -> u64 {
    let tensors = primitive.reads().into_iter().chain(primitive.writes());
    let bytes = tensors.map(|tensor| tensor.bytes() as u64);
    bytes.fold(0, u64::saturating_add)
}

impl Plan {
    /// How long a launch takes, in the time of one floating-point operation: its operations, and
    /// four for each byte that it reads and writes. A rough model, for choosing what to run again.
    #[must_use]
    pub fn modelled_time(primitive: &Primitive) -> u64 {
        let bytes = BYTE.saturating_mul(bytes_of(primitive));
        primitive.operations().saturating_add(bytes)
    }

    /// What it takes to run parts of the forward pass again; nothing without a budget or a mark.
    #[must_use]
    pub fn recomputation(&self) -> Recomputation {
        let mut found = Recomputation::default();
        let (mut again, mut other) = (0u64, 0u64);
        let runs = self.commands().into_iter().map(|(_, times)| times as u64);
        for (launch, times) in self.lines().into_iter().zip(runs) {
            let primitive = &self.primitives()[launch.primitive];
            // Loops of loops may count beyond every number.
            let all = |once: u64| times.saturating_mul(once);
            let time = all(Plan::modelled_time(primitive));
            if launch.phase != Phase::Again {
                other = other.saturating_add(time);
                continue;
            }
            again = again.saturating_add(time);
            found.launches = found.launches.saturating_add(times as usize);
            found.operations = found.operations.saturating_add(all(primitive.operations()));
            found.bytes = found.bytes.saturating_add(all(bytes_of(primitive)));
        }
        found.share = again as f64 / (other as f64).max(1.0);
        found
    }

    /// Every stretch of the arena with the lines during which it is taken, in order of the first
    /// one. A value that a loop uses from outside stays for the whole loop.
    #[must_use]
    pub fn stays(&self) -> Vec<Stay> {
        Walk::new(self).stays()
    }

    /// The bytes of the values that the forward pass makes and the backward pass reads, at the
    /// moment at which there are most of them.
    #[must_use]
    pub fn saved_activations(&self) -> usize {
        let stays = self.stays().into_iter();
        let saved: Vec<Stay> = stays.filter(|stay| stay.holds == Use::Saved).collect();
        let live = live_bytes(self.lines().len(), &saved);
        live.into_iter().max().unwrap_or(0)
    }

    /// What the bytes of all buffers hold at the moment at which most of the arena is taken.
    #[must_use]
    pub fn memory(&self) -> MemoryUse {
        let mut found = MemoryUse::default();
        for value in self.values() {
            match (value.role, value.purpose) {
                (Role::Parameter, Purpose::OptimizerState) => {
                    found.optimizer_state += value.span.bytes;
                }
                (Role::Parameter, _) => found.parameters += value.span.bytes,
                _ => {}
            }
        }
        for stay in self.stays_at_peak() {
            *match stay.holds {
                Use::Gradient => &mut found.gradients,
                Use::Saved => &mut found.saved,
                Use::Temporary => &mut found.temporaries,
                Use::Scratch => &mut found.scratch,
            } += stay.span.bytes;
        }
        found.io = self.bytes(Buffer::Io);
        let all: usize = Buffer::ALL.iter().map(|&buffer| self.bytes(buffer)).sum();
        found.unused = all.saturating_sub(found.total());
        found
    }

    /// What takes the arena at the moment at which most of it is taken, the largest first.
    #[must_use]
    pub fn stays_at_peak(&self) -> Vec<Stay> {
        let stays = self.stays();
        let live = live_bytes(self.lines().len(), &stays);
        let most = live.iter().max().copied();
        let peak = live.iter().position(|&bytes| Some(bytes) == most);
        let peak = peak.unwrap_or(0);
        let taken = |stay: &Stay| (stay.first..=stay.last).contains(&peak);
        let mut there: Vec<Stay> = stays.into_iter().filter(taken).collect();
        there.sort_by_key(|stay| std::cmp::Reverse(stay.span.bytes));
        there
    }
}

/// The bytes taken during each line.
fn live_bytes(lines: usize, stays: &[Stay]) -> Vec<usize> {
    let (mut come, mut go) = (vec![0; lines + 1], vec![0; lines + 1]);
    for stay in stays {
        come[stay.first] += stay.span.bytes;
        go[stay.last + 1] += stay.span.bytes;
    }
    let mut now = 0;
    let changes = come.into_iter().zip(go).take(lines);
    let after = changes.map(|(more, less)| {
        now = now + more - less;
        now
    });
    after.collect()
}

/// The steps of the plan or of a loop, as lines.
#[derive(Clone, Copy)]
struct Body {
    outer: usize,
    depth: usize,
    first: usize,
    last: usize,
}

/// Who touches a value.
#[derive(Clone, Default)]
struct Touches {
    /// The body that each line belongs to.
    at: Vec<(usize, usize)>,
    made: Vec<Phase>,
    read: Vec<Phase>,
}

struct Walk<'p> {
    plan: &'p Plan,
    lines: usize,
    bodies: Vec<Body>,
    touches: Vec<Touches>,
    stays: Vec<Stay>,
}

impl<'p> Walk<'p> {
    fn new(plan: &'p Plan) -> Walk<'p> {
        let whole = Body {
            outer: 0,
            depth: 0,
            first: 0,
            last: plan.lines().len(),
        };
        let mut walk = Walk {
            plan,
            lines: 0,
            bodies: vec![whole],
            touches: vec![Touches::default(); plan.values().len()],
            stays: Vec::new(),
        };
        walk.steps(&plan.draft.steps, 0);
        walk
    }

    fn steps(&mut self, steps: &[Step<Launch>], body: usize) {
        for step in steps {
            match step {
                Step::Launch(launch) => self.launch(launch, body),
                Step::Loop {
                    count,
                    carries,
                    body: inner,
                    ..
                } => {
                    let first = self.lines;
                    self.bodies.push(Body {
                        outer: body,
                        depth: self.bodies[body].depth + 1,
                        first,
                        last: first,
                    });
                    let number = self.bodies.len() - 1;
                    self.steps(inner, number);
                    let last = self.lines.saturating_sub(1).max(first);
                    self.bodies[number].last = last;
                    let enters = carries.iter().map(|carry| carry.enter);
                    for id in enters.chain(*count) {
                        self.touches[id.index()]
                            .at
                            .extend([(body, first), (body, last)]);
                    }
                    // It lies where what entered did, until the loop ends.
                    for carry in carries {
                        self.touches[carry.leave.index()].at = vec![(body, last)];
                    }
                }
            }
        }
    }

    fn launch(&mut self, launch: &Launch, body: usize) {
        let line = self.lines;
        self.lines += 1;
        let touch = |touches: &mut Vec<Touches>, access: &Access| {
            touches[access.value.index()].at.push((body, line));
        };
        for access in &launch.reads {
            touch(&mut self.touches, access);
            self.touches[access.value.index()].read.push(launch.phase);
        }
        for access in &launch.writes {
            touch(&mut self.touches, access);
            self.touches[access.value.index()].made.push(launch.phase);
        }
        let scratch = launch.scratch.filter(|span| span.bytes > 0);
        self.stays.extend(scratch.map(|span| Stay {
            value: None,
            holds: Use::Scratch,
            span,
            first: line,
            last: line,
        }));
    }

    fn stays(mut self) -> Vec<Stay> {
        for (i, value) in self.plan.values().iter().enumerate() {
            let is_there = value.span.buffer == Buffer::Arena && value.span.bytes > 0;
            let touches = &self.touches[i];
            if let (true, Some((first, last))) = (is_there, self.extent(touches)) {
                self.stays.push(Stay {
                    value: Some(ValueId(i as u32)),
                    holds: holds(value, touches),
                    span: value.span,
                    first,
                    last,
                });
            }
        }
        take_places(&mut self.stays);
        self.stays
            .sort_by_key(|stay| (stay.first, stay.span.offset));
        self.stays
    }

    /// The first and the last line during which a value is needed: in the innermost body around all
    /// that touch it, a loop counts as one.
    fn extent(&self, touches: &Touches) -> Option<(usize, usize)> {
        let bodies = touches.at.iter().map(|&(body, _)| body);
        let home = bodies.reduce(|a, b| self.around(a, b))?;
        let mut all = touches.at.iter().map(|&(mut body, line)| {
            let mut extent = (line, line);
            while body != home {
                extent = (self.bodies[body].first, self.bodies[body].last);
                body = self.bodies[body].outer;
            }
            extent
        });
        let first = all.next()?;
        Some(all.fold(first, |a, b| (a.0.min(b.0), a.1.max(b.1))))
    }

    /// The innermost body around two.
    fn around(&self, mut a: usize, mut b: usize) -> usize {
        while a != b {
            match self.bodies[a].depth >= self.bodies[b].depth {
                true => a = self.bodies[a].outer,
                false => b = self.bodies[b].outer,
            }
        }
        a
    }
}

fn holds(value: &Value, touches: &Touches) -> Use {
    let is_forward = touches.made.contains(&Phase::Forward);
    match value.purpose {
        Purpose::Gradient => Use::Gradient,
        _ if is_forward && touches.read.iter().any(|&phase| phase != Phase::Forward) => Use::Saved,
        _ => Use::Temporary,
    }
}

/// What takes the place of an operand takes it over: the operand's stay ends a line earlier.
fn take_places(stays: &mut Vec<Stay>) {
    let begun: HashMap<(usize, usize), usize> = stays
        .iter()
        .enumerate()
        .map(|(i, stay)| ((stay.span.offset, stay.first), i))
        .collect();
    let mut over = vec![false; stays.len()];
    for (i, stay) in stays.iter().enumerate() {
        let heir = begun.get(&(stay.span.offset, stay.last));
        over[i] = heir.is_some_and(|&heir| heir != i);
    }
    let mut over = over.into_iter();
    stays.retain_mut(|stay| {
        let is_over = over.next() == Some(true);
        let is_left = !is_over || stay.first < stay.last;
        stay.last -= usize::from(is_over && is_left);
        is_left
    });
}
