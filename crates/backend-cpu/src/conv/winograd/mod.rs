//! Convolutions with windows of 3 x 3 neighbours, by Winograd's minimal filtering.
//!
//! Images are cut into tiles of 4 x 4 results. At each of 6 x 6 points a tile costs one product of
//! matrices over the channels where it would cost 16 sums of nine products: a quarter of the
//! multiplications. Tiles go through the first levels of the cache block by block, with channels
//! side by side, so that a transformation does not care how large images are.
//!
//! The order of a sum is that of the channels for results, and of the tiles of each of a fixed
//! number of parts for the filter; neither depends on threads or on the width of registers.
//!
//! On random numbers in f32, with 32 and 64 channels, results are off by 6.2e-7 and 8.1e-7 of their
//! norm and at most by 4e-6 and 6e-6 of their size, where plain sums are off by 3.1e-7 and 4.3e-7 of
//! it and at most by 3e-6 and 4e-6. An infinity or NaN reaches all results of a tile that sees it.

mod filter;
mod grid;
mod kernels;
mod lines;
mod output;

use std::marker::PhantomData;
use std::ops::Range;

use super::lower::{Geometry, Wanted};
use crate::Level;
use crate::gemm::{Inner, PackFn, Panel, Product, packer};
use crate::memory::LINE;
use crate::simd::fetch_second;
use grid::{Block, Grid, SIDE, Strip};
use kernels::{Apart, ApartFn, GROUP, Kernels, Row};
use lines::{Line, POINTS};

/// Points of a tile.
const PLANES: usize = POINTS * POINTS;
/// Elements that keep the points of a tile out of each other's way in the cache.
const STAGGER: usize = GROUP;
/// Multiply-adds that cost as much as what is done with one channel of a tile at one point: moving
/// it, transforming it, and storing it.
const TRANSFORM: usize = 10;
/// Multiply-adds that are worth a worker.
const GRAIN: usize = 1 << 17;
/// Percent by which a multiply-add of the plain form costs more than one at a point.
const PLAIN: usize = 125;

/// The images of a tensor, whose columns are neighbours.
#[derive(Debug, Clone, Copy)]
struct Images {
    sizes: [usize; 2],
    /// Where the first tile begins.
    origin: [isize; 2],
    channels: usize,
    /// Elements to the next image, group, channel and row.
    image: isize,
    group: isize,
    channel: isize,
    row: isize,
}

/// What all such convolutions work with.
#[derive(Debug)]
struct Common {
    groups: usize,
    grid: Grid,
    inner: Inner<f32>,
    kernels: Kernels,
    pack: PackFn<f32, f32>,
    threads: usize,
    workers: usize,
}

/// Tiles of a group of channels: rows of so many pixels, and of the tiles that begin every four.
struct Staged<'a, L> {
    rows: *mut f32,
    pixels: usize,
    apart: ApartFn<L>,
    images: &'a Images,
    from: *const f32,
}

/// The points of the tiles of a block.
#[derive(Debug, Clone, Copy)]
struct Points {
    at: *mut f32,
    /// Elements from a tile to the next, and from a point to the next.
    tile: usize,
    point: usize,
}

impl Points {
    /// Room for so many channels of so many tiles.
    fn new(at: *mut f32, channels: usize, tiles: usize) -> Self {
        let tile = channels.next_multiple_of(GROUP);
        Self {
            at,
            tile,
            point: tile * tiles + STAGGER,
        }
    }

    fn elements(channels: usize, tiles: usize) -> usize {
        Self::new(std::ptr::null_mut(), channels, tiles).point * PLANES
    }

    /// A point, from a row and a column of the matrix there on.
    fn matrix(&self, point: usize, [tile, channel]: [usize; 2]) -> *mut f32 {
        self.at
            .wrapping_add(point * self.point + tile * self.tile + channel)
    }
}

/// A convolution of f32 to prepare for a level and at most so many threads, if that pays.
pub(super) fn prepare(
    geometry: &Geometry,
    wanted: Wanted,
    (level, threads): (Level, usize),
) -> Option<Box<dyn Product>> {
    let [from, to] = match wanted {
        Wanted::Output | Wanted::Filter => [geometry.channels, geometry.out],
        Wanted::Input => [geometry.out, geometry.channels],
    };
    let sizes = |of: fn(&super::lower::Sizes) -> usize| {
        let sizes: Vec<usize> = geometry.windows.iter().map(of).collect();
        <[usize; 2]>::try_from(sizes).ok()
    };
    let [positions, places] = [sizes(|axis| axis.positions)?, sizes(|axis| axis.places)?];
    if !geometry.windows.iter().all(super::lower::Sizes::is_triple) {
        return None;
    }
    let pixels = match wanted {
        Wanted::Output | Wanted::Filter => places,
        Wanted::Input => positions,
    };
    let count = geometry.images * pixels[0] * pixels[1];
    let tiles = geometry.images * pixels[0].div_ceil(SIDE) * pixels[1].div_ceil(SIDE);
    let [from_wide, to_wide] = [from, to].map(|channels| channels.next_multiple_of(GROUP));
    let products = tiles.checked_mul(from * to)?;
    let transforms = (tiles * (from_wide + to_wide) + from * to) * TRANSFORM;
    let plain = count.checked_mul(9 * from * to)? / 100 * PLAIN;
    if PLANES * (products + transforms) >= plain {
        return None;
    }
    let common = |grid| Common {
        groups: geometry.groups,
        grid,
        inner: Inner::new(level),
        kernels: Kernels::of(level),
        pack: packer(level),
        threads,
        workers: (PLANES * products / GRAIN).clamp(1, threads.max(1)),
    };
    Some(match wanted {
        Wanted::Filter => filter::prepare(geometry, [places, positions], common),
        _ => output::prepare(geometry, wanted, common),
    })
}

