//! The patches of a tensor that windows visit, as a matrix that is never written: its rows are
//! channels and taps, its columns places.

use std::ops::Range;

use crate::Level;
use crate::gemm::{Gather, Gathered, Number, PackFn, Panel, Source, packer};
use crate::simd::{Simd, Vector, by_level};

/// Where windows go along a spatial axis: tap `t` at place `q` visits position
/// `origin + q * place + t * tap`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub(super) places: usize,
    pub(super) taps: usize,
    /// Positions, and elements from one to the next.
    pub(super) size: usize,
    pub(super) stride: isize,
    pub(super) origin: isize,
    /// At least 1.
    pub(super) place: isize,
    pub(super) tap: isize,
}

/// An axis of one position, visited once.
const POINT: Axis = Axis {
    places: 1,
    taps: 1,
    size: 1,
    stride: 0,
    origin: 0,
    place: 1,
    tap: 0,
};

impl Axis {
    /// The places from which the tap that starts at position `start` is inside.
    #[inline(always)]
    fn inside(&self, start: isize) -> Range<usize> {
        let ceil = |positions: isize| (positions.max(0) as usize).div_ceil(self.place as usize);
        let first = ceil(-start).min(self.places);
        let end = ceil((self.size as isize).saturating_sub(start)).min(self.places);
        first..end.max(first)
    }
}

/// The patches of the channels of one tensor.
#[derive(Debug, Clone)]
pub(super) struct Patches {
    /// Slowest first; at least one.
    axes: Vec<Axis>,
    /// Elements from a channel to the next, and from an image to the next.
    pub(super) channel: isize,
    pub(super) image: isize,
}

/// Successive places along the last axis of which all visit positions, or none does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Run {
    /// Places before it.
    pub(super) at: usize,
    pub(super) len: usize,
    /// Elements before the first position; none where the tap is outside.
    pub(super) from: Option<isize>,
}

impl Patches {
    pub(super) fn new(mut axes: Vec<Axis>, channel: isize, image: isize) -> Self {
        if axes.is_empty() {
            axes.push(POINT);
        }
        Self {
            axes,
            channel,
            image,
        }
    }

    pub(super) fn taps(&self) -> usize {
        self.axes.iter().map(|axis| axis.taps).product()
    }

    pub(super) fn places(&self) -> usize {
        self.axes.iter().map(|axis| axis.places).product()
    }

    /// Elements from a position to that of the next place, within a run.
    #[inline(always)]
    pub(super) fn step(&self) -> isize {
        self.axes.last().map_or(0, |axis| axis.place * axis.stride)
    }

    /// Where there is one tap, always inside: the elements before the first position, and the
    /// sizes and strides of the places.
    pub(super) fn as_strided(&self) -> Option<(isize, Vec<(usize, isize)>)> {
        let single = |axis: &Axis| axis.taps == 1 && axis.inside(axis.origin) == (0..axis.places);
        let offset = self.axes.iter().map(|axis| axis.origin * axis.stride).sum();
        let places = self
            .axes
            .iter()
            .map(|axis| (axis.places, axis.place * axis.stride));
        self.axes
            .iter()
            .all(single)
            .then(|| (offset, places.collect()))
    }

    /// Calls `each` with the runs that make up a range of places, in order.
    #[inline(always)]
    pub(super) fn runs(&self, tap: usize, places: &Range<usize>, mut each: impl FnMut(Run)) {
        let Some((last, outer)) = self.axes.split_last() else {
            return;
        };
        let start = last.origin + (tap % last.taps) as isize * last.tap;
        let inside = last.inside(start);
        let (mut row, mut column) = (places.start / last.places, places.start % last.places);
        let mut at = 0;
        while at < places.len() {
            let end = last.places.min(column + places.len() - at);
            let row_start = Self::row(outer, row, tap / last.taps);
            let (low, high) = match row_start {
                Some(_) => {
                    let low = inside.start.clamp(column, end);
                    (low, inside.end.clamp(low, end))
                }
                None => (end, end),
            };
            let mut part = |range: Range<usize>, from| {
                if !range.is_empty() {
                    each(Run {
                        at: at + range.start - column,
                        len: range.len(),
                        from,
                    });
                }
            };
            part(column..low, None);
            let first = (start + low as isize * last.place) * last.stride;
            part(low..high, row_start.map(|row| row + first));
            part(high..end, None);
            at += end - column;
            (row, column) = (row + 1, 0);
        }
    }

