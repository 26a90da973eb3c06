//! Buffers, and plans with loops.

use std::sync::Arc;

use backprop_core::plan::{
    ALIGNMENT, Access, Buffer, Carry, Draft, Launch, Phase, Purpose, Role, Span, Step, Value,
    ValueId,
};
use backprop_core::{Backend, DType, Plan, Primitive, Reference, Scalar, TensorType};

use super::code::{Code, axes, dense, tensor};
use super::functions::apply;
use super::rig::{bytes_of, bytes_of_mut, download, text, untouched, upload};
use crate::draw::{Draw, encode};

/// Memory begins as zeros, takes bytes anywhere, and refuses what leaves it.
pub(super) fn buffers<B: Backend>(backend: &B) -> Vec<(String, Result<(), String>)> {
    let sizes = [0, 1, 63, 64, 65, 100_003].into_iter();
    sizes
        .map(|size| (format!("{size} bytes"), buffer(backend, size)))
        .collect()
}

fn buffer<B: Backend>(backend: &B, size: usize) -> Result<(), String> {
    let mut memory = backend.alloc(size).map_err(text)?;
    let mut bytes = vec![1; size];
    backend.download(&memory, 0, &mut bytes).map_err(text)?;
    if bytes.iter().any(|&byte| byte != 0) {
        return Err("does not begin as zeros".into());
    }
    let at = size / 3;
    let written: Vec<u8> = (0..size - at).map(|i| i as u8 | 1).collect();
    backend.upload(&mut memory, at, &written).map_err(text)?;
    backend.download(&memory, 0, &mut bytes).map_err(text)?;
    if bytes[..at].iter().any(|&byte| byte != 0) || bytes[at..] != written {
        return Err("does not hold what was written".into());
    }
    // Sizes may be rounded up to the alignment.
    for at in [size.next_multiple_of(ALIGNMENT) + 1, usize::MAX] {
        let mut byte = [0];
        if backend.upload(&mut memory, at, &byte).is_ok() {
            return Err(format!("takes a byte at {at}"));
        }
        if backend.download(&memory, at, &mut byte).is_ok() {
            return Err(format!("gives a byte at {at}"));
        }
    }
    Ok(())
}

/// Elements of a row: slices lie wherever an element may.
const ROW: usize = 5;
const ROWS: usize = 7;

/// A draft whose values come one after the other.
#[derive(Default)]
struct Sketch(Draft);

impl Sketch {
    fn primitive(&mut self, primitive: Primitive) -> usize {
        self.0.primitives.push(primitive);
        self.0.primitives.len() - 1
    }

    fn value(&mut self, role: Role, tensor: TensorType) -> ValueId {
        let buffer = match role {
            Role::Temporary => Buffer::Arena,
            Role::Parameter | Role::Update { .. } => Buffer::State,
            Role::Input | Role::Constant | Role::Result => Buffer::Io,
        };
        let size = &mut self.0.sizes[buffer as usize];
        let (offset, bytes) = (*size + 64, tensor.bytes());
        *size = (offset + bytes).next_multiple_of(64) + 64;
        let span = Span {
            buffer,
            offset,
            bytes,
        };
        self.add(role, tensor.into(), span)
    }

    /// A value in the place of another.
    fn over(&mut self, role: Role, other: ValueId) -> ValueId {
        let Value { tensor, span, .. } = self.0.values[other.index()].clone();
        self.add(role, tensor, span)
    }

    fn add(&mut self, role: Role, tensor: Arc<TensorType>, span: Span) -> ValueId {
        let name = format!("value {}", self.0.values.len());
        self.0.values.push(Value {
            tensor,
            role,
            purpose: Purpose::Plain,
            span,
            name: name.into(),
        });
        ValueId(self.0.values.len() as u32 - 1)
    }

    fn row(&mut self, role: Role) -> ValueId {
        self.value(role, tensor(DType::F32, &[ROW]))
    }

    fn stack(&mut self, role: Role) -> ValueId {
        self.value(role, tensor(DType::F32, &[ROWS, ROW]))
    }
}

/// Row `t` of a stack, in a loop at this depth.
fn slice(value: ValueId, depth: usize) -> Access {
    let mut access = Access::whole(value);
    access.strides.get_or_insert_default()[depth] = ROW * 4;
    access
}

