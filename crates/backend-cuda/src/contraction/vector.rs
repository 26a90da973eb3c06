//! Products with a few rows or columns, which are as fast as the matrix is read.
//!
//! The inner index is cut into chunks; in each chunk 32 lanes take groups of neighbours in turn. Lanes
//! are added up by halves, then chunks in order. Where a matrix is contiguous along the inner index, a
//! warp is the lanes of one of its rows; where it is contiguous across, a thread is four lanes of a
//! column. Both add up in the same order.

use std::fmt::Write;

use backprop_core::{DType, Primitive, Reduction};

use super::epilogue::Epilogue;
use super::matrix::sum;
use super::problem::{Matrix, Part, Problem};
use super::tile::Sizes;
use crate::lowered::{Launch, Lowered, Source, arguments};
use crate::schedule::halves;
use crate::source::{Point, head, load, parameters, position, reduce, value};

/// The most rows or columns of what is called the vector here.
const FEW: usize = 4;
/// Lanes of a chunk.
const LANES: usize = 32;
/// Warps of a block that takes a row a warp.
const WARPS: usize = 8;
/// Bytes that a lane of a row asks for at once, at most.
const AT_ONCE: usize = 128;
/// Columns of a block, and threads of a column in each chunk.
const COLUMNS: usize = 32;
const DEEP: usize = 8;

/// Whether products of these sizes are summed this way.
pub(super) fn suits(sizes: Sizes) -> bool {
    let (few, many) = (sizes.m.min(sizes.n), sizes.m.max(sizes.n));
    (1..=FEW).contains(&few) && sizes.k >= 64 && (many >= 256 || (many >= 16 && sizes.k <= 4096))
}

/// A product of a vector, or a few, and a matrix.
pub(super) struct Vector<'a> {
    problem: &'a Problem<'a>,
    few: &'a Matrix<'a>,
    many: &'a Matrix<'a>,
    sizes: Sizes,
}

