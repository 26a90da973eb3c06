//! Reduced windows and their vjps.
//!
//! Tap by tap, so that what is combined are runs of neighbours: a tile of places for the reduction,
//! a whole plane of the result for the vjps, whose planes are shared out. For each position the vjp
//! of a sum takes the taps from the last to the first, which is the order of the places that they
//! see it from.

use std::ops::Range;

use backprop_core::{
    DType, Error, ErrorKind, Pool as Spec, Primitive, Reduction, Result, Shape, Source, View,
};

use crate::Level;
use crate::memory::Operands;
use crate::pool::{Pool, Worker};
use crate::simd::{Simd, by_level};
use crate::split::Split;
use crate::sweep::combine;
use crate::tile::{Lane, Load, Loop, TILE, Values, fill, is_native, load, store};
use crate::windows::{Axis, Windows};

/// Where planes of a worker's scratch memory begin: at multiples of a cache line.
const LINE: usize = 64;
/// The position of a window that is outside.
const NOWHERE: u32 = u32::MAX;

/// A prepared reduction of windows, or its vjp.
#[derive(Debug)]
pub(crate) struct Pooling {
    work: Work,
    dtype: DType,
    windows: Windows,
    /// Sizes of the axes without windows, and bytes per step of each operand.
    leading: Vec<(usize, [isize; 2])>,
    /// Bytes before the first element of each operand.
    offsets: [usize; 2],
    /// Positions in a plane.
    positions: usize,
    load: Load,
    /// How elements come out of a plane of sums.
    load_sum: Load,
    combine: Loop,
    split: Split,
    threads: usize,
}

#[derive(Debug)]
enum Work {
    /// From this number on.
    Reduce(f64),
    /// Cotangents go to all positions of a window.
    Spread,
    /// Cotangents go to the first position that holds the result.
    Route { choose: Choose, add: Add },
}

/// Takes in a run of values, the first of which is at a position, the others in steps from there:
/// the best one and its position for each place.
type Choose = unsafe fn(&Candidates);
/// Adds numbers to those at some positions.
type Add = unsafe fn(*mut u8, *const u8, &[u32]);

/// A run of values that compete for their places.
#[derive(Debug)]
struct Candidates {
    best: *mut u8,
    positions: *mut u32,
    values: *const u8,
    count: usize,
    first: u32,
    step: u32,
}

/// Strides of the axes before and after the first one with windows.
fn strides(source: &Source, leading: usize) -> (&[isize], Vec<(usize, isize)>) {
    let (view, rank) = (&source.view, source.view.shape.rank());
    let axes = (leading..rank).map(|axis| (view.shape.size(axis), view.strides[axis]));
    (
        &view.strides[..leading],
        axes.filter(|axis| axis.0 != 1).collect(),
    )
}

/// Whether the axes with windows lie in order, without gaps.
fn is_plane(source: &Source, leading: usize) -> bool {
    let (_, axes) = strides(source, leading);
    let mut next = 1;
    axes.iter().rev().all(|&(size, stride)| {
        let fits = stride == next;
        next *= size as isize;
        fits
    })
}

/// Whether [`Pooling::new`] can prepare this.
pub(crate) fn supports(candidate: &Primitive) -> bool {
    let (spec, is_vjp) = match candidate {
        Primitive::Pool(spec) => (spec, false),
        Primitive::PoolVjp(spec) => (spec, true),
        _ => return false,
    };
    let leading = spec.output.rank() - spec.spatial();
    let dense = |source: &Source| source.tensor.layout.is_dense();
    let planes = spec.operands.iter().all(|source| is_plane(source, leading));
    let positions = spec.input.count() < NOWHERE as usize;
    let forward = !is_vjp || (planes && positions && spec.result.dtype != DType::Bool);
    forward && spec.result.layout.is_dense() && spec.operands.iter().all(dense)
}

/// Where a reduction of elements of a type begins.
fn start(reduction: Reduction, dtype: DType) -> f64 {
    match (reduction, dtype) {
        (Reduction::Sum, _) | (Reduction::Max, DType::Bool) => 0.0,
        (Reduction::Max, _) => f64::NEG_INFINITY,
        (Reduction::Min, _) => f64::INFINITY,
    }
}

/// The windows over positions with these strides.
fn windows(spec: &Spec, leading: usize, strides: &[isize]) -> Windows {
    let axis = |(i, window): (usize, &backprop_core::Window)| Axis {
        places: spec.output.size(leading + i),
        taps: window.size,
        size: spec.input.size(leading + i),
        stride: strides[leading + i],
        origin: -(window.padding as isize),
        place: window.stride as isize,
        tap: window.dilation as isize,
    };
    Windows::new(spec.windows.iter().enumerate().map(axis).collect())
}

