//! Deciding how a product is computed. Cuts that shape the order of a sum depend on the shape
//! alone; all else is free to follow the machine.

use std::ops::Range;

use super::kernel::{MAX_ROWS, SPAN, TileFn, Tiles, tile_size};
use super::pack::packer;
use super::vector::{adder, by_columns, by_rows};
use super::{
    Access, BatchAxis, Blocking, Finish, Gathers, Gemm, Number, Order, Problem, Route, Source,
    Strides,
};
use crate::memory::LINE;
use crate::pool::{Shares, share};

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
/// Cells for each worker where they cost nothing, and columns of one at least.
const CELLS: usize = 4;
const FEW_COLUMNS: usize = 64;
/// Bytes of an A that stays in the first-level cache as it is.
const FIRST_BYTES: usize = 16 << 10;
/// Bytes of a packed block of A, where not all of it is held.
const LEFT_BYTES: usize = 256 << 10;
/// Bytes of packed rows of A that are multiplied with a group of panels before the next ones.
const STACK_BYTES: usize = 128 << 10;
/// Bytes of packed A that is held while the columns of B go by.
const HELD_BYTES: usize = 4 << 20;
/// The same for an A that all elements of a batch share.
const SHARED_BYTES: usize = 16 << 20;
/// Bytes of the panels of B that are packed together, and wait in the second-level cache.
const RIGHT_BYTES: usize = 192 << 10;
/// Bytes of a row of them at least: enough that long pieces of B's rows are read at a time, and that
/// sums are handed over in long pieces.
const GROUP_BYTES: usize = 512;
/// Bytes of a B that is read in place: lines of its panels do not compete for the first-level cache.
const NEAR_BYTES: usize = 32 << 10;
/// Rows of A that do not repay a copy of such a B.
const FEW_ROWS: usize = 192;
/// Bytes of a B that waits in the second-level cache, and strips of A that do not repay a copy of it.
const MIDDLE_BYTES: usize = 512 << 10;
const FEW_STRIPS: usize = 4;
/// Strips of A that do not repay a copy of any B.
const FEWEST_STRIPS: usize = 2;
/// Panels of B that do not repay a copy of an A whose rows are contiguous.
const FEW_PANELS: usize = 12;
/// Rows that many bytes apart, or a multiple, compete for the same lines of a cache.
const CLASH: usize = 4 << 10;
/// Bytes of sums to be handed over while in cache.
const TILE_BYTES: usize = 128 << 10;

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

/// The layout of scratch memory, in elements: sums of parts, then a slot for each worker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Space {
    pub(super) partial: usize,
    /// Packed columns of B, or spare sums of a vector.
    pub(super) right: usize,
    /// Packed rows of A, or the vector.
    pub(super) left: usize,
    /// Sums to be handed over.
    pub(super) tile: usize,
    pub(super) slots: usize,
}

impl Space {
    /// Elements of a slot.
    pub(super) fn slot(&self) -> usize {
        self.right + self.left + self.tile
    }