    /// Elements before a row of positions; none if it is outside.
    #[inline(always)]
    fn row(outer: &[Axis], mut row: usize, mut tap: usize) -> Option<isize> {
        let mut offset = 0;
        for axis in outer.iter().rev() {
            let place = (row % axis.places) as isize * axis.place;
            let position = axis.origin + place + (tap % axis.taps) as isize * axis.tap;
            if position < 0 || position >= axis.size as isize {
                return None;
            }
            offset += position * axis.stride;
            row /= axis.places;
            tap /= axis.taps;
        }
        Some(offset)
    }

    /// Calls `each` once for each tap among some rows of the matrix: with the tap, the first of its
    /// channels, how many there are, and how many rows the first one comes after.
    fn taps_of(&self, rows: &Range<usize>, mut each: impl FnMut(usize, usize, usize, usize)) {
        let taps = self.taps();
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
    let lanes = T::In::<S>::LANES;
    let (patches, step) = (rows.patches, rows.patches.step());
    patches.runs(rows.tap, &rows.places, |run| {
        for channel in 0..rows.channels {
            let to = rows.to.wrapping_add(channel * rows.pitch + run.at);
            let from = run.from.map(|start| {
                let start = start + channel as isize * patches.channel;
                rows.from.wrapping_offset(start)
            });
            // SAFETY: the caller promises room for all places, and runs visit existing positions.
            unsafe {
                match from {
                    Some(from) if step != 1 => {
                        for i in 0..run.len {
                            let x = from.offset(i as isize * step).read().widen();
                            to.add(i).write(x);
                        }
                    }
                    _ => {
                        for i in (0..run.len).step_by(lanes) {
                            let have = (run.len - i).min(lanes);
                            let x = match from {
                                None => T::In::<S>::splat(T::default()),
                                Some(from) if have == lanes => E::load::<S>(from.add(i)),
                                Some(from) => E::load_first::<S>(from.add(i), have),
                            };
                            if have == lanes {
                                x.store(to.add(i));
                            } else {
                                x.store_first(to.add(i), have);
                            }
                        }
                    }
                }
            }
        }
    });
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
        let taps = patches.taps();
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
        let (taps, places) = (patches.taps(), patches.places());
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

#[cfg(test)]
mod tests {
    use super::*;

    /// All runs are the positions that the definition gives.
    #[test]
    fn runs_visit_what_windows_do() {
        let axis = |places, taps, size, stride, [origin, place, tap]: [isize; 3]| Axis {
            places,
            taps,
            size,
            stride,
            origin,
            place,
            tap,
        };
        for (outer, last) in [
            (axis(3, 2, 4, 10, [-1, 1, 1]), axis(5, 3, 5, 1, [-1, 1, 1])),
            (axis(2, 3, 4, 10, [0, 2, 1]), axis(4, 2, 6, 1, [-3, 2, 3])),
            (axis(4, 1, 3, -7, [2, 1, -1]), axis(9, 4, 3, 2, [1, 1, -2])),
            (axis(1, 1, 1, 0, [0, 1, 0]), axis(3, 1, 2, 1, [-9, 1, 1])),
        ] {
            let patches = Patches::new(vec![outer, last], 0, 0);
            let position = |axis: Axis, place: usize, tap: usize| {
                let at = axis.origin + place as isize * axis.place + tap as isize * axis.tap;
                (at >= 0 && at < axis.size as isize).then_some(at * axis.stride)
            };
            for tap in 0..patches.taps() {
                for first in 0..patches.places() {
                    let places = first..patches.places();
                    let mut found = Vec::new();
                    patches.runs(tap, &places, |run| {
                        assert_eq!(run.at, found.len());
                        for i in 0..run.len as isize {
                            found.push(run.from.map(|from| from + i * patches.step()));
                        }
                    });
                    let wanted: Vec<Option<isize>> = places
                        .map(|place| {
                            let row = position(outer, place / last.places, tap / last.taps)?;
                            Some(row + position(last, place % last.places, tap % last.taps)?)
                        })
                        .collect();
                    assert_eq!(found, wanted, "tap {tap} from {first} of {patches:?}");
                }
            }
        }
    }
}
