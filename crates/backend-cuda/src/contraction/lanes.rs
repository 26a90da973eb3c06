//! Products in which every thread multiplies for itself, in the order of `k`.

use backprop_core::DType;

use super::tile::Tile;
use crate::source::value;

/// What is declared, what multiplies a tile, and what hands the sums over to the block. The second
/// operand's tile begins at `second`.
pub(super) fn parts(tile: Tile, accumulator: DType, second: usize) -> [String; 3] {
    let lanes = Lanes { tile, accumulator };
    [lanes.begin(), lanes.multiply(second), lanes.exchange()]
}

struct Lanes {
    tile: Tile,
    accumulator: DType,
}

impl Lanes {
    /// Neighbours that are read from shared memory at once.
    fn group(&self, of_thread: usize) -> usize {
        of_thread.min(16 / self.accumulator.size())
    }

    /// The rows and columns of a thread. Each quarter of a warp is two rows of four: what they read
    /// from shared memory together is little.
    fn begin(&self) -> String {
        let tile = self.tile;
        let across = tile.n / tile.columns;
        let down = tile.m / tile.rows;
        let text = match across.is_multiple_of(8) && down.is_multiple_of(4) {
            true => format!(
                "const int ty = lane / 32 / {wide} * 4 + lane / 16 % 2 * 2 + lane % 2;\n\
                 const int tx = lane / 32 % {wide} * 8 + lane / 2 % 8;\n",
                wide = across / 8
            ),
            false => format!("const int ty = lane / {across};\nconst int tx = lane % {across};\n"),
        };
        let of = value(self.accumulator);
        text + &format!("{of} sum[{}][{}] = {{}};\n", tile.rows, tile.columns)
    }

    /// Adds the products of a tile to the sums.
    fn multiply(&self, second: usize) -> String {
        let (tile, of) = (self.tile, value(self.accumulator));
        let side = |letter: &str, (own, size): (usize, usize), lane: &str, offset: usize| {
            let group = self.group(own);
            let (groups, pitch) = (own / group, tile.pitch(size));
            format!(
                "bp_pack<{of}, {group}> {letter}[{groups}];\n\
                 #pragma unroll\nfor (int g = 0; g < {groups}; ++g)\n\
                 {letter}[g] = *(const bp_pack<{of}, {group}>*)(from + {offset} + step * {pitch} + g * {} + {lane} * {group});\n",
                size / groups,
            )
        };
        let (rows, columns) = (self.group(tile.rows), self.group(tile.columns));
        format!(
            "#pragma unroll\nfor (int step = 0; step < {}; ++step) {{\n{}{}\
             #pragma unroll\nfor (int i = 0; i < {}; ++i) {{\n\
             #pragma unroll\nfor (int j = 0; j < {}; ++j)\n\
             sum[i][j] = bp_fma(a[i / {rows}].at[i % {rows}], b[j / {columns}].at[j % {columns}], sum[i][j]);\n}}\n}}\n",
            tile.step,
            side("a", (tile.rows, tile.m), "ty", 0),
            side("b", (tile.columns, tile.n), "tx", second),
            tile.rows,
            tile.columns,
        )
    }

    /// Hands the sums of all threads over to the block.
    fn exchange(&self) -> String {
        let (tile, of) = (self.tile, value(self.accumulator));
        let (rows, columns) = (self.group(tile.rows), self.group(tile.columns));
        let (down, across) = (tile.rows / rows, tile.columns / columns);
        let pitch = tile.pitch(tile.n);
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
