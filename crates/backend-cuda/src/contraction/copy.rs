//! Tiles that are copied to shared memory as they are: copies go on while the block computes, any
//! number of tiles ahead.

use std::fmt::Write;

use backprop_core::DType;

use super::loader::{Loader, Slot};
use super::problem::Matrix;
use crate::source::value;

/// Whether the values of an operand are elements in memory.
pub(super) fn suits(matrix: &Matrix<'_>, accumulator: DType) -> bool {
    matrix.operand.as_plain().is_some_and(|source| {
        let tensor = &source.tensor;
        tensor.dtype == accumulator && accumulator.size() >= 4 && tensor.layout.is_dense()
    })
}

impl Loader<'_> {
    /// Begins to copy the tile at `kt`. Addresses are pointers that slots share, and constants.
    pub(super) fn copy(&self) -> String {
        let (x, width, of) = (self.name, self.width, value(self.accumulator));
        let mut text = format!(
            "if (more) {{\n{of}* const {x}at = {x}to + {x}s;\n{}",
            self.moves()
        );
        let bases = self.bases();
        for (number, base) in bases.iter().enumerate() {
            let source = format!("r{}", self.matrix.first);
            let _ = writeln!(text, "const {of}* const {x}p{number} = {source} + {base};");
        }
        let pieces = |width| {
            let slots = self.slots.iter().enumerate();
            let texts = slots.map(|(number, slot)| self.piece((number, *slot), &bases, width));
            texts.collect::<String>()
        };
        text += &match width > 1 && self.whole(0) {
            true => format!(
                "if ({x}aligned) {{\n{}}} else {{\n{}}}\n",
                pieces(width),
                pieces(1)
            ),
            false => pieces(1),
        };
        text + "}\n"
    }

    /// What the numbers of elements begin with, less constants.
    fn bases(&self) -> Vec<String> {
        let mut bases = Vec::new();
        for slot in &self.slots {
            let (base, _) = self.reached(0, *slot);
            if !bases.contains(&base) {
                bases.push(base);
            }
        }
        bases
    }

    /// Begins to copy the chunk of a slot, `width` elements at once.
    fn piece(&self, (number, slot): (usize, Slot), bases: &[String], width: usize) -> String {
        let (x, bytes) = (self.name, width * self.accumulator.size());
        let valid = match self.inside(number, slot).as_str() {
            "true" => String::new(),
            test => format!(", {test}"),
        };
        let (base, further) = self.reached(0, slot);
        let pointer = bases.iter().position(|other| *other == base).unwrap_or(0);
        let to = slot.inner * self.pitch + slot.free;
        let step = self.matrix.merged(0, self.along).unwrap_or(1);
        let mut text = String::new();
        for i in (0..self.width).step_by(width) {
            let from = further + i as isize * step;
            let to = to + i;
            let _ = writeln!(
                text,
                "bp_copy_async<{bytes}>({x}at + {to}, {x}p{pointer} + ({from}){valid});"
            );
        }
        match self.belongs(number) {
            Some(test) => format!("if ({test}) {{\n{text}}}\n"),
            None => text,
        }
    }
}
