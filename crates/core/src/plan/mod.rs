//! The plan of a step: ordered launches with the memory each one touches.
//!
//! A compiler writes a [`Draft`]: what is launched, on which values, and where each value lies.
//! [`Plan::check`] proves that the draft is sound and only then turns it into a [`Plan`], whose
//! [`Args`] have private fields, so that whatever a backend is handed has been checked.

mod chart;
mod check;
mod labels;
mod memory;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use memory::{MemoryUse, Recomputation, Stay, Use};
pub use text::format_bytes;

use crate::{Backend, DType, Place, Primitive, Result, Shape, TensorType};

/// The nesting depth of loops.
pub const MAX_LOOPS: usize = 4;

/// Bytes to which every value is aligned.
pub const ALIGNMENT: usize = 64;

/// The buffers of a session. Plans of one session share them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Buffer {
    /// What lives within a step.
    Arena,
    /// Parameters and optimizer state, which live between steps.
    State,
    /// What the host writes before a step and reads after it, and constants.
    Io,
}

impl Buffer {
    /// All buffers.
    pub const ALL: [Buffer; 3] = [Buffer::Arena, Buffer::State, Buffer::Io];
}

/// A range of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Span {
    /// The buffer.
    pub buffer: Buffer,
    /// The first byte.
    pub offset: usize,
    /// The number of bytes.
    pub bytes: usize,
}

impl Span {
    /// Whether the two have a byte in common.
    #[must_use]
    pub fn overlaps(&self, other: &Span) -> bool {
        self.buffer == other.buffer
            && self.offset < other.offset + other.bytes
            && other.offset < self.offset + self.bytes
    }
}

/// A value of a plan, by its position in [`Draft::values`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    /// The position.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a value is to the step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Made and used within the step.
    Temporary,
    /// A parameter's value before the step; lies in [`Buffer::State`].
    Parameter,
    /// A parameter's new value; lies over the old one.
    Update {
        /// The parameter's old value.
        of: ValueId,
    },
    /// Fed by the host; lies in [`Buffer::Io`].
    Input,
    /// Written once, when the plan is compiled; lies in [`Buffer::Io`].
    Constant,
    /// Fetched by the host; lies in [`Buffer::Io`].
    Result,
}

/// What the bytes of a value are counted as.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Purpose {
    /// What its role says.
    #[default]
    Plain,
    /// The gradient of a parameter.
    Gradient,
    /// A parameter that an optimizer made for itself.
    OptimizerState,
}

/// A value: its type, its place in memory, its role and its name.
#[derive(Clone, PartialEq, Debug)]
pub struct Value {
    /// Type, shape and layout; there are far fewer of them than values.
    pub tensor: Arc<TensorType>,
    /// What it is to the step.
    pub role: Role,
    /// What its bytes are counted as.
    pub purpose: Purpose,
    /// Where it lies.
    pub span: Span,
    /// A short name for printing: the operation, or the name of a parameter or input.
    pub name: Arc<str>,
}

/// Bytes to move per iteration of each enclosing loop, outermost first.
pub type Strides = [usize; MAX_LOOPS];

/// An operand of a launch: a value, or inside of loops a slice of it that moves with the iteration.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Access {
    /// The value.
    pub value: ValueId,
    /// Bytes from the value's start at iteration 0.
    pub offset: usize,
    /// How it moves, if it does: most launches are in no loop.
    pub strides: Option<Box<Strides>>,
}

impl Access {
    /// The whole value.
    #[must_use]
    pub fn whole(value: ValueId) -> Access {
        Access {
            value,
            offset: 0,
            strides: None,
        }
    }
}

/// Which pass a launch belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Phase {
    /// What the user built.
    #[default]
    Forward,
    /// What differentiation added.
    Backward,
    /// A launch of the forward pass that runs once more in the backward pass, so that its results
    /// need not be kept.
    Again,
}

