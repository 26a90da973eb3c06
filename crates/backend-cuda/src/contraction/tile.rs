//! How a product is cut into blocks. It follows from the sizes and the type of the sums alone.

use backprop_core::DType;

use crate::lowered::MULTIPROCESSORS;

/// Fused multiply-adds of floats in a cycle of a multiprocessor.
const PER_CYCLE: f64 = 128.0;

// What follows was fitted to times of some 650 kernels on an H200, in cycles.

/// A launch after another; blocks that run together until their first tile is there.
const LAUNCH: f64 = 200.0;
const LOAD: f64 = 100.0;
/// A second launch. Not fitted: where the same kernel ran again and again it seemed ten times cheaper
/// than it is in the chain of an LSTM's step.
const FINISH: f64 = 2000.0;
/// Warps that lose half of the time of a multiprocessor: with few, each waits for what it asked for.
const FEW: f64 = 5.5;
/// Bytes in a cycle that the cache delivers to all multiprocessors, and that one can take.
const CACHE_BYTES: f64 = 2_700.0;
const BYTES: f64 = 20.0;
/// The part of the shorter of computing and loading that is not hidden behind the longer.
const EXPOSED: f64 = 0.4;
/// A piece of memory that a block reads, where all multiprocessors share in the work: a row of the right
/// operand's tile, and a step of a row of the left one's. This is what narrow tiles pay for.
const LINE: f64 = 1.7;
/// An element that a slice adds to the sums; a row of results.
const SUM: f64 = 0.026;
const RESULT: f64 = 18.0;

/// What multiplies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Engine {
    /// Every thread for itself, with all bits.
    Lanes,
    /// Tensor cores, a warp together: operands have 11 bits, sums are floats.
    Tensor,
}

/// What there is to multiply with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Means {
    pub(super) engine: Engine,
    /// Bytes of shared memory that a block can have.
    pub(super) shared: usize,
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
    /// Bytes of shared memory that a block can have.
    pub(super) room: usize,
}

/// Tiles of blocks and threads. Others that are narrow along `n`, or have few sums for a thread, were
/// never faster.
const SHAPES: [[usize; 4]; 14] = [
    [128, 128, 8, 8],
    [128, 64, 8, 8],
    [64, 128, 8, 8],
    [64, 64, 8, 8],
    [64, 32, 8, 8],
    [32, 64, 8, 8],
    [64, 64, 4, 8],
    [32, 64, 4, 8],
    [64, 32, 8, 4],
    [32, 32, 8, 4],
    [32, 32, 4, 4],
    [16, 32, 4, 4],
    [16, 16, 4, 2],
    [8, 16, 2, 2],
];

/// Tiles of blocks and warps for tensor cores, and what these reach, as a percentage of the peak of lanes.
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

/// Bytes of shared memory that tables of addresses may take, but not more than half of it.
const TABLES: usize = 64 << 10;

/// Tiles that shared memory holds at a time, at most.
const MOST_STAGES: usize = 8;

impl Means {
    fn with(self, engine: Engine) -> Means {
        Means { engine, ..self }
    }
}

impl Tile {
    /// The tile that takes least, by the model below. Tiles are copied ahead where operands allow it;
    /// that they may not be must not change the order of sums.
    pub(super) fn new(sizes: Sizes, accumulator: DType, means: Means) -> Tile {
        let fallback = Tile::of([32, 32, 4, 4], means.with(Engine::Lanes), [1, 16]);
        let candidates = Tile::candidates(sizes, accumulator, means);
        let least =
            candidates.min_by(|(a, x), (b, y)| a.cycles(sizes, *x).total_cmp(&b.cycles(sizes, *y)));
        least.map_or(fallback, |(tile, _)| tile)
    }

