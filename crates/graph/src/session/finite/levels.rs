//! How far from finite each value of a step is: one number for each, computed beside it.

use std::collections::HashMap;

use backprop_core::{Axes, Reduction, Scalar, Shape};

use super::Level;
use super::subjects::is_real;
use crate::ir::{Ir, Node, NodeId, Op, Origin, RegionId};
use crate::pass::Work;
use crate::scan::stack;

/// A step that computes levels and nothing else.
pub(super) struct Leveled {
    pub(super) work: Work,
    /// Whose levels its fetches are, by their ids in the graph.
    pub(super) of: Vec<NodeId>,
}

/// A step like `work` that finds the levels of nodes: where they are made in the body of a scan, those
/// of every iteration.
pub(super) fn leveled(work: &Work, wanted: &[bool]) -> Leveled {
    let mut found: HashMap<RegionId, Vec<(NodeId, NodeId)>> = HashMap::new();
    let mut leveled = work.rebuild(|ir, old, mut node, origin| {
        let scan = match &node.op {
            Op::Scan(scan) => Some((scan.region, scan.times)),
            _ => None,
        };
        let inner = scan.and_then(|(region, _)| found.remove(&region));
        let inner = inner.unwrap_or_default();
        let outputs = node.outputs();
        node.inputs.extend(inner.iter().map(|&(_, level)| level));
        let (is_wanted, region) = (wanted[old.index()] && is_real(&node), node.region);
        let id = ir.push(node, origin);
        if let Some((_, times)) = scan {
            for (i, (of, level)) in inner.into_iter().enumerate() {
                let level = ir.node(level);
                if let Some(shape) = stack(times, *level.shape) {
                    let ty = (level.dtype, shape);
                    let stacked = ir.push_output(id, outputs + i, ty, origin);
                    found.entry(region).or_default().push((of, stacked));
                }
            }
        }
        if is_wanted {
            let level = push_level(ir, id, origin);
            found.entry(region).or_default().push((old, level));
        }
        id
    });
    let outside = found.remove(&RegionId::default()).unwrap_or_default();
    let (of, fetches) = outside.into_iter().unzip();
    leveled.fetches = fetches;
    leveled.updates = Vec::new();
    Leveled { work: leveled, of }
}

/// The largest level among the elements of `x`.
fn push_level(ir: &mut Ir, x: NodeId, origin: Origin) -> NodeId {
    let node = ir.node(x);
    let (dtype, shape, region) = (node.dtype, *node.shape, node.region);
    let mut push = |op: Op, inputs: &[NodeId], dtype, shape: Shape, region| {
        let node = Node {
            op,
            inputs: inputs.into(),
            dtype,
            shape: shape.into(),
            region,
        };
        ir.push(node, origin)
    };
    let mut constant = |value: f64| {
        let op = Op::Constant(value.to_bits());
        push(op, &[], dtype, shape, RegionId::default())
    };
    let [infinity, zero, one, two] = [
        constant(f64::INFINITY),
        constant(Level::Finite.number()),
        constant(Level::Infinite.number()),
        constant(Level::Nan.number()),
    ];
    let truth = backprop_core::DType::Bool;
    let is_nan = push(Op::Scalar(Scalar::Ne), &[x, x], truth, shape, region);
    let size = push(Op::Scalar(Scalar::Abs), &[x], dtype, shape, region);
    let equal = Op::Scalar(Scalar::Eq);
    let is_infinite = push(equal, &[size, infinity], truth, shape, region);
    let choose = Op::Scalar(Scalar::Where);
    let level = push(
        choose.clone(),
        &[is_infinite, one, zero],
        dtype,
        shape,
        region,
    );
    let level = push(choose, &[is_nan, two, level], dtype, shape, region);
    let axes: Axes = (0..shape.rank()).collect();
    match axes.is_empty() {
        true => level,
        false => {
            let largest = Op::Reduce(Reduction::Max, axes);
            push(largest, &[level], dtype, Shape::SCALAR, region)
        }
    }
}
