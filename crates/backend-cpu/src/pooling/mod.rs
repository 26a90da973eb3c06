//! Reduced windows and their vjps.
//!
//! Planes are shared out, and computed in the type of a tile ([`kernels`]): planes of 16-bit floats
//! are widened as a whole, and narrowed again at the end.

mod kernels;
mod register;

use backprop_core::{
    DType, Error, ErrorKind, Pool as Spec, Primitive, Reduction, Result, Source, View,
};

use crate::Level;
use crate::memory::{LINE, Operands};
use crate::pool::{Pool, Worker};
use crate::split::Split;
use crate::tile::{Lane, Load, is_native, load, store};
use crate::windows::{Axis, Windows};
use kernels::{Plane, PlaneFn, reducer, vjp};

/// The most taps of a window: f32 can count them.
const TAPS: usize = 1 << 24;

/// A prepared reduction of windows, or its vjp.
#[derive(Debug)]
pub(crate) struct Pooling {
    kernel: PlaneFn,
    is_vjp: bool,
    /// Where a reduction begins.
    start: f64,
    dtype: DType,
    windows: Windows,
    /// Planes of the operands, and of the result.
    operands: Vec<Planes>,
    result: Planes,
    /// Elements come out of memory with this.
    load: Load,
    split: Split,
    threads: usize,
}

/// How planes lie.
#[derive(Debug, Clone)]
struct Planes {
    /// Elements before the first one.
    offset: usize,
    /// Sizes of the axes without windows, and elements from one step to the next.
    leading: Vec<(usize, isize)>,
    /// The same of a plane.
    axes: Vec<(usize, isize)>,
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
    let vjp = !is_vjp || (planes && spec.result.dtype != DType::Bool);
    let taps = spec.windows.iter().map(|window| window.size);
    let few = taps.fold(1, usize::saturating_mul) < TAPS;
    few && vjp && spec.result.layout.is_dense() && spec.operands.iter().all(dense)
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

/// The level whose registers take a row of places in the fewest pieces, up to the given one: what does
/// not fill a register is taken one by one.
fn fitting(level: Level, windows: &Windows, lane: Lane) -> Level {
    let places = windows.interior().len();
    let pieces = |level: &Level| {
        let lanes = (level.bytes() / lane.size()).max(1);
        places / lanes + places % lanes
    };
    let narrower = Level::ALL.into_iter().filter(|narrower| *narrower <= level);
    let available = narrower.filter(|level| level.is_available());
    available.min_by_key(pieces).unwrap_or(level)
}

impl Planes {
    fn of(view: &View, leading: usize) -> Self {
        let axes = (0..view.shape.rank()).map(|axis| (view.shape.size(axis), view.strides[axis]));
        let mut axes: Vec<_> = axes.collect();
        Self {
            offset: view.offset,
            axes: axes.split_off(leading),
            leading: axes,
        }
    }

    fn count(&self) -> usize {
        self.leading.iter().map(|axis| axis.0).product()
    }

    /// Elements of a plane.
    fn elements(&self) -> usize {
        self.axes.iter().map(|axis| axis.0).product()
    }

    /// Elements before a plane.
    fn start(&self, plane: usize) -> isize {
        self.offset as isize + walk(&self.leading, plane)
    }
}

/// Elements before element number `index`.
fn walk(axes: &[(usize, isize)], mut index: usize) -> isize {
    let mut at = 0;
    for &(size, stride) in axes.iter().rev() {
        at += (index % size) as isize * stride;
        index /= size;
    }
    at
}

impl Pooling {
    /// Prepares a reduction or a vjp for at most so many threads.
    pub(crate) fn new(
        primitive: &Primitive,
        spec: &Spec,
        (level, threads): (Level, usize),
    ) -> Result<Pooling> {
        if !supports(primitive) {
            return Err(Error::new(ErrorKind::Unsupported {
                backend: "cpu (operands that do not lie in order)".into(),
                primitive: primitive.to_string(),
            }));
        }
        let dtype = spec.result.dtype;
        let leading = spec.output.rank() - spec.spatial();
        let (reduction, is_vjp) = (spec.reduction, matches!(primitive, Primitive::PoolVjp(_)));
        let dense = View::dense(spec.input);
        let view = match spec.operands.as_slice() {
            [x] if !is_vjp && is_native(dtype) => &x.view,
            _ => &dense,
        };
        let windows = windows(spec, leading, &view.strides);
        let kernel = if is_vjp { vjp } else { reducer };
        let lane = Lane::of(dtype);
        let visits = spec.output.count().saturating_mul(windows.taps());
        let operands = spec.operands.iter();
        Ok(Pooling {
            kernel: kernel(reduction, lane, fitting(level, &windows, lane)),
            is_vjp,
            start: start(reduction, dtype),
            dtype,
            operands: operands
                .map(|source| Planes::of(&source.view, leading))
                .collect(),
            result: Planes::of(&View::dense(spec.result.shape), leading),
            load: load(dtype, level),
            split: Split::of(visits.saturating_mul(2)),
            windows,
            threads,
        })
    }

