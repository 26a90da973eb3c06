//! An element that a thread has loaded, as the program of its operand finds it.

use super::loader::{Loader, Slot};
use super::matrix::sum;
use super::problem::Part;
use crate::source::{Point, load};

/// An element of a slot.
pub(super) struct Element<'l, 'a> {
    pub(super) loader: &'l Loader<'a>,
    pub(super) number: usize,
    pub(super) slot: Slot,
    pub(super) i: usize,
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
