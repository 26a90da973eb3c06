//! A product of one row with a matrix that stays on the multiprocessor, in registers and in shared
//! memory: what a loop multiplies by again and again. Sums are added up as by tiles.

use std::fmt::Write;

use backprop_core::{DType, MatMul, Primitive};

use super::matrix::sum;
use super::problem::{Part, Problem};
use super::tile::{Engine, Sizes, Tile};
use super::{Options, library, means, vector};
use crate::source::{load, position};

/// The type of factors and sums.
const OF: DType = DType::F32;

/// A product in a loop.
pub(crate) struct Resident<'a> {
    spec: &'a MatMul,
    tile: Tile,
    origin: String,
    /// Elements of the matrix to move by the column `n`, and by the inner index `k`.
    moved: [String; 2],
}

/// How a block of threads shares in a product. A thread has some columns of a part of `k`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    threads: usize,
    /// Threads of a column, each with as many slices.
    parts: usize,
    columns: usize,
    slices: usize,
    /// Steps of `k` in a slice.
    steps: usize,
}

/// Where the matrix and the sums of a product are kept.
pub(crate) struct Places<'n> {
    /// Ends the names of what belongs to this product.
    pub(crate) name: usize,
    /// Elements of a thread that it has in registers; the others lie in `more`.
    pub(crate) registers: usize,
    /// The row, in shared memory.
    pub(crate) row: &'n str,
    /// Whether four neighbours of the row can be read at once.
    pub(crate) width: usize,
}

impl<'a> Resident<'a> {
    /// The product, if its sums are those of one launch by tiles.
    pub(crate) fn new(primitive: &'a Primitive, options: Options) -> Option<Resident<'a>> {
        let Primitive::MatMul(spec) = primitive else {
            return None;
        };
        let (_, right) = spec.plain_operands()?;
        let problem = Problem::new(primitive)?;
        let (batch, m, n, k) = (problem.batch(), spec.m, spec.n, spec.k);
        let sizes = Sizes { batch, m, n, k };
        let of_floats = right.tensor.dtype == OF && spec.accumulator == OF;
        let other = vector::suits(sizes) || library::lower(spec, &problem, options).is_some();
        let tile = Tile::new(sizes, OF, means(&problem, sizes, options));
        let whole = tile.splits == 1 && tile.engine == Engine::Lanes;
        if batch != 1 || !of_floats || other || !whole {
            return None;
        }
        let matrix = &problem.right;
        Some(Resident {
            spec,
            tile,
            origin: matrix.origin(0).to_string(),
            moved: [(Part::Free, "n"), (Part::Inner, "k")]
                .map(|(part, name)| matrix.moved(0, part, name)),
        })
    }

    pub(crate) fn spec(&self) -> &'a MatMul {
        self.spec
    }

    /// Elements of the row, with those of zeros that follow it.
    pub(crate) fn reach(&self) -> usize {
        self.tile.tiles(self.spec.k) * self.tile.depth()
    }

    /// Sums that are added up at the end, for all columns.
    pub(crate) fn sums(&self) -> usize {
        self.tile.slices * self.spec.n
    }

    pub(crate) fn share(&self, threads: usize) -> Share {
        let (n, slices) = (self.spec.n, self.tile.slices);
        let mut parts = 1;
        while parts * 2 <= slices && n <= threads / (parts * 2) {
            parts *= 2;
        }
        Share {
            threads,
            parts,
            columns: n.div_ceil(threads / parts),
            slices: slices / parts,
            steps: self.tile.tiles(self.spec.k) * self.tile.step,
        }
    }

