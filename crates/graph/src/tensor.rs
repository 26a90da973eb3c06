//! Handles: tensors that know their graph, and lifetime-free names of parameters and tensors.

use std::fmt;

use backprop_core::{DType, Shape};

use crate::graph::Graph;
use crate::ir::NodeId;

/// A symbolic value in a graph. Operations on it append nodes; nothing is computed until a session
/// runs. `Copy`, so that expressions need no borrowing.
#[derive(Clone, Copy)]
pub struct Tensor<'g> {
    pub(crate) graph: &'g Graph,
    pub(crate) id: NodeId,
}

/// A parameter: a tensor that lives between steps. Has no lifetime, so that models can hold it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Param {
    pub(crate) graph: u64,
    pub(crate) index: u32,
}

/// The lifetime-free name of a tensor, to feed and fetch with after the graph is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    pub(crate) graph: u64,
    pub(crate) node: NodeId,
}

impl<'g> Tensor<'g> {
    /// The graph it belongs to.
    #[must_use]
    pub fn graph(self) -> &'g Graph {
        self.graph
    }

    /// The name by which a session feeds and fetches it.
    #[must_use]
    pub fn key(self) -> Key {
        Key {
            graph: self.graph.id,
            node: self.id,
        }
    }

    /// The shape; `[]` for a tensor that failed to build.
    #[must_use]
    pub fn shape(self) -> Shape {
        self.graph.ir.borrow().node(self.id).shape
    }

    /// The element type; `f32` for a tensor that failed to build.
    #[must_use]
    pub fn dtype(self) -> DType {
        self.graph.ir.borrow().node(self.id).dtype
    }

    /// The number of axes.
    #[must_use]
    pub fn rank(self) -> usize {
        self.shape().rank()
    }
}

impl From<Tensor<'_>> for Key {
    fn from(tensor: Tensor<'_>) -> Key {
        tensor.key()
    }
}

impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ir = self.graph.ir.borrow();
        let node = ir.node(self.id);
        let label = ir.label(self.id);
        write!(f, "%{} {}{} {label}", self.id.0, node.dtype, node.shape)
    }
}
