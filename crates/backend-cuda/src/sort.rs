//! Positions in sorted order. Elements become unsigned keys whose order is the one wanted; pairs of a
//! key and a position, which are all different, are sorted, and so equal elements keep their order.

use std::fmt::Write;

use backprop_core::{DType, Order, Primitive, Sort};

use crate::lowered::{Arg, ENTRY, Launch, Lowered, Source, arguments, blocks};
use crate::source::{Fold, Operand, index_type, load, position, storage};

/// The longest row that one block sorts in shared memory.
const RUN: usize = 4096;

/// Threads of a block that sorts short rows, several at once, and of one that merges.
const THREADS: usize = 256;

/// Rows whose positions 32 bits hold.
pub(crate) fn supports(spec: &Sort) -> bool {
    let size = spec.space.size(spec.axis);
    size < 1 << 31 && rows(spec).saturating_mul(size.div_ceil(RUN)) < 1 << 31
}

fn rows(spec: &Sort) -> usize {
    spec.space.filter(|axis| axis != spec.axis).count()
}

pub(crate) fn lower(spec: &Sort) -> Lowered {
    let (rows, count) = (rows(spec), spec.count());
    if rows == 0 || count == 0 {
        return Lowered::default();
    }
    let sorter = Sorter {
        spec,
        rows,
        size: spec.space.size(spec.axis),
        count,
    };
    match sorter.size <= RUN {
        true => Lowered::one(sorter.runs(None)),
        false => sorter.merged(),
    }
}

struct Sorter<'a> {
    spec: &'a Sort,
    rows: usize,
    /// Elements of a row.
    size: usize,
    /// Positions written of a row.
    count: usize,
}

/// Keys and positions of all rows in scratch memory.
#[derive(Clone, Copy)]
struct Pairs {
    keys: usize,
    positions: usize,
}

