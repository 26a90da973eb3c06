//! Drops what only matters to differentiation: composites were expanded where they were applied, so
//! that all that is left of them are marks, which vanish here together with unneeded nodes.

use super::Work;
use crate::ir::Op;

pub(super) fn decompose(work: &Work) -> Work {
    work.rebuild(|ir, _, node, origin| match &node.op {
        Op::Stop => node.inputs[0],
        Op::Output(i) => {
            let marker = ir.node(node.inputs[0]);
            match &marker.op {
                Op::Custom(custom) => marker.inputs[custom.inputs + *i as usize],
                _ => ir.push(node, origin),
            }
        }
        _ => ir.push(node, origin),
    })
}
