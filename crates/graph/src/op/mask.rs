//! Cotangents that a condition hides.
//!
//! Where a branch is not taken, its cotangent is zero; and zero times a derivative that is infinite or
//! NaN there would be NaN. So a cotangent of the form "g where c, else 0" goes through elementwise
//! functions and rearrangements as g, and the condition is put back around the result: what the
//! branch would have made is not multiplied by zero but left out.

use backprop_core::Scalar;

use crate::ir::{Node, NodeId, Op};
use crate::op::shape;
use crate::tensor::Tensor;

fn is_zero(g: Tensor<'_>) -> bool {
    g.graph.ir.borrow().node(g.id).constant() == Some(0.0)
}

/// A cotangent, and where it counts.
#[derive(Clone, Copy)]
struct Masked<'g> {
    condition: Tensor<'g>,
    /// The truth value of the condition where the cotangent counts.
    counts: bool,
    g: Tensor<'g>,
}

impl<'g> Masked<'g> {
    /// A cotangent in that form.
    fn of(g: Tensor<'g>) -> Option<Masked<'g>> {
        let node = g.graph.node(g.id);
        let (Op::Scalar(Scalar::Where), &[c, a, b]) = (&node.op, node.inputs.as_slice()) else {
            return None;
        };
        let [condition, a, b] = [c, a, b].map(|id| g.graph.tensor(id));
        let (counts, g) = match (is_zero(a), is_zero(b)) {
            (false, true) => (true, a),
            (true, false) => (false, b),
            _ => return None,
        };
        Some(Masked {
            condition,
            counts,
            g,
        })
    }

    /// Where the cotangent counts.
    #[track_caller]
    fn place(self) -> Tensor<'g> {
        match self.counts {
            true => self.condition,
            false => self.condition.logical_not(),
        }
    }

    /// The cotangent as one tensor.
    #[track_caller]
    fn hidden(self) -> Tensor<'g> {
        match self.counts {
            true => self.condition.select(self.g, 0.0),
            false => self.condition.select(0.0, self.g),
        }
    }

    /// The same place for another cotangent, under one condition even if that has one of its own.
    #[track_caller]
    fn around(self, g: Tensor<'g>) -> Tensor<'g> {
        match Masked::of(g) {
            _ if is_zero(g) => g,
            Some(inner) => self.place().logical_and(inner.place()).select(inner.g, 0.0),
            None => Masked { g, ..self }.hidden(),
        }
    }
}

/// The cotangents of a node's operands, if its own is masked and the mask can go through.
#[track_caller]
pub(super) fn vjp<'g>(
    node: &Node,
    x: &[Tensor<'g>],
    y: Tensor<'g>,
    g: Tensor<'g>,
) -> Option<Vec<Option<Tensor<'g>>>> {
    let through: &dyn Fn(Tensor<'g>) -> Tensor<'g> = match &node.op {
        Op::Scalar(_) | Op::Cast => &|condition| condition,
        Op::Reshape => &|condition| condition.reshape_to(x[0].shape()),
        Op::Permute(order) => &|condition| shape::unpermute(order, condition),
        _ => return None,
    };
    let masked = Masked::of(g)?;
    let parts = super::vjp(node, x, y, masked.g);
    let masked = Masked {
        condition: through(masked.condition),
        ..masked
    };
    let hide = |part: Tensor<'g>| masked.around(part);
    Some(parts.into_iter().map(|part| part.map(hide)).collect())
}

/// The sum of two cotangents, masked if both are.
#[track_caller]
pub(crate) fn sum<'g>(a: Tensor<'g>, b: Tensor<'g>) -> Tensor<'g> {
    match (Masked::of(a), Masked::of(b)) {
        _ if is_zero(a) => b,
        _ if is_zero(b) => a,
        (Some(x), Some(y)) if (x.condition.id, x.counts) == (y.condition.id, y.counts) => {
            x.around(x.g + y.g)
        }
        (Some(x), Some(y)) => {
            either(x, y).unwrap_or_else(|| x.place().logical_or(y.place()).select(a + b, 0.0))
        }
        _ => a + b,
    }
}

/// The sum of cotangents that never count at the same point, because one's place is where a condition
/// holds and the other's where it does not: the two sides of a choice.
#[track_caller]
fn either<'g>(x: Masked<'g>, y: Masked<'g>) -> Option<Tensor<'g>> {
    let graph = x.g.graph;
    let opposite = |a: NodeId, b: NodeId| {
        let not = |a: NodeId, b: NodeId| {
            let node = graph.node(a);
            node.op == Op::Scalar(Scalar::Not) && node.inputs[0] == b
        };
        not(a, b) || not(b, a)
    };
    let (a, b) = (x.place(), y.place());
    if opposite(a.id, b.id) {
        return Some(a.select(x.g, y.g));
    }
    let both = |place: Tensor<'g>| {
        let node = graph.node(place.id);
        let and = node.op == Op::Scalar(Scalar::And);
        and.then(|| (node.inputs[0], node.inputs[1]))
    };
    let ((p, c), (q, d)) = (both(a)?, both(b)?);
    (p == q && opposite(c, d)).then(|| {
        let chosen = graph.tensor(c).select(x.g, y.g);
        graph.tensor(p).select(chosen, 0.0)
    })
}
