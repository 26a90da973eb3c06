//! Convolutions with hardly any channels in a group, by single steps of the windows.
//!
//! A plane is copied once with its padding, so that what a tap adds to all places is one run of
//! neighbours: places of a row, then those of the next with the padding between them, whose sums are
//! left out in the end.
//!
//! An element is one chain of fused multiply-adds, channel by channel and tap by tap; of the vjp by
//! the filter, one for each of [`lanes`] lanes, over all images and places.

mod kernels;

use super::lower::{Geometry, Wanted};
use crate::Level;
use crate::gemm::{Call, Make, Number, Product, Sink, Source, typed};
use crate::memory::LINE;
use crate::pool::Worker;
use kernels::{Sums, adder, copier, dotter, lanes, totaller};

/// Multiply-adds that are worth a worker.
const GRAIN: usize = 1 << 17;
/// Elements by which padded planes and sums are longer than they need to be, at least: what
/// registers reach beyond them.
const SLACK: usize = 64;

/// A prepared convolution, before its types are known.
#[derive(Debug)]
pub(super) struct Plan {
    wanted: Wanted,
    images: usize,
    groups: usize,
    /// Channels of a group that windows see, and channels of a group of the other tensor.
    seen_channels: usize,
    channels: usize,
    /// What windows see, and for the vjp by the filter the cotangents.
    seen: Planes,
    other: Planes,
    /// Elements of the filter to the next group, channel of the result, and seen channel.
    filter: [isize; 3],
    /// Elements of a padded plane before what a tap sees first, and of the filter before the tap.
    taps: Vec<(usize, isize)>,
    /// Elements of a padded plane.
    padded: usize,
    /// Sizes of the result's planes, and elements of a padded plane from one to the next.
    points: Vec<(usize, usize)>,
    level: Level,
    workers: usize,
    threads: usize,
}

/// How the planes of a tensor are copied.
#[derive(Debug, Clone)]
struct Planes {
    /// Elements to the next image, and channel.
    image: isize,
    channel: isize,
    /// Of each axis.
    axes: Vec<Part>,
}

/// The part of an axis that is copied.
#[derive(Debug, Clone, Copy)]
struct Part {
    count: usize,
    /// Elements before the first one, and from one to the next, in the tensor.
    from: isize,
    step: isize,
    /// The same in the padded plane.
    into: usize,
    pitch: usize,
}

/// What the axes of a [`Plan`] come to.
struct Axes {
    seen: Vec<Part>,
    other: Vec<Part>,
    taps: Vec<(usize, isize)>,
    padded: usize,
    points: Vec<(usize, usize)>,
}

impl Plan {
    /// Whether this can be computed in flat runs, and is worth it.
    pub(super) fn suits(g: &Geometry, wanted: Wanted) -> bool {
        let single = g.windows.iter().all(|axis| axis.stride == 1);
        g.has_few(wanted) && single && !g.windows.is_empty()
    }

    pub(super) fn new(g: &Geometry, wanted: Wanted, (level, threads): (Level, usize)) -> Self {
        let axes = Axes::new(g, wanted);
        let (seen_strides, seen_channels, channels) = match wanted {
            Wanted::Input => (&g.y, g.out, g.channels),
            _ => (&g.x, g.channels, g.out),
        };
        let group = g.out as isize * g.w[0];
        let filter = match wanted {
            Wanted::Input => [group, g.w[1], g.w[0]],
            _ => [group, g.w[0], g.w[1]],
        };
        let planes = |strides: &[isize], axes| Planes {
            image: strides[0],
            channel: strides[1],
            axes,
        };
        let sizes = [g.images, g.groups, g.out, g.channels, g.taps(), axes.padded];
        let work = sizes.into_iter().fold(1, usize::saturating_mul);
        Self {
            wanted,
            images: g.images,
            groups: g.groups,
            seen_channels,
            channels,
            seen: planes(seen_strides, axes.seen),
            other: planes(&g.y, axes.other),
            filter,
            taps: axes.taps,
            padded: axes.padded,
            points: axes.points,
            level,
            workers: (work / GRAIN).clamp(1, threads.max(1)),
            threads,
        }
    }

    /// Elements of a plane of the result.
    fn count(&self) -> usize {
        self.points.iter().map(|axis| axis.0).product()
    }

    /// Elements from the first sum of a plane to behind the last one.
    fn run(&self) -> usize {
        let last = |&(size, pitch): &(usize, usize)| size.saturating_sub(1) * pitch;
        self.points.iter().map(last).sum::<usize>() + 1
    }

