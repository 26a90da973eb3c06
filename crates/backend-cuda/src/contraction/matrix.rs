//! Where the elements of an operand lie, seen from the batch, its free and its inner index.

use std::fmt::Write;

use backprop_core::{DType, Program, Register, Source};

use super::problem::{Matrix, Part};
use crate::source::{Point, index_type, statements, value};

impl Matrix<'_> {
    pub(super) fn sizes(&self, part: Part) -> &[usize] {
        match part {
            Part::Batch => &self.batch,
            Part::Free => &self.free,
            Part::Inner => &self.inner,
        }
    }

    pub(super) fn count(&self, part: Part) -> usize {
        self.sizes(part).iter().product()
    }

    pub(super) fn inputs(&self) -> &[Source] {
        &self.operand.inputs
    }

    /// Whether values are elements as they are.
    pub(super) fn is_plain(&self) -> bool {
        self.operand.as_plain().is_some()
    }

    /// Whether values are 16-bit floats, which tensor cores take as they are.
    pub(super) fn is_short(&self) -> bool {
        let last = Register(self.operand.program.len().saturating_sub(1) as u16);
        matches!(
            self.operand.program.dtype(last),
            Some(DType::F16 | DType::BF16)
        )
    }

    /// The integer for numbers of elements.
    pub(super) fn index(&self) -> &'static str {
        let counts = self.inputs().iter().map(|input| input.tensor.shape.count());
        index_type(counts.max().unwrap_or(0).saturating_mul(2))
    }

    /// Places whose coordinates have to be looked at.
    pub(super) fn windows(&self) -> impl Iterator<Item = (usize, &super::problem::Place)> {
        let places = self.places.iter().enumerate();
        places.filter(|(_, place)| place.bound.is_some() || place.divisor > 1)
    }

    /// Elements of an input that go by along an axis of a part.
    pub(super) fn stride(&self, input: usize, part: Part, axis: usize) -> isize {
        let view = &self.inputs()[input].view;
        let places = self.places.iter().zip(view.strides);
        let terms = places
            .filter(|(place, _)| place.divisor == 1)
            .flat_map(|(place, stride)| {
                let terms = place
                    .terms
                    .iter()
                    .filter(|t| t.part == part && t.axis == axis);
                terms.map(move |term| term.step * stride)
            });
        terms.sum()
    }

    /// The element at the origin of all parts.
    pub(super) fn origin(&self, input: usize) -> isize {
        let view = &self.inputs()[input].view;
        let places = self.places.iter().zip(view.strides);
        let moved = places
            .filter(|(place, _)| place.divisor == 1)
            .map(|(place, stride)| place.constant * stride);
        view.offset as isize + moved.sum::<isize>()
    }

    /// Elements that go by with an index, where that is the same number all along.
    pub(super) fn merged(&self, input: usize, part: Part) -> Option<isize> {
        let mut windows = self.windows().flat_map(|(_, place)| &place.terms);
        let sizes = self.sizes(part);
        if windows.any(|term| term.part == part && sizes[term.axis] > 1) {
            return None;
        }
        let mut merged: Option<(isize, usize)> = None;
        for axis in (0..sizes.len()).rev().filter(|&axis| sizes[axis] != 1) {
            let stride = self.stride(input, part, axis);
            merged = match merged {
                None => Some((stride, sizes[axis])),
                Some((unit, count)) if stride == unit * count as isize => {
                    Some((unit, count * sizes[axis]))
                }
                Some(_) => return None,
            };
        }
        Some(merged.map_or(0, |(stride, _)| stride))
    }

    /// The coordinate along an axis of a part, from the index of the part.
    pub(super) fn piece(&self, part: Part, axis: usize, index: &str) -> String {
        let sizes = self.sizes(part);
        let inner: usize = sizes[axis + 1..].iter().product();
        let outer: usize = sizes[..axis].iter().product();
        if sizes[axis] == 1 {
            return "0".to_owned();
        }
        let divided = match inner {
            0 | 1 => format!("({index})"),
            _ => format!("({index}) / {inner}"),
        };
        match outer {
            1 => divided,
            _ => format!("({divided} % {})", sizes[axis].max(1)),
        }
    }

    /// The elements of an input that go by up to an index of a part.
    pub(super) fn moved(&self, input: usize, part: Part, index: &str) -> String {
        if let Some(stride) = self.merged(input, part) {
            return times(index, stride);
        }
        let axes = 0..self.sizes(part).len();
        let terms = axes.map(|axis| {
            times(
                &self.piece(part, axis, index),
                self.stride(input, part, axis),
            )
        });
        sum(terms)
    }

    /// What an index of a part adds to the coordinate of a place.
    pub(super) fn reached(&self, place: usize, part: Part, index: &str) -> String {
        let terms = self.places[place]
            .terms
            .iter()
            .filter(|term| term.part == part);
        sum(terms.map(|term| times(&self.piece(part, term.axis, index), term.step)))
    }

    /// The elements that neighbours along an index may be loaded at once: the number for an input.
    pub(super) fn width(&self, input: usize, along: Part) -> usize {
        let Source { tensor, view } = &self.inputs()[input];
        if !tensor.layout.is_dense() || self.windows().next().is_some() {
            return 1;
        }
        let sizes = self.sizes(along);
        let Some(last) = (0..sizes.len()).rev().find(|&axis| sizes[axis] != 1) else {
            return 1;
        };
        let mut width = (16 / tensor.dtype.size()).min(4);
        let fits = |width: usize| {
            let even = |part: Part| {
                (0..self.sizes(part).len()).all(|axis| {
                    (part == along && axis == last)
                        || self.sizes(part)[axis] == 1
                        || self.stride(input, part, axis) % width as isize == 0
                })
            };
            self.stride(input, along, last) == 1
                && sizes[last].is_multiple_of(width)
                && view.offset.is_multiple_of(width)
                && [Part::Batch, Part::Free, Part::Inner].into_iter().all(even)
        };
        while width > 1 && !fits(width) {
            width /= 2;
        }
        width
    }

    /// The size of the last axis of a part that has more than one index.
    pub(super) fn last(&self, part: Part) -> usize {
        let sizes = self.sizes(part).iter().rev();
        sizes.copied().find(|&size| size != 1).unwrap_or(1)
    }

    /// Whether the elements of the largest input are closer to each other along this part.
    pub(super) fn is_along(&self, part: Part) -> bool {
        let sizes = self.sizes(part);
        let inputs = 0..self.inputs().len();
        let main = inputs.max_by_key(|&input| self.inputs()[input].tensor.shape.count());
        let last = (0..sizes.len()).rev().find(|&axis| sizes[axis] != 1);
        main.zip(last).is_some_and(|(input, axis)| {
            let windows = self.windows().flat_map(|(_, place)| &place.terms);
            let mut steps = windows.filter(|t| t.part == part && t.axis == axis);
            let moved = steps.next().map_or_else(
                || self.stride(input, part, axis),
                |t| {
                    let place = self
                        .places
                        .iter()
                        .position(|p| p.terms.iter().any(|o| std::ptr::eq(o, t)));
                    place.map_or(0, |p| self.inputs()[input].view.strides[p] * t.step)
                },
            );
            moved.abs() == 1
        })
    }

    /// Statements that give `name` the value at a point, of type `accumulator`.
    pub(super) fn value(&self, point: &dyn Point, (name, accumulator): (&str, DType)) -> String {
        let program: &Program = &self.operand.program;
        let last = Register(program.len().saturating_sub(1) as u16);
        let mut text = statements(program, point, &|_| true);
        let _ = writeln!(
            text,
            "{name} = ({})({});",
            value(accumulator),
            point.register(last)
        );
        text
    }
}

/// `index * stride`, as short as it gets.
pub(super) fn times(index: &str, stride: isize) -> String {
    match (index, stride) {
        ("0", _) | (_, 0) => "0".to_owned(),
        (_, 1) => format!("({index})"),
        _ => format!("({index}) * ({stride})"),
    }
}

/// The sum of terms, less those that are zero.
pub(super) fn sum(terms: impl Iterator<Item = String>) -> String {
    let kept: Vec<String> = terms.filter(|term| term != "0").collect();
    match kept.is_empty() {
        true => "0".to_owned(),
        false => format!("({})", kept.join(" + ")),
    }
}
