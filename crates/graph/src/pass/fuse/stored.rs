//! Which values get memory.
//!
//! A value is stored if the host or a parameter takes it, if a kernel needs it whole (a matrix
//! product, a lookup, a copy), if it is seen through a view that moves elements, or if computing it
//! where it is used would make a program too long; besides, if [sharing](super::shared) it pays.

use backprop_core::Scalar;

use super::views::{Seen, Views};
use super::{is_elementwise, is_resident, operands};
use crate::ir::{Node, NodeId, Op};
use crate::pass::Work;

/// The most that a program computes inline for one value, in additions.
const LONGEST: usize = 96;

pub(super) fn stored(work: &Work, views: &Views, shared: &[NodeId]) -> Vec<bool> {
    let ir = &work.ir;
    let reachable = work.reachable();
    let mut stored = vec![false; ir.nodes.len()];
    for id in shared {
        stored[id.index()] = true;
    }
    let mut weight = vec![0usize; ir.nodes.len()];
    for id in ir.ids().filter(|id| reachable[id.index()]) {
        let node = ir.node(id);
        if let Some(seen) = views.copy(id) {
            stored[id.index()] = true;
            stored[seen.base.index()] = true;
            continue;
        }
        if views.of(id).base != id {
            continue;
        }
        stored[id.index()] |= !is_elementwise(node);
        weight[id.index()] = cost(node);
        for &input in operands(ir, id) {
            let Seen { base, view } = views.of(input);
            let operand = ir.node(base);
            let here = operand.region == node.region;
            let inline =
                fuses_operands(node) && here && view.is_dense() && *operand.shape == view.shape;
            let splat = fuses_operands(node) && operand.constant().is_some();
            if !inline && !splat {
                stored[base.index()] = true;
            } else if !stored[base.index()] {
                weight[id.index()] += weight[base.index()];
            }
        }
        if weight[id.index()] > LONGEST {
            stored[id.index()] = true;
        }
    }
    for root in work.roots() {
        stored[views.of(root).base.index()] = true;
    }
    for id in ir.ids() {
        let is_marker = matches!(ir.node(id).op, Op::Fused(_) | Op::Scan(_));
        let has_value = ir.node(id).shape.count() > 0 && !is_marker;
        stored[id.index()] &= reachable[id.index()] && has_value;
    }
    stored
}

/// Whether operands can be computed inside of the node's own launch.
fn fuses_operands(node: &Node) -> bool {
    is_elementwise(node) || matches!(node.op, Op::Reduce(..))
}

/// What a node costs at a point, in additions.
pub(super) fn cost(node: &Node) -> usize {
    match node.op {
        Op::Scalar(function) => Scalar::cost(function),
        _ => 1,
    }
}

/// Whether the value of a node is made by a launch.
pub(super) fn is_made(work: &Work, stored: &[bool], id: NodeId) -> bool {
    stored[id.index()] && !is_resident(work.ir.node(id))
}
