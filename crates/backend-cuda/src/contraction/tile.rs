//! How a product is cut into blocks. It follows from the sizes and the type of the sums alone.

use backprop_core::DType;

/// Multiprocessors of the device that shapes are chosen for.
const MULTIPROCESSORS: usize = 132;
/// Fused multiply-adds of floats in a cycle of a multiprocessor.
const PER_CYCLE: usize = 128;
/// Cycles until what is loaded is there, and until a second launch has begun.
const LOAD: usize = 800;
const LAUNCH: usize = 4000;

/// What multiplies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Engine {
    /// Every thread for itself, with all bits.
    Lanes,
    /// Tensor cores, a warp together: operands have 11 bits, sums are floats.
    Tensor,
}

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
    pub(super) engine: Engine,
    /// Rows and columns of a thread, or of a warp where tensor cores multiply.
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Groups of threads that each take a part of `k`.
    pub(super) slices: usize,
    /// Blocks that each take a part of `k`.
    pub(super) splits: usize,
    /// Steps of `k` that a slice takes at a time.
    pub(super) step: usize,
    /// Tiles of operands that shared memory holds at a time, at most.
    pub(super) stages: usize,
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

/// The same for tensor cores, where the tiles of warps follow, as a percentage of the peak of lanes.
const TENSOR_SHAPES: [([usize; 4], usize); 9] = [
    ([128, 128, 64, 32], 330),
    ([128, 64, 32, 32], 280),
    ([64, 128, 32, 32], 280),
    ([64, 64, 32, 32], 270),
    ([64, 32, 32, 16], 200),
    ([32, 64, 16, 32], 200),
    ([32, 32, 16, 16], 150),
    ([16, 32, 16, 16], 120),
    ([16, 16, 16, 8], 90),
];

/// Steps of `k` at a time.
const STEPS: [usize; 2] = [8, 16];

/// Shared memory of a block, and what tables of addresses may take of it.
pub(super) const SHARED: usize = 227 << 10;
const TABLES: usize = 64 << 10;

/// Tiles that shared memory holds at a time, at most.
const MOST_STAGES: usize = 8;

impl Tile {
    /// The tile that takes least, by the model below. Tiles are copied ahead where operands allow it;
    /// that they may not be must not change the order of sums.
    pub(super) fn new(sizes: Sizes, accumulator: DType, engine: Engine) -> Tile {
        let fallback = Tile::of([32, 32, 4, 4], Engine::Lanes, [1, 16]);
        let candidates = Tile::candidates(sizes, accumulator, engine);
        let least = candidates.min_by_key(|(tile, percent)| tile.cycles(sizes, *percent));
        least.map_or(fallback, |(tile, _)| tile)
    }

    /// The tiles that are worth looking at, each with its percentage of the peak.
    pub(super) fn candidates(
        sizes: Sizes,
        accumulator: DType,
        engine: Engine,
    ) -> impl Iterator<Item = (Tile, usize)> {
        let size = accumulator.size();
        let shapes: &[([usize; 4], usize)] = match engine {
            Engine::Lanes => &SHAPES,
            Engine::Tensor => &TENSOR_SHAPES,
        };
        let shapes = shapes.iter().filter(move |(shape, _)| size == 4 || shape[2] * shape[3] <= 16);
        let ways = [1, 2, 4, 8, 16].into_iter().flat_map(|slices| STEPS.map(|step| [slices, step]));
        let tiles = shapes.flat_map(move |&(shape, percent)| {
            let ways = ways.clone();
            ways.map(move |way| (Tile::of(shape, engine, way), percent))
        });
        let tiles = tiles.filter(move |(tile, _)| {
            let longest = sizes.k.next_multiple_of(tile.step);
            tile.fits(size) && (tile.slices == 1 || tile.depth() <= longest)
        });
        tiles.flat_map(move |(tile, percent)| {
            let splits = tile.splits(sizes).collect::<Vec<_>>();
            splits.into_iter().map(move |splits| {
                let tile = Tile { splits, ..tile };
                (tile.staged(sizes, size), percent)
            })
        })
    }

