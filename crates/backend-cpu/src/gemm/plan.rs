//! Deciding how a product is computed. Cuts that shape the order of a sum depend on the shape alone; all else
//! is free to follow the machine.

use super::kernel::{SPAN, Tiles, tile_size};
use super::pack::packer;
use super::vector::{adder, by_columns, by_rows};
use super::{
    Access, BatchAxis, Blocking, Finish, Gemm, Number, Order, Problem, Route, Sharing, Source,
};

/// The longest block of K: a panel of B over it fits the first-level cache, about.
const BLOCK: usize = 384;
/// Blocks in a part, at least.
const PART: usize = 4;
/// The most parts.
const PARTS: usize = 16;
/// The largest C whose K is cut into parts: a larger one has enough rows and columns to share.
const SMALL: usize = 1 << 15;
/// Multiply-adds that are worth a worker: about two microseconds.
const GRAIN: usize = 1 << 17;
/// The same for matrix times vector, where memory sets the pace.
const VECTOR_GRAIN: usize = 1 << 15;
/// Bytes of a packed block of A: half of a second-level cache.
const LEFT_BYTES: usize = 512 << 10;
/// Bytes of a block of sums to be handed over while in cache.
const TILE_BYTES: usize = 512 << 10;
/// Bytes of B packed at a time.
const RIGHT_BYTES: usize = 8 << 20;
/// A cache line, in bytes. Shares of the scratch memory start at multiples.
const LINE: usize = 64;

/// The number of blocks into which K is cut.
pub(super) fn blocks(k: usize) -> usize {
    k.div_ceil(BLOCK).max(1)
}

/// The number of parts into which the blocks of K are cut: a power of two.
pub(super) fn parts(problem: &Problem) -> usize {
    if problem.units() * problem.m * problem.n > SMALL {
        return 1;
    }
    let most = (blocks(problem.k) / PART).clamp(1, PARTS);
    1 << most.ilog2()
}

/// Where things lie in scratch memory, in elements. Each slot serves one worker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Space {
    /// Packed columns of B: shared, or in each slot where workers divide units.
    pub(super) right: usize,
    /// Packed rows of A, or the vector.
    pub(super) left: usize,
    /// Sums to be handed over.
    pub(super) tile: usize,
    /// Sums of the parts.
    pub(super) partial: usize,
    pub(super) slots: usize,
    pub(super) total: usize,
}

impl Problem {
    /// Elements of the batch.
    pub(super) fn units(&self) -> usize {
        self.batch.iter().map(|axis| axis.size).product()
    }

    /// Multiply-adds in all.
    fn work(&self) -> usize {
        [self.m, self.k, self.n]
            .iter()
            .fold(self.units(), |work, &size| work.saturating_mul(size))
    }

    /// Whether the product is a vector on the left times a matrix that can be read where it lies.
    fn is_vector(&self) -> bool {
        self.m == 1 && self.k > 0 && (self.right.column == 1 || self.right.row == 1)
    }

    /// `C^T = B^T A^T`.
    fn swapped(&self) -> Self {
        let turn = |axis: &BatchAxis| BatchAxis {
            size: axis.size,
            left: axis.right,
            right: axis.left,
        };
        Self {
            batch: self.batch.iter().map(turn).collect(),
            m: self.n,
            n: self.m,
            left: self.right.transposed(),
            right: self.left.transposed(),
            ..self.clone()
        }
    }
}

impl<T: Number, E: Source<T>> Gemm<T, E> {
    /// Prepares a product.
    pub(crate) fn new(problem: &Problem) -> Self {
        let swapped = problem.swapped();
        let (problem, order) = if problem.n == 1 && swapped.is_vector() {
            (swapped, Order::Swapped)
        } else {
            (problem.clone(), Order::AsGiven)
        };
        let parts = parts(&problem);
        let grain = if problem.is_vector() {
            VECTOR_GRAIN
        } else {
            GRAIN
        };
        let workers = (problem.work() / grain).clamp(1, problem.threads.max(1));
        let sharing = sharing(&problem, parts, workers);
        let cells = match sharing {
            Sharing::Units => 1,
            Sharing::Cells => workers,
        };
        let route = if problem.is_vector() {
            let rows = problem.right.column == 1;
            let line = if rows { by_rows } else { by_columns };
            Route::Vector(line(problem.level))
        } else {
            Route::Tiles(Box::new(Blocking::new::<E>(&problem, cells)))
        };
        let mut gemm = Self {
            order,
            blocks: blocks(problem.k),
            parts,
            workers,
            sharing,
            route,
            pack: packer(problem.level),
            add: adder(problem.level),
            space: Space::default(),
            problem,
        };
        gemm.space = gemm.space();
        gemm
    }

