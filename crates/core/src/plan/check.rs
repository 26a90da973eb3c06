//! The plan checker: a linear walk that proves a plan's memory is sound.
//!
//! It executes the plan on labels instead of numbers: every byte range is labelled with the value
//! it holds. A plan that passes has these properties, which `unsafe` code in backends relies on:
//!
//! - **P1** Every span lies inside of its buffer, aligned to [`ALIGNMENT`](super::ALIGNMENT), and
//!   is as large as its value's type says; slices stay inside of their value at every iteration,
//!   at multiples of the element size.
//! - **P2** Every read finds the value it names, whole.
//! - **P3** What a launch writes overlaps neither its scratch, nor another write, nor a read, unless
//!   the primitive lets the write take the read's place and both are the same bytes.
//! - **P4** A launch has the operands its primitive asks for, of the very types and in its order,
//!   and at least the scratch its kernel asked for; and the primitive itself is sound
//!   ([`Primitive::check`]).
//! - **P5** A parameter is written by at most one launch, in place of its old value, and holds its
//!   old value or its update at the end. Inputs and constants are never written. Results hold at the end.
//! - **P6** A loop's carried values lie in one span, which holds the entering value before the loop
//!   and the leaving one after each iteration.
//! - **P7** Where a loop has a count, that holds before each iteration, and what is read after the loop
//!   is there however often it ran.

use super::labels::Labels;
use super::{
    ALIGNMENT, Access, Args, Buffer, Carry, Command, Draft, Launch, MAX_LOOPS, Plan, Role, Slot,
    Span, Step, Value, ValueId, count_type,
};
use crate::{Error, ErrorKind, Primitive, Result, TensorType};

impl Plan {
    /// Proves that a draft is sound, and makes it a plan.
    ///
    /// # Errors
    /// [`ErrorKind::Plan`] names the property that does not hold.
    pub fn check(draft: Draft) -> Result<Plan> {
        for primitive in &draft.primitives {
            primitive.check()?;
        }
        let mut checker = Checker::new(&draft)?;
        let mut steps = checker.steps(&draft.steps, &mut Vec::new())?;
        checker.finish()?;
        number(&mut steps, &mut 0);
        Ok(Plan { draft, steps })
    }
}

/// Gives every command its line.
fn number(steps: &mut [Step<Command>], next: &mut usize) {
    for step in steps {
        match step {
            Step::Launch(command) => {
                command.line = *next;
                *next += 1;
            }
            Step::Loop { body, .. } => number(body, next),
        }
    }
}

fn wrong<T>(what: String) -> Result<T> {
    Err(Error::new(ErrorKind::Plan { what }))
}

/// Whether anything in a body moves with the loop at `depth`.
fn moves(body: &[Step<Launch>], depth: usize) -> bool {
    body.iter().any(|step| match step {
        Step::Launch(launch) => {
            let mut accesses = launch.reads.iter().chain(&launch.writes);
            accesses.any(|access| {
                access
                    .strides
                    .as_ref()
                    .is_some_and(|strides| strides[depth] > 0)
            })
        }
        Step::Loop { body, .. } => moves(body, depth),
    })
}

/// How often a body runs.
#[derive(Clone, Copy)]
struct Rounds {
    times: usize,
    count: Option<ValueId>,
    reverse: bool,
}

/// A loop around the step being checked.
#[derive(Clone, Copy)]
struct Enclosing {
    times: usize,
    /// The iteration that is being executed on labels.
    now: usize,
}

struct Checker<'d> {
    draft: &'d Draft,
    labels: Labels,
    written: Vec<bool>,
}

impl<'d> Checker<'d> {
    fn new(draft: &'d Draft) -> Result<Checker<'d>> {
        let mut checker = Checker {
            draft,
            labels: Labels::default(),
            written: vec![false; draft.values.len()],
        };
        if draft.scratch.len() != draft.primitives.len() {
            return wrong("P4: not every primitive says what scratch it needs".into());
        }
        for (i, value) in draft.values.iter().enumerate() {
            checker.value(value)?;
            if matches!(value.role, Role::Parameter | Role::Input | Role::Constant) {
                checker.labels.write(value.span, Some(ValueId(i as u32)));
            }
        }
        for (i, value) in draft.values.iter().enumerate() {
            let resident = matches!(value.role, Role::Parameter | Role::Input | Role::Constant);
            if resident && !checker.labels.holds(value.span, ValueId(i as u32)) {
                return wrong(format!("P5: `{}` shares its bytes", value.name));
            }
        }
        Ok(checker)
    }

    fn lookup(&self, id: ValueId) -> Result<&'d Value> {
        match self.draft.values.get(id.index()) {
            Some(value) => Ok(value),
            None => wrong(format!("P4: no value {}", id.0)),
        }
    }

