//! Matrices in memory, their tiles in shared memory, and products of these.

use std::fmt::Write;

use backprop_core::{DType, Shape, Source, View};

use super::function;
use super::tiling::{LANES, Tiling, groups};
use crate::contraction::Engine;
use crate::source::{Fold, Operand, index_type, load, position, storage, value};

/// Operands of which each batch element is a matrix, or a vector.
pub(super) struct Sources<'a> {
    fold: Fold,
    sources: Vec<&'a Source>,
    batch: Shape,
    kept_in: DType,
    engine: Engine,
    pub(super) index: &'static str,
}

impl<'a> Sources<'a> {
    /// Operand `k` is the one read with that number; `points` is the largest number that is counted
    /// besides elements of these.
    pub(super) fn new(
        batch: Shape,
        sources: Vec<&'a Source>,
        (kept_in, engine): (DType, Engine),
        points: usize,
    ) -> Sources<'a> {
        let operand = |(k, source): (usize, &&Source)| {
            let mut operand = Operand::read(k, source);
            operand.view = View {
                shape: batch,
                ..source.view
            };
            operand
        };
        let operands = sources.iter().enumerate().map(operand).collect();
        let counts = sources.iter().map(|source| source.tensor.shape.count());
        let largest = counts.fold(points, usize::max);
        Sources {
            fold: Fold::new(batch, operands, &[], &|_| false),
            sources,
            batch,
            kept_in,
            engine,
            index: index_type(largest),
        }
    }

    fn strides(&self, k: usize) -> [isize; 2] {
        let rank = self.batch.rank();
        [0, 1].map(|i| {
            self.sources[k]
                .view
                .strides
                .get(rank + i)
                .copied()
                .unwrap_or(0)
        })
    }

    /// Where the batch element `batch` of each operand starts, and whether it is aligned.
    pub(super) fn bases(&self) -> String {
        let mut text = self.fold.unravel("batch", false, self.index);
        for k in 0..self.sources.len() {
            let (index, number) = (self.index, self.fold.address(k).number());
            let _ = writeln!(
                text,
                "const {index} b{k} = {number};\nconst bool aligned{k} = bp_aligned(r{k});"
            );
        }
        text
    }

    fn number(&self, k: usize, row: &str, column: &str) -> String {
        let index = self.index;
        let mut text = format!("b{k}");
        for (coordinate, stride) in [row, column].into_iter().zip(self.strides(k)) {
            if stride != 0 && coordinate != "0" {
                text += &format!(" + ({index})({coordinate}) * ({stride})");
            }
        }
        text
    }

    /// The value of an element, a truth value or of the type of sums.
    pub(super) fn value(&self, k: usize, row: &str, column: &str) -> String {
        let tensor = &self.sources[k].tensor;
        let at = position(tensor, &self.number(k, row, column));
        let element = load(tensor.dtype, &format!("r{k}[{at}]"));
        match tensor.dtype {
            DType::Bool => element,
            _ => format!("({}){element}", value(self.kept_in)),
        }
    }

    /// A factor as what multiplies takes it.
    fn factor(&self, value: &str) -> String {
        match self.engine {
            Engine::Lanes => value.to_owned(),
            Engine::Tensor => format!("bp_to_tf32({value})"),
        }
    }

    /// Neighbouring columns of which each aligned group can be loaded at once.
    fn vector(&self, k: usize, columns: usize) -> usize {
        let Source { tensor, view } = self.sources[k];
        let [row, column] = self.strides(k);
        if column != 1 || !tensor.layout.is_dense() {
            return 1;
        }
        let steps = self.fold.axes.iter().map(|axis| axis.strides[k]);
        let steps: Vec<isize> = steps
            .chain([row, columns as isize, view.offset as isize])
            .collect();
        let mut width = (16 / tensor.dtype.size()).min(8);
        while steps.iter().any(|step| step % width as isize != 0) {
            width /= 2;
        }
        width
    }
}