impl<'a> Vector<'a> {
    pub(super) fn new(problem: &'a Problem<'a>, sizes: Sizes) -> Vector<'a> {
        let (few, many) = match sizes.m <= sizes.n {
            true => (&problem.left, &problem.right),
            false => (&problem.right, &problem.left),
        };
        Vector {
            problem,
            few,
            many,
            sizes,
        }
    }

    fn accumulator(&self) -> DType {
        self.problem.accumulator
    }

    fn vectors(&self) -> usize {
        self.sizes.m.min(self.sizes.n)
    }

    fn rows(&self) -> usize {
        self.sizes.m.max(self.sizes.n)
    }

    fn chunks(&self) -> usize {
        match self.sizes.k {
            512.. => 4,
            256.. => 2,
            _ => 1,
        }
    }

    /// Neighbours that a lane takes at once.
    fn group(&self) -> usize {
        if self.sizes.k.is_multiple_of(4) { 4 } else { 1 }
    }

    fn chunk(&self) -> usize {
        let step = LANES * self.group();
        self.sizes.k.div_ceil(self.chunks()).next_multiple_of(step)
    }

    pub(super) fn lower(&self, primitive: &Primitive) -> Lowered {
        let by_rows = self.many.is_along(Part::Inner);
        let (rows, threads) = match by_rows {
            true => (WARPS / self.chunks(), WARPS * 32),
            false => (COLUMNS, COLUMNS * DEEP * self.chunks()),
        };
        let mut text = head(&parameters(primitive), self.bounds(threads));
        let per_batch = self.rows().div_ceil(rows);
        let _ = writeln!(
            text,
            "const int bt = blockIdx.x / {per_batch};\n\
             const int first = blockIdx.x % {per_batch} * {rows};\n\
             __shared__ {} parts[{}];",
            value(self.accumulator()),
            self.chunks() * self.vectors() * rows,
        );
        let epilogue = Epilogue::new(self.problem).single();
        let place = self.place(&epilogue, rows);
        // What the epilogue reads is on its way while products are added up.
        let _ = writeln!(text, "{}{place}{}}}", epilogue.room(), epilogue.loads());
        text += &match by_rows {
            true => self.by_rows(),
            false => self.by_columns(),
        };
        let of = value(self.accumulator());
        let at = format!(
            "(part * {} + of) * {rows} + threadIdx.x % {rows}",
            self.vectors()
        );
        let next = reduce(
            Reduction::Sum,
            "g0.at[0]",
            &format!("parts[{at}]"),
            self.accumulator(),
        );
        let _ = writeln!(
            text,
            "__syncthreads();\n{place}bp_pack<{of}, 1> g0;\ng0.at[0] = parts[of * {rows} + threadIdx.x % {rows}];\n\
             for (int part = 1; part < {}; ++part) g0.at[0] = {next};\n{}}}\n}}",
            self.chunks(),
            epilogue.compute(),
        );
        Lowered::one(Launch {
            source: Source::new(&text),
            grid: [(per_batch * self.sizes.batch) as u32, 1, 1],
            block: threads as u32,
            shared: 0,
            args: arguments(primitive),
            early: None,
        })
    }

    /// Opens the part of a thread that has a result of its own.
    fn place(&self, epilogue: &Epilogue<'_>, rows: usize) -> String {
        let (m, n) = match self.sizes.m <= self.sizes.n {
            true => ("of", "own"),
            false => ("own", "of"),
        };
        format!(
            "if (threadIdx.x < {} && first + threadIdx.x % {rows} < {}) {{\n\
             const int of = threadIdx.x / {rows}, own = first + threadIdx.x % {rows};\n{}",
            rows * self.vectors(),
            self.rows(),
            epilogue.at(m, n),
        )
    }

    /// A value of one of the operands, or zero past the end of the chunk.
    fn element(&self, matrix: &Matrix<'_>, free: &str, target: &str) -> String {
        let at = At { matrix, free };
        let computed = match matrix.is_plain() {
            true => format!(
                "{target} = ({})({});\n",
                value(self.accumulator()),
                at.input(0)
            ),
            false => matrix.value(&at, (target, self.accumulator())),
        };
        format!("{target} = 0;\nif (k < end) {{\n{computed}}}\n")
    }

    /// Adds to the totals of the vectors what a thread has loaded.
    fn add(&self, (total, loaded): (&str, &str)) -> String {
        let of = value(self.accumulator());
        let mut text = String::new();
        for vector in 0..self.vectors() {
            let element = self.element(self.few, &vector.to_string(), "x");
            let _ = writeln!(
                text,
                "{{\n{of} x;\n{element}{total}[{vector}] = bp_fma(x, {loaded}, {total}[{vector}]);\n}}"
            );
        }
        text
    }

    /// Where a chunk begins and ends.
    fn ends(&self) -> String {
        let (chunk, k) = (self.chunk(), self.sizes.k);
        format!(
            "const int begin = chunk * {chunk};\n\
             const int end = begin + {chunk} < {k} ? begin + {chunk} : {k};\n"
        )
    }

    /// Groups of neighbours that a lane of a row asks for at once: all of its chunk, where registers hold
    /// them.
    fn ahead(&self) -> usize {
        let groups = self.chunk() / (LANES * self.group());
        let all = groups * self.group() * self.accumulator().size() <= AT_ONCE;
        if all { groups } else { 8 / self.group() }
    }

    /// Threads of a block. Blocks that all fit keep the most on its way: an H200 read the matrices of the
    /// workloads of 10^9 weights a tenth faster with four of them on a multiprocessor.
    fn bounds(&self, threads: usize) -> String {
        match self.vectors() == 1 && threads == WARPS * 32 && self.accumulator().size() == 4 {
            true => format!("{threads}, 4"),
            false => threads.to_string(),
        }
    }

    fn by_rows(&self) -> String {
        let (of, group, vectors) = (value(self.accumulator()), self.group(), self.vectors());
        let (ahead, rows) = (self.ahead(), WARPS / self.chunks());
        let element = self.element(self.many, "own", "some[i][j]");
        let (wide, aligned) = self.wide();
        let each = format!(
            "#pragma unroll\nfor (int i = 0; i < {ahead}; ++i) {{\n\
             #pragma unroll\nfor (int j = 0; j < {group}; ++j) {{\n\
             const int k = base + (i * {LANES} + lane) * {group} + j;\n"
        );
        let mut text = format!(
            "const int lane = threadIdx.x % 32, chunk = threadIdx.x / 32 / {rows};\n\
             const int row = threadIdx.x / 32 % {rows}, own = first + row;\n{}{aligned}\
             {of} total[{vectors}] = {{}};\n\
             if (own < {}) for (int base = begin; base < end; base += {}) {{\n\
             {of} some[{ahead}][{group}];\n{wide}{each}{element}}}\n}}\n{each}{}}}\n}}\n}}\n",
            self.ends(),
            self.rows(),
            ahead * LANES * group,
            self.add(("total", "some[i][j]")),
        );
        for vector in 0..vectors {
            let name = format!("t{vector}");
            let add = |a: &str, b: &str| reduce(Reduction::Sum, a, b, self.accumulator());
            let _ = writeln!(text, "{of} {name} = total[{vector}];");
            text += &halves(&name, of, (16, 1), &add);
            let _ = writeln!(
                text,
                "if (lane == 0) parts[(chunk * {vectors} + {vector}) * {rows} + row] = {name};"
            );
        }
        text
    }

    /// Opens the loads of whole groups, where the matrix allows them; what follows is for the rest.
    fn wide(&self) -> (String, String) {
        let group = self.group();
        if group == 1 || !self.many.is_plain() || self.many.width(0, Part::Inner) < group {
            return (String::new(), String::new());
        }
        let (name, dtype) = (self.many.first, self.many.inputs()[0].tensor.dtype);
        let at = At {
            matrix: self.many,
            free: "own",
        };
        let element = load(dtype, "pack.at[j]");
        let storage = crate::source::storage(dtype);
        let wide = format!(
            "if (aligned) {{\n#pragma unroll\nfor (int i = 0; i < {}; ++i) {{\n\
             const int k = base + (i * {LANES} + lane) * {group};\n\
             bp_pack<{storage}, {group}> pack = bp_pack<{storage}, {group}>();\n\
             if (k < end) pack = *(const bp_pack<{storage}, {group}>*)(r{name} + ({}));\n\
             #pragma unroll\nfor (int j = 0; j < {group}; ++j) some[i][j] = {element};\n}}\n}} else\n",
            self.ahead(),
            at.number(0),
        );
        (wide, format!("const bool aligned = bp_aligned(r{name});\n"))
    }

    fn by_columns(&self) -> String {
        let (of, group, vectors) = (value(self.accumulator()), self.group(), self.vectors());
        let (ahead, shares) = (4 / group, LANES / DEEP);
        let element = self.element(self.many, "own", "some[i][u][j]");
        let each = format!(
            "#pragma unroll\nfor (int i = 0; i < {ahead}; ++i) {{\n\
             #pragma unroll\nfor (int u = 0; u < {shares}; ++u) {{\n\
             #pragma unroll\nfor (int j = 0; j < {group}; ++j) {{\n\
             const int k = base + (i * {LANES} + u * {DEEP} + deep) * {group} + j;\n"
        );
        let mut text = format!(
            "const int deep = threadIdx.x / {COLUMNS} % {DEEP}, chunk = threadIdx.x / {};\n\
             const int column = threadIdx.x % {COLUMNS}, own = first + column;\n{}\
             {of} total[{shares}][{vectors}] = {{}};\n\
             if (own < {}) for (int base = begin; base < end; base += {}) {{\n\
             {of} some[{ahead}][{shares}][{group}];\n{each}{element}}}\n}}\n}}\n{each}{}}}\n}}\n}}\n}}\n\
             __shared__ {of} halves[{}][{DEEP}][{COLUMNS}];\n",
            COLUMNS * DEEP,
            self.ends(),
            self.rows(),
            ahead * LANES * group,
            self.add(("total[u]", "some[i][u][j]")),
            self.chunks(),
        );
        let add = |a: &str, b: &str| reduce(Reduction::Sum, a, b, self.accumulator());
        for vector in 0..vectors {
            let own = |u: usize| format!("total[{u}][{vector}]");
            let halves = add(&add(&own(0), &own(2)), &add(&own(1), &own(3)));
            let half = |deep: usize| format!("halves[chunk][{deep}][column]");
            let pair = |deep: usize| add(&half(deep), &half(deep + 4));
            let whole = add(&add(&pair(0), &pair(2)), &add(&pair(1), &pair(3)));
            let _ = writeln!(
                text,
                "__syncthreads();\nhalves[chunk][deep][column] = {halves};\n__syncthreads();\n\
                 if (deep == 0) parts[(chunk * {vectors} + {vector}) * {COLUMNS} + column] = {whole};"
            );
        }
        text
    }
}

