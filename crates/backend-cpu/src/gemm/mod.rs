//! Matrix products: `C = A B` for every transpose, stride, batch and number of threads.
//!
//! Everything is decided when a [`Gemm`] is prepared: whether operands are packed, how they are cut
//! into blocks and who computes what. A run only follows it, in scratch memory whose size is known
//! beforehand.
//!
//! # The order of a sum
//! K is cut into [`blocks`] of nearly equal length. Within a block an element of C is one chain of
//! fused multiply-adds in ascending k, started at zero; the blocks' sums are added in block order.
//! Where C is small and K long, the blocks form [`parts`] whose sums are added in order once more.
//! Both cuts depend on the shape alone. So an element has the same bits for any strides, threads
//! and panel heights, and at every level.

mod ahead;
mod gather;
mod inner;
mod kernel;
mod pack;
mod plan;
mod product;
mod run;
mod source;
mod vector;

#[cfg(test)]
mod tests;

pub(crate) use gather::{Gather, Gathered, Gathers, Runs};
pub(crate) use inner::{Inner, Left, Right, To};
pub(crate) use pack::{PackFn, Panel, block, packer};
pub(crate) use product::{Make, Product, make, sums_as, typed};
pub(crate) use run::{Call, Sink};
pub(crate) use source::{Number, Source};

use crate::Level;
use kernel::Tiles;
use plan::Space;
use vector::LineFn;

/// Elements from a row to the next, and from a column to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strides {
    pub(crate) row: isize,
    pub(crate) column: isize,
}

impl Strides {
    fn transposed(self) -> Self {
        Self {
            row: self.column,
            column: self.row,
        }
    }
}

/// An axis of the batch: its size, and elements of each operand per step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchAxis {
    pub(crate) size: usize,
    pub(crate) left: isize,
    pub(crate) right: isize,
}

/// What becomes of finished sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// They are stored in C.
    Store,
    /// They are handed to the caller block by block, while they are in cache.
    Hand,
}

/// A product to prepare: for each element of the batch `[m, k] x [k, n] -> [m, n]`, C dense in
/// row-major order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) batch: Vec<BatchAxis>,
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    /// Of no account where the operand is gathered; so for the right one.
    pub(crate) left: Strides,
    pub(crate) right: Strides,
    pub(crate) finish: Finish,
    pub(crate) level: Level,
    /// The most workers a run will have.
    pub(crate) threads: usize,
}

/// A prepared product of matrices of `E`, summed in `T`.
#[derive(Debug)]
pub(crate) struct Gemm<T, E> {
    problem: Problem,
    order: Order,
    /// Blocks of K.
    blocks: usize,
    /// Runs of blocks that are summed apart.
    parts: usize,
    /// Workers among which the work is divided; a run with fewer is right as well.
    workers: usize,
    /// Cells along the rows and along the columns of C.
    grid: (usize, usize),
    route: Route<T, E>,
    gathers: Gathers<E, T>,
    pack: PackFn<E, T>,
    add: unsafe fn(*mut T, *const T, usize),
    space: Space,
}

/// Which operand stands on the left in the prepared form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    AsGiven,
    /// `C^T = B^T A^T`, so that the vector of a matrix-vector product is on the left.
    Swapped,
}

#[derive(Debug)]
enum Route<T, E> {
    Vector(LineFn<E, T>),
    Tiles(Box<Blocking<T>>),
}

/// How a task is cut.
#[derive(Debug)]
struct Blocking<T> {
    tiles: Tiles<T>,
    /// Rows of the tallest tile.
    tallest: usize,
    /// Elements in a register.
    lanes: usize,
    left: Access,
    right: Access,
    /// Most rows, and most columns, whose sums are completed together.
    height: usize,
    width: usize,
    /// Panels of B that are packed together.
    group: usize,
}

/// How the kernel gets at an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    InPlace,
    Packed,
    /// Packed over all of K, once for all columns, and for all elements of a batch that share it.
    Held,
}

impl<T: Number, E: Source<T>> Gemm<T, E> {
    /// The bytes of scratch memory that a run needs.
    pub(crate) fn scratch(&self) -> usize {
        self.space.total() * size_of::<T>()
    }

    /// How many workers the product keeps busy.
    pub(crate) fn workers(&self) -> usize {
        self.workers
    }
}