/// Rows of a matrix in shared memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub(super) name: &'static str,
    /// The operand.
    pub(super) operand: usize,
    pub(super) rows: usize,
    /// Columns of the matrix.
    pub(super) width: usize,
}

impl Tile {
    fn columns(&self) -> usize {
        let (group, groups) = groups(self.width);
        group * groups * LANES
    }

    /// An odd number of fours: then as many rows as there are banks of four lie in different banks.
    fn stride(&self) -> usize {
        self.columns() + 4
    }

    /// Elements.
    pub(super) fn size(&self) -> usize {
        self.rows * self.stride()
    }

    fn copy(&self, sources: &Sources<'_>, rows: Rows<'_>, vector: usize) -> String {
        let (
            k,
            Rows {
                first,
                count,
                threads,
            },
        ) = (self.operand, rows);
        let (columns, stride) = (self.columns(), self.stride());
        let (dtype, of) = (sources.sources[k].tensor.dtype, value(sources.kept_in));
        let packs = columns / vector;
        let [row, column] = sources.strides(k);
        let place = match row.abs() == 1 && column.abs() != 1 {
            true => format!("const int r = e % {0}, d = e / {0};\n", self.rows),
            false => format!("const int r = e / {packs}, d = e % {packs} * {vector};\n"),
        };
        let at = format!("{first} + r");
        let copy = match vector {
            1 => {
                let value = sources.value(k, &at, "d");
                format!("y.at[0] = {};\n", sources.factor(&value))
            }
            _ => format!(
                "const bp_pack<{0}, {vector}> x = *(const bp_pack<{0}, {vector}>*)(r{k} + ({1}));\n\
                 #pragma unroll\nfor (int i = 0; i < {vector}; ++i) y.at[i] = {2};\n",
                storage(dtype),
                sources.number(k, &at, "d"),
                sources.factor(&format!("({of}){}", load(dtype, "x.at[i]")))
            ),
        };
        // Tiles start at multiples of their rows.
        let row = (count % self.rows != 0).then(|| format!("{at} < {count}"));
        let column = (columns > self.width).then(|| format!("d < {}", self.width));
        let tests: Vec<String> = row.into_iter().chain(column).collect();
        let copy = match tests.is_empty() {
            true => copy,
            false => format!("if ({}) {{\n{copy}}}\n", tests.join(" && ")),
        };
        let total = self.rows * packs;
        let unrolled = match total.div_ceil(threads) * vector {
            64.. => 2,
            _ if vector == 1 => 2,
            _ => 8,
        };
        let name = self.name;
        format!(
            "#pragma unroll {unrolled}\n\
             for (int e = threadIdx.x; e < {total}; e += {threads}) {{\n{place}\
             bp_pack<{of}, {vector}> y;\n\
             #pragma unroll\nfor (int i = 0; i < {vector}; ++i) y.at[i] = 0;\n{copy}\
             *(bp_pack<{of}, {vector}>*)({name} + r * {stride} + d) = y;\n}}\n"
        )
    }
}

/// Rows of matrices, from `first` on, of which there are `count` in all, that so many threads copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    pub(super) first: &'a str,
    pub(super) count: usize,
    pub(super) threads: usize,
}

/// Copies the same rows of some matrices; what is beyond the last one is zero.
pub(super) fn fill(tiles: &[Tile], sources: &Sources<'_>, rows: Rows<'_>) -> String {
    let vector = |tile: &Tile| sources.vector(tile.operand, tile.width);
    let copies = |width: &dyn Fn(&Tile) -> usize| -> String {
        let copies = tiles
            .iter()
            .map(|tile| tile.copy(sources, rows, width(tile)));
        copies.collect()
    };
    let wide = tiles.iter().filter(|tile| vector(tile) > 1);
    let tests: Vec<String> = wide
        .map(|tile| format!("aligned{}", tile.operand))
        .collect();
    match tests.is_empty() {
        true => copies(&|_| 1),
        // One branch around all, so that their loads are under way together.
        false => format!(
            "if ({}) {{\n{}}} else {{\n{}}}\n",
            tests.join(" && "),
            copies(&vector),
            copies(&|_| 1),
        ),
    }
}

