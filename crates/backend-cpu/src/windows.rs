//! How windows move over the spatial axes of a tensor.

use std::ops::Range;

/// Where windows go along a spatial axis: tap `t` at place `q` visits position
/// `origin + q * place + t * tap`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    pub(crate) places: usize,
    pub(crate) taps: usize,
    /// Positions, and elements from one to the next.
    pub(crate) size: usize,
    pub(crate) stride: isize,
    pub(crate) origin: isize,
    /// At least 1.
    pub(crate) place: isize,
    pub(crate) tap: isize,
}

/// An axis of one position, visited once.
const POINT: Axis = Axis {
    places: 1,
    taps: 1,
    size: 1,
    stride: 0,
    origin: 0,
    place: 1,
    tap: 0,
};

impl Axis {
    /// The position of a tap at a place, if it is inside.
    #[inline(always)]
    fn position(&self, place: usize, tap: usize) -> Option<isize> {
        let position = self.origin + place as isize * self.place + tap as isize * self.tap;
        (position >= 0 && position < self.size as isize).then_some(position)
    }

    /// The places from which all taps are inside.
    fn interior(&self) -> Range<usize> {
        let reach = self.taps.saturating_sub(1) as isize * self.tap;
        let [first, last] = [self.origin, self.origin + reach].map(|start| self.inside(start));
        let start = first.start.max(last.start);
        start..first.end.min(last.end).max(start)
    }

    /// The taps that are inside at a place.
    #[inline(always)]
    pub(crate) fn taps_at(&self, place: usize) -> Range<usize> {
        let ends = self.taps > 0 && self.position(place, 0).is_some();
        if ends && self.position(place, self.taps - 1).is_some() {
            return 0..self.taps;
        }
        let start = (0..self.taps).find(|&tap| self.position(place, tap).is_some());
        let start = start.unwrap_or(self.taps);
        let mut end = start;
        while end < self.taps && self.position(place, end).is_some() {
            end += 1;
        }
        start..end
    }

    /// The places from which a tap is inside, and elements before what it sees from place 0.
    #[inline(always)]
    pub(crate) fn sight(&self, tap: usize) -> (Range<usize>, isize) {
        let start = self.origin + tap as isize * self.tap;
        (self.inside(start), start * self.stride)
    }

    /// The places from which the tap that starts at position `start` is inside.
    #[inline(always)]
    fn inside(&self, start: isize) -> Range<usize> {
        let ceil = |positions: isize| match self.place {
            1 => positions.max(0) as usize,
            place => (positions.max(0) as usize).div_ceil(place as usize),
        };
        let first = ceil(-start).min(self.places);
        let end = ceil((self.size as isize).saturating_sub(start)).min(self.places);
        first..end.max(first)
    }
}

/// Windows over the spatial axes of a tensor.
#[derive(Debug, Clone)]
pub(crate) struct Windows {
    /// Slowest first; at least one.
    axes: Vec<Axis>,
    // What kernels ask for all the time, and would need loops and divisions for.
    interior: Range<usize>,
    rows: usize,
    /// Taps of all axes but the last, and of all but the last two.
    outer_taps: usize,
    rest_taps: usize,
}

/// Successive places along the last axis of which all visit positions, or none does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Run {
    /// Places before it.
    pub(crate) at: usize,
    pub(crate) len: usize,
    /// Elements before the first position; none where the tap is outside.
    pub(crate) from: Option<isize>,
}

impl Windows {
    pub(crate) fn new(mut axes: Vec<Axis>) -> Self {
        if axes.is_empty() {
            axes.push(POINT);
        }
        let (interior, outer) = (axes[axes.len() - 1].interior(), &axes[..axes.len() - 1]);
        let rest = &outer[..outer.len().saturating_sub(1)];
        let taps = |axes: &[Axis]| axes.iter().map(|axis| axis.taps).product();
        Self {
            interior,
            rows: outer.iter().map(|axis| axis.places).product(),
            outer_taps: taps(outer),
            rest_taps: taps(rest),
            axes,
        }
    }

    pub(crate) fn taps(&self) -> usize {
        self.outer_taps * self.last().taps
    }

    pub(crate) fn places(&self) -> usize {
        self.rows * self.last().places
    }

    /// Elements from a position to that of the next place, within a run.
    #[inline(always)]
    pub(crate) fn step(&self) -> isize {
        self.axes.last().map_or(0, |axis| axis.place * axis.stride)
    }

