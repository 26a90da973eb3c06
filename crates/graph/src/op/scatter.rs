//! Writing into a tensor where indices say, whatever falls on one place being combined.
//!
//! Sums need no order. For everything else the indices are sorted (equal ones keep their order), so
//! that what falls on one place is a run, and a run is combined by doubling: no table of places
//! against values.

use std::panic::Location;

use backprop_core::{DType, Order};

use crate::axes::resolve;
use crate::composite::{Composite, Sample, Vjp};
use crate::graph::{Problem, bad_shape};
use crate::op::catalogue::{Entry, entries, labelled};
use crate::op::cumulative::doublings;
use crate::op::index::{check_indices, flat_indices};
use crate::operand::Operand;
use crate::tensor::Tensor;

/// How values that fall on one place become one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Combine {
    /// The last one stays.
    #[default]
    Last,
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// Their product. Derivatives are exact, at zeros too.
    Product,
    /// The largest one; the gradient is shared equally at ties.
    Max,
    /// The smallest one; the gradient is shared equally at ties.
    Min,
}

/// How values are written where indices say. Places that no index names keep what they have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Scatter {
    /// How values that fall on one place become one.
    pub combine: Combine,
    /// Whether what was there before is combined with them, or replaced.
    pub include_self: bool,
}

const ADDED: Scatter = Scatter {
    combine: Combine::Sum,
    include_self: true,
};

impl<'g> Tensor<'g> {
    /// This tensor, with each element of `source` where its own coordinates say, the one along
    /// `axis` replaced by its index in `indices`, which has the shape of `source`. Where several
    /// fall on one place, the last stays. Range of the indices as for [`take`](Tensor::take).
    #[track_caller]
    #[must_use]
    pub fn scatter(self, axis: i32, indices: Tensor<'g>, source: Tensor<'g>) -> Tensor<'g> {
        self.scattered("scatter", axis, indices, source, Scatter::default())
    }

    /// This tensor, with each element of `source` added as [`scatter`](Tensor::scatter) would write
    /// it. What falls on one place adds up.
    #[track_caller]
    #[must_use]
    pub fn scatter_add(self, axis: i32, indices: Tensor<'g>, source: Tensor<'g>) -> Tensor<'g> {
        self.scattered("scatter_add", axis, indices, source, ADDED)
    }

    /// This tensor, with each element of `source` where [`scatter`](Tensor::scatter) would write it,
    /// combined as `how` says.
    #[track_caller]
    #[must_use]
    pub fn scatter_reduce(
        self,
        axis: i32,
        indices: Tensor<'g>,
        source: Tensor<'g>,
        how: Scatter,
    ) -> Tensor<'g> {
        self.scattered("scatter_reduce", axis, indices, source, how)
    }

    /// This tensor, with the slices of `source` along `axis` in the places that `indices`, a vector,
    /// names. Of several for one place, the last stays. Range of the indices as for
    /// [`take`](Tensor::take).
    #[track_caller]
    #[must_use]
    pub fn index_copy(self, axis: i32, indices: Tensor<'g>, source: Tensor<'g>) -> Tensor<'g> {
        self.indexed("index_copy", axis, indices, source, Scatter::default())
    }

    /// This tensor, with the slices of `source` along `axis` added in the places that `indices`, a
    /// vector, names.
    #[track_caller]
    #[must_use]
    pub fn index_add(self, axis: i32, indices: Tensor<'g>, source: Tensor<'g>) -> Tensor<'g> {
        self.indexed("index_add", axis, indices, source, ADDED)
    }

    /// This tensor, with the slices of `source` along `axis` in the places that `indices`, a vector,
    /// names, combined as `how` says.
    #[track_caller]
    #[must_use]
    pub fn index_reduce(
        self,
        axis: i32,
        indices: Tensor<'g>,
        source: Tensor<'g>,
        how: Scatter,
    ) -> Tensor<'g> {
        self.indexed("index_reduce", axis, indices, source, how)
    }

    /// This tensor, with `value` (a number, or broadcast) in the slices along `axis` that `indices`,
    /// a vector, names.
    #[track_caller]
    #[must_use]
    pub fn index_fill(self, axis: i32, indices: Tensor<'g>, value: impl Operand<'g>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "index_fill");
        let value = value.on(self.graph, Some(self.dtype()), place);
        let operands = [self, indices, value];
        self.graph.compose(name, &operands, place, || {
            let axis = resolve(name, axis, self.rank())?;
            let places = Places::new(name, self, axis, indices)?;
            Ok(places.named().select(value, self))
        })
    }

    /// An error for elements that cannot be combined so.
    fn combines(self, name: &str, how: Scatter) -> Result<(), Problem> {
        match how.combine {
            Combine::Last => Ok(()),
            Combine::Mean => self.floats(name),
            _ => self.numbers(name),
        }
    }

    #[track_caller]
    fn scattered(
        self,
        name: &str,
        axis: i32,
        indices: Tensor<'g>,
        source: Tensor<'g>,
        how: Scatter,
    ) -> Tensor<'g> {
        let operands = [self, indices, source];
        self.graph.compose(name, &operands, Location::caller(), || {
            let axis = resolve(name, axis, self.rank())?;
            self.combines(name, how)?;
            if source.shape() != indices.shape() || source.dtype() != self.dtype() {
                let (dtype, shape) = (source.dtype(), source.shape());
                let what = format!("{dtype}{shape} by {} indices", indices.shape());
                return Err(bad_shape(name, what));
            }
            let flat = flat_indices(name, self.shape(), axis, indices)?.flatten_from(0);
            let table = self.flatten_from(0);
            let places = Places::new(name, table, 0, flat)?;
            let written = places.write(table, source.flatten_from(0), how);
            Ok(written.reshape_to(self.shape()))
        })
    }

    #[track_caller]
    fn indexed(
        self,
        name: &str,
        axis: i32,
        indices: Tensor<'g>,
        source: Tensor<'g>,
        how: Scatter,
    ) -> Tensor<'g> {
        let operands = [self, indices, source];
        self.graph.compose(name, &operands, Location::caller(), || {
            let axis = resolve(name, axis, self.rank())?;
            self.combines(name, how)?;
            let places = Places::new(name, self, axis, indices)?;
            let slices = self.shape().with(axis, indices.shape().count());
            if source.shape() != slices || source.dtype() != self.dtype() {
                let (dtype, shape) = (source.dtype(), source.shape());
                let what = format!("{dtype}{shape} where {}{slices} fits", self.dtype());
                return Err(bad_shape(name, what));
            }
            Ok(places.write(self, source, how))
        })
    }
}

