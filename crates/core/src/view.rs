//! Strided views: how the elements of a dense buffer are visited from an index space.

use std::fmt;

use crate::{MAX_RANK, Shape};

/// An affine map from the points of an index space to the elements of a dense buffer:
/// `element = offset + sum over axes of coordinate * stride`.
///
/// One idea serves for broadcasting (stride 0), transposes (permuted strides), slices (offset and
/// larger strides) and reversals (negative strides), so that none of them needs a copy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct View {
    /// The index space from which the buffer is visited.
    pub shape: Shape,
    /// The element visited at coordinate zero.
    pub offset: usize,
    /// Elements to move per step along each axis.
    pub strides: [isize; MAX_RANK],
}

impl View {
    /// The identity: a dense row-major buffer of the shape itself.
    #[must_use]
    pub fn dense(shape: Shape) -> View {
        View {
            shape,
            offset: 0,
            strides: shape.strides(),
        }
    }

    /// Every point visits element 0.
    #[must_use]
    pub fn splat(shape: Shape) -> View {
        View {
            shape,
            offset: 0,
            strides: [0; MAX_RANK],
        }
    }

    /// Whether the view visits a buffer of the space's own shape in order, every element once.
    #[must_use]
    pub fn is_dense(&self) -> bool {
        let dense = self.shape.strides();
        self.offset == 0
            && (0..self.shape.rank())
                .all(|axis| self.shape.size(axis) == 1 || self.strides[axis] == dense[axis])
    }

    /// Whether every point visits the same element.
    #[must_use]
    pub fn is_splat(&self) -> bool {
        (0..self.shape.rank()).all(|axis| self.shape.size(axis) == 1 || self.strides[axis] == 0)
    }

    /// The lowest and the highest element visited; `None` for an empty space or where the numbers
    /// overflow or reach below zero.
    #[must_use]
    pub fn bounds(&self) -> Option<(usize, usize)> {
        let offset = isize::try_from(self.offset).ok()?;
        let (mut low, mut high) = (offset, offset);
        for axis in 0..self.shape.rank() {
            let last = isize::try_from(self.shape.size(axis).checked_sub(1)?).ok()?;
            let reach = last.checked_mul(self.strides[axis])?;
            low = low.checked_add(reach.min(0))?;
            high = high.checked_add(reach.max(0))?;
        }
        Some((usize::try_from(low).ok()?, high as usize))
    }

    /// The element visited at `coordinates`.
    #[must_use]
    pub fn element(&self, coordinates: &[usize]) -> usize {
        let moved: isize = coordinates
            .iter()
            .zip(&self.strides)
            .map(|(&c, &s)| c as isize * s)
            .sum();
        (self.offset as isize + moved) as usize
    }

    /// The view from a broadcast space: axes aligned at the end, new or size-1 axes visit one place.
    #[must_use]
    pub fn broadcast(&self, shape: Shape) -> View {
        let added = shape.rank() - self.shape.rank();
        let mut strides = [0; MAX_RANK];
        for axis in 0..self.shape.rank() {
            if self.shape.size(axis) != 1 {
                strides[axis + added] = self.strides[axis];
            }
        }
        View {
            shape,
            offset: self.offset,
            strides,
        }
    }

    /// The view from a space whose axis `i` is this space's axis `order[i]`.
    #[must_use]
    pub fn permute(&self, order: &[usize]) -> View {
        let mut strides = [0; MAX_RANK];
        for (stride, &axis) in strides.iter_mut().zip(order) {
            *stride = self.strides[axis];
        }
        View {
            shape: order.iter().map(|&axis| self.shape.size(axis)).collect(),
            offset: self.offset,
            strides,
        }
    }

    /// The view of a sub-box: `start[axis] + i * step[axis]` for `i` below `shape`'s sizes.
    #[must_use]
    pub fn slice(&self, start: &[usize], step: &[isize], shape: Shape) -> View {
        let mut strides = [0; MAX_RANK];
        let mut offset = self.offset as isize;
        for axis in 0..shape.rank() {
            // A step that is never gone may be of any length.
            let step = if shape.size(axis) > 1 { step[axis] } else { 1 };
            strides[axis] = self.strides[axis] * step;
            offset += self.strides[axis] * start[axis] as isize;
        }
        View {
            shape,
            offset: offset as usize,
            strides,
        }
    }

