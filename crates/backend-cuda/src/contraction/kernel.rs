//! A product by tiles: operands through shared memory, sums in registers.

use std::fmt::Write;

use backprop_core::Primitive;

use super::epilogue::{Epilogue, Sums};
use super::loader::{Loader, Share};
use super::problem::{Part, Problem};
use super::tile::{STEP, Sizes, Tile};
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
    pub(super) fn new(problem: &'a Problem<'a>, sizes: Sizes) -> Kernel<'a> {
        Kernel {
            tile: Tile::new(sizes, problem.accumulator),
            problem,
            sizes,
        }
    }

    /// Neighbours that are read from shared memory at once.
    fn group(&self, of_thread: usize) -> usize {
        of_thread.min(16 / self.problem.accumulator.size())
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
        let text = self.text(&parameters, &epilogue);
        let blocks = self.tile.count(self.sizes);
        let mut launches = vec![Launch {
            source: Source::new(&text),
            grid: [blocks as u32, splits as u32, 1],
            block: self.tile.threads() as u32,
            shared: self.tile.shared(self.problem.accumulator.size()) as u32,
            args: args.clone(),
        }];
        if splits > 1 {
            launches.push(epilogue.finish(&parameters, args, splits));
        }
        Lowered {
            launches,
            scratch: if splits > 1 { splits * bytes } else { 0 },
        }
    }

    fn loader(&'a self, part: Part) -> Loader<'a> {
        let (tile, k) = (self.tile, self.sizes.k);
        let share = |size| Share {
            tile: size,
            depth: tile.depth(),
            threads: tile.threads(),
            even: k > 0 && k.is_multiple_of(tile.part(k)),
        };
        let accumulator = self.problem.accumulator;
        match part {
            Part::Free => Loader::new(&self.problem.left, ("a", accumulator), share(tile.m)),
            _ => Loader::new(&self.problem.right, ("b", accumulator), share(tile.n)),
        }
    }

    fn text(&self, parameters: &[String], epilogue: &Epilogue<'_>) -> String {
        let (tile, sizes) = (self.tile, self.sizes);
        let of = value(self.problem.accumulator);
        let (left, right) = (self.loader(Part::Free), self.loader(Part::Inner));
        let part = tile.part(sizes.k);
        let mut text = head(parameters, tile.threads());
        let _ = writeln!(text, "BP_DYN_SHARED({of}, shared);");
        text += &self.place();
        text += &left.setup("m0");
        text += &right.setup("n0");
        let _ = writeln!(
            text,
            "{of} sum[{}][{}] = {{}};\nconst int tiles = {};",
            tile.rows,
            tile.columns,
            part / tile.depth(),
        );
        // A tile is fetched and stored while the one before is computed with.
        let second = tile.depth() * Tile::pitch(tile.m);
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
            self.multiply(second),
            left.store(),
            right.store(),
            buffer = tile.buffer(),
        );
        text += &self.exchange();
        let sums = Sums {
            tile,
            sizes,
        };
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
        text + &self.lanes()
    }

    /// The rows and columns of a thread. Each quarter of a warp is two rows of four: what they read
    /// from shared memory together is little.
    fn lanes(&self) -> String {
        let (tile, lanes) = (self.tile, self.tile.lanes());
        let across = tile.n / tile.columns;
        let down = tile.m / tile.rows;
        let mut text = format!(
            "const int slice = threadIdx.x / {lanes};\nconst int lane = threadIdx.x % {lanes};\n"
        );
        text += &match across.is_multiple_of(8) && down.is_multiple_of(4) {
            true => format!(
                "const int ty = lane / 32 / {wide} * 4 + lane / 16 % 2 * 2 + lane % 2;\n\
                 const int tx = lane / 32 % {wide} * 8 + lane / 2 % 8;\n",
                wide = across / 8
            ),
            false => format!("const int ty = lane / {across};\nconst int tx = lane % {across};\n"),
        };
        text
    }

    /// Adds the products of a tile to the sums.
    fn multiply(&self, second: usize) -> String {
        let (tile, of) = (self.tile, value(self.problem.accumulator));
        let side = |letter: &str, (own, size): (usize, usize), lane: &str, offset: usize| {
            let group = self.group(own);
            let (groups, pitch) = (own / group, Tile::pitch(size));
            format!(
                "bp_pack<{of}, {group}> {letter}[{groups}];\n\
                 #pragma unroll\nfor (int g = 0; g < {groups}; ++g)\n\
                 {letter}[g] = *(const bp_pack<{of}, {group}>*)(from + {offset} + (slice * {STEP} + step) * {pitch} + g * {} + {lane} * {group});\n",
                size / groups,
            )
        };
        let (rows, columns) = (self.group(tile.rows), self.group(tile.columns));
        format!(
            "#pragma unroll\nfor (int step = 0; step < {STEP}; ++step) {{\n{}{}\
             #pragma unroll\nfor (int i = 0; i < {}; ++i) {{\n\
             #pragma unroll\nfor (int j = 0; j < {}; ++j)\n\
             sum[i][j] = bp_fma(a[i / {rows}].at[i % {rows}], b[j / {columns}].at[j % {columns}], sum[i][j]);\n}}\n}}\n",
            side("a", (tile.rows, tile.m), "ty", 0),
            side("b", (tile.columns, tile.n), "tx", second),
            tile.rows,
            tile.columns,
        )
    }

    /// Hands the sums of all threads over to the block.
    fn exchange(&self) -> String {
        let (tile, of) = (self.tile, value(self.problem.accumulator));
        let (rows, columns) = (self.group(tile.rows), self.group(tile.columns));
        let (down, across) = (tile.rows / rows, tile.columns / columns);
        let pitch = Tile::pitch(tile.n);
        format!(
            "#pragma unroll\nfor (int i = 0; i < {}; ++i) {{\n\
             #pragma unroll\nfor (int g = 0; g < {across}; ++g) {{\n\
             bp_pack<{of}, {columns}> some;\n\
             #pragma unroll\nfor (int j = 0; j < {columns}; ++j) some.at[j] = sum[i][g * {columns} + j];\n\
             const int row = i / {rows} * {} + ty * {rows} + i % {rows};\n\
             *(bp_pack<{of}, {columns}>*)(shared + (slice * {} + row) * {pitch} + g * {} + tx * {columns}) = some;\n\
             }}\n}}\n__syncthreads();\n",
            tile.rows,
            tile.m / down,
            tile.m,
            tile.n / across,
        )
    }
}
