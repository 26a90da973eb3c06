//! From a graph to a session, and from a session to further plans over its parameters.

use std::collections::{BTreeSet, HashSet};
use std::panic::Location;
use std::sync::Arc;

use backprop_core::plan::{ALIGNMENT, Buffer, Span};
use backprop_core::{Backend, DType, Error, ErrorKind, Memory, Place, Plan, Result};

use super::storage::{self, Storage};
use super::{Finite, Loaded, PlanId, Session};
use crate::graph::Graph;
use crate::init::Stream;
use crate::ir::Ir;
use crate::pass::{self, CompileOptions, Home, Homes, Launches, Work};
use crate::tensor::Key;
use crate::updates::Updates;

/// How large the memory of a session was before a plan was tried that is not kept.
pub(super) struct Before {
    io: Storage,
    arena: usize,
}

impl<B: Backend> Session<B> {
    /// Compiles a step: computes `fetches` and updates parameters. Parameters get their initial
    /// values.
    ///
    /// # Errors
    /// Everything recorded while building the graph; keys of another graph; a parameter updated
    /// twice or with a value of another type or shape; a [random state](crate::RandomState) drawn
    /// from and not moved; memory that cannot be had.
    #[track_caller]
    pub fn compile(
        graph: &Graph,
        backend: B,
        fetches: &[Key],
        updates: Updates,
    ) -> Result<Session<B>> {
        let options = CompileOptions::default();
        Session::compile_at(
            graph,
            backend,
            (fetches, updates, options),
            Location::caller(),
        )
    }

