//! How each kind of node is computed for a whole batch at once.

use backprop_core::{Axes, DType, Reduction, Shape};

use super::{Batch, Lane};
use crate::ir::{Node, Op, Stride};
use crate::scan::Left;
use crate::tensor::Tensor;

impl<'g> Batch<'g> {
    /// A node of which at least one operand differs between elements.
    pub(super) fn batched(&self, node: &Node, x: &[Lane<'g>]) -> Tensor<'g> {
        let Some(shape) = self.shape(*node.shape) else {
            return x[0].tensor().failed("vmap", None);
        };
        let ty = (node.dtype, shape);
        let each = || -> Vec<Tensor<'g>> { x.iter().map(|&x| self.each(x)).collect() };
        match &node.op {
            Op::Scalar(_) | Op::Cast | Op::Stop | Op::Reshape => {
                self.build(node.op.clone(), &each(), ty)
            }
            Op::Reduce(reduction, axes) => {
                let axes = axes.iter().map(|axis| axis + 1).collect();
                self.build(Op::Reduce(*reduction, axes), &each(), ty)
            }
            Op::Broadcast => self.build(Op::Broadcast, &[self.aligned(x[0], *node.shape)], ty),
            Op::Permute(order) => {
                let moved = order.iter().map(|axis| axis + 1);
                let order = [0].into_iter().chain(moved).collect();
                self.build(Op::Permute(order), &each(), ty)
            }
            Op::Slice(stride) => self.build(Op::Slice(along_batch(stride).into()), &each(), ty),
            Op::Pad(stride, fill) => {
                self.build(Op::Pad(along_batch(stride).into(), *fill), &each(), ty)
            }
            Op::Concat(axis) => self.build(Op::Concat(axis + 1), &each(), ty),
            Op::MatMul => self.product(x[0], x[1], shape),
            Op::Gather(axis) => self.gathered(usize::from(*axis), (x[0], x[1]), shape),
            Op::ScatterAdd(axis) => self.scattered(usize::from(*axis), (x[0], x[1]), shape),
            Op::Require(_) => {
                let value = self.each(x[0]);
                let violated = match x[1] {
                    Lane::Same(violated) => violated,
                    Lane::Each(all) => self.over_batch(Reduction::Max, all),
                };
                self.build(node.op.clone(), &[value, violated], ty)
            }
            // Whatever else there is goes one element after the other.
            _ => self.in_turn(node, x),
        }
    }

    /// One value for the whole batch.
    pub(super) fn over_batch(&self, reduction: Reduction, x: Tensor<'g>) -> Tensor<'g> {
        let shape = x.shape().filter(|axis| axis > 0);
        let op = Op::Reduce(reduction, Axes::NONE.with(0));
        self.build(op, &[x], (x.dtype(), shape))
    }

    /// With axes of size 1 after the batch, to be repeated up to `shape`.
    pub(super) fn aligned(&self, x: Lane<'g>, shape: Shape) -> Tensor<'g> {
        let x = self.each(x);
        let missing = (shape.rank() + 1).saturating_sub(x.rank());
        let sizes = x.shape().sizes().to_vec();
        let ones = std::iter::repeat_n(1, missing);
        let aligned = [self.size]
            .into_iter()
            .chain(ones)
            .chain(sizes.into_iter().skip(1));
        x.reshape_to(aligned.collect())
    }

    /// Products of matrices. One matrix on the right for all elements is a single product.
    fn product(&self, left: Lane<'g>, right: Lane<'g>, shape: Shape) -> Tensor<'g> {
        let dtype = left.tensor().dtype();
        if let (Lane::Each(left), Lane::Same(right)) = (left, right)
            && right.rank() == 2
        {
            let (rows, inner) = (self.size * left.shape().size(1), right.shape().size(0));
            let folded: Shape = [rows, inner].into_iter().collect();
            let product: Shape = [rows, right.shape().size(1)].into_iter().collect();
            let product = self.build(
                Op::MatMul,
                &[left.reshape_to(folded), right],
                (dtype, product),
            );
            return product.reshape_to(shape);
        }
        let operands = [self.each(left), self.each(right)];
        self.build(Op::MatMul, &operands, (dtype, shape))
    }

    /// Slices picked by index: of one table for all by all indices, or of the tables laid one after
    /// the other.
    fn gathered(
        &self,
        axis: usize,
        (table, indices): (Lane<'g>, Lane<'g>),
        shape: Shape,
    ) -> Tensor<'g> {
        let dtype = table.tensor().dtype();
        match (table, indices) {
            (Lane::Each(table), Lane::Same(indices)) => {
                let op = Op::Gather(axis as u8 + 1);
                self.build(op, &[table, indices], (dtype, shape))
            }
            (Lane::Same(table), Lane::Each(indices)) => {
                // The batch comes first among the axes of the indices: it is moved to the front.
                let picked = moved(shape, 0, axis);
                let op = Op::Gather(axis as u8);
                let picked = self.build(op, &[table, indices], (dtype, picked));
                front(picked, axis)
            }
            (table, indices) => {
                let (table, indices) = (self.each(table), self.each(indices));
                let rows = table.shape().size(axis + 1);
                let table = self.rows_first(table, axis + 1, 1);
                let rest = table.shape().filter(|at| at > 1);
                let flat = [&[self.size * rows], rest.sizes()].concat();
                let table = table.reshape_to(flat.into_iter().collect());
                let own = self.own_rows(indices, rows);
                let picked = [own.shape().sizes(), rest.sizes()].concat();
                let picked = Shape::new(&picked).unwrap_or(Shape::SCALAR);
                let picked = self.build(Op::Gather(0), &[table, own], (dtype, picked));
                self.rows_back(picked, axis + 1, indices.rank() - 1)
            }
        }
    }

    /// Slices added by index, into tables laid one after the other.
    fn scattered(
        &self,
        axis: usize,
        (values, indices): (Lane<'g>, Lane<'g>),
        shape: Shape,
    ) -> Tensor<'g> {
        let dtype = values.tensor().dtype();
        let values = self.each(values);
        let indices = match indices {
            Lane::Same(indices) => {
                let op = Op::ScatterAdd(axis as u8 + 1);
                return self.build(op, &[values, indices], (dtype, shape));
            }
            Lane::Each(indices) => indices,
        };
        let (rows, picked) = (shape.size(axis + 1), indices.rank() - 1);
        let values = self.rows_first(values, axis + 1, picked);
        let rest = values.shape().filter(|at| at > picked);
        let own = self.own_rows(indices, rows);
        let flat = [&[self.size * rows], rest.sizes()].concat();
        let flat = flat.into_iter().collect();
        let added = self.build(Op::ScatterAdd(0), &[values, own], (dtype, flat));
        let split = [&[self.size, rows], rest.sizes()].concat();
        let split = Shape::new(&split).unwrap_or(Shape::SCALAR);
        self.rows_back(added.reshape_to(split), axis + 1, 1)
    }

    /// Indices into tables of `rows` rows that are laid one after the other, one for each element.
    fn own_rows(&self, indices: Tensor<'g>, rows: usize) -> Tensor<'g> {
        let wide = indices.cast(DType::I64);
        let start = self.graph.coordinate(wide.shape(), 0) * wide.number(rows as f64);
        wide + start
    }

    /// With `count` axes from `axis` on right behind the batch.
    fn rows_first(&self, x: Tensor<'g>, axis: usize, count: usize) -> Tensor<'g> {
        let chosen = axis..axis + count;
        let others = (1..x.rank()).filter(|at| !chosen.contains(at));
        let order = [0].into_iter().chain(chosen.clone()).chain(others);
        x.permute(order.map(|at| at as i32).collect::<Vec<_>>())
    }

    /// The other way round: the `count` axes behind the batch go to `axis`.
    fn rows_back(&self, x: Tensor<'g>, axis: usize, count: usize) -> Tensor<'g> {
        let before = 1 + count..axis + count;
        let after = axis + count..x.rank();
        let order = [0]
            .into_iter()
            .chain(before)
            .chain(1..1 + count)
            .chain(after);
        x.permute(order.map(|at| at as i32).collect::<Vec<_>>())
    }

    /// A scan over the elements.
    fn in_turn(&self, node: &Node, x: &[Lane<'g>]) -> Tensor<'g> {
        let sequences: Vec<Tensor<'g>> = x.iter().map(|&x| self.each(x)).collect();
        let scanned = self.graph.scan(self.size, &[], &sequences, |at| {
            let ty = (node.dtype, *node.shape);
            Left {
                carried: Vec::new(),
                stacked: vec![self.build(node.op.clone(), &at.elements, ty)],
            }
        });
        scanned.stacked[0]
    }
}

/// The same for every element along the batch.
fn along_batch(stride: &Stride) -> Stride {
    Stride {
        start: [0]
            .into_iter()
            .chain(stride.start.iter().copied())
            .collect(),
        step: [1].into_iter().chain(stride.step.iter().copied()).collect(),
    }
}

/// A shape with the axis `from` moved to `to`.
fn moved(shape: Shape, from: usize, to: usize) -> Shape {
    let mut sizes = shape.sizes().to_vec();
    let size = sizes.remove(from);
    sizes.insert(to, size);
    sizes.into_iter().collect()
}

/// With an axis as the first one.
pub(super) fn front(x: Tensor<'_>, axis: usize) -> Tensor<'_> {
    let others = (0..x.rank()).filter(|&at| at != axis);
    let order = [axis].into_iter().chain(others);
    x.permute(order.map(|at| at as i32).collect::<Vec<_>>())
}
