//! How large tiles are.

use backprop_core::{DType, Heads};

use crate::contraction::{Engine, Options, Precision};
use crate::lowered::MULTIPROCESSORS;

/// Neighbouring threads that share a row, where every thread multiplies for itself, and where tensor
/// cores do.
pub(super) const LANES: usize = 16;
const MEMBERS: usize = 4;

/// Blocks that keep a large device busy.
const ENOUGH_BLOCKS: usize = MULTIPROCESSORS;

/// Bytes of shared memory that let some blocks share a multiprocessor, and those that there are.
const SHARED: [usize; 2] = [100 << 10, 200 << 10];

/// Multiplications from which on tensor cores are used where they may be.
const TENSOR: usize = 1 << 24;

/// What multiplies: tensor cores where operands may be rounded for them, and there is enough to do.
pub(super) fn engine(heads: &Heads, kept_in: DType, options: Options) -> Engine {
    let pairs = heads.batch.count() * heads.queries * heads.keys;
    let may = options.precision == Precision::Tf32 && kept_in == DType::F32;
    match may && pairs * (heads.depth + heads.width) >= TENSOR {
        true => Engine::Tensor,
        false => Engine::Lanes,
    }
}

/// The rows that a block owns, and the rows of a tile that it goes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tiling {
    pub(super) own: usize,
    pub(super) other: usize,
    pub(super) engine: Engine,
}

/// What tiles are chosen for.
pub(super) struct Wanted<'a> {
    pub(super) engine: Engine,
    pub(super) kept_in: DType,
    /// The longer of the two sides.
    pub(super) longest: usize,
    /// The widths of the sums that a block keeps of its rows, and how many products it keeps of a tile.
    pub(super) widths: &'a [usize],
    pub(super) products: usize,
    /// How many blocks there are if each owns so many rows.
    pub(super) blocks: &'a dyn Fn(usize) -> usize,
    /// The bytes of shared memory that a block takes.
    pub(super) shared: &'a dyn Fn(Tiling) -> usize,
}

impl Tiling {
    /// The largest tiles that leave enough blocks, of those that fit.
    pub(super) fn new(wanted: &Wanted<'_>) -> Option<Tiling> {
        let Wanted {
            engine,
            kept_in,
            longest,
            widths,
            products,
            blocks,
            shared,
        } = *wanted;
        let registers = 96 / (kept_in.size() / 4);
        let largest = longest.next_multiple_of(LANES);
        let all = [64, 32, 16].into_iter().flat_map(|own| {
            let tiling = move |other| Tiling { own, other, engine };
            [64, 32, 16].into_iter().map(tiling)
        });
        let kept = |tiling: &Tiling| {
            let sums: usize = widths.iter().map(|&width| tiling.sums_each(width)).sum();
            let products = match engine {
                Engine::Lanes => 0,
                Engine::Tensor => products * tiling.across_each(),
            };
            tiling.down_each() * (sums + products)
        };
        let fitting: Vec<Tiling> = all
            .filter(|tiling| tiling.own == 16 || blocks(tiling.own) >= ENOUGH_BLOCKS)
            .filter(|tiling| tiling.other <= largest.max(LANES).next_power_of_two())
            .filter(|tiling| kept(tiling) <= registers)
            .collect();
        let fits = |bytes| fitting.iter().find(|&&tiling| shared(tiling) <= bytes);
        SHARED.into_iter().find_map(fits).copied()
    }

    pub(super) fn threads(&self) -> usize {
        match self.engine {
            Engine::Lanes => LANES * self.down(),
            Engine::Tensor => 2 * self.own,
        }
    }

    /// Rows that are next to each other in the block.
    fn down(&self) -> usize {
        match self.engine {
            Engine::Lanes if self.own == 64 => 16,
            Engine::Lanes | Engine::Tensor => 8,
        }
    }

    /// Own rows of a thread.
    pub(super) fn down_each(&self) -> usize {
        match self.engine {
            Engine::Lanes => self.own / self.down(),
            Engine::Tensor => 2,
        }
    }

    /// Rows of the other tile that are a thread's.
    pub(super) fn across_each(&self) -> usize {
        self.other / self.sharers()
    }

    /// Threads that share a row.
    pub(super) fn sharers(&self) -> usize {
        match self.engine {
            Engine::Lanes => LANES,
            Engine::Tensor => MEMBERS,
        }
    }

    /// Columns of a row of sums that are a thread's.
    pub(super) fn sums_each(&self, width: usize) -> usize {
        match self.engine {
            Engine::Lanes => {
                let (group, groups) = groups(width);
                group * groups
            }
            Engine::Tensor => width.div_ceil(8) * 2,
        }
    }

    /// Where a thread is: `ty`, its first row, and `tx` among those that share it. Tensor cores want the
    /// lanes of a warp as eight groups of four.
    pub(super) fn place(&self) -> String {
        match self.engine {
            Engine::Lanes => {
                format!("const int tx = threadIdx.x % {LANES}, ty = threadIdx.x / {LANES};\n")
            }
            Engine::Tensor => format!(
                "const int tx = threadIdx.x % {MEMBERS}, group = threadIdx.x % 32 / {MEMBERS};\n\
                 const int ty = threadIdx.x / 32 * 16 + group;\n"
            ),
        }
    }

    /// Own row `i` of a thread.
    pub(super) fn row(&self) -> String {
        format!("ty + i * {}", self.down())
    }

    /// Row `j` of the other tile.
    pub(super) fn column(&self) -> String {
        match self.engine {
            Engine::Lanes => format!("tx + j * {LANES}"),
            Engine::Tensor => "j / 2 * 8 + tx * 2 + j % 2".to_owned(),
        }
    }

    /// The column of sum `c`.
    pub(super) fn sum_column(&self, width: usize) -> String {
        match self.engine {
            Engine::Lanes => {
                let (group, _) = groups(width);
                format!("(c / {group} * {LANES} + tx) * {group} + c % {group}")
            }
            Engine::Tensor => "c / 2 * 8 + tx * 2 + c % 2".to_owned(),
        }
    }
}

/// Neighbouring columns that one thread multiplies for itself, and how many groups of all lanes there are.
pub(super) fn groups(width: usize) -> (usize, usize) {
    let padded = |group: usize| width.next_multiple_of(LANES * group);
    let good = |group: &usize| padded(*group) * 4 <= padded(1) * 5;
    let group = [4, 2].into_iter().find(good).unwrap_or(1);
    (group, padded(group) / (LANES * group))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(heads: usize, queries: usize, bytes_of_row: usize) -> Option<Tiling> {
        let blocks = |own: usize| heads * queries.div_ceil(own);
        let shared = |tiling: Tiling| (tiling.own + tiling.other) * bytes_of_row;
        Tiling::new(&Wanted {
            engine: Engine::Lanes,
            kept_in: DType::F32,
            longest: queries,
            widths: &[128],
            products: 1,
            blocks: &blocks,
            shared: &shared,
        })
    }

    #[test]
    fn small_heads_make_more_blocks_and_wide_ones_smaller_tiles() {
        let engine = Engine::Lanes;
        let is = |own, other| Some(Tiling { own, other, engine });
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