    /// P1 and the place that a role prescribes (P5).
    fn value(&self, value: &Value) -> Result<()> {
        self.span(value.span, &value.name)?;
        if value.span.bytes != value.tensor.bytes() {
            return wrong(format!(
                "P1: `{}` has {} bytes",
                value.name, value.span.bytes
            ));
        }
        let home = match value.role {
            Role::Temporary => value.span.buffer != Buffer::State,
            Role::Parameter => value.span.buffer == Buffer::State,
            Role::Input | Role::Constant | Role::Result => value.span.buffer == Buffer::Io,
            Role::Update { of } => {
                let old = self.lookup(of)?;
                old.role == Role::Parameter && old.span == value.span && old.tensor == value.tensor
            }
        };
        if !home {
            return wrong(format!("P5: `{}` in the wrong place", value.name));
        }
        Ok(())
    }

    fn span(&self, span: Span, name: &str) -> Result<()> {
        let end = span.offset.checked_add(span.bytes);
        let inside = end.is_some_and(|end| end <= self.draft.sizes[span.buffer as usize]);
        if !inside || !span.offset.is_multiple_of(ALIGNMENT) {
            return wrong(format!("P1: `{name}` at {}+{}", span.offset, span.bytes));
        }
        Ok(())
    }

    fn steps(
        &mut self,
        steps: &[Step<Launch>],
        loops: &mut Vec<Enclosing>,
    ) -> Result<Vec<Step<Command>>> {
        steps.iter().map(|step| self.step(step, loops)).collect()
    }

    fn step(&mut self, step: &Step<Launch>, loops: &mut Vec<Enclosing>) -> Result<Step<Command>> {
        match step {
            Step::Launch(launch) => Ok(Step::Launch(self.launch(launch, loops)?)),
            Step::Loop {
                times,
                count,
                reverse,
                carries,
                body,
            } => {
                let rounds = Rounds {
                    times: *times,
                    count: *count,
                    reverse: *reverse,
                };
                let commands = self.iterate(rounds, carries, body, loops)?;
                Ok(Step::Loop {
                    times: *times,
                    count: *count,
                    reverse: *reverse,
                    carries: carries.clone(),
                    body: commands,
                })
            }
        }
    }

    /// Executes every iteration on labels where slices move. Where none does, all iterations write
    /// the same bytes, so that each one after the second finds what the second found.
    fn iterate(
        &mut self,
        rounds: Rounds,
        carries: &[Carry],
        body: &[Step<Launch>],
        loops: &mut Vec<Enclosing>,
    ) -> Result<Vec<Step<Command>>> {
        let Rounds { times, .. } = rounds;
        if times == 0 || loops.len() == MAX_LOOPS {
            return wrong(format!("P6: {times} iterations at depth {}", loops.len()));
        }
        for carry in carries {
            let (enter, leave) = (self.lookup(carry.enter)?, self.lookup(carry.leave)?);
            let one_place = enter.span == leave.span && enter.tensor == leave.tensor;
            if !one_place || !self.labels.holds(enter.span, carry.enter) {
                return wrong(format!("P6: `{}` enters a loop", enter.name));
            }
        }
        let mut commands = Vec::new();
        // What holds if the loop ends early. Where it does not run, what enters it is what leaves it.
        let mut early: Option<Labels> = None;
        let executed = if moves(body, loops.len()) {
            times
        } else {
            times.min(2)
        };
        for round in 0..executed {
            let now = match rounds.reverse {
                true => times - 1 - round,
                false => round,
            };
            if let Some(count) = rounds.count {
                self.counted(count, round, carries, &mut early)?;
            }
            for carry in carries.iter().filter(|_| round > 0) {
                let enter = self.lookup(carry.enter)?;
                self.labels.write(enter.span, Some(carry.enter));
            }
            let written = self.written.clone();
            loops.push(Enclosing { times, now });
            commands = self.steps(body, loops)?;
            loops.pop();
            if round + 1 < executed {
                self.written = written;
            }
            for carry in carries {
                let leave = self.lookup(carry.leave)?;
                if !self.labels.holds(leave.span, carry.leave) {
                    return wrong(format!("P6: `{}` leaves a loop", leave.name));
                }
            }
        }
        if let Some(early) = early {
            self.labels.meet(&early);
        }
        Ok(commands)
    }

