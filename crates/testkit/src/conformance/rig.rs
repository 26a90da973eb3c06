//! Runs one primitive in a plan of its own, between bytes that nobody may touch.

use std::sync::Arc;

use backprop_core::plan::{
    Access, Buffer, Draft, Iteration, Launch, Phase, Purpose, Role, Span, Step, Value, ValueId,
};
use backprop_core::{Backend, Memory, Plan, Primitive, TensorType};

use super::accuracy::Accuracy;

/// A primitive with operands.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) primitive: Primitive,
    /// The bytes of each operand.
    pub(crate) reads: Vec<Vec<u8>>,
    /// Which write takes the place of which read.
    pub(crate) in_place: Vec<(usize, usize)>,
    pub(crate) accuracy: Accuracy,
}

/// Bytes on both sides of each value.
const MOAT: usize = 64;
const CANARY: u8 = 0xA5;

/// What a run leaves: the bytes of each result, or what went wrong.
pub(crate) type Outcome = Result<Vec<Vec<u8>>, String>;

/// How a plan is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    /// Kernel by kernel, through `launch`.
    Launched,
    /// As a whole, through `load`.
    Loaded,
}

impl Case {
    pub(crate) fn new(primitive: Primitive, reads: Vec<Vec<u8>>, accuracy: Accuracy) -> Case {
        Case {
            primitive,
            reads,
            in_place: Vec::new(),
            accuracy,
        }
    }

    pub(crate) fn in_place(mut self, pairs: &[(usize, usize)]) -> Case {
        self.in_place = pairs.to_vec();
        self
    }

    /// Runs it on a backend. Anything written beside the results and the scratch is an error.
    pub(crate) fn run<B: Backend>(&self, backend: &B, way: Way) -> Outcome {
        let kernel = backend.prepare(&self.primitive).map_err(text)?;
        let plan = self.plan(backend.scratch(&kernel))?;
        let before = self.images(&plan);
        let mut memory = upload(backend, &before)?;
        match (way, plan.steps()) {
            (Way::Launched, [Step::Launch(command)]) => {
                let (args, at) = (command.args(), Iteration::default());
                let done = backend.launch(&kernel, &mut memory, args, at);
                done.map_err(text)?;
            }
            _ => {
                let loaded = backend.load(Arc::clone(&plan), vec![kernel]);
                let mut executable = loaded.map_err(text)?;
                executable.step(backend, &mut memory).map_err(text)?;
            }
        }
        let after = download(backend, &plan, &memory)?;
        untouched(&plan, &before, &after)?;
        let written = &plan.values()[self.reads.len()..];
        Ok(written
            .iter()
            .map(|v| bytes_of(&after, v.span).to_vec())
            .collect())
    }

    fn plan(&self, scratch: usize) -> Result<Arc<Plan>, String> {
        let mut draft = Draft {
            primitives: vec![self.primitive.clone()],
            scratch: vec![scratch],
            ..Draft::default()
        };
        let mut reads = Vec::new();
        for (i, tensor) in self.primitive.reads().into_iter().enumerate() {
            let overwritten = self.in_place.iter().any(|&(_, read)| read == i);
            let role = if overwritten {
                Role::Parameter
            } else {
                Role::Input
            };
            reads.push(place(&mut draft, tensor, role));
        }
        let mut writes = Vec::new();
        for (i, tensor) in self.primitive.writes().into_iter().enumerate() {
            let taken = self.in_place.iter().find(|&&(write, _)| write == i);
            writes.push(match taken.and_then(|&(_, read)| reads.get(read)) {
                None => place(&mut draft, tensor, Role::Result),
                Some(&of) => {
                    let span = draft.values[of.index()].span;
                    add(&mut draft, tensor, Role::Update { of }, span)
                }
            });
        }
        let arena = Span {
            buffer: Buffer::Arena,
            offset: MOAT,
            bytes: scratch,
        };
        draft.sizes[Buffer::Arena as usize] = scratch + 2 * MOAT;
        let whole = |ids: Vec<ValueId>| ids.into_iter().map(Access::whole).collect();
        draft.steps.push(Step::Launch(Launch {
            primitive: 0,
            reads: whole(reads),
            writes: whole(writes),
            scratch: (scratch > 0).then_some(arena),
            place: None,
            scope: "".into(),
            phase: Phase::Forward,
        }));
        Plan::check(draft).map(Arc::new).map_err(text)
    }

