//! Sweeps: a program over an index space, its results stored or reduced.
//!
//! The points in row-major order are cut into tiles, and tiles are shared out
//! to the threads. A reduction prescribes the tiles: [`totals`] where the last
//! axis is reduced, [`columns`] where it is kept. Either way values are summed
//! in blocks that follow from the space and the axes alone, so neither what is
//! fused into the sweep nor the number of threads shows in the result.

mod columns;
mod elementwise;
mod totals;

use std::ops::Range;

use backprop_core::{
    Axes, Body, DType, Error, ErrorKind, Primitive, Reduction, Result, Shape, Sink, Sweep as Spec,
};

use crate::Level;
use crate::memory::Operands;
use crate::pool::{Pool, Worker};
use crate::split::Split;
use crate::tile::{
    self, Code, Entry, Frame, Lane, Loop, Reducer, Request, Results, TILE, combining,
};
use columns::Columns;
pub(crate) use elementwise::{Elementwise, Running};
use totals::Totals;

/// The most reductions in one sweep.
const REDUCTIONS: usize = 8;

/// A prepared sweep.
#[derive(Debug)]
pub(crate) struct Sweep {
    code: Code,
    work: Work,
    split: Split,
    threads: usize,
}

#[derive(Debug)]
enum Work {
    /// Results at every point, of so many.
    Points(usize, Residence),
    Totals(Totals),
    Columns(Columns),
}

/// Where operands are when a launch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Residence {
    Cache,
    /// They are worth fetching ahead.
    Memory,
}

/// Tiles that are worth being handed out apart.
const PIECE: usize = 16;

/// Operands larger than this are not expected to wait in a cache of their own core.
const CACHE: usize = 1 << 20;

impl Residence {
    fn of(body: &Body) -> Residence {
        let inputs = body.inputs.iter().map(|input| input.tensor.bytes());
        let outputs = body.outputs.iter().map(|output| output.tensor.bytes());
        if inputs.chain(outputs).sum::<usize>() > CACHE {
            Residence::Memory
        } else {
            Residence::Cache
        }
    }
}

/// One reduced output.
#[derive(Debug, Clone, Copy)]
struct Reduced {
    /// Its position among the operands written.
    write: usize,
    dtype: DType,
    reducer: Reducer,
    /// Combines tiles element by element.
    combine: Loop,
}

/// Where the sums of a space come from and go to, by kept and reduced axes.
#[derive(Debug)]
struct Fold {
    /// Sizes and strides of the kept and of the reduced axes, slowest first,
    /// the last axis of the space excepted.
    kept: Strided,
    reduced: Strided,
    /// Points of the last axis.
    width: usize,
}

/// Places that axes lead to.
#[derive(Debug, Default)]
struct Strided(Vec<(usize, usize)>);

impl Strided {
    fn count(&self) -> usize {
        self.0.iter().map(|&(size, _)| size).product()
    }

    fn at(&self, mut index: usize) -> usize {
        let mut place = 0;
        for &(size, stride) in self.0.iter().rev() {
            place += index % size * stride;
            index /= size;
        }
        place
    }
}

/// The axes of a space with neighbours of one kind merged, and those of one
/// point left out.
fn merged(space: Shape, reduced: Axes) -> Vec<(usize, bool)> {
    let mut axes: Vec<(usize, bool)> = Vec::new();
    for axis in (0..space.rank()).filter(|&axis| space.size(axis) != 1) {
        let (size, kind) = (space.size(axis), reduced.contains(axis));
        match axes.last_mut() {
            Some(last) if last.1 == kind => last.0 *= size,
            _ => axes.push((size, kind)),
        }
    }
    axes
}

impl Fold {
    /// The fold of `axes`, whose last one has been taken out as `width`.
    fn new(axes: &[(usize, bool)], width: usize) -> Fold {
        let (mut kept, mut reduced) = (Strided::default(), Strided::default());
        let mut stride = 1;
        for &(size, is_reduced) in axes.iter().rev() {
            let side = if is_reduced { &mut reduced } else { &mut kept };
            side.0.insert(0, (size, stride));
            stride *= size;
        }
        Fold {
            kept,
            reduced,
            width,
        }
    }

