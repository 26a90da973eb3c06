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
use crate::simd::{Simd, by_level};
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

macro_rules! by_lane {
    ($lane:expr, $kernel:ident $(, $rule:ty)?; $level:expr) => {
        match $lane {
            Lane::F32 => $kernel::<f32 $(, $rule)?>($level),
            Lane::F64 => $kernel::<f64 $(, $rule)?>($level),
            Lane::I32 => $kernel::<i32 $(, $rule)?>($level),
            Lane::I64 => $kernel::<i64 $(, $rule)?>($level),
            Lane::U8 => $kernel::<u8 $(, $rule)?>($level),
        }
    };
}

/// What reduces the windows of a plane.
pub(super) fn reducer(reduction: Reduction, lane: Lane, level: Level) -> PlaneFn {
    match reduction {
        Reduction::Sum => by_lane!(lane, folding, Sum; level),
        Reduction::Max => by_lane!(lane, folding, Largest; level),
        Reduction::Min => by_lane!(lane, folding, Smallest; level),
    }
}

/// The vjp of that.
pub(super) fn vjp(reduction: Reduction, lane: Lane, level: Level) -> PlaneFn {
    match reduction {
        Reduction::Sum => by_lane!(lane, spreading; level),
        Reduction::Max => by_lane!(lane, routing, Largest; level),
        Reduction::Min => by_lane!(lane, routing, Smallest; level),
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
    /// The taps of the last axis that are inside.
    taps: Range<usize>,
    /// Whether they fill a register.
    is_full: bool,
}

/// An iterator over the chunks of a row.
#[derive(Clone)]
struct Chunks {
    axis: Axis,
    interior: Range<usize>,
    lanes: usize,
    place: usize,
}

impl Chunks {
    #[inline(always)]
    fn new(axis: Axis, lanes: usize) -> Self {
        Self {
            interior: axis.interior(),
            axis,
            lanes,
            place: 0,
        }
    }
}

impl Iterator for Chunks {
    type Item = Chunk;

    #[inline(always)]
    fn next(&mut self) -> Option<Chunk> {
        if self.place == self.axis.places {
            return None;
        }
        let place = self.place;
        let is_inside = self.interior.contains(&place);
        let is_full = is_inside && place + self.lanes <= self.interior.end;
        self.place += if is_full { self.lanes } else { 1 };
        let taps = if is_inside {
            0..self.axis.taps
        } else {
            self.axis.taps_at(place)
        };
        Some(Chunk {
            place,
            taps,
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
    x: *const T,
}

impl<'a, T> View<'a, T> {
    #[inline(always)]
    fn new(plane: &Plane<'a>, axis: Axis, seen: &Seen<'a>, chunk: &Chunk) -> Self {
        Self {
            seen: seen.clone(),
            axis,
            taps: chunk.taps.clone(),
            before: (axis.origin + chunk.place as isize * axis.place) * axis.stride,
            x: plane.x.cast(),
        }
    }

    /// Elements before what a tap sees of a row.
    #[inline(always)]
    fn at(&self, start: isize, tap: usize) -> isize {
        start + self.before + tap as isize * self.axis.tap * self.axis.stride
    }

    /// From the position of a place to that of the next.
    #[inline(always)]
    fn step(&self) -> isize {
        self.axis.place * self.axis.stride
    }
}

#[inline(always)]
unsafe fn fold_at<S: Simd, T: Item, F: Fold>(plane: &Plane<'_>) {
    let (axis, start) = (plane.windows.last(), T::of(plane.start));
    let chunks = Chunks::new(axis, T::In::<S>::LANES);
    for row in 0..plane.windows.rows() {
        let seen = plane.windows.seen_from(row);
        for chunk in chunks.clone() {
            let view = View::new(plane, axis, &seen, &chunk);
            let to = plane.to.cast::<T>();
            let to = to.wrapping_add(row * axis.places + chunk.place);
            // SAFETY: the caller vouches for the plane and the instructions.
            unsafe {
                if chunk.is_full {
                    folded::<T::In<S>, F>(&view, start).put(to, 1);
                } else {
                    folded::<One<T>, F>(&view, start).put(to, 1);
                }
            }
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
                total = F::fold(total, V::get(from, view.step()));
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
                let new = unsafe { V::get(from, view.step()) };
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
    let axis = plane.windows.last();
    let chunks = Chunks::new(axis, T::In::<S>::LANES);
    for row in 0..plane.windows.rows() {
        let seen = plane.windows.seen_from(row);
        for chunk in chunks.clone() {
            let view = View::new(plane, axis, &seen, &chunk);
            let from = plane.cotangents.cast::<T>();
            let from = from.wrapping_add(row * axis.places + chunk.place);
            // SAFETY: the caller vouches for the plane and the instructions.
            unsafe {
                if chunk.is_full {
                    send::<T::In<S>, R>(&view, T::In::<S>::get(from, 1), plane.to.cast());
                } else {
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
    let is_paired = view.step() == 2 && view.axis.tap * view.axis.stride == 1;
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
                    let old = V::get(to, view.step());
                    old.plus(share(end)).put(to, view.step());
                }
            }
        }
    }
}
