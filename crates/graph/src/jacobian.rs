//! All derivatives of a small tensor at once.

use std::panic::Location;

use backprop_core::{Result, Shape};

use crate::graph::Graph;
use crate::operand::Operand;
use crate::scan::Left;
use crate::tensor::Tensor;

impl Graph {
    /// The derivative of every element of `output` by every element of each of `wrt`: tensors of
    /// shape `[output.., wrt..]`. One vjp for each element of `output`, as a scan, so that the graph
    /// does not grow with their number.
    ///
    /// ```
    /// use backprop_core::{DType::F64, Reference};
    /// use backprop_graph::{Graph, Session, Updates};
    ///
    /// let g = Graph::new();
    /// let x = g.input("x", [2], F64);
    /// let y = x.square() * x.sum(..);
    /// let dy = g.jacobian(y, &[x])?[0];
    /// let mut session = Session::compile(&g, Reference, &[dy.key()], Updates::none())?;
    /// session.feed(x, &[1.0, 2.0])?.step()?;
    /// assert_eq!(session.fetch::<f64>(dy)?, [7.0, 1.0, 4.0, 16.0]);
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`grad`](Graph::grad), for an output of any shape.
    #[track_caller]
    pub fn jacobian<'g, W: Operand<'g> + Copy>(
        &'g self,
        output: Tensor<'g>,
        wrt: &[W],
    ) -> Result<Vec<Tensor<'g>>> {
        let place = Location::caller();
        let (shape, dtype) = (output.shape(), output.dtype());
        let count = shape.count();
        if count == 0 || !dtype.is_float() {
            return self.vjp_at(&[(output, output)], wrt, place);
        }
        // Errors of differentiation are found once, outside of the scan.
        self.vjp_at(&[(output, output)], wrt, place)?;
        let numbers = self.coordinate([count], 0);
        let mut outcome = Ok(());
        let rows = self.scan(count, &[], &[numbers], |at| {
            let here = self.coordinate([count], 0).eq(at.elements[0]);
            let one = here.cast(dtype).reshape_to(shape);
            let stacked = self
                .vjp_at(&[(output, one)], wrt, place)
                .unwrap_or_else(|error| {
                    outcome = Err(error);
                    Vec::new()
                });
            Left {
                carried: Vec::new(),
                stacked,
            }
        });
        outcome?;
        let full = |row: &Tensor<'g>| {
            let kept = row.shape().filter(|axis| axis > 0);
            let sizes = [shape.sizes(), kept.sizes()].concat();
            match Shape::new(&sizes) {
                Some(full) => row.reshape_to(full),
                None => row.failed("jacobian", None),
            }
        };
        let jacobians = rows.stacked.iter().map(full).collect();
        self.check()?;
        Ok(jacobians)
    }
}
