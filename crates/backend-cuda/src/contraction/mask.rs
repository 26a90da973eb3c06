//! Which taps of a window a thread may visit, as bits that are found once.

use std::fmt::Write;

use super::loader::{Loader, Slot};
use super::matrix::{sum, times};
use super::problem::{Part, Place};

/// Taps that a mask has bits for.
const BITS: usize = 32;

impl Loader<'_> {
    /// The axes of `k` that windows move along, with sizes and the taps that go by along them.
    fn taps(&self) -> Vec<(usize, usize, usize)> {
        let windows = self.matrix.windows().flat_map(|(_, place)| &place.terms);
        let mut axes: Vec<usize> = windows
            .filter(|term| term.part == Part::Inner)
            .map(|term| term.axis)
            .collect();
        axes.sort_unstable();
        axes.dedup();
        let mut beside = 1;
        let taps = axes.into_iter().map(|axis| {
            let size = self.matrix.sizes(Part::Inner)[axis];
            beside *= size;
            (axis, size, beside / size.max(1))
        });
        taps.collect()
    }

    /// Whether a mask says what is inside, tap by tap: the table has a bit for each step of `k`.
    pub(super) fn masked(&self) -> bool {
        let taps: usize = self.taps().iter().map(|(_, size, _)| size).product();
        self.tabled() == Some(Part::Inner)
            && self.matrix.windows().next().is_some()
            && (1..=BITS).contains(&taps)
    }

    /// The bit of a step of `k`.
    pub(super) fn bit(&self, index: &str) -> String {
        let taps = self.taps();
        let terms = taps.iter().map(|&(axis, _, beside)| {
            times(
                &self.matrix.piece(Part::Inner, axis, index),
                beside as isize,
            )
        });
        // Steps beyond the last one are none, whatever their bits.
        format!("(int)(1u << (({}) & {}))", sum(terms), BITS - 1)
    }

    /// Defines the masks, one for each step along the free index.
    pub(super) fn masks(&self) -> String {
        let x = self.name;
        if !self.masked() {
            return String::new();
        }
        let taps = self.taps();
        let count: usize = taps.iter().map(|(_, size, _)| size).product();
        let reached = |place: &Place| {
            let inner = place.terms.iter().filter(|term| term.part == Part::Inner);
            let terms = inner.filter_map(|term| {
                let (_, size, beside) = *taps.iter().find(|(axis, ..)| *axis == term.axis)?;
                Some(times(&format!("tap / {beside} % {size}"), term.step))
            });
            sum(terms)
        };
        let mut text = String::new();
        for step in self.steps(Part::Free) {
            let windows = self.matrix.windows();
            let tests: Vec<String> = windows
                .map(|(number, place)| {
                    let bound = place.bound.unwrap_or(usize::MAX >> 33);
                    let tap = reached(place);
                    format!("(unsigned)({x}q{number} + {x}q{number}f{step} + {tap}) < {bound}u")
                })
                .collect();
            let _ = writeln!(
                text,
                "unsigned {x}m{step} = 0;\n#pragma unroll\nfor (int tap = 0; tap < {count}; ++tap)\n\
                 {x}m{step} |= (unsigned)({}) << tap;",
                tests.join(" && ")
            );
        }
        text
    }

    /// Whether a slot's place is inside of all windows.
    pub(super) fn visits(&self, slot: Slot) -> String {
        let (x, inputs) = (self.name, self.matrix.inputs().len());
        format!(
            "({x}m{} & (unsigned){x}t{}.at[{inputs}])",
            slot.free, slot.inner
        )
    }
}
