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

/// Some rows of the matrix, from some places on.
#[derive(Debug)]
pub(super) struct Rows<'a, E, T> {
    patches: &'a Patches,
    rows: Range<usize>,
    places: Range<usize>,
    /// The first channel of all.
    from: *const E,
    /// The first row's first place, and elements from a row to the next.
    to: *mut T,
    pitch: usize,
}

type Copy<E, T> = unsafe fn(&Rows<'_, E, T>);

by_level! {
    /// Writes rows, zeros where a tap is outside.
    fn copier[T: Number, E: Source<T>][T, E](rows: &Rows<'_, E, T>) = copy_at;
}

#[inline(always)]
unsafe fn copy_at<S: Simd, T: Number, E: Source<T>>(rows: &Rows<'_, E, T>) {
    let windows = &rows.patches.windows;
    let (last, step, taps) = (windows.last(), windows.step(), windows.taps().max(1));
    let channel = rows.patches.channel;
    // The channels of the first row and of the row behind the last one, and taps before these.
    let [first, end] = [rows.rows.start, rows.rows.end].map(|row| (row / taps, row % taps));
    let mut to = rows.to;
    for (row, places) in windows.rows_of(&rows.places) {
        for outer in 0..windows.outer_taps() {
            let start = windows.row_start(row, outer);
            for tap in 0..last.taps {
                let number = outer * last.taps + tap;
                let channels =
                    first.0 + usize::from(number < first.1)..end.0 + usize::from(number < end.1);
                let (sight, before) = last.sight(tap);
                let line = match start {
                    None => Line::outside(places.len()),
                    Some(start) => Line::new(&places, &sight, (start + before, step)),
                };
                for at in channels {
                    let to = to.wrapping_add((at * taps + number - rows.rows.start) * rows.pitch);
                    let from = rows.from.wrapping_offset(at as isize * channel);
                    // SAFETY: the caller promises room for all places, and what is inside is there.
                    unsafe { line.copy::<S, T, E>(to, from) };
                }
            }
        }
        to = to.wrapping_add(places.len());
    }
}

/// What a tap sees from neighbouring places: nothing from the first and the last ones.
#[derive(Clone, Copy)]
struct Line {
    before: usize,
    inside: usize,
    after: usize,
    /// Elements before the first one that is seen, and from one to the next.
    start: isize,
    step: isize,
}

impl Line {
    fn outside(places: usize) -> Self {
        Self {
            before: places,
            inside: 0,
            after: 0,
            start: 0,
            step: 0,
        }
    }

    /// Of a tap that is inside from some places, and sees the `start`-th element from place 0.
    #[inline(always)]
    fn new(places: &Range<usize>, sight: &Range<usize>, (start, step): (isize, isize)) -> Self {
        let first = sight.start.clamp(places.start, places.end);
        let end = sight.end.clamp(first, places.end);
        Self {
            before: first - places.start,
            inside: end - first,
            after: places.end - end,
            start: start + first as isize * step,
            step,
        }
    }

    #[inline(always)]
    unsafe fn copy<S: Simd, T: Number, E: Source<T>>(&self, to: *mut T, from: *const E) {
        let from = from.wrapping_offset(self.start);
        // SAFETY: the caller promises room for all places and the elements that are seen.
        unsafe {
            zeros::<S, T>(to, self.before);
            let to = to.add(self.before);
            if self.step == 1 {
                neighbours::<S, T, E>(to, from, self.inside);
            } else {
                for i in 0..self.inside {
                    let x = from.offset(i as isize * self.step).read().widen();
                    to.add(i).write(x);
                }
            }
            zeros::<S, T>(to.add(self.inside), self.after);
        }
    }
}

#[inline(always)]
unsafe fn zeros<S: Simd, T: Number>(to: *mut T, count: usize) {
    let lanes = T::In::<S>::LANES;
    // SAFETY: the caller promises room for `count` elements.
    unsafe {
        let zero = T::In::<S>::splat(T::default());
        if count < lanes {
            for i in 0..count {
                to.add(i).write(T::default());
            }
            return;
        }
        for i in (0..count).step_by(lanes) {
            zero.store(to.add(i.min(count - lanes)));
        }
    }
}

/// Copies elements that lie side by side. The last register overlaps the one before it.
#[inline(always)]
pub(super) unsafe fn neighbours<S: Simd, T: Number, E: Source<T>>(
    to: *mut T,
    from: *const E,
    count: usize,
) {
    let lanes = T::In::<S>::LANES;
    // SAFETY: the caller promises `count` elements on both sides.
    unsafe {
        if count < lanes {
            E::load_first::<S>(from, count).store_first(to, count);
            return;
        }
        for i in (0..count).step_by(lanes) {
            let i = i.min(count - lanes);
            E::load::<S>(from.add(i)).store(to.add(i));
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
        let rows = Rows {
            patches: &self.patches,
            rows: panel.k,
            places: panel.lines,
            from: panel.from,
            to: panel.to,
            pitch: panel.pitch,
        };
        // SAFETY: the caller vouches for the tensor and the panel, whose rows these are.
        unsafe { (self.copy)(&rows) };
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
        let places = patches.windows.places();
        let mut k = panel.k.start;
        while k < panel.k.end {
            let first = k % places;
            let count = (places - first).min(panel.k.end - k);
            let image = (k / places) as isize * patches.image;
            let rows = Rows {
                patches,
                rows: panel.lines.clone(),
                places: first..first + count,
                from: panel.from.wrapping_offset(image),
                to: panel.spare.wrapping_add(k - panel.k.start),
                pitch: depth,
            };
            // SAFETY: the caller vouches for the tensor, and the spare panel has room for so many
            // lines.
            unsafe { (self.copy)(&rows) };
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
