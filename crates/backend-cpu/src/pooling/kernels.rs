//! The windows of one plane, a row of places at a time.
//!
//! Places whose windows are inside along the last axis are taken a register full at a time, the
//! others one by one. A vjp takes places in order, and the taps of a row of positions from the last
//! to the first, so that whatever the width of a register, a position adds up what it gets in the
//! order of the places.

use std::ops::Range;

use backprop_core::Reduction;

use super::register::{Item, Largest, One, Rank, Register, Smallest};
use crate::Level;
use crate::simd::{Scalar, Simd, by_level};
use crate::tile::Lane;
use crate::windows::{Axis, Seen, Windows};

/// One plane of each operand and of the result.
#[derive(Debug)]
pub(super) struct Plane<'a> {
    pub(super) windows: &'a Windows,
    /// What windows see; null for the vjp of a sum.
    pub(super) x: *const u8,
    /// Dense; null but for vjps.
    pub(super) cotangents: *const u8,
    /// Dense: the reduced values, or zeros to which the vjp is added.
    pub(super) to: *mut u8,
    /// Where reductions begin.
    pub(super) start: f64,
}

pub(super) type PlaneFn = unsafe fn(&Plane<'_>);

by_level! { fn folding[T: Item, F: Fold][T, F](plane: &Plane<'_>) = fold_at; }
by_level! { fn routing[T: Item, R: Rank][T, R](plane: &Plane<'_>) = route_at; }
by_level! { fn spreading[T: Item][T](plane: &Plane<'_>) = spread_at; }

/// The kernel of a type: integers, which fill no registers, have one for all levels.
macro_rules! by_lane {
    ($lane:expr, $kernel:ident = $at:ident $(, $rule:ty)?; $level:expr) => {
        match $lane {
            Lane::F32 => $kernel::<f32 $(, $rule)?>($level),
            Lane::F64 => $kernel::<f64 $(, $rule)?>($level),
            Lane::I32 => $at::<Scalar, i32 $(, $rule)?>,
            Lane::I64 => $at::<Scalar, i64 $(, $rule)?>,
            Lane::U8 => $at::<Scalar, u8 $(, $rule)?>,
        }
    };
}

/// What reduces the windows of a plane.
pub(super) fn reducer(reduction: Reduction, lane: Lane, level: Level) -> PlaneFn {
    match reduction {
        Reduction::Sum => by_lane!(lane, folding = fold_at, Sum; level),
        Reduction::Max => by_lane!(lane, folding = fold_at, Largest; level),
        Reduction::Min => by_lane!(lane, folding = fold_at, Smallest; level),
    }
}

/// The vjp of that.
pub(super) fn vjp(reduction: Reduction, lane: Lane, level: Level) -> PlaneFn {
    match reduction {
        Reduction::Sum => by_lane!(lane, spreading = spread_at; level),
        Reduction::Max => by_lane!(lane, routing = route_at, Largest; level),
        Reduction::Min => by_lane!(lane, routing = route_at, Smallest; level),
    }
}

/// How a reduction takes in more values.
trait Fold {
    fn fold<V: Register>(total: V, new: V) -> V;
}

struct Sum;

impl Fold for Sum {
    #[inline(always)]
    fn fold<V: Register>(total: V, new: V) -> V {
        total.plus(new)
    }
}

impl<R: Rank> Fold for R {
    #[inline(always)]
    fn fold<V: Register>(total: V, new: V) -> V {
        total.best::<R>(new)
    }
}

/// Places of a row that are taken together.
struct Chunk {
    place: usize,
    /// Whether all taps of the last axis are inside.
    is_inside: bool,
    /// Whether they fill a register.
    is_full: bool,
}

/// An iterator over the chunks of a row.
#[derive(Clone)]
struct Chunks {
    places: usize,
    interior: Range<usize>,
    lanes: usize,
    place: usize,
}

impl Chunks {
    #[inline(always)]
    fn new(windows: &Windows, lanes: usize) -> Self {
        Self {
            places: windows.last().places,
            interior: windows.interior(),
            lanes,
            place: 0,
        }
    }

    /// The full ones alone.
    #[inline(always)]
    fn full(&self) -> impl Iterator<Item = Chunk> + Clone + use<> {
        let (first, lanes) = (self.interior.start, self.lanes);
        (0..self.interior.len() / lanes).map(move |i| Chunk {
            place: first + i * lanes,
            is_inside: true,
            is_full: true,
        })
    }

    /// Whether all chunks are full.
    #[inline(always)]
    fn are_full(&self) -> bool {
        let lanes = self.lanes;
        lanes > 1 && self.interior == (0..self.places) && self.places.is_multiple_of(lanes)
    }
}

impl Iterator for Chunks {
    type Item = Chunk;

    #[inline(always)]
    fn next(&mut self) -> Option<Chunk> {
        if self.place == self.places {
            return None;
        }
        let place = self.place;
        let is_inside = self.interior.contains(&place);
        let is_full = self.lanes > 1 && is_inside && place + self.lanes <= self.interior.end;
        self.place += if is_full { self.lanes } else { 1 };
        Some(Chunk {
            place,
            is_inside,
            is_full,
        })
    }
}

/// A chunk with what it sees.
struct View<'a, T> {
    /// The rows of positions.
    seen: Seen<'a>,
    /// The last axis.
    axis: Axis,
    taps: Range<usize>,
    /// Elements before the position of the first tap of the axis in a row.
    before: isize,
    /// From the position of a place to that of the next.
    step: isize,
    x: *const T,
}

impl<'a, T> View<'a, T> {
    #[inline(always)]
    fn new(plane: &Plane<'a>, (axis, step): (Axis, isize), seen: &Seen<'a>, chunk: &Chunk) -> Self {
        Self {
            seen: seen.clone(),
            axis,
            taps: if chunk.is_inside {
                0..axis.taps
            } else {
                axis.taps_at(chunk.place)
            },
            before: (axis.origin + chunk.place as isize * axis.place) * axis.stride,
            step,
            x: plane.x.cast(),
        }
    }

    /// Elements before what a tap sees of a row.
    #[inline(always)]
    fn at(&self, start: isize, tap: usize) -> isize {
        start + self.before + tap as isize * self.axis.tap * self.axis.stride
    }
}

#[inline(always)]
unsafe fn fold_at<S: Simd, T: Item, F: Fold>(plane: &Plane<'_>) {
    let chunks = Chunks::new(plane.windows, T::In::<S>::LANES);
    // SAFETY: the same contract.
    unsafe {
        if chunks.lanes > 1 {
            // A loop for each way to fill a register.
            match plane.windows.step() {
                1 => fold_chunks::<T::In<S>, F>(plane, 1, chunks.full()),
                2 => fold_chunks::<T::In<S>, F>(plane, 2, chunks.full()),
                step => fold_chunks::<T::In<S>, F>(plane, step, chunks.full()),
            }
        }
        if !chunks.are_full() {
            fold_others::<T, F>(plane, chunks);
        }
    }
}

/// The places that fill no register. Not inlined: it is the same at every level.
#[inline(never)]
unsafe fn fold_others<T: Item, F: Fold>(plane: &Plane<'_>, chunks: Chunks) {
    // SAFETY: the same contract.
    unsafe {
        let others = chunks.filter(|chunk| !chunk.is_full);
        fold_chunks::<One<T>, F>(plane, plane.windows.step(), others);
    }
}

/// Some chunks of every row.
#[inline(always)]
unsafe fn fold_chunks<V: Register, F: Fold>(
    plane: &Plane<'_>,
    step: isize,
    chunks: impl Iterator<Item = Chunk> + Clone,
) {
    let (axis, start) = (plane.windows.last(), V::Element::of(plane.start));
    for row in 0..plane.windows.rows() {
        let seen = plane.windows.seen_from(row);
        for chunk in chunks.clone() {
            let view = View::new(plane, (axis, step), &seen, &chunk);
            let to = plane.to.cast::<V::Element>();
            let to = to.wrapping_add(row * axis.places + chunk.place);
            // SAFETY: the caller vouches for the plane and the instructions.
            unsafe { folded::<V, F>(&view, start).put(to, 1) };
        }
    }
}

#[inline(always)]
unsafe fn folded<V: Register, F: Fold>(view: &View<'_, V::Element>, start: V::Element) -> V {
    // SAFETY: taps that are inside see existing positions.
    unsafe {
        let mut total = V::all(start);
        for (_, row) in view.seen.clone() {
            for tap in view.taps.clone() {
                let from = view.x.wrapping_offset(view.at(row, tap));
                total = F::fold(total, V::get(from, view.step));
            }
        }
        total
    }
}

#[inline(always)]
unsafe fn spread_at<S: Simd, T: Item>(plane: &Plane<'_>) {
    // SAFETY: the same contract.
    unsafe { send_at::<S, T, Everywhere>(plane) }
}

#[inline(always)]
unsafe fn route_at<S: Simd, T: Item, R: Rank>(plane: &Plane<'_>) {
    // SAFETY: the same contract.
    unsafe { send_at::<S, T, R>(plane) }
}

/// Which taps of a window get its cotangent.
trait Route {
    type Chosen<V: Register>: Copy;
    unsafe fn choose<V: Register>(view: &View<'_, V::Element>) -> Option<Self::Chosen<V>>;
    fn share<V: Register>(cotangent: V, chosen: Self::Chosen<V>, tap: usize) -> V;
}

/// All of them.
struct Everywhere;

impl Route for Everywhere {
    type Chosen<V: Register> = ();

    #[inline(always)]
    unsafe fn choose<V: Register>(_: &View<'_, V::Element>) -> Option<()> {
        Some(())
    }

    #[inline(always)]
    fn share<V: Register>(cotangent: V, (): (), _: usize) -> V {
        cotangent
    }
}

/// The first one that holds the result.
impl<R: Rank> Route for R {
    type Chosen<V: Register> = V::Tap;

    #[inline(always)]
    unsafe fn choose<V: Register>(view: &View<'_, V::Element>) -> Option<V::Tap> {
        let mut chosen: Option<(V, V::Tap)> = None;
        for (outer, row) in view.seen.clone() {
            for tap in view.taps.clone() {
                let number = outer * view.axis.taps + tap;
                let from = view.x.wrapping_offset(view.at(row, tap));
                // SAFETY: taps that are inside see existing positions.
                let new = unsafe { V::get(from, view.step) };
                chosen = Some(match chosen {
                    None => (new, new.tap(number)),
                    Some(chosen) => V::choose::<R>(chosen, new, number),
                });
            }
        }
        chosen.map(|(_, tap)| tap)
    }

    #[inline(always)]
    fn share<V: Register>(cotangent: V, chosen: V::Tap, tap: usize) -> V {
        cotangent.where_chosen(chosen, tap)
    }
}

#[inline(always)]
unsafe fn send_at<S: Simd, T: Item, R: Route>(plane: &Plane<'_>) {
    let (axis, step) = (plane.windows.last(), plane.windows.step());
    let chunks = Chunks::new(plane.windows, T::In::<S>::LANES);
    for row in 0..plane.windows.rows() {
        let seen = plane.windows.seen_from(row);
        for chunk in chunks.clone() {
            let from = plane.cotangents.cast::<T>();
            let from = from.wrapping_add(row * axis.places + chunk.place);
            // SAFETY: the caller vouches for the plane and the instructions.
            unsafe {
                // A view in each branch: in the first it is known that all taps are inside.
                if chunk.is_full {
                    let view = View::new(plane, (axis, step), &seen, &chunk);
                    send::<T::In<S>, R>(&view, T::In::<S>::get(from, 1), plane.to.cast());
                } else {
                    let view = View::new(plane, (axis, step), &seen, &chunk);
                    send::<One<T>, R>(&view, One::get(from, 1), plane.to.cast());
                }
            }
        }
    }
}

/// Adds cotangents to the positions that get them.
#[inline(always)]
unsafe fn send<V: Register, R: Route>(
    view: &View<'_, V::Element>,
    cotangent: V,
    to: *mut V::Element,
) {
    // Two taps next to each other fill the gaps between places.
    let is_paired = view.step == 2 && view.axis.tap * view.axis.stride == 1;
    // SAFETY: taps that are inside see existing positions.
    unsafe {
        let Some(chosen) = R::choose::<V>(view) else {
            return;
        };
        for (outer, row) in view.seen.clone() {
            let share = |tap: usize| R::share(cotangent, chosen, outer * view.axis.taps + tap);
            let mut end = view.taps.end;
            while end > view.taps.start {
                if is_paired && end - view.taps.start >= 2 {
                    end -= 2;
                    let to = to.wrapping_offset(view.at(row, end));
                    share(end).add_pairs(share(end + 1), to);
                } else {
                    end -= 1;
                    let to = to.wrapping_offset(view.at(row, end));
                    let old = V::get(to, view.step);
                    old.plus(share(end)).put(to, view.step);
                }
            }
        }
    }
}
