//! Attention: softmax goes along with the tiles of keys.

use std::fmt::Write;

use backprop_core::{Attention, DType, Heads, KeyMask, Primitive};

use super::tile::{
    Rows, Sources, Tile, accumulate, each_column, fill, products, shared, sums, weight,
    weights_stride,
};
use super::tiling::{Tiling, Wanted, engine};
use super::{epilogue, function, head, kept_in, operands, scored};
use crate::contraction::{Engine, Options};
use crate::lowered::{Launch, Lowered, Source, arguments, blocks};
use crate::source::{constant, parameters, position, value};

/// Operands without prologues, and heads that are not too wide for shared memory.
pub(crate) fn supports(spec: &Attention) -> bool {
    let kept = spec.accumulator;
    let Some(sources) = operands(&spec.heads) else {
        return false;
    };
    matches!(kept, DType::F32 | DType::F64)
        && kept.size() >= kept_in(&sources).size()
        && spec.heads.depth * spec.heads.width > 0
        && epilogue::supports(spec)
        && tiling(spec, Engine::Lanes).is_some()
}

/// Queries, keys and values of a block.
fn tiles(heads: &Heads, tiling: Tiling) -> [Tile; 3] {
    let tile = |operand, rows, width| Tile {
        name: ["queries", "keys", "values"][operand],
        operand,
        rows,
        width,
    };
    [
        tile(0, tiling.own, heads.depth),
        tile(1, tiling.other, heads.depth),
        tile(2, tiling.other, heads.width),
    ]
}

fn parts(heads: &Heads, tiling: Tiling) -> [(&'static str, usize); 4] {
    let [query, key, value] = tiles(heads, tiling);
    let weights = tiling.own * weights_stride(tiling);
    [
        (query.name, query.size()),
        (key.name, key.size()),
        (value.name, value.size()),
        ("weights", weights),
    ]
}

fn bytes(spec: &Attention, tiling: Tiling) -> usize {
    let parts = parts(&spec.heads, tiling);
    parts.iter().map(|(_, size)| size).sum::<usize>() * spec.accumulator.size()
}

fn tiling(spec: &Attention, engine: Engine) -> Option<Tiling> {
    let heads = &spec.heads;
    let blocks = |own: usize| heads.batch.count() * heads.queries.div_ceil(own);
    let shared = |tiling| bytes(spec, tiling);
    Tiling::new(&Wanted {
        engine,
        kept_in: spec.accumulator,
        longest: heads.keys,
        widths: &[heads.width],
        products: 1,
        blocks: &blocks,
        shared: &shared,
    })
}

pub(crate) fn lower(spec: &Attention, options: Options) -> Lowered {
    let heads = &spec.heads;
    let wanted = engine(heads, spec.accumulator, options);
    let tiling = tiling(spec, wanted).or_else(|| tiling(spec, Engine::Lanes));
    let (Some(sources), Some(tiling)) = (operands(heads), tiling) else {
        return Lowered::default();
    };
    let count = heads.batch.count() * heads.queries.div_ceil(tiling.own);
    if count == 0 {
        return Lowered::default();
    }
    let points = spec.space.count().max(heads.batch.count() * heads.queries);
    let kernel = Kernel {
        spec,
        tiling,
        first: sources.len(),
        sources: Sources::new(
            heads.batch,
            sources,
            (spec.accumulator, tiling.engine),
            points,
        ),
    };
    let primitive = Primitive::Attention(Box::new(spec.clone()));
    let text = kernel.print(&parameters(&primitive));
    Lowered::one(Launch {
        source: Source::new(&text),
        grid: [blocks(count, 1), 1, 1],
        block: tiling.threads() as u32,
        shared: bytes(spec, tiling) as u32,
        args: arguments(&primitive),
        early: None,
    })
}

struct Kernel<'a> {
    spec: &'a Attention,
    tiling: Tiling,
    sources: Sources<'a>,
    /// The number with which the epilogue's first input is read.
    first: usize,
}

