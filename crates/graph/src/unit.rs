//! Which operation of the user's a node belongs to: many operations are built of several nodes, and the
//! vjp of a node of several more.

use std::num::NonZeroU32;

use crate::graph::Graph;
use crate::ir::{Ir, Node, NodeId, Op, Origin};

/// Nodes that were built as one: what they do together.
#[derive(Clone, Debug)]
pub(crate) enum Unit {
    /// An operation made of others, and if it has a name the scope that ends in it.
    Operation(Option<u32>),
    /// The vjp of a node.
    Vjp(NodeId),
}

/// The number of a unit, from 1 on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct UnitId(NonZeroU32);

/// The units of a graph. A node belongs to the innermost vjp around it, or else to the outermost
/// operation; many belong to none, being operations of their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Units {
    units: Vec<Unit>,
    owners: Vec<Option<UnitId>>,
}

impl Units {
    /// Records that a unit has built these nodes. What is fed or kept belongs to none.
    fn close(&mut self, unit: Unit, start: usize, nodes: &[Node]) {
        if start == nodes.len() {
            return;
        }
        let is_vjp = matches!(unit, Unit::Vjp(_));
        self.units.push(unit);
        let id = NonZeroU32::new(self.units.len() as u32).map(UnitId);
        self.owners.resize(nodes.len(), None);
        for (at, node) in nodes.iter().enumerate().skip(start) {
            if matches!(node.op, Op::Input(_) | Op::Parameter(_)) {
                continue;
            }
            let is_free = match self.owners[at] {
                None => true,
                Some(owner) => is_vjp && !self.is_vjp(owner),
            };
            if is_free {
                self.owners[at] = id;
            }
        }
    }

    /// The unit that a node belongs to.
    pub(crate) fn owner(&self, id: NodeId) -> Option<UnitId> {
        self.owners.get(id.index()).copied().flatten()
    }

    pub(crate) fn unit(&self, id: UnitId) -> &Unit {
        &self.units[id.0.get() as usize - 1]
    }

    /// The node whose vjp a node belongs to.
    pub(crate) fn vjp_of(&self, id: NodeId) -> Option<NodeId> {
        match *self.unit(self.owner(id)?) {
            Unit::Vjp(of) => Some(of),
            Unit::Operation(_) => None,
        }
    }

    fn is_vjp(&self, id: UnitId) -> bool {
        matches!(self.unit(id), Unit::Vjp(_))
    }
}

impl Graph {
    /// Builds an operation made of others: what is built bears its origin and belongs to it.
    pub(crate) fn within<R>(&self, origin: Origin, build: impl FnOnce() -> R) -> R {
        let (start, inner) = (self.len(), !self.build.borrow().places.is_empty());
        let result = self.bearing(origin, build);
        if !inner {
            // The scope of an operation with a name ends in it.
            let named = origin.scope != self.build.borrow().scope_id;
            let unit = Unit::Operation(named.then_some(origin.scope));
            self.ir.borrow_mut().close(unit, start);
        }
        result
    }

    /// Builds the vjp of a node: what is built bears the node's origin and belongs to its vjp.
    pub(crate) fn deriving<R>(&self, of: NodeId, build: impl FnOnce() -> R) -> R {
        let (start, origin) = (self.len(), self.origin_of_node(of).backward());
        let result = self.bearing(origin, build);
        self.ir.borrow_mut().close(Unit::Vjp(of), start);
        result
    }

    /// What is built inside bears an origin, unless one is set already.
    pub(crate) fn bearing<R>(&self, origin: Origin, build: impl FnOnce() -> R) -> R {
        self.build.borrow_mut().places.push(origin);
        let result = build();
        self.build.borrow_mut().places.pop();
        result
    }
}

impl Ir {
    /// Records that a unit has built all nodes from `start` on.
    fn close(&mut self, unit: Unit, start: usize) {
        self.units.close(unit, start, &self.nodes);
    }

    /// The name of the operation that a node belongs to, as the user called it.
    pub(crate) fn operation(&self, id: NodeId) -> String {
        let owner = self.units.owner(id).map(|owner| self.units.unit(owner));
        match owner {
            Some(Unit::Operation(Some(scope))) => {
                let path = &self.scopes[*scope as usize];
                path.rsplit('.').next().unwrap_or(path).to_owned()
            }
            Some(Unit::Vjp(of)) => {
                // The vjp of a vjp, and so on, to the operation that began it.
                let (mut of, mut order) = (*of, 1);
                while let Some(next) = self.units.vjp_of(of) {
                    (of, order) = (next, order + 1);
                }
                "gradient of ".repeat(order) + &self.operation(of)
            }
            _ => match &self.node(id).op {
                Op::Output(_) => self.operation(self.node(id).inputs[0]),
                _ => self.label(id),
            },
        }
    }
}
