//! How a block brings a tile of an operand into shared memory: each thread loads its share of the
//! next tile into registers, and stores it once the tile before has been used.

use std::fmt::Write;

use backprop_core::DType;

use super::copy;
use super::element::Element;
use super::matrix::{sum, times};
use super::problem::{Matrix, Part};
use super::tile::Engine;
use crate::source::{Point, position, storage, value};

/// Elements that lanes of a warp load side by side where an operand is contiguous along `k`: a whole
/// sector of memory, at as many rows as leave no two lanes in one bank.
const SIDE_BY_SIDE: usize = 8;

/// What one thread loads at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    /// Past the free and the inner index of the first one.
    pub(super) free: usize,
    pub(super) inner: usize,
}

/// The tile of one operand.
pub(super) struct Loader<'a> {
    pub(super) matrix: &'a Matrix<'a>,
    /// What its variables begin with.
    pub(super) name: &'static str,
    pub(super) accumulator: DType,
    /// Free indices of a tile, and steps of `k`.
    pub(super) tile: usize,
    pub(super) depth: usize,
    /// Threads that load it, and those of the whole block.
    pub(super) threads: usize,
    pub(super) block: usize,
    /// Whether it is copied, without a way through registers.
    pub(super) copies: bool,
    /// The part along which neighbours are loaded.
    pub(super) along: Part,
    pub(super) width: usize,
    pub(super) slots: Vec<Slot>,
    /// Whether the last tile along `k` is a whole one.
    pub(super) even: bool,
    /// Steps of `k` of all tiles of all blocks.
    pub(super) reach: usize,
    /// From one step of `k` to the next in shared memory.
    pub(super) pitch: usize,
    /// Whether values are rounded for tensor cores.
    pub(super) rounds: bool,
}

/// The tile that a loader is for.
#[derive(Clone, Copy)]
pub(super) struct Share {
    pub(super) tile: usize,
    pub(super) depth: usize,
    pub(super) threads: usize,
    pub(super) block: usize,
    pub(super) even: bool,
    pub(super) reach: usize,
    pub(super) pitch: usize,
    pub(super) engine: Engine,
    /// Whether there is one tile, so that nothing is to be done while it is on its way.
    pub(super) alone: bool,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        matrix: &'a Matrix<'a>,
        (name, accumulator): (&'static str, DType),
        share: Share,
    ) -> Loader<'a> {
        let runs = [Part::Inner, Part::Free].map(|part| match matrix.is_along(part) {
            true => matrix.last(part),
            false => 0,
        });
        let along = if runs[0] > runs[1] {
            Part::Inner
        } else {
            Part::Free
        };
        // What lies along `k` is copied element by element, which pays if something else goes on.
        let copies = share.engine == Engine::Lanes
            && copy::suits(matrix, accumulator)
            && !(share.alone && along == Part::Inner);
        let mut loader = Loader {
            matrix,
            name,
            accumulator,
            tile: share.tile,
            depth: share.depth,
            threads: share.threads,
            block: share.block,
            copies,
            along,
            width: match copies && along == Part::Inner {
                true => 1,
                false => Loader::width(matrix, along),
            },
            slots: Vec::new(),
            even: share.even,
            reach: share.reach,
            pitch: share.pitch,
            rounds: share.engine == Engine::Tensor && !matrix.is_short(),
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
        [4, 2]
            .into_iter()
            .find(|&w| w <= widest && fits(w))
            .unwrap_or(1)
    }

    fn chunks(&self) -> usize {
        self.tile * self.depth / self.width
    }

    /// Lanes side by side along `k`.
    fn beside(&self) -> usize {
        SIDE_BY_SIDE / self.width
    }

    /// Rows that lanes side by side along `k` take, and how many lanes those are.
    fn rows(&self) -> usize {
        (4 * self.width).min(self.tile)
    }

    fn lanes(&self) -> usize {
        self.beside() * self.rows()
    }

