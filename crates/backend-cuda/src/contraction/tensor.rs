//! Products on tensor cores: a warp multiplies pieces of 16 by 8 by 8 steps of `k`.

use super::tile::Tile;

/// What is declared, what multiplies a tile, and what hands the sums over to the block. The second
/// operand's tile begins at `second`.
pub(super) fn parts(tile: Tile, second: usize) -> [String; 3] {
    [begin(tile), multiply(tile, second), exchange(tile)]
}

/// Pieces of a warp, down and across.
fn pieces(tile: Tile) -> (usize, usize) {
    (tile.rows / 16, tile.columns / 8)
}

/// Where the warp is, and its lanes as eight groups of four.
fn begin(tile: Tile) -> String {
    let across = tile.n / tile.columns;
    let (down, beside) = pieces(tile);
    format!(
        "const int warp = lane / 32;\n\
         const int group = threadIdx.x % 32 / 4, member = threadIdx.x % 4;\n\
         const int down = warp / {across} * {}, across = warp % {across} * {};\n\
         float sum[{down}][{beside}][4] = {{}};\n",
        tile.rows, tile.columns,
    )
}

fn multiply(tile: Tile, second: usize) -> String {
    let (down, beside) = pieces(tile);
    let (left, right) = (tile.pitch(tile.m), tile.pitch(tile.n));
    format!(
        "#pragma unroll\nfor (int step = 0; step < {}; step += 8) {{\n\
         const int at = step + member;\n\
         const float* left = from + at * {left} + down + group;\n\
         const float* right = from + {second} + at * {right} + across + group;\n\
         float a[{down}][4], b[{beside}][2];\n\
         #pragma unroll\nfor (int i = 0; i < {down}; ++i) {{\n\
         a[i][0] = left[i * 16];\na[i][1] = left[i * 16 + 8];\n\
         a[i][2] = left[i * 16 + {}];\na[i][3] = left[i * 16 + 8 + {}];\n}}\n\
         #pragma unroll\nfor (int j = 0; j < {beside}; ++j) {{\n\
         b[j][0] = right[j * 8];\nb[j][1] = right[j * 8 + {}];\n}}\n\
         #pragma unroll\nfor (int i = 0; i < {down}; ++i) {{\n\
         #pragma unroll\nfor (int j = 0; j < {beside}; ++j) bp_mma_tf32(sum[i][j], a[i], b[j]);\n}}\n}}\n",
        tile.step,
        4 * left,
        4 * left,
        4 * right,
    )
}

fn exchange(tile: Tile) -> String {
    let (down, beside) = pieces(tile);
    let (pitch, m) = (tile.pitch(tile.n), tile.m);
    format!(
        "#pragma unroll\nfor (int i = 0; i < {down}; ++i) {{\n\
         #pragma unroll\nfor (int j = 0; j < {beside}; ++j) {{\n\
         #pragma unroll\nfor (int half = 0; half < 2; ++half) {{\n\
         bp_pack<float, 2> some;\n\
         some.at[0] = sum[i][j][2 * half];\nsome.at[1] = sum[i][j][2 * half + 1];\n\
         const int row = slice * {m} + down + i * 16 + half * 8 + group;\n\
         *(bp_pack<float, 2>*)(shared + row * {pitch} + across + j * 8 + member * 2) = some;\n\
         }}\n}}\n}}\n__syncthreads();\n"
    )
}
