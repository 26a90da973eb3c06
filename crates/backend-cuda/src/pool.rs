//! Reduced windows and their vjps: a thread a result, without atomics.

use std::fmt::Write;

use backprop_core::{DType, Pool, Primitive, Reduction, Shape, TensorType, View};

use crate::lowered::{Launch, Lowered, THREADS, arguments};
use crate::source::{
    Fold, Operand, head, index_type, load, parameters, position, reduce, start, store, value,
};

/// Loops of up to as many turns in all are unrolled.
const UNROLLED: usize = 128;

/// Every pool and its vjp.
pub(crate) fn supports(spec: &Pool) -> bool {
    let reach = |i: usize, size: usize| {
        let window = spec.windows[i];
        let places = spec.output.size(leading(spec) + i);
        let last = (places.saturating_sub(1)).saturating_mul(window.stride);
        let tap = (window.size - 1).saturating_mul(window.dilation);
        last.saturating_add(tap)
            .saturating_add(window.padding + size)
    };
    let mut axes = (0..spec.spatial()).map(|i| reach(i, spec.input.size(leading(spec) + i)));
    axes.all(|reach| reach < 1 << 60)
}

/// The number of axes without a window.
fn leading(spec: &Pool) -> usize {
    spec.output.rank() - spec.spatial()
}

/// What the printers of both directions share: one index space, whose spatial axes are named.
struct Printer<'a> {
    spec: &'a Pool,
    fold: Fold,
    index: &'static str,
    pragma: &'static str,
}

