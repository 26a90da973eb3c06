//! Shapes and sets of axes.

use std::fmt;

/// The largest number of axes a tensor may have.
pub const MAX_RANK: usize = 8;

/// The sizes of a tensor's axes, slowest first. `[]` is a single number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    rank: u8,
    sizes: [usize; MAX_RANK],
}

impl Shape {
    /// The shape of a single number.
    pub const SCALAR: Shape = Shape {
        rank: 0,
        sizes: [0; MAX_RANK],
    };

    /// A shape of these sizes, or `None` beyond [`MAX_RANK`] axes.
    #[must_use]
    pub fn new(sizes: &[usize]) -> Option<Shape> {
        let mut shape = Shape::SCALAR;
        shape.sizes.get_mut(..sizes.len())?.copy_from_slice(sizes);
        shape.rank = sizes.len() as u8;
        Some(shape)
    }

    /// The number of axes.
    #[must_use]
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }

    /// The sizes of the axes.
    #[must_use]
    pub fn sizes(&self) -> &[usize] {
        &self.sizes[..self.rank()]
    }

    /// The size of one axis; 1 for an axis that the shape does not have.
    #[must_use]
    pub fn size(&self, axis: usize) -> usize {
        self.sizes().get(axis).copied().unwrap_or(1)
    }

    /// The number of elements; `None` where it does not fit an `isize`, or would not but for an
    /// empty axis: strides have to fit too.
    #[must_use]
    pub fn checked_count(&self) -> Option<usize> {
        let sizes = self.sizes();
        let product = sizes
            .iter()
            .try_fold(1usize, |n, &size| n.checked_mul(size.max(1)))
            .filter(|&n| n <= isize::MAX as usize)?;
        Some(if sizes.contains(&0) { 0 } else { product })
    }

    /// The number of elements. Shapes that reach a graph or a plan have been checked to have a
    /// count; for others this saturates.
    #[must_use]
    pub fn count(&self) -> usize {
        self.checked_count().unwrap_or(usize::MAX)
    }

    /// The strides of a dense row-major tensor of this shape, in elements.
    #[must_use]
    pub fn strides(&self) -> [isize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut next = 1isize;
        for axis in (0..self.rank()).rev() {
            strides[axis] = next;
            next = next.saturating_mul(self.sizes[axis].max(1) as isize);
        }
        strides
    }

    /// This shape with one axis resized.
    #[must_use]
    pub fn with(&self, axis: usize, size: usize) -> Shape {
        let mut shape = *self;
        if axis < self.rank() {
            shape.sizes[axis] = size;
        }
        shape
    }

    /// The sizes of the axes for which `keep` holds.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(usize) -> bool) -> Shape {
        let mut kept = Shape::SCALAR;
        for axis in (0..self.rank()).filter(|&axis| keep(axis)) {
            kept.sizes[kept.rank()] = self.sizes[axis];
            kept.rank += 1;
        }
        kept
    }

    /// The shape without the axes in `axes`.
    #[must_use]
    pub fn without(&self, axes: Axes) -> Shape {
        self.filter(|axis| !axes.contains(axis))
    }

    /// The shape in which both fit by the broadcasting rule (axes aligned at the end, sizes equal
    /// or 1), or `None` where they do not fit.
    #[must_use]
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let size = |shape: &Shape, axis: usize| {
            (axis + shape.rank())
                .checked_sub(rank)
                .map_or(1, |axis| shape.sizes[axis])
        };
        let mut sizes = [0; MAX_RANK];
        for (axis, out) in sizes[..rank].iter_mut().enumerate() {
            *out = match (size(self, axis), size(other, axis)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            };
        }
        Shape::new(&sizes[..rank])
    }
}

impl AsRef<[usize]> for Shape {
    fn as_ref(&self) -> &[usize] {
        self.sizes()
    }
}

impl FromIterator<usize> for Shape {
    /// Collects sizes; those beyond [`MAX_RANK`] axes are dropped, so the caller checks the rank.
    fn from_iter<I: IntoIterator<Item = usize>>(sizes: I) -> Shape {
        let mut shape = Shape::SCALAR;
        for (slot, size) in shape.sizes.iter_mut().zip(sizes) {
            *slot = size;
            shape.rank += 1;
        }
        shape
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.sizes())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A set of axes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Axes(u8);

impl Axes {
    /// No axis.
    pub const NONE: Axes = Axes(0);

    /// The first `rank` axes.
    #[must_use]
    pub fn all(rank: usize) -> Axes {
        (0..rank).collect()
    }

    /// Whether `axis` is in the set.
    #[must_use]
    pub fn contains(self, axis: usize) -> bool {
        axis < MAX_RANK && self.0 & (1 << axis) != 0
    }

    /// The set with `axis` in it.
    #[must_use]
    pub fn with(self, axis: usize) -> Axes {
        Axes(self.0 | 1u8.checked_shl(axis as u32).unwrap_or(0))
    }

    /// The number of axes in the set.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The axes, ascending.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = usize> {
        (0..MAX_RANK).filter(move |&axis| self.contains(axis))
    }

    /// Whether the set is the last axes of a tensor of `rank` axes.
    #[must_use]
    pub fn is_trailing(self, rank: usize) -> bool {
        self.len() <= rank && self.iter().eq(rank - self.len()..rank)
    }
}

impl FromIterator<usize> for Axes {
    fn from_iter<I: IntoIterator<Item = usize>>(axes: I) -> Axes {
        axes.into_iter().fold(Axes::NONE, Axes::with)
    }
}

impl fmt::Display for Axes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Axes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