impl Pooling {
    /// Prepares a reduction or a vjp for at most so many threads.
    pub(crate) fn new(
        primitive: &Primitive,
        spec: &Spec,
        (level, threads): (Level, usize),
    ) -> Result<Pooling> {
        Pooling::prepared(primitive, spec, (level, threads)).map_err(|what| {
            Error::new(ErrorKind::Unsupported {
                backend: format!("cpu ({what})"),
                primitive: primitive.to_string(),
            })
        })
    }

    fn prepared(
        primitive: &Primitive,
        spec: &Spec,
        (level, threads): (Level, usize),
    ) -> Result<Pooling, String> {
        if !supports(primitive) {
            return Err("operands that do not lie in order".into());
        }
        let dtype = spec.result.dtype;
        let leading = spec.output.rank() - spec.spatial();
        let (reduction, is_vjp) = (spec.reduction, matches!(primitive, Primitive::PoolVjp(_)));
        let dense = View::dense(spec.input);
        let (work, strides) = match (reduction, spec.operands.as_slice()) {
            (_, [x]) if !is_vjp => (Work::Reduce(start(reduction, dtype)), x.view.strides),
            (Reduction::Sum, _) => (Work::Spread, dense.strides),
            _ => {
                let (choose, add) = routes(reduction, Lane::of(dtype), level);
                (Work::Route { choose, add }, dense.strides)
            }
        };
        let combined = if is_vjp { Reduction::Sum } else { reduction };
        let bytes = |k: usize, axis: usize| {
            let operand = spec.operands.get(k);
            operand.map_or(0, |source| {
                source.view.strides[axis] * dtype.size() as isize
            })
        };
        let offset = |k: usize| {
            let operand = spec.operands.get(k);
            operand.map_or(0, |source| source.view.offset * dtype.size())
        };
        let plane: Shape = spec.input.sizes()[leading..].iter().copied().collect();
        let windows = windows(spec, leading, &strides);
        let visits = spec.output.count().saturating_mul(windows.taps());
        Ok(Pooling {
            work,
            dtype,
            leading: (0..leading)
                .map(|axis| (spec.input.size(axis), [bytes(0, axis), bytes(1, axis)]))
                .collect(),
            offsets: [offset(0), offset(1)],
            positions: plane.count(),
            load: load(dtype, level),
            load_sum: load(dtype.accumulator(), level),
            combine: combine(combined, dtype, level)?,
            split: Split::of(visits.saturating_mul(2)),
            windows,
            threads,
        })
    }

    /// Bytes of scratch: 16-bit sums grow in f32, a plane for each worker.
    pub(crate) fn scratch(&self) -> usize {
        match self.work {
            Work::Reduce(_) => 0,
            _ if is_native(self.dtype) => 0,
            _ => self.threads * self.plane_bytes(),
        }
    }

    fn plane_bytes(&self) -> usize {
        (self.positions * Lane::of(self.dtype).size()).next_multiple_of(LINE)
    }

    /// # Safety
    /// The operands are those of a checked launch of the spec.
    pub(crate) unsafe fn run(&self, pool: &Pool, operands: &Operands<'_>) -> Result<()> {
        // SAFETY: handed on.
        self.split
            .run(pool, &|worker| unsafe { self.share(worker, operands) })
    }

    /// One worker's share: pieces of planes, or planes.
    unsafe fn share(&self, worker: Worker<'_>, operands: &Operands<'_>) {
        let planes: usize = self.leading.iter().map(|axis| axis.0).product();
        let places = self.windows.places();
        // SAFETY: by P4 views stay inside of the operands and the scratch memory is as large as
        // asked for; by P3 nothing else touches it or the result, which is shared out.
        unsafe {
            if let Work::Reduce(start) = self.work {
                let tiles = places.div_ceil(TILE);
                for task in worker.share(planes * tiles) {
                    let (plane, first) = (task / tiles, task % tiles * TILE);
                    let range = first..places.min(first + TILE);
                    self.reduce(operands, plane, range, start);
                }
                return;
            }
            for plane in worker.share(planes) {
                let size = self.dtype.size();
                let result = operands.write(0).add(plane * self.positions * size);
                let sums = if is_native(self.dtype) {
                    result
                } else {
                    operands.scratch().add(worker.id() * self.plane_bytes())
                };
                sums.write_bytes(0, self.positions * Lane::of(self.dtype).size());
                match self.work {
                    Work::Route { choose, add } => {
                        self.route(operands, plane, sums, (choose, add));
                    }
                    _ => self.spread(operands, plane, sums),
                }
                if !is_native(self.dtype) {
                    store(self.dtype, result, sums, self.positions);
                }
            }
        }
    }