/// An operand's element at `k` and a free index.
struct At<'m, 'a> {
    matrix: &'m Matrix<'a>,
    free: &'m str,
}

impl At<'_, '_> {
    fn number(&self, input: usize) -> String {
        let index = self.matrix.index();
        let wide = |name: &str| format!("({index}){name}");
        let terms = [
            self.matrix.origin(input).to_string(),
            self.matrix.moved(input, Part::Batch, &wide("bt")),
            self.matrix.moved(input, Part::Free, &wide(self.free)),
            self.matrix.moved(input, Part::Inner, &wide("k")),
        ];
        sum(terms.into_iter())
    }
}

impl Point for At<'_, '_> {
    fn input(&self, input: usize) -> String {
        let tensor = &self.matrix.inputs()[input].tensor;
        let at = position(tensor, &self.number(input));
        load(
            tensor.dtype,
            &format!("r{}[{at}]", self.matrix.first + input),
        )
    }

    fn coordinate(&self, axis: usize) -> String {
        let place = &self.matrix.places[axis];
        let terms = [
            place.constant.to_string(),
            self.matrix.reached(axis, Part::Batch, "bt"),
            self.matrix.reached(axis, Part::Free, self.free),
            self.matrix.reached(axis, Part::Inner, "k"),
        ];
        sum(terms.into_iter())
    }
}