    /// [Compiles](Session::compile) a step within a budget.
    ///
    /// ```
    /// use backprop_core::{DType::F32, Reference};
    /// use backprop_graph::{CompileOptions, Graph, Init, Session, Updates};
    ///
    /// let g = Graph::new();
    /// let (x, w) = (g.input("x", [256, 64], F32), g.parameter("w", [64, 64], F32, Init::Ones));
    /// let loss = (0..12).fold(x, |y, _| y + y.matmul(w).gelu()).square().mean(..);
    /// let dw = g.grad(loss, &[w])?[0].key();
    /// let free = Session::compile(&g, Reference, &[dw], Updates::none())?;
    /// let budget = free.memory_bytes() - free.step_plan().saved_activations() / 2;
    /// let options = CompileOptions { budget: Some(budget) };
    /// let bounded = Session::compile_with(&g, Reference, &[dw], Updates::none(), options)?;
    /// assert!(bounded.memory_bytes() <= budget);
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`compile`](Session::compile), and a budget that does not suffice: the error says how many
    /// bytes would, and what takes them.
    #[track_caller]
    pub fn compile_with(
        graph: &Graph,
        backend: B,
        fetches: &[Key],
        updates: Updates,
        options: CompileOptions,
    ) -> Result<Session<B>> {
        Session::compile_at(
            graph,
            backend,
            (fetches, updates, options),
            Location::caller(),
        )
    }

    fn compile_at(
        graph: &Graph,
        backend: B,
        step: (&[Key], Updates, CompileOptions),
        place: Place,
    ) -> Result<Session<B>> {
        graph.check()?;
        let work = Work {
            ir: graph.ir.snapshot(),
            fetches: Vec::new(),
            updates: Vec::new(),
        };
        let storage = Storage::new(&work.ir);
        let mut state = backend.alloc(storage.state_bytes())?;
        initialise(graph.seed, &work.ir, &storage, |at, bytes| {
            backend.upload(&mut state, at, bytes)
        })?;
        let memory = Memory {
            arena: backend.alloc(0)?,
            io: backend.alloc(0)?,
            state,
        };
        let mut session = Session {
            backend,
            graph: graph.id,
            work,
            memory,
            storage,
            plans: Vec::new(),
            arena_bytes: 0,
            finite: Finite::default(),
        };
        session.add_plan(step, place)?;
        Ok(session)
    }

    /// Compiles another plan over the same parameters and memory: an evaluation beside a training
    /// step, or a step on another batch size.
    ///
    /// # Errors
    /// As [`compile`](Session::compile). The session is unchanged.
    #[track_caller]
    pub fn plan(&mut self, fetches: &[Key], updates: Updates) -> Result<PlanId> {
        let options = CompileOptions::default();
        self.add_plan((fetches, updates, options), Location::caller())
    }

    /// [Compiles](Session::plan) another plan within a budget of the bytes of all buffers, of which
    /// this plan takes all but what only others need within a step.
    ///
    /// # Errors
    /// As [`compile_with`](Session::compile_with). The session is unchanged.
    #[track_caller]
    pub fn plan_with(
        &mut self,
        fetches: &[Key],
        updates: Updates,
        options: CompileOptions,
    ) -> Result<PlanId> {
        self.add_plan((fetches, updates, options), Location::caller())
    }

    fn add_plan(
        &mut self,
        (fetches, updates, options): (&[Key], Updates, CompileOptions),
        place: Place,
    ) -> Result<PlanId> {
        if let Some(error) = Error::gather(updates.errors().iter().cloned()) {
            return Err(error);
        }
        let mut work = self.work.clone();
        for key in fetches {
            let node = self.node(*key, "fetch", place)?;
            if !work.fetches.contains(&node) {
                work.fetches.push(node);
            }
        }
        let mut updated = HashSet::new();
        for &(parameter, key) in updates.pairs() {
            let node = self.node(key, "update", place)?;
            work.updates.push((parameter.index, node));
            let is_first = updated.insert(parameter.index);
            self.check_update(&work, (parameter.graph, is_first), place)?;
        }
        check_counters(&work, place)?;
        let (asked, updates) = (work.fetches.clone(), work.updates.clone());
        let reachable = work.reachable();
        let inspections = self.work.ir.inspections.iter();
        let inspected = inspections.filter(|inspection| reachable[inspection.node.index()]);
        for inspection in inspected {
            if !work.fetches.contains(&inspection.outside) {
                work.fetches.push(inspection.outside);
            }
        }
        let requirements = pass::guard(&mut work);
        let mut storage = self.storage.clone();
        let loaded = self.load(work, &mut storage, (options, place))?;
        self.storage = storage;
        self.plans.push(Loaded {
            requirements,
            asked,
            updates,
            ..loaded
        });
        Ok(PlanId(self.plans.len() - 1))
    }

    /// Compiles what is worked out, finding places in `storage` for what goes in and out.
    fn load(
        &mut self,
        work: Work,
        storage: &mut Storage,
        (options, place): (CompileOptions, Place),
    ) -> Result<Loaded<B>> {
        let fetches = work.fetches.clone();
        let dtypes: Vec<DType> = fetches.iter().map(|&id| work.ir.node(id).dtype).collect();
        let launches = pass::lower(&pass::rewrite(&work, &self.backend), &self.backend);
        let inputs = inputs_of(&launches);
        check_size(storage, &launches)?;
        let homes = storage.place(&work.ir, &launches, &fetches);
        let data = data_of(&launches, &homes);
        // A step takes its memory next: what was only needed to get here may be part of it.
        drop(work);
        let compiled = pass::compile(launches, &self.backend, &homes, options);
        let compiled = compiled.map_err(|error| match error.kind() {
            ErrorKind::OverBudget { .. } => error.at(place),
            _ => error,
        })?;
        let plan = Arc::new(compiled.plan);
        let executable = self.backend.load(Arc::clone(&plan), compiled.kernels)?;
        self.grow(storage, &plan)?;
        for (span, bytes) in &data {
            self.backend
                .upload(&mut self.memory.io, span.offset, bytes)?;
        }
        Ok(Loaded {
            plan,
            executable,
            inputs,
            results: homes.results.iter().copied().zip(dtypes).collect(),
            fetches,
            requirements: Vec::new(),
            asked: Vec::new(),
            updates: Vec::new(),
            steps: 0,
            watch: None,
        })
    }

    /// Compiles a plan that the user did not ask for: what it hands out is nobody else's.
    pub(super) fn load_aside(&mut self, work: Work) -> Result<Loaded<B>> {
        let mut storage = self.storage.without_results();
        let unlimited = (CompileOptions::default(), Location::caller());
        let loaded = self.load(work, &mut storage, unlimited)?;
        self.storage.keep_apart(&storage);
        Ok(loaded)
    }

    /// How large the memory is.
    pub(super) fn memory_aside(&self) -> Before {
        Before {
            io: self.storage.clone(),
            arena: self.arena_bytes,
        }
    }

    /// Makes the memory as large as it was.
    pub(super) fn forget_aside(&mut self, before: Before) -> Result<()> {
        let mut kept = vec![0; before.io.io_bytes()];
        self.backend.download(&self.memory.io, 0, &mut kept)?;
        let mut io = self.backend.alloc(kept.len())?;
        self.backend.upload(&mut io, 0, &kept)?;
        self.memory.io = io;
        self.memory.arena = self.backend.alloc(before.arena)?;
        (self.storage, self.arena_bytes) = (before.io, before.arena);
        Ok(())
    }

    /// Makes the buffers as large as all plans need, keeping what the host has fed.
    fn grow(&mut self, storage: &Storage, plan: &Plan) -> Result<()> {
        let needed = plan.bytes(Buffer::Arena);
        if needed > self.arena_bytes {
            self.memory.arena = self.backend.alloc(needed)?;
            self.arena_bytes = needed;
        }
        if storage.io_bytes() > self.storage.io_bytes() {
            let mut kept = vec![0; self.storage.io_bytes()];
            self.backend.download(&self.memory.io, 0, &mut kept)?;
            let mut io = self.backend.alloc(storage.io_bytes())?;
            self.backend.upload(&mut io, 0, &kept)?;
            self.memory.io = io;
        }
        Ok(())
    }

    /// Checks the last update of `work`.
    fn check_update(
        &self,
        work: &Work,
        (graph, is_first): (u64, bool),
        place: Place,
    ) -> Result<()> {
        let Some(&(parameter, node)) = work.updates.last() else {
            return Ok(());
        };
        let known = work
            .ir
            .parameters
            .get(parameter as usize)
            .filter(|_| graph == self.graph);
        let Some(known) = known else {
            let operation = "update".to_owned();
            return Err(Error::new(ErrorKind::MixedGraphs { operation }).at(place));
        };
        if !is_first {
            let what = format!("parameter `{}` is updated twice", known.name);
            return Err(Error::new(ErrorKind::Unknown { what }).at(place));
        }
        let (old, new) = (work.ir.node(known.node), work.ir.node(node));
        if (old.dtype, &old.shape) != (new.dtype, &new.shape) {
            let error = Error::new(ErrorKind::Mismatch {
                name: known.name.to_string(),
                expected: format!("{}{}", old.dtype, old.shape),
                found: format!("updated by {}{}", new.dtype, new.shape),
            });
            let born = work.ir.origins[node.index()].place;
            return Err(error
                .at(place)
                .note("update", work.ir.label(node), Some(born)));
        }
        Ok(())
    }
}

