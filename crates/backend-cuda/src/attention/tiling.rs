//! How large tiles are.

use backprop_core::DType;

use crate::lowered::MULTIPROCESSORS;

/// Neighbouring threads that share a row.
pub(super) const LANES: usize = 16;

/// Blocks that keep a large device busy.
const ENOUGH_BLOCKS: usize = MULTIPROCESSORS;

/// Bytes of shared memory that let some blocks share a multiprocessor, and those that there are.
const SHARED: [usize; 2] = [100 << 10, 200 << 10];

/// The rows that a block owns, and the rows of a tile that it goes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tiling {
    pub(super) own: usize,
    pub(super) other: usize,
}

impl Tiling {
    /// The largest tiles that leave enough blocks, of those that fit. `blocks` says how many there
    /// are if each owns so many rows, `shared` how many bytes a block takes, and `sums` how many sums
    /// of a row each thread of its lanes keeps.
    pub(super) fn new(
        kept_in: DType,
        longest: usize,
        sums: usize,
        blocks: &dyn Fn(usize) -> usize,
        shared: &dyn Fn(Tiling) -> usize,
    ) -> Option<Tiling> {
        let registers = 96 / (kept_in.size() / 4);
        let largest = longest.next_multiple_of(LANES);
        let all = [64, 32, 16].into_iter().flat_map(|own| {
            [64, 32, 16]
                .into_iter()
                .map(move |other| Tiling { own, other })
        });
        let fitting: Vec<Tiling> = all
            .filter(|tiling| tiling.own == 16 || blocks(tiling.own) >= ENOUGH_BLOCKS)
            .filter(|tiling| tiling.other <= largest.max(LANES).next_power_of_two())
            .filter(|tiling| tiling.down_each() * sums <= registers)
            .collect();
        let fits = |bytes| fitting.iter().find(|&&tiling| shared(tiling) <= bytes);
        SHARED.into_iter().find_map(fits).copied()
    }

    pub(super) fn threads(&self) -> usize {
        LANES * self.down()
    }

    /// Rows that are next to each other in the block.
    pub(super) fn down(&self) -> usize {
        if self.own == 64 { 16 } else { 8 }
    }

    /// Own rows of a thread, that many apart.
    pub(super) fn down_each(&self) -> usize {
        self.own / self.down()
    }

    /// Rows of the other tile that are a thread's, as many apart as there are lanes.
    pub(super) fn across_each(&self) -> usize {
        self.other / LANES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(heads: usize, queries: usize, bytes_of_row: usize) -> Option<Tiling> {
        let blocks = |own: usize| heads * queries.div_ceil(own);
        let shared = |tiling: Tiling| (tiling.own + tiling.other) * bytes_of_row;
        Tiling::new(DType::F32, queries, 8, &blocks, &shared)
    }

    #[test]
    fn small_heads_make_more_blocks_and_wide_ones_smaller_tiles() {
        let is = |own, other| Some(Tiling { own, other });
        assert_eq!(chosen(256, 1024, 256), is(64, 64));
        assert_eq!(chosen(48, 64, 256), is(16, 64), "too few blocks");
        assert_eq!(chosen(1, 17, 256), is(16, 32), "few rows");
        assert_eq!(chosen(256, 1024, 1024), is(64, 32), "wide rows");
        assert_eq!(
            chosen(256, 1024, 6 << 10),
            is(16, 16),
            "rows that fill a multiprocessor"
        );
        assert_eq!(chosen(256, 1024, 7 << 10), None, "too wide");
    }
}
