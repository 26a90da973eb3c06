//! Tiles to points and back, for [`GROUP`] channels side by side, and channels that lie apart to
//! channels side by side and back.

use std::marker::PhantomData;

use super::lines::{Cotangents, Line, POINTS, Seen, Sums, TapSums, Taps};
use crate::Level;
use crate::gemm::block;
use crate::simd::{Simd, Vector, by_level};

/// Channels that are transformed together: a cache line, and a multiple of any register.
pub(super) const GROUP: usize = 16;

/// Tiles to transform: rows of pixels, each of a group of channels.
#[derive(Debug)]
pub(super) struct Apart<L> {
    /// Rows of so many pixels, of which those of the tiles are overwritten: there is room for
    /// [`POINTS`].
    pub(super) rows: *mut f32,
    pub(super) pixels: usize,
    pub(super) tiles: usize,
    /// Pixels from a tile to the next.
    pub(super) step: usize,
    /// The first tile at the first point.
    pub(super) to: *mut f32,
    /// Elements from a tile to the next, and from a point to the next.
    pub(super) tile: usize,
    pub(super) point: usize,
    pub(super) line: PhantomData<L>,
}

/// Products to transform back.
#[derive(Debug)]
pub(super) struct Together<L> {
    pub(super) from: *const f32,
    pub(super) tile: usize,
    pub(super) point: usize,
    pub(super) tiles: usize,
    /// Rows of so many pixels, each of a group of channels.
    pub(super) rows: *mut f32,
    pub(super) pixels: usize,
    pub(super) line: PhantomData<L>,
}

/// A row of pixels whose channels are to be put apart.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) from: *const f32,
    pub(super) pixels: usize,
    /// At most a group.
    pub(super) channels: usize,
    pub(super) to: *mut f32,
    /// Elements from a channel to the next.
    pub(super) channel: usize,
}

pub(super) type ApartFn<L> = unsafe fn(&Apart<L>);
pub(super) type TogetherFn<L> = unsafe fn(&Together<L>);

/// The kernels of a level.
#[derive(Debug)]
pub(super) struct Kernels {
    pub(super) seen: ApartFn<Seen>,
    pub(super) taps: ApartFn<Taps>,
    pub(super) cotangents: ApartFn<Cotangents>,
    pub(super) sums: TogetherFn<Sums>,
    pub(super) tap_sums: TogetherFn<TapSums>,
    pub(super) put: unsafe fn(&Row),
}

impl Kernels {
    pub(super) fn of(level: Level) -> Self {
        Self {
            seen: apart(level),
            taps: apart(level),
            cotangents: apart(level),
            sums: together(level),
            tap_sums: together(level),
            put: put(level),
        }
    }
}

by_level! { fn apart[L: Line][L](tiles: &Apart<L>) = apart_at; }
by_level! { fn together[L: Line][L](tiles: &Together<L>) = together_at; }
by_level! { fn put(row: &Row) = put_at; }

/// Applies a transformation to elements `step` apart.
#[inline(always)]
unsafe fn line<S: Simd, L: Line>(from: *const f32, step: usize) -> [S::F32; POINTS] {
    // SAFETY: the caller vouches for the elements that count.
    unsafe {
        let mut x = [S::F32::splat(0.0); POINTS];
        for (i, x) in x.iter_mut().enumerate().take(L::FROM) {
            *x = S::F32::load(from.add(i * step));
        }
        L::of(x)
    }
}

/// First down the columns of pixels, in place, then along the rows of each tile.
#[inline(always)]
unsafe fn apart_at<S: Simd, L: Line>(tiles: &Apart<L>) {
    let row = tiles.pixels * GROUP;
    // SAFETY: the caller vouches for all rows and for what is written.
    unsafe {
        for at in (0..row).step_by(S::F32::LANES) {
            let column = tiles.rows.wrapping_add(at);
            for (i, x) in line::<S, L>(column, row).into_iter().enumerate() {
                x.store(column.add(i * row));
            }
        }
        for tile in 0..tiles.tiles {
            for lane in (0..GROUP).step_by(S::F32::LANES) {
                let from = tiles.rows.wrapping_add(tile * tiles.step * GROUP + lane);
                let to = tiles.to.wrapping_add(tile * tiles.tile + lane);
                for i in 0..POINTS {
                    let points = line::<S, L>(from.add(i * row), GROUP);
                    for (j, x) in points.into_iter().enumerate() {
                        x.store(to.add((i * POINTS + j) * tiles.point));
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn together_at<S: Simd, L: Line>(tiles: &Together<L>) {
    for tile in 0..tiles.tiles {
        for lane in (0..GROUP).step_by(S::F32::LANES) {
            let from = tiles.from.wrapping_add(tile * tiles.tile + lane);
            let to = tiles.rows.wrapping_add(tile * L::TO * GROUP + lane);
            // SAFETY: the caller vouches for the products and the rows.
            unsafe {
                let mut columns = [[S::F32::splat(0.0); POINTS]; POINTS];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = line::<S, L>(from.add(j * tiles.point), POINTS * tiles.point);
                }
                for i in 0..L::TO {
                    let row = L::of(columns.map(|column| column[i]));
                    for (j, x) in row.into_iter().enumerate().take(L::TO) {
                        x.store(to.add((i * tiles.pixels + j) * GROUP));
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn put_at<S: Simd>(row: &Row) {
    let lanes = S::F32::LANES;
    for channel in (0..row.channels).step_by(lanes) {
        let depth = (row.channels - channel).min(lanes);
        for pixel in (0..row.pixels).step_by(lanes) {
            let have = (row.pixels - pixel).min(lanes);
            let from = row.from.wrapping_add(pixel * GROUP + channel);
            let to = row.to.wrapping_add(channel * row.channel + pixel);
            let keep = |j: usize, x: S::F32| {
                let to = to.wrapping_add(j * row.channel);
                // SAFETY: the caller vouches for the pixels of these channels.
                unsafe {
                    if have == lanes {
                        x.store(to);
                    } else {
                        x.store_first(to, have);
                    }
                }
            };
            // SAFETY: so many pixels of so many channels are there.
            unsafe { block::<S, f32, f32>(from, GROUP as isize, (have, depth), keep) };
        }
    }
}
