//! Rewrites nodes one by one, each into something that computes the very same values at less cost:
//! folded constants, identities that hold for every operand (also NaN, infinities and negative
//! zero), and fused multiply-adds, which are formed here and nowhere else.

use backprop_core::{Number, Reduction, Scalar, Shape};
use smallvec::smallvec;

use super::Work;
use super::truth::{Truth, truth};
use crate::ir::{Inputs, Ir, Node, NodeId, Op, Stride};

pub(super) fn simplify(work: &Work) -> Work {
    let users = users(work);
    // For each new node, whether it stands for a node with one user.
    let mut single: Vec<bool> = Vec::new();
    let simplified = work.rebuild(|ir, id, mut node, origin| {
        let new = loop {
            match rewritten(ir, &node, &single) {
                Some(Rewrite::Same(id)) => break id,
                Some(Rewrite::Node(next)) => node = next,
                None => break ir.push(node, origin),
            }
        };
        single.resize(ir.nodes.len(), false);
        single[new.index()] = users[id.index()] == 1;
        new
    });
    // Without what nobody needs any more.
    simplified.rebuild(|ir, _, node, origin| ir.push(node, origin))
}

/// The number of uses of each node.
fn users(work: &Work) -> Vec<u32> {
    let reachable = work.reachable();
    let mut users = vec![0; work.ir.nodes.len()];
    for id in work.ir.ids().filter(|id| reachable[id.index()]) {
        for input in &work.ir.node(id).inputs {
            users[input.index()] += 1;
        }
    }
    for root in work.roots() {
        users[root.index()] += 1;
    }
    users
}

enum Rewrite {
    Same(NodeId),
    Node(Node),
}

fn rewritten(ir: &Ir, node: &Node, single: &[bool]) -> Option<Rewrite> {
    match &node.op {
        Op::Scalar(function) => scalar(ir, node, *function, single),
        Op::Cast => {
            let value = ir.node(node.inputs[0]).constant()?;
            Some(splat(node, Number::Real(value).round(node.dtype).real()))
        }
        Op::Reduce(reduction, axes) => {
            let operand = ir.node(node.inputs[0]);
            let count = operand.shape.filter(|axis| axes.contains(axis)).count();
            match (reduction, count, operand.constant()) {
                (_, 1, _) => Some(Rewrite::Node(reshape(node))),
                (Reduction::Sum, 0, _) => Some(splat(node, 0.0)),
                (Reduction::Max | Reduction::Min, _, Some(value)) => Some(splat(node, value)),
                (Reduction::Sum, count, Some(value)) if value == 0.0 || value == 1.0 => {
                    exact(node, value * count as f64)
                }
                _ => None,
            }
        }
        Op::MatMul => {
            let left = &ir.node(node.inputs[0]).shape;
            (left.size(left.rank() - 1) == 0).then(|| splat(node, 0.0))
        }
        Op::Broadcast | Op::Reshape | Op::Permute(_) | Op::Slice(_) => rearranged(ir, node),
        _ => None,
    }
}

/// A constant, if the node's type holds it exactly.
fn exact(node: &Node, value: f64) -> Option<Rewrite> {
    let rounded = Number::Real(value).round(node.dtype).real();
    (rounded == value).then(|| splat(node, value))
}

fn splat(node: &Node, value: f64) -> Rewrite {
    Rewrite::Node(Node {
        op: Op::Constant(value.to_bits()),
        inputs: Inputs::new(),
        ..node.clone()
    })
}

fn reshape(node: &Node) -> Node {
    Node {
        op: Op::Reshape,
        ..node.clone()
    }
}

/// Rearrangements of constants, of nothing, and of other rearrangements of the same kind.
fn rearranged(ir: &Ir, node: &Node) -> Option<Rewrite> {
    let operand = ir.node(node.inputs[0]);
    if let Some(value) = operand.constant() {
        return Some(splat(node, value));
    }
    let unmoved = match &node.op {
        Op::Permute(order) => keeps_order(order, *node.shape),
        Op::Slice(stride) => is_whole(stride) && node.shape == operand.shape,
        _ => node.shape == operand.shape,
    };
    if unmoved && node.shape == operand.shape {
        return Some(Rewrite::Same(node.inputs[0]));
    }
    if unmoved && matches!(node.op, Op::Permute(_)) {
        return Some(Rewrite::Node(reshape(node)));
    }
    let again = match (&node.op, &operand.op) {
        (Op::Reshape, Op::Reshape) | (Op::Broadcast, Op::Broadcast) => node.op.clone(),
        (Op::Permute(outer), Op::Permute(inner)) => {
            Op::Permute(outer.iter().map(|&axis| inner[usize::from(axis)]).collect())
        }
        _ => return None,
    };
    let inputs = operand.inputs.clone();
    Some(Rewrite::Node(Node {
        op: again,
        inputs,
        ..node.clone()
    }))
}

