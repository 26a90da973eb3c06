//! Runs single primitives through checked plans, and compares backends.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "every test file uses its part")]

pub(crate) mod program;

use backprop_core::plan::{
    Access, Buffer, Draft, Iteration, Launch, Phase, Purpose, Role, Span, Step, Value, ValueId,
};
use backprop_core::{
    Backend, DType, Element, Memory, Plan, Primitive, Reference, Shape, TensorType,
};
use backprop_cpu::{Cpu, Level};
use half::{bf16, f16};

/// Bytes between values that nobody may touch.
const MOAT: usize = 64;

pub(crate) fn tensor(dtype: DType, sizes: &[usize]) -> TensorType {
    TensorType::dense(dtype, Shape::new(sizes).unwrap())
}

/// A backend with so many threads, for each level of this machine.
pub(crate) fn levels() -> impl Iterator<Item = impl Fn(usize) -> Cpu> {
    let available = Level::ALL.into_iter().filter(|level| level.is_available());
    available.map(|level| move |n| Cpu::builder().level(level).threads(n).build().unwrap())
}

/// Elements spread over an interval, the same for the same seed.
pub(crate) fn random_bytes(dtype: DType, n: usize, (low, high): (f64, f64), seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        low + (high - low) * (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..n).flat_map(|_| element(dtype, next())).collect()
}

/// The bytes of the number of this type nearest to `x`.
pub(crate) fn element(dtype: DType, x: f64) -> Vec<u8> {
    fn bytes<T: Element>(x: f64) -> Vec<u8> {
        T::bytes(&[T::from_f64(x)]).to_vec()
    }
    match dtype {
        DType::F32 => bytes::<f32>(x),
        DType::F64 => bytes::<f64>(x),
        DType::F16 => bytes::<f16>(x),
        DType::BF16 => bytes::<bf16>(x),
        DType::I32 => bytes::<i32>(x),
        DType::I64 => bytes::<i64>(x),
        DType::U8 => bytes::<u8>(x),
        _ => vec![u8::from(x > 0.5)],
    }
}

fn numbers(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    fn read<T: Element>(bytes: &[u8]) -> Vec<f64> {
        let mut values = vec![T::default(); bytes.len() / size_of::<T>()];
        T::copy_from_bytes(&mut values, bytes);
        values.into_iter().map(T::to_f64).collect()
    }
    match dtype {
        DType::F32 => read::<f32>(bytes),
        DType::F64 => read::<f64>(bytes),
        DType::F16 => read::<f16>(bytes),
        DType::BF16 => read::<bf16>(bytes),
        DType::I32 => read::<i32>(bytes),
        DType::I64 => read::<i64>(bytes),
        _ => bytes.iter().map(|&byte| f64::from(byte)).collect(),
    }
}

/// Places values one after the other with moats between them.
#[derive(Default)]
struct Layout {
    values: Vec<Value>,
    sizes: [usize; 3],
}

impl Layout {
    fn place(&mut self, tensor: &TensorType, role: Role) -> ValueId {
        let buffer = if role == Role::Parameter {
            Buffer::State
        } else {
            Buffer::Io
        };
        let size = &mut self.sizes[buffer as usize];
        let offset = *size + MOAT;
        *size = (offset + tensor.bytes()).next_multiple_of(64) + MOAT;
        let span = Span {
            buffer,
            offset,
            bytes: tensor.bytes(),
        };
        self.add(tensor, role, span)
    }

    fn add(&mut self, tensor: &TensorType, role: Role, span: Span) -> ValueId {
        self.values.push(Value {
            tensor: tensor.clone().into(),
            role,
            purpose: Purpose::Plain,
            span,
            name: "".into(),
        });
        ValueId(self.values.len() as u32 - 1)
    }
}

/// A plan of one launch; `taken` says which write takes the place of which read.
fn plan(spec: &Primitive, scratch: usize, taken: &[(usize, usize)]) -> Plan {
    let mut layout = Layout::default();
    let place_of = |write: usize| taken.iter().find(|pair| pair.0 == write).map(|pair| pair.1);
    let mut reads = Vec::new();
    for (i, tensor) in spec.reads().into_iter().enumerate() {
        let overwritten = taken.iter().any(|&(_, read)| read == i);
        let role = if overwritten {
            Role::Parameter
        } else {
            Role::Input
        };
        reads.push(layout.place(tensor, role));
    }
    let mut writes = Vec::new();
    for (j, tensor) in spec.writes().into_iter().enumerate() {
        writes.push(match place_of(j) {
            None => layout.place(tensor, Role::Result),
            Some(read) => {
                let (of, span) = (reads[read], layout.values[reads[read].index()].span);
                layout.add(tensor, Role::Update { of }, span)
            }
        });
    }
    let arena = Span {
        buffer: Buffer::Arena,
        offset: MOAT,
        bytes: scratch,
    };
    layout.sizes[Buffer::Arena as usize] = scratch + 2 * MOAT;
    let whole = |ids: Vec<ValueId>| ids.into_iter().map(Access::whole).collect();
    let launch = Launch {
        primitive: 0,
        reads: whole(reads),
        writes: whole(writes),
        scratch: (scratch > 0).then_some(arena),
        place: None,
        scope: "".into(),
        phase: Phase::Forward,
    };
    Plan::check(Draft {
        primitives: vec![spec.clone()],
        scratch: vec![scratch],
        values: layout.values,
        steps: vec![Step::Launch(launch)],
        sizes: layout.sizes,
    })
    .unwrap()
}