    /// Where there is one tap, always inside: the elements before the first position, and the
    /// sizes and strides of the places.
    pub(crate) fn as_strided(&self) -> Option<(isize, Vec<(usize, isize)>)> {
        let single = |axis: &Axis| axis.taps == 1 && axis.inside(axis.origin) == (0..axis.places);
        let offset = self.axes.iter().map(|axis| axis.origin * axis.stride).sum();
        let places = self
            .axes
            .iter()
            .map(|axis| (axis.places, axis.place * axis.stride));
        self.axes
            .iter()
            .all(single)
            .then(|| (offset, places.collect()))
    }

    /// The last axis.
    #[inline(always)]
    pub(crate) fn last(&self) -> Axis {
        self.axes.last().copied().unwrap_or(POINT)
    }

    /// The places along the last axis from which all its taps are inside.
    #[inline(always)]
    pub(crate) fn interior(&self) -> Range<usize> {
        self.interior.clone()
    }

    /// The rows of places along the last axis.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    fn outer(&self) -> &[Axis] {
        &self.axes[..self.axes.len() - 1]
    }

    /// The rows of positions that a row of places sees, in the order of the taps.
    #[inline(always)]
    pub(crate) fn seen_from(&self, row: usize) -> Seen<'_> {
        let (axis, rest) = match self.outer().split_last() {
            Some((axis, rest)) => (*axis, rest),
            None => (POINT, self.outer()),
        };
        let (place, row) = match rest {
            [] => (row, 0),
            _ => (row % axis.places.max(1), row / axis.places.max(1)),
        };
        let start = axis.origin + place as isize * axis.place;
        Seen {
            taps: axis.taps_at(place),
            tap: 0,
            start: start * axis.stride,
            step: axis.tap * axis.stride,
            before: None,
            first: 0,
            width: axis.taps,
            rest,
            row,
            others: 0..self.rest_taps,
        }
    }

    /// The pieces of a range of places that lie in one row each: the row, and its places.
    #[inline(always)]
    pub(crate) fn rows_of(
        &self,
        places: &Range<usize>,
    ) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (width, mut count) = (self.last().places.max(1), places.len());
        let (mut row, mut column) = (places.start / width, places.start % width);
        std::iter::from_fn(move || {
            let piece = (row, column..width.min(column + count));
            count -= piece.1.len();
            (row, column) = (row + 1, 0);
            (!piece.1.is_empty()).then_some(piece)
        })
    }

    /// The taps of all axes but the last.
    pub(crate) fn outer_taps(&self) -> usize {
        self.outer_taps
    }

    /// The elements before the row of positions that such a tap sees from a row of places, if it is
    /// inside.
    #[inline(always)]
    pub(crate) fn row_start(&self, row: usize, tap: usize) -> Option<isize> {
        row_start(self.outer(), row, tap)
    }

    /// The runs that make up a range of places, in order.
    #[inline(always)]
    pub(crate) fn runs(&self, tap: usize, places: &Range<usize>) -> Runs<'_> {
        let (outer, last) = match self.axes.split_last() {
            Some((last, outer)) if !places.is_empty() => (outer, *last),
            _ => (self.axes.as_slice(), POINT),
        };
        let start = last.origin + (tap % last.taps.max(1)) as isize * last.tap;
        let (row, column) = (places.start / last.places, places.start % last.places);
        let mut runs = Runs {
            outer,
            inside: last.inside(start),
            last,
            start,
            tap: tap / last.taps.max(1),
            row,
            column,
            at: 0,
            count: places.len(),
            row_start: None,
        };
        runs.enter();
        runs
    }
}

/// An iterator over rows of positions: the taps of the outer axes, and the elements before the row.
#[derive(Debug, Clone)]
pub(crate) struct Seen<'a> {
    /// The taps of the innermost of these axes that are inside, and the next one.
    taps: Range<usize>,
    tap: usize,
    /// Elements before the first of its taps, and from one to the next.
    start: isize,
    step: isize,
    /// Elements before what the present taps of the other axes see.
    before: Option<isize>,
    /// Taps before them.
    first: usize,
    width: usize,
    rest: &'a [Axis],
    row: usize,
    others: Range<usize>,
}

impl Iterator for Seen<'_> {
    type Item = (usize, isize);

    #[inline(always)]
    fn next(&mut self) -> Option<(usize, isize)> {
        loop {
            if let Some(before) = self.before
                && self.tap < self.taps.end
            {
                let tap = self.tap;
                self.tap += 1;
                let start = before + self.start + tap as isize * self.step;
                return Some((self.first + tap, start));
            }
            let other = self.others.next()?;
            self.before = row_start(self.rest, self.row, other);
            (self.first, self.tap) = (other * self.width, self.taps.start);
        }
    }
}