    /// Elements in all.
    pub(super) fn total(&self) -> usize {
        self.partial + self.slots * self.slot()
    }
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
        Self::gathering(problem, Gathers::default())
    }

    /// Prepares a product of operands of which some are gathered.
    pub(crate) fn gathering(problem: &Problem, gathers: Gathers<E, T>) -> Self {
        let strided = gathers.left.is_none() && gathers.right.is_none();
        let swapped = problem.swapped();
        let (problem, order) = if strided && problem.n == 1 && swapped.is_vector() {
            (swapped, Order::Swapped)
        } else {
            (problem.clone(), Order::AsGiven)
        };
        let parts = parts(&problem);
        let is_vector = strided && problem.is_vector();
        let grain = if is_vector { VECTOR_GRAIN } else { GRAIN };
        let workers = (problem.work() / grain).clamp(1, problem.threads.max(1));
        let (tallest, lanes) = tile_size::<T>(problem.level);
        let units = problem.units() * parts;
        let row_by_row = problem.right.column == 1;
        // Whole units are shared where they come out even.
        let grid = if units.is_multiple_of(workers) || units >= 4 * workers {
            (1, 1)
        } else if is_vector && !row_by_row {
            // Nothing is packed, and columns are read from end to end: some more cells are free.
            (1, (CELLS * workers).min(problem.n.div_ceil(FEW_COLUMNS)))
        } else {
            grid((problem.m, problem.n), (tallest, SPAN * lanes), workers)
        };
        let route = if is_vector {
            let line = if row_by_row { by_rows } else { by_columns };
            Route::Vector(line(problem.level))
        } else {
            Route::Tiles(Box::new(Blocking::new(&problem, (grid, parts), &gathers)))
        };
        let mut gemm = Self {
            order,
            blocks: blocks(problem.k),
            parts,
            workers,
            grid,
            route,
            gathers,
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
        let (right, left, sums) = match &self.route {
            Route::Vector(_) => (problem.n, problem.k, problem.n),
            Route::Tiles(cut) => {
                let left = match cut.left {
                    Access::InPlace => 0,
                    Access::Packed => cut.height * depth,
                    Access::Held => problem.m.div_ceil(self.grid.0) * problem.k,
                };
                // A gathered panel may be turned on its way.
                let spare = usize::from(self.gathers.right.is_some());
                (
                    (cut.group + spare) * cut.panel() * depth,
                    left,
                    cut.height * cut.width,
                )
            }
        };
        Space {
            partial: if self.parts > 1 {
                line(self.parts * self.size())
            } else {
                0
            },
            right: line(right),
            left: line(left),
            tile: if hands { line(sums) } else { 0 },
            slots: if self.workers == 1 {
                1
            } else {
                problem.threads
            },
        }
    }

    /// The columns of a cell: whole panels, and at the end what is left over.
    pub(super) fn columns(&self, cell: usize) -> Range<usize> {
        let (n, across) = (self.problem.n, self.grid.1);
        let panel = match &self.route {
            Route::Vector(_) => LINE / size_of::<T>(),
            Route::Tiles(cut) => cut.panel(),
        };
        let panels = share(n.div_ceil(panel), cell, across);
        (panels.start * panel).min(n)..(panels.end * panel).min(n)
    }

    /// Elements of C, batch included.
    pub(super) fn size(&self) -> usize {
        self.problem.units() * self.problem.m * self.problem.n
    }
}

impl<T: Number> Blocking<T> {
    fn new<E: Source<T>>(
        problem: &Problem,
        (grid, parts): ((usize, usize), usize),
        gathers: &Gathers<E, T>,
    ) -> Self {
        let (tallest, lanes) = tile_size::<T>(problem.level);
        let (m, k, n) = (problem.m, problem.k, problem.n);
        let (size, panel) = (size_of::<T>(), SPAN * lanes);
        let rows = m.div_ceil(grid.0);
        let columns = n.div_ceil(panel).div_ceil(grid.1) * panel;
        let bytes = problem.right.row.unsigned_abs() * k * size;
        let right_lies = E::IS_WIDE && gathers.right.is_none();
        let repays = rows > few_rows(bytes, tallest);
        let right = if right_lies && problem.right.column == 1 && !repays {
            Access::InPlace
        } else {
            Access::Packed
        };
        let left_lies = E::IS_WIDE && gathers.left.is_none();
        let shared = problem.units() > 1 && problem.batch.iter().all(|axis| axis.left == 0);
        let most = if shared { SHARED_BYTES } else { HELD_BYTES };
        let left = if left_lies && is_left_as_it_is::<T>(problem, rows, columns.div_ceil(panel)) {
            Access::InPlace
        } else if parts == 1 && rows * k * size <= most {
            Access::Held
        } else {
            Access::Packed
        };
        let row_bytes = k.div_ceil(blocks(k)).max(1) * size;
        let least = (GROUP_BYTES / (panel * size)).max(1);
        let group = (RIGHT_BYTES / (row_bytes * panel)).max(least);
        let panels = columns.div_ceil(panel).max(1);
        let group = panels.div_ceil(panels.div_ceil(group));
        let height = match (left, problem.finish) {
            (Access::Packed, _) => rows.min((LEFT_BYTES / row_bytes).max(tallest)),
            (_, Finish::Store) => rows,
            (_, Finish::Hand) => rows.min((TILE_BYTES / (group * panel * size)).max(tallest)),
        };
        // Packed rows that are not held are used with as many columns as there are.
        let width = match left {
            Access::Packed => columns,
            Access::InPlace | Access::Held => group * panel,
        };
        let width = match problem.finish {
            Finish::Store => width,
            Finish::Hand => (TILE_BYTES / (height * size) / panel * panel).max(panel),
        };
        let width = width.min(columns);
        Self {
            tiles: match left {
                Access::InPlace => Tiles::strided(problem.level),
                Access::Packed | Access::Held => Tiles::packed(problem.level),
            },
            tallest,
            lanes,
            left,
            right,
            height,
            width,
            group: group.min(width / panel),
        }
    }

