//! Rows of a table by index, in both directions.

use std::fmt::Write;

use backprop_core::{DType, Indexing, Primitive, Reduction};

use crate::lowered::{Arg, Launch, Lowered, THREADS, arguments};
use crate::source::{
    constant, head, index_type, load, parameters, position, reduce, storage, store, value,
};

/// Up to as many indices, each row of the table looks at all of them; more are sorted first.
const FEW: usize = 2048;

pub(crate) fn gather(spec: &Indexing) -> Lowered {
    let primitive = Primitive::Gather(spec.clone());
    let Indexing { rows, inner, .. } = spec;
    let (count, all) = (spec.count(), spec.picked.shape.count());
    let index = index_type(all.max(spec.table.shape.count()));
    let mut text = head(&parameters(&primitive), THREADS);
    let chosen = position(&spec.indices, "i");
    let element = position(&spec.table, "(o * rows + row) * inner + x");
    let written = position(&spec.picked, "number");
    let _ = writeln!(
        text,
        "const {index} inner = {inner}, rows = {rows};\n\
         const {index} number = ({index})blockIdx.x * {THREADS} + threadIdx.x;\n\
         if (number >= {all}) return;\n\
         const {index} x = number % inner, i = number / inner % {count}, o = number / inner / {count};\n\
         const long long asked = r1[{chosen}];\n\
         const {index} row = ({index})(asked < 0 ? 0 : asked >= rows ? rows - 1 : asked);\n\
         w0[{written}] = r0[{element}];\n}}"
    );
    Lowered::one(Launch::each(&text, all, arguments(&primitive)))
}

/// Sums in ascending order of the indices' places, whatever their number.
pub(crate) fn scatter_add(spec: &Indexing) -> Lowered {
    match spec.count() <= FEW {
        true => Lowered::one(compared(spec)),
        false => sorted(spec),
    }
}

/// What both forms begin with: the table's element of a thread, and whether there is one.
fn begin(spec: &Indexing, parameters: &[String]) -> String {
    let Indexing { rows, inner, .. } = spec;
    let (all, sums) = (spec.table.shape.count(), spec.table.dtype.accumulator());
    let index = index_type(all.max(spec.picked.shape.count()));
    let mut text = head(parameters, THREADS);
    let _ = writeln!(
        text,
        "const {index} inner = {inner}, rows = {rows}, count = {};\n\
         const {index} number = ({index})blockIdx.x * {THREADS} + threadIdx.x;\n\
         const bool own = number < {all};\n\
         const {index} x = number % inner, row = number / inner % rows, o = number / inner / rows;\n\
         {} total = {};",
        spec.count(),
        value(sums),
        constant(0.0, sums)
    );
    text
}

/// The picked element of index `i`.
fn picked(spec: &Indexing) -> String {
    let element = position(&spec.picked, "(o * count + i) * inner + x");
    load(spec.picked.dtype, &format!("r0[{element}]"))
}

fn add(spec: &Indexing, next: &str) -> String {
    let sums = spec.table.dtype.accumulator();
    reduce(Reduction::Sum, "total", next, sums)
}

fn end(spec: &Indexing) -> String {
    let written = position(&spec.table, "number");
    let value = store(spec.table.dtype, "total");
    format!("if (own) w0[{written}] = {value};\n}}\n")
}

/// Defines `name`, the row that the index at `place` means.
fn asked(spec: &Indexing, place: &str, name: &str) -> String {
    let chosen = position(&spec.indices, place);
    let last = spec.rows.saturating_sub(1);
    format!(
        "const long long asked = r1[{chosen}];\n\
         const int {name} = (int)(asked < 0 ? 0 : asked > {last} ? {last} : asked);\n"
    )
}