fn launch(primitive: usize, reads: &[Access], writes: &[Access]) -> Step<Launch> {
    Step::Launch(Launch {
        primitive,
        reads: reads.to_vec(),
        writes: writes.to_vec(),
        scratch: None,
        place: None,
        scope: "".into(),
        phase: Phase::Forward,
    })
}

fn binary(function: Scalar) -> Primitive {
    apply(function, &[DType::F32; 2], ROW)
}

/// A copy that may not take its operand's place.
fn copy_of(dtype: DType, count: usize) -> Primitive {
    use backprop_core::{Piece, Relocate, View};
    let output = tensor(dtype, &[count]);
    let piece = Piece {
        from: dense(dtype, &[count]),
        into: View::dense(output.shape),
    };
    Primitive::Relocate(Relocate {
        pieces: vec![piece],
        fill: None,
        output,
    })
}

/// A loop that stacks the states of a recurrence, a sum over the stack, a loop in reverse over it
/// that updates a parameter in every round, and a loop within a loop.
fn loops() -> Draft {
    let mut s = Sketch::default();
    let [add, multiply] = [Scalar::Add, Scalar::Mul].map(|f| s.primitive(binary(f)));
    let copied = s.primitive(copy_of(DType::F32, ROW));
    let mut total = Code::default();
    let x = total.input(0, DType::F32);
    total.reduce(backprop_core::Reduction::Sum, x, (&[ROWS, ROW], axes(&[0])));
    let total = s.primitive(total.sweep(&[ROWS, ROW], vec![dense(DType::F32, &[ROWS, ROW])]));
    let (xs, start) = (s.stack(Role::Input), s.row(Role::Input));
    let (sum, last) = (s.row(Role::Result), s.row(Role::Result));
    let states = s.stack(Role::Temporary);
    let enter = s.row(Role::Temporary);
    let leave = s.over(Role::Temporary, enter);
    let w = s.row(Role::Parameter);
    let update = s.over(Role::Update { of: w }, w);
    let squares = s.stack(Role::Result);
    let whole = Access::whole;
    let around = |times, reverse, carries: &[(ValueId, ValueId)], body| Step::Loop {
        times,
        count: None,
        reverse,
        carries: carries
            .iter()
            .map(|&(enter, leave)| Carry { enter, leave })
            .collect(),
        body,
    };
    s.0.steps = vec![
        launch(copied, &[whole(start)], &[whole(enter)]),
        around(
            ROWS,
            false,
            &[(enter, leave)],
            vec![
                launch(add, &[whole(enter), slice(xs, 0)], &[whole(leave)]),
                launch(copied, &[whole(leave)], &[slice(states, 0)]),
            ],
        ),
        launch(total, &[whole(states)], &[whole(sum)]),
        around(
            ROWS,
            true,
            &[(w, update)],
            vec![launch(
                multiply,
                &[whole(w), slice(states, 0)],
                &[whole(update)],
            )],
        ),
        launch(copied, &[whole(leave)], &[whole(last)]),
        around(
            2,
            false,
            &[],
            vec![around(
                ROWS,
                true,
                &[],
                vec![launch(
                    multiply,
                    &[slice(xs, 1), slice(xs, 1)],
                    &[slice(squares, 1)],
                )],
            )],
        ),
    ];
    s.0
}

/// Sums of as many rows as a number says, in both directions, over stacks that are there already; then
/// a loop that counts itself down to 0 in its first iteration.
fn counted() -> Draft {
    let mut s = Sketch::default();
    let add = s.primitive(binary(Scalar::Add));
    let subtract = s.primitive(apply(Scalar::Sub, &[DType::I64; 2], 1));
    let [row, stack] = [ROW, ROWS * ROW].map(|count| s.primitive(copy_of(DType::F32, count)));
    let number = s.primitive(copy_of(DType::I64, 1));
    let count = s.value(Role::Input, tensor(DType::I64, &[]));
    let (xs, start) = (s.stack(Role::Input), s.row(Role::Input));
    let whole = Access::whole;
    for reverse in [false, true] {
        let (sums, last) = (s.stack(Role::Result), s.row(Role::Result));
        let enter = s.row(Role::Temporary);
        let leave = s.over(Role::Temporary, enter);
        let body = vec![
            launch(add, &[whole(enter), slice(xs, 0)], &[whole(leave)]),
            launch(row, &[whole(leave)], &[slice(sums, 0)]),
        ];
        s.0.steps.extend([
            launch(stack, &[whole(xs)], &[whole(sums)]),
            launch(row, &[whole(start)], &[whole(enter)]),
            Step::Loop {
                times: ROWS,
                count: Some(count),
                reverse,
                carries: vec![Carry { enter, leave }],
                body,
            },
            launch(row, &[whole(leave)], &[whole(last)]),
        ]);
    }
    let enter = s.value(Role::Temporary, tensor(DType::I64, &[]));
    let leave = s.over(Role::Temporary, enter);
    let last = s.value(Role::Result, tensor(DType::I64, &[]));
    s.0.steps.extend([
        launch(number, &[whole(count)], &[whole(enter)]),
        Step::Loop {
            times: ROWS,
            count: Some(enter),
            reverse: false,
            carries: vec![Carry { enter, leave }],
            body: vec![launch(
                subtract,
                &[whole(enter), whole(count)],
                &[whole(leave)],
            )],
        },
        launch(number, &[whole(leave)], &[whole(last)]),
    ]);
    s.0
}