    /// Where a plane of operand `k` begins.
    fn plane(&self, operands: &Operands<'_>, k: usize, mut plane: usize) -> *const u8 {
        let mut at = operands.read(k).wrapping_add(self.offsets[k]);
        for &(size, strides) in self.leading.iter().rev() {
            at = at.wrapping_offset((plane % size) as isize * strides[k]);
            plane /= size;
        }
        at
    }

    /// `count` values from `from` on, as they are or in `tile`.
    unsafe fn values(
        &self,
        from: *const u8,
        (step, count): (isize, usize),
        tile: *mut u8,
    ) -> *const u8 {
        if is_native(self.dtype) && step == 1 {
            return from;
        }
        // SAFETY: the caller passes `count` elements, at most a tile.
        unsafe { (self.load)(tile, from, step, count) };
        tile
    }

    unsafe fn reduce(
        &self,
        operands: &Operands<'_>,
        plane: usize,
        places: Range<usize>,
        start: f64,
    ) {
        let (size, lane) = (self.dtype.size(), Lane::of(self.dtype).size());
        let step = self.windows.step();
        let mut tiles = [[0u64; TILE]; 2];
        let [totals, loaded] = tiles.each_mut().map(|tile| tile.as_mut_ptr().cast::<u8>());
        let from = self.plane(operands, 0, plane);
        // SAFETY: runs visit existing positions; a tile holds any lane.
        unsafe {
            fill(self.dtype, start, totals, places.len());
            for tap in 0..self.windows.taps() {
                for run in self.windows.runs(tap, &places) {
                    let Some(at) = run.from else { continue };
                    let from = from.wrapping_offset(at * size as isize);
                    let values = self.values(from, (step, run.len), loaded);
                    let to = totals.add(run.at * lane);
                    (self.combine)(to, [to, values, to].map(Values::each), run.len);
                }
            }
            let first = plane * self.windows.places() + places.start;
            let to = operands.write(0).add(first * size);
            store(self.dtype, to, totals, places.len());
        }
    }

    /// Calls `each` with tiles of places: the first one, and the values of `k` there.
    unsafe fn each_tile(&self, from: *const u8, mut each: impl FnMut(Range<usize>, *const u8)) {
        let places = self.windows.places();
        let mut tile = [0u64; TILE];
        for first in (0..places).step_by(TILE) {
            let range = first..places.min(first + TILE);
            let from = from.wrapping_add(first * self.dtype.size());
            // SAFETY: the caller passes a plane of places.
            let values = unsafe { self.values(from, (1, range.len()), tile.as_mut_ptr().cast()) };
            each(range, values);
        }
    }

    unsafe fn spread(&self, operands: &Operands<'_>, plane: usize, sums: *mut u8) {
        let lane = Lane::of(self.dtype).size();
        let (step, places) = (self.windows.step(), self.windows.places());
        let mut tiles = [[0u64; TILE]; 2];
        let [loaded, added] = tiles.each_mut().map(|tile| tile.as_mut_ptr().cast::<u8>());
        let from = self.plane(operands, 0, plane);
        for tap in (0..self.windows.taps()).rev() {
            for run in self.windows.runs(tap, &(0..places)) {
                let Some(to) = run.from else { continue };
                for first in (0..run.len).step_by(TILE) {
                    let count = (run.len - first).min(TILE);
                    let place = run.at + first;
                    // SAFETY: runs visit existing positions; tiles hold any lane.
                    unsafe {
                        let from = from.wrapping_add(place * self.dtype.size());
                        let values = self.values(from, (1, count), loaded);
                        let to = (to + first as isize * step) as usize;
                        let to = sums.add(to * lane);
                        if step == 1 {
                            (self.combine)(to, [to, values, to].map(Values::each), count);
                        } else {
                            (self.load_sum)(added, to, step, count);
                            let operands = [added, values, added].map(Values::each);
                            (self.combine)(added, operands, count);
                            put_apart(to, added, (step, count), lane);
                        }
                    }
                }
            }
        }
    }