    /// P7 before a round: the count is there, and what holds now is what remains if it says stop.
    /// Which iteration a round is depends on the count where they run in reverse, so that a round may
    /// only rely on what holds whichever went before it.
    fn counted(
        &mut self,
        count: ValueId,
        round: usize,
        carries: &[Carry],
        early: &mut Option<Labels>,
    ) -> Result<()> {
        let known = self.lookup(count)?;
        // What leaves a round enters the next one.
        let carried = carries.iter().find(|carry| carry.enter == count);
        let label = carried
            .filter(|_| round > 0)
            .map_or(count, |carry| carry.leave);
        if *known.tensor != count_type() || !self.labels.holds(known.span, label) {
            return wrong(format!("P7: `{}` counts iterations", known.name));
        }
        let mut now = self.labels.clone();
        for carry in carries {
            now.write(self.lookup(carry.leave)?.span, Some(carry.leave));
        }
        match early {
            Some(early) => {
                early.meet(&now);
                self.labels = early.clone();
            }
            None => *early = Some(now),
        }
        Ok(())
    }

    fn launch(&mut self, launch: &Launch, loops: &[Enclosing]) -> Result<Command> {
        let Some(primitive) = self.draft.primitives.get(launch.primitive) else {
            return wrong(format!("P4: no primitive {}", launch.primitive));
        };
        let reads = self.operands(&launch.reads, &primitive.reads(), loops)?;
        let writes = self.operands(&launch.writes, &primitive.writes(), loops)?;
        let scratch = self.scratch(launch)?;
        for ((span, _), access) in reads.iter().zip(&launch.reads) {
            if !self.labels.holds(*span, access.value) {
                let name = &self.lookup(access.value)?.name;
                return wrong(format!(
                    "P2: {} reads `{name}`, not there",
                    primitive.name()
                ));
            }
        }
        self.disjoint(primitive, &reads, &writes, scratch)?;
        if let Some(span) = scratch {
            self.labels.write(span, None);
        }
        for ((span, _), access) in writes.iter().zip(&launch.writes) {
            self.write(access.value, *span)?;
        }
        let slots = |operands: Vec<(Span, Slot)>| operands.into_iter().map(|(_, s)| s).collect();
        Ok(Command {
            line: 0,
            kernel: launch.primitive,
            args: Args {
                reads: slots(reads),
                writes: slots(writes),
                scratch: scratch.map(|span| Slot::new(span, None)),
            },
        })
    }

    /// P4 and P1 for one side of a launch: the bytes at the iteration being executed, and the slot.
    fn operands(
        &self,
        accesses: &[Access],
        types: &[&TensorType],
        loops: &[Enclosing],
    ) -> Result<Vec<(Span, Slot)>> {
        if accesses.len() != types.len() {
            return wrong(format!(
                "P4: {} operands for {}",
                accesses.len(),
                types.len()
            ));
        }
        let one = |(access, tensor): (&Access, &&TensorType)| self.operand(access, tensor, loops);
        accesses.iter().zip(types).map(one).collect()
    }

    fn operand(
        &self,
        access: &Access,
        tensor: &TensorType,
        loops: &[Enclosing],
    ) -> Result<(Span, Slot)> {
        let value = self.lookup(access.value)?;
        let whole = *access == Access::whole(access.value);
        let alike = value.tensor.dtype == tensor.dtype
            && if whole {
                value.tensor.count() == tensor.count() && value.tensor.layout == tensor.layout
            } else {
                value.tensor.layout.is_dense() && tensor.layout.is_dense()
            };
        if !alike {
            return wrong(format!(
                "P4: `{}` is {}, not {tensor}",
                value.name, value.tensor
            ));
        }
        let now = self.reach(access, tensor, value, loops)?;
        let (buffer, bytes) = (value.span.buffer, tensor.bytes());
        let at = |within: usize| Span {
            buffer,
            offset: value.span.offset + within,
            bytes,
        };
        Ok((
            at(now),
            Slot::new(at(access.offset), access.strides.clone()),
        ))
    }

