//! A product by tiles: operands through shared memory, sums in registers.

use std::fmt::Write;

use backprop_core::Primitive;

use super::epilogue::{Epilogue, Sums};
use super::loader::{Loader, Share};
use super::problem::{Part, Problem};
use super::tile::{Engine, Means, Sizes, Tile};
use super::{copy, lanes, tensor};
use crate::lowered::{Arg, Launch, Lowered, MULTIPROCESSORS, Source, arguments};
use crate::source::{head, parameters, value};

/// The kernel of a problem that is cut into tiles.
pub(super) struct Kernel<'a> {
    problem: &'a Problem<'a>,
    tile: Tile,
    sizes: Sizes,
    /// Tiles that are under way while one is computed with.
    ahead: usize,
}

impl<'a> Kernel<'a> {
    pub(super) fn new(problem: &'a Problem<'a>, sizes: Sizes, means: Means) -> Kernel<'a> {
        let accumulator = problem.accumulator;
        let tile = Tile::new(sizes, accumulator, means);
        Kernel::of(problem, sizes, tile)
    }

    /// The kernel with this tile.
    pub(super) fn of(problem: &'a Problem<'a>, sizes: Sizes, tile: Tile) -> Kernel<'a> {
        let accumulator_size = problem.accumulator.size();
        let sides = [&problem.left, &problem.right];
        let copied = sides
            .iter()
            .all(|side| copy::suits(side, problem.accumulator));
        let deep = copied && tile.engine == Engine::Lanes;
        let mut kernel = Kernel {
            tile,
            problem,
            sizes,
            ahead: 1,
        };
        if !deep {
            // What goes through registers is waited for, tile by tile.
            kernel.tile.stages = 2;
            return kernel;
        }
        let tables = [Part::Free, Part::Inner].map(|part| kernel.loader(part).table());
        let room = tile.room.saturating_sub(tables.iter().sum());
        while kernel.tile.shared(accumulator_size) > room && kernel.tile.stages > 2 {
            kernel.tile.stages -= 1;
        }
        let (stages, tiles) = (kernel.tile.stages, tile.tiles(sizes.k).max(1));
        kernel.ahead = if stages >= tiles { tiles } else { stages - 1 };
        kernel
    }

    pub(super) fn lower(&self, primitive: &Primitive) -> Lowered {
        let Tile { splits, .. } = self.tile;
        let of = value(self.problem.accumulator);
        let mut parameters = parameters(primitive);
        let mut args = arguments(primitive);
        let points = self.problem.space.count();
        let epilogue = Epilogue::new(self.problem);
        let bytes = points * self.problem.accumulator.size();
        if splits > 1 {
            parameters.push(format!("{of}* p"));
            args.push(Arg::Scratch(0));
        }
        let (left, right) = (self.loader(Part::Free), self.loader(Part::Inner));
        let shared = self.tile.shared(self.problem.accumulator.size());
        let text = self.text(&parameters, &epilogue, [&left, &right]);
        let blocks = self.tile.count(self.sizes);
        let mut launches = vec![Launch {
            source: Source::new(&text),
            grid: [blocks as u32, splits as u32, 1],
            block: self.tile.threads() as u32,
            shared: (shared + left.table() + right.table()) as u32,
            args: args.clone(),
            early: None,
        }];
        if splits > 1 {
            launches.push(epilogue.finish(&parameters, args, splits));
        }
        Lowered::kernels(launches, if splits > 1 { splits * bytes } else { 0 })
    }

    fn loader(&'a self, part: Part) -> Loader<'a> {
        let (tile, k) = (self.tile, self.sizes.k);
        let share = |size| Share {
            tile: size,
            depth: tile.step,
            threads: tile.lanes(),
            block: tile.threads(),
            even: k.is_multiple_of(tile.step),
            reach: tile.part(k) * tile.splits,
            pitch: tile.pitch(size),
            engine: tile.engine,
            alone: tile.tiles(k) == 1,
        };
        let accumulator = self.problem.accumulator;
        match part {
            Part::Free => Loader::new(&self.problem.left, ("a", accumulator), share(tile.m)),
            _ => Loader::new(&self.problem.right, ("b", accumulator), share(tile.n)),
        }
    }

    fn text(
        &self,
        parameters: &[String],
        epilogue: &Epilogue<'_>,
        [left, right]: [&Loader<'_>; 2],
    ) -> String {
        let (tile, sizes) = (self.tile, self.sizes);
        let of = value(self.problem.accumulator);
        let blocks = self.tile.count(sizes) * tile.splits;
        let resident = tile.resident(self.problem.accumulator.size());
        let wanted = resident.min(blocks.div_ceil(MULTIPROCESSORS)).max(1);
        let mut text = head(parameters, format!("{}, {wanted}", tile.threads()));
        let _ = writeln!(text, "BP_DYN_SHARED({of}, shared);");
        text += &self.place();
        let shared = tile.shared(self.problem.accumulator.size());
        text += &left.fill("m0", shared);
        text += &right.fill("n0", shared + left.table());
        if left.table() + right.table() > 0 {
            text += "__syncthreads();\n";
        }
        text += &left.setup("m0");
        text += &right.setup("n0");
        let second = tile.step * tile.pitch(tile.m);
        let accumulator = self.problem.accumulator;
        let [begin, multiply, exchange] = match tile.engine {
            Engine::Lanes => lanes::parts(tile, accumulator, second),
            Engine::Tensor => tensor::parts(tile, second),
        };
        let [first, before, after] = epilogue.of_tile(Sums { tile, sizes });
        text += &first;
        text += &begin;
        text += &self.steps([left, right], (&multiply, second));
        text + &before + &exchange + &after + "}\n"
    }

    /// Takes tile after tile: some are under way while one is computed with. What is copied to shared
    /// memory takes no registers; what goes through them is stored after the tile.
    fn steps(&self, loaders: [&Loader<'_>; 2], (multiply, second): (&str, usize)) -> String {
        let (tile, k) = (self.tile, self.sizes.k);
        let of = value(self.problem.accumulator);
        let (tiles, ahead) = (tile.tiles(k), self.ahead);
        let copied = loaders.iter().any(|loader| loader.copies);
        let (depth, step) = (tile.depth(), tile.step);
        let left = |at: &str| match k == tile.part(k) * tile.splits {
            true => String::new(),
            false => format!(" && kfirst + {at} * {depth} + slice * {step} < kend"),
        };
        let mut text = format!(
            "int from_stage = 0, to_stage = 0;\n\
             #pragma unroll 1\nfor (int tile = -{ahead}; tile < {tiles}; ++tile) {{\n\
             const int next = tile + {ahead}, kt = kfirst + next * {depth} + slice * {step};\n\
             const bool more = next < {tiles}{};\n\
             {of}* const ato = shared + (to_stage * {slices} + slice) * {buffer};\n\
             {of}* const bto = ato + {second};\n\
             if (tile >= 0) {{\n",
            left("next"),
            slices = tile.slices,
            buffer = tile.buffer(),
        );
        if copied {
            let _ = writeln!(text, "bp_copy_wait<{}>();", ahead - 1);
        }
        let _ = writeln!(text, "{}\n}}", self.barrier());
        for loader in loaders {
            text += &match loader.copies {
                true => loader.copy(),
                false => loader.fetch(),
            };
        }
        if copied {
            text += "bp_copy_commit();\n";
        }
        let _ = writeln!(
            text,
            "if (tile >= 0{}) {{\n\
             const {of}* const from = shared + (from_stage * {} + slice) * {};\n{multiply}}}",
            left("tile"),
            tile.slices,
            tile.buffer(),
        );
        let stored: String = loaders
            .iter()
            .filter(|l| !l.copies)
            .map(|l| l.store())
            .collect();
        if !stored.is_empty() {
            let _ = writeln!(text, "if (more) {{\n{stored}}}");
        }
        let stages = tile.stages;
        let _ = writeln!(
            text,
            "if (tile >= 0 && ++from_stage == {stages}) from_stage = 0;\n\
             if (++to_stage == {stages}) to_stage = 0;\n}}\n__syncthreads();"
        );
        text
    }

    /// Slices wait each for itself.
    fn barrier(&self) -> String {
        match (self.tile.slices, self.tile.lanes()) {
            (1, _) => "__syncthreads();".to_owned(),
            (_, 32) => "__syncwarp();".to_owned(),
            (_, lanes) => format!("bp_barrier(1 + slice, {lanes});"),
        }
    }

    /// Where the block and the thread are.
    fn place(&self) -> String {
        let (tile, sizes) = (self.tile, self.sizes);
        let across = sizes.n.div_ceil(tile.n).max(1);
        let down = sizes.m.div_ceil(tile.m).max(1);
        let mut text = format!(
            "const int slice = threadIdx.x / {lanes}, lane = threadIdx.x % {lanes};\n\
             const int bt = blockIdx.x / {};\n\
             const int m0 = blockIdx.x / {across} % {down} * {};\n\
             const int n0 = blockIdx.x % {across} * {};\n",
            across * down,
            tile.m,
            tile.n,
            lanes = tile.lanes(),
        );
        let (part, k) = (tile.part(sizes.k), sizes.k);
        text += &match tile.splits {
            1 => format!("const int kfirst = 0, kend = {k};\n"),
            _ => format!(
                "const int kfirst = blockIdx.y * {part};\n\
                 const int kend = kfirst + {part} < {k} ? kfirst + {part} : {k};\n"
            ),
        };
        text
    }
}
