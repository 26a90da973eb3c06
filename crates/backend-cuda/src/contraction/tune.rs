//! The tiles that a problem could be cut into, for measuring.

use std::collections::HashMap;

use backprop_core::Primitive;

use super::kernel::Kernel;
use super::problem::Problem;
use super::tile::{Sizes, Tile};
use super::{Options, engine};
use crate::lowered::Lowered;

/// One way to compute a problem.
pub(crate) struct Choice {
    pub(crate) lowered: Lowered,
    pub(crate) text: String,
}

/// The `most` ways of each shape of tiles that the model likes best, and in each its own choice.
pub(crate) fn choices(primitive: &Primitive, most: usize) -> Vec<Choice> {
    let Some(problem) = Problem::new(primitive) else {
        return Vec::new();
    };
    let sizes = Sizes {
        batch: problem.batch(),
        m: problem.m(),
        n: problem.n(),
        k: problem.k(),
    };
    let engine = engine(&problem, sizes, Options::default());
    let own = Tile::new(sizes, problem.accumulator, engine);
    let mut ways: Vec<(usize, Tile)> = Tile::candidates(sizes, problem.accumulator, engine)
        .map(|(tile, percent)| (tile.cycles(sizes, percent), tile))
        .collect();
    ways.sort_by_key(|(cycles, _)| *cycles);
    let mut seen: HashMap<[usize; 4], usize> = HashMap::new();
    ways.retain(|(_, tile)| {
        let shape = seen
            .entry([tile.m, tile.n, tile.rows, tile.columns])
            .or_default();
        *shape += 1;
        *shape <= most || *tile == own
    });
    let choice = |(cycles, tile): (usize, Tile)| Choice {
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
            cycles as f64 / 1755.0,
            if tile == own { "  <- chosen" } else { "" },
        ),
    };
    ways.into_iter().map(choice).collect()
}
