//! How images are cut into tiles, and tiles into blocks that stay in cache.

use std::ops::Range;

use crate::pool::share;

/// Pixels on a side of a tile of results.
pub(super) const SIDE: usize = 4;
/// Tiles of a block.
const MOST: usize = 48;
/// The number of blocks is a multiple of this where images can be put together freely, so that few
/// workers get equal shares.
const EVEN: usize = 4;

/// The tiles of all images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    images: usize,
    /// Rows and columns of pixels, of tiles, and of blocks of an image.
    pub(super) pixels: [usize; 2],
    pub(super) tiles: [usize; 2],
    blocks: [usize; 2],
    /// Runs of images whose tiles are put together.
    runs: usize,
}

/// Some images, and some rows and columns of their tiles.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) images: Range<usize>,
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

/// A row of a block.
#[derive(Debug)]
pub(super) struct Strip {
    pub(super) image: usize,
    pub(super) row: usize,
    /// Its first tile's number in the block.
    pub(super) first: usize,
}

impl Grid {
    /// Blocks of so many tiles, about.
    pub(super) fn new(images: usize, pixels: [usize; 2], wanted: usize) -> Self {
        let tiles = pixels.map(|size| size.div_ceil(SIDE));
        let wanted = wanted.min(MOST);
        let columns = tiles[1].div_ceil(wanted);
        let width = tiles[1].div_ceil(columns);
        let rows = tiles[0].div_ceil((wanted / width).max(1));
        let runs = if rows * columns == 1 {
            let together = (wanted / (tiles[0] * tiles[1])).max(1);
            let runs = images.div_ceil(together).next_multiple_of(EVEN);
            runs.min(images)
        } else {
            images
        };
        Self {
            images,
            pixels,
            tiles,
            blocks: [rows, columns],
            runs,
        }
    }

    pub(super) fn blocks(&self) -> usize {
        self.runs * self.blocks[0] * self.blocks[1]
    }

    pub(super) fn block(&self, index: usize) -> Block {
        let [rows, columns] = self.blocks;
        Block {
            images: share(self.images, index / (rows * columns), self.runs),
            rows: share(self.tiles[0], index / columns % rows, rows),
            columns: share(self.tiles[1], index % columns, columns),
        }
    }

    /// The most tiles of a block, in all and in a row, and the most images.
    pub(super) fn most(&self) -> [usize; 3] {
        let images = self.images.div_ceil(self.runs.max(1));
        let rows = self.tiles[0].div_ceil(self.blocks[0]);
        let columns = self.tiles[1].div_ceil(self.blocks[1]);
        [images * rows * columns, columns, images]
    }

    /// The pixels of some tiles along an axis.
    pub(super) fn pixels(&self, axis: usize, tiles: &Range<usize>) -> Range<usize> {
        tiles.start * SIDE..(tiles.end * SIDE).min(self.pixels[axis])
    }
}

impl Block {
    pub(super) fn tiles(&self) -> usize {
        self.images.len() * self.rows.len() * self.columns.len()
    }

    pub(super) fn strips(&self) -> impl Iterator<Item = Strip> {
        let (images, rows, width) = (self.images.clone(), self.rows.clone(), self.columns.len());
        (0..images.len() * rows.len()).map(move |i| Strip {
            image: images.start + i / rows.len(),
            row: rows.start + i % rows.len(),
            first: i * width,
        })
    }
}