/// An error for random keys that would be the same in every run.
fn check_counters(work: &Work, place: Place) -> Result<()> {
    let reachable = match work.ir.counters.is_empty() {
        true => return Ok(()),
        false => work.reachable(),
    };
    for &counter in &work.ir.counters {
        let moved = work.updates.iter().any(|&(updated, _)| updated == counter);
        let parameter = &work.ir.parameters[counter as usize];
        if reachable[parameter.node.index()] && !moved {
            let what = "the plan draws from it, and its updates do not move it";
            let what = format!("random state `{}`: {what}", parameter.name);
            let born = work.ir.origins[parameter.node.index()].place;
            return Err(Error::new(ErrorKind::Unknown { what })
                .at(place)
                .note("state", &*parameter.name, Some(born))
                .help("add `.and(state.updates())`, or draw from `g.random_key(seed)`"));
        }
    }
    Ok(())
}

/// An error for values that no memory holds together: offsets of a plan must not go round.
fn check_size(storage: &Storage, launches: &Launches) -> Result<()> {
    let padded = |bytes: usize| bytes.saturating_add(ALIGNMENT);
    let values = launches
        .values
        .iter()
        .map(|value| padded(value.tensor.bytes()));
    let resident = storage.state_bytes().saturating_add(storage.io_bytes());
    // Results have a place besides.
    let bytes = values.fold(resident, |all, bytes| {
        all.saturating_add(bytes.saturating_mul(2))
    });
    match isize::try_from(bytes) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::new(ErrorKind::OutOfMemory { bytes })),
    }
}

/// Initial values that are drawn and handed on at a time.
const DRAWN: usize = 1 << 13;

/// Gives `upload` the initial values of all parameters that are not 0.
fn initialise(
    seed: u64,
    ir: &Ir,
    storage: &Storage,
    mut upload: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut values = vec![0.0; DRAWN];
    for (parameter, span) in ir.parameters.iter().zip(storage.parameters()) {
        let (init, node) = (&parameter.init, ir.node(parameter.node));
        let source = (*node.shape, Stream::new(seed, &parameter.name));
        let count = node.shape.count();
        for start in (0..count).step_by(DRAWN).filter(|_| !init.is_zero()) {
            let values = &mut values[..DRAWN.min(count - start)];
            init.fill(start, values, source);
            let bytes = storage::encode(values, node.dtype);
            upload(span.offset + start * node.dtype.size(), &bytes)?;
        }
    }
    Ok(())
}

/// What is known when the graph is built, with its places.
fn data_of(launches: &Launches, homes: &Homes) -> Vec<(Span, Arc<[u8]>)> {
    let homes = homes.data.iter();
    let data = homes.filter_map(|(&v, &span)| match &launches.values[v].home {
        Home::Data(bytes) => Some((span, Arc::clone(bytes))),
        _ => None,
    });
    data.collect()
}

/// The inputs that launches read, each once.
fn inputs_of(launches: &Launches) -> Vec<u32> {
    let inputs = launches.values.iter().filter_map(|value| match value.home {
        Home::Input(i) => Some(i),
        _ => None,
    });
    inputs.collect::<BTreeSet<u32>>().into_iter().collect()
}
