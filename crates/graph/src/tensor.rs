//! Handles: tensors that know their graph, and lifetime-free names of parameters and tensors.

use std::fmt;
use std::panic::Location;

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

    /// This tensor, whose value can be [looked at](crate::Session::inspected) after a step of any plan
    /// that computes it, whether it is fetched or not: for layers and operations that do not hand out
    /// what is inside of them. The name is prefixed by the open [scopes](Graph::scope); one name twice
    /// is an error. In the body of a scan or of a conditional, the values of all iterations are kept,
    /// along a new first axis. It costs the memory of the value, and nothing where it is not called.
    ///
    /// ```
    /// use backprop_core::{DType::F32, Reference};
    /// use backprop_graph::{Graph, Session, Updates};
    ///
    /// let g = Graph::new();
    /// let x = g.input("x", [2], F32);
    /// let y = g.scope("layer", |_| (x * 10.0).inspect("scaled").tanh());
    /// let mut session = Session::compile(&g, Reference, &[y.key()], Updates::none())?;
    /// session.feed(x, &[0.5f32, -0.1])?.step()?;
    /// let scaled = session.inspected("layer.scaled")?;
    /// assert_eq!(scaled.values, [5.0, -1.0]);
    /// assert_eq!(scaled.to_string(), "layer.scaled f32[2]: -1 to 5");
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    #[track_caller]
    #[must_use = "the tensor goes on from here"]
    pub fn inspect(self, name: &str) -> Tensor<'g> {
        let origin = self.graph.origin(Location::caller());
        self.graph.inspect(self, name, origin);
        self
    }

    /// The shape; `[]` for a tensor that failed to build.
    #[must_use]
    pub fn shape(self) -> Shape {
        *self.graph.ir.borrow().node(self.id).shape
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
