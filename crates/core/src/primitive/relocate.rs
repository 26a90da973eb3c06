//! Strided copies.

use std::fmt;

use super::{Check, Source, TensorType, ensure};
use crate::{Shape, View};

/// One box of a [`Relocate`]'s output and where its elements come from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Piece {
    /// What is read, viewed from the box.
    pub from: Source,
    /// Where the box lies among the output's elements.
    pub into: View,
}

/// Copies boxes of tensors into boxes of one output: transpose (a permuted view), slice, pad (one
/// piece and a fill), concatenation (several pieces), cast (types differ), change of layout.
///
/// Boxes are cut along the output's axes, in steps of either sign, and do not overlap. Without a
/// fill they cover the output.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Relocate {
    /// The boxes.
    pub pieces: Vec<Piece>,
    /// The value of elements that no piece covers, as the bits of an `f64`.
    pub fill: Option<u64>,
    /// What is written.
    pub output: TensorType,
}

impl Relocate {
    pub(super) fn check(&self) -> Check {
        let mut covered = 0;
        for piece in &self.pieces {
            piece.from.check(piece.into.shape)?;
            let box_count = piece.into.shape.count();
            let inside = match piece.into.bounds() {
                Some((_, high)) => high < self.output.shape.count(),
                None => box_count == 0,
            };
            ensure(inside, || {
                format!("box {} leaves {}", piece.into, self.output)
            })?;
            covered += box_count;
        }
        self.check_disjoint()?;
        ensure(
            self.fill.is_some() || covered == self.output.shape.count(),
            || format!("{covered} elements moved into {}", self.output),
        )
    }

    /// Boxes are cut along the output's axes, and any two are apart along one of them, so that no
    /// element is written twice: a backend may copy boxes and their parts in any order.
    fn check_disjoint(&self) -> Check {
        let mut extents: Vec<Vec<(usize, usize)>> = Vec::with_capacity(self.pieces.len());
        for Piece { into, .. } in self.pieces.iter().filter(|p| p.into.shape.count() > 0) {
            let extent = extent(into, self.output.shape)
                .ok_or_else(|| format!("{into} is no box of {}", self.output))?;
            let apart = |other: &Vec<(usize, usize)>| {
                let mut axes = extent.iter().zip(other);
                axes.any(|(a, b)| a.1 < b.0 || b.1 < a.0)
            };
            ensure(extents.iter().all(apart), || {
                format!("boxes overlap at {into}")
            })?;
            extents.push(extent);
        }
        Ok(())
    }
}

/// The first and the last coordinate of a box along each axis of `output`; `None` if the view is no
/// box of it.
fn extent(into: &View, output: Shape) -> Option<Vec<(usize, usize)>> {
    let mut rest = into.offset as isize;
    let dense = output.strides();
    let along = |axis: usize| {
        let (size, stride) = (into.shape.size(axis), into.strides[axis]);
        let start = rest / dense[axis];
        rest %= dense[axis];
        let step = if size == 1 { 0 } else { stride / dense[axis] };
        let end = start + step * (size as isize - 1);
        let (low, high) = (start.min(end), start.max(end));
        let fits = size == 1 || (step != 0 && stride % dense[axis] == 0);
        let inside = low >= 0 && high < output.size(axis) as isize;
        (fits && inside).then_some((low as usize, high as usize))
    };
    let same_rank = into.shape.rank() == output.rank();
    same_rank.then(|| (0..output.rank()).map(along).collect())?
}

impl fmt::Display for Relocate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, piece) in self.pieces.iter().enumerate() {
            let separator = if i > 0 { ", " } else { "" };
            write!(f, "{separator}{}", piece.from)?;
        }
        if let Some(fill) = self.fill {
            write!(f, " and {}", f64::from_bits(fill))?;
        }
        write!(f, " into {}", self.output)
    }
}