    /// Elements of each of two rooms of a worker.
    fn room(&self) -> usize {
        (self.padded + self.run() + 2 * SLACK).next_multiple_of(LINE)
    }
}

impl Axes {
    fn new(g: &Geometry, wanted: Wanted) -> Self {
        let is_input = wanted == Wanted::Input;
        let (mut taps, mut points) = (vec![(0, 0)], Vec::new());
        let (mut seen, mut other) = (Vec::new(), Vec::new());
        let mut pitch = 1;
        for (i, axis) in g.windows.iter().enumerate().rev() {
            let reach = axis.taps.saturating_sub(1) * axis.dilation;
            let (size, count, before) = match wanted {
                Wanted::Input => (
                    axis.places,
                    axis.positions,
                    reach as isize - axis.padding as isize,
                ),
                _ => (axis.positions, axis.places, axis.padding as isize),
            };
            let length = count + reach;
            let strides = if is_input { &g.y } else { &g.x };
            let part = Part::new((size, length), before, (strides[i + 2], pitch));
            seen.insert(0, part);
            other.insert(0, Part::new((axis.places, length), 0, (g.y[i + 2], pitch)));
            points.insert(0, (count, pitch));
            let tap = |tap: usize| {
                let seen = if is_input { axis.taps - 1 - tap } else { tap };
                (seen * axis.dilation * pitch, tap as isize * g.w[i + 2])
            };
            taps = (0..axis.taps)
                .flat_map(|t| {
                    taps.iter()
                        .map(move |&(at, w)| (at + tap(t).0, w + tap(t).1))
                })
                .collect();
            pitch *= length;
        }
        Self {
            seen,
            other,
            taps,
            padded: pitch,
            points,
        }
    }
}

impl Part {
    /// What is inside of an axis of `size` that begins after so many elements of `length`.
    fn new((size, length): (usize, usize), before: isize, (step, pitch): (isize, usize)) -> Self {
        let skipped = (-before).clamp(0, size as isize);
        let into = before.clamp(0, length as isize) as usize;
        Self {
            count: (size - skipped as usize).min(length - into),
            from: skipped * step,
            step,
            into: into * pitch,
            pitch,
        }
    }
}