    /// Columns of a wide panel.
    pub(super) fn panel(&self) -> usize {
        SPAN * self.lanes
    }

    /// The kernels for a panel of so many columns.
    pub(super) fn tiles(&self, columns: usize) -> &[TileFn<T>; MAX_ROWS] {
        if columns > self.lanes {
            &self.tiles.wide
        } else {
            &self.tiles.narrow
        }
    }

    /// Rows cut into strips of nearly equal height, none taller than a tile.
    pub(super) fn strips(&self, rows: usize) -> Shares {
        Shares::of_at_most(rows, self.tallest)
    }

    /// The numbers of strips which stay in the second-level cache, packed, while panels go by.
    pub(super) fn stacks(&self, rows: usize, depth: usize) -> impl Iterator<Item = Range<usize>> {
        let strips = rows.div_ceil(self.tallest);
        let bytes = self.tallest * depth * size_of::<T>();
        let stacks = strips.div_ceil((STACK_BYTES / bytes.max(1)).max(1));
        (0..stacks).map(move |stack| share(strips, stack, stacks))
    }

    /// The same strips put together where they have the same height: the taller ones, and the
    /// others.
    pub(super) fn even_strips(&self, rows: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
        let Shares { base, longer } = self.strips(rows);
        let end = longer * (base + 1);
        [(0..end, base + 1), (end..rows, base)]
            .into_iter()
            .filter(|(rows, _)| !rows.is_empty())
    }
}

/// The rows of A, in strips of so many, that do not repay a copy of a B of so many bytes.
fn few_rows(bytes: usize, strip: usize) -> usize {
    if bytes <= NEAR_BYTES {
        FEW_ROWS
    } else if bytes <= MIDDLE_BYTES {
        FEW_STRIPS * strip
    } else {
        FEWEST_STRIPS * strip
    }
}

/// Whether so many panels of B do not repay a copy of so many rows of A.
fn is_left_as_it_is<T>(problem: &Problem, rows: usize, panels: usize) -> bool {
    let Strides { row, column } = problem.left;
    let bytes = rows * problem.k * size_of::<T>();
    let near = row.unsigned_abs().min(column.unsigned_abs()) <= 1 && bytes <= LEFT_BYTES;
    let few = panels <= 3 || bytes <= FIRST_BYTES;
    let clashes = (row.unsigned_abs() * size_of::<T>()).is_multiple_of(CLASH);
    few && near || column == 1 && !clashes && panels <= FEW_PANELS
}

/// Cells along rows and columns that keep all workers equally busy: a worker multiplies its rows
/// with its panels, and packs both.
fn grid(
    (m, n): (usize, usize),
    (tallest, panel): (usize, usize),
    workers: usize,
) -> (usize, usize) {
    let cost = |&down: &usize| {
        let rows = m.div_ceil(down).max(tallest / 2);
        let panels = n.div_ceil(panel).div_ceil(workers / down);
        2 * rows * panels + rows + panels * panel
    };
    let down = (1..=workers.min(m)).min_by_key(cost).unwrap_or(1);
    (down, workers / down)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_suit_the_shape() {
        for (m, n, workers, want) in [
            (128, 512, 2, (1, 2)),
            (784, 512, 2, (2, 1)),
            (8, 2048, 2, (1, 2)),
            (128, 512, 16, (2, 8)),
            (1000, 10, 4, (4, 1)),
            (1, 1, 4, (1, 4)),
        ] {
            assert_eq!(grid((m, n), (14, 32), workers), want, "{m} x {n}");
        }
    }
}