/// Products of the rows of two tiles: `name[i][j]` of a thread's own rows and of the other ones.
pub(super) fn products(
    name: &str,
    [own, other]: [Tile; 2],
    tiling: Tiling,
    kept_in: DType,
) -> String {
    if tiling.engine == Engine::Tensor {
        return tensor_products(name, [own, other], tiling);
    }
    let (of, fma) = (value(kept_in), function("fma", kept_in));
    let (rows, columns, row) = (tiling.down_each(), tiling.across_each(), tiling.row());
    let depth = own.width.next_multiple_of(4);
    let each = |body: &str| {
        format!(
            "#pragma unroll\nfor (int i = 0; i < {rows}; ++i)\n\
             #pragma unroll\nfor (int j = 0; j < {columns}; ++j)\n{body}"
        )
    };
    format!(
        "{of} {name}[{rows}][{columns}];\n{}\
         #pragma unroll 2\nfor (int d = 0; d < {depth}; d += 4) {{\n\
         bp_pack<{of}, 4> x[{rows}], y[{columns}];\n\
         #pragma unroll\nfor (int i = 0; i < {rows}; ++i) \
         x[i] = *(const bp_pack<{of}, 4>*)({} + ({row}) * {} + d);\n\
         #pragma unroll\nfor (int j = 0; j < {columns}; ++j) \
         y[j] = *(const bp_pack<{of}, 4>*)({} + (tx + j * {LANES}) * {} + d);\n\
         #pragma unroll\nfor (int u = 0; u < 4; ++u)\n{}}}\n",
        each(&format!("{name}[i][j] = 0;\n")),
        own.name,
        own.stride(),
        other.name,
        other.stride(),
        each(&format!(
            "{name}[i][j] = {fma}(x[i].at[u], y[j].at[u], {name}[i][j]);\n"
        )),
    )
}

/// The same by tensor cores: pieces of 16 own rows by 8 other ones.
fn tensor_products(name: &str, [own, other]: [Tile; 2], tiling: Tiling) -> String {
    let (depth, columns) = (own.width.next_multiple_of(8), tiling.across_each());
    format!(
        "float {name}[2][{columns}] = {{}};\n\
         #pragma unroll 2\nfor (int d = 0; d < {depth}; d += 8) {{\n\
         const float* const x = {} + ty * {stride} + d + tx;\n\
         const float* const y = {} + group * {that} + d + tx;\n\
         const float a[4] = {{x[0], x[{below}], x[4], x[{below} + 4]}};\n\
         #pragma unroll\nfor (int n = 0; n < {pieces}; ++n) {{\n\
         const float b[2] = {{y[n * {next}], y[n * {next} + 4]}};\n{}}}\n}}\n",
        own.name,
        other.name,
        piece(name),
        stride = own.stride(),
        that = other.stride(),
        below = 8 * own.stride(),
        pieces = tiling.other / 8,
        next = 8 * other.stride(),
    )
}

/// Adds the product of `a` and `b` to piece `n` of sums.
fn piece(sums: &str) -> String {
    format!(
        "float c[4] = {{{sums}[0][2 * n], {sums}[0][2 * n + 1], {sums}[1][2 * n], {sums}[1][2 * n + 1]}};\n\
         bp_mma_tf32(c, a, b);\n\
         {sums}[0][2 * n] = c[0], {sums}[0][2 * n + 1] = c[1], {sums}[1][2 * n] = c[2], {sums}[1][2 * n + 1] = c[3];\n"
    )
}

/// Elements from one row of weights to the next.
pub(super) fn weights_stride(tiling: Tiling) -> usize {
    tiling.other + 4
}

/// Sums that a thread keeps of its own rows, all zero.
pub(super) fn sums(name: &str, width: usize, tiling: Tiling, kept_in: DType) -> String {
    let (of, rows, each) = (value(kept_in), tiling.down_each(), tiling.sums_each(width));
    format!(
        "{of} {name}[{rows}][{each}];\n#pragma unroll\nfor (int i = 0; i < {rows}; ++i)\n\
         #pragma unroll\nfor (int c = 0; c < {each}; ++c) {name}[i][c] = 0;\n"
    )
}

