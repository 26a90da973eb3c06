//! The compiler: from the nodes that a step needs to a checked plan.
//!
//! | pass | does |
//! |---|---|
//! | [`guard`] | makes updates depend on what the graph requires of its values |
//! | [`decompose`] | turns composites into primitives where the backend has them; drops their marks, and every node that is not needed |
//! | [`products`] | makes matrix products elementwise that are no work for a matrix kernel |
//! | [`simplify`] | folds constants, removes what changes nothing, forms fused multiply-adds |
//! | [`fuse`] | turns nodes into launches, as few as the backend supports |
//! | [`schedule`] | orders launches for few live bytes; updates wait for readers of the old value |
//! | [`rematerialise`] | runs parts of the forward pass again, within a budget or where marked |
//! | [`place`] | gives each value its bytes in one arena, in place where an operand dies |
//!
//! Kernels are prepared between scheduling and placing, because their scratch memory is placed too.
//! The plan checker has the last word. Every pass is near-linear in the number of nodes and keeps
//! node order topological; none recurses over nodes.

mod budget;
mod decompose;
mod fuse;
mod guard;
mod launches;
mod place;
mod products;
mod rematerialise;
mod scans;
mod schedule;
mod simplify;
#[cfg(test)]
mod tests;
mod truth;

use std::collections::HashSet;
use std::sync::Arc;

use backprop_core::plan::Draft;
use backprop_core::{Backend, Plan, Primitive, Result};

use crate::ir::{Ir, Node, NodeId, Op, Origin};
pub use budget::CompileOptions;
pub(crate) use guard::{Requirement, guard};
pub(crate) use launches::{Home, Launches};
pub(crate) use place::Homes;

/// Nodes with those among them that a step is for.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) ir: Arc<Ir>,
    /// What the host fetches.
    pub(crate) fetches: Vec<NodeId>,
    /// Parameters and the nodes that become their values.
    pub(crate) updates: Vec<(u32, NodeId)>,
}

impl Work {
    pub(crate) fn roots(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.fetches
            .iter()
            .copied()
            .chain(self.updates.iter().map(|&(_, id)| id))
    }

    /// Which nodes the roots depend on. A scan depends on what it stacks and goes through only as far
    /// as that is used.
    pub(crate) fn reachable(&self) -> Vec<bool> {
        let mut reachable = vec![false; self.ir.nodes.len()];
        for root in self.roots() {
            reachable[root.index()] = true;
        }
        let mut taken: HashSet<(NodeId, usize)> = HashSet::new();
        for id in self.ir.ids().rev() {
            if !reachable[id.index()] {
                continue;
            }
            let node = self.ir.node(id);
            if let Op::Output(i) = node.op {
                taken.insert((node.inputs[0], i as usize));
            }
            for (k, input) in node.inputs.iter().enumerate() {
                let used = match &node.op {
                    Op::Scan(scan) => scan.uses(k, |output| taken.contains(&(id, output))),
                    _ => true,
                };
                reachable[input.index()] |= used;
            }
        }
        reachable
    }

    /// Builds the reachable nodes anew, in order. `rewrite` gets a node whose operands are new
    /// already, and gives the new node it becomes.
    pub(crate) fn rebuild(
        &self,
        mut rewrite: impl FnMut(&mut Ir, NodeId, Node, Origin) -> NodeId,
    ) -> Work {
        let reachable = self.reachable();
        let kept = scans::Kept::new(self, &reachable);
        let mut ir = self.ir.successor();
        ir.reserve(reachable.iter().filter(|&&needed| needed).count());
        let mut new = vec![NodeId(0); self.ir.nodes.len()];
        for id in self.ir.ids().filter(|id| reachable[id.index()]) {
            let mut node = kept.narrowed(self, id);
            for input in &mut node.inputs {
                *input = new[input.index()];
            }
            new[id.index()] = rewrite(&mut ir, id, node, self.ir.origins[id.index()]);
        }
        Work {
            ir: Arc::new(ir),
            fetches: self.fetches.iter().map(|id| new[id.index()]).collect(),
            updates: self
                .updates
                .iter()
                .map(|&(p, id)| (p, new[id.index()]))
                .collect(),
        }
    }
}

/// The nodes after all rewriting: what is fused, and what is printed as the graph of a plan.
pub(crate) fn rewrite<B: Backend>(work: &Work, backend: &B) -> Work {
    let decomposed = decompose::decompose(work, &|primitive| backend.supports(primitive));
    let with_products = products::products(&decomposed);
    // A large graph is not held once more than it has to be.
    drop(decomposed);
    simplify::simplify(&with_products)
}

/// A checked plan with its kernels.
pub(crate) struct Compiled<B: Backend> {
    pub(crate) plan: Plan,
    pub(crate) kernels: Vec<B::Kernel>,
}

/// Compiles nodes for a backend. `homes` says where parameters, inputs, constants and results lie.
pub(crate) fn compile<B: Backend>(
    launches: Launches,
    backend: &B,
    homes: &Homes,
    options: CompileOptions,
) -> Result<Compiled<B>> {
    let launches = schedule::schedule(launches)?;
    let primitives = distinct(&launches);
    let kernels = Plan::prepare(&primitives, backend)?;
    let scratch: Vec<usize> = kernels
        .iter()
        .map(|kernel| backend.scratch(kernel))
        .collect();
    let outside = homes.state_bytes + homes.io_bytes;
    let known = primitives.iter().zip(scratch.iter().copied()).enumerate();
    let known: place::Kernels<'_> = known.map(|(i, (p, bytes))| (p, (i, bytes))).collect();
    let placing = rematerialise::Placing {
        limit: options.budget.map(|budget| budget.saturating_sub(outside)),
        scratch: &|launch| known.get(&*launch.primitive).map_or(0, |&(_, bytes)| bytes),
        place: &|launches| place::place(launches, &known, homes),
    };
    let (placed, without) = match rematerialise::rematerialise(&launches, &placing) {
        Ok(placed) => (placed, None),
        Err(exceeded) => (*exceeded.smallest, Some(exceeded.without + outside)),
    };
    drop(launches);
    let plan = Plan::check(Draft {
        primitives,
        scratch,
        ..placed
    })?;
    // What is left of a budget that parameters alone exceed is 0, and a step may need no more.
    match options
        .budget
        .filter(|&budget| budget < plan.memory().total())
    {
        Some(budget) => Err(budget::exceeded(&plan, (budget, without))),
        None => Ok(Compiled { plan, kernels }),
    }
}

/// Turns nodes into launches that the backend supports.
pub(crate) fn lower<B: Backend>(work: &Work, backend: &B) -> Launches {
    fuse::fuse(work, &|primitive| backend.supports(primitive))
}

/// The distinct primitives, in order of first use.
fn distinct(launches: &Launches) -> Vec<Primitive> {
    let mut seen: HashSet<&Primitive> = HashSet::new();
    let all = launches::flat(&launches.list).into_iter();
    let first = all
        .map(|launch| &*launch.primitive)
        .filter(|p| seen.insert(p));
    first.cloned().collect()
}
