//! Addresses and coordinates that many threads need, as a table in shared memory.

use std::fmt::Write;

use super::loader::{Loader, Slot};
use super::problem::Part;

/// Entries of a table.
const MOST_ENTRIES: usize = 2048;

impl Loader<'_> {
    /// The part whose share of addresses and coordinates stands in a table in shared memory: the one
    /// along which a thread has many slots, where it does not go by evenly.
    pub(super) fn tabled(&self) -> Option<Part> {
        let (part, entries) = match self.along {
            Part::Inner => (Part::Free, self.tile),
            _ => (Part::Inner, self.reach),
        };
        let uneven = self
            .inputs()
            .any(|input| self.matrix.merged(input, part).is_none())
            || self.matrix.windows().next().is_some();
        let simple = self.matrix.windows().all(|(_, place)| place.divisor == 1)
            && self.matrix.index() == "int";
        let worth = uneven && simple && entries <= MOST_ENTRIES && self.steps(part).len() > 2;
        worth.then_some(part)
    }

    /// Numbers of an entry: of each input, then of each window, or the bit in a mask.
    pub(super) fn entry(&self) -> usize {
        let windows = match self.masked() {
            true => 1,
            false => self.matrix.windows().count(),
        };
        (self.matrix.inputs().len() + windows).next_power_of_two()
    }

    pub(super) fn entries(&self) -> usize {
        match self.tabled() {
            Some(Part::Free) => self.tile,
            Some(_) => self.reach,
            None => 0,
        }
    }

    /// Bytes of the table.
    pub(super) fn table(&self) -> usize {
        (4 * self.entries() * self.entry()).next_multiple_of(16)
    }

    /// Fills the table, which begins `offset` bytes into shared memory. Afterwards the block waits.
    pub(super) fn fill(&self, origin: &str, offset: usize) -> String {
        let (x, entry) = (self.name, self.entry());
        let Some(part) = self.tabled() else {
            return String::new();
        };
        let index = match part {
            Part::Free => format!("({origin} + e)"),
            _ => "e".to_owned(),
        };
        let mut text = format!(
            "bp_pack<int, {entry}>* {x}table = (bp_pack<int, {entry}>*)((unsigned char*)shared + {offset});\n\
             for (int e = threadIdx.x; e < {}; e += {}) {{\n",
            self.entries(),
            self.block,
        );
        let moved = self
            .inputs()
            .map(|input| self.matrix.moved(input, part, &index));
        let windows = self.matrix.windows();
        let reached = windows.map(|(place, _)| self.matrix.reached(place, part, &index));
        let tested: Vec<String> = match self.masked() {
            true => vec![self.bit(&index)],
            false => reached.collect(),
        };
        for (number, value) in moved.chain(tested).enumerate() {
            let _ = writeln!(text, "{x}table[e].at[{number}] = {value};");
        }
        text + "}\n"
    }

    /// What all steps along `k`, and those in the table, add to addresses and coordinates.
    pub(super) fn moves(&self) -> String {
        let x = self.name;
        let steps = self.steps(Part::Inner).into_iter();
        let mut text: String = steps.map(|step| self.inner(step)).collect();
        let tabled = self.tabled().into_iter();
        for (part, step) in
            tabled.flat_map(|part| self.steps(part).into_iter().map(move |s| (part, s)))
        {
            let at = match part {
                Part::Free => format!("{x}l + {step}"),
                _ => format!("{x}k{step}"),
            };
            let entry = self.entry();
            let _ = writeln!(
                text,
                "const bp_pack<int, {entry}> {x}t{step} = {x}table[{at}];"
            );
        }
        text
    }

    /// What a step along `k` adds to addresses and coordinates.
    fn inner(&self, step: usize) -> String {
        let (x, index) = (self.name, self.matrix.index());
        let mut text = format!("const int {x}k{step} = kt + {x}k + {step};\n");
        if self.tabled() == Some(Part::Inner) {
            return text;
        }
        for input in self.inputs() {
            let at = match self.matrix.merged(input, Part::Inner) {
                Some(_) if step != 0 => continue,
                _ => format!("({index}){x}k{step}"),
            };
            let moved = self.matrix.moved(input, Part::Inner, &at);
            let _ = writeln!(text, "const {index} {x}{input}k{step} = {moved};");
        }
        for (place, _) in self.matrix.windows() {
            let moved = self
                .matrix
                .reached(place, Part::Inner, &format!("{x}k{step}"));
            let _ = writeln!(text, "const int {x}q{place}k{step} = {moved};");
        }
        text
    }

    /// What a step along a part adds to the number of an input's element.
    pub(super) fn shift(&self, input: usize, part: Part, slot: Slot) -> (String, isize) {
        let (x, step) = (self.name, slot.of(part));
        let letter = if part == Part::Free { "f" } else { "k" };
        match self.matrix.merged(input, part) {
            _ if self.tabled() == Some(part) => (format!("{x}t{step}.at[{input}]"), 0),
            Some(stride) => (format!("{x}{input}{letter}0"), stride * step as isize),
            None => (format!("{x}{input}{letter}{step}"), 0),
        }
    }

    /// What a step along a part adds to the coordinate of a window.
    pub(super) fn coordinate(
        &self,
        (number, place): (usize, usize),
        part: Part,
        slot: Slot,
    ) -> String {
        let (x, step) = (self.name, slot.of(part));
        let letter = if part == Part::Free { "f" } else { "k" };
        match self.tabled() == Some(part) {
            true => format!("{x}t{step}.at[{}]", self.matrix.inputs().len() + number),
            false => format!("{x}q{place}{letter}{step}"),
        }
    }
}
