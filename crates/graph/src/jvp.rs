//! The other mode: derivatives along directions.
//!
//! `J v` is linear in a cotangent that nobody chose yet: with `f(u) = J^T u`, the vjp of `f` along `v`
//! by `u` is `J v`. So the rules of the vjp are all there is to know, and what only served to get
//! there vanishes when a plan is compiled (Christianson, 1992; "forward mode by reverse over reverse").

use std::panic::Location;

use backprop_core::{Place, Result};

use crate::grad::Walk;
use crate::graph::{Graph, bad_shape};
use crate::ir::{Inputs, Node, NodeId, Op};
use crate::operand::Operand;
use crate::tensor::Tensor;

impl Graph {
    /// The derivative of each of `outputs` when tensors or parameters move along tangents of their
    /// shapes: `J v`, one tensor for each output, zeros for one that does not depend on what moves.
    ///
    /// ```
    /// use backprop_core::{DType::F64, Reference};
    /// use backprop_graph::{Graph, Session, Updates};
    ///
    /// let g = Graph::new();
    /// let x = g.input("x", [2], F64);
    /// let dy = g.jvp(&[x.square()], &[(x, g.data([2], &[1.0, 10.0]))])?[0];
    /// let mut session = Session::compile(&g, Reference, &[dy.key()], Updates::none())?;
    /// session.feed(x, &[3.0, 0.5])?.step()?;
    /// assert_eq!(session.fetch::<f64>(dy)?, [6.0, 10.0]);
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Everything recorded while building; an output that is no real number; a tangent of another
    /// type or shape than what it moves.
    #[track_caller]
    pub fn jvp<'g, W: Operand<'g> + Copy>(
        &'g self,
        outputs: &[Tensor<'g>],
        moved: &[(W, Tensor<'g>)],
    ) -> Result<Vec<Tensor<'g>>> {
        let place = Location::caller();
        let moved: Vec<(Tensor<'g>, Tensor<'g>)> = moved
            .iter()
            .map(|(x, tangent)| (x.on(self, None, place), *tangent))
            .collect();
        self.check_tangents(outputs, &moved, place);
        self.check()?;
        let unchosen: Vec<Tensor<'g>> = outputs.iter().map(|&y| self.unchosen(y)).collect();
        let ends: Vec<_> = outputs
            .iter()
            .copied()
            .zip(unchosen.iter().copied())
            .collect();
        let wrt: Vec<NodeId> = moved.iter().map(|(x, _)| x.id).collect();
        let mut walk = Walk::new(self, &ends, &wrt);
        walk.run();
        let ends: Vec<_> = moved
            .iter()
            .filter_map(|&(x, tangent)| Some((walk.total(x.id)?, tangent)))
            .collect();
        let wrt: Vec<NodeId> = unchosen.iter().map(|u| u.id).collect();
        let mut walk = Walk::new(self, &ends, &wrt);
        walk.run();
        let along = |u: &Tensor<'g>| walk.total(u.id).unwrap_or_else(|| u.number(0.0));
        let tangents = unchosen.iter().map(along).collect();
        self.check()?;
        Ok(tangents)
    }

    fn check_tangents(
        &self,
        outputs: &[Tensor<'_>],
        moved: &[(Tensor<'_>, Tensor<'_>)],
        place: Place,
    ) {
        let foreign = |x: Tensor<'_>| !std::ptr::eq(x.graph, self);
        for &y in outputs
            .iter()
            .filter(|y| foreign(**y) || !y.dtype().is_float())
        {
            let problem = bad_shape("jvp", format!("of {}{}", y.dtype(), y.shape()));
            self.refuse("jvp", &[y], place, problem);
        }
        for &(x, tangent) in moved {
            let [a, b] = [x, tangent].map(|x| (x.dtype(), x.shape()));
            if foreign(x) || foreign(tangent) || a != b || !a.0.is_float() {
                let what = format!("of {}{} along {}{}", a.0, a.1, b.0, b.1);
                self.refuse("jvp", &[x, tangent], place, bad_shape("jvp", what));
            }
        }
    }

    /// A cotangent of `y` that nothing has chosen.
    fn unchosen<'g>(&'g self, y: Tensor<'g>) -> Tensor<'g> {
        let origin = self.origin_of_node(y.id);
        let number = self.len() as u32;
        let node = Node {
            op: Op::Unchosen(number),
            inputs: Inputs::new(),
            dtype: y.dtype(),
            shape: y.shape().into(),
            region: self.ir.borrow().node(y.id).region,
        };
        let id = self.ir.borrow_mut().push(node, origin);
        self.tensor(id)
    }
}
