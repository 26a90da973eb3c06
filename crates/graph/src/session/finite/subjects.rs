//! What can make a NaN or an infinity: each operation of the user's, and each vjp, as a whole.

use std::collections::HashSet;

use backprop_core::DType;

use super::Level;
use crate::ir::{Ir, Node, NodeId, Op};
use crate::pass::Work;

/// A value with what it is made from.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) node: NodeId,
    /// What comes into the operation from outside, without constants.
    pub(super) operands: Vec<NodeId>,
    /// The level of its constants, and of values that are given and not made.
    pub(super) floor: Level,
}

/// What a node passes on as it is.
pub(super) fn passed_on(ir: &Ir, mut id: NodeId) -> NodeId {
    loop {
        let node = ir.node(id);
        match node.op {
            Op::Reshape | Op::Broadcast | Op::Permute(_) | Op::Stop | Op::Require(_) => {
                id = node.inputs[0];
            }
            _ => return id,
        }
    }
}

/// Whether a node holds real numbers that can be looked at.
pub(super) fn is_real(node: &Node) -> bool {
    let is_value = !matches!(node.op, Op::Custom(_) | Op::Scan(_));
    is_value && node.dtype.is_float() && node.dtype != DType::Bool && node.shape.count() > 0
}

/// The level of what is in a node's description.
pub(super) fn written(node: &Node) -> Level {
    match node.op {
        Op::Constant(bits) | Op::Pad(_, bits) => Level::of(f64::from_bits(bits)),
        _ => Level::Finite,
    }
}

/// What `work` depends on and can be made not finite, in the order of the graph.
pub(super) fn subjects(work: &Work) -> Vec<Subject> {
    let ir = &work.ir;
    let reachable = work.reachable();
    let leaves = seen_outside(work, &reachable);
    let looked_at = ir.ids().filter(|id| {
        let is_inner = ir.units.owner(*id).is_some() && !leaves.contains(id);
        reachable[id.index()] && !is_inner && is_real(ir.node(*id))
    });
    looked_at
        .filter_map(|id| subject(ir, id, Inside::Unit))
        .collect()
}

/// What one subject is made of, in the order of the graph.
pub(super) fn parts(work: &Work, whole: NodeId) -> Vec<Subject> {
    let ir = &work.ir;
    let Some(unit) = ir.units.owner(whole) else {
        return Vec::new();
    };
    let reachable = work.reachable();
    let within = ir.ids().filter(|id| {
        let is_part = ir.units.owner(*id) == Some(unit) && reachable[id.index()];
        is_part && is_real(ir.node(*id))
    });
    within
        .filter_map(|id| subject(ir, id, Inside::Node))
        .collect()
}

/// The nodes of units that others use, or the host.
fn seen_outside(work: &Work, reachable: &[bool]) -> HashSet<NodeId> {
    let ir = &work.ir;
    let mut seen: HashSet<NodeId> = work.roots().collect();
    for id in ir.ids().filter(|id| reachable[id.index()]) {
        let owner = ir.units.owner(id);
        let inputs = ir.node(id).inputs.iter();
        let foreign = inputs.filter(|input| ir.units.owner(**input) != owner);
        seen.extend(foreign.copied());
    }
    seen
}

/// How far an operation goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// All that was built as one.
    Unit,
    /// A single node.
    Node,
}

/// Whether a node was added to a scan for the vjp that it belongs to.
fn is_residual(ir: &Ir, id: NodeId) -> bool {
    let node = ir.node(id);
    match node.op {
        Op::Output(_) => ir.units.owner(node.inputs[0]) != ir.units.owner(id),
        _ => false,
    }
}

fn subject(ir: &Ir, id: NodeId, inside: Inside) -> Option<Subject> {
    let node = ir.node(id);
    let floor = match node.op {
        // What is given may be infinite on purpose, as a mask is.
        Op::Input(_) | Op::Parameter(_) => Level::Infinite,
        Op::Output(_) if matches!(ir.node(node.inputs[0]).op, Op::Scan(_)) => return None,
        Op::Constant(_) | Op::Data(_) | Op::Argument(..) | Op::Unchosen(_) | Op::Poison => {
            return None;
        }
        _ => written(node),
    };
    let owner = ir.units.owner(id).filter(|_| inside == Inside::Unit);
    let mut subject = Subject {
        node: id,
        operands: Vec::new(),
        floor,
    };
    let mut known: HashSet<NodeId> = HashSet::new();
    let mut open: Vec<NodeId> = node.inputs.iter().rev().copied().collect();
    while let Some(next) = open.pop() {
        let next = passed_on(ir, next);
        if !known.insert(next) {
            continue;
        }
        let node = ir.node(next);
        let is_mark = matches!(node.op, Op::Custom(_) | Op::Scan(_));
        let is_inner = owner.is_some() && ir.units.owner(next) == owner && !is_residual(ir, next);
        match node.op {
            Op::Constant(_) => subject.floor = subject.floor.max(written(node)),
            _ if is_mark || is_inner => {
                subject.floor = subject.floor.max(written(node));
                open.extend(node.inputs.iter().rev());
            }
            _ if is_real(node) => subject.operands.push(next),
            _ => {}
        }
    }
    (passed_on(ir, id) == id).then_some(subject)
}
