//! What stands around a tensor: one number, or its own elements over again.

use crate::graph::{Problem, bad_attribute};
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

/// What [`pad`](Tensor::pad) puts around a tensor. A number means itself.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Padding {
    /// One number everywhere.
    Constant(f64),
    /// The elements next to the border, mirrored at it: `c b | a b c | b a`. Fewer than the axis has.
    Reflect,
    /// The element at the border: `a a | a b c | c c`.
    Replicate,
    /// The elements of the other end: `b c | a b c | a b`. At most as many as the axis has.
    Circular,
}

impl From<f64> for Padding {
    fn from(value: f64) -> Padding {
        Padding::Constant(value)
    }
}

impl Padding {
    /// `x` with `low` elements before it and `high` after along `axis`, all of them its own: slices
    /// put together, so that the vjp is sums of slices.
    pub(super) fn along<'g>(
        self,
        x: Tensor<'g>,
        axis: usize,
        [low, high]: [usize; 2],
    ) -> Result<Tensor<'g>, Problem> {
        if [low, high] == [0, 0] {
            return Ok(x);
        }
        let (size, at) = (x.shape().size(axis), axis as i32);
        let most = match self {
            Padding::Circular => size,
            Padding::Replicate if size > 0 => usize::MAX,
            _ => size.saturating_sub(1),
        };
        if low.max(high) > most {
            let what = format!("{self:?}: {low} before and {high} after axis {axis} of {size}");
            return Err(bad_attribute("pad", what));
        }
        let cut = |start: usize, end: usize| x.narrow(at, start, end);
        let repeated =
            |edge: Tensor<'g>, count: usize| edge.broadcast_to(x.shape().with(axis, count));
        let [before, after] = match self {
            Padding::Reflect => [
                cut(1, 1 + low).flip(at),
                cut(size - 1 - high, size - 1).flip(at),
            ],
            Padding::Circular => [cut(size - low, size), cut(0, high)],
            _ => [
                repeated(cut(0, 1), low),
                repeated(cut(size - 1, size), high),
            ],
        };
        let parts = [(before, low), (x, size), (after, high)];
        let there = parts.into_iter().filter(|&(_, size)| size > 0);
        let there: Vec<Tensor<'g>> = there.map(|(part, _)| part).collect();
        Ok(x.graph.concat(&there, at))
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let matrix = || reals(&[&[3, 4]]);
    entries! {
        pad_reflect matrix() => |x| x[0].pad([0, 1], [2, 3], Padding::Reflect);
        pad_replicate matrix() => |x| x[0].pad([0, 1], [5, 2], Padding::Replicate);
        pad_circular matrix() => |x| x[0].pad([3, 1], [0, 2], Padding::Circular);
    }
}