impl Kernel<'_> {
    fn print(&self, parameters: &[String]) -> String {
        let Kernel {
            spec,
            tiling,
            sources,
            ..
        } = self;
        let (heads, kept) = (&spec.heads, spec.accumulator);
        let (of, index, threads) = (value(kept), sources.index, tiling.threads());
        let [query, key, values] = tiles(heads, *tiling);
        let (own, other) = (tiling.own, tiling.other);
        let pieces = heads.queries.div_ceil(own);
        // The last queries of a causal mask see the most keys, and so start first.
        let (piece, end) = match heads.mask {
            KeyMask::Causal if heads.keys > other => (
                format!("{} - (int)(blockIdx.x % {pieces})", pieces - 1),
                format!("first + {own} < {0} ? first + {own} : {0}", heads.keys),
            ),
            _ => (
                format!("(int)(blockIdx.x % {pieces})"),
                heads.keys.to_string(),
            ),
        };
        let low = constant(f64::NEG_INFINITY, kept);
        let mut text = head(parameters, *tiling, kept);
        text += &shared(&parts(heads, *tiling), kept);
        let _ = writeln!(
            text,
            "{}const int first = ({piece}) * {own}, end = {end};\n\
             const {index} batch = blockIdx.x / {pieces};",
            tiling.place()
        );
        text += &sources.bases();
        let rows = |first, count| Rows {
            first,
            count,
            threads,
        };
        text += &fill(&[query], sources, rows("first", heads.queries));
        text += &sums("sums", heads.width, *tiling, kept);
        let _ = writeln!(
            text,
            "{of} high[{0}], total[{0}];\n#pragma unroll\n\
             for (int i = 0; i < {0}; ++i) {{ high[i] = {low}; total[i] = 0; }}\n\
             for (int begin = 0; begin < end; begin += {other}) {{",
            tiling.down_each()
        );
        text += &fill(&[key, values], sources, rows("begin", heads.keys));
        text += "__syncthreads();\n";
        text += &products("s", [query, key], *tiling, kept);
        text += &self.softmax();
        text += "__syncwarp();\n";
        text += &accumulate("sums", "weights", values, *tiling, kept);
        if heads.keys > other {
            text += "__syncthreads();\n";
        }
        text += "}\n";
        text + &self.finish() + "}\n"
    }

    /// Makes products weights, relative to the highest score so far.
    fn softmax(&self) -> String {
        let Kernel {
            spec,
            tiling,
            sources,
            ..
        } = self;
        let (heads, kept) = (&spec.heads, spec.accumulator);
        let (of, exp) = (value(kept), function("exp", kept));
        let (rows, columns) = (tiling.down_each(), tiling.across_each());
        let (row, column) = (tiling.row(), tiling.column());
        let low = constant(f64::NEG_INFINITY, kept);
        let causal = match heads.mask {
            KeyMask::Causal => " || key > query",
            _ => "",
        };
        format!(
            "#pragma unroll\nfor (int i = 0; i < {rows}; ++i) {{\n\
             const int query = first + {row};\n{of} top = high[i];\n\
             #pragma unroll\nfor (int j = 0; j < {columns}; ++j) {{\n\
             const int key = begin + {column};\n{of} x = s[i][j];\n{}\
             if (key >= {}{causal}) x = {low};\n\
             s[i][j] = x;\ntop = x > top ? x : top;\n}}\n\
             #pragma unroll\nfor (int mask = {}; mask > 0; mask /= 2) {{\n\
             const {of} that = bp_across(top, mask);\ntop = that > top ? that : top;\n}}\n\
             const {of} base = top == {low} ? 0 : top;\n\
             const {of} factor = {exp}(high[i] - base);\nhigh[i] = top;\ntotal[i] *= factor;\n\
             #pragma unroll\nfor (int j = 0; j < {columns}; ++j) {{\n\
             const {of} p = {exp}(s[i][j] - base);\ntotal[i] += p;\n\
             weights[({row}) * {} + {column}] = {};\n}}\n\
             #pragma unroll\nfor (int c = 0; c < {}; ++c) sums[i][c] *= factor;\n}}\n",
            scored(heads, sources, kept),
            heads.keys,
            tiling.sharers() / 2,
            weights_stride(*tiling),
            weight("p", *tiling),
            tiling.sums_each(heads.width),
        )
    }

    fn finish(&self) -> String {
        let Kernel {
            spec,
            tiling,
            sources,
            ..
        } = self;
        let (heads, kept, index) = (&spec.heads, spec.accumulator, sources.index);
        let (of, log) = (value(kept), function("log", kept));
        let (queries, width) = (heads.queries, heads.width);
        // A query that sees nothing has weights of 0.
        let blind = constant(f64::INFINITY, kept);
        let divided = "sums[i][c] / (total[i] == 0 ? 1 : total[i])";
        let lse = format!("total[i] == 0 ? {blind} : high[i] + {log}(total[i])");
        let result = epilogue::print(spec, self.first, index);
        let each = format!(
            "const {of} x = {divided};\n\
             const {index} number = (batch * {queries} + query) * {width} + column;\n{result}"
        );
        format!(
            "#pragma unroll\nfor (int i = 0; i < {}; ++i) {{\n\
             #pragma unroll\nfor (int mask = {}; mask > 0; mask /= 2) total[i] += bp_across(total[i], mask);\n\
             const int query = first + {};\n\
             if (query < {queries}) {{\n\
             if (tx == 0) w{}[{}] = {lse};\n{}}}\n}}\n",
            tiling.down_each(),
            tiling.sharers() / 2,
            tiling.row(),
            spec.epilogue.outputs.len(),
            position(&spec.lse, &format!("batch * {queries} + query")),
            each_column(width, *tiling, &each),
        )
    }
}