/// The places along an axis of a table that indices name.
#[derive(Clone, Copy)]
struct Places<'g> {
    /// One for each slice to write, inside the axis.
    indices: Tensor<'g>,
    axis: usize,
    /// The size of the axis.
    rows: usize,
    rank: usize,
}

impl<'g> Places<'g> {
    fn new(
        name: &str,
        table: Tensor<'g>,
        axis: usize,
        indices: Tensor<'g>,
    ) -> Result<Places<'g>, Problem> {
        check_indices(name, (indices.dtype(), indices.shape()))?;
        let rows = table.shape().size(axis);
        if indices.rank() != 1 || (rows == 0 && indices.shape().count() > 0) {
            let what = format!(
                "{} indices along axis {axis} of {}",
                indices.shape(),
                table.shape()
            );
            return Err(bad_shape(name, what));
        }
        Ok(Places::inside(table, axis, indices.limited(name, rows)))
    }

    fn inside(table: Tensor<'g>, axis: usize, indices: Tensor<'g>) -> Places<'g> {
        let rows = table.shape().size(axis);
        Places {
            indices: indices.nearest(rows),
            axis,
            rows,
            rank: table.rank(),
        }
    }

    fn write(self, table: Tensor<'g>, source: Tensor<'g>, how: Scatter) -> Tensor<'g> {
        if self.indices.shape().count() == 0 {
            return table;
        }
        match how.combine {
            Combine::Last => {
                let runs = Runs::new(self);
                let written = source.take(runs.order.take(runs.ends, 0), self.axis as i32);
                self.named().select(written, table)
            }
            Combine::Sum if how.include_self => table + self.sum(source),
            Combine::Sum => self.named().select(self.sum(source), table),
            Combine::Mean => {
                let count = self.count(table.dtype());
                match how.include_self {
                    true => (table + self.sum(source)) / (count + 1.0),
                    false => self
                        .named()
                        .select(self.sum(source) / count.maximum(1.0), table),
                }
            }
            Combine::Product => {
                let product = Runs::new(self)
                    .combined(source, |same, x, earlier| x * same.select(earlier, 1.0));
                match how.include_self {
                    true => table * self.named().select(product, 1.0),
                    false => self.named().select(product, table),
                }
            }
            Combine::Max | Combine::Min => {
                let extreme = Extreme {
                    axis: self.axis,
                    how,
                };
                let operands = [table, source, self.indices];
                self.indices.graph.apply_one(extreme, &operands)
            }
        }
    }

    /// What falls on each place, added.
    fn sum(self, source: Tensor<'g>) -> Tensor<'g> {
        source.scatter_rows(self.indices, self.axis as i32, self.rows)
    }

    /// How often each place is named, along the axis.
    fn count(self, dtype: DType) -> Tensor<'g> {
        let ones = self.indices.graph.full(self.indices.shape(), 1.0, dtype);
        self.along(ones.scatter_rows(self.indices, 0, self.rows))
    }

    /// Whether each place is named at all, along the axis.
    fn named(self) -> Tensor<'g> {
        self.count(DType::I64).gt(0.0)
    }

    /// A vector as a tensor that broadcasts along the other axes.
    fn along(self, vector: Tensor<'g>) -> Tensor<'g> {
        let mut shape = vec![1; self.rank];
        shape[self.axis] = -1;
        vector.reshape(shape)
    }
}