impl Sorter<'_> {
    fn dtype(&self) -> DType {
        self.spec.input.tensor.dtype
    }

    fn key_size(&self) -> usize {
        if self.dtype().size() == 8 { 8 } else { 4 }
    }

    fn key_type(&self) -> &'static str {
        if self.key_size() == 8 {
            "unsigned long long"
        } else {
            "unsigned"
        }
    }

    fn index(&self) -> &'static str {
        let seen = self.spec.input.tensor.shape.count();
        index_type(seen.max(self.rows * self.size.next_multiple_of(RUN)))
    }

    /// The key of an element.
    fn key(&self, element: &str) -> String {
        let x = load(self.dtype(), element);
        // Negative numbers the other way round; the sign makes the upper half.
        let real = |bits: &str, top: &str, whole: &str, x: &str| {
            format!(
                "const {whole} bits = ({whole}){bits}({x} == 0 ? 0 : {x});\n\
                 key = {x} != {x} ? ({whole})-1 : bits & {top} ? ~bits : bits | {top};\n"
            )
        };
        let (top, long) = ("0x80000000u", "0x8000000000000000ull");
        let key = match self.dtype() {
            DType::F64 => real("__double_as_longlong", long, "unsigned long long", "x"),
            DType::I64 => format!("key = (unsigned long long)x ^ {long};\n"),
            DType::I32 => format!("key = (unsigned)x ^ {top};\n"),
            DType::U8 | DType::Bool => "key = x;\n".to_owned(),
            _ => real("__float_as_uint", top, "unsigned", "x"),
        };
        let flip = match self.spec.order {
            Order::Ascending => "",
            Order::Descending => "key = ~key;\n",
        };
        let of = crate::source::value(self.dtype());
        format!("const {of} x = {x};\n{key}{flip}")
    }

    /// Writes the position that has this rank in its row.
    fn write(&self, rank: &str, position_: &str) -> String {
        let space = self.spec.space;
        let inner: usize = (self.spec.axis + 1..space.rank())
            .map(|axis| space.size(axis))
            .product();
        let (index, count) = (self.index(), self.count);
        let number = format!("(row / {inner} * {count} + {rank}) * {inner} + row % {inner}");
        let at = position(&self.spec.positions, "number");
        format!(
            "if ({rank} < {count}) {{\nconst {index} number = {number};\n\
             w0[{at}] = {position_};\n}}\n"
        )
    }

    /// Sorts runs: whole rows, or pieces of them into scratch memory.
    fn runs(&self, into: Option<Pairs>) -> Launch {
        let run = self.size.next_power_of_two().clamp(2, RUN);
        let pieces = self.size.div_ceil(run);
        let at_once = (2 * THREADS / run).max(1);
        let threads = (run * at_once / 2).min(1024);
        let (index, key, total) = (self.index(), self.key_type(), run * at_once);
        let read = storage(self.dtype());
        let (parameters, args) = match into {
            None => {
                let args = arguments(&Primitive::Sort(self.spec.clone()));
                ("long long* __restrict__ w0".to_owned(), args)
            }
            Some(pairs) => {
                let args = vec![
                    Arg::Read(0),
                    Arg::Scratch(pairs.keys),
                    Arg::Scratch(pairs.positions),
                ];
                (
                    format!("{key}* __restrict__ k0, unsigned* __restrict__ p0"),
                    args,
                )
            }
        };
        let mut text = format!(
            "extern \"C\" __global__ void __launch_bounds__({threads}) {ENTRY}(const {read}* __restrict__ r0, {parameters}) {{\n\
             BP_BEGIN();\nBP_DYN_SHARED({key}, keys);\nunsigned* at = (unsigned*)(keys + {total});\n\
             const {index} first = ({index})blockIdx.x * {at_once};\n"
        );
        text += &self.fill(run, total, threads);
        text += &bitonic(run, total, threads, key);
        let rows = self.rows * pieces;
        let _ = writeln!(
            text,
            "for (int e = threadIdx.x; e < {total}; e += {threads}) {{\n\
             const {index} piece = first + e / {run}, row = piece / {pieces};\n\
             const int rank = e % {run}, begin = (int)(piece % {pieces}) * {run};\n\
             if (piece < {rows} && begin + rank < {}) {{",
            self.size
        );
        text += &match into {
            None => self.write("rank", "at[e]"),
            Some(_) => format!(
                "k0[row * {0} + begin + rank] = keys[e];\np0[row * {0} + begin + rank] = at[e];\n",
                self.size
            ),
        };
        text += "}\n}\n}\n";
        Launch {
            source: Source::new(&text),
            grid: [blocks(rows, at_once), 1, 1],
            block: threads as u32,
            shared: (total * (self.key_size() + 4)) as u32,
            args,
            early: None,
        }
    }

    /// Fills shared memory with pairs; past the end of a row with what comes last.
    fn fill(&self, run: usize, total: usize, threads: usize) -> String {
        let (index, key, size) = (self.index(), self.key_type(), self.size);
        let pieces = size.div_ceil(run);
        let operand = Operand::read(0, &self.spec.input);
        let axis = self.spec.axis;
        let fold = Fold::new(self.spec.space, vec![operand], &[axis], &|a| a == axis);
        let place = fold.original(axis);
        format!(
            "for (int e = threadIdx.x; e < {total}; e += {threads}) {{\n\
             const {index} piece = first + e / {run}, row = piece / {pieces};\n\
             const {index} {place} = piece % {pieces} * {run} + e % {run};\n\
             {key} key = ({key})-1;\n\
             if (piece < {} && {place} < {size}) {{\n{}{}}}\n\
             keys[e] = key;\nat[e] = (unsigned){place};\n}}\n__syncthreads();\n",
            self.rows * pieces,
            fold.unravel("row", false, index),
            self.key(&fold.address(0).element()),
        )
    }

    /// Sorts runs, then merges neighbours, to and fro between two pieces of scratch memory.
    fn merged(&self) -> Lowered {
        let all = self.rows * self.size;
        let keys = (all * self.key_size()).next_multiple_of(16);
        let half = keys + (all * 4).next_multiple_of(16);
        let pairs = |i: usize| Pairs {
            keys: i % 2 * half,
            positions: i % 2 * half + keys,
        };
        let mut launches = vec![self.runs(Some(pairs(0)))];
        let mut run = RUN;
        while run < self.size {
            let turn = launches.len();
            let last = 2 * run >= self.size;
            let into = (!last).then(|| pairs(turn));
            launches.push(self.merge(run, pairs(turn - 1), into));
            run *= 2;
        }
        Lowered::kernels(launches, 2 * half)
    }

    /// Merges sorted runs, two and two: a thread a pair, which looks for its place in the other run.
    fn merge(&self, run: usize, from: Pairs, into: Option<Pairs>) -> Launch {
        let (index, key, size) = (self.index(), self.key_type(), self.size);
        let mut args = vec![Arg::Scratch(from.keys), Arg::Scratch(from.positions)];
        let parameters = match into {
            None => {
                args.push(Arg::Write(0));
                "long long* __restrict__ w0".to_owned()
            }
            Some(pairs) => {
                args.extend([Arg::Scratch(pairs.keys), Arg::Scratch(pairs.positions)]);
                format!("{key}* __restrict__ k1, unsigned* __restrict__ p1")
            }
        };
        let write = match into {
            None => self.write("rank", "place"),
            Some(_) => {
                format!("k1[row * {size} + rank] = key;\np1[row * {size} + rank] = place;\n")
            }
        };
        let all = self.rows * size;
        let text = format!(
            "extern \"C\" __global__ void __launch_bounds__({THREADS}) {ENTRY}(const {key}* __restrict__ k0, const unsigned* __restrict__ p0, {parameters}) {{\n\
             BP_BEGIN();\n\
             const {index} number = ({index})blockIdx.x * {THREADS} + threadIdx.x;\n\
             if (number >= {all}) return;\n\
             const {index} row = number / {size};\n\
             const {index} here = number % {size}, begin = here / {run} * {run}, both = here / {run} / 2 * {run} * 2;\n\
             const {index} other = begin == both ? both + {run} : both;\n\
             const {key} key = k0[number];\nconst unsigned place = p0[number];\n\
             {index} low = other < {size} ? other : {size}, high = other + {run} < {size} ? other + {run} : {size};\n\
             while (low < high) {{\n\
             const {index} middle = (low + high) / 2;\n\
             const {key} that = k0[row * {size} + middle];\n\
             const bool before = that < key || (that == key && p0[row * {size} + middle] < place);\n\
             if (before) low = middle + 1; else high = middle;\n}}\n\
             const {index} ahead = other < {size} ? low - other : 0;\n\
             const {index} rank = both + (here - begin) + ahead;\n{write}}}\n"
        );
        Launch::each(&text, all, args)
    }
}

/// Sorts runs of pairs in shared memory, in pairs of pairs that do not meet.
fn bitonic(run: usize, total: usize, threads: usize, key: &str) -> String {
    format!(
        "for (int size = 2; size <= {run}; size *= 2) {{\n\
         for (int step = size / 2; step > 0; step /= 2) {{\n\
         for (int e = threadIdx.x; e < {}; e += {threads}) {{\n\
         const int low = 2 * e - (e & (step - 1)), high = low + step;\n\
         const {key} a = keys[low], b = keys[high];\n\
         const unsigned i = at[low], j = at[high];\n\
         const bool falls = ((low % {run}) & size) != 0;\n\
         if ((b < a || (a == b && j < i)) != falls) {{\n\
         keys[low] = b;\nkeys[high] = a;\nat[low] = j;\nat[high] = i;\n}}\n}}\n\
         __syncthreads();\n}}\n}}\n",
        total / 2
    )
}
