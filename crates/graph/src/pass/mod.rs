//! The compiler: from the nodes that a step needs to a checked plan.
//!
//! | pass | does |
//! |---|---|
//! | [`guard`] | makes updates depend on what the graph requires of its values |
//! | [`decompose`] | turns composites into primitives where the backend has them; drops their marks, and every node that is not needed |
//! | [`simplify`] | folds constants, removes what changes nothing, forms fused multiply-adds |
//! | [`fuse`] | turns nodes into launches, as few as the backend supports |
//! | [`schedule`] | orders launches for few live bytes; updates wait for readers of the old value |
//! | [`place`] | gives each value its bytes in one arena, in place where an operand dies |
//!
//! Kernels are prepared between scheduling and placing, because their scratch memory is placed too.
//! The plan checker has the last word. Every pass is near-linear in the number of nodes and keeps
//! node order topological; none recurses over nodes.

mod decompose;
mod fuse;
mod guard;
mod launches;
mod place;
mod schedule;
mod simplify;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use backprop_core::plan::Draft;
use backprop_core::{Backend, Plan, Primitive, Result};

use crate::ir::{Ir, Node, NodeId, Origin};
pub(crate) use guard::{Requirement, guard};
pub(crate) use launches::{Home, Launches};
pub(crate) use place::Homes;

/// Nodes with those among them that a step is for.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) ir: Ir,
    /// What the host fetches.
    pub(crate) fetches: Vec<NodeId>,
    /// Parameters and the nodes that become their values.
    pub(crate) updates: Vec<(u32, NodeId)>,
}

impl Work {
    fn roots(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.fetches
            .iter()
            .copied()
            .chain(self.updates.iter().map(|&(_, id)| id))
    }

    /// Which nodes the roots depend on.
    fn reachable(&self) -> Vec<bool> {
        let mut reachable = vec![false; self.ir.nodes.len()];
        for root in self.roots() {
            reachable[root.index()] = true;
        }
        for id in self.ir.ids().rev() {
            if reachable[id.index()] {
                for input in &self.ir.node(id).inputs {
                    reachable[input.index()] = true;
                }
            }
        }
        reachable
    }

    /// Builds the reachable nodes anew, in order. `rewrite` gets a node whose operands are new
    /// already, and gives the new node it becomes.
    fn rebuild(&self, mut rewrite: impl FnMut(&mut Ir, NodeId, Node, Origin) -> NodeId) -> Work {
        let reachable = self.reachable();
        let mut ir = self.ir.successor();
        let mut new = vec![NodeId(0); self.ir.nodes.len()];
        for id in self.ir.ids().filter(|id| reachable[id.index()]) {
            let mut node = self.ir.node(id).clone();
            for input in &mut node.inputs {
                *input = new[input.index()];
            }
            new[id.index()] = rewrite(&mut ir, id, node, self.ir.origins[id.index()]);
        }
        Work {
            ir,
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
    simplify::simplify(&decompose::decompose(work, &|primitive| {
        backend.supports(primitive)
    }))
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
) -> Result<Compiled<B>> {
    let launches = schedule::schedule(launches)?;
    let (primitives, indices) = distinct(&launches);
    let kernels = Plan::prepare(&primitives, backend)?;
    let scratch = kernels
        .iter()
        .map(|kernel| backend.scratch(kernel))
        .collect();
    let draft = Draft {
        primitives,
        scratch,
        ..Draft::default()
    };
    let plan = Plan::check(place::place(&launches, draft, &indices, homes))?;
    Ok(Compiled { plan, kernels })
}

/// Turns nodes into launches that the backend supports.
pub(crate) fn lower<B: Backend>(work: &Work, backend: &B) -> Launches {
    fuse::fuse(work, &|primitive| backend.supports(primitive))
}

/// The distinct primitives in order of first use, and which one each launch runs.
fn distinct(launches: &Launches) -> (Vec<Primitive>, Vec<usize>) {
    let mut positions: HashMap<&Primitive, usize> = HashMap::new();
    let mut primitives = Vec::new();
    let mut indices = Vec::with_capacity(launches.list.len());
    for launch in &launches.list {
        let position = *positions.entry(&launch.primitive).or_insert_with(|| {
            primitives.push(launch.primitive.clone());
            primitives.len() - 1
        });
        indices.push(position);
    }
    (primitives, indices)
}
