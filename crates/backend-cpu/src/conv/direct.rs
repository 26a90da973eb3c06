//! Convolutions with hardly any channels in a group by larger steps of the windows, tap by tap:
//! packing them for a product of matrices would cost more than the product.
//!
//! An element is one chain of fused multiply-adds, channel by channel and tap by tap; of the vjp by
//! the filter, one for each of a few registers, over all images and places.

use std::ops::Range;

use super::lower::{Geometry, Wanted, merged};
use crate::Level;
use crate::gemm::{Call, Make, Number, Product, Sink, Source, typed};
use crate::memory::LINE;
use crate::pool::Worker;
use crate::simd::{Float, Simd, Vector, by_level, keep_single};
use crate::windows::Windows;

/// Places of the output that are computed together.
const TILE: usize = 2048;
/// Multiply-adds that are worth a worker.
const GRAIN: usize = 1 << 16;
/// The most lanes of any register, and registers in which a sum is formed.
const LANES: usize = 16;
const CHAINS: usize = 4;

/// A prepared convolution of operands of `E`, summed in `T`.
#[derive(Debug)]
struct Direct<T, E> {
    plan: Plan,
    visit: VisitFn<E, T>,
}

/// What does not depend on types.
#[derive(Debug)]
pub(super) struct Plan {
    geometry: Geometry,
    windows: Windows,
    wanted: Wanted,
    /// Elements of the filter before each tap.
    taps: Vec<isize>,
    level: Level,
    workers: usize,
    threads: usize,
}

/// The places of one tap, of one channel and one output channel.
#[derive(Debug)]
struct Visit<'a, E, T> {
    windows: &'a Windows,
    tap: usize,
    places: Range<usize>,
    /// A plane of the input, and one of the output.
    x: *const E,
    y: *const E,
    /// Images, and elements from one to the next.
    images: usize,
    image: [isize; 2],
    /// The filter's element.
    w: T,
    /// Sums for places, for positions, or a single one.
    sums: *mut T,
}

