//! Running a plan, watched or not.

use std::fmt;
use std::sync::Arc;

use crate::plan::{Command, Iteration, Step, ValueId};
use crate::{Backend, ErrorKind, Memory, Plan, Result};

/// A plan on a device, ready to run.
pub trait Executable<B: Backend>: Send {
    /// Runs the whole step once.
    ///
    /// # Errors
    /// If the device fails.
    fn step(&mut self, backend: &B, memory: &mut Memory<B::Buffer>) -> Result<()>;

    /// Runs the whole step once, with every launch in the hands of `watch`.
    ///
    /// # Errors
    /// If the device fails; [`ErrorKind::Unsupported`] where launches cannot be told apart.
    fn watched(
        &mut self,
        backend: &B,
        memory: &mut Memory<B::Buffer>,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let _ = (memory, watch);
        Err(crate::Error::new(ErrorKind::Unsupported {
            backend: backend.name(),
            primitive: "a step that is watched launch by launch".to_owned(),
        }))
    }
}

/// Is handed every launch of a step.
pub trait Watch {
    /// Has `run` called once: the launch on line `line` of the plan ([`Plan::lines`]).
    ///
    /// # Errors
    /// Those of the launch.
    fn launch(&mut self, line: usize, run: &mut dyn FnMut() -> Result<()>) -> Result<()>;
}

/// A plan with its kernels, whose launches run one after the other: what
/// [`Backend::load`] does by default, and what a backend may record to do better.
pub struct OneByOne<B: Backend> {
    plan: Arc<Plan>,
    kernels: Vec<B::Kernel>,
}

impl<B: Backend> OneByOne<B> {
    /// Takes a plan, and one kernel for each of its primitives, in order.
    #[must_use]
    pub fn new(plan: Arc<Plan>, kernels: Vec<B::Kernel>) -> Self {
        Self { plan, kernels }
    }

    /// Runs one launch of the plan, at an iteration of the loops around it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn launch(
        &self,
        backend: &B,
        memory: &mut Memory<B::Buffer>,
        command: &Command,
        at: Iteration,
    ) -> Result<()> {
        backend.launch(&self.kernels[command.kernel()], memory, command.args(), at)
    }

    fn run(
        &self,
        backend: &B,
        memory: &mut Memory<B::Buffer>,
        watch: Option<&mut dyn Watch>,
    ) -> Result<()> {
        let mut walk = Walk {
            plan: &self.plan,
            kernels: &self.kernels,
            backend,
            memory,
            watch,
        };
        walk.steps(self.plan.steps(), (Iteration::default(), 0))
    }
}

impl<B: Backend> Executable<B> for OneByOne<B> {
    fn step(&mut self, backend: &B, memory: &mut Memory<B::Buffer>) -> Result<()> {
        self.run(backend, memory, None)
    }

    fn watched(
        &mut self,
        backend: &B,
        memory: &mut Memory<B::Buffer>,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        self.run(backend, memory, Some(watch))
    }
}

impl<B: Backend> fmt::Debug for OneByOne<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let launches = self.plan.launches();
        f.debug_struct("OneByOne")
            .field("launches", &launches)
            .finish()
    }
}

struct Walk<'a, 'w, B: Backend> {
    plan: &'a Plan,
    kernels: &'a [B::Kernel],
    backend: &'a B,
    memory: &'a mut Memory<B::Buffer>,
    watch: Option<&'a mut (dyn Watch + 'w)>,
}

impl<B: Backend> Walk<'_, '_, B> {
    fn steps(&mut self, steps: &[Step<Command>], (at, depth): (Iteration, usize)) -> Result<()> {
        for step in steps {
            match step {
                Step::Launch(command) => self.launch(command, at)?,
                Step::Loop {
                    times,
                    count,
                    reverse,
                    body,
                    ..
                } => {
                    for round in 0..*times {
                        let rounds = match count {
                            Some(count) => self.count(*count)?.min(*times),
                            None => *times,
                        };
                        if round >= rounds {
                            break;
                        }
                        let mut at = at;
                        at.0[depth] = if *reverse { rounds - 1 - round } else { round };
                        self.steps(body, (at, depth + 1))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn launch(&mut self, command: &Command, at: Iteration) -> Result<()> {
        let kernel = &self.kernels[command.kernel()];
        let (backend, memory) = (self.backend, &mut *self.memory);
        let mut run = || backend.launch(kernel, memory, command.args(), at);
        match &mut self.watch {
            Some(watch) => watch.launch(command.line(), &mut run),
            None => run(),
        }
    }

    /// How many iterations a value allows.
    fn count(&self, count: ValueId) -> Result<usize> {
        let span = self.plan.values()[count.index()].span;
        let mut bytes = [0; size_of::<i64>()];
        let buffer = self.memory.buffer(span.buffer);
        self.backend.download(buffer, span.offset, &mut bytes)?;
        Ok(usize::try_from(i64::from_le_bytes(bytes)).unwrap_or(0))
    }
}
