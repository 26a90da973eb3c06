//! Turns nodes into launches.
//!
//! 1. [`views`]: rearrangements become views of what they rearrange; only where strides cannot say
//!    it is a copy made.
//! 2. [`stored`]: which values get memory. Everything else elementwise is computed inside of whoever
//!    needs it (again, if several do: arithmetic is cheaper than memory).
//! 3. [`cluster`]: which stored values come from one launch.
//! 4. [`shared`]: what several launches compute from more than it takes to store it gets memory too.
//! 5. [`emit`]: each cluster as a primitive.
//! 6. [`connect`]: the values between launches, with [`loops`] around bodies.
//!
//! The backend is asked about every cluster that is not plain. The values of a declined one are
//! clustered again, into simpler [forms](Form).

mod cluster;
mod connect;
mod emit;
mod loops;
mod shared;
mod stored;
mod views;

use backprop_core::Primitive;

use super::{Launches, Work};
use crate::ir::{Ir, Node, NodeId, Op};

/// Values that no launch computes, because they are there.
fn is_resident(node: &Node) -> bool {
    matches!(
        node.op,
        Op::Input(_) | Op::Parameter(_) | Op::Data(_) | Op::Argument(..)
    )
}

/// What a node is computed from: for an output of a fused primitive or a scan, the operands of that.
fn operands(ir: &Ir, id: NodeId) -> &[NodeId] {
    let node = ir.node(id);
    match node.op {
        Op::Output(_) => &ir.node(node.inputs[0]).inputs,
        _ => &node.inputs,
    }
}

/// Nodes that a program computes at a point from its operands at that point.
fn is_elementwise(node: &Node) -> bool {
    matches!(
        node.op,
        Op::Scalar(_) | Op::Cast | Op::Constant(_) | Op::Coordinate(_)
    )
}

/// What a value may be clustered into, from the widest choice to the narrowest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Form {
    /// Whatever there is, programs over rows among it.
    Any,
    /// No values for each row among those for each point.
    Points,
    /// What every backend has.
    Plain,
}

pub(super) fn fuse(work: &Work, supports: &dyn Fn(&Primitive) -> bool) -> Launches {
    let views = views::views(work, supports);
    let mut forms = vec![Form::Any; work.ir.nodes.len()];
    let shared = {
        let stored = stored::stored(work, &views, &[]);
        let clusters = cluster::cluster(work, &views, &stored, &forms);
        shared::cheaper_stored(work, &views, &stored, &clusters)
    };
    let stored = stored::stored(work, &views, &shared);
    loop {
        let clusters = cluster::cluster(work, &views, &stored, &forms);
        let emitted = emit::emit(work, &views, &clusters);
        let declined: Vec<usize> = (0..clusters.list.len())
            .filter(|&c| {
                let Some(primitive) = emitted[c].primitive() else {
                    return false;
                };
                let unsound = || primitive.check().is_err();
                // What stands for a composite was asked about before.
                let members = clusters.list[c].members.iter();
                let alone = members
                    .into_iter()
                    .all(|&m| matches!(work.ir.node(m).op, Op::Output(_)));
                let settled = primitive.is_plain() || alone;
                !settled && (unsound() || !supports(primitive))
            })
            .collect();
        if declined.is_empty() {
            return connect::connect(work, &views, &clusters, emitted);
        }
        for c in declined {
            let cluster = &clusters.list[c];
            let joined = cluster.members.iter().skip(1);
            let concats = joined.filter(|m| matches!(work.ir.node(**m).op, Op::Concat(_)));
            let concats: Vec<NodeId> = concats.copied().collect();
            if !concats.is_empty() {
                // By themselves first.
                concats.iter().for_each(|m| forms[m.index()] = Form::Plain);
                continue;
            }
            let widest = cluster.members.iter().map(|m| forms[m.index()]).max();
            let next = match widest {
                Some(Form::Any) if cluster.by_rows => Form::Points,
                _ => Form::Plain,
            };
            for member in &cluster.members {
                forms[member.index()] = next;
            }
        }
    }
}