/// The elements before the row of positions of a tap at a row of places, if it is inside.
#[inline(always)]
fn row_start(outer: &[Axis], row: usize, tap: usize) -> Option<isize> {
    match outer {
        [] => Some(0),
        [axis] => Some(axis.position(row, tap)? * axis.stride),
        _ => row_start_of_many(outer, row, tap),
    }
}

/// The same over several axes. It has divisions, and hence no place in every kernel.
#[inline(never)]
fn row_start_of_many(outer: &[Axis], mut row: usize, mut tap: usize) -> Option<isize> {
    let mut start = 0;
    for axis in outer.iter().rev() {
        let (places, taps) = (axis.places.max(1), axis.taps.max(1));
        start += axis.position(row % places, tap % taps)? * axis.stride;
        (row, tap) = (row / places, tap / taps);
    }
    Some(start)
}

/// An iterator over runs. (A closure would not be compiled for the instructions of its caller,
/// unless it is inlined.)
#[derive(Debug)]
pub(crate) struct Runs<'a> {
    outer: &'a [Axis],
    last: Axis,
    /// The position of the last axis' tap at its first place, and the places that are inside.
    start: isize,
    inside: Range<usize>,
    /// The tap of the outer axes.
    tap: usize,
    row: usize,
    column: usize,
    /// Places so far, and in all.
    at: usize,
    count: usize,
    /// Elements before the row of positions; none if it is outside.
    row_start: Option<isize>,
}

impl Runs<'_> {
    /// Finds the row of positions.
    #[inline(always)]
    fn enter(&mut self) {
        self.row_start = row_start(self.outer, self.row, self.tap);
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    #[inline(always)]
    fn next(&mut self) -> Option<Run> {
        if self.at == self.count {
            return None;
        }
        let (at, column) = (self.at, self.column);
        let end = self.last.places.min(column + self.count - at);
        let (stop, from) = match self.row_start {
            Some(_) if column < self.inside.start => (self.inside.start, None),
            Some(row) if column < self.inside.end => {
                let position = self.start + column as isize * self.last.place;
                (self.inside.end, Some(row + position * self.last.stride))
            }
            _ => (end, None),
        };
        let stop = stop.min(end);
        self.at += stop - column;
        self.column = stop;
        if stop == self.last.places {
            (self.row, self.column) = (self.row + 1, 0);
            self.enter();
        }
        Some(Run {
            at,
            len: stop - column,
            from,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All runs are the positions that the definition gives.
    #[test]
    fn runs_visit_what_windows_do() {
        let axis = |places, taps, size, stride, [origin, place, tap]: [isize; 3]| Axis {
            places,
            taps,
            size,
            stride,
            origin,
            place,
            tap,
        };
        for (outer, last) in [
            (axis(3, 2, 4, 10, [-1, 1, 1]), axis(5, 3, 5, 1, [-1, 1, 1])),
            (axis(2, 3, 4, 10, [0, 2, 1]), axis(4, 2, 6, 1, [-3, 2, 3])),
            (axis(4, 1, 3, -7, [2, 1, -1]), axis(9, 4, 3, 2, [1, 1, -2])),
            (axis(1, 1, 1, 0, [0, 1, 0]), axis(3, 1, 2, 1, [-9, 1, 1])),
        ] {
            let windows = Windows::new(vec![outer, last]);
            let position = |axis: Axis, place: usize, tap: usize| {
                let at = axis.origin + place as isize * axis.place + tap as isize * axis.tap;
                (at >= 0 && at < axis.size as isize).then_some(at * axis.stride)
            };
            for tap in 0..windows.taps() {
                for first in 0..windows.places() {
                    let places = first..windows.places();
                    let mut found = Vec::new();
                    for run in windows.runs(tap, &places) {
                        assert_eq!(run.at, found.len());
                        for i in 0..run.len as isize {
                            found.push(run.from.map(|from| from + i * windows.step()));
                        }
                    }
                    let wanted: Vec<Option<isize>> = places
                        .map(|place| {
                            let row = position(outer, place / last.places, tap / last.taps)?;
                            Some(row + position(last, place % last.places, tap % last.taps)?)
                        })
                        .collect();
                    assert_eq!(found, wanted, "tap {tap} from {first} of {windows:?}");
                }
            }
        }
    }
}