    unsafe fn route(
        &self,
        operands: &Operands<'_>,
        plane: usize,
        sums: *mut u8,
        (choose, add): (Choose, Add),
    ) {
        let (size, lane) = (self.dtype.size(), Lane::of(self.dtype).size());
        let step = self.windows.step();
        let mut tiles = [[0u64; TILE]; 2];
        let [best, loaded] = tiles.each_mut().map(|tile| tile.as_mut_ptr().cast::<u8>());
        let mut positions = [NOWHERE; TILE];
        let from = self.plane(operands, 0, plane);
        let cotangents = self.plane(operands, 1, plane);
        // SAFETY: runs visit existing positions, of the operand and of the sums; tiles hold any
        // lane.
        unsafe {
            self.each_tile(cotangents, |places, values| {
                let positions = &mut positions[..places.len()];
                positions.fill(NOWHERE);
                for tap in 0..self.windows.taps() {
                    for run in self.windows.runs(tap, &places) {
                        let Some(at) = run.from else { continue };
                        let from = from.wrapping_offset(at * size as isize);
                        choose(&Candidates {
                            best: best.add(run.at * lane),
                            positions: positions.as_mut_ptr().add(run.at),
                            values: self.values(from, (step, run.len), loaded),
                            count: run.len,
                            first: at as u32,
                            step: step as u32,
                        });
                    }
                }
                add(sums, values, positions);
            });
        }
    }
}

/// Stores elements of a tile `step` elements apart.
unsafe fn put_apart(to: *mut u8, from: *const u8, (step, count): (isize, usize), size: usize) {
    unsafe fn put<T>(to: *mut T, from: *const T, step: isize, count: usize) {
        for i in 0..count {
            // SAFETY: the caller passes `count` elements on both sides.
            unsafe { to.offset(i as isize * step).write(from.add(i).read()) };
        }
    }
    // SAFETY: handed on.
    unsafe {
        match size {
            1 => put(to, from, step, count),
            4 => put::<u32>(to.cast(), from.cast(), step, count),
            _ => put::<u64>(to.cast(), from.cast(), step, count),
        }
    }
}

/// A number in a tile.
trait Item: Copy + PartialOrd {
    fn plus(self, other: Self) -> Self;
    fn is_nan(self) -> bool;
}

macro_rules! items {
    ($($t:ident: $plus:expr, $is_nan:expr;)*) => { $(
        impl Item for $t {
            #[inline(always)]
            fn plus(self, other: Self) -> Self { $plus(self, other) }
            #[inline(always)]
            fn is_nan(self) -> bool { $is_nan(self) }
        }
    )* };
}
items! {
    f32: |a, b| a + b, f32::is_nan;
    f64: |a, b| a + b, f64::is_nan;
    i32: i32::wrapping_add, |_| false;
    i64: i64::wrapping_add, |_| false;
    u8: u8::wrapping_add, |_| false;
}

/// Which of two numbers a reduction keeps.
trait Rank {
    fn is_better<T: Item>(new: T, old: T) -> bool;
}

struct Largest;
impl Rank for Largest {
    #[inline(always)]
    fn is_better<T: Item>(new: T, old: T) -> bool {
        new > old
    }
}

struct Smallest;
impl Rank for Smallest {
    #[inline(always)]
    fn is_better<T: Item>(new: T, old: T) -> bool {
        new < old
    }
}

by_level! { fn chooser[T: Item, R: Rank][T, R](candidates: &Candidates) = choose_at; }

#[inline(always)]
unsafe fn choose_at<S: Simd, T: Item, R: Rank>(candidates: &Candidates) {
    let mut position = candidates.first;
    for i in 0..candidates.count {
        // SAFETY: the caller passes `count` places and values.
        unsafe {
            let new = candidates.values.cast::<T>().add(i).read();
            let best = candidates.best.cast::<T>().add(i);
            let chosen = candidates.positions.add(i);
            let old = best.read();
            let better = R::is_better(new, old) | (new.is_nan() & !old.is_nan());
            let taken = better | (chosen.read() == NOWHERE);
            best.write(if taken { new } else { old });
            chosen.write(if taken { position } else { chosen.read() });
        }
        position = position.wrapping_add(candidates.step);
    }
}

unsafe fn add_at<T: Item>(sums: *mut u8, values: *const u8, positions: &[u32]) {
    let (sums, values): (*mut T, *const T) = (sums.cast(), values.cast());
    for (i, &position) in positions.iter().enumerate() {
        if position != NOWHERE {
            // SAFETY: the position lies in the plane, and there is a value for each.
            unsafe {
                let sum = sums.add(position as usize);
                sum.write(sum.read().plus(values.add(i).read()));
            }
        }
    }
}

/// How cotangents find their way back through a maximum or minimum.
fn routes(reduction: Reduction, lane: Lane, level: Level) -> (Choose, Add) {
    macro_rules! of {
        ($t:ty) => {
            match reduction {
                Reduction::Min => (chooser::<$t, Smallest>(level), add_at::<$t> as Add),
                _ => (chooser::<$t, Largest>(level), add_at::<$t> as Add),
            }
        };
    }
    match lane {
        Lane::F32 => of!(f32),
        Lane::F64 => of!(f64),
        Lane::I32 => of!(i32),
        Lane::I64 => of!(i64),
        Lane::U8 => of!(u8),
    }
}