    /// The tiles that are worth looking at, each with a percentage: how fast it is beside lanes.
    pub(super) fn candidates(
        sizes: Sizes,
        accumulator: DType,
        means: Means,
    ) -> impl Iterator<Item = (Tile, usize)> {
        let size = accumulator.size();
        let shapes: Vec<([usize; 4], usize)> = match means.engine {
            Engine::Lanes => SHAPES.map(|shape| (shape, 100)).into(),
            Engine::Tensor => TENSOR_SHAPES.into(),
        };
        let narrow = move |shape: &[usize; 4]| size == 4 || shape[2] * shape[3] <= 16;
        let shapes = shapes.into_iter().filter(move |(shape, _)| narrow(shape));
        let ways = [1, 2, 4, 8, 16]
            .into_iter()
            .flat_map(|slices| STEPS.map(|step| [slices, step]));
        let tiles = shapes.flat_map(move |(shape, percent)| {
            let ways = ways.clone();
            ways.map(move |way| (Tile::of(shape, means, way), percent))
        });
        let tiles = tiles.filter(move |(tile, _)| {
            let longest = sizes.k.next_multiple_of(tile.step);
            tile.fits(size) && (tile.slices == 1 || tile.depth() <= longest)
        });
        tiles.flat_map(move |(tile, percent)| {
            let splits = tile.splits(sizes).collect::<Vec<_>>();
            splits.into_iter().map(move |splits| {
                let tile = Tile { splits, ..tile }.covering(sizes.k);
                (tile.staged(sizes, size), percent)
            })
        })
    }

    fn of([m, n, rows, columns]: [usize; 4], means: Means, [slices, step]: [usize; 2]) -> Tile {
        Tile {
            m,
            n,
            rows,
            columns,
            engine: means.engine,
            slices,
            splits: 1,
            step,
            stages: 2,
            room: means.shared,
        }
    }

    /// Without blocks whose part would begin beyond `k`.
    fn covering(self, k: usize) -> Tile {
        let splits = k.div_ceil(self.part(k).max(1)).max(1);
        Tile { splits, ..self }
    }

    /// With as many stages as shared memory has room for, up to all tiles or [`MOST_STAGES`].
    fn staged(self, sizes: Sizes, size: usize) -> Tile {
        let most = match self.count(sizes) * self.splits > MULTIPROCESSORS {
            true => self.room / 2,
            false => self.room,
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
        (64..=512).contains(&threads) && self.shared(size) <= self.room - TABLES.min(self.room / 2)
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

    /// Blocks of a multiprocessor at a time: each needs shared memory and registers.
    pub(super) fn resident(&self, size: usize) -> usize {
        let registers = match self.rows * self.columns * size / 4 {
            64.. => 128,
            32.. => 96,
            16.. => 64,
            _ => 40,
        };
        let threads = (2048 / self.threads()).min((64 << 10) / (registers * self.threads()));
        threads.min(self.room / self.shared(size).max(1)).max(1)
    }

    /// About how many cycles it takes.
    pub(super) fn cycles(&self, sizes: Sizes, percent: usize) -> f64 {
        let size = 4;
        let blocks = self.count(sizes) * self.splits;
        let rounds = blocks.div_ceil(MULTIPROCESSORS);
        let together = self.resident(size).min(rounds).max(1);
        let groups = rounds.div_ceil(together) as f64;
        let warps = (together * self.threads()).div_ceil(32) as f64;
        let (blocks, rounds) = (blocks as f64, rounds as f64);
        let (part, area) = (self.part(sizes.k) as f64, (self.m * self.n) as f64);
        let (rows, ends) = (self.m as f64, (self.m + self.n) as f64);
        let step = self.step as f64;
        let peak = PER_CYCLE * percent as f64 / 100.0;
        let busy = rounds * area * part / peak * (1.0 + FEW / warps);
        let bytes = part * ends * size as f64;
        let traffic = (rounds * bytes / BYTES).max(blocks * bytes / CACHE_BYTES);
        let lines = blocks * (part + rows * part / step) / MULTIPROCESSORS as f64;
        let main = busy.max(traffic) + EXPOSED * busy.min(traffic);
        let ending = rounds * (self.slices as f64 * area * SUM + rows * RESULT);
        let results = (sizes.batch * sizes.m * sizes.n * self.splits * size) as f64;
        let finish = match self.splits {
            1 => 0.0,
            _ => FINISH + 2.0 * results / CACHE_BYTES,
        };
        LAUNCH + groups * LOAD + main + lines * LINE + ending + finish
    }
}