    /// P1 for an operand: where it begins within its value at the iteration being executed.
    fn reach(
        &self,
        access: &Access,
        tensor: &TensorType,
        value: &Value,
        loops: &[Enclosing],
    ) -> Result<usize> {
        let mut now = access.offset;
        let mut end = access.offset.checked_add(tensor.bytes());
        let strides = access.strides.iter().flat_map(|strides| strides.iter());
        for (depth, &stride) in strides.clone().enumerate().filter(|&(_, &s)| s > 0) {
            let Some(enclosing) = loops.get(depth) else {
                return wrong(format!("P1: `{}` moves outside of a loop", value.name));
            };
            let last = stride.checked_mul(enclosing.times - 1);
            end = end.zip(last).and_then(|(end, last)| end.checked_add(last));
            now = now.saturating_add(stride.saturating_mul(enclosing.now));
        }
        if end.is_none_or(|end| end > value.span.bytes) {
            return wrong(format!("P1: a slice leaves `{}`", value.name));
        }
        let mut steps = strides.chain([&access.offset]);
        if !steps.all(|step| step.is_multiple_of(tensor.dtype.size())) {
            return wrong(format!("P1: a slice cuts elements of `{}`", value.name));
        }
        Ok(now)
    }

    fn scratch(&self, launch: &Launch) -> Result<Option<Span>> {
        let needed = self
            .draft
            .scratch
            .get(launch.primitive)
            .copied()
            .unwrap_or(0);
        match launch.scratch {
            Some(span) => self.span(span, "scratch")?,
            None if needed > 0 => return wrong("P4: scratch is missing".into()),
            None => {}
        }
        let in_arena = |span: Span| span.buffer == Buffer::Arena && span.bytes >= needed;
        if !launch.scratch.is_none_or(in_arena) {
            return wrong(format!("P4: {needed} bytes of scratch are needed"));
        }
        Ok(launch.scratch)
    }

    /// P3.
    fn disjoint(
        &self,
        primitive: &Primitive,
        reads: &[(Span, Slot)],
        writes: &[(Span, Slot)],
        scratch: Option<Span>,
    ) -> Result<()> {
        for (w, (write, _)) in writes.iter().enumerate() {
            let mut others = writes[..w].iter().map(|(span, _)| *span).chain(scratch);
            if others.any(|other| other.overlaps(write)) {
                return wrong(format!("P3: {} writes twice over", primitive.name()));
            }
            for (r, (read, _)) in reads
                .iter()
                .enumerate()
                .filter(|(_, r)| r.0.overlaps(write))
            {
                if read != write || !primitive.may_overwrite(w, r) {
                    return wrong(format!(
                        "P3: {} overwrites its operand {r}",
                        primitive.name()
                    ));
                }
            }
        }
        let overlap = |&(read, _): &(Span, Slot)| scratch.is_some_and(|s| s.overlaps(&read));
        if reads.iter().any(overlap) {
            return wrong(format!(
                "P3: scratch of {} over an operand",
                primitive.name()
            ));
        }
        Ok(())
    }

    fn write(&mut self, id: ValueId, span: Span) -> Result<()> {
        let value = self.lookup(id)?;
        match value.role {
            Role::Temporary | Role::Result => {}
            Role::Update { .. } if !self.written[id.index()] => self.written[id.index()] = true,
            _ => return wrong(format!("P5: `{}` is written", value.name)),
        }
        self.labels.write(span, Some(id));
        Ok(())
    }

    /// P5 at the end of the step.
    fn finish(&self) -> Result<()> {
        let mut updated = vec![None; self.draft.values.len()];
        for (i, value) in self.draft.values.iter().enumerate() {
            if let Role::Update { of } = value.role {
                if updated[of.index()].is_some() {
                    return wrong(format!("P5: `{}` has two updates", value.name));
                }
                updated[of.index()] = Some(ValueId(i as u32));
            }
        }
        for (i, value) in self.draft.values.iter().enumerate() {
            let expected = match value.role {
                Role::Temporary | Role::Update { .. } => continue,
                Role::Parameter => updated[i].unwrap_or(ValueId(i as u32)),
                Role::Input | Role::Constant | Role::Result => ValueId(i as u32),
            };
            if !self.labels.holds(value.span, expected) {
                return wrong(format!("P5: `{}` does not hold at the end", value.name));
            }
        }
        Ok(())
    }
}
