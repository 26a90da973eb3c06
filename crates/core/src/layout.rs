//! The physical order of a tensor's elements.

use std::fmt;

use crate::Shape;

/// How the elements of a tensor lie in memory: axes from slowest to fastest, some of them cut into
/// tiles. Plain data, so that everybody can pack and unpack it; [`Layout::default`] is dense
/// row-major.
///
/// A tile `(axis, size)` cuts the axis into `ceil(n / size)` pieces; inside a piece the tile's
/// coordinate is the fastest (several tiles: in the order given, the last one fastest). The last
/// piece is padded with zeros.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Layout {
    /// The axes from slowest to fastest; empty for the natural order.
    pub order: Vec<u8>,
    /// `(axis, size)`: axes cut into tiles, the last one fastest.
    pub tiles: Vec<(u8, u32)>,
}

impl Layout {
    /// Whether this is the dense row-major order.
    #[must_use]
    pub fn is_dense(&self) -> bool {
        self.tiles.is_empty()
            && self
                .order
                .iter()
                .enumerate()
                .all(|(i, &axis)| i == axis as usize)
    }

    fn tile(&self, axis: usize) -> usize {
        let tile = self.tiles.iter().find(|&&(a, _)| usize::from(a) == axis);
        tile.map_or(1, |&(_, size)| (size as usize).max(1))
    }

    fn order(&self, rank: usize) -> Vec<usize> {
        if self.order.is_empty() {
            (0..rank).collect()
        } else {
            self.order.iter().map(|&axis| usize::from(axis)).collect()
        }
    }

    /// The number of elements a tensor of `shape` occupies, padding included.
    #[must_use]
    pub fn count(&self, shape: &Shape) -> usize {
        (0..shape.rank())
            .map(|axis| shape.size(axis).next_multiple_of(self.tile(axis)))
            .fold(1, usize::saturating_mul)
    }

    /// The position of the element at `coordinates`.
    #[must_use]
    pub fn position(&self, shape: &Shape, coordinates: &[usize]) -> usize {
        let mut position = 0;
        for axis in self.order(shape.rank()) {
            let pieces = shape.size(axis).div_ceil(self.tile(axis));
            position = position * pieces + coordinates[axis] / self.tile(axis);
        }
        for &(axis, size) in &self.tiles {
            let size = (size as usize).max(1);
            position = position * size + coordinates[usize::from(axis)] % size;
        }
        position
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_dense() {
            return f.write_str("dense");
        }
        write!(f, "order{:?}", self.order)?;
        for (axis, size) in &self.tiles {
            write!(f, " axis{axis}x{size}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_distinct_and_in_range() {
        let shape = Shape::new(&[3, 5]).unwrap();
        let layouts = [
            Layout::default(),
            Layout {
                order: vec![1, 0],
                tiles: vec![],
            },
            Layout {
                order: vec![],
                tiles: vec![(1, 4)],
            },
            Layout {
                order: vec![1, 0],
                tiles: vec![(0, 2), (1, 4)],
            },
        ];
        for layout in layouts {
            let mut seen = vec![false; layout.count(&shape)];
            for i in 0..3 {
                for j in 0..5 {
                    let position = layout.position(&shape, &[i, j]);
                    assert!(!seen[position], "{layout}: {position} taken twice");
                    seen[position] = true;
                }
            }
        }
        assert_eq!(Layout::default().position(&shape, &[2, 3]), 13);
        let panels = Layout {
            order: vec![1, 0],
            tiles: vec![(1, 4)],
        };
        assert_eq!(panels.position(&shape, &[1, 4]), 16, "second panel, row 1");
    }
}