    /// Fetches the matrix, once.
    pub(crate) fn fetch(&self, share: Share, places: &Places<'_>) -> String {
        let Places {
            name, registers, ..
        } = places;
        let (n, k) = (self.spec.n, self.spec.k);
        let tensor = &self.spec.right.inputs[0].tensor;
        let number = [&self.origin, &self.moved[0], &self.moved[1]];
        let number = sum(number.into_iter().cloned());
        let element = load(OF, &format!("r1[{}]", position(tensor, &number)));
        let (columns, threads) = (share.columns, share.threads);
        format!(
            "{}#pragma unroll\nfor (int s = 0; s < {}; ++s) {{\n\
             #pragma unroll\nfor (int i = 0; i < {steps}; ++i) {{\n\
             #pragma unroll\nfor (int c = 0; c < {columns}; ++c) {{\n\
             const int q = (s * {steps} + i) * {columns} + c;\n\
             const int k = {}, n = column + c * {};\n\
             const float w = k < {k} && n < {n} ? {element} : 0;\n\
             if (q < {registers}) kept{name}[q < {registers} ? q : 0] = w;\n\
             else more{name}[(q - {registers}) * {threads} + threadIdx.x] = w;\n}}\n}}\n}}\n",
            share.place(),
            share.slices,
            self.inner(share, "i"),
            share.lanes(),
            steps = share.steps,
        )
    }

    /// The inner index of step `i` of slice `s` of the thread.
    fn inner(&self, share: Share, i: &str) -> String {
        let (depth, step) = (self.tile.depth(), self.tile.step);
        format!(
            "{i} / {step} * {depth} + (part * {} + s) * {step} + {i} % {step}",
            share.slices
        )
    }

    /// Multiplies the row, and leaves the sums of slices in `parts`.
    pub(crate) fn multiply(&self, share: Share, places: &Places<'_>) -> String {
        let Places {
            name,
            registers,
            row,
            width,
        } = places;
        let Share {
            columns,
            slices,
            steps,
            threads,
            ..
        } = share;
        let n = self.spec.n;
        format!(
            "{}float total[{slices}][{columns}] = {{}};\n\
             #pragma unroll\nfor (int g = 0; g < {steps}; g += {width}) {{\n\
             #pragma unroll\nfor (int s = 0; s < {slices}; ++s) {{\n\
             const bp_pack<float, {width}> x = *(const bp_pack<float, {width}>*)({row} + {});\n\
             #pragma unroll\nfor (int u = 0; u < {width}; ++u) {{\n\
             #pragma unroll\nfor (int c = 0; c < {columns}; ++c) {{\n\
             const int q = (s * {steps} + g + u) * {columns} + c;\n\
             const float w = q < {registers} ? kept{name}[q < {registers} ? q : 0] : more{name}[(q - {registers}) * {threads} + threadIdx.x];\n\
             total[s][c] = bp_fma(x.at[u], w, total[s][c]);\n}}\n}}\n}}\n}}\n\
             #pragma unroll\nfor (int s = 0; s < {slices}; ++s) {{\n\
             #pragma unroll\nfor (int c = 0; c < {columns}; ++c) {{\n\
             const int n = column + c * {};\n\
             if (n < {n}) parts[(part * {slices} + s) * {n} + n] = total[s][c];\n}}\n}}\n",
            share.place(),
            self.inner(share, "g"),
            share.lanes(),
        )
    }

    /// Statements that give `g0` the sum of column `j`.
    pub(crate) fn added(&self) -> String {
        let n = self.spec.n;
        let mut text = "bp_pack<float, 1> g0;\ng0.at[0] = parts[j];\n".to_owned();
        let _ = writeln!(
            text,
            "#pragma unroll\nfor (int slice = 1; slice < {}; ++slice) g0.at[0] = (g0.at[0] + parts[slice * {n} + j]);",
            self.tile.slices
        );
        text
    }
}

impl Share {
    /// Threads of a part.
    fn lanes(&self) -> usize {
        self.threads / self.parts
    }

    /// Elements of the matrix that a thread has.
    pub(crate) fn elements(&self) -> usize {
        self.slices * self.steps * self.columns
    }

    /// Sums that a thread adds up at a time.
    pub(crate) fn totals(&self) -> usize {
        self.slices * self.columns
    }

    fn place(&self) -> String {
        let lanes = self.lanes();
        format!("const int part = threadIdx.x / {lanes}, column = threadIdx.x % {lanes};\n")
    }
}