/// A prepared convolution of operands of `E`, summed in `T`.
#[derive(Debug)]
struct Flat<T, E> {
    plan: Plan,
    copy: unsafe fn(*mut T, *const E, usize),
    add: unsafe fn(&Sums<'_, T>),
    dot: unsafe fn(&Sums<'_, T>),
    total: unsafe fn(*const T) -> T,
}

impl Make for Plan {
    fn make<T: Number + Source<T>, E: Source<T>>(self) -> Box<dyn Product> {
        Box::new(Flat::<T, E> {
            copy: copier(self.level),
            add: adder(self.level),
            dot: dotter(self.level),
            total: totaller(self.level),
            plan: self,
        })
    }
}

impl<T: Number, E: Source<T>> Product for Flat<T, E> {
    fn scratch(&self) -> usize {
        self.plan.threads * self.slot() * size_of::<T>()
    }

    fn workers(&self) -> usize {
        self.plan.workers
    }

    unsafe fn run(&self, worker: Worker<'_>, call: &Call<'_, u8, u8>) {
        // SAFETY: the same contract.
        unsafe { typed(call, |call| self.share(worker, call)) }
    }
}

impl<T: Number, E: Source<T>> Flat<T, E> {
    /// Elements of a worker's scratch memory: two rooms, and what there is for each tap.
    fn slot(&self) -> usize {
        let taps = self.plan.taps.len() * lanes::<T>();
        2 * self.plan.room() + taps.next_multiple_of(LINE)
    }

    unsafe fn share(&self, worker: Worker<'_>, call: &Call<'_, T, E>) {
        let plan = &self.plan;
        let own = worker.id() * self.slot();
        let rooms = [0, plan.room(), 2 * plan.room()];
        let rooms = rooms.map(|room| call.scratch.cast::<T>().wrapping_add(own + room));
        // SAFETY: each worker has memory of its own, in which zero is a number of all bits zero;
        // results are shared out.
        unsafe {
            rooms[0].write_bytes(0, self.slot());
            if plan.wanted == Wanted::Filter {
                let pairs = plan.groups * plan.channels * plan.seen_channels;
                for pair in worker.items(pairs) {
                    self.filter(call, pair, rooms);
                }
            } else {
                let planes = plan.images * plan.groups * plan.channels;
                for plane in worker.items(planes) {
                    self.plane(call, plane, rooms);
                }
            }
        }
    }

    /// A plane of the output, or of the vjp by the input.
    unsafe fn plane(&self, call: &Call<'_, T, E>, plane: usize, [seen, sums, by]: [*mut T; 3]) {
        let plan = &self.plan;
        let (image, channel) = (
            plane / (plan.groups * plan.channels),
            plane % (plan.groups * plan.channels),
        );
        let (group, channel) = (channel / plan.channels, channel % plan.channels);
        let filter = group as isize * plan.filter[0] + channel as isize * plan.filter[1];
        // SAFETY: views stay inside of their tensors, and rooms are large enough.
        unsafe {
            sums.write_bytes(0, plan.run() + SLACK);
            for channel in 0..plan.seen_channels {
                let filter = filter + channel as isize * plan.filter[2];
                for (i, &(_, at)) in plan.taps.iter().enumerate() {
                    by.add(i)
                        .write(call.left.offset(filter + at).read().widen());
                }
                let channel = group * plan.seen_channels + channel;
                self.pad(&plan.seen, call.right, [image, channel], seen);
                (self.add)(&Sums {
                    seen,
                    taps: &plan.taps,
                    count: plan.run(),
                    by,
                    sums,
                });
            }
            let count = plan.count();
            let to = match call.sink {
                Sink::Store(c) => c.wrapping_add(plane * count),
                Sink::Hand(_) => sums,
            };
            self.close(sums, to);
            if let Sink::Hand(hand) = call.sink {
                hand(plane * count..(plane + 1) * count, to);
            }
        }
    }

    /// The vjp by the filter, of a pair of channels.
    unsafe fn filter(&self, call: &Call<'_, T, E>, pair: usize, [seen, by, sums]: [*mut T; 3]) {
        let plan = &self.plan;
        let (out, channel) = (pair / plan.seen_channels, pair % plan.seen_channels);
        let channel = out / plan.channels * plan.seen_channels + channel;
        let (taps, lanes) = (plan.taps.len(), lanes::<T>());
        // SAFETY: as above; sums of a tap are read before those of a later one are written there.
        unsafe {
            sums.write_bytes(0, taps * lanes);
            for image in 0..plan.images {
                self.pad(&plan.seen, call.right, [image, channel], seen);
                self.pad(&plan.other, call.left, [image, out], by);
                (self.dot)(&Sums {
                    seen,
                    taps: &plan.taps,
                    count: plan.run(),
                    by,
                    sums,
                });
            }
            let to = match call.sink {
                Sink::Store(c) => c.wrapping_add(pair * taps),
                Sink::Hand(_) => sums,
            };
            for tap in 0..taps {
                to.add(tap).write((self.total)(sums.add(tap * lanes)));
            }
            if let Sink::Hand(hand) = call.sink {
                hand(pair * taps..(pair + 1) * taps, to);
            }
        }
    }

    /// Copies a plane to where its padding, which stays, is zero.
    unsafe fn pad(
        &self,
        planes: &Planes,
        from: *const E,
        [image, channel]: [usize; 2],
        to: *mut T,
    ) {
        let Some((last, outer)) = planes.axes.split_last() else {
            return;
        };
        let start = image as isize * planes.image + channel as isize * planes.channel;
        let (from, to) = (
            from.wrapping_offset(start + last.from),
            to.wrapping_add(last.into),
        );
        let rows = outer.iter().map(|axis| axis.count).product();
        for mut row in 0..rows {
            let (mut source, mut target) = (0, 0);
            for axis in outer.iter().rev() {
                let at = row % axis.count;
                source += axis.from + at as isize * axis.step;
                target += axis.into + at * axis.pitch;
                row /= axis.count;
            }
            // SAFETY: this part of the row is inside of both.
            unsafe {
                (self.copy)(
                    to.wrapping_add(target),
                    from.wrapping_offset(source),
                    last.count,
                )
            };
        }
    }

    /// Takes the sums of places out of a run, in order.
    unsafe fn close(&self, sums: *const T, to: *mut T) {
        let Some((&(width, _), outer)) = self.plan.points.split_last() else {
            return;
        };
        let rows: usize = outer.iter().map(|axis| axis.0).product();
        for row in 0..rows {
            let (mut at, mut rest) = (0, row);
            for &(size, pitch) in outer.iter().rev() {
                at += rest % size * pitch;
                rest /= size;
            }
            // SAFETY: rows are moved towards the beginning, if they are moved within the run.
            unsafe { to.add(row * width).copy_from(sums.add(at), width) };
        }
    }
}
