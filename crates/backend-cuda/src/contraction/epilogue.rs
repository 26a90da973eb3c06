//! What becomes of the sums: the epilogue at a few neighbouring points at once.

use std::fmt::Write;

use backprop_core::{DType, Reduction};

use super::matrix::{sum, times};
use super::problem::{Part, Problem};
use super::tile::{Sizes, Tile};
use crate::lowered::{Arg, Launch, THREADS};
use crate::pack::Pack;
use crate::source::{head, index_type, reduce, value};

/// Packs that a thread works on at once.
const AHEAD: usize = 4;

/// The epilogue of a problem.
pub(super) struct Epilogue<'a> {
    problem: &'a Problem<'a>,
    pack: Pack<'a>,
}

/// A tile whose sums lie in shared memory, a part for each slice.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub(super) tile: Tile,
    pub(super) sizes: Sizes,
}

impl<'a> Epilogue<'a> {
    pub(super) fn new(problem: &'a Problem<'a>) -> Epilogue<'a> {
        let reads = problem.left.inputs().len() + problem.right.inputs().len();
        let pack = Pack::new(problem.space, problem.epilogue, &|_| false);
        let pack = pack.after(1, reads).widest();
        let mut width = pack.width.min(4);
        while !problem.run().is_multiple_of(width) {
            width /= 2;
        }
        Epilogue {
            pack: pack.of_width(width),
            problem,
        }
    }

    fn accumulator(&self) -> DType {
        self.problem.accumulator
    }

    fn index(&self) -> &'static str {
        index_type(self.problem.space.count())
    }

    /// The same for one point at a time.
    pub(super) fn single(mut self) -> Epilogue<'a> {
        self.pack = self.pack.of_width(1);
        self
    }

    /// Says which point is at a row and a column of the product.
    pub(super) fn at(&self, m: &str, n: &str) -> String {
        let index = self.index();
        let number = self.number(m, n);
        let unravel = self.pack.fold.unravel("number", false, index);
        format!("const {index} number = {number};\n{unravel}")
    }

    pub(super) fn room(&self) -> String {
        self.pack.alignment() + &self.pack.room("")
    }

    pub(super) fn loads(&self) -> String {
        self.pack.loads("")
    }

    pub(super) fn compute(&self) -> String {
        self.pack.compute("", &|_| true, "")
    }

    /// The number of the point at a row and a column of the product.
    fn number(&self, m: &str, n: &str) -> String {
        let Problem { left, right, .. } = self.problem;
        let index = self.index();
        let terms = |points: &[usize], piece: &dyn Fn(usize) -> String| -> Vec<String> {
            let axes = points.iter().enumerate();
            axes.map(|(axis, &points)| times(&piece(axis), points as isize))
                .collect()
        };
        let (m, n) = (format!("({index})({m})"), format!("({index})({n})"));
        let batch = format!("({index})bt");
        let all = [
            terms(&self.problem.batch_points, &|axis| {
                left.piece(Part::Batch, axis, &batch)
            }),
            terms(&self.problem.m_points, &|axis| {
                left.piece(Part::Free, axis, &m)
            }),
            terms(&self.problem.n_points, &|axis| {
                right.piece(Part::Free, axis, &n)
            }),
        ];
        sum(all.concat().into_iter())
    }

    /// Statements that give `g0` the sums that stand at `first`, `first + step`, ..
    fn added(&self, (from, step, parts): (&str, usize, usize)) -> String {
        let (of, width) = (value(self.accumulator()), self.pack.width);
        let total = "g0.at[i]";
        let next = reduce(Reduction::Sum, total, "more.at[i]", self.accumulator());
        format!(
            "bp_pack<{of}, {width}> g0 = *(const bp_pack<{of}, {width}>*)({from});\n\
             #pragma unroll\nfor (int part = 1; part < {parts}; ++part) {{\n\
             const bp_pack<{of}, {width}> more = *(const bp_pack<{of}, {width}>*)({from} + ({})part * {step});\n{}\n}}\n",
            index_type(step * parts),
            self.pack.each(&format!("{total} = {next};")),
        )
    }

    /// The epilogue of all points of a tile: what comes before products are summed, before the sums
    /// are handed over, and after. Where every thread has its points at once, it loads what they need
    /// before; and before everything else if that is one pack.
    pub(super) fn of_tile(&self, Sums { tile, sizes }: Sums) -> [String; 3] {
        let width = self.pack.width;
        let (across, threads) = (tile.n / width, tile.threads());
        let packs = tile.m * across;
        let ahead = AHEAD.min(packs.div_ceil(threads));
        let pitch = tile.pitch(tile.n);
        let index = self.index();
        let at = format!(
            "const int at = first + u * {threads};\n\
             const int row = at / {across}, column = at % {across} * {width};\n\
             if (at < {packs} && m0 + row < {} && n0 + column < {}) {{\n\
             const {index} number = {};\n",
            sizes.m,
            sizes.n,
            self.number("m0 + row", "n0 + column")
        );
        let from = format!("shared + row * {pitch} + column");
        let added = self.added((&from, tile.m * pitch, tile.slices));
        let of = value(self.accumulator());
        if tile.splits > 1 {
            let points = self.problem.space.count();
            let stored = format!(
                "#pragma unroll 4\nfor (int first = threadIdx.x; first < {packs}; first += {threads}) {{\n\
                 const int u = 0;\n{at}{added}\
                 *(bp_pack<{of}, {width}>*)(p + ((long long)blockIdx.y * {points} + number)) = g0;\n}}\n}}\n"
            );
            return [String::new(), String::new(), stored];
        }
        let unravel = self.pack.fold.unravel("number", false, index);
        let alignment = self.pack.alignment();
        let room = self.pack.room(&format!("[{ahead}]"));
        let compute = self.pack.compute("[u]", &|_| true, "");
        let each = format!("#pragma unroll\nfor (int u = 0; u < {ahead}; ++u) {{\n{at}");
        let loaded = format!("{each}{unravel}{}}}\n}}\n", self.pack.loads("[u]"));
        let computed = format!("{each}{added}{unravel}{compute}}}\n}}\n");
        if packs <= ahead * threads {
            let before = format!("const int first = threadIdx.x;\n{alignment}{room}{loaded}");
            return match ahead {
                1 => [before, String::new(), computed],
                _ => [String::new(), before, computed],
            };
        }
        let after = format!(
            "{alignment}#pragma unroll 1\nfor (int first = threadIdx.x; first < {packs}; first += {}) {{\n\
             {room}{loaded}{computed}}}\n",
            ahead * threads
        );
        [String::new(), String::new(), after]
    }

    /// Adds up what several blocks left in scratch memory, and goes on.
    pub(super) fn finish(&self, parameters: &[String], args: Vec<Arg>, parts: usize) -> Launch {
        let (points, width, index) = (self.problem.space.count(), self.pack.width, self.index());
        let mut text = head(parameters, THREADS);
        let _ = writeln!(
            text,
            "const {index} number = (({index})blockIdx.x * {THREADS} + threadIdx.x) * {width};\n\
             if (number >= {points}) return;"
        );
        text += &self.pack.fold.unravel("number", false, index);
        text += &self.pack.alignment();
        text += &self.pack.room("");
        text += &self.pack.loads("");
        text += &self.added(("p + number", points, parts));
        text += &self.pack.compute("", &|_| true, "");
        text += "}\n";
        Launch::each(&text, points.div_ceil(width), args)
    }
}