fn compared(spec: &Indexing) -> Launch {
    let primitive = Primitive::ScatterAdd(spec.clone());
    let mut text = begin(spec, &parameters(&primitive));
    let (asked, count) = (asked(spec, "j", "chosen"), spec.count());
    let (of, next, sum) = (value(spec.picked.dtype), picked(spec), add(spec, "next"));
    // Most indices are of other rows: eight at a time are looked at before any is asked for.
    let _ = writeln!(
        text,
        "__shared__ __align__(16) int rows_of[{THREADS}];\n\
         for (int tile = 0; tile < {count}; tile += {THREADS}) {{\n\
         const int j = tile + threadIdx.x;\n__syncthreads();\n\
         rows_of[threadIdx.x] = -1;\n\
         if (j < {count}) {{\n{asked}rows_of[threadIdx.x] = chosen;\n}}\n__syncthreads();\n\
         #pragma unroll 2\nfor (int k = 0; k < {}; k += 8) {{\n\
         const bp_pack<int, 4> near = bp_load<4>(rows_of + k, true), far = bp_load<4>(rows_of + k + 4, true);\n\
         bool any = false;\n\
         #pragma unroll\nfor (int u = 0; u < 4; ++u) any = any || near.at[u] == row || far.at[u] == row;\n\
         if (!own || !any) continue;\n\
         for (int u = 0; u < 8; ++u) {{\n\
         const int i = tile + k + u;\nif (rows_of[k + u] != row) continue;\n\
         const {of} next = {next};\ntotal = {sum};\n}}\n}}\n}}",
        THREADS.min(count.next_multiple_of(8))
    );
    text += &end(spec);
    Launch::each(&text, spec.table.shape.count(), arguments(&primitive))
}

/// Ranks the indices, equal ones by their place, then adds up each row's run.
fn sorted(spec: &Indexing) -> Lowered {
    let count = spec.count();
    let half = (count * DType::I32.size()).next_multiple_of(16);
    let (places, rows) = (Arg::Scratch(0), Arg::Scratch(half));
    let rank = Launch::each(&ranking(spec), count, vec![Arg::Read(1), places, rows]);
    let parameters = [
        format!("const {}* r0", storage(spec.picked.dtype)),
        "const int* places".to_owned(),
        "const int* sorted".to_owned(),
        format!("{}* w0", storage(spec.table.dtype)),
    ];
    let mut text = begin(spec, &parameters);
    let sum = add(spec, &picked(spec));
    let _ = writeln!(
        text,
        "int low = 0, high = own ? count : 0;\n\
         while (low < high) {{\nconst int middle = (low + high) / 2;\n\
         if (sorted[middle] < row) low = middle + 1; else high = middle;\n}}\n\
         for (int k = low; own && k < count && sorted[k] == row; ++k) {{\n\
         const int i = places[k];\ntotal = {sum};\n}}"
    );
    text += &end(spec);
    let sum = Launch::each(
        &text,
        spec.table.shape.count(),
        vec![Arg::Read(0), places, rows, Arg::Write(0)],
    );
    Lowered::kernels(vec![rank, sum], 2 * half)
}

/// Each index counts those that come before it.
fn ranking(spec: &Indexing) -> String {
    let count = spec.count();
    let parameters = [
        format!("const {}* r1", storage(spec.indices.dtype)),
        "int* places".to_owned(),
        "int* sorted".to_owned(),
    ];
    let mut text = head(&parameters, THREADS);
    let other = asked(spec, "j", "other");
    let own = asked(spec, "i", "chosen");
    let _ = writeln!(
        text,
        "__shared__ int others[{THREADS}];\n\
         const int i = blockIdx.x * {THREADS} + threadIdx.x;\n\
         int mine = 0;\nif (i < {count}) {{\n{own}mine = chosen;\n}}\n\
         int rank = 0;\n\
         for (int tile = 0; tile < {count}; tile += {THREADS}) {{\n\
         const int j = tile + threadIdx.x;\n__syncthreads();\n\
         if (j < {count}) {{\n{other}others[threadIdx.x] = other;\n}}\n__syncthreads();\n\
         const int size = {count} - tile < {THREADS} ? {count} - tile : {THREADS};\n\
         for (int k = 0; k < size; ++k) rank += others[k] < mine || (others[k] == mine && tile + k < i);\n}}\n\
         if (i < {count}) {{\nplaces[rank] = i;\nsorted[rank] = mine;\n}}\n}}"
    );
    text
}