/// What a backend writes; asserts that it writes nothing else.
#[track_caller]
pub(crate) fn run<B: Backend>(
    backend: &B,
    spec: &Primitive,
    reads: &[Vec<u8>],
    taken: &[(usize, usize)],
) -> Vec<Vec<u8>> {
    let kernel = backend.prepare(spec).unwrap();
    let plan = plan(spec, backend.scratch(&kernel), taken);
    let alloc = |buffer: Buffer| {
        let mut memory = backend.alloc(plan.bytes(buffer)).unwrap();
        backend
            .upload(&mut memory, 0, &vec![0xA5; plan.bytes(buffer)])
            .unwrap();
        memory
    };
    let mut memory = Memory {
        arena: alloc(Buffer::Arena),
        state: alloc(Buffer::State),
        io: alloc(Buffer::Io),
    };
    for (value, bytes) in plan.values().iter().zip(reads) {
        backend
            .upload(
                memory.buffer_mut(value.span.buffer),
                value.span.offset,
                bytes,
            )
            .unwrap();
    }
    let [Step::Launch(command)] = plan.steps() else {
        panic!("one launch")
    };
    backend
        .launch(&kernel, &mut memory, command.args(), Iteration::default())
        .unwrap();
    untouched(backend, &plan, &memory);
    let written = plan.values()[reads.len()..].iter().map(|value| {
        let mut bytes = vec![0; value.span.bytes];
        backend
            .download(
                memory.buffer(value.span.buffer),
                value.span.offset,
                &mut bytes,
            )
            .unwrap();
        bytes
    });
    written.collect()
}

/// Everything outside of values and scratch is as it was.
#[track_caller]
fn untouched<B: Backend>(backend: &B, plan: &Plan, memory: &Memory<B::Buffer>) {
    for buffer in Buffer::ALL {
        let mut bytes = vec![0; plan.bytes(buffer)];
        backend
            .download(memory.buffer(buffer), 0, &mut bytes)
            .unwrap();
        for value in plan
            .values()
            .iter()
            .filter(|value| value.span.buffer == buffer)
        {
            bytes[value.span.offset..value.span.offset + value.span.bytes].fill(0xA5);
        }
        if buffer == Buffer::Arena {
            let end = bytes.len() - MOAT;
            bytes[MOAT..end].fill(0xA5);
        }
        let strayed = bytes.iter().position(|&byte| byte != 0xA5);
        assert_eq!(strayed, None, "a write beside all values of {buffer:?}");
    }
}

#[track_caller]
pub(crate) fn check(spec: &Primitive, reads: &[Vec<u8>]) {
    check_in_place(spec, reads, &[]);
}

/// Compares every level, with one and with two threads, to the reference.
#[track_caller]
pub(crate) fn check_in_place(spec: &Primitive, reads: &[Vec<u8>], taken: &[(usize, usize)]) {
    let expected = run(&Reference, spec, reads, taken);
    for cpu in levels() {
        let cpu = cpu(1);
        assert!(cpu.supports(spec), "{cpu:?} declines {spec}");
        let got = run(&cpu, spec, reads, taken);
        for ((tensor, got), expected) in spec.writes().into_iter().zip(&got).zip(&expected) {
            let (got, expected) = (numbers(tensor.dtype, got), numbers(tensor.dtype, expected));
            for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
                let same = g == e || g.is_nan() && e.is_nan();
                let near =
                    e.is_finite() && (g - e).abs() <= tolerance(tensor.dtype) * (1.0 + e.abs());
                assert!(same || near, "{cpu:?}, {spec}: element {i} is {g}, not {e}");
            }
        }
    }
}

/// Four units in the last place, a few more in 16 bits (which are computed in f32, not f64).
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-6,
        DType::F64 => 1e-13,
        DType::F16 => 4e-3,
        DType::BF16 => 3e-2,
        _ => 0.0,
    }
}
