//! A plan that is recorded at its first step and replayed from then on.

use std::sync::Arc;

use backprop_core::plan::{Buffer as Which, Command, Iteration, Step};
use backprop_core::{Executable, Memory, OneByOne, Plan, Result, Watch};

use crate::device::{Device, Function, Graph};
use crate::loops::{self, Fused};
use crate::lowered::MAX_ARGS;
use crate::{Buffer, Cuda, Kernel, unprepared};

/// Launches of a graph at most: beyond, recording it takes longer than it saves.
const LARGEST_GRAPH: usize = 1 << 16;

pub(crate) struct Replay {
    plan: Arc<Plan>,
    launches: OneByOne<Cuda>,
    /// Whether what runs is known beforehand.
    fixed: bool,
    loops: Vec<(Fused, Function)>,
    /// The graph, and the addresses of the memory that it was recorded for.
    recorded: Option<([u64; 3], Graph)>,
}

impl Replay {
    pub(crate) fn new(cuda: &Cuda, plan: Arc<Plan>, kernels: Vec<Kernel>) -> Result<Replay> {
        let fixed = is_fixed(plan.steps()) && plan.launches() <= LARGEST_GRAPH;
        let loops = match fixed {
            true => loops::fuse(&plan, cuda.options),
            false => Vec::new(),
        };
        let sources: Vec<_> = loops.iter().map(|fused| &fused.launch.source).collect();
        let functions = cuda.device.functions(&sources)?;
        Ok(Replay {
            fixed,
            loops: loops.into_iter().zip(functions).collect(),
            launches: OneByOne::new(Arc::clone(&plan), kernels),
            plan,
            recorded: None,
        })
    }

    /// Launches everything once, some loops as a whole.
    fn launch(
        &self,
        (backend, memory): (&Cuda, &mut Memory<Buffer>),
        steps: &[Step<Command>],
        (at, depth): (Iteration, usize),
    ) -> Result<()> {
        for step in steps {
            match step {
                Step::Launch(command) => self.launches.launch(backend, memory, command, at)?,
                Step::Loop {
                    times,
                    reverse,
                    body,
                    ..
                } => {
                    let fused = self.loops.iter().find(|(fused, _)| fused.is_of(body));
                    if let Some((fused, function)) = fused {
                        whole(backend, memory, (fused, *function), at)?;
                        continue;
                    }
                    for round in 0..*times {
                        let mut at = at;
                        at.0[depth] = if *reverse { times - 1 - round } else { round };
                        self.launch((backend, memory), body, (at, depth + 1))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Launches a loop.
fn whole(
    cuda: &Cuda,
    memory: &Memory<Buffer>,
    (fused, function): (&Fused, Function),
    at: Iteration,
) -> Result<()> {
    let mut pointers = [0; MAX_ARGS];
    let pointers = pointers
        .get_mut(..fused.slots.len())
        .ok_or_else(unprepared)?;
    for (pointer, slot) in pointers.iter_mut().zip(&fused.slots) {
        *pointer = memory.buffer(slot.buffer()).address() + slot.offset(at) as u64;
    }
    // SAFETY: the arguments are those of launches of a checked plan (P1 to P6), at all iterations of
    // the loop; the kernel was written for their sizes, and touches what the launches touch.
    unsafe { cuda.device.launch(function.into(), &fused.launch, pointers) }
}

/// Whether no loop's length is computed on the way.
fn is_fixed(steps: &[Step<Command>]) -> bool {
    steps.iter().all(|step| match step {
        Step::Launch(_) => true,
        Step::Loop { count, body, .. } => count.is_none() && is_fixed(body),
    })
}

impl Executable<Cuda> for Replay {
    fn step(&mut self, backend: &Cuda, memory: &mut Memory<Buffer>) -> Result<()> {
        if !self.fixed {
            return self.launches.step(backend, memory);
        }
        let addresses = Which::ALL.map(|which| memory.buffer(which).address());
        if let Some((known, graph)) = &mut self.recorded
            && *known == addresses
        {
            return graph.launch();
        }
        self.recorded = None;
        let mut graph = Graph::record(&backend.device, || {
            self.launch((backend, memory), self.plan.steps(), Default::default())
        })?;
        graph.launch()?;
        self.recorded = Some((addresses, graph));
        Ok(())
    }

    fn watched(
        &mut self,
        backend: &Cuda,
        memory: &mut Memory<Buffer>,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let device = &backend.device;
        self.launches
            .watched(backend, memory, &mut Waiting { watch, device })
    }
}

/// Ends each launch when its work is done.
struct Waiting<'a> {
    watch: &'a mut dyn Watch,
    device: &'a Device,
}

impl Watch for Waiting<'_> {
    fn launch(&mut self, line: usize, run: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.watch.launch(line, &mut || {
            run()?;
            self.device.wait()
        })
    }
}