    /// The same elements in the same order from a space of another shape with as many points, where
    /// strides alone can say so (`None` where a copy is needed).
    #[must_use]
    pub fn reshape(&self, shape: Shape) -> Option<View> {
        if shape.count() != self.shape.count() {
            return None;
        }
        let (from, to) = (self.shape.sizes(), shape.sizes());
        let mut strides = [0; MAX_RANK];
        let (mut i, mut j) = (0, 0);
        while i < from.len() || j < to.len() {
            // Grow a group of axes on both sides until their products agree.
            let (i0, j0) = (i, j);
            let mut left = from.get(i).copied().unwrap_or(1);
            let mut right = to.get(j).copied().unwrap_or(1);
            i = (i + 1).min(from.len());
            j = (j + 1).min(to.len());
            while left != right {
                if left < right {
                    left *= from.get(i).copied()?;
                    i += 1;
                } else {
                    right *= to.get(j).copied()?;
                    j += 1;
                }
            }
            self.split_group(i0..i, &to[j0..j], &mut strides[j0..j])?;
        }
        Some(View {
            shape,
            offset: self.offset,
            strides,
        })
    }

    /// Strides for the axes `to`, which together replace the axes `from` of this view.
    fn split_group(
        &self,
        from: std::ops::Range<usize>,
        to: &[usize],
        strides: &mut [isize],
    ) -> Option<()> {
        let mut unit: Option<(isize, usize)> = None; // (stride, extent) of the merged axis so far
        for axis in from.rev().filter(|&axis| self.shape.size(axis) != 1) {
            let (size, stride) = (self.shape.size(axis), self.strides[axis]);
            unit = match unit {
                None => Some((stride, size)),
                Some((inner, extent)) if stride == inner * extent as isize => {
                    Some((inner, extent * size))
                }
                Some(_) => return None,
            };
        }
        let mut next = unit.map_or(0, |(stride, _)| stride);
        for (stride, &size) in strides.iter_mut().zip(to).rev() {
            *stride = next;
            next *= size as isize;
        }
        Some(())
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_dense() {
            return write!(f, "{}", self.shape);
        }
        write!(f, "{}", self.shape)?;
        if self.offset != 0 {
            write!(f, "+{}", self.offset)?;
        }
        write!(f, "/{:?}", &self.strides[..self.shape.rank()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(sizes: &[usize]) -> Shape {
        Shape::new(sizes).unwrap()
    }

    /// All elements a view visits, in order.
    fn visits(view: &View) -> Vec<usize> {
        let sizes = view.shape.sizes();
        let mut out = Vec::new();
        let mut at = vec![0; sizes.len()];
        for _ in 0..view.shape.count() {
            out.push(view.element(&at));
            for axis in (0..sizes.len()).rev() {
                at[axis] += 1;
                if at[axis] < sizes[axis] {
                    break;
                }
                at[axis] = 0;
            }
        }
        out
    }

    #[test]
    fn reshape_visits_the_same_elements_or_declines() {
        let x = View::dense(shape(&[2, 3, 4]));
        let cases: [(View, &[usize], bool); 8] = [
            (x, &[6, 4], true),
            (x, &[2, 1, 12], true),
            (x, &[24], true),
            (x.permute(&[1, 0, 2]), &[6, 4], false),
            (x.permute(&[1, 0, 2]), &[3, 2, 2, 2], true),
            (View::splat(shape(&[2, 3])), &[6], true),
            (View::dense(shape(&[1, 1])), &[], true),
            (View::dense(shape(&[0, 3])), &[3, 0], false),
        ];
        for (view, to, possible) in cases {
            match view.reshape(shape(to)) {
                Some(reshaped) => assert_eq!(visits(&reshaped), visits(&view), "{view} to {to:?}"),
                None => assert!(!possible, "{view} to {to:?}"),
            }
        }
    }

    #[test]
    fn bounds_cover_reversed_and_broadcast_views() {
        let x = View::dense(shape(&[3, 4]));
        let reversed = x.slice(&[2, 3], &[-1, -2], shape(&[3, 2]));
        assert_eq!(reversed.bounds(), Some((1, 11)));
        assert_eq!(visits(&reversed), [11, 9, 7, 5, 3, 1]);
        assert_eq!(View::splat(shape(&[5])).bounds(), Some((0, 0)));
        assert_eq!(View::dense(shape(&[0])).bounds(), None);
    }
}
