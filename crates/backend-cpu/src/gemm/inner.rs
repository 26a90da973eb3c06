//! Products of matrices that lie in cache, for kernels that make and use them block by block.
//!
//! Nothing is packed, cut or shared out here: K is one block, the sums are one worker's.

use super::Number;
use super::kernel::{Onto, SPAN, Tile, Tiles, tile_size};
use crate::Level;
use crate::pool::Shares;

/// The kernels for such products.
#[derive(Debug)]
pub(crate) struct Inner<T> {
    tiles: Tiles<T>,
    tallest: usize,
    lanes: usize,
}

/// The left matrix. Strides count elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<T> {
    pub(crate) at: *const T,
    /// From a row to the next.
    pub(crate) row: usize,
    /// From a column to the next.
    pub(crate) step: usize,
}

/// The right matrix, in panels of [`Inner::panel`] columns; the last one may have fewer, but its rows
/// are readable up to a multiple of [`Inner::lanes`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Right<T> {
    pub(crate) at: *const T,
    /// From a row to the next.
    pub(crate) step: usize,
    /// From a panel to the next.
    pub(crate) panel: usize,
}

/// Where the product goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct To<T> {
    pub(crate) at: *mut T,
    /// From a row to the next.
    pub(crate) row: usize,
}

impl<T: Number> Inner<T> {
    pub(crate) fn new(level: Level) -> Self {
        let (tallest, lanes) = tile_size::<T>(level);
        Self {
            tiles: Tiles::strided(level),
            tallest,
            lanes,
        }
    }

    /// Elements in a register.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// Columns of a panel: a power of two, at most 32.
    pub(crate) fn panel(&self) -> usize {
        SPAN * self.lanes
    }

    /// `C = A B` of sizes m, k and n.
    ///
    /// # Safety
    /// The matrices must have these sizes, C touched by no one else.
    pub(crate) unsafe fn set(&self, sizes: [usize; 3], a: Left<T>, b: Right<T>, c: To<T>) {
        // SAFETY: the same contract.
        unsafe { self.multiply(sizes, (a, b), c, Onto::Nothing) }
    }

    /// `C = C + A B` of sizes m, k and n.
    ///
    /// # Safety
    /// As for [`Inner::set`].
    pub(crate) unsafe fn add(&self, sizes: [usize; 3], a: Left<T>, b: Right<T>, c: To<T>) {
        // SAFETY: the same contract.
        unsafe { self.multiply(sizes, (a, b), c, Onto::Sum) }
    }

    unsafe fn multiply(
        &self,
        [m, k, n]: [usize; 3],
        (a, b): (Left<T>, Right<T>),
        c: To<T>,
        onto: Onto,
    ) {
        let strips = m.div_ceil(self.tallest);
        let parts = Shares::of_at_most(m, self.tallest);
        for (i, first) in (0..n).step_by(self.panel()).enumerate() {
            let columns = self.panel().min(n - first);
            let tiles = if columns > self.lanes {
                &self.tiles.wide
            } else {
                &self.tiles.narrow
            };
            for rows in (0..strips).map(|strip| parts.part(strip)) {
                let tile = Tile {
                    depth: k,
                    a: a.at.wrapping_add(rows.start * a.row),
                    a_row: a.row as isize,
                    a_step: a.step as isize,
                    b: b.at.wrapping_add(i * b.panel),
                    b_step: b.step as isize,
                    c: c.at.wrapping_add(rows.start * c.row + first),
                    c_row: c.row,
                    columns,
                    onto,
                };
                // SAFETY: the tile lies inside of C, its operands inside of A and B.
                unsafe { tiles[rows.len() - 1](&tile) };
            }
        }
    }
}