    /// Everything is a power of two, so that what a slot is further on is the same for all threads.
    fn slot(&self, slot: usize) -> Slot {
        let chunk = slot * self.threads;
        match self.along {
            Part::Inner => {
                let (group, blocks) = (chunk / self.lanes(), self.depth / SIDE_BY_SIDE);
                Slot {
                    free: group / blocks * self.rows(),
                    inner: group % blocks * SIDE_BY_SIDE,
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

    /// The different steps of the slots along a part.
    pub(super) fn steps(&self, part: Part) -> Vec<usize> {
        let mut steps: Vec<usize> = self.slots.iter().map(|slot| slot.of(part)).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    pub(super) fn inputs(&self) -> std::ops::Range<usize> {
        0..self.matrix.inputs().len()
    }

    /// Defines what stays the same for all tiles. The free index of the block is `origin`.
    pub(super) fn setup(&self, origin: &str) -> String {
        let (x, width, beside, tile) = (self.name, self.width, self.beside(), self.tile);
        let mut text = match self.along {
            Part::Inner => format!(
                "const int {x}l = lane / {} * {rows} + lane / {beside} % {rows};\n\
                 const int {x}k = lane / {lanes} % {blocks} * {SIDE_BY_SIDE} + lane % {beside} * {width};\n",
                self.lanes() * self.depth / SIDE_BY_SIDE,
                rows = self.rows(),
                lanes = self.lanes(),
                blocks = self.depth / SIDE_BY_SIDE,
            ),
            _ => format!(
                "const int {x}l = lane % {across} * {width};\n\
                 const int {x}k = lane / {across};\n",
                across = tile / width
            ),
        };
        let pitch = self.pitch;
        let _ = writeln!(
            text,
            "const int {x}f = {origin} + {x}l;\nconst int {x}s = {x}k * {pitch} + {x}l;"
        );
        for input in self.inputs() {
            text += &self.fixed(input);
        }
        for (place, spec) in self.matrix.windows() {
            let fixed = [
                spec.constant.to_string(),
                self.matrix.reached(place, Part::Batch, "bt"),
            ];
            let _ = writeln!(text, "const int {x}q{place} = {};", sum(fixed.into_iter()));
            if self.tabled() == Some(Part::Free) {
                continue;
            }
            for step in self.steps(Part::Free) {
                let moved = self
                    .matrix
                    .reached(place, Part::Free, &format!("({x}f + {step})"));
                let _ = writeln!(text, "const int {x}q{place}f{step} = {moved};");
            }
        }
        text + &self.masks() + &self.alignment()
    }

    /// What an input's addresses have in common.
    fn fixed(&self, input: usize) -> String {
        let (x, index) = (self.name, self.matrix.index());
        let batch = self.matrix.moved(input, Part::Batch, "bt");
        let origin = self.matrix.origin(input).to_string();
        let fixed = sum([origin, batch].into_iter());
        let mut text = format!("const {index} {x}{input} = {fixed};\n");
        let steps = match self.matrix.merged(input, Part::Free) {
            _ if self.tabled() == Some(Part::Free) => Vec::new(),
            Some(_) => vec![0],
            None => self.steps(Part::Free),
        };
        for step in steps {
            let free = self
                .matrix
                .moved(input, Part::Free, &format!("({index})({x}f + {step})"));
            let _ = writeln!(text, "const {index} {x}{input}f{step} = {free};");
        }
        text
    }

    /// The inputs of which several elements are loaded at once.
    pub(super) fn whole(&self, input: usize) -> bool {
        self.width > 1 && self.matrix.width(input, self.along) >= self.width
    }

    fn alignment(&self) -> String {
        let whole = self.inputs().filter(|&input| self.whole(input));
        let tests: Vec<String> = whole
            .map(|input| format!("bp_aligned(r{})", self.matrix.first + input))
            .collect();
        match tests.is_empty() {
            true => String::new(),
            false => format!(
                "const bool {}aligned = {};\n",
                self.name,
                tests.join(" && ")
            ),
        }
    }

    /// Declares the registers of a tile, and loads what begins at `kt` into them.
    pub(super) fn fetch(&self) -> String {
        let (x, slots) = (self.name, self.slots.len());
        let mut text = String::new();
        for input in self.inputs() {
            let element = storage(self.matrix.inputs()[input].tensor.dtype);
            let _ = writeln!(
                text,
                "bp_pack<{element}, {}> {x}x{input}[{slots}];",
                self.width
            );
        }
        let _ = writeln!(text, "bool {x}in[{slots}];\nif (more) {{");
        text += &self.moves();
        for (number, slot) in self.slots.iter().enumerate() {
            let _ = writeln!(text, "{x}in[{number}] = {};", self.inside(number, *slot));
        }
        for input in self.inputs() {
            match self.whole(input) {
                true => {
                    let (at_once, apart) = (
                        self.loads(input, Neighbours::AtOnce),
                        self.loads(input, Neighbours::Apart),
                    );
                    let _ = writeln!(text, "if ({x}aligned) {{\n{at_once}}} else {{\n{apart}}}");
                }
                false => text += &self.loads(input, Neighbours::Apart),
            }
        }
        text + "}\n"
    }

    /// Whether the tile has a chunk for the thread in a slot, where it may not.
    pub(super) fn belongs(&self, number: usize) -> Option<String> {
        let (first, chunks) = (number * self.threads, self.chunks());
        (first + self.threads > chunks).then(|| format!("lane + {first} < {chunks}"))
    }

    /// Whether a slot has anything to load.
    pub(super) fn inside(&self, number: usize, slot: Slot) -> String {
        let (x, free) = (self.name, self.matrix.count(Part::Free));
        let mut tests: Vec<String> = self.belongs(number).into_iter().collect();
        if !free.is_multiple_of(self.tile) {
            tests.push(format!("{x}f + {} < {free}", slot.free));
        }
        if !self.even {
            tests.push(format!("{x}k{} < kend", slot.inner));
        }
        if self.masked() {
            tests.push(format!("{} != 0", self.visits(slot)));
            return tests.join(" && ");
        }
        for (window, (place, spec)) in self.matrix.windows().enumerate() {
            let at = self.visited((window, place), slot);
            let bound = spec.bound.unwrap_or(usize::MAX >> 33);
            tests.push(match spec.divisor {
                1 => format!("(unsigned)({at}) < {bound}u"),
                divisor => {
                    format!("{at} >= 0 && ({at}) % {divisor} == 0 && ({at}) / {divisor} < {bound}")
                }
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
                    format!(
                        "{target} = *(const bp_pack<{element}, {}>*)({from} + ({at}));\n",
                        self.width
                    )
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
        let (first, further) = self.reached(input, slot);
        sum([first, further.to_string()].into_iter())
    }

    /// The number of an input's element for a slot, less a constant; and that.
    pub(super) fn reached(&self, input: usize, slot: Slot) -> (String, isize) {
        let x = self.name;
        let (free, past) = self.shift(input, Part::Free, slot);
        let (inner, further) = self.shift(input, Part::Inner, slot);
        let mut terms = vec![format!("{x}{input}"), free, inner];
        for (window, (place, spec)) in self.matrix.windows().enumerate() {
            if spec.divisor > 1 {
                let at = format!(
                    "({}) / {}",
                    self.visited((window, place), slot),
                    spec.divisor
                );
                terms.push(times(&at, self.matrix.inputs()[input].view.strides[place]));
            }
        }
        (sum(terms.into_iter()), past + further)
    }

    /// The coordinate of a window at a slot, before it is divided.
    fn visited(&self, (number, place): (usize, usize), slot: Slot) -> String {
        let parts = [Part::Free, Part::Inner];
        let [free, inner] = parts.map(|part| self.coordinate((number, place), part, slot));
        format!("{}q{place} + {free} + {inner}", self.name)
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
            let at = format!("{x}to + ({x}s + {})", slot.inner * self.pitch + slot.free);
            stored += &match self.along {
                Part::Inner => (0..width)
                    .map(|i| format!("*({at} + {}) = value.at[{i}];\n", i * self.pitch))
                    .collect(),
                _ => format!("*(bp_pack<{of}, {width}>*)({at}) = value;\n"),
            };
            let guard = self.belongs(number);
            let guard = guard.map_or_else(String::new, |test| format!("if ({test}) "));
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
            let element = format!("({of})({})", point.input(0));
            return format!("value.at[{i}] = {};\n", self.rounded(&element));
        }
        let computed = self
            .matrix
            .value(&point, (&format!("value.at[{i}]"), self.accumulator));
        let rounded = self.rounded(&format!("value.at[{i}]"));
        format!(
            "value.at[{i}] = 0;\nif ({x}in[{number}]) {{\n{computed}value.at[{i}] = {rounded};\n}}\n"
        )
    }

    fn rounded(&self, element: &str) -> String {
        match self.rounds {
            true => format!("bp_to_tf32({element})"),
            false => element.to_owned(),
        }
    }
}

/// How neighbours are loaded.
#[derive(Clone, Copy)]
enum Neighbours {
    AtOnce,
    Apart,
}

impl Slot {
    pub(super) fn of(self, part: Part) -> usize {
        match part {
            Part::Inner => self.inner,
            _ => self.free,
        }
    }
}
