//! Single primitives, ready to launch again and again.

use std::time::Duration;

use backprop_core::plan::{
    Access, Buffer, Draft, Iteration, Launch, Phase, Purpose, Role, Span, Step, Value, ValueId,
};
use backprop_core::{Backend, DType, Memory, Plan, Primitive, Shape, TensorType};
use backprop_cpu::Cpu;
use criterion::Criterion;

pub(crate) fn tensor(sizes: &[usize]) -> TensorType {
    TensorType::dense(DType::F32, Shape::new(sizes).unwrap())
}

/// A primitive with its memory, ready to launch.
pub(crate) struct Ready {
    cpu: Cpu,
    plan: Plan,
    kernel: <Cpu as Backend>::Kernel,
    memory: Memory<<Cpu as Backend>::Buffer>,
}

impl Ready {
    pub(crate) fn new(threads: usize, spec: &Primitive) -> Self {
        let cpu = Cpu::builder().threads(threads).build().unwrap();
        let kernel = cpu.prepare(spec).unwrap();
        let plan = plan(spec, cpu.scratch(&kernel));
        let alloc = |buffer| cpu.alloc(plan.bytes(buffer)).unwrap();
        let mut memory = Memory {
            arena: alloc(Buffer::Arena),
            state: alloc(Buffer::State),
            io: alloc(Buffer::Io),
        };
        let ones = 1.0_f32.to_le_bytes().repeat(plan.bytes(Buffer::Io) / 4);
        cpu.upload(&mut memory.io, 0, &ones).unwrap();
        Self {
            cpu,
            plan,
            kernel,
            memory,
        }
    }

    pub(crate) fn launch(&mut self) {
        let Some(Step::Launch(command)) = self.plan.steps().first() else {
            return;
        };
        let (kernel, memory) = (&self.kernel, &mut self.memory);
        let launched = self
            .cpu
            .launch(kernel, memory, command.args(), Iteration::default());
        launched.unwrap();
    }
}

/// A plan of one launch, operands one after the other.
fn plan(spec: &Primitive, scratch: usize) -> Plan {
    let mut end = 0;
    let mut place = |tensor: &TensorType, role| {
        let span = Span {
            buffer: Buffer::Io,
            offset: end,
            bytes: tensor.bytes(),
        };
        end = (end + tensor.bytes()).next_multiple_of(64);
        Value {
            tensor: tensor.clone().into(),
            role,
            purpose: Purpose::Plain,
            span,
            name: "".into(),
        }
    };
    let reads = spec.reads().into_iter().map(|tensor| (tensor, Role::Input));
    let writes = spec
        .writes()
        .into_iter()
        .map(|tensor| (tensor, Role::Result));
    let values: Vec<Value> = reads
        .chain(writes)
        .map(|(tensor, role)| place(tensor, role))
        .collect();
    let access = |value: usize| Access::whole(ValueId(value as u32));
    let arena = Span {
        buffer: Buffer::Arena,
        offset: 0,
        bytes: scratch,
    };
    let first_write = spec.reads().len();
    let launch = Launch {
        primitive: 0,
        reads: (0..first_write).map(access).collect(),
        writes: (first_write..values.len()).map(access).collect(),
        scratch: (scratch > 0).then_some(arena),
        place: None,
        scope: "".into(),
        phase: Phase::Forward,
    };
    Plan::check(Draft {
        primitives: vec![spec.clone()],
        scratch: vec![scratch],
        values,
        steps: vec![Step::Launch(launch)],
        sizes: [scratch, 0, end],
    })
    .unwrap()
}

pub(crate) fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
}
