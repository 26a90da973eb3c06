//! The vjp of attention. Some blocks own keys and go over queries, the others own queries and go over
//! keys; both compute scores anew from the log-sum-exp. So nothing is added up in memory.

use std::fmt::Write;

use backprop_core::{AttentionVjp, DType, Heads, KeyMask, Primitive, Source as Seen};

use super::tile::{
    Rows, Sources, Tile, accumulate, each_column, fill, products, shared, sums, weight,
    weights_stride,
};
use super::tiling::{LANES, Tiling, Wanted, engine};
use super::{function, head, kept_in, operands, scored};
use crate::contraction::{Engine, Options};
use crate::lowered::{Launch, Lowered, Source, arguments, blocks};
use crate::source::{constant, parameters, position, store, value};

/// Operands without prologues, and heads that are not too wide for shared memory.
pub(crate) fn supports_vjp(spec: &AttentionVjp) -> bool {
    spec.heads.depth * spec.heads.width > 0
        && reads(spec).is_some()
        && tiling(spec, Engine::Lanes).is_some()
}

fn reads(spec: &AttentionVjp) -> Option<Vec<&Seen>> {
    let mut sources = operands(&spec.heads)?;
    sources.extend([&spec.out, &spec.lse, &spec.cotangent]);
    Some(sources)
}

fn kept(spec: &AttentionVjp) -> DType {
    reads(spec).map_or(DType::F64, |sources| kept_in(&sources))
}

/// Whose rows a block owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Keys,
    Queries,
}

/// A block's own rows, two matrices of them, and the other ones that these are multiplied with.
struct Side<'a> {
    spec: &'a AttentionVjp,
    owner: Owner,
    tiling: Tiling,
}

impl Side<'_> {
    fn heads(&self) -> &Heads {
        &self.spec.heads
    }

    /// The number of rows owned by all blocks of a batch element, and of the others.
    fn lengths(&self) -> [usize; 2] {
        let Heads { queries, keys, .. } = *self.heads();
        match self.owner {
            Owner::Keys => [keys, queries],
            Owner::Queries => [queries, keys],
        }
    }

    fn pieces(&self) -> usize {
        self.lengths()[0].div_ceil(self.tiling.own)
    }

    fn blocks(&self) -> usize {
        self.heads().batch.count() * self.pieces()
    }

    /// The number with which an operand that is no query, key or value is read.
    fn read(&self, of_results: usize) -> usize {
        let masked = matches!(self.heads().mask, KeyMask::Where(_) | KeyMask::Add(_));
        3 + usize::from(masked) + of_results
    }

    /// Own rows that give scores, own rows that give the weights' cotangents, and the same of the
    /// others.
    fn tiles(&self) -> [Tile; 4] {
        let Tiling { own, other, .. } = self.tiling;
        let Heads { depth, width, .. } = *self.heads();
        let cotangent = self.read(2);
        let [a, b, c, d] = match self.owner {
            Owner::Keys => [1, 2, 0, cotangent],
            Owner::Queries => [0, cotangent, 1, 2],
        };
        let tile = |name, operand, rows, width| Tile {
            name,
            operand,
            rows,
            width,
        };
        [
            tile("own_a", a, own, depth),
            tile("own_b", b, own, width),
            tile("other_a", c, other, depth),
            tile("other_b", d, other, width),
        ]
    }

    fn parts(&self) -> Vec<(&'static str, usize)> {
        let tiles = self.tiles().map(|tile| (tile.name, tile.size()));
        let weights = self.tiling.own * weights_stride(self.tiling);
        let queries = self.tiling.own.max(self.tiling.other);
        let more = [("slopes", weights), ("lse", queries), ("delta", queries)];
        let mut parts = [&tiles[..], &more].concat();
        if self.owner == Owner::Keys {
            parts.push(("weights", weights));
        }
        parts
    }

    fn bytes(&self) -> usize {
        self.parts().iter().map(|(_, size)| size).sum::<usize>() * kept(self.spec).size()
    }
}

fn sides(spec: &AttentionVjp, tiling: Tiling) -> [Side<'_>; 2] {
    [Owner::Keys, Owner::Queries].map(|owner| Side {
        spec,
        owner,
        tiling,
    })
}

fn tiling(spec: &AttentionVjp, engine: Engine) -> Option<Tiling> {
    let Heads {
        queries,
        keys,
        depth,
        width,
        batch,
        ..
    } = spec.heads;
    let blocks = |own: usize| batch.count() * (queries.div_ceil(own) + keys.div_ceil(own));
    let shared = |tiling| {
        sides(spec, tiling)
            .iter()
            .map(Side::bytes)
            .max()
            .unwrap_or(0)
    };
    Tiling::new(&Wanted {
        engine,
        kept_in: kept(spec),
        longest: queries.max(keys),
        widths: &[depth, width],
        products: 2,
        blocks: &blocks,
        shared: &shared,
    })
}

