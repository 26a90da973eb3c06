//! Matrix products that are no work for a matrix kernel.
//!
//! A product with one term in each sum is elementwise. So is that of a vector and a parameter whose
//! new value can be computed at the same time, but for the sum at the end: as a sweep it reads the
//! parameter once for both.

use std::collections::HashMap;

use backprop_core::{Axes, DType, Reduction, Scalar, Shape};

use super::Work;
use crate::ir::{Ir, Node, NodeId, Op, Origin};

pub(super) fn products(work: &Work) -> Work {
    let depth = depths(&work.ir);
    let updated: HashMap<u32, u32> = work
        .updates
        .iter()
        .map(|&(parameter, new)| (parameter, depth[new.index()]))
        .collect();
    work.rebuild(|ir, id, node, origin| {
        let old = work.ir.node(id);
        if old.op != Op::MatMul {
            return ir.push(node, origin);
        }
        let mut builder = Builder { ir, origin, node };
        if is_outer(&work.ir, old) {
            return builder.outer();
        }
        let joins = |parameter| updated.get(&parameter) == Some(&depth[id.index()]);
        match by_vector(&work.ir, old, joins) {
            Some(product) => builder.weighted_sum(&product),
            None => builder.ir.push(builder.node, origin),
        }
    })
}

/// Whether a node is a matrix product with one term in each sum.
fn is_outer(ir: &Ir, node: &Node) -> bool {
    let is_one = |left: Shape| left.size(left.rank() - 1) == 1;
    node.op == Op::MatMul && is_one(*ir.node(node.inputs[0]).shape)
}

/// How many launches each node waits for that are more than elementwise.
fn depths(ir: &Ir) -> Vec<u32> {
    let mut depth: Vec<u32> = vec![0; ir.nodes.len()];
    let is_light = |node: &Node| match node.op {
        Op::Input(_) | Op::Parameter(_) | Op::Data(_) | Op::Argument(..) | Op::Output(_) => true,
        Op::Scalar(_) | Op::Cast | Op::Constant(_) | Op::Coordinate(_) => true,
        Op::Broadcast | Op::Reshape | Op::Permute(_) | Op::Slice(_) => true,
        _ => is_outer(ir, node),
    };
    for id in ir.ids() {
        let inputs = ir.node(id).inputs.iter();
        let waits = inputs.map(|&x| depth[x.index()] + u32::from(!is_light(ir.node(x))));
        depth[id.index()] = waits.max().unwrap_or(0);
    }
    depth
}

/// A sum of the rows or columns of a matrix, each times an element of a vector.
struct ByVector {
    /// Which operand is the vector.
    vector: usize,
    /// The axis of the parameter that is summed over.
    along: usize,
    /// The parameter's shape.
    shape: Shape,
}

/// Whether a permutation of a matrix transposes it.
fn is_swap(node: &Node) -> bool {
    matches!(&node.op, Op::Permute(order) if **order == [1, 0])
}

/// What a product is, if one side is a vector and the other a parameter that `joins` it.
fn by_vector(ir: &Ir, node: &Node, joins: impl Fn(u32) -> bool) -> Option<ByVector> {
    let is_exact = matches!(node.dtype, DType::F32 | DType::F64);
    if !is_exact || node.shape.rank() != 2 {
        return None;
    }
    let vector = (0..2).find(|&side| node.shape.size(side) == 1)?;
    let (mut parameter, mut is_transposed) = (node.inputs[1 - vector], false);
    while let Op::Permute(_) = ir.node(parameter).op {
        is_transposed ^= is_swap(ir.node(parameter));
        parameter = ir.node(parameter).inputs[0];
    }
    let parameter = ir.node(parameter);
    let Op::Parameter(number) = parameter.op else {
        return None;
    };
    // The right operand is summed over its first axis, the left one over its last.
    let along = usize::from((vector == 1) != is_transposed);
    joins(number).then_some(ByVector {
        vector,
        along,
        shape: *parameter.shape,
    })
}

/// Pushes what a product becomes.
struct Builder<'w> {
    ir: &'w mut Ir,
    origin: Origin,
    /// The product, on operands that are there.
    node: Node,
}

impl Builder<'_> {
    fn push(&mut self, op: Op, inputs: &[NodeId], shape: Shape) -> NodeId {
        let node = Node {
            op,
            inputs: inputs.into(),
            shape: shape.into(),
            ..self.node.clone()
        };
        self.ir.push(node, self.origin)
    }

    fn outer(&mut self) -> NodeId {
        let shape = *self.node.shape;
        let sides = self.node.inputs.clone().into_iter();
        let wide = sides.map(|side| self.push(Op::Broadcast, &[side], shape));
        let wide: Vec<NodeId> = wide.collect();
        self.push(Op::Scalar(Scalar::Mul), &wide, shape)
    }

    fn weighted_sum(&mut self, product: &ByVector) -> NodeId {
        let ByVector { shape, along, .. } = *product;
        let mut matrix = self.node.inputs[1 - product.vector];
        while let Op::Permute(_) = self.ir.node(matrix).op {
            matrix = self.ir.node(matrix).inputs[0];
        }
        let vector = self.node.inputs[product.vector];
        let weights = shape.with(1 - along, 1);
        let weights = self.push(Op::Reshape, &[vector], weights);
        let weights = self.push(Op::Broadcast, &[weights], shape);
        let terms = self.push(Op::Scalar(Scalar::Mul), &[weights, matrix], shape);
        let axes = Axes::NONE.with(along);
        let sum = Op::Reduce(Reduction::Sum, axes);
        let sum = self.push(sum, &[terms], shape.without(axes));
        self.push(Op::Reshape, &[sum], *self.node.shape)
    }
}