/// One launch of a draft.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Launch {
    /// The primitive, by its position in [`Draft::primitives`].
    pub primitive: usize,
    /// The operands read, in the primitive's order.
    pub reads: Vec<Access>,
    /// The operands written, in the primitive's order.
    pub writes: Vec<Access>,
    /// Scratch memory of the kernel, in the arena.
    pub scratch: Option<Span>,
    /// The user's place of the operation that gave the launch its reason.
    pub place: Option<Place>,
    /// The named scope of that operation.
    pub scope: Arc<str>,
    /// Which pass it belongs to.
    pub phase: Phase,
}

/// A value that a loop hands from one iteration to the next, through one span of memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Carry {
    /// What the body reads; before the loop, somebody wrote it.
    pub enter: ValueId,
    /// What the body leaves in its place; after the loop, what remains.
    pub leave: ValueId,
}

/// A step of a plan, over launches of type `L`.
#[derive(Clone, PartialEq, Debug)]
pub enum Step<L> {
    /// One launch.
    Launch(L),
    /// A body that runs `times` times, or as often as a value says: a conditional is a loop that
    /// runs once or not at all.
    Loop {
        /// The number of iterations, at least 1; the most of them where there is a `count`.
        times: usize,
        /// One `i64`, looked at before each iteration, which takes place if fewer have than it says.
        count: Option<ValueId>,
        /// Whether the iteration counter runs down to 0.
        reverse: bool,
        /// What goes from one iteration to the next.
        carries: Vec<Carry>,
        /// What an iteration does.
        body: Vec<Step<L>>,
    },
}

/// A plan before it is checked.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Draft {
    /// The distinct primitives.
    pub primitives: Vec<Primitive>,
    /// Scratch bytes that each primitive's kernel needs.
    pub scratch: Vec<usize>,
    /// All values.
    pub values: Vec<Value>,
    /// What runs, in order.
    pub steps: Vec<Step<Launch>>,
    /// The size of each buffer in bytes, in the order of [`Buffer::ALL`].
    pub sizes: [usize; 3],
}

/// The iteration counters of the enclosing loops, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Iteration(pub [usize; MAX_LOOPS]);

/// A checked range of bytes, which may move with the iteration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    buffer: Buffer,
    offset: usize,
    bytes: usize,
    strides: Option<Box<Strides>>,
}

impl Slot {
    fn new(span: Span, strides: Option<Box<Strides>>) -> Slot {
        Slot {
            buffer: span.buffer,
            offset: span.offset,
            bytes: span.bytes,
            strides,
        }
    }

    /// The buffer.
    #[inline]
    #[must_use]
    pub fn buffer(&self) -> Buffer {
        self.buffer
    }

    /// The number of bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first byte, at an iteration.
    #[inline]
    #[must_use]
    pub fn offset(&self, at: Iteration) -> usize {
        let Some(strides) = &self.strides else {
            return self.offset;
        };
        let moved = strides.iter().zip(at.0).map(|(stride, t)| stride * t);
        self.offset + moved.sum::<usize>()
    }
}

/// The memory of one launch. Only [`Plan::check`] makes these, so that the numbered properties of
/// the plan checker hold for them.
#[derive(Clone, PartialEq, Debug)]
pub struct Args {
    reads: Box<[Slot]>,
    writes: Box<[Slot]>,
    scratch: Option<Slot>,
}

impl Args {
    /// What is read, in the order of [`Primitive::reads`].
    #[inline]
    #[must_use]
    pub fn reads(&self) -> &[Slot] {
        &self.reads
    }

    /// What is written, in the order of [`Primitive::writes`].
    #[inline]
    #[must_use]
    pub fn writes(&self) -> &[Slot] {
        &self.writes
    }

    /// Scratch memory, of at least as many bytes as the kernel asked for.
    #[inline]
    #[must_use]
    pub fn scratch(&self) -> Option<&Slot> {
        self.scratch.as_ref()
    }
}