/// Whether a permutation moves axes of size 1 only.
fn keeps_order(order: &[u8], shape: Shape) -> bool {
    let moved = order
        .iter()
        .enumerate()
        .filter(|(i, _)| shape.size(*i) != 1);
    moved.map(|(_, &axis)| axis).is_sorted()
}

fn is_whole(stride: &Stride) -> bool {
    stride.start.iter().all(|&start| start == 0) && stride.step.iter().all(|&step| step == 1)
}

fn scalar(ir: &Ir, node: &Node, function: Scalar, single: &[bool]) -> Option<Rewrite> {
    let x = &node.inputs;
    let constants: Vec<Option<f64>> = x.iter().map(|&id| ir.node(id).constant()).collect();
    if constants.iter().all(Option::is_some) {
        let operands = constants.iter().zip(x).filter_map(|(value, &id)| {
            let value = Number::Real((*value)?);
            Some(value.round(ir.node(id).dtype))
        });
        let operands: Vec<Number> = operands.collect();
        let value = Number::apply(function, &operands, node.dtype);
        return exact(node, value.real());
    }
    let is = |k: usize, value: f64| constants.get(k) == Some(&Some(value));
    let negative_zero = |k: usize| is(k, 0.0) && constants[k].is_some_and(f64::is_sign_negative);
    let positive_zero = |k: usize| is(k, 0.0) && constants[k].is_some_and(f64::is_sign_positive);
    let integer = !node.dtype.is_float();
    let unary = |function| {
        Rewrite::Node(Node {
            op: Op::Scalar(function),
            inputs: smallvec![x[0]],
            ..node.clone()
        })
    };
    if let Some(known) = truth(ir, function, x) {
        return Some(match known {
            Truth::Value(id) => Rewrite::Same(id),
            Truth::Choice(inputs) => Rewrite::Node(Node {
                inputs,
                ..node.clone()
            }),
        });
    }
    match function {
        Scalar::Add if negative_zero(1) || integer && is(1, 0.0) => Some(Rewrite::Same(x[0])),
        Scalar::Add if negative_zero(0) || integer && is(0, 0.0) => Some(Rewrite::Same(x[1])),
        Scalar::Sub if positive_zero(1) => Some(Rewrite::Same(x[0])),
        Scalar::Mul if is(1, 1.0) => Some(Rewrite::Same(x[0])),
        Scalar::Mul if is(0, 1.0) => Some(Rewrite::Same(x[1])),
        Scalar::Mul if is(1, -1.0) => Some(unary(Scalar::Neg)),
        Scalar::Div if is(1, 1.0) => Some(Rewrite::Same(x[0])),
        Scalar::Pow if is(1, 1.0) => Some(Rewrite::Same(x[0])),
        Scalar::Pow if is(1, 2.0) => Some(unary(Scalar::Square)),
        Scalar::Neg if ir.node(x[0]).op == Op::Scalar(Scalar::Neg) => {
            Some(Rewrite::Same(ir.node(x[0]).inputs[0]))
        }
        Scalar::Where if is(0, 1.0) => Some(Rewrite::Same(x[1])),
        Scalar::Where if is(0, 0.0) => Some(Rewrite::Same(x[2])),
        Scalar::Where if x[1] == x[2] => Some(Rewrite::Same(x[1])),
        Scalar::Add if node.dtype.size() >= 4 && !integer => multiply_add(ir, node, single),
        _ => None,
    }
}

/// `a * b + c` in one rounding, where the product has no other user.
fn multiply_add(ir: &Ir, node: &Node, single: &[bool]) -> Option<Rewrite> {
    let product = |k: usize| {
        let id = node.inputs[k];
        let used_once = single.get(id.index()) == Some(&true);
        used_once && ir.node(id).op == Op::Scalar(Scalar::Mul)
    };
    let k = (0..2).find(|&k| product(k))?;
    let factors = &ir.node(node.inputs[k]).inputs;
    Some(Rewrite::Node(Node {
        op: Op::Scalar(Scalar::Fma),
        inputs: smallvec![factors[0], factors[1], node.inputs[1 - k]],
        ..node.clone()
    }))
}
