//! A product by tiles: operands through shared memory, sums in registers.

use std::fmt::Write;

use backprop_core::Primitive;

use super::epilogue::{Epilogue, Sums};
use super::loader::{Loader, Share};
use super::problem::{Part, Problem};
use super::tile::{Engine, Sizes, Tile};
use super::{lanes, tensor};
use crate::lowered::{Arg, Launch, Lowered, Source};
use crate::source::{parameters, value};
use crate::sweep::{arguments, head};

/// The kernel of a problem that is cut into tiles.
pub(super) struct Kernel<'a> {
    problem: &'a Problem<'a>,
    tile: Tile,
    sizes: Sizes,
}

impl<'a> Kernel<'a> {
    pub(super) fn new(problem: &'a Problem<'a>, sizes: Sizes, engine: Engine) -> Kernel<'a> {
        Kernel {
            tile: Tile::new(sizes, problem.accumulator, engine),
            problem,
            sizes,
        }
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
            depth: tile.depth(),
            threads: tile.threads(),
            even: k > 0 && k.is_multiple_of(tile.part(k)),
            reach: tile.part(k) * tile.splits,
            pitch: tile.pitch(size),
            engine: tile.engine,
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
        let part = tile.part(sizes.k);
        let mut text = head(parameters, tile.threads());
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
        let second = tile.depth() * tile.pitch(tile.m);
        let accumulator = self.problem.accumulator;
        let [begin, multiply, exchange] = match tile.engine {
            Engine::Lanes => lanes::parts(tile, accumulator, second),
            Engine::Tensor => tensor::parts(tile, second),
        };
        let _ = writeln!(text, "{begin}const int tiles = {};", part / tile.depth());
        // A tile is fetched and stored while the one before is computed with.
        let _ = writeln!(
            text,
            "#pragma unroll 1\nfor (int tile = 0; tile <= tiles; ++tile) {{\n\
             const int kt = kfirst + tile * {};\n{}{}\
             if (tile > 0) {{\n\
             const {of}* from = shared + (tile - 1) % 2 * {buffer};\n{}}}\n\
             if (tile < tiles) {{\n\
             {of}* ato = shared + tile % 2 * {buffer};\n{of}* bto = ato + {second};\n{}{}}}\n\
             __syncthreads();\n}}",
            tile.depth(),
            left.fetch(),
            right.fetch(),
            multiply,
            left.store(),
            right.store(),
            buffer = tile.buffer(),
        );
        text += &exchange;
        let sums = Sums { tile, sizes };
        text += &epilogue.of_tile(sums);
        text + "}\n"
    }

    /// Where the block and the thread are.
    fn place(&self) -> String {
        let (tile, sizes) = (self.tile, self.sizes);
        let across = sizes.n.div_ceil(tile.n).max(1);
        let down = sizes.m.div_ceil(tile.m).max(1);
        let mut text = format!(
            "const int bt = blockIdx.x / {};\n\
             const int m0 = blockIdx.x / {across} % {down} * {};\n\
             const int n0 = blockIdx.x % {across} * {};\n",
            across * down,
            tile.m,
            tile.n,
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