    fn space(&self) -> Space {
        let problem = &self.problem;
        let line = |elements: usize| elements.next_multiple_of(LINE / size_of::<T>());
        let depth = problem.k.div_ceil(self.blocks);
        let hands = problem.finish == Finish::Hand && self.parts == 1;
        let (right, left, tile) = match &self.route {
            // The vector, and beside the sums to be handed over those of one block.
            Route::Vector(_) => (0, problem.k, 2 * problem.n),
            Route::Tiles(cut) => {
                let left = match cut.left {
                    Access::InPlace => 0,
                    Access::Packed => cut.height * depth,
                };
                let columns = cut.width.div_ceil(cut.grid.1) * cut.panel();
                let tile = if hands { cut.height * columns } else { 0 };
                (
                    self.longest() * cut.packed_columns(0..problem.n),
                    left,
                    tile,
                )
            }
        };
        let mut space = Space {
            right: line(right),
            left: line(left),
            tile: line(tile),
            partial: if self.parts > 1 {
                line(self.parts * self.size())
            } else {
                0
            },
            slots: if self.workers == 1 {
                1
            } else {
                problem.threads
            },
            total: 0,
        };
        let rights = match self.sharing {
            Sharing::Units => space.slots,
            Sharing::Cells => 1,
        };
        space.total =
            space.partial + rights * space.right + space.slots * (space.left + space.tile);
        space
    }

    /// Elements of C, batch included.
    pub(super) fn size(&self) -> usize {
        self.problem.units() * self.problem.m * self.problem.n
    }

    /// Steps along K of the longest part.
    fn longest(&self) -> usize {
        self.blocks.div_ceil(self.parts) * self.problem.k.div_ceil(self.blocks)
    }
}

/// Whole units are shared where they come out even, or where a unit is too small to be divided.
fn sharing(problem: &Problem, parts: usize, workers: usize) -> Sharing {
    let units = problem.units() * parts;
    let even = units.is_multiple_of(workers) || units >= 4 * workers;
    let divisible = problem.work() / units >= workers * GRAIN;
    if workers == 1 || even || (!divisible && units >= workers) {
        Sharing::Units
    } else {
        Sharing::Cells
    }
}

impl<T: Number> Blocking<T> {
    fn new<E: Source<T>>(problem: &Problem, workers: usize) -> Self {
        let (tallest, lanes) = tile_size::<T>(problem.level);
        let (m, k, n) = (problem.m, problem.k, problem.n);
        let size = size_of::<T>();
        let panels = n.div_ceil(SPAN * lanes);
        // A few rows of A do not repay a copy of B, nor does a B that is at hand anyway.
        let few_rows = m <= 2 * tallest || (m <= 64 && k * n * size <= 96 << 10);
        let right = if E::IS_WIDE && problem.right.column == 1 && few_rows {
            Access::InPlace
        } else {
            Access::Packed
        };
        // Nor do a few columns of B repay a copy of A.
        let left = if E::IS_WIDE && panels <= 3 {
            Access::InPlace
        } else {
            Access::Packed
        };
        let tiles = match left {
            Access::InPlace => Tiles::strided(problem.level),
            Access::Packed => Tiles::packed(problem.level),
        };
        let chunks = (panels * SPAN * lanes * k * size)
            .div_ceil(RIGHT_BYTES)
            .max(1);
        let width = panels.div_ceil(chunks).max(8).min(panels);
        let grid = grid(m, width, tallest, workers);
        let columns = width.div_ceil(grid.1) * SPAN * lanes;
        let depth = k.div_ceil(blocks(k)).max(1);
        let by_tile = match problem.finish {
            Finish::Store => usize::MAX,
            Finish::Hand => TILE_BYTES / (columns * size),
        };
        let height = (LEFT_BYTES / (depth * size)).min(by_tile).max(tallest);
        Self {
            tiles,
            tallest,
            lanes,
            left,
            right,
            height: height.min(m.div_ceil(grid.0)),
            width,
            grid,
        }
    }

    /// Columns of a wide panel.
    pub(super) fn panel(&self) -> usize {
        SPAN * self.lanes
    }

    /// Columns, zeros included, that are packed of a range of columns starting with a panel.
    pub(super) fn packed_columns(&self, columns: std::ops::Range<usize>) -> usize {
        let most = self.width * self.panel();
        match self.right {
            Access::Packed => columns.len().min(most).next_multiple_of(self.lanes),
            Access::InPlace => (columns.len() % self.panel()).next_multiple_of(self.lanes),
        }
    }
}

/// Cells along rows and columns that keep all workers equally busy. What a worker packs of A for itself counts
/// as well, so among equals there are more cells along the rows.
fn grid(m: usize, panels: usize, tallest: usize, workers: usize) -> (usize, usize) {
    let cost = |&down: &usize| {
        let across = workers / down;
        let rows = m.div_ceil(down).max(tallest / 2);
        rows * (4 * panels.div_ceil(across) + 1)
    };
    let down = (1..=workers.min(m)).rev().min_by_key(cost).unwrap_or(1);
    (down, workers / down)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_suit_the_shape() {
        for (m, panels, workers, want) in [
            (128, 16, 2, (2, 1)),
            (8, 64, 2, (1, 2)),
            (784, 16, 2, (2, 1)),
            (128, 16, 16, (16, 1)),
            (1000, 1, 4, (4, 1)),
            (1, 1, 4, (1, 4)),
        ] {
            assert_eq!(
                grid(m, panels, 14, workers),
                want,
                "{m} rows, {panels} panels"
            );
        }
    }
}
