//! How a block brings a tile of an operand into shared memory: each thread loads its share of the
//! next tile into registers, and stores it once the tile before has been used.

use std::fmt::Write;

use backprop_core::DType;

use super::matrix::{sum, times};
use super::problem::{Matrix, Part};
use super::tile::Tile;
use crate::source::{Point, load, position, storage, value};

/// Elements that lanes of a warp load side by side where an operand is contiguous along `k`: a whole
/// sector of memory, at as many rows as leave no two lanes in one bank.
const SIDE_BY_SIDE: usize = 8;

/// What one thread loads at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Slot {
    /// Past the free and the inner index of the first one.
    free: usize,
    inner: usize,
}

/// The tile of one operand.
pub(super) struct Loader<'a> {
    matrix: &'a Matrix<'a>,
    /// What its variables begin with.
    name: &'static str,
    accumulator: DType,
    /// Free indices of a tile, and steps of `k`.
    tile: usize,
    depth: usize,
    threads: usize,
    /// The part along which neighbours are loaded.
    along: Part,
    width: usize,
    slots: Vec<Slot>,
    /// Whether the last tile along `k` is a whole one.
    even: bool,
}

/// The tile that a loader is for.
#[derive(Clone, Copy)]
pub(super) struct Share {
    pub(super) tile: usize,
    pub(super) depth: usize,
    pub(super) threads: usize,
    pub(super) even: bool,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        matrix: &'a Matrix<'a>,
        (name, accumulator): (&'static str, DType),
        share: Share,
    ) -> Loader<'a> {
        let along = match matrix.is_along(Part::Inner) {
            true => Part::Inner,
            false => Part::Free,
        };
        let mut loader = Loader {
            matrix,
            name,
            accumulator,
            tile: share.tile,
            depth: share.depth,
            threads: share.threads,
            along,
            width: Loader::width(matrix, along),
            slots: Vec::new(),
            even: share.even,
        };
        let slots = loader.chunks().div_ceil(loader.threads);
        loader.slots = (0..slots).map(|slot| loader.slot(slot)).collect();
        loader
    }

    /// The most neighbours that every input can deliver.
    fn width(matrix: &Matrix<'_>, along: Part) -> usize {
        let widths = (0..matrix.inputs().len()).map(|input| {
            let even = matrix.merged(input, along).is_some();
            (matrix.width(input, along), even)
        });
        let widest = widths.clone().map(|(width, _)| width).max().unwrap_or(1);
        let fits = |width: usize| widths.clone().all(|(own, even)| own >= width || even);
        [4, 2].into_iter().find(|&w| w <= widest && fits(w)).unwrap_or(1)
    }

    fn chunks(&self) -> usize {
        self.tile * self.depth / self.width
    }

    /// Lanes side by side along `k`.
    fn beside(&self) -> usize {
        SIDE_BY_SIDE / self.width
    }

    fn slot(&self, slot: usize) -> Slot {
        let chunk = slot * self.threads;
        match self.along {
            Part::Inner => {
                let row = chunk / self.beside();
                Slot {
                    free: row % self.tile,
                    inner: row / self.tile * SIDE_BY_SIDE,
                }
            }
            _ => {
                let across = self.tile / self.width;
                Slot {
                    free: chunk % across * self.width,
                    inner: chunk / across,
                }
            }
        }
    }

    fn pitch(&self) -> usize {
        Tile::pitch(self.tile)
    }

    /// The different steps of the slots along a part.
    fn steps(&self, part: Part) -> Vec<usize> {
        let mut steps: Vec<usize> = self.slots.iter().map(|slot| slot.of(part)).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    fn inputs(&self) -> std::ops::Range<usize> {
        0..self.matrix.inputs().len()
    }

    /// Defines what stays the same for all tiles. The free index of the block is `origin`.
    pub(super) fn setup(&self, origin: &str) -> String {
        let (x, width, beside, tile) = (self.name, self.width, self.beside(), self.tile);
        let mut text = match self.along {
            Part::Inner => format!(
                "const int {x}l = threadIdx.x / {beside} % {tile};\n\
                 const int {x}k = threadIdx.x / {} * {SIDE_BY_SIDE} + threadIdx.x % {beside} * {width};\n",
                beside * tile
            ),
            _ => format!(
                "const int {x}l = threadIdx.x % {across} * {width};\n\
                 const int {x}k = threadIdx.x / {across};\n",
                across = tile / width
            ),
        };
        let pitch = self.pitch();
        let _ = writeln!(
            text,
            "const int {x}f = {origin} + {x}l;\nconst int {x}s = {x}k * {pitch} + {x}l;"
        );
        for input in self.inputs() {
            text += &self.fixed(input);
        }
        for (place, spec) in self.matrix.windows() {
            for step in self.steps(Part::Free) {
                let moved = sum([
                    spec.constant.to_string(),
                    self.matrix.reached(place, Part::Batch, "bt"),
                    self.matrix.reached(place, Part::Free, &format!("({x}f + {step})")),
                ]
                .into_iter());
                let _ = writeln!(text, "const int {x}q{place}f{step} = {moved};");
            }
        }
        text + &self.alignment()
    }

    /// What an input's addresses have in common.
    fn fixed(&self, input: usize) -> String {
        let (x, index) = (self.name, self.matrix.index());
        let batch = self.matrix.moved(input, Part::Batch, "bt");
        let origin = self.matrix.origin(input).to_string();
        let mut text = String::new();
        let steps = match self.matrix.merged(input, Part::Free) {
            Some(_) => vec![0],
            None => self.steps(Part::Free),
        };
        for step in steps {
            let free = self.matrix.moved(input, Part::Free, &format!("({index})({x}f + {step})"));
            let terms = [origin.clone(), batch.clone(), free];
            let fixed = sum(terms.into_iter());
            let _ = writeln!(text, "const {index} {x}{input}f{step} = {fixed};");
        }
        text
    }

    /// The inputs of which several elements are loaded at once.
    fn whole(&self, input: usize) -> bool {
        self.width > 1 && self.matrix.width(input, self.along) >= self.width
    }

    fn alignment(&self) -> String {
        let whole = self.inputs().filter(|&input| self.whole(input));
        let tests: Vec<String> =
            whole.map(|input| format!("bp_aligned(r{})", self.matrix.first + input)).collect();
        match tests.is_empty() {
            true => String::new(),
            false => format!("const bool {}aligned = {};\n", self.name, tests.join(" && ")),
        }
    }

    /// Declares the registers of a tile, and loads what begins at `kt` into them.
    pub(super) fn fetch(&self) -> String {
        let (x, slots) = (self.name, self.slots.len());
        let mut text = String::new();
        for input in self.inputs() {
            let element = storage(self.matrix.inputs()[input].tensor.dtype);
            let _ = writeln!(text, "bp_pack<{element}, {}> {x}x{input}[{slots}];", self.width);
        }
        let _ = writeln!(text, "bool {x}in[{slots}];\nif (tile < tiles) {{");
        for step in self.steps(Part::Inner) {
            text += &self.inner(step);
        }
        for (number, slot) in self.slots.iter().enumerate() {
            let _ = writeln!(text, "{x}in[{number}] = {};", self.inside(number, *slot));
        }
        for input in self.inputs() {
            match self.whole(input) {
                true => {
                    let (at_once, apart) = (self.loads(input, Neighbours::AtOnce), self.loads(input, Neighbours::Apart));
                    let _ = writeln!(text, "if ({x}aligned) {{\n{at_once}}} else {{\n{apart}}}");
                }
                false => text += &self.loads(input, Neighbours::Apart),
            }
        }
        text + "}\n"
    }

    /// What a step along `k` adds to addresses and coordinates.
    fn inner(&self, step: usize) -> String {
        let (x, index) = (self.name, self.matrix.index());
        let mut text = format!("const int {x}k{step} = kt + {x}k + {step};\n");
        for input in self.inputs() {
            let at = match self.matrix.merged(input, Part::Inner) {
                Some(_) if step != 0 => continue,
                _ => format!("({index}){x}k{step}"),
            };
            let moved = self.matrix.moved(input, Part::Inner, &at);
            let _ = writeln!(text, "const {index} {x}{input}k{step} = {moved};");
        }
        for (place, _) in self.matrix.windows() {
            let moved = self.matrix.reached(place, Part::Inner, &format!("{x}k{step}"));
            let _ = writeln!(text, "const int {x}q{place}k{step} = {moved};");
        }
        text
    }

    /// Whether a slot has anything to load.
    fn inside(&self, number: usize, slot: Slot) -> String {
        let (x, free) = (self.name, self.matrix.count(Part::Free));
        let mut tests = Vec::new();
        if (number + 1) * self.threads > self.chunks() {
            tests.push(format!("threadIdx.x + {} < {}", number * self.threads, self.chunks()));
        }
        if !free.is_multiple_of(self.tile) {
            tests.push(format!("{x}f + {} < {free}", slot.free));
        }
        if !self.even {
            tests.push(format!("{x}k{} < kend", slot.inner));
        }
        for (place, spec) in self.matrix.windows() {
            let at = format!("{x}q{place}f{} + {x}q{place}k{}", slot.free, slot.inner);
            let bound = spec.bound.unwrap_or(usize::MAX >> 33);
            tests.push(match spec.divisor {
                1 => format!("(unsigned)({at}) < {bound}u"),
                divisor => format!(
                    "{at} >= 0 && ({at}) % {divisor} == 0 && ({at}) / {divisor} < {bound}"
                ),
            });
        }
        match tests.is_empty() {
            true => "true".to_owned(),
            false => tests.join(" && "),
        }
    }

    /// Loads of one input.
    fn loads(&self, input: usize, neighbours: Neighbours) -> String {
        let x = self.name;
        let mut text = String::new();
        for (number, slot) in self.slots.iter().enumerate() {
            let at = self.number(input, *slot);
            let source = &self.matrix.inputs()[input];
            let from = format!("r{}", self.matrix.first + input);
            let target = format!("{x}x{input}[{number}]");
            let element = storage(source.tensor.dtype);
            let load = match neighbours {
                Neighbours::AtOnce => {
                    format!("{target} = *(const bp_pack<{element}, {}>*)({from} + ({at}));\n", self.width)
                }
                Neighbours::Apart => (0..self.width)
                    .map(|i| {
                        let step = self.matrix.merged(input, self.along);
                        // Where indices do not go by evenly, neighbours are.
                        let beside = times(&i.to_string(), step.unwrap_or(1));
                        let at = position(&source.tensor, &format!("{at} + {beside}"));
                        format!("{target}.at[{i}] = {from}[{at}];\n")
                    })
                    .collect(),
            };
            let _ = writeln!(text, "{target} = bp_pack<{element}, {}>();", self.width);
            let _ = writeln!(text, "if ({x}in[{number}]) {{ {load} }}");
        }
        text
    }

    /// The number of an input's element for a slot.
    fn number(&self, input: usize, slot: Slot) -> String {
        let x = self.name;
        let mut constant = 0;
        let mut term = |part: Part, letter: &str| match self.matrix.merged(input, part) {
            Some(stride) => {
                constant += stride * slot.of(part) as isize;
                format!("{x}{input}{letter}0")
            }
            None => format!("{x}{input}{letter}{}", slot.of(part)),
        };
        let mut terms = vec![term(Part::Free, "f"), term(Part::Inner, "k")];
        terms.push(constant.to_string());
        for (place, spec) in self.matrix.windows().filter(|(_, place)| place.divisor > 1) {
            let at = format!("({x}q{place}f{} + {x}q{place}k{})", slot.free, slot.inner);
            let stride = self.matrix.inputs()[input].view.strides[place];
            terms.push(times(&format!("{at} / {}", spec.divisor), stride));
        }
        sum(terms.into_iter())
    }

    /// Stores the tile to `to` in shared memory.
    pub(super) fn store(&self) -> String {
        let (x, of, width) = (self.name, value(self.accumulator), self.width);
        let mut text = String::new();
        for (number, slot) in self.slots.iter().enumerate() {
            let mut stored = format!("bp_pack<{of}, {width}> value;\n");
            for i in 0..width {
                stored += &self.element((number, *slot), i);
            }
            let at = format!("{x}to + ({x}s + {})", slot.inner * self.pitch() + slot.free);
            stored += &match self.along {
                Part::Inner => (0..width)
                    .map(|i| format!("*({at} + {}) = value.at[{i}];\n", i * self.pitch()))
                    .collect(),
                _ => format!("*(bp_pack<{of}, {width}>*)({at}) = value;\n"),
            };
            let guard = match (number + 1) * self.threads > self.chunks() {
                true => format!(
                    "if (threadIdx.x + {} < {}) ",
                    number * self.threads,
                    self.chunks()
                ),
                false => String::new(),
            };
            let _ = writeln!(text, "{guard}{{\n{stored}}}");
        }
        text
    }

    /// Gives `value.at[i]` the value of an element of a slot.
    fn element(&self, (number, slot): (usize, Slot), i: usize) -> String {
        let (x, of) = (self.name, value(self.accumulator));
        let point = Element {
            loader: self,
            number,
            slot,
            i,
        };
        if self.matrix.is_plain() {
            return format!("value.at[{i}] = ({of})({});\n", point.input(0));
        }
        let computed = self.matrix.value(&point, (&format!("value.at[{i}]"), self.accumulator));
        format!("value.at[{i}] = 0;\nif ({x}in[{number}]) {{\n{computed}}}\n")
    }
}

