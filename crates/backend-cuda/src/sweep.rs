//! Elementwise work and reductions over one index space.

use std::fmt::Write;

use backprop_core::{Axes, Body, Output, Primitive, Sink, Sweep};

use crate::lowered::{Launch, Lowered, MULTIPROCESSORS, THREADS, arguments};
use crate::pack::Pack;
use crate::reduction::{Reducing, Total};
use crate::schedule::Schedule;
use crate::source::{head, index_type, parameters, position, store};

/// Threads of a map below which it takes as long as one of them.
const FEW: usize = MULTIPROCESSORS * THREADS;

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
    let stored = |output: &Output| !matches!(output.sink, Sink::Reduce(..));
    match spec.body.outputs.iter().all(stored) {
        true => map(spec, &primitive),
        false => reduction(spec, &primitive),
    }
}

fn map(spec: &Sweep, primitive: &Primitive) -> Lowered {
    let pack = Pack::new(spec.space, &spec.body, &|_| false).widest();
    let count = spec.space.count();
    // Few points are done sooner by more threads than by wider ones.
    let width = pack.width.min((count / FEW).max(1).next_power_of_two());
    let pack = pack.of_width(width);
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
    text += &pack.compute("", &|_| true, "");
    text += "}\n";
    Lowered::one(Launch::each(
        &text,
        count.div_ceil(width),
        arguments(primitive),
    ))
}

fn reduction(spec: &Sweep, primitive: &Primitive) -> Lowered {
    let axes = common_axes(&spec.body).unwrap_or_default();
    let schedule = Schedule::new(spec.space, axes);
    let pack = Pack::new(spec.space, &spec.body, &|axis| axes.contains(axis));
    let pack = pack.of_width(schedule.width());
    // Where there is one point to a row, lanes without one would read what another overwrites.
    let pack = if schedule.reduced > 1 {
        pack.hoisting()
    } else {
        pack
    };
    let mut results = String::new();
    let mut totals = Vec::new();
    for (number, output) in spec.body.outputs.iter().enumerate() {
        let Sink::Reduce(reduction, _) = output.sink else {
            continue;
        };
        let dtype = output.tensor.dtype;
        let total = Total {
            number,
            register: output.register,
            reduction,
            dtype,
        };
        let at = position(&output.tensor, "row");
        let value = store(dtype, &total.name());
        let _ = writeln!(results, "w{number}[{at}] = {value};");
        totals.push(total);
    }
    let reducing = Reducing {
        schedule: schedule.facing(pack.facing()),
        totals,
        pack,
        before: String::new(),
        each: &|_| true,
        results,
    };
    reducing.lower(parameters(primitive), arguments(primitive))
}
