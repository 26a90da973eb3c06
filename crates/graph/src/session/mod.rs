//! State and plans on one device.

mod compile;
mod exchange;
mod finite;
mod inspect;
mod profile;
mod storage;
mod warnings;

use std::panic::Location;
use std::sync::Arc;

use backprop_core::plan::Span;
use backprop_core::{Backend, DType, Error, ErrorKind, Executable, Memory, Place, Plan, Result};

pub use exchange::ParameterInfo;
pub use finite::Finite;
use finite::Watch;
pub use inspect::Inspected;
pub(crate) use profile::escaped;
pub use profile::{LineTime, Profile};
use storage::Storage;

use crate::ir::{Ir, NodeId, Origin};
use crate::pass::{Requirement, Work};
use crate::summary;
use crate::tensor::Key;

/// Which of a session's plans.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PlanId(usize);

impl PlanId {
    /// The plan that the session was compiled with.
    pub const STEP: PlanId = PlanId(0);
}

/// Parameters with their values, and the compiled plans that use and change them, on one device.
///
/// A session borrows nothing from the graph it was compiled from, and can be sent to another thread.
/// A step allocates nothing: everything was placed when the plan was compiled.
pub struct Session<B: Backend> {
    backend: B,
    graph: u64,
    /// What the graph was when the session was compiled.
    work: Work,
    memory: Memory<B::Buffer>,
    storage: Storage,
    plans: Vec<Loaded<B>>,
    arena_bytes: usize,
    finite: Finite,
}

struct Loaded<B: Backend> {
    plan: Arc<Plan>,
    executable: Box<dyn Executable<B>>,
    /// Inputs that have to be fed.
    inputs: Vec<u32>,
    fetches: Vec<NodeId>,
    /// Where its fetches lie.
    results: Vec<(Span, DType)>,
    requirements: Vec<Requirement>,
    /// What the user asked for: fetches and updates.
    asked: Vec<NodeId>,
    updates: Vec<(u32, NodeId)>,
    steps: u64,
    /// Finds what is not finite, once it was asked for.
    watch: Option<Box<Watch<B>>>,
}

impl<B: Backend> Loaded<B> {
    /// The fetches that are nodes of the graph, and not of what was added to it.
    fn fetches_of_graph<'l>(&'l self, ir: &'l Ir) -> impl Iterator<Item = NodeId> + 'l {
        let end = ir.nodes.len();
        self.fetches
            .iter()
            .copied()
            .filter(move |id| id.index() < end)
    }
}

impl<B: Backend> std::fmt::Debug for Session<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("backend", &self.backend)
            .field("parameters", &self.work.ir.parameters.len())
            .field("plans", &self.plans.len())
            .finish()
    }
}

impl<B: Backend> Session<B> {
    fn node(&self, key: Key, operation: &str, place: Place) -> Result<NodeId> {
        if key.graph != self.graph {
            let operation = operation.to_owned();
            return Err(Error::new(ErrorKind::MixedGraphs { operation }).at(place));
        }
        if key.node.index() >= self.work.ir.nodes.len() {
            let what = format!("{operation}: the tensor was built after the session was compiled");
            return Err(Error::new(ErrorKind::Unknown { what }).at(place));
        }
        Ok(key.node)
    }

    /// Runs the first plan once.
    ///
    /// # Errors
    /// An input that has not been fed, a [condition](crate::Tensor::require) that does not hold
    /// (parameters keep their values then), or whatever the device reports.
    #[track_caller]
    pub fn step(&mut self) -> Result<()> {
        self.run_at(PlanId(0), Location::caller())
    }

    /// Runs a plan once.
    ///
    /// # Errors
    /// As [`step`](Session::step).
    #[track_caller]
    pub fn run(&mut self, plan: PlanId) -> Result<()> {
        self.run_at(plan, Location::caller())
    }

    fn run_at(&mut self, id: PlanId, place: Place) -> Result<()> {
        self.check_ready(id, place)?;
        self.check_values(id, place)?;
        let loaded = &mut self.plans[id.0];
        loaded.executable.step(&self.backend, &mut self.memory)?;
        loaded.steps += 1;
        self.check_requirements(id)
    }

    /// Whether a plan has all it needs to run.
    fn check_ready(&self, id: PlanId, place: Place) -> Result<()> {
        let Some(loaded) = self.plans.get(id.0) else {
            let what = "the plan belongs to another session".to_owned();
            return Err(Error::new(ErrorKind::Unknown { what }).at(place));
        };
        if let Some(missing) = loaded.inputs.iter().find(|&&i| !self.storage.is_fed(i)) {
            let input = &self.work.ir.inputs[*missing as usize];
            let name = input.name.to_string();
            let born = self.work.ir.origins[input.node.index()].place;
            let error = Error::new(ErrorKind::NotFed { name }).at(place);
            return Err(error.note("input", "declared", Some(born)));
        }
        Ok(())
    }

    /// Whether everything that the graph requires of its values held in the last run of a plan.
    fn check_requirements(&self, id: PlanId) -> Result<()> {
        for requirement in &self.plans[id.0].requirements {
            let mut violated = [0];
            if let Some(span) = self.storage.result(requirement.violated) {
                let io = &self.memory.io;
                self.backend.download(io, span.offset, &mut violated)?;
            }
            if violated[0] != 0 {
                let what = requirement.what.to_string();
                let Origin { place, scope, .. } = requirement.origin;
                let scope = &self.work.ir.scopes[scope as usize];
                let error = Error::new(ErrorKind::Violated { what });
                return Err(error.at(place).within(scope));
            }
        }
        Ok(())
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The first plan.
    #[must_use]
    pub fn step_plan(&self) -> &Plan {
        &self.plans[0].plan
    }

    /// A plan of this session.
    #[must_use]
    pub fn plan_of(&self, id: PlanId) -> Option<&Plan> {
        self.plans.get(id.0).map(|loaded| &*loaded.plan)
    }

    /// The first plan as text: totals, then one line a launch with its operands and the user's place.
    #[must_use]
    pub fn plan_text(&self) -> String {
        self.step_plan().to_string()
    }

    /// Parameters with shapes and bytes, and what the first plan does, as a table.
    #[must_use]
    pub fn summary(&self) -> String {
        summary::table(&self.work.ir, self.step_plan())
    }

    /// The bytes of all buffers together: what a step needs at its peak.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.arena_bytes + self.storage.state_bytes() + self.storage.io_bytes()
    }
}
