//! Cotangents of outer tensors, which add up over the iterations of a reverse scan.
//!
//! Adding up comes first where it can: a sum over the axes of what iterations compute is taken once,
//! after the loop, and so is a product of matrices, whose factors are stacked: the sum of all
//! `A^T B` is one product.

use backprop_core::{Reduction, Shape};

use super::{Left, Scanned};
use crate::graph::Graph;
use crate::ir::{Argument, NodeId, Op, Scan};
use crate::op::mask;
use crate::tensor::Tensor;

/// Elements up to which a tensor is added up before its sum is taken: so many stay in the cache from
/// one iteration to the next.
const SMALL: usize = 1 << 14;

/// An operation that is left for after the loop, with the shape of its result.
type After = (Op, Shape);

/// Something that every iteration adds to, for the cotangent of an outer tensor.
struct Sum<'g> {
    outer: NodeId,
    part: Tensor<'g>,
    after: Vec<After>,
    so_far: Option<SoFar>,
}

/// Where the sum over the iterations is.
#[derive(Clone, Copy)]
enum SoFar {
    /// In the carried value of this number.
    Carried(usize),
    /// In the stacked value of this number, to be added up after the loop.
    Stacked(usize),
}

/// The product of two matrices in every iteration, of which the left one is transposed.
struct Product<'g> {
    outer: NodeId,
    factors: [Factor<'g>; 2],
    after: Vec<After>,
}

/// A matrix of every iteration.
enum Factor<'g> {
    /// Those of a sequence that is there.
    There(Tensor<'g>),
    /// Stacked, with the position among the stacked values.
    Stacked(Tensor<'g>, usize),
}

/// What iterations add up to.
pub(super) struct Sums<'g> {
    graph: &'g Graph,
    /// Whether it pays to leave products for after the loop.
    products_wait: bool,
    /// Whether it pays to leave sums.
    sums_wait: bool,
    sums: Vec<Sum<'g>>,
    products: Vec<Product<'g>>,
}