    /// What each buffer holds before the launch.
    fn images(&self, plan: &Plan) -> [Vec<u8>; 3] {
        let mut images = Buffer::ALL.map(|buffer| vec![CANARY; plan.bytes(buffer)]);
        for (value, bytes) in plan.values().iter().zip(&self.reads) {
            bytes_of_mut(&mut images, value.span).copy_from_slice(bytes);
        }
        images
    }
}

pub(crate) fn text(error: backprop_core::Error) -> String {
    error.to_string()
}

/// Adds a value at the end of its buffer, with moats.
fn place(draft: &mut Draft, tensor: &TensorType, role: Role) -> ValueId {
    let buffer = if role == Role::Parameter {
        Buffer::State
    } else {
        Buffer::Io
    };
    let size = &mut draft.sizes[buffer as usize];
    let (offset, bytes) = (*size + MOAT, tensor.bytes());
    *size = (offset + bytes).next_multiple_of(64) + MOAT;
    let span = Span {
        buffer,
        offset,
        bytes,
    };
    add(draft, tensor, role, span)
}

fn add(draft: &mut Draft, tensor: &TensorType, role: Role, span: Span) -> ValueId {
    let name = format!("value {}", draft.values.len());
    draft.values.push(Value {
        tensor: tensor.clone().into(),
        role,
        purpose: Purpose::Plain,
        span,
        name: name.into(),
    });
    ValueId(draft.values.len() as u32 - 1)
}

pub(crate) fn bytes_of(images: &[Vec<u8>; 3], span: Span) -> &[u8] {
    &images[span.buffer as usize][span.offset..span.offset + span.bytes]
}

pub(crate) fn bytes_of_mut(images: &mut [Vec<u8>; 3], span: Span) -> &mut [u8] {
    &mut images[span.buffer as usize][span.offset..span.offset + span.bytes]
}

/// Buffers that hold these bytes.
pub(crate) fn upload<B: Backend>(
    backend: &B,
    images: &[Vec<u8>; 3],
) -> Result<Memory<B::Buffer>, String> {
    let fill = |buffer: Buffer| {
        let image = &images[buffer as usize];
        let mut memory = backend.alloc(image.len())?;
        backend.upload(&mut memory, 0, image)?;
        Ok(memory)
    };
    Ok(Memory {
        arena: fill(Buffer::Arena).map_err(text)?,
        state: fill(Buffer::State).map_err(text)?,
        io: fill(Buffer::Io).map_err(text)?,
    })
}

pub(crate) fn download<B: Backend>(
    backend: &B,
    plan: &Plan,
    memory: &Memory<B::Buffer>,
) -> Result<[Vec<u8>; 3], String> {
    let mut images = Buffer::ALL.map(|buffer| vec![0; plan.bytes(buffer)]);
    for buffer in Buffer::ALL {
        let image = &mut images[buffer as usize];
        let done = backend.download(memory.buffer(buffer), 0, image);
        done.map_err(text)?;
    }
    Ok(images)
}

/// Everything but results, updates, temporaries and scratch is as it was.
pub(crate) fn untouched(
    plan: &Plan,
    before: &[Vec<u8>; 3],
    after: &[Vec<u8>; 3],
) -> Result<(), String> {
    let mut expected = before.clone();
    let written = plan.values().iter().filter(|value| {
        let role = value.role;
        matches!(role, Role::Result | Role::Temporary | Role::Update { .. })
    });
    let scratch = plan.draft().steps.iter().filter_map(|step| match step {
        Step::Launch(launch) => launch.scratch,
        _ => None,
    });
    for span in written.map(|value| value.span).chain(scratch) {
        bytes_of_mut(&mut expected, span).copy_from_slice(bytes_of(after, span));
    }
    for buffer in Buffer::ALL
        .into_iter()
        .filter(|&b| expected[b as usize] != after[b as usize])
    {
        let images = expected[buffer as usize]
            .iter()
            .zip(&after[buffer as usize]);
        if let Some(at) = images.into_iter().position(|(a, b)| a != b) {
            let whose = |v: &&Value| {
                let end = v.span.offset + v.span.bytes + MOAT;
                v.span.buffer == buffer && (v.span.offset.saturating_sub(MOAT)..end).contains(&at)
            };
            let near = plan.values().iter().find(whose);
            let near = near.map_or("scratch", |value| &value.name);
            return Err(format!("byte {at} of {buffer:?} is overwritten, at {near}"));
        }
    }
    Ok(())
}