/// Plans of several steps, through `load`: twice, so that the second step goes on from the first.
pub(super) fn plans<B: Backend>(backend: &B) -> Vec<(String, Result<(), String>)> {
    let mut plans = vec![("loops".to_owned(), loops(), 0.0)];
    for count in [-1, 0, 1, ROWS as i32 - 2, ROWS as i32 + 5] {
        let name = format!("loops of a count of {count}");
        plans.push((name, counted(), f64::from(count)));
    }
    let check = |(name, draft, count): (String, Draft, f64)| {
        let both = steps(&Reference, draft.clone(), count)
            .and_then(|expected| Ok((expected, steps(backend, draft, count)?)));
        let outcome = both.and_then(|(expected, got)| {
            let same = expected == got;
            same.then_some(())
                .ok_or_else(|| "other results than the reference".into())
        });
        (name, outcome)
    };
    plans.into_iter().map(check).collect()
}

/// All bytes of results and parameters after each of two steps.
fn steps<B: Backend>(backend: &B, mut draft: Draft, number: f64) -> Result<Vec<Vec<u8>>, String> {
    let kernels = Plan::prepare(&draft.primitives, backend).map_err(text)?;
    for kernel in &kernels {
        draft.scratch.push(backend.scratch(kernel));
    }
    give_scratch(&mut draft);
    let plan = Arc::new(Plan::check(draft).map_err(text)?);
    let mut before = Buffer::ALL.map(|buffer| vec![0xA5; plan.bytes(buffer)]);
    let mut draw = Draw::new(11);
    for value in plan.values() {
        if matches!(value.role, Role::Input | Role::Parameter) {
            let dtype = value.tensor.dtype;
            let bytes = match dtype {
                DType::I64 => encode(dtype, &[number]),
                // Small whole numbers, whose sums are exact in any order.
                _ => {
                    let count = value.tensor.shape.count();
                    let numbers = (0..count).map(|_| draw.between((0.0, 3.0)).floor());
                    encode(dtype, &numbers.collect::<Vec<_>>())
                }
            };
            bytes_of_mut(&mut before, value.span).copy_from_slice(&bytes);
        }
    }
    let mut memory = upload(backend, &before)?;
    let mut executable = backend.load(Arc::clone(&plan), kernels).map_err(text)?;
    let mut results = Vec::new();
    for _ in 0..2 {
        executable.step(backend, &mut memory).map_err(text)?;
        let after = download(backend, &plan, &memory)?;
        untouched(&plan, &before, &after)?;
        for value in plan.values() {
            if matches!(value.role, Role::Result | Role::Update { .. }) {
                results.push(bytes_of(&after, value.span).to_vec());
            }
        }
    }
    Ok(results)
}

/// Scratch memory for every launch, at the end of the arena.
fn give_scratch(draft: &mut Draft) {
    let needed = draft.scratch.iter().copied().max().unwrap_or(0);
    let span = Span {
        buffer: Buffer::Arena,
        offset: draft.sizes[Buffer::Arena as usize],
        bytes: needed,
    };
    draft.sizes[Buffer::Arena as usize] += needed.next_multiple_of(64);
    fn visit(steps: &mut [Step<Launch>], span: Span) {
        for step in steps {
            match step {
                Step::Launch(launch) => launch.scratch = (span.bytes > 0).then_some(span),
                Step::Loop { body, .. } => visit(body, span),
            }
        }
    }
    visit(&mut draft.steps, span);
}
