//! What becomes of the sums: the epilogue at a few neighbouring points at once.

use std::fmt::Write;

use backprop_core::{DType, Reduction};

use super::matrix::{sum, times};
use super::problem::{Part, Problem};
use super::tile::{Sizes, Tile};
use crate::lowered::{Arg, Launch, Source};
use crate::pack::Pack;
use crate::schedule::THREADS;
use crate::source::{index_type, reduce, value};
use crate::sweep::{blocks, head};

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

    /// The number of the point at a row and a column of the product.
    fn number(&self) -> String {
        let Problem { left, right, .. } = self.problem;
        let index = self.index();
        let terms = |points: &[usize], piece: &dyn Fn(usize) -> String| -> Vec<String> {
            let axes = points.iter().enumerate();
            axes.map(|(axis, &points)| times(&piece(axis), points as isize)).collect()
        };
        let (m, n) = (format!("({index})(m0 + row)"), format!("({index})(n0 + column)"));
        let batch = format!("({index})bt");
        let all = [
            terms(&self.problem.batch_points, &|axis| left.piece(Part::Batch, axis, &batch)),
            terms(&self.problem.m_points, &|axis| left.piece(Part::Free, axis, &m)),
            terms(&self.problem.n_points, &|axis| right.piece(Part::Free, axis, &n)),
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

    /// The epilogue of all points of a tile.
    pub(super) fn of_tile(&self, Sums { tile, sizes }: Sums) -> String {
        let width = self.pack.width;
        let (across, threads) = (tile.n / width, tile.threads());
        let packs = tile.m * across;
        let ahead = AHEAD.min(packs.div_ceil(threads));
        let pitch = Tile::pitch(tile.n);
        let index = self.index();
        let at = format!(
            "const int at = first + u * {threads};\n\
             const int row = at / {across}, column = at % {across} * {width};\n\
             if (at < {packs} && m0 + row < {} && n0 + column < {}) {{\n\
             const {index} number = {};\n",
            sizes.m,
            sizes.n,
            self.number()
        );
        let from = format!("shared + row * {pitch} + column");
        let added = self.added((&from, tile.m * pitch, tile.slices));
        let of = value(self.accumulator());
        if tile.splits > 1 {
            let points = self.problem.space.count();
            return format!(
                "#pragma unroll 4\nfor (int first = threadIdx.x; first < {packs}; first += {threads}) {{\n\
                 const int u = 0;\n{at}{added}\
                 *(bp_pack<{of}, {width}>*)(p + ((long long)blockIdx.y * {points} + number)) = g0;\n}}\n}}\n"
            );
        }
        let unravel = self.pack.fold.unravel("number", false, index);
        let mut text = self.pack.alignment();
        let (room, loads) = (self.pack.room(&format!("[{ahead}]")), self.pack.loads("[u]"));
        let compute = self.pack.compute("[u]", "");
        let _ = writeln!(
            text,
            "#pragma unroll 1\nfor (int first = threadIdx.x; first < {packs}; first += {}) {{\n{room}\
             #pragma unroll\nfor (int u = 0; u < {ahead}; ++u) {{\n{at}{unravel}{loads}}}\n}}\n\
             #pragma unroll\nfor (int u = 0; u < {ahead}; ++u) {{\n{at}{added}{unravel}{compute}}}\n}}\n}}",
            ahead * threads
        );
        text
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
        text += &self.pack.compute("", "");
        text += "}\n";
        Launch {
            source: Source::new(&text),
            grid: [blocks(points.div_ceil(width), THREADS), 1, 1],
            block: THREADS as u32,
            shared: 0,
            args,
        }
    }
}
