//! A plan that is recorded at its first step and replayed from then on.

use std::sync::Arc;

use backprop_core::plan::{Buffer as Which, Command, Step};
use backprop_core::{Executable, Memory, OneByOne, Plan, Result, Watch};

use crate::device::{Device, Graph};
use crate::{Buffer, Cuda, Kernel};

/// Launches of a graph at most: beyond, recording it takes longer than it saves.
const LARGEST_GRAPH: usize = 1 << 16;

pub(crate) struct Replay {
    launches: OneByOne<Cuda>,
    /// Whether what runs is known beforehand.
    fixed: bool,
    /// The graph, and the addresses of the memory that it was recorded for.
    recorded: Option<([u64; 3], Graph)>,
}

impl Replay {
    pub(crate) fn new(plan: Arc<Plan>, kernels: Vec<Kernel>) -> Replay {
        Replay {
            fixed: is_fixed(plan.steps()) && plan.launches() <= LARGEST_GRAPH,
            launches: OneByOne::new(plan, kernels),
            recorded: None,
        }
    }
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
        let launches = &mut self.launches;
        let mut graph = Graph::record(&backend.device, || launches.step(backend, memory))?;
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
