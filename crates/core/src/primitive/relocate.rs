//! Strided copies.

use std::fmt;

use super::{Check, Source, TensorType, ensure};
use crate::View;

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
/// Boxes do not overlap. Without a fill they cover the output.
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
        ensure(
            self.fill.is_some() || covered == self.output.shape.count(),
            || format!("{covered} elements moved into {}", self.output),
        )
    }
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