    /// Rows of the space, that is, points but for the last axis.
    fn rows(&self) -> usize {
        self.kept.count() * self.reduced.count()
    }
}

/// # Safety
/// As for [`Code::tile`], but for the length of the range.
unsafe fn each_tile(code: &Code, frame: &Frame, range: Range<usize>, residence: Residence) {
    let mut start = range.start;
    while start < range.end {
        let end = range.end.min(start + TILE);
        // SAFETY: handed on.
        unsafe {
            if residence == Residence::Memory {
                code.prefetch(frame, end..range.end.min(end + TILE));
            }
            code.tile(frame, start..end, 0..0);
        }
        start = end;
    }
}

fn request(body: &Body, space: Shape, (external, level): (usize, Level)) -> Request<'_> {
    Request {
        body,
        space,
        external,
        row_axes: Axes::NONE,
        capacity: TILE,
        within: None,
        results: Results::Left,
        level,
    }
}

/// Additions that a point costs.
pub(crate) fn cost(body: &Body, level: Level) -> usize {
    let code = body.program.code().iter();
    let step = |&(inst, dtype): &(_, DType)| match inst {
        backprop_core::Inst::Apply(scalar, _) => {
            let fast = tile::function(scalar, Lane::of(dtype), level).is_some();
            if fast {
                scalar.cost()
            } else {
                100 * scalar.cost()
            }
        }
        _ => 1,
    };
    code.map(step).sum::<usize>() + body.outputs.len()
}

/// The axes that all reduced outputs are reduced over; `None` where they differ.
fn common_axes(spec: &Spec) -> Option<Option<Axes>> {
    let mut common = None;
    for output in &spec.body.outputs {
        if let Sink::Reduce(_, axes) = output.sink {
            if common.is_some_and(|common| common != axes) {
                return None;
            }
            common = Some(axes);
        }
    }
    Some(common)
}

/// The loop that combines values of a type.
pub(crate) fn combine(reduction: Reduction, dtype: DType, level: Level) -> Result<Loop, String> {
    let (scalar, lane) = combining(reduction, dtype);
    tile::function(scalar, lane, level).ok_or_else(|| format!("{reduction} of {dtype}"))
}

fn reductions(body: &Body, level: Level) -> Result<Vec<Reduced>, String> {
    let mut reductions = Vec::new();
    for (write, output) in body.outputs.iter().enumerate() {
        if let Sink::Reduce(reduction, _) = output.sink {
            let dtype = output.tensor.dtype;
            reductions.push(Reduced {
                write,
                dtype,
                reducer: Reducer::new(reduction, Lane::of(dtype), level),
                combine: combine(reduction, dtype, level)?,
            });
        }
    }
    if reductions.len() > REDUCTIONS {
        return Err(format!("{} reductions", reductions.len()));
    }
    Ok(reductions)
}

/// Whether a sweep can be prepared.
pub(crate) fn supports(spec: &Spec) -> bool {
    let outputs = &spec.body.outputs;
    let reduced = |output: &&backprop_core::Output| matches!(output.sink, Sink::Reduce(..));
    let whole = |output: &backprop_core::Output| !matches!(output.sink, Sink::Concat(_));
    common_axes(spec).is_some()
        && outputs.iter().all(whole)
        && outputs.iter().filter(reduced).count() <= REDUCTIONS
}

impl Work {
    fn scratch(&self) -> usize {
        match self {
            Work::Points(..) => 0,
            Work::Totals(totals) => totals.partial_bytes(),
            Work::Columns(columns) => columns.scratch(),
        }
    }

    /// Whether there are partial results to combine.
    fn has_partials(&self) -> bool {
        match self {
            Work::Points(..) => false,
            Work::Totals(totals) => totals.partial_bytes() > 0,
            Work::Columns(columns) => columns.has_partials(),
        }
    }
}