    fn of([m, n, rows, columns]: [usize; 4], engine: Engine, [slices, step]: [usize; 2]) -> Tile {
        Tile {
            m,
            n,
            rows,
            columns,
            engine,
            slices,
            splits: 1,
            step,
            stages: 2,
        }
    }

    /// With as many stages as shared memory has room for, up to all tiles or [`MOST_STAGES`].
    fn staged(self, sizes: Sizes, size: usize) -> Tile {
        let most = match self.count(sizes) * self.splits > MULTIPROCESSORS {
            true => SHARED / 2,
            false => SHARED,
        };
        let stages = most / (size * self.slices * self.buffer()).max(1);
        let stages = stages.clamp(2, MOST_STAGES).min(self.tiles(sizes.k).max(1));
        Tile { stages, ..self }
    }

    /// Numbers of blocks along `k` that are worth trying.
    fn splits(&self, sizes: Sizes) -> impl Iterator<Item = usize> {
        let most = (sizes.k / (4 * self.depth())).max(1);
        let tiles = self.count(sizes);
        let wanted = move |times: usize| (times * MULTIPROCESSORS / tiles.max(1)).clamp(1, most);
        let some = [1, wanted(1), wanted(2), wanted(4)];
        (0..4)
            .filter(move |&i| i == 0 || some[i] > some[i - 1])
            .map(move |i| some[i])
    }

    fn fits(&self, size: usize) -> bool {
        let threads = self.threads();
        (64..=512).contains(&threads) && self.shared(size) <= SHARED - TABLES
    }

    /// Threads of a slice.
    pub(super) fn lanes(&self) -> usize {
        let parts = (self.m / self.rows) * (self.n / self.columns);
        match self.engine {
            Engine::Lanes => parts,
            Engine::Tensor => 32 * parts,
        }
    }

    pub(super) fn threads(&self) -> usize {
        self.slices * self.lanes()
    }

    /// Steps of `k` that all slices together take at a time.
    pub(super) fn depth(&self) -> usize {
        self.slices * self.step
    }

    /// Tiles that a slice takes one after the other.
    pub(super) fn tiles(&self, k: usize) -> usize {
        self.part(k) / self.depth()
    }

    /// The tiles of a product.
    pub(super) fn count(&self, sizes: Sizes) -> usize {
        sizes.m.div_ceil(self.m) * sizes.n.div_ceil(self.n) * sizes.batch
    }

    /// Steps of `k` that a block takes.
    pub(super) fn part(&self, k: usize) -> usize {
        k.div_ceil(self.splits).next_multiple_of(self.depth())
    }

    /// From one row to the next in shared memory: far enough apart that lanes which work together
    /// find different banks.
    pub(super) fn pitch(&self, tile: usize) -> usize {
        match self.engine {
            Engine::Lanes => tile + 4,
            Engine::Tensor => tile + 8,
        }
    }

    /// Elements of a tile of a slice.
    pub(super) fn buffer(&self) -> usize {
        self.step * (self.pitch(self.m) + self.pitch(self.n))
    }

    /// Elements of the sums of all slices.
    pub(super) fn sums(&self) -> usize {
        self.slices * self.m * self.pitch(self.n)
    }

    /// Bytes of shared memory for elements of a size.
    pub(super) fn shared(&self, size: usize) -> usize {
        size * self.sums().max(self.stages * self.slices * self.buffer())
    }

    /// About how long it takes.
    pub(super) fn cycles(&self, sizes: Sizes, percent: usize) -> usize {
        let blocks = self.count(sizes) * self.splits;
        let rounds = blocks.div_ceil(MULTIPROCESSORS);
        let (part, area) = (self.part(sizes.k), self.m * self.n);
        // Few warps do not keep a multiprocessor busy: each waits for what it asked for.
        let together = rounds.min(2048 / self.threads()).min(4);
        let warps = (together * self.threads() / 32).max(1);
        let enough = if self.rows * self.columns >= 32 {
            8
        } else {
            16
        };
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