type VisitFn<E, T> = unsafe fn(&Visit<'_, E, T>);

impl Plan {
    /// Whether this is worth computing directly.
    pub(super) fn suits(geometry: &Geometry, wanted: Wanted) -> bool {
        geometry.has_few(wanted) && Plan::can(geometry)
    }

    /// Whether this can be computed directly: the places of a plane have to be neighbours.
    pub(super) fn can(geometry: &Geometry) -> bool {
        matches!(merged(geometry.place_axes()).as_slice(), [] | [(_, 1)])
    }

    pub(super) fn new(
        geometry: Geometry,
        wanted: Wanted,
        (level, threads): (Level, usize),
    ) -> Self {
        let axes: Vec<(usize, isize)> = geometry.tap_axes().collect();
        let offset = |mut tap: usize| {
            let mut offset = 0;
            for &(size, stride) in axes.iter().rev() {
                offset += (tap % size) as isize * stride;
                tap /= size;
            }
            offset
        };
        let visits = [
            geometry.images,
            geometry.groups,
            geometry.out,
            geometry.channels,
            geometry.taps(),
            geometry.places(),
        ];
        let work = visits.into_iter().fold(1, usize::saturating_mul);
        Self {
            windows: geometry.patches().windows,
            taps: (0..geometry.taps()).map(offset).collect(),
            wanted,
            level,
            workers: (work / GRAIN).clamp(1, threads.max(1)),
            threads,
            geometry,
        }
    }

    /// Planes of the result, or pairs of channels of the filter.
    fn planes(&self) -> usize {
        let g = &self.geometry;
        match self.wanted {
            Wanted::Output => g.images * g.groups * g.out,
            Wanted::Input => g.images * g.groups * g.channels,
            Wanted::Filter => g.groups * g.out * g.channels,
        }
    }

    /// Elements of each.
    fn points(&self) -> usize {
        match self.wanted {
            Wanted::Output => self.geometry.places(),
            Wanted::Input => self.geometry.positions(),
            Wanted::Filter => self.taps.len(),
        }
    }

    /// Elements of each that are computed together.
    fn tile(&self) -> usize {
        match self.wanted {
            Wanted::Output => TILE.min(self.points()),
            Wanted::Input | Wanted::Filter => self.points(),
        }
    }
}

impl Make for Plan {
    fn make<T: Number + Source<T>, E: Source<T>>(self) -> Box<dyn Product> {
        let visit = match self.wanted {
            Wanted::Output => gathering,
            Wanted::Input => scattering,
            Wanted::Filter => dotting,
        };
        Box::new(Direct::<T, E> {
            visit: visit(self.level),
            plan: self,
        })
    }
}

impl<T: Number, E: Source<T>> Product for Direct<T, E> {
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

impl<T: Number, E: Source<T>> Direct<T, E> {
    /// Elements of a worker's scratch memory.
    fn slot(&self) -> usize {
        self.plan.tile().next_multiple_of(LINE / size_of::<T>())
    }

    unsafe fn share(&self, worker: Worker<'_>, call: &Call<'_, T, E>) {
        let (points, tile) = (self.plan.points(), self.plan.tile().max(1));
        let tiles = points.div_ceil(tile);
        let room = call
            .scratch
            .cast::<T>()
            .wrapping_add(worker.id() * self.slot());
        for task in worker.items(self.plan.planes() * tiles) {
            let (plane, first) = (task / tiles, task % tiles * tile);
            let part = first..points.min(first + tile);
            let range = plane * points + part.start..plane * points + part.end;
            let sums = match call.sink {
                Sink::Store(c) => c.wrapping_add(range.start),
                Sink::Hand(_) => room,
            };
            // SAFETY: the range is this task's alone, or the room is this worker's, and zero is a
            // number of all bits zero.
            unsafe {
                sums.write_bytes(0, part.len());
                match self.plan.wanted {
                    Wanted::Output => self.output(call, plane, (part, sums)),
                    Wanted::Input => self.input(call, plane, sums),
                    Wanted::Filter => self.filter(call, plane, sums),
                }
            }
            if let Sink::Hand(hand) = call.sink {
                hand(range, sums);
            }
        }
    }

    unsafe fn output(
        &self,
        call: &Call<'_, T, E>,
        plane: usize,
        (places, sums): (Range<usize>, *mut T),
    ) {
        let g = &self.plan.geometry;
        let (image, out) = (plane / (g.groups * g.out), plane % (g.groups * g.out));
        for channel in 0..g.channels {
            let filter = offset(&g.w, [out, channel]);
            let x = offset(&g.x, [image, out / g.out * g.channels + channel]);
            for (tap, &at) in self.plan.taps.iter().enumerate() {
                // SAFETY: the filter has this element, and views stay inside of their tensors.
                unsafe {
                    let w = call.left.wrapping_offset(filter + at).read().widen();
                    self.visit(
                        (tap, places.clone()),
                        [call.right.wrapping_offset(x); 2],
                        (w, sums),
                    );
                }
            }
        }
    }

    unsafe fn input(&self, call: &Call<'_, T, E>, plane: usize, sums: *mut T) {
        let g = &self.plan.geometry;
        let channels = g.groups * g.channels;
        let (image, channel) = (plane / channels, plane % channels);
        let group = channel / g.channels;
        for out in group * g.out..(group + 1) * g.out {
            let filter = offset(&g.w, [out, channel % g.channels]);
            let y = offset(&g.y, [image, out]);
            for (tap, &at) in self.plan.taps.iter().enumerate() {
                // SAFETY: as above.
                unsafe {
                    let w = call.left.wrapping_offset(filter + at).read().widen();
                    let places = 0..g.places();
                    self.visit((tap, places), [call.right.wrapping_offset(y); 2], (w, sums));
                }
            }
        }
    }

    unsafe fn filter(&self, call: &Call<'_, T, E>, pair: usize, sums: *mut T) {
        let g = &self.plan.geometry;
        let (out, channel) = (pair / g.channels, pair % g.channels);
        let x = offset(&g.x, [0, out / g.out * g.channels + channel]);
        let y = offset(&g.y, [0, out]);
        let planes = [call.right.wrapping_offset(x), call.left.wrapping_offset(y)];
        for tap in 0..self.plan.taps.len() {
            let sum = (T::default(), sums.wrapping_add(tap));
            // SAFETY: as above.
            unsafe { self.visit((tap, 0..g.places()), planes, sum) };
        }
    }

    unsafe fn visit(
        &self,
        (tap, places): (usize, Range<usize>),
        [x, y]: [*const E; 2],
        (w, sums): (T, *mut T),
    ) {
        let g = &self.plan.geometry;
        let visit = Visit {
            windows: &self.plan.windows,
            tap,
            places,
            x,
            y,
            images: g.images,
            image: [g.x[0], g.y[0]],
            w,
            sums,
        };
        // SAFETY: handed on.
        unsafe { (self.visit)(&visit) }
    }
}

/// Elements before a pair of coordinates of the first two axes.
fn offset(strides: &[isize], [first, second]: [usize; 2]) -> isize {
    first as isize * strides[0] + second as isize * strides[1]
}

by_level! {
    /// Adds to the sums of places what they see of the input.
    fn gathering[T: Number + Source<T>, E: Source<T>][T, E](visit: &Visit<'_, E, T>) = gather_at;
}
by_level! {
    /// Adds to the sums of positions what sees them of the output.
    fn scattering[T: Number + Source<T>, E: Source<T>][T, E](visit: &Visit<'_, E, T>) = scatter_at;
}
by_level! {
    /// The sum over images and places of what meets.
    fn dotting[T: Number + Source<T>, E: Source<T>][T, E](visit: &Visit<'_, E, T>) = dot_at;
}

#[inline(always)]
unsafe fn gather_at<S: Simd, T: Number + Source<T>, E: Source<T>>(visit: &Visit<'_, E, T>) {
    let step = visit.windows.step();
    for run in visit.windows.runs(visit.tap, &visit.places) {
        let Some(from) = run.from else { continue };
        let (to, from) = (
            visit.sums.wrapping_add(run.at),
            visit.x.wrapping_offset(from),
        );
        // SAFETY: runs visit existing positions, and there is a sum for every place.
        unsafe { add_product::<S, T, E>((to, 1), (from, step), run.len, visit.w) };
    }
}

#[inline(always)]
unsafe fn scatter_at<S: Simd, T: Number + Source<T>, E: Source<T>>(visit: &Visit<'_, E, T>) {
    let step = visit.windows.step();
    for run in visit.windows.runs(visit.tap, &visit.places) {
        let Some(to) = run.from else { continue };
        let (to, from) = (visit.sums.wrapping_offset(to), visit.y.wrapping_add(run.at));
        // SAFETY: runs visit existing positions, each of which has a sum.
        unsafe { add_product::<S, T, E>((to, step), (from, 1), run.len, visit.w) };
    }
}

/// `to[i] += w * from[i]`.
#[inline(always)]
unsafe fn add_product<S: Simd, T: Number + Source<T>, E: Source<T>>(
    (to, to_step): (*mut T, isize),
    (from, from_step): (*const E, isize),
    count: usize,
    w: T,
) {
    let lanes = T::In::<S>::LANES;
    for i in (0..count).step_by(lanes) {
        keep_single(lanes);
        let have = (count - i).min(lanes);
        let to = to.wrapping_offset(i as isize * to_step);
        let from = from.wrapping_offset(i as isize * from_step);
        // SAFETY: the caller promises `count` elements on both sides.
        unsafe {
            let x = get::<S, T, E>(from, from_step, have);
            let sum = get::<S, T, T>(to, to_step, have);
            let sum = x.mul_add(T::In::<S>::splat(w), sum);
            if to_step == 1 && have == lanes {
                sum.store(to);
            } else if to_step == 1 {
                sum.store_first(to, have);
            } else {
                let mut each = [T::default(); LANES];
                sum.store(each.as_mut_ptr());
                for (i, &sum) in each.iter().take(have).enumerate() {
                    to.offset(i as isize * to_step).write(sum);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn dot_at<S: Simd, T: Number + Source<T>, E: Source<T>>(visit: &Visit<'_, E, T>) {
    let (lanes, step) = (T::In::<S>::LANES, visit.windows.step());
    // SAFETY: runs visit existing positions, and images have so many places.
    unsafe {
        let mut sums = [T::In::<S>::splat(T::default()); CHAINS];
        for image in 0..visit.images as isize {
            let x = visit.x.wrapping_offset(image * visit.image[0]);
            let y = visit.y.wrapping_offset(image * visit.image[1]);
            for run in visit.windows.runs(visit.tap, &visit.places) {
                let Some(from) = run.from else { continue };
                let (x, y) = (x.wrapping_offset(from), y.wrapping_add(run.at));
                for first in (0..run.len).step_by(CHAINS * lanes) {
                    keep_single(lanes);
                    for (chain, sum) in sums.iter_mut().enumerate() {
                        let i = first + chain * lanes;
                        if i < run.len {
                            let have = (run.len - i).min(lanes);
                            let x = x.wrapping_offset(i as isize * step);
                            let x = get::<S, T, E>(x, step, have);
                            let y = get::<S, T, E>(y.wrapping_add(i), 1, have);
                            *sum = x.mul_add(y, *sum);
                        }
                    }
                }
            }
        }
        let [a, b, c, d] = sums;
        visit.sums.write(a.add(b).add(c.add(d)).sum());
    }
}

/// Elements `step` apart; lanes beyond them are zero.
#[inline(always)]
unsafe fn get<S: Simd, T: Number, E: Source<T>>(
    from: *const E,
    step: isize,
    have: usize,
) -> T::In<S> {
    // SAFETY: the caller promises so many elements; a register has no more lanes than there are.
    unsafe {
        match (step, have == T::In::<S>::LANES) {
            (1, true) => E::load::<S>(from),
            (1, false) => E::load_first::<S>(from, have),
            _ => {
                let mut each = [T::default(); LANES];
                for (i, x) in each.iter_mut().take(have).enumerate() {
                    *x = from.offset(i as isize * step).read().widen();
                }
                T::In::<S>::load(each.as_ptr())
            }
        }
    }
}
