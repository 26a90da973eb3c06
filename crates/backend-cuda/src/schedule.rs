//! In what order values are reduced. It follows from the space and its reduced axes alone, so that
//! a row program and a sweep, fused or not, give the same bits.

use backprop_core::{Axes, Shape};

/// Blocks that keep a large device busy.
const ENOUGH_BLOCKS: usize = 528;

/// How lanes share the points that become one value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Along {
    /// Lanes are neighbours among the reduced points: `lanes` of them take `width` points each in
    /// turn, then exchange their sums.
    Reduced { lanes: usize, width: usize },
    /// Lanes are neighbours among the kept points; `lanes` of them share one kept point.
    Kept { columns: usize, lanes: usize },
}

/// The order of a reduction of `reduced` points to each of `kept` values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Schedule {
    pub(crate) kept: usize,
    pub(crate) reduced: usize,
    pub(crate) along: Along,
    /// Points of a chunk. Sums of chunks are added up like those of lanes.
    pub(crate) chunk: usize,
}

/// Threads of a block that reduces.
pub(crate) const THREADS: usize = 256;

impl Schedule {
    pub(crate) fn new(space: Shape, axes: Axes) -> Schedule {
        let kept = space.without(axes).count();
        let reduced = space.filter(|axis| axes.contains(axis)).count();
        let last = (0..space.rank()).rev().find(|&axis| space.size(axis) > 1);
        let along_reduced = last.is_none_or(|axis| axes.contains(axis));
        match along_reduced {
            true => {
                let even = last.is_some_and(|axis| space.size(axis).is_multiple_of(4));
                Schedule::along_reduced(kept, reduced, if even { 4 } else { 1 })
            }
            false => Schedule::along_kept(kept, reduced),
        }
    }

    fn along_reduced(kept: usize, reduced: usize, width: usize) -> Schedule {
        let lanes = if reduced <= 512 { 32 } else { THREADS };
        let wanted = ENOUGH_BLOCKS / kept.max(1);
        let chunk = match reduced > 4096 && wanted > 1 {
            true => reduced.div_ceil(wanted).max(2048).next_multiple_of(4 * THREADS),
            false => reduced,
        };
        Schedule {
            kept,
            reduced,
            along: Along::Reduced { lanes, width },
            chunk,
        }
    }

    fn along_kept(kept: usize, reduced: usize) -> Schedule {
        let columns = kept.next_power_of_two().min(32);
        let lanes = THREADS / columns;
        let wanted = ENOUGH_BLOCKS / kept.div_ceil(columns);
        let chunk = match reduced > 64 * lanes && wanted > 1 {
            true => reduced.div_ceil(wanted).max(16 * lanes),
            false => reduced,
        };
        Schedule {
            kept,
            reduced,
            along: Along::Kept { columns, lanes },
            chunk,
        }
    }

    pub(crate) fn chunks(&self) -> usize {
        self.reduced.div_ceil(self.chunk.max(1)).max(1)
    }
}
