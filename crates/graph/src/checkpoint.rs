//! What is marked to be computed again in the backward pass.

use crate::graph::Graph;

impl Graph {
    /// Keeps nothing of what is built inside for the backward pass but what leaves it: the rest is
    /// computed once more, from what came in, when the backward pass gets there. Values and gradients
    /// are the same, bit for bit. A mark inside of a mark changes nothing, and so does one in the body
    /// of a scan.
    ///
    /// ```
    /// use backprop_core::{DType::F32, Reference};
    /// use backprop_graph::{Graph, Init, Session, Updates};
    ///
    /// let g = Graph::new();
    /// let x = g.input("x", [64, 8], F32);
    /// let w = g.parameter("w", [8, 8], F32, Init::Ones);
    /// let block = |x| g.checkpoint(|g| g.read(x).matmul(w).tanh().matmul(w).tanh());
    /// let loss = (0..4).fold(x, |x, _| block(x)).sum(..);
    /// let dw = g.grad(loss, &[w])?[0];
    /// let session = Session::compile(&g, Reference, &[dw.key()], Updates::none())?;
    /// assert!(session.step_plan().recomputation().launches > 0);
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    pub fn checkpoint<'g, R>(&'g self, build: impl FnOnce(&'g Graph) -> R) -> R {
        let outer = {
            let mut state = self.build.borrow_mut();
            let outer = state.checkpoint;
            if outer.is_none() {
                state.checkpoint = Some(state.checkpoints);
                state.checkpoints += 1;
            }
            outer
        };
        let result = build(self);
        self.build.borrow_mut().checkpoint = outer;
        result
    }
}
