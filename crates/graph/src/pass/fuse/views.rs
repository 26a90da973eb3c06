//! Rearrangements as views.

use std::collections::HashMap;

use backprop_core::{Primitive, Source, View};

use crate::ir::{NodeId, Op};
use crate::pass::Work;

/// What a node's elements are in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The node whose value is stored (or computed inline).
    pub(super) base: NodeId,
    /// How it is visited from the node's own shape.
    pub(super) view: View,
}

#[derive(Debug)]
pub(super) struct Views {
    seen: Vec<Seen>,
    /// Rearrangements that are stored as dense copies of what they see.
    copies: HashMap<NodeId, Seen>,
}

impl Views {
    /// What is read where `id` is an operand.
    pub(super) fn of(&self, id: NodeId) -> Seen {
        self.seen[id.index()]
    }

    /// What `id` is a dense copy of, if it is one.
    pub(super) fn copy(&self, id: NodeId) -> Option<Seen> {
        self.copies.get(&id).copied()
    }

    /// A primitive that reads its operands as these nodes are seen.
    pub(super) fn through(
        &self,
        work: &Work,
        primitive: &Primitive,
        inputs: &[NodeId],
    ) -> Primitive {
        let mut primitive = primitive.clone();
        for (source, &input) in primitive.sources_mut().into_iter().zip(inputs) {
            let Seen { base, view } = self.of(input);
            let tensor = work.ir.node(base).tensor();
            *source = Source { tensor, view };
        }
        primitive
    }

    fn make_copy(&mut self, work: &Work, id: NodeId) {
        let view = View::dense(*work.ir.node(id).shape);
        let seen = std::mem::replace(&mut self.seen[id.index()], Seen { base: id, view });
        self.copies.insert(id, seen);
    }

    /// Whether a node's elements lie in memory as they would in a tensor of its own.
    fn is_whole(&self, work: &Work, id: NodeId) -> bool {
        let Seen { base, view } = self.of(id);
        view.is_dense() && view.shape.count() == work.ir.node(base).shape.count()
    }
}

pub(super) fn views(work: &Work, supports: &dyn Fn(&Primitive) -> bool) -> Views {
    let mut views = Views {
        seen: Vec::with_capacity(work.ir.nodes.len()),
        copies: HashMap::new(),
    };
    for id in work.ir.ids() {
        let node = work.ir.node(id);
        let needs_whole = match &node.op {
            Op::Gather(_) | Op::ScatterAdd(_) | Op::Random => true,
            Op::Scan(_) => true,
            Op::Fused(primitive) => !supports(&views.through(work, primitive, &node.inputs)),
            _ => false,
        };
        for &input in node.inputs.iter().filter(|_| needs_whole) {
            if !views.is_whole(work, input) {
                views.make_copy(work, input);
            }
        }
        let seen = see(work, &mut views, id);
        views.seen.push(seen);
    }
    // What the host fetches or a parameter takes lies densely in a value of its own.
    for root in work.roots() {
        if !views.is_whole(work, root) {
            views.make_copy(work, root);
        }
    }
    views
}

fn see(work: &Work, views: &mut Views, id: NodeId) -> Seen {
    let node = work.ir.node(id);
    let own = Seen {
        base: id,
        view: View::dense(*node.shape),
    };
    let Some(&x) = node.inputs.first().filter(|_| node.shape.count() > 0) else {
        return own;
    };
    let Seen { base, view } = views.of(x);
    let view = match &node.op {
        Op::Broadcast => view.broadcast(*node.shape),
        Op::Permute(order) => {
            let order: Vec<usize> = order.iter().map(|&axis| usize::from(axis)).collect();
            view.permute(&order)
        }
        Op::Slice(stride) => view.slice(&stride.start, &stride.step, *node.shape),
        Op::Reshape => match view.reshape(*node.shape) {
            Some(view) => view,
            None => {
                views.make_copy(work, x);
                return Seen {
                    base: x,
                    view: View::dense(*node.shape),
                };
            }
        },
        _ => return own,
    };
    Seen { base, view }
}
