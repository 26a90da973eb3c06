//! Walking a view in the row-major order of its space.
//!
//! Tiles are ranges of that order, whatever the shape of the space: a view is
//! reduced to as few axes as say the same, and a range of points then is a few
//! runs of elements a fixed stride apart.

use std::ops::Range;

use backprop_core::{MAX_RANK, View};

/// A view with its axes merged where that changes nothing.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    /// Sizes and strides, slowest first; empty where one element is visited.
    axes: Vec<(usize, isize)>,
    offset: usize,
}

/// Elements `stride` apart that are visited one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first element.
    pub(crate) start: usize,
    pub(crate) stride: isize,
    pub(crate) len: usize,
}

impl Walk {
    pub(crate) fn new(view: &View) -> Walk {
        let mut axes: Vec<(usize, isize)> = Vec::new();
        for axis in 0..view.shape.rank() {
            let (size, stride) = (view.shape.size(axis), view.strides[axis]);
            if size == 1 {
                continue;
            }
            match axes.last_mut() {
                Some(outer) if outer.1 == stride * size as isize => {
                    *outer = (outer.0 * size, stride)
                }
                _ => axes.push((size, stride)),
            }
        }
        if axes.iter().all(|&(_, stride)| stride == 0) {
            axes.clear();
        }
        Walk {
            axes,
            offset: view.offset,
        }
    }

    /// The only element visited, where there is only one.
    pub(crate) fn single(&self) -> Option<usize> {
        self.axes.is_empty().then_some(self.offset)
    }

    /// The first element, where points visit consecutive ones.
    pub(crate) fn consecutive(&self) -> Option<usize> {
        matches!(self.axes[..], [(_, 1)]).then_some(self.offset)
    }

    /// The first element, where points visit the same ones over and over: with how many there are, and
    /// the stride between them.
    pub(crate) fn cycle(&self) -> Option<(usize, usize, isize)> {
        match self.axes[..] {
            [(_, 0), (size, stride)] => Some((self.offset, size, stride)),
            _ => None,
        }
    }

    /// Whether the same element is visited all along each row of so many points.
    pub(crate) fn is_constant_along(&self, row: usize) -> bool {
        matches!(self.axes.last(), Some(&(size, 0)) if size.is_multiple_of(row))
    }

    /// Cuts the points in `range` into runs, in order.
    #[inline]
    pub(crate) fn runs(&self, range: Range<usize>, mut each: impl FnMut(Run)) {
        let Some((&(width, stride), outer)) = self.axes.split_last() else {
            return each(Run {
                start: self.offset,
                stride: 0,
                len: range.len(),
            });
        };
        let mut at = [0; MAX_RANK];
        let mut column = range.start;
        if !outer.is_empty() {
            column = range.start % width;
            let mut rest = range.start / width;
            for (at, &(size, _)) in at.iter_mut().zip(outer).rev() {
                (*at, rest) = (rest % size, rest / size);
            }
        }
        let moved = |at: &[usize]| -> isize {
            at.iter()
                .zip(outer)
                .map(|(&c, &(_, s))| c as isize * s)
                .sum()
        };
        let mut left = range.len();
        while left > 0 {
            let len = left.min(width - column);
            let start = self.offset as isize + moved(&at) + column as isize * stride;
            each(Run {
                start: start as usize,
                stride,
                len,
            });
            (left, column) = (left - len, 0);
            for axis in (0..outer.len()).rev() {
                at[axis] += 1;
                if at[axis] < outer[axis].0 {
                    break;
                }
                at[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use backprop_core::{Shape, View};

    use super::Walk;

    /// Every range of the view, against the view itself.
    #[track_caller]
    fn check(view: View, merged: usize) {
        let sizes = view.shape.sizes();
        let count = view.shape.count();
        let point = |p: usize| {
            let mut at = vec![0; sizes.len()];
            let mut rest = p;
            for axis in (0..sizes.len()).rev() {
                (at[axis], rest) = (rest % sizes[axis], rest / sizes[axis]);
            }
            view.element(&at)
        };
        let walk = Walk::new(&view);
        assert_eq!(walk.axes.len(), merged, "{view}");
        for start in 0..count {
            for end in start..=count {
                let mut visited = Vec::new();
                walk.runs(start..end, |run| {
                    visited.extend(
                        (0..run.len)
                            .map(|i| (run.start as isize + i as isize * run.stride) as usize),
                    );
                });
                let expected: Vec<usize> = (start..end).map(point).collect();
                assert_eq!(visited, expected, "{view} from {start} to {end}");
            }
        }
    }

    #[test]
    fn ranges_visit_what_the_view_visits() {
        let dense = View::dense(Shape::new(&[2, 3, 4]).unwrap());
        let row = View::dense(Shape::new(&[4]).unwrap());
        check(dense, 1);
        check(dense.permute(&[2, 0, 1]), 2);
        check(dense.permute(&[2, 1, 0]), 3);
        check(row.broadcast(Shape::new(&[2, 3, 4]).unwrap()), 2);
        check(View::splat(Shape::new(&[3, 2]).unwrap()), 0);
        check(
            dense.slice(&[1, 2, 3], &[-1, -1, -2], Shape::new(&[2, 3, 2]).unwrap()),
            1,
        );
        check(View::dense(Shape::new(&[1, 1]).unwrap()), 0);
    }
}
