//! Where nodes come from.

use std::ops::Index;

use backprop_core::Place;
use backprop_core::plan::{Phase, Purpose};

/// Where a node comes from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Origin {
    pub(crate) place: Place,
    /// The position in [`Ir::scopes`].
    pub(crate) scope: u32,
    pub(crate) phase: Phase,
    pub(crate) purpose: Purpose,
    /// The number of the outermost [`checkpoint`](crate::Graph::checkpoint) around it.
    pub(crate) checkpoint: Option<u32>,
}

impl Origin {
    pub(crate) fn new(place: Place, scope: u32) -> Origin {
        Origin {
            place,
            scope,
            phase: Phase::Forward,
            purpose: Purpose::Plain,
            checkpoint: None,
        }
    }

    /// That of what differentiation adds for a node of this one.
    pub(crate) fn backward(self) -> Origin {
        Origin {
            phase: Phase::Backward,
            checkpoint: None,
            ..self
        }
    }
}

/// Where each node comes from, by its position. What an operation is made of comes from one place,
/// and is built in a row: it is held once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    distinct: Vec<Origin>,
    /// The position in `distinct` for each node.
    of: Vec<u32>,
}

impl Origins {
    pub(crate) fn reserve(&mut self, nodes: usize) {
        self.of.reserve_exact(nodes);
    }

    pub(crate) fn push(&mut self, origin: Origin) {
        let number = self.number(origin);
        self.of.push(number);
    }

    pub(crate) fn replace(&mut self, at: usize, origin: Origin) {
        self.of[at] = self.number(origin);
    }

    fn number(&mut self, origin: Origin) -> u32 {
        if self.distinct.last() != Some(&origin) {
            self.distinct.push(origin);
        }
        self.distinct.len() as u32 - 1
    }
}

impl Index<usize> for Origins {
    type Output = Origin;

    fn index(&self, at: usize) -> &Origin {
        &self.distinct[self.of[at] as usize]
    }
}