    /// Bytes of scratch: where elements are wider in a tile, each worker has planes of its own.
    pub(crate) fn scratch(&self) -> usize {
        if is_native(self.dtype) {
            return 0;
        }
        let planes = self.operands.iter().chain([&self.result]);
        self.threads * planes.map(|planes| self.wide(planes)).sum::<usize>()
    }

    /// Bytes of a plane of this worker's.
    fn wide(&self, planes: &Planes) -> usize {
        (planes.elements() * Lane::of(self.dtype).size()).next_multiple_of(LINE)
    }

    /// # Safety
    /// The operands are those of a checked launch of the spec.
    pub(crate) unsafe fn run(&self, pool: &Pool, operands: &Operands<'_>) -> Result<()> {
        // SAFETY: handed on.
        self.split
            .run(pool, &|worker| unsafe { self.share(worker, operands) })
    }

    /// One worker's share of the planes.
    unsafe fn share(&self, worker: Worker<'_>, operands: &Operands<'_>) {
        let (size, elements) = (self.dtype.size(), self.result.elements());
        let own = self.scratch() / self.threads.max(1) * worker.id();
        for plane in worker.items(self.result.count()) {
            let result = operands.write(0).wrapping_add(plane * elements * size);
            let mut room = operands.scratch().wrapping_add(own);
            // SAFETY: by P4 views stay inside of the operands and the scratch memory is as large
            // as asked for; by P3 nothing else touches it or the result, which is shared out.
            unsafe {
                let mut from = [std::ptr::null(); 2];
                for (k, planes) in self.operands.iter().enumerate() {
                    let at = planes.start(plane) * size as isize;
                    let stored = operands.read(k).wrapping_offset(at);
                    from[k] = stored;
                    if !is_native(self.dtype) {
                        self.widen(planes, stored, room);
                        from[k] = room;
                        room = room.wrapping_add(self.wide(planes));
                    }
                }
                let to = if is_native(self.dtype) { result } else { room };
                if self.is_vjp {
                    to.write_bytes(0, elements * Lane::of(self.dtype).size());
                }
                let [first, second] = from;
                let (x, cotangents) = match self.operands.len() {
                    1 if self.is_vjp => (std::ptr::null(), first),
                    _ => (first, second),
                };
                (self.kernel)(&Plane {
                    windows: &self.windows,
                    x,
                    cotangents,
                    to,
                    start: self.start,
                });
                if !is_native(self.dtype) {
                    store(self.dtype, result, to, elements);
                }
            }
        }
    }

    /// A dense copy of a plane, as wide as in a tile.
    unsafe fn widen(&self, planes: &Planes, from: *const u8, to: *mut u8) {
        let (axes, (count, step)) = match planes.axes.split_last() {
            Some((&last, axes)) => (axes, last),
            None => (planes.axes.as_slice(), (1, 1)),
        };
        let rows: usize = axes.iter().map(|axis| axis.0).product();
        for row in 0..rows {
            let from = from.wrapping_offset(walk(axes, row) * self.dtype.size() as isize);
            let to = to.wrapping_add(row * count * Lane::of(self.dtype).size());
            // SAFETY: the rows of the plane, and as many of the copy.
            unsafe { (self.load)(to, from, step, count) };
        }
    }
}
