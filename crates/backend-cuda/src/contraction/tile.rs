//! How a product is cut into blocks. It follows from the sizes and the type of the sums alone.

use backprop_core::DType;

/// Multiprocessors of the device that shapes are chosen for.
const MULTIPROCESSORS: usize = 132;
/// Fused multiply-adds of floats in a cycle of a multiprocessor.
const PER_CYCLE: usize = 128;
/// Cycles until what is loaded is there, and until a second launch has begun.
const LOAD: usize = 800;
const LAUNCH: usize = 4000;

/// Steps of `k` between two barriers, in each slice.
pub(super) const STEP: usize = 16;

/// The sizes of a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
}

/// What a block and a thread of it compute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tile {
    pub(super) m: usize,
    pub(super) n: usize,
    /// Rows and columns of a thread.
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Groups of threads that each take a part of `k`.
    pub(super) slices: usize,
    /// Blocks that each take a part of `k`.
    pub(super) splits: usize,
}

/// Tiles of blocks and threads, and the percentage of the peak that a busy multiprocessor reaches:
/// the more a thread has of its own, the less it has to fetch.
const SHAPES: [([usize; 4], usize); 13] = [
    ([128, 128, 8, 8], 82),
    ([128, 64, 8, 8], 80),
    ([64, 128, 8, 8], 80),
    ([64, 64, 8, 8], 78),
    ([64, 64, 4, 8], 62),
    ([32, 64, 4, 8], 60),
    ([64, 32, 8, 4], 60),
    ([32, 32, 4, 4], 45),
    ([32, 16, 4, 4], 42),
    ([16, 32, 4, 4], 42),
    ([16, 16, 4, 2], 28),
    ([16, 16, 2, 2], 22),
    ([16, 8, 2, 2], 20),
];

/// Shared memory of a block.
const SHARED: usize = 200 << 10;

impl Tile {
    pub(super) fn new(sizes: Sizes, accumulator: DType) -> Tile {
        let size = accumulator.size();
        let mut best = Tile::of([32, 32, 4, 4], 1, 1);
        let mut least = usize::MAX;
        for (shape, percent) in SHAPES {
            if size > 4 && shape[2] * shape[3] > 16 {
                continue;
            }
            for slices in [1, 2, 4, 8, 16] {
                let tile = Tile::of(shape, slices, 1);
                if !tile.fits(size) || (slices > 1 && slices * STEP > sizes.k.next_multiple_of(STEP)) {
                    continue;
                }
                for splits in tile.splits(sizes) {
                    let tile = Tile { splits, ..tile };
                    let cycles = tile.cycles(sizes, percent);
                    if cycles < least {
                        (best, least) = (tile, cycles);
                    }
                }
            }
        }
        best
    }

    fn of([m, n, rows, columns]: [usize; 4], slices: usize, splits: usize) -> Tile {
        Tile {
            m,
            n,
            rows,
            columns,
            slices,
            splits,
        }
    }

    /// Numbers of blocks along `k` that are worth trying.
    fn splits(&self, sizes: Sizes) -> impl Iterator<Item = usize> {
        let most = (sizes.k / (4 * self.depth())).max(1);
        let tiles = self.count(sizes);
        let wanted = move |times: usize| (times * MULTIPROCESSORS / tiles.max(1)).clamp(1, most);
        let some = [1, wanted(1), wanted(2), wanted(4)];
        (0..4).filter(move |&i| i == 0 || some[i] > some[i - 1]).map(move |i| some[i])
    }

    fn fits(&self, size: usize) -> bool {
        let threads = self.threads();
        (64..=512).contains(&threads) && self.shared(size) <= SHARED
    }

    /// Threads of a slice.
    pub(super) fn lanes(&self) -> usize {
        (self.m / self.rows) * (self.n / self.columns)
    }

    pub(super) fn threads(&self) -> usize {
        self.slices * self.lanes()
    }

    /// Steps of `k` between two barriers.
    pub(super) fn depth(&self) -> usize {
        self.slices * STEP
    }

    /// The tiles of a product.
    pub(super) fn count(&self, sizes: Sizes) -> usize {
        sizes.m.div_ceil(self.m) * sizes.n.div_ceil(self.n) * sizes.batch
    }

    /// Steps of `k` that a block takes.
    pub(super) fn part(&self, k: usize) -> usize {
        k.div_ceil(self.splits).next_multiple_of(self.depth())
    }

    /// From one step of `k` to the next in shared memory.
    pub(super) fn pitch(tile: usize) -> usize {
        tile + 4
    }

    /// Elements of one buffer for operands.
    pub(super) fn buffer(&self) -> usize {
        self.depth() * (Tile::pitch(self.m) + Tile::pitch(self.n))
    }

    /// Elements of the sums of all slices.
    pub(super) fn sums(&self) -> usize {
        self.slices * self.m * Tile::pitch(self.n)
    }

    /// Bytes of shared memory for elements of a size.
    pub(super) fn shared(&self, size: usize) -> usize {
        size * self.sums().max(2 * self.buffer())
    }

    /// About how long it takes.
    fn cycles(&self, sizes: Sizes, percent: usize) -> usize {
        let blocks = self.count(sizes) * self.splits;
        let rounds = blocks.div_ceil(MULTIPROCESSORS);
        let (part, area) = (self.part(sizes.k), self.m * self.n);
        // Few warps do not keep a multiprocessor busy: each waits for what it asked for.
        let together = rounds.min(2048 / self.threads()).min(4);
        let warps = (together * self.threads() / 32).max(1);
        let enough = if self.rows * self.columns >= 32 { 8 } else { 16 };
        let percent = percent * warps.min(enough) / enough;
        let busy = rounds * area * part * 100 / (PER_CYCLE * percent.max(1));
        let steps = part / self.depth();
        let waiting = rounds.div_ceil(together) * (steps + 1) * LOAD;
        let adding = rounds * area * (self.slices + 1) / 32;
        let finish = match self.splits {
            1 => 0,
            splits => LAUNCH + sizes.batch * sizes.m * sizes.n * splits / (MULTIPROCESSORS * 8),
        };
        busy.max(waiting) + waiting.min(busy) / 4 + adding + finish
    }
}