impl<'g> Sums<'g> {
    pub(super) fn new(graph: &'g Graph, scan: &Scan) -> Sums<'g> {
        Sums {
            graph,
            // What may not run is not worth room for all iterations.
            products_wait: scan.times > 1 && scan.count.is_none(),
            sums_wait: scan.times > 1,
            sums: Vec::new(),
            products: Vec::new(),
        }
    }

    /// Adds what has arrived at an outer tensor in an iteration.
    pub(super) fn add(&mut self, outer: NodeId, arrived: Vec<Tensor<'g>>) {
        for part in arrived {
            let (part, after) = self.unwound(part);
            match self.factors(part) {
                Some(factors) => self.products.push(Product {
                    outer,
                    factors: factors.map(|x| self.factor(x)),
                    after,
                }),
                None => self.sum(outer, part, after),
            }
        }
    }

    /// What is added up, and what is done with the sum.
    fn unwound(&self, part: Tensor<'g>) -> (Tensor<'g>, Vec<After>) {
        let (mut part, mut after) = (part, Vec::new());
        while self.sums_wait && self.graph.is_innermost(part.id) {
            let node = self.graph.node(part.id);
            let input = node.inputs.first().map(|&id| self.graph.tensor(id));
            let waits = match node.op {
                Op::Reshape | Op::Permute(_) => true,
                Op::Reduce(Reduction::Sum, _) => input.is_some_and(|x| x.shape().count() <= SMALL),
                _ => false,
            };
            let Some(input) = input.filter(|_| waits) else {
                break;
            };
            after.push((node.op, *node.shape));
            part = input;
        }
        after.reverse();
        (part, after)
    }

    /// The factors of a product that is worth waiting with: `[m, k]` and `[m, n]` of a product
    /// `[k, n]` that is not much smaller than they are.
    fn factors(&self, part: Tensor<'g>) -> Option<[Tensor<'g>; 2]> {
        let node = self.graph.node(part.id);
        let waits = self.products_wait && self.graph.is_innermost(part.id);
        if node.op != Op::MatMul || node.shape.rank() != 2 || !waits {
            return None;
        }
        let [left, right] = [0, 1].map(|k| self.graph.tensor(node.inputs[k]));
        let turned = self.graph.node(left.id);
        let left = match turned.op {
            Op::Permute(order) if *order == [1, 0] => self.graph.tensor(turned.inputs[0]),
            _ => left.t(),
        };
        let (m, k) = (right.shape().size(0), node.shape.size(0));
        let factors = [left, right];
        let differ = factors.iter().all(|x| self.graph.is_innermost(x.id));
        (differ && m <= 2 * k).then_some(factors)
    }

    fn factor(&self, x: Tensor<'g>) -> Factor<'g> {
        let node = self.graph.node(x.id);
        let is_there = self.graph.is_innermost(x.id);
        match node.op {
            Op::Argument(Argument::Element, _) if is_there => {
                Factor::There(self.graph.tensor(node.inputs[0]))
            }
            _ => Factor::Stacked(x, 0),
        }
    }

    /// Parts of which the same becomes are added up as one.
    fn sum(&mut self, outer: NodeId, part: Tensor<'g>, after: Vec<After>) {
        let ty = |x: Tensor<'g>| (x.dtype(), x.shape());
        let alike = |sum: &&mut Sum<'g>| {
            sum.outer == outer && sum.after == after && ty(sum.part) == ty(part)
        };
        match self.sums.iter_mut().find(alike) {
            Some(sum) => sum.part = mask::sum(sum.part, part),
            None => self.sums.push(Sum {
                outer,
                part,
                after,
                so_far: None,
            }),
        }
    }

    /// Makes iterations hand on and stack what is needed.
    pub(super) fn leave(mut self, initial: &mut Vec<Tensor<'g>>, left: &mut Left<'g>) -> Sums<'g> {
        for factor in self.products.iter_mut().flat_map(|p| &mut p.factors) {
            if let Factor::Stacked(x, number) = factor {
                let known = left.stacked.iter().position(|y| y.id == x.id);
                *number = known.unwrap_or(left.stacked.len());
                if known.is_none() {
                    left.stacked.push(*x);
                }
            }
        }
        for sum in &mut self.sums {
            let known = left.stacked.iter().position(|y| y.id == sum.part.id);
            sum.so_far = Some(known.map_or(SoFar::Carried(initial.len()), SoFar::Stacked));
            if known.is_none() {
                let zero = sum.part.number(0.0);
                initial.push(zero);
                let so_far = self.graph.argument(Argument::Carried, zero);
                left.carried.push(so_far + sum.part);
            }
        }
        self
    }

    /// The cotangents of outer tensors, after the loop.
    pub(super) fn totals(self, scanned: &Scanned<'g>) -> Vec<(NodeId, Tensor<'g>)> {
        let step = |x: Tensor<'g>, (op, shape): &After| {
            let (place, ty) = (self.graph.origin_of_node(x.id).place, (x.dtype(), *shape));
            let graph = self.graph;
            graph.apply("scan", &[x], place, |_| Ok((op.clone(), ty)))
        };
        let sums = self.sums.iter().filter_map(|sum| {
            let total = match sum.so_far? {
                SoFar::Carried(number) => scanned.carried[number],
                SoFar::Stacked(number) => scanned.stacked[number].sum(0),
            };
            Some((sum.outer, sum.after.iter().fold(total, step)))
        });
        let products = self.products.iter().map(|product| {
            let [a, b] = [0, 1].map(|k| rows(&product.factors[k], scanned));
            let total = a.t().matmul(b);
            (product.outer, product.after.iter().fold(total, step))
        });
        sums.chain(products).collect()
    }
}

/// The matrices of all iterations, one below the other.
fn rows<'g>(factor: &Factor<'g>, scanned: &Scanned<'g>) -> Tensor<'g> {
    let all = match factor {
        Factor::There(all) => *all,
        Factor::Stacked(_, number) => scanned.stacked[*number],
    };
    let shape = all.shape();
    let rows = shape.size(0) * shape.size(1);
    all.reshape_to([rows, shape.size(2)].into_iter().collect())
}
