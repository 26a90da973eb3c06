//! Elementwise work and reductions over one index space.

use std::fmt::Write;

use backprop_core::{Axes, Body, DType, Primitive, Reduction, Register, Sink, Sweep, TensorType};

use crate::lowered::{Arg, Launch, Lowered, THREADS, arguments, blocks};
use crate::pack::Pack;
use crate::schedule::{Schedule, halves};
use crate::source::{head, index_type, parameters, position, reduce, start, store, value};

/// One reduced result.
struct Total<'a> {
    output: usize,
    register: Register,
    reduction: Reduction,
    dtype: DType,
    tensor: &'a TensorType,
}

impl Total<'_> {
    /// The type in which it is added up.
    fn kept_in(&self) -> DType {
        self.dtype.accumulator()
    }

    fn name(&self) -> String {
        format!("t{}", self.output)
    }

    fn add(&self, total: &str, next: &str) -> String {
        reduce(self.reduction, total, next, self.kept_in())
    }

    fn start(&self) -> String {
        start(self.reduction, self.kept_in())
    }

    fn type_name(&self) -> &'static str {
        value(self.kept_in())
    }
}

/// Any results that are stored, and any that are reduced over the same axes.
pub(crate) fn supports(spec: &Sweep) -> bool {
    common_axes(&spec.body).is_some()
}

/// The axes over which all reduced results are reduced; `None` where they differ.
fn common_axes(body: &Body) -> Option<Axes> {
    let mut axes = None;
    for output in &body.outputs {
        if let Sink::Reduce(_, over) = output.sink
            && *axes.get_or_insert(over) != over
        {
            return None;
        }
    }
    Some(axes.unwrap_or_default())
}

pub(crate) fn lower(spec: &Sweep) -> Lowered {
    let primitive = Primitive::Sweep(spec.clone());
    let stored = |output: &backprop_core::Output| output.sink == Sink::Store;
    match spec.body.outputs.iter().all(stored) {
        true => map(spec, &primitive),
        false => reduction(spec, &primitive),
    }
}

fn map(spec: &Sweep, primitive: &Primitive) -> Lowered {
    let pack = Pack::new(spec.space, &spec.body, &|_| false).widest();
    let (count, width) = (spec.space.count(), pack.width);
    let index = index_type(count);
    let mut text = head(&parameters(primitive), THREADS);
    let _ = writeln!(
        text,
        "const {index} number = (({index})blockIdx.x * {THREADS} + threadIdx.x) * {width};\n\
         if (number >= {count}) return;"
    );
    text += &pack.fold.unravel("number", false, index);
    text += &pack.alignment();
    text += &pack.room("");
    text += &pack.loads("");
    text += &pack.compute("", "");
    text += "}\n";
    Lowered::one(Launch::each(
        &text,
        count.div_ceil(width),
        arguments(primitive),
    ))
}

fn totals(spec: &Sweep) -> Vec<Total<'_>> {
    let outputs = spec.body.outputs.iter().enumerate();
    outputs
        .filter_map(|(i, output)| match output.sink {
            Sink::Reduce(reduction, _) => Some(Total {
                output: i,
                register: output.register,
                reduction,
                dtype: output.tensor.dtype,
                tensor: &output.tensor,
            }),
            Sink::Store => None,
        })
        .collect()
}

fn reduction(spec: &Sweep, primitive: &Primitive) -> Lowered {
    let axes = common_axes(&spec.body).unwrap_or_default();
    let schedule = Schedule::new(spec.space, axes);
    let totals = totals(spec);
    let pack = Pack::new(spec.space, &spec.body, &|axis| axes.contains(axis));
    let pack = pack.of_width(schedule.width());
    // Where there is one point to a row, lanes without one would read what another overwrites.
    let pack = if schedule.reduced > 1 {
        pack.hoisting()
    } else {
        pack
    };
    let chunks = schedule.chunks();
    let mut offsets = Vec::new();
    let mut scratch = 0;
    for total in &totals {
        offsets.push(scratch);
        let bytes = chunks * schedule.kept * total.kept_in().size();
        scratch += if chunks > 1 {
            bytes.next_multiple_of(16)
        } else {
            0
        };
    }
    let mut parameters = parameters(primitive);
    let mut args = arguments(primitive);
    if chunks > 1 {
        for (total, &offset) in totals.iter().zip(&offsets) {
            parameters.push(format!("{}* p{}", total.type_name(), total.output));
            args.push(Arg::Scratch(offset));
        }
    }
    let kernel = Reducing {
        schedule: schedule.facing(pack.facing()),
        totals: &totals,
        pack,
    };
    let mut launches = vec![kernel.launch(&parameters, args)];
    if chunks > 1 {
        launches.push(finish(&totals, &schedule, &offsets));
    }
    Lowered::kernels(launches, scratch)
}

struct Reducing<'a> {
    schedule: Schedule,
    totals: &'a [Total<'a>],
    pack: Pack<'a>,
}