/// Adds the rows of a tile, times weights, to the sums.
pub(super) fn accumulate(
    sums: &str,
    weights: &str,
    tile: Tile,
    tiling: Tiling,
    kept_in: DType,
) -> String {
    if tiling.engine == Engine::Tensor {
        return tensor_accumulate(sums, weights, tile, tiling);
    }
    let (of, fma) = (value(kept_in), function("fma", kept_in));
    let (rows, row, stride) = (tiling.down_each(), tiling.row(), weights_stride(tiling));
    let (group, groups) = groups(tile.width);
    format!(
        "#pragma unroll 2\nfor (int n = 0; n < {}; n += 4) {{\n\
         bp_pack<{of}, 4> p[{rows}];\n\
         #pragma unroll\nfor (int i = 0; i < {rows}; ++i) \
         p[i] = *(const bp_pack<{of}, 4>*)({weights} + ({row}) * {stride} + n);\n\
         #pragma unroll\nfor (int u = 0; u < 4; ++u)\n\
         #pragma unroll\nfor (int g = 0; g < {groups}; ++g) {{\n\
         const bp_pack<{of}, {group}> y = *(const bp_pack<{of}, {group}>*)\
         ({} + (n + u) * {} + (g * {LANES} + tx) * {group});\n\
         #pragma unroll\nfor (int i = 0; i < {rows}; ++i)\n\
         #pragma unroll\nfor (int c = 0; c < {group}; ++c)\n\
         {sums}[i][g * {group} + c] = {fma}(p[i].at[u], y.at[c], {sums}[i][g * {group} + c]);\n}}\n}}\n",
        tiling.other,
        tile.name,
        tile.stride(),
    )
}

/// The same by tensor cores: pieces of 16 own rows by 8 columns.
fn tensor_accumulate(sums: &str, weights: &str, tile: Tile, tiling: Tiling) -> String {
    format!(
        "#pragma unroll 2\nfor (int m = 0; m < {}; m += 8) {{\n\
         const float* const x = {weights} + ty * {stride} + m + tx;\n\
         const float* const y = {} + (m + tx) * {that} + group;\n\
         const float a[4] = {{x[0], x[{below}], x[4], x[{below} + 4]}};\n\
         #pragma unroll\nfor (int n = 0; n < {}; ++n) {{\n\
         const float b[2] = {{y[n * 8], y[n * 8 + {}]}};\n{}}}\n}}\n",
        tiling.other,
        tile.name,
        tile.width.div_ceil(8),
        4 * tile.stride(),
        piece(sums),
        stride = weights_stride(tiling),
        that = tile.stride(),
        below = 8 * weights_stride(tiling),
    )
}

/// A weight as what multiplies takes it.
pub(super) fn weight(value: &str, tiling: Tiling) -> String {
    match tiling.engine {
        Engine::Lanes => value.to_owned(),
        Engine::Tensor => format!("bp_to_tf32({value})"),
    }
}

/// Runs `body` for each column `column` of a thread's row `i`, whose sum is number `c`.
pub(super) fn each_column(width: usize, tiling: Tiling, body: &str) -> String {
    format!(
        "#pragma unroll\nfor (int c = 0; c < {}; ++c) {{\n\
         const int column = {};\n\
         if (column < {width}) {{\n{body}}}\n}}\n",
        tiling.sums_each(width),
        tiling.sum_column(width),
    )
}

/// Pieces of dynamic shared memory, one after the other.
pub(super) fn shared(parts: &[(&str, usize)], kept_in: DType) -> String {
    let of = value(kept_in);
    let mut text = format!("BP_DYN_SHARED({of}, shared);\n");
    let mut offset = 0;
    for (name, size) in parts {
        let _ = writeln!(text, "{of}* const {name} = shared + {offset};");
        offset += size;
    }
    text
}