impl Common {
    /// Brings the channels of a block to its points.
    ///
    /// # Safety
    /// The images, the rows (of [`row_elements`]) and the points must be there.
    unsafe fn apart<L: Line>(
        &self,
        staged: &Staged<'_, L>,
        (block, channels): (&Block, usize),
        to: &Points,
    ) {
        let units =
            || groups(0..channels).flat_map(|some| block.strips().map(move |s| (s, some.clone())));
        let mut next = units().skip(1);
        for (strip, channels) in units() {
            if let Some((strip, channels)) = next.next() {
                self.ask::<L>(staged, (block, &strip), channels);
            }
            // SAFETY: handed on.
            unsafe {
                self.gather::<L>(staged, (block, &strip), channels.clone());
                (staged.apart)(&Apart {
                    rows: staged.rows,
                    pixels: staged.pixels,
                    tiles: block.columns.len(),
                    step: SIDE,
                    to: to.matrix(0, [strip.first, channels.start]),
                    tile: to.tile,
                    point: to.point,
                    line: PhantomData,
                });
            }
        }
    }

    /// Has the pixels of a strip fetched, those apart that it shares with the one before it: short
    /// pieces of memory, far apart, which no hardware foresees.
    fn ask<L: Line>(
        &self,
        staged: &Staged<'_, L>,
        (block, strip): (&Block, &Strip),
        channels: Range<usize>,
    ) {
        let images = staged.images;
        let start = |axis: usize, tile: usize| (tile * SIDE) as isize + images.origin[axis];
        let first = start(0, strip.row) + (L::FROM - SIDE) as isize;
        let bytes = staged.pixels * size_of::<f32>();
        for channel in channels {
            for y in first..first + SIDE as isize {
                let at = strip.image as isize * images.image
                    + channel as isize * images.channel
                    + y * images.row
                    + start(1, block.columns.start);
                let from = staged.from.wrapping_offset(at).cast::<u8>();
                for line in (0..bytes).step_by(LINE) {
                    fetch_second(from.wrapping_add(line));
                }
            }
        }
    }

    /// Copies the pixels of a strip, channels side by side, with zeros where there is no image.
    unsafe fn gather<L: Line>(
        &self,
        staged: &Staged<'_, L>,
        (block, strip): (&Block, &Strip),
        channels: Range<usize>,
    ) {
        let (images, pixels) = (staged.images, staged.pixels);
        let start = |axis: usize, tile: usize| (tile * SIDE) as isize + images.origin[axis];
        let clip = |at: isize, axis: usize| at.clamp(0, images.sizes[axis] as isize);
        let left = start(1, block.columns.start);
        let inside = clip(left, 1)..clip(left + pixels as isize, 1);
        let (before, count) = ((inside.start - left) as usize, inside.end - inside.start);
        let from = staged
            .from
            .wrapping_offset(strip.image as isize * images.image)
            .wrapping_offset(channels.start as isize * images.channel + inside.start);
        for i in 0..L::FROM {
            let y = start(0, strip.row) + i as isize;
            let to = staged.rows.wrapping_add(i * pixels * GROUP);
            // SAFETY: rows and columns inside of the image are read, the row is written; all zero
            // bits are a zero.
            unsafe {
                if count <= 0 || clip(y, 0) != y || y == images.sizes[0] as isize {
                    to.write_bytes(0, pixels * GROUP);
                    continue;
                }
                let end = before + count as usize;
                to.write_bytes(0, before * GROUP);
                to.add(end * GROUP).write_bytes(0, (pixels - end) * GROUP);
                (self.pack)(&Panel {
                    from: from.wrapping_offset(y * images.row),
                    across: images.channel,
                    along: 1,
                    lines: channels.len(),
                    depth: count as usize,
                    to: to.add(before * GROUP),
                    pitch: GROUP,
                });
            }
        }
    }
}

/// Elements of the rows of a strip of so many tiles.
fn row_elements(tiles: usize) -> usize {
    POINTS * (tiles * SIDE + 2) * GROUP
}

/// Groups of so many channels.
fn groups(channels: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = channels.end;
    channels
        .step_by(GROUP)
        .map(move |first| first..end.min(first + GROUP))
}