/// How neighbours are loaded.
#[derive(Clone, Copy)]
enum Neighbours {
    AtOnce,
    Apart,
}

/// An element of a slot.
struct Element<'l, 'a> {
    loader: &'l Loader<'a>,
    number: usize,
    slot: Slot,
    i: usize,
}

impl Element<'_, '_> {
    fn index(&self, part: Part, base: &str) -> String {
        let beside = if self.loader.along == part { self.i } else { 0 };
        format!("({base} + {})", self.slot.of(part) + beside)
    }
}

impl Point for Element<'_, '_> {
    fn input(&self, input: usize) -> String {
        let dtype = self.loader.matrix.inputs()[input].tensor.dtype;
        let (x, number, i) = (self.loader.name, self.number, self.i);
        load(dtype, &format!("{x}x{input}[{number}].at[{i}]"))
    }

    fn coordinate(&self, axis: usize) -> String {
        let (matrix, x) = (self.loader.matrix, self.loader.name);
        let place = &matrix.places[axis];
        let free = self.index(Part::Free, &format!("{x}f"));
        let inner = self.index(Part::Inner, &format!("kt + {x}k"));
        let terms = [
            place.constant.to_string(),
            matrix.reached(axis, Part::Batch, "bt"),
            matrix.reached(axis, Part::Free, &free),
            matrix.reached(axis, Part::Inner, &inner),
        ];
        format!("{} / {}", sum(terms.into_iter()), place.divisor)
    }
}

impl Slot {
    fn of(self, part: Part) -> usize {
        match part {
            Part::Inner => self.inner,
            _ => self.free,
        }
    }
}