pub(crate) fn lower_vjp(spec: &AttentionVjp, options: Options) -> Lowered {
    let wanted = engine(&spec.heads, kept(spec), options);
    let tiling = tiling(spec, wanted).or_else(|| tiling(spec, Engine::Lanes));
    let (Some(reads), Some(tiling)) = (reads(spec), tiling) else {
        return Lowered::default();
    };
    let sides = sides(spec, tiling);
    let counts = sides.each_ref().map(Side::blocks);
    let count = counts[0] + counts[1];
    if count == 0 {
        return Lowered::default();
    }
    let points = spec.results.iter().map(|result| result.shape.count()).max();
    let sources = Sources::new(
        spec.heads.batch,
        reads,
        (kept(spec), tiling.engine),
        points.unwrap_or(0),
    );
    let primitive = Primitive::AttentionVjp(Box::new(spec.clone()));
    let [keys, queries] = sides.each_ref().map(|side| side.print(&sources));
    let mut text = head(&parameters(&primitive), tiling, kept(spec));
    let _ = write!(
        text,
        "{1}if (blockIdx.x < {0}) {{\nconst int block = blockIdx.x;\n{keys}\
         }} else {{\nconst int block = blockIdx.x - {0};\n{queries}}}\n}}\n",
        counts[0],
        tiling.place()
    );
    Lowered::one(Launch {
        source: Source::new(&text),
        grid: [blocks(count, 1), 1, 1],
        block: tiling.threads() as u32,
        shared: sides.iter().map(Side::bytes).max().unwrap_or(0) as u32,
        args: arguments(&primitive),
        early: None,
    })
}

