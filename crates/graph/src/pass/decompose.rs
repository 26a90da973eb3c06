//! What becomes of composites, which were expanded where they were applied and marked: a mark whose
//! primitive the backend supports becomes that primitive, and all others vanish. So do nodes that
//! only matter to differentiation or to the checks of a step.

use std::sync::Arc;

use backprop_core::{Primitive, TensorType};

use super::Work;
use crate::ir::{Custom, Ir, Node, NodeId, Op};

pub(super) fn decompose(work: &Work, supports: &dyn Fn(&Primitive) -> bool) -> Work {
    work.rebuild(|ir, _, node, origin| match &node.op {
        Op::Stop | Op::Require(_) => node.inputs[0],
        Op::Unchosen(_) => {
            let op = Op::Constant(0f64.to_bits());
            ir.push(Node { op, ..node }, origin)
        }
        Op::Custom(custom) => match fused(ir, custom, &node, supports) {
            Some(node) => ir.push(node, origin),
            None => ir.push(node, origin),
        },
        Op::Output(i) => match expanded(ir, node.inputs[0], *i) {
            Some(output) => output,
            None => ir.push(node, origin),
        },
        _ => ir.push(node, origin),
    })
}

/// The node that output `i` of a mark stands for; `None` if the mark became a primitive.
fn expanded(ir: &Ir, marker: NodeId, i: u32) -> Option<NodeId> {
    let marker = ir.node(marker);
    match &marker.op {
        Op::Custom(custom) => marker.inputs.get(custom.inputs + i as usize).copied(),
        _ => None,
    }
}

fn fused(
    ir: &Ir,
    custom: &Custom,
    node: &Node,
    supports: &dyn Fn(&Primitive) -> bool,
) -> Option<Node> {
    let types: Vec<TensorType> = node.inputs.iter().map(|&id| ir.node(id).tensor()).collect();
    if types.iter().any(|tensor| tensor.shape.count() == 0) {
        return None;
    }
    let (inputs, outputs) = types.split_at(custom.inputs);
    let primitive = custom.rule.primitive(inputs)?;
    let writes = primitive.writes().into_iter();
    let same = writes.eq(outputs) && primitive.check().is_ok();
    (same && supports(&primitive)).then(|| Node {
        op: Op::Fused(Arc::new(primitive)),
        inputs: node.inputs[..custom.inputs].into(),
        ..node.clone()
    })
}
