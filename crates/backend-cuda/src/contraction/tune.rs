//! The tiles that a problem could be cut into, for measuring.

use std::collections::HashMap;

use backprop_core::Primitive;

use super::kernel::Kernel;
use super::problem::Problem;
use super::tile::{Sizes, Tile};
use super::{Options, means};
use crate::lowered::Lowered;

/// One way to compute a problem.
pub(crate) struct Choice {
    pub(crate) lowered: Lowered,
    pub(crate) text: String,
}

/// The `most` ways of each shape of tiles that the model likes best, and in each its own choice.
pub(crate) fn choices(primitive: &Primitive, options: Options, most: usize) -> Vec<Choice> {
    let Some(problem) = Problem::new(primitive) else {
        return Vec::new();
    };
    let sizes = Sizes {
        batch: problem.batch(),
        m: problem.m(),
        n: problem.n(),
        k: problem.k(),
    };
    let means = means(&problem, sizes, options);
    let own = Tile::new(sizes, problem.accumulator, means);
    let mut ways: Vec<(f64, Tile)> = Tile::candidates(sizes, problem.accumulator, means)
        .map(|(tile, percent)| (tile.cycles(sizes, percent), tile))
        .collect();
    ways.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut seen: HashMap<[usize; 4], usize> = HashMap::new();
    ways.retain(|(_, tile)| {
        let shape = seen
            .entry([tile.m, tile.n, tile.rows, tile.columns])
            .or_default();
        *shape += 1;
        *shape <= most || *tile == own
    });
    let choice = |(cycles, tile): (f64, Tile)| Choice {
        lowered: Kernel::of(&problem, sizes, tile).lower(primitive),
        text: format!(
            "{}x{} ({}x{} each) slices {} step {} splits {} stages {} blocks {} model {:.2} us{}",
            tile.m,
            tile.n,
            tile.rows,
            tile.columns,
            tile.slices,
            tile.step,
            tile.splits,
            tile.stages,
            tile.count(sizes) * tile.splits,
            cycles / 1755.0,
            if tile == own { "  <- chosen" } else { "" },
        ),
    };
    ways.into_iter().map(choice).collect()
}