impl Side<'_> {
    /// The piece of the rows that a block owns, and the other rows that it goes over.
    fn range(&self) -> (String, String, String) {
        let (pieces, [_, others]) = (self.pieces(), self.lengths());
        let Tiling { own, other, .. } = self.tiling;
        let (mut piece, mut begin) = (format!("block % {}", pieces.max(1)), "0".to_owned());
        let mut end = others.to_string();
        match (&self.heads().mask, self.owner) {
            // All of them are one tile.
            _ if others <= other => {}
            (KeyMask::Causal, Owner::Keys) => begin = format!("first / {other} * {other}"),
            (KeyMask::Causal, Owner::Queries) if pieces > 0 => {
                // The last queries see the most keys, and so start first.
                piece = format!("{} - block % {pieces}", pieces - 1);
                end = format!("first + {own} < {others} ? first + {own} : {others}");
            }
            _ => {}
        }
        (piece, begin, end)
    }

    fn print(&self, sources: &Sources<'_>) -> String {
        let (tiling, kept, index) = (self.tiling, kept(self.spec), sources.index);
        let Tiling { own, other, .. } = tiling;
        let threads = tiling.threads();
        let [own_a, own_b, other_a, other_b] = self.tiles();
        let [count, others] = self.lengths();
        let (piece, begin, end) = self.range();
        let mut text = shared(&self.parts(), kept);
        let _ = writeln!(
            text,
            "const int first = ({piece}) * {own}, end = {end};\n\
             const {index} batch = block / {};",
            self.pieces().max(1)
        );
        text += &sources.bases();
        let rows = |first, count| Rows {
            first,
            count,
            threads,
        };
        text += &fill(&[own_a, own_b], sources, rows("first", count));
        if self.owner == Owner::Queries {
            text += &self.statistics(sources, "first", own);
        }
        text += &sums("sums_a", own_a.width, tiling, kept);
        if self.owner == Owner::Keys {
            text += &sums("sums_b", own_b.width, tiling, kept);
        }
        let _ = writeln!(
            text,
            "for (int begin = {begin}; begin < end; begin += {other}) {{"
        );
        text += &fill(&[other_a, other_b], sources, rows("begin", others));
        if self.owner == Owner::Keys {
            text += &self.statistics(sources, "begin", other);
        }
        text += "__syncthreads();\n";
        text += &products("s", [own_a, other_a], tiling, kept);
        text += &products("t", [own_b, other_b], tiling, kept);
        text += &self.weigh(sources);
        text += "__syncwarp();\n";
        text += &accumulate("sums_a", "slopes", other_a, tiling, kept);
        if self.owner == Owner::Keys {
            text += &accumulate("sums_b", "weights", other_b, tiling, kept);
        }
        if others > other {
            text += "__syncthreads();\n";
        }
        text += "}\n";
        text + &self.finish(index)
    }

    /// Of each query its log-sum-exp, and the product of its result and that one's cotangent.
    fn statistics(&self, sources: &Sources<'_>, first: &str, rows: usize) -> String {
        let Heads { queries, width, .. } = *self.heads();
        let kept = kept(self.spec);
        let (of, fma) = (value(kept), function("fma", kept));
        let [out, lse, cotangent] = [0, 1, 2].map(|i| self.read(i));
        format!(
            "const int lane = threadIdx.x % {LANES};\n\
             for (int r = threadIdx.x / {LANES}; r < {rows}; r += {}) {{\n\
             const int query = {first} + r;\n{of} sum = 0;\n\
             if (query < {queries}) {{\n\
             #pragma unroll 4\nfor (int d = lane; d < {width}; d += {LANES}) sum = {fma}({}, {}, sum);\n}}\n\
             #pragma unroll\nfor (int mask = {}; mask > 0; mask /= 2) sum += bp_across(sum, mask);\n\
             if (lane == 0) {{\ndelta[r] = sum;\nlse[r] = query < {queries} ? {} : 0;\n}}\n}}\n",
            self.tiling.threads() / LANES,
            sources.value(cotangent, "query", "d"),
            sources.value(out, "query", "d"),
            LANES / 2,
            sources.value(lse, "query", "0"),
        )
    }

    /// Makes products weights, and cotangents of scores.
    fn weigh(&self, sources: &Sources<'_>) -> String {
        let heads = self.heads();
        let Heads { queries, keys, .. } = heads;
        let kept = kept(self.spec);
        let (of, exp) = (value(kept), function("exp", kept));
        let (tiling, stride) = (self.tiling, weights_stride(self.tiling));
        let (rows, columns) = (tiling.down_each(), tiling.across_each());
        let (row, column) = (tiling.row(), tiling.column());
        let ([own, other], at) = match self.owner {
            Owner::Keys => (["key", "query"], &column),
            Owner::Queries => (["query", "key"], &row),
        };
        let causal = match heads.mask {
            KeyMask::Causal => " && key <= query",
            _ => "",
        };
        let place = format!("({row}) * {stride} + {column}");
        let weights = match self.owner {
            Owner::Keys => format!("weights[{place}] = {};\n", weight("p", tiling)),
            Owner::Queries => String::new(),
        };
        format!(
            "#pragma unroll\nfor (int i = 0; i < {rows}; ++i) {{\n\
             const int {own} = first + {row};\n\
             #pragma unroll\nfor (int j = 0; j < {columns}; ++j) {{\n\
             const int {other} = begin + {column};\n{of} x = s[i][j];\n{}\
             const bool inside = query < {queries} && key < {keys}{causal};\n\
             const {of} p = inside ? {exp}(x - lse[{at}]) : 0;\n{weights}\
             const {of} slope = inside ? p * (t[i][j] - delta[{at}]) : 0;\nslopes[{place}] = {};\n}}\n}}\n",
            scored(heads, sources, kept),
            weight("slope", tiling),
        )
    }

    /// Stores the sums.
    fn finish(&self, index: &str) -> String {
        let Heads { depth, width, .. } = *self.heads();
        let kept = kept(self.spec);
        let count = self.lengths()[0];
        let scale = constant(self.heads().scale(), kept);
        let write = |w: usize, of_rows: usize, sum: &str| {
            let result = &self.spec.results[w];
            let at = position(result, "number");
            let sum = match (kept, result.dtype) {
                (DType::F64, DType::F16 | DType::BF16) => format!("bp_to_odd({sum})"),
                (DType::F64, DType::F64) => sum.to_owned(),
                _ => format!("(float)({sum})"),
            };
            let sum = store(result.dtype, &sum);
            let each = format!(
                "const {index} number = (batch * {count} + row) * {of_rows} + column;\n\
                 w{w}[{at}] = {sum};\n"
            );
            each_column(of_rows, self.tiling, &each)
        };
        let scaled = format!("sums_a[i][c] * {scale}");
        let stores = match self.owner {
            Owner::Keys => write(1, depth, &scaled) + &write(2, width, "sums_b[i][c]"),
            Owner::Queries => write(0, depth, &scaled),
        };
        format!(
            "#pragma unroll\nfor (int i = 0; i < {}; ++i) {{\n\
             const int row = first + {};\nif (row < {count}) {{\n{stores}}}\n}}\n",
            self.tiling.down_each(),
            self.tiling.row(),
        )
    }
}