/// A launch of a checked plan.
#[derive(Clone, PartialEq, Debug)]
pub struct Command {
    line: usize,
    kernel: usize,
    args: Args,
}

impl Command {
    /// Which of the plan's [lines](Plan::lines) this is.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// The kernel, by the position of its primitive.
    #[must_use]
    pub fn kernel(&self) -> usize {
        self.kernel
    }

    /// The memory.
    #[must_use]
    pub fn args(&self) -> &Args {
        &self.args
    }
}

/// A plan that has passed the checker.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    draft: Draft,
    steps: Vec<Step<Command>>,
}

impl Plan {
    /// The distinct primitives, one kernel each.
    #[must_use]
    pub fn primitives(&self) -> &[Primitive] {
        &self.draft.primitives
    }

    /// All values with their places in memory.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.draft.values
    }

    /// What runs, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step<Command>] {
        &self.steps
    }

    /// The draft this plan was checked from.
    #[must_use]
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// The launches in the order of the text, those in loops once.
    #[must_use]
    pub fn lines(&self) -> Vec<&Launch> {
        let lines = flat(&self.draft.steps).into_iter();
        lines.map(|(launch, _)| launch).collect()
    }

    /// The size of a buffer in bytes.
    #[must_use]
    pub fn bytes(&self, buffer: Buffer) -> usize {
        self.draft.sizes[buffer as usize]
    }

    /// The number of launches in a step, with loops counted as often as they run at most.
    #[must_use]
    pub fn launches(&self) -> usize {
        let times = self.commands().into_iter().map(|(_, times)| times);
        times.fold(0, usize::saturating_add)
    }

    /// [`launches`](Plan::launches) of each kind of primitive, by its name.
    #[must_use]
    pub fn launches_by_kind(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for (command, times) in self.commands() {
            let primitive = &self.primitives()[command.kernel];
            let count: &mut usize = kinds.entry(primitive.name()).or_default();
            *count = count.saturating_add(times);
        }
        kinds
    }

    /// The bytes that the launches of a step read and write, with loops counted as often as they run
    /// at most. An operand counts once a launch, however often a kernel comes back to it.
    #[must_use]
    pub fn bytes_moved(&self) -> usize {
        let of_one = |args: &Args| -> usize {
            let slots = args.reads.iter().chain(&args.writes);
            slots.map(Slot::bytes).sum()
        };
        let all = self.commands();
        let moved = all
            .iter()
            .map(|(c, times)| times.saturating_mul(of_one(&c.args)));
        moved.fold(0, usize::saturating_add)
    }

    /// Every launch, in order, with how often it runs in a step at most: once, unless in a loop.
    #[must_use]
    pub fn commands(&self) -> Vec<(&Command, usize)> {
        flat(&self.steps)
    }

    /// Prepares one kernel for each primitive.
    ///
    /// # Errors
    /// Whatever the backend says of the first primitive it cannot prepare.
    pub fn prepare<B: Backend>(primitives: &[Primitive], backend: &B) -> Result<Vec<B::Kernel>> {
        primitives.iter().map(|p| backend.prepare(p)).collect()
    }
}

/// Every launch, in order, with how often it runs at most.
fn flat<L>(steps: &[Step<L>]) -> Vec<(&L, usize)> {
    fn gather<'p, L>(steps: &'p [Step<L>], runs: usize, all: &mut Vec<(&'p L, usize)>) {
        for step in steps {
            match step {
                Step::Launch(launch) => all.push((launch, runs)),
                Step::Loop { times, body, .. } => gather(body, runs.saturating_mul(*times), all),
            }
        }
    }
    let mut all = Vec::new();
    gather(steps, 1, &mut all);
    all
}

/// The type of the number of iterations of a loop.
fn count_type() -> TensorType {
    TensorType::dense(DType::I64, Shape::SCALAR)
}