/// The same, sorted: what falls on one place is a run.
struct Runs<'g> {
    places: Places<'g>,
    /// Positions before sorting.
    order: Tensor<'g>,
    /// The indices in ascending order.
    sorted: Tensor<'g>,
    /// For every place, where its run ends; 0 without one.
    ends: Tensor<'g>,
}

impl<'g> Runs<'g> {
    fn new(places: Places<'g>) -> Runs<'g> {
        let order = places.indices.argsort(0, Order::Ascending);
        let sorted = places.indices.take(order, 0);
        let size = sorted.shape().size(0);
        let graph = sorted.graph;
        let end = graph.full([1], -1.0, DType::I64);
        let next = graph.concat(&[sorted.narrow(0, 1, size), end], 0);
        let ended = sorted.ne(next).select(graph.coordinate([size], 0), 0);
        let ends = ended.scatter_rows(sorted, 0, places.rows).nearest(size);
        Runs {
            places,
            order,
            sorted,
            ends,
        }
    }

    /// What falls on each place, combined; anything where nothing does. `combine` gets, beside two
    /// tensors, where the second one counts.
    fn combined(
        &self,
        source: Tensor<'g>,
        combine: impl Fn(Tensor<'g>, Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
    ) -> Tensor<'g> {
        let Places { axis, .. } = self.places;
        let position = source.graph.coordinate(self.sorted.shape(), 0);
        let values = source.take(self.order, axis as i32);
        let whole = doublings(self.sorted.shape().size(0)).fold(values, |x, step| {
            let same = self.sorted.eq(self.sorted.delayed(0, step, 0.0));
            let inside = position.ge(position.number(step as f64)).logical_and(same);
            combine(self.places.along(inside), x, x.delayed(axis, step, 0.0))
        });
        whole.take(self.ends, axis as i32)
    }
}

/// The largest or smallest of what falls on a place. Inputs: the table, the source, the indices.
/// Its own gradient is shared equally among all ties, where the decomposition halves it at each
/// comparison.
#[derive(Debug)]
struct Extreme {
    axis: usize,
    how: Scatter,
}

impl Composite for Extreme {
    fn name(&self) -> &str {
        "scatter_extreme"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let (table, source) = (inputs[0], inputs[1]);
        let places = Places::inside(table, self.axis, inputs[2]);
        let better = |x: Tensor<'g>, y: Tensor<'g>| match self.how.combine {
            Combine::Min => x.minimum(y),
            _ => x.maximum(y),
        };
        let best = Runs::new(places).combined(source, |same, x, earlier| {
            same.select(better(x, earlier), x)
        });
        let whole = match self.how.include_self {
            true => better(table, best),
            false => best,
        };
        vec![places.named().select(whole, table)]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (table, source) = (cx.inputs[0], cx.inputs[1]);
        let (y, g) = (cx.outputs[0], cx.cotangents[0]?);
        let places = Places::inside(table, self.axis, cx.inputs[2]);
        let taken = |x: Tensor<'g>| x.take(places.indices, self.axis as i32);
        let kept = match self.how.include_self {
            true => table.eq(y),
            false => places.named().logical_not().broadcast_to(table.shape()),
        };
        let chosen = source.eq(taken(y));
        let ties = kept.cast(g.dtype()) + places.sum(chosen.cast(g.dtype()));
        let share = g / ties;
        Some(vec![
            Some(kept.select(share, 0.0)),
            Some(chosen.select(taken(share), 0.0)),
            None,
        ])
    }

    fn samples(&self) -> Vec<Sample> {
        labelled(&[&[4, 2], &[6, 2]], &[6], 4)
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    const fn how(combine: Combine, include_self: bool) -> Scatter {
        Scatter {
            combine,
            include_self,
        }
    }
    let elements = || labelled(&[&[3, 4], &[5, 4]], &[5, 4], 3);
    let slices = || labelled(&[&[2, 5], &[2, 7]], &[7], 4);
    entries! {
        scatter elements() => |x| x[0].scatter(0, x[2], x[1]);
        scatter_add elements() => |x| x[0].scatter_add(0, x[2], x[1]);
        scatter_mean elements() => |x| x[0].scatter_reduce(0, x[2], x[1], how(Combine::Mean, true));
        scatter_product elements() => |x| x[0].scatter_reduce(0, x[2], x[1], how(Combine::Product, true));
        index_copy slices() => |x| x[0].index_copy(1, x[2], x[1]);
        index_add slices() => |x| x[0].index_add(1, x[2], x[1]);
        index_fill labelled(&[&[2, 5]], &[3], 5) => |x| x[0].index_fill(1, x[1], 0.5) * x[0];
        index_sum slices() => |x| x[0].index_reduce(1, x[2], x[1], how(Combine::Sum, false));
        index_mean slices() => |x| x[0].index_reduce(1, x[2], x[1], how(Combine::Mean, false));
        index_product slices() => |x| x[0].index_reduce(1, x[2], x[1], how(Combine::Product, false));
        index_max slices() => |x| x[0].index_reduce(1, x[2], x[1], how(Combine::Max, true));
        index_min slices() => |x| x[0].index_reduce(1, x[2], x[1], how(Combine::Min, false));
    }
}