impl Reducing<'_> {
    fn launch(&self, parameters: &[String], args: Vec<Arg>) -> Launch {
        let schedule = self.schedule;
        let chunks = u32::try_from(schedule.chunks()).unwrap_or(u32::MAX);
        Launch::of(
            &self.text(parameters),
            [blocks(schedule.kept, schedule.rows()), chunks, 1],
            args,
        )
    }

    fn text(&self, parameters: &[String]) -> String {
        let (schedule, pack) = (self.schedule, &self.pack);
        let mut text = head(parameters, THREADS);
        text += &schedule.place();
        text += &pack.fold.unravel("row", false, schedule.index());
        text += &pack.alignment();
        text += &pack.steady();
        for total in self.totals {
            let (name, start) = (total.name(), total.start());
            let _ = writeln!(text, "{} {name} = {start};", total.type_name());
        }
        text += &self.walk();
        for total in self.totals {
            let add = |a: &str, b: &str| total.add(a, b);
            text += &schedule.exchange(&total.name(), total.type_name(), &add);
        }
        text += "if (lane == 0 && own) {\n";
        for total in self.totals {
            text += &self.write(total);
        }
        text + "}\n}\n"
    }

    /// Goes over the points of this lane, some at once, whose inputs are all loaded before any is
    /// computed with.
    fn walk(&self) -> String {
        let (pack, schedule) = (&self.pack, self.schedule);
        let Schedule { reduced, chunk, .. } = schedule;
        let (index, width, ahead) = (schedule.index(), schedule.width(), pack.ahead());
        let step = schedule.lanes() * width;
        let add = |total: &Total<'_>| {
            let name = total.name();
            let next = total.add(&name, &format!("v{}", total.register.0));
            format!("{name} = {next};\n")
        };
        let adds: String = self.totals.iter().map(add).collect();
        let unravel = pack.fold.unravel("at", true, index);
        let (room, loads) = (pack.room(&format!("[{ahead}]")), pack.loads("[u]"));
        let compute = pack.compute("[u]", &adds);
        format!(
            "const {index} begin = ({index})blockIdx.y * {chunk};\n\
             const {index} end = begin + {chunk} < {reduced} ? begin + {chunk} : {reduced};\n\
             for ({index} base = own ? begin + lane * {width} : end; base < end; base += {}) {{\n\
             {room}\
             #pragma unroll\nfor (int u = 0; u < {ahead}; ++u) {{\n\
             const {index} at = base + u * {step};\nif (at < end) {{\n{unravel}{loads}}}\n}}\n\
             #pragma unroll\nfor (int u = 0; u < {ahead}; ++u) {{\n\
             const {index} at = base + u * {step};\nif (at < end) {{\n{unravel}{compute}}}\n}}\n}}\n",
            ahead * step,
        )
    }

    /// Writes a total: the result, or the share of a chunk.
    fn write(&self, total: &Total<'_>) -> String {
        let (name, kept) = (total.name(), self.schedule.kept);
        match self.schedule.chunks() {
            1 => written(total, "row", &name),
            _ => format!("p{}[blockIdx.y * {kept} + row] = {name};\n", total.output),
        }
    }
}

/// The statement that writes a result, in its own type.
fn written(total: &Total<'_>, row: &str, value: &str) -> String {
    let at = position(total.tensor, row);
    let value = store(total.dtype, value);
    format!("w{}[{at}] = {value};\n", total.output)
}

/// Adds up the shares of chunks: a warp a result.
fn finish(totals: &[Total<'_>], schedule: &Schedule, offsets: &[usize]) -> Launch {
    let (kept, chunks) = (schedule.kept, schedule.chunks());
    let mut parameters = Vec::new();
    let mut args = Vec::new();
    for (total, &offset) in totals.iter().zip(offsets) {
        let (of, output) = (total.type_name(), total.output);
        parameters.push(format!("const {of}* p{output}"));
        parameters.push(format!(
            "{}* w{output}",
            crate::source::storage(total.dtype)
        ));
        args.extend([Arg::Scratch(offset), Arg::Write(output)]);
    }
    let rows = THREADS / 32;
    let index = index_type(kept * chunks);
    let mut text = head(&parameters, THREADS);
    let _ = writeln!(
        text,
        "const int lane = threadIdx.x % 32;\n\
         const {index} row = ({index})blockIdx.x * {rows} + threadIdx.x / 32;\n\
         if (row >= {kept}) return;"
    );
    for total in totals {
        let (name, start, output) = (total.name(), total.start(), total.output);
        let next = total.add(&name, &format!("p{output}[({index})chunk * {kept} + row]"));
        let _ = writeln!(
            text,
            "{} {name} = {start};\n\
             for (int chunk = lane; chunk < {chunks}; chunk += 32) {name} = {next};",
            total.type_name()
        );
        text += &halves(&name, total.type_name(), (16, 1), &|a, b| total.add(a, b));
        let _ = writeln!(text, "if (lane == 0) {}", written(total, "row", &name));
    }
    text += "}\n";
    Launch::of(&text, [blocks(kept, rows), 1, 1], args)
}
