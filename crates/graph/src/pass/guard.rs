//! What a step requires of its values: conditions become results that the session looks at, and
//! every parameter keeps its value unless all of them hold.

use std::sync::Arc;

use backprop_core::{Axes, DType, Reduction, Scalar, Shape};

use super::Work;
use crate::ir::{Node, NodeId, Op, Origin, RegionId};

/// A condition of a step.
#[derive(Clone, Debug)]
pub(crate) struct Requirement {
    /// The truth value.
    pub(crate) condition: NodeId,
    /// What is wrong where it does not hold.
    pub(crate) what: Arc<str>,
    pub(crate) origin: Origin,
}

/// Adds the conditions that `work` depends on to its fetches, and gives them back in order.
pub(crate) fn guard(work: &mut Work) -> Vec<Requirement> {
    let mut requirements = requirements(work);
    for requirement in &mut requirements {
        requirement.condition = outside(work, requirement);
        if !work.fetches.contains(&requirement.condition) {
            work.fetches.push(requirement.condition);
        }
    }
    let conditions = requirements.iter().map(|r| (r.condition, r.origin));
    let all = conditions.reduce(|(a, origin), (b, _)| {
        let and = Op::Scalar(Scalar::And);
        (
            push(work, and, vec![a, b], (DType::Bool, Shape::SCALAR), origin),
            origin,
        )
    });
    if let Some((all, origin)) = all {
        for k in 0..work.updates.len() {
            let (parameter, new) = work.updates[k];
            let old = work.ir.parameters[parameter as usize].node;
            let (dtype, shape) = (work.ir.node(old).dtype, work.ir.node(old).shape);
            let holds = push(work, Op::Broadcast, vec![all], (DType::Bool, shape), origin);
            let select = Op::Scalar(Scalar::Where);
            let kept = push(work, select, vec![holds, new, old], (dtype, shape), origin);
            work.updates[k].1 = kept;
        }
    }
    requirements
}

/// A condition as one truth value of the step: one in the body of a scan has to hold in every
/// iteration.
fn outside(work: &mut Work, requirement: &Requirement) -> NodeId {
    let mut condition = requirement.condition;
    while work.ir.node(condition).region != RegionId::default() {
        let stacked = work.ir.stacked(condition);
        if stacked == condition {
            break;
        }
        condition = stacked;
    }
    let axes: Axes = (0..work.ir.node(condition).shape.rank()).collect();
    if axes.is_empty() {
        return condition;
    }
    let all = Op::Reduce(Reduction::Min, axes);
    let ty = (DType::Bool, Shape::SCALAR);
    push(work, all, vec![condition], ty, requirement.origin)
}

/// The conditions that `work` depends on, each with its first place.
fn requirements(work: &Work) -> Vec<Requirement> {
    let reachable = work.reachable();
    let mut found: Vec<Requirement> = Vec::new();
    for id in work.ir.ids().filter(|id| reachable[id.index()]) {
        let node = work.ir.node(id);
        if let Op::Require(what) = &node.op {
            let condition = node.inputs[1];
            if found.iter().all(|other| other.condition != condition) {
                found.push(Requirement {
                    condition,
                    what: what.clone(),
                    origin: work.ir.origins[id.index()],
                });
            }
        }
    }
    found
}

fn push(
    work: &mut Work,
    op: Op,
    inputs: Vec<NodeId>,
    (dtype, shape): (DType, Shape),
    origin: Origin,
) -> NodeId {
    let node = Node {
        op,
        inputs,
        dtype,
        shape,
        region: Default::default(),
    };
    work.ir.push(node, origin)
}
