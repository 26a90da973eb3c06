//! Sorting: positions come from a primitive, values are picked by them, and gradients go back to
//! where values were picked.

use std::panic::Location;

use backprop_core::{DType, Order, Primitive, Shape, Sort, Source, TensorType};

use crate::axes::resolve;
use crate::composite::{Composite, Sample};
use crate::graph::bad_attribute;
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

impl<'g> Tensor<'g> {
    /// The positions along `axis` in sorted order, as `i64`. Equal elements keep their order; NaN
    /// counts as larger than everything.
    #[track_caller]
    #[must_use]
    pub fn argsort(self, axis: i32, order: Order) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "argsort");
        self.graph.compose(name, &[self], place, || {
            let axis = resolve(name, axis, self.rank())?;
            Ok(self.first_positions(axis, self.shape().size(axis), order))
        })
    }

    /// The elements along `axis` in sorted order, and their positions. Equal elements keep their
    /// order; NaN counts as larger than everything.
    #[track_caller]
    #[must_use]
    pub fn sort(self, axis: i32, order: Order) -> (Tensor<'g>, Tensor<'g>) {
        self.graph.at(Location::caller(), || {
            let positions = self.argsort(axis, order);
            (self.gather(axis, positions), positions)
        })
    }

    /// The first `k` elements along `axis` in sorted order, and their positions: the largest ones
    /// for [`Order::Descending`]. `k` is at most the axis' size.
    #[track_caller]
    #[must_use]
    pub fn topk(self, k: usize, axis: i32, order: Order) -> (Tensor<'g>, Tensor<'g>) {
        let (place, name) = (Location::caller(), "topk");
        let positions = self.graph.compose(name, &[self], place, || {
            let at = resolve(name, axis, self.rank())?;
            let size = self.shape().size(at);
            if k > size {
                let problem =
                    bad_attribute(name, format!("{k} of {size} elements along axis {axis}"));
                return Err(problem.help("`k` is at most the size of the axis"));
            }
            Ok(self.first_positions(at, k, order))
        });
        let values = self.graph.at(place, || self.gather(axis, positions));
        (values, positions)
    }

    #[track_caller]
    fn first_positions(self, axis: usize, count: usize, order: Order) -> Tensor<'g> {
        self.graph
            .apply_one(FirstPositions { axis, count, order }, &[self])
    }
}

/// The positions of the first elements in sorted order.
#[derive(Debug)]
struct FirstPositions {
    axis: usize,
    count: usize,
    order: Order,
}

impl Composite for FirstPositions {
    fn name(&self) -> &str {
        "sort"
    }

    /// By counting: an element's place is the number of those before it.
    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let axis = self.axis as i32;
        let last = inputs[0].stop_gradient().transpose(axis, -1);
        let (shape, end) = (last.shape(), last.rank() - 1);
        let size = shape.size(end);
        let rows = shape.filter(|at| at != end).count();
        let x = last.reshape_to(Shape::from_iter([rows, size]));
        let graph = x.graph;
        let square = Shape::from_iter([rows, size, size]);
        let (one, other) = (
            x.unsqueeze(2).broadcast_to(square),
            x.unsqueeze(1).broadcast_to(square),
        );
        let (small, large) = match self.order {
            Order::Ascending => (other, one),
            Order::Descending => (one, other),
        };
        let earlier = graph.coordinate(square, 2).lt(graph.coordinate(square, 1));
        let before = precedes(small, large).logical_or(is_tie(one, other).logical_and(earlier));
        let place = before.cast(DType::I64).sum(2);
        // Position i stands where its place says.
        let table = Shape::from_iter([rows, self.count, size]);
        let here = place
            .unsqueeze(1)
            .broadcast_to(table)
            .eq(graph.coordinate(table, 1));
        let positions = here.select(graph.coordinate(table, 2), 0.0).sum(2);
        let sorted = positions.reshape_to(shape.with(end, self.count));
        vec![sorted.transpose(axis, -1)]
    }

    fn primitive(&self, inputs: &[TensorType]) -> Option<Primitive> {
        let space = inputs[0].shape;
        Some(Primitive::Sort(Sort {
            space,
            axis: self.axis,
            order: self.order,
            input: Source::dense(inputs[0].clone()),
            positions: TensorType::dense(DType::I64, space.with(self.axis, self.count)),
        }))
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[3, 5]])]
    }
}

/// Whether `a` comes before `b` in ascending order, in which NaN is last.
fn precedes<'g>(a: Tensor<'g>, b: Tensor<'g>) -> Tensor<'g> {
    let nan_last = a.eq(a).logical_and(b.ne(b));
    a.lt(b).logical_or(nan_last)
}

fn is_tie<'g>(a: Tensor<'g>, b: Tensor<'g>) -> Tensor<'g> {
    a.eq(b).logical_or(a.ne(a).logical_and(b.ne(b)))
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let matrix = || reals(&[&[3, 5]]);
    entries! {
        argsort matrix() => |x| x[0].argsort(0, Order::Ascending);
        sort matrix() => |x| x[0].sort(-1, Order::Ascending).0;
        topk matrix() => |x| x[0].topk(2, 0, Order::Descending).0;
    }
}