impl<'a> Printer<'a> {
    /// Over `space`, with operands whose spatial strides are left to the printer.
    fn new(spec: &'a Pool, space: Shape, turns: usize) -> Printer<'a> {
        let leading = leading(spec);
        let mut operands: Vec<Operand> = Vec::new();
        for (i, source) in spec.operands.iter().enumerate() {
            let mut operand = Operand::read(i, source);
            let mut strides = source.view.strides;
            strides[leading..].fill(0);
            operand.view = View {
                shape: space,
                strides,
                ..source.view
            };
            operands.push(operand);
        }
        operands.push(Operand::write(0, &spec.result, space));
        let named: Vec<usize> = (leading..space.rank()).collect();
        let tensors = spec.operands.iter().map(|source| &source.tensor);
        let count = |tensor: &TensorType| tensor.shape.count();
        let largest = tensors.map(count).max().unwrap_or(0);
        let reach = (0..spec.spatial()).map(|i| {
            let window = spec.windows[i];
            let (places, size) = (spec.output.size(leading + i), spec.input.size(leading + i));
            places * window.stride + window.size * window.dilation + window.padding + size
        });
        let largest = reach.fold(largest.max(space.count()), usize::max);
        Printer {
            spec,
            fold: Fold::new(space, operands, &named, &|_| false),
            index: index_type(largest),
            pragma: if turns <= UNROLLED {
                "#pragma unroll"
            } else {
                "#pragma unroll 1"
            },
        }
    }

    fn coordinate(&self, i: usize) -> String {
        self.fold.original(leading(self.spec) + i)
    }

    /// The value of operand `k` where its coordinates along spatial axis `i` are `{prefix}{i}`.
    fn element(&self, k: usize, prefix: &str) -> String {
        let source = &self.spec.operands[k];
        let mut number = self.fold.address(k).number();
        for i in 0..self.spec.spatial() {
            match source.view.strides[leading(self.spec) + i] {
                0 => {}
                stride => number += &format!(" + {prefix}{i} * ({stride})"),
            }
        }
        let at = position(&source.tensor, &number);
        load(source.tensor.dtype, &format!("r{k}[{at}]"))
    }

    /// Loops over the taps of the window at the place `places`, which visits `p0, p1, ..`.
    fn taps(&self, places: &dyn Fn(usize) -> String, body: &str) -> String {
        let (spec, index, pragma) = (self.spec, self.index, self.pragma);
        let mut text = String::new();
        for (i, window) in spec.windows.iter().enumerate() {
            let axis = leading(spec) + i;
            let (size, count) = (spec.input.size(axis), spec.output.size(axis));
            let place = places(i);
            let _ = writeln!(
                text,
                "{pragma}\nfor (int t{i} = 0; t{i} < {}; ++t{i}) {{\n\
                 const {index} p{i} = {place} * {} + t{i} * {} - {};",
                window.size, window.stride, window.dilation, window.padding
            );
            if window.padding > 0 {
                let _ = writeln!(text, "if (p{i} < 0) continue;");
            }
            let last =
                count.saturating_sub(1) * window.stride + (window.size - 1) * window.dilation;
            if last >= size + window.padding {
                let _ = writeln!(text, "if (p{i} >= {size}) continue;");
            }
        }
        text + body + &"}\n".repeat(spec.spatial())
    }

    /// Loops over the places `o0, o1, ..` whose windows visit the thread's position, in order.
    fn places(&self, body: &str) -> String {
        let (spec, index, pragma) = (self.spec, self.index, self.pragma);
        let mut text = String::new();
        for (i, window) in spec.windows.iter().enumerate() {
            let axis = leading(spec) + i;
            let (size, count) = (spec.input.size(axis), spec.output.size(axis));
            let (reach, turns) = ((window.size - 1) * window.dilation, visits(spec, i));
            let here = format!("{} + {}", self.coordinate(i), window.padding);
            let mut tests = Vec::new();
            let place = match turns == count {
                true => {
                    tests.push(format!("d{i} < 0"));
                    format!("k{i}")
                }
                false => {
                    let last = size.saturating_sub(1) + window.padding;
                    let needed = [
                        (turns > 1, "< 0".to_owned()),
                        (last / window.stride >= count, format!(">= {count}")),
                    ];
                    let needed = needed.into_iter().filter(|(needed, _)| *needed);
                    tests.extend(needed.map(|(_, test)| format!("o{i} {test}")));
                    format!("({here}) / {} - {} + k{i}", window.stride, turns - 1)
                }
            };
            if turns == count || turns * window.stride - 1 > reach {
                tests.push(format!("d{i} > {reach}"));
            }
            if window.dilation > 1 {
                tests.push(format!("d{i} % {} != 0", window.dilation));
            }
            let _ = writeln!(
                text,
                "{pragma}\nfor (int k{i} = 0; k{i} < {turns}; ++k{i}) {{\n\
                 const {index} o{i} = {place}, d{i} = {here} - o{i} * {};",
                window.stride
            );
            if !tests.is_empty() {
                let _ = writeln!(text, "if ({}) continue;", tests.join(" || "));
            }
        }
        text + body + &"}\n".repeat(spec.spatial())
    }

    /// The whole kernel, of which `body` computes the value `total` of a thread.
    fn launch(&self, primitive: &Primitive, count: usize, body: &str) -> Lowered {
        if count == 0 {
            return Lowered::default();
        }
        let (index, dtype) = (self.index, self.spec.result.dtype);
        let mut text = head(&parameters(primitive), THREADS);
        let _ = writeln!(
            text,
            "const {index} number = ({index})blockIdx.x * {THREADS} + threadIdx.x;\n\
             if (number >= {count}) return;"
        );
        text += &self.fold.unravel("number", false, index);
        text += body;
        let result = self.fold.address(self.spec.operands.len()).element();
        let _ = writeln!(text, "{result} = {};\n}}", store(dtype, "total"));
        Lowered::one(Launch::each(&text, count, arguments(primitive)))
    }
}

/// Turns of the loop over the places along an axis whose windows may visit one position.
fn visits(spec: &Pool, i: usize) -> usize {
    let window = spec.windows[i];
    let near = (window.size - 1) * window.dilation / window.stride + 1;
    near.min(spec.output.size(leading(spec) + i))
}

fn taps(spec: &Pool) -> usize {
    spec.windows
        .iter()
        .map(|window| window.size)
        .fold(1, usize::saturating_mul)
}

pub(crate) fn lower(spec: &Pool) -> Lowered {
    let dtype = spec.result.dtype;
    let kept = dtype.accumulator();
    let printer = Printer::new(spec, spec.output, taps(spec));
    let (of, start) = (value(kept), start(spec.reduction, kept));
    let body = format!(
        "const {of} x = {};\ntotal = {};\n",
        printer.element(0, "p"),
        reduce(spec.reduction, "total", "x", kept)
    );
    let place = |i: usize| printer.coordinate(i);
    let text = format!("{of} total = {start};\n") + &printer.taps(&place, &body);
    printer.launch(&Primitive::Pool(spec.clone()), spec.output.count(), &text)
}

pub(crate) fn lower_vjp(spec: &Pool) -> Lowered {
    let kept = spec.result.dtype.accumulator();
    let visits: usize = (0..spec.spatial()).map(|i| visits(spec, i)).product();
    let turns = match spec.reduction {
        Reduction::Sum => visits,
        _ => visits.saturating_mul(taps(spec)),
    };
    let printer = Printer::new(spec, spec.input, turns);
    let cotangent = printer.element(spec.operands.len() - 1, "o");
    let add = format!("total = {};\n", reduce(Reduction::Sum, "total", "g", kept));
    let add = format!("const {} g = {cotangent};\n{add}", value(kept));
    let body = match spec.reduction {
        Reduction::Sum => add,
        reduction => chosen(&printer, reduction, kept) + &format!("if (mine) {{\n{add}}}\n"),
    };
    let zero = start(Reduction::Sum, kept);
    let text = format!("{} total = {zero};\n", value(kept)) + &printer.places(&body);
    printer.launch(&Primitive::PoolVjp(spec.clone()), spec.input.count(), &text)
}

/// Finds out whether the thread's position is the first of its window that holds the result.
fn chosen(printer: &Printer<'_>, reduction: Reduction, kept: DType) -> String {
    let of = value(kept);
    let worse = if reduction == Reduction::Max {
        "<="
    } else {
        ">="
    };
    let here = |i: usize| format!("p{i} == {}", printer.coordinate(i));
    let mut here: Vec<String> = (0..printer.spec.spatial()).map(here).collect();
    if here.is_empty() {
        here.push("true".to_owned());
    }
    // Not "better than": the first NaN wins over every number, and nothing wins over it.
    let body = format!(
        "const {of} x = {};\n\
         if (!any || (best == best && !(x {worse} best))) {{\n\
         best = x;\nmine = {};\nany = true;\n}}\n",
        printer.element(0, "p"),
        here.join(" && ")
    );
    let place = |i: usize| format!("o{i}");
    format!("{of} best = 0;\nbool any = false, mine = false;\n") + &printer.taps(&place, &body)
}
