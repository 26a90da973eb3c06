//! The patches of a tensor that windows visit, as a matrix that is never written: its rows are
//! channels and taps, its columns places.

use std::ops::Range;

use crate::Level;
use crate::gemm::{Gather, Gathered, Number, PackFn, Panel, Source, packer};
use crate::simd::{Simd, Vector, by_level};
use crate::windows::Windows;

/// The patches of the channels of one tensor.
#[derive(Debug, Clone)]
pub(super) struct Patches {
    pub(super) windows: Windows,
    /// Elements from a channel to the next, and from an image to the next.
    pub(super) channel: isize,
    pub(super) image: isize,
}

impl Patches {
    /// Calls `each` once for each tap among some rows of the matrix: with the tap, the first of its
    /// channels, how many there are, and how many rows the first one comes after.
    fn taps_of(&self, rows: &Range<usize>, mut each: impl FnMut(usize, usize, usize, usize)) {
        let taps = self.windows.taps();
        for row in rows.start..rows.end.min(rows.start + taps) {
            let channels = (rows.end - row).div_ceil(taps);
            each(row % taps, row / taps, channels, row - rows.start);
        }
    }
}

/// Some places of one tap, for some channels.
#[derive(Debug)]
pub(super) struct Rows<'a, E, T> {
    patches: &'a Patches,
    tap: usize,
    places: Range<usize>,
    /// The first channel.
    from: *const E,
    channels: usize,
    to: *mut T,
    /// Elements from a channel to the next at `to`.
    pitch: usize,
}

type Copy<E, T> = unsafe fn(&Rows<'_, E, T>);

by_level! {
    /// Writes rows side by side, zeros where a tap is outside.
    fn copier[T: Number, E: Source<T>][T, E](rows: &Rows<'_, E, T>) = copy_at;
}

#[inline(always)]
unsafe fn copy_at<S: Simd, T: Number, E: Source<T>>(rows: &Rows<'_, E, T>) {
    let (patches, step) = (rows.patches, rows.patches.windows.step());
    for run in patches.windows.runs(rows.tap, &rows.places) {
        for channel in 0..rows.channels {
            let to = rows.to.wrapping_add(channel * rows.pitch + run.at);
            // SAFETY: the caller promises room for all places, and runs visit existing positions.
            unsafe {
                let Some(start) = run.from else {
                    zeros::<S, T>(to, run.len);
                    continue;
                };
                let start = start + channel as isize * patches.channel;
                let from = rows.from.wrapping_offset(start);
                if step == 1 {
                    neighbours::<S, T, E>(to, from, run.len);
                } else {
                    for i in 0..run.len {
                        let x = from.offset(i as isize * step).read().widen();
                        to.add(i).write(x);
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn zeros<S: Simd, T: Number>(to: *mut T, count: usize) {
    let lanes = T::In::<S>::LANES;
    let whole = count / lanes * lanes;
    // SAFETY: the caller promises room for `count` elements.
    unsafe {
        let zero = T::In::<S>::splat(T::default());
        for i in (0..whole).step_by(lanes) {
            zero.store(to.add(i));
        }
        if whole < count {
            zero.store_first(to.add(whole), count - whole);
        }
    }
}

#[inline(always)]
unsafe fn neighbours<S: Simd, T: Number, E: Source<T>>(to: *mut T, from: *const E, count: usize) {
    let lanes = T::In::<S>::LANES;
    let whole = count / lanes * lanes;
    // SAFETY: the caller promises `count` elements on both sides.
    unsafe {
        for i in (0..whole).step_by(lanes) {
            E::load::<S>(from.add(i)).store(to.add(i));
        }
        if whole < count {
            let rest = count - whole;
            E::load_first::<S>(from.add(whole), rest).store_first(to.add(whole), rest);
        }
    }
}

/// Patches whose places are the product's columns. K goes over channels and their taps.
#[derive(Debug)]
pub(super) struct Columns<E, T> {
    patches: Patches,
    copy: Copy<E, T>,
}

impl<T: Number, E: Source<T>> Columns<E, T> {
    pub(super) fn new(patches: Patches, level: Level) -> Self {
        Self {
            patches,
            copy: copier(level),
        }
    }
}

impl<T: Number, E: Source<T>> Gather<E, T> for Columns<E, T> {
    unsafe fn pack(&self, panel: Gathered<E, T>) {
        let (patches, pitch) = (&self.patches, panel.pitch);
        let taps = patches.windows.taps();
        patches.taps_of(&panel.k, |tap, channel, channels, row| {
            let rows = Rows {
                patches,
                tap,
                places: panel.lines.clone(),
                from: panel
                    .from
                    .wrapping_offset(channel as isize * patches.channel),
                channels,
                to: panel.to.wrapping_add(row * pitch),
                pitch: taps * pitch,
            };
            // SAFETY: the caller vouches for the tensor and the panel, whose rows these are.
            unsafe { (self.copy)(&rows) };
        });
    }
}

/// Patches whose channels and taps are the product's columns. K goes over images and their places.
#[derive(Debug)]
pub(super) struct Transposed<E, T> {
    patches: Patches,
    copy: Copy<E, T>,
    turn: PackFn<T, T>,
}

impl<T: Number + Source<T>, E: Source<T>> Transposed<E, T> {
    pub(super) fn new(patches: Patches, level: Level) -> Self {
        Self {
            patches,
            copy: copier(level),
            turn: packer(level),
        }
    }
}

impl<T: Number + Source<T>, E: Source<T>> Gather<E, T> for Transposed<E, T> {
    unsafe fn pack(&self, panel: Gathered<E, T>) {
        let (patches, depth) = (&self.patches, panel.k.len());
        let (taps, places) = (patches.windows.taps(), patches.windows.places());
        let mut k = panel.k.start;
        while k < panel.k.end {
            let first = k % places;
            let count = (places - first).min(panel.k.end - k);
            let image = panel
                .from
                .wrapping_offset((k / places) as isize * patches.image);
            patches.taps_of(&panel.lines, |tap, channel, channels, line| {
                let rows = Rows {
                    patches,
                    tap,
                    places: first..first + count,
                    from: image.wrapping_offset(channel as isize * patches.channel),
                    channels,
                    to: panel.spare.wrapping_add(line * depth + k - panel.k.start),
                    pitch: taps * depth,
                };
                // SAFETY: the caller vouches for the tensor, and the spare panel has room for so
                // many lines.
                unsafe { (self.copy)(&rows) };
            });
            k += count;
        }
        let lines = Panel {
            from: panel.spare.cast_const(),
            across: depth as isize,
            along: 1,
            lines: panel.lines.len(),
            depth,
            to: panel.to,
            pitch: panel.pitch,
        };
        // SAFETY: the lines have just been written; the panel is the caller's.
        unsafe { (self.turn)(&lines) };
    }
}