impl Sweep {
    pub(crate) fn new(spec: &Spec, level: Level, threads: usize) -> Result<Sweep> {
        Sweep::lowered(spec, level, threads).map_err(|what| {
            Error::new(ErrorKind::Unsupported {
                backend: format!("cpu ({what})"),
                primitive: Primitive::Sweep(spec.clone()).to_string(),
            })
        })
    }

    fn lowered(spec: &Spec, level: Level, threads: usize) -> Result<Sweep, String> {
        let mut request = request(&spec.body, spec.space, (0, level));
        let axes = common_axes(spec).ok_or("reductions over different axes")?;
        let reductions = reductions(&spec.body, level)?;
        let residence = Residence::of(&spec.body);
        let work = match axes.map(|axes| merged(spec.space, axes)) {
            None => Work::Points(spec.space.count(), residence),
            Some(axes) => match axes.split_last() {
                Some((&(width, true), outer)) => {
                    Work::Totals(Totals::new(Fold::new(outer, width), reductions, residence))
                }
                Some((&(width, false), outer)) if !outer.is_empty() => {
                    let fold = Fold::new(outer, width);
                    let columns = Columns::new(fold, reductions, (residence, threads));
                    columns.ask(&mut request);
                    Work::Columns(columns)
                }
                // Nothing is reduced: every point is its own total.
                _ => Work::Totals(Totals::new(Fold::new(&axes, 1), reductions, residence)),
            },
        };
        let code = tile::lower(&request)?;
        let split = Split::of(spec.space.count().saturating_mul(cost(&spec.body, level)));
        Ok(Sweep {
            code,
            work,
            split,
            threads,
        })
    }

    /// The program at each point.
    pub(crate) fn program(&mut self) -> &mut Code {
        &mut self.code
    }

    /// Bytes of scratch: frames of the threads, then partial results.
    pub(crate) fn scratch(&self) -> usize {
        self.frames() + self.work.scratch()
    }

    fn frames(&self) -> usize {
        (self.code.scratch() * self.threads).next_multiple_of(64)
    }

    /// # Safety
    /// The operands are those of a checked launch of the spec.
    pub(crate) unsafe fn run(&self, pool: &Pool, operands: &Operands<'_>) -> Result<()> {
        // SAFETY: handed on.
        self.split
            .run(pool, &|worker| unsafe { self.work(worker, operands) })
    }

    /// One worker's share.
    ///
    /// # Safety
    /// As for [`Sweep::run`], and all workers of the job come here.
    unsafe fn work(&self, worker: Worker<'_>, operands: &Operands<'_>) {
        let scratch = operands.scratch();
        let points = match &self.work {
            Work::Points(count, _) => TILE.min(*count),
            Work::Totals(totals) => totals.tile_points(),
            Work::Columns(columns) => columns.tile_points(),
        };
        let entry = Entry {
            operands,
            first_read: 0,
            external: std::ptr::null(),
            scratch: scratch.wrapping_add(self.code.scratch() * worker.id()),
            points,
            width: 0,
        };
        let partials = scratch.wrapping_add(self.frames());
        // SAFETY: workers have disjoint shares of the points and of the partial
        // results, which lie in the scratch memory (P4).
        unsafe {
            self.code.run(&entry, |frame| match &self.work {
                Work::Points(count, residence) => {
                    for tiles in worker.pieces(count.div_ceil(TILE), PIECE) {
                        let range = tiles.start * TILE..(tiles.end * TILE).min(*count);
                        each_tile(&self.code, frame, range, *residence);
                    }
                }
                Work::Totals(totals) => totals.sum(&self.code, frame, (worker, operands), partials),
                Work::Columns(columns) => {
                    columns.sum(&self.code, frame, (worker, operands), partials);
                }
            });
            if !self.work.has_partials() {
                return;
            }
            worker.barrier();
            match &self.work {
                Work::Points(..) => {}
                Work::Totals(totals) => totals.combine(worker, operands, partials),
                Work::Columns(columns) => columns.combine(worker, operands, partials),
            }
        }
    }
}
