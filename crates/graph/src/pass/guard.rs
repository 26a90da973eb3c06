//! What a step requires of its values: violations become results that the session looks at, and
//! every parameter keeps its value if there is one.

use std::sync::Arc;

use backprop_core::{Axes, DType, Reduction, Scalar, Shape};

use super::Work;
use crate::ir::{Node, NodeId, Op, Origin, RegionId};

/// A condition of a step.
#[derive(Clone, Debug)]
pub(crate) struct Requirement {
    /// The truth value that does not hold.
    pub(crate) violated: NodeId,
    /// What is wrong where it does.
    pub(crate) what: Arc<str>,
    pub(crate) origin: Origin,
}

/// Adds the conditions that `work` depends on to its fetches, and gives them back in order.
pub(crate) fn guard(work: &mut Work) -> Vec<Requirement> {
    let mut requirements = requirements(work);
    for requirement in &mut requirements {
        requirement.violated = outside(work, requirement);
        if !work.fetches.contains(&requirement.violated) {
            work.fetches.push(requirement.violated);
        }
    }
    let violated = requirements.iter().map(|r| (r.violated, r.origin));
    let any = violated.reduce(|(a, origin), (b, _)| {
        let or = Op::Scalar(Scalar::Or);
        (
            push(work, or, &[a, b], (DType::Bool, Shape::SCALAR), origin),
            origin,
        )
    });
    if let Some((any, origin)) = any {
        for k in 0..work.updates.len() {
            let (parameter, new) = work.updates[k];
            let old = work.ir.parameters[parameter as usize].node;
            let (dtype, shape) = (work.ir.node(old).dtype, *work.ir.node(old).shape);
            let any = push(work, Op::Broadcast, &[any], (DType::Bool, shape), origin);
            let select = Op::Scalar(Scalar::Where);
            let kept = push(work, select, &[any, old, new], (dtype, shape), origin);
            work.updates[k].1 = kept;
        }
    }
    requirements
}

/// Whether a requirement is violated, as one truth value of the step: in the body of a scan it is if it
/// is in any iteration.
fn outside(work: &mut Work, requirement: &Requirement) -> NodeId {
    let mut violated = requirement.violated;
    while work.ir.node(violated).region != RegionId::default() {
        let Some(stacked) = Arc::make_mut(&mut work.ir).stacked(violated) else {
            break;
        };
        violated = stacked;
    }
    let axes: Axes = (0..work.ir.node(violated).shape.rank()).collect();
    if axes.is_empty() {
        return violated;
    }
    let any = Op::Reduce(Reduction::Max, axes);
    let ty = (DType::Bool, Shape::SCALAR);
    push(work, any, &[violated], ty, requirement.origin)
}

/// The conditions that `work` depends on, each with its first place.
fn requirements(work: &Work) -> Vec<Requirement> {
    let reachable = work.reachable();
    let mut found: Vec<Requirement> = Vec::new();
    for id in work.ir.ids().filter(|id| reachable[id.index()]) {
        let node = work.ir.node(id);
        if let Op::Require(what) = &node.op {
            let violated = node.inputs[1];
            if found.iter().all(|other| other.violated != violated) {
                found.push(Requirement {
                    violated,
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
    inputs: &[NodeId],
    (dtype, shape): (DType, Shape),
    origin: Origin,
) -> NodeId {
    let node = Node {
        op,
        inputs: inputs.into(),
        dtype,
        shape: shape.into(),
        region: Default::default(),
    };
    Arc::make_mut(&mut work.ir).push(node, origin)
}
