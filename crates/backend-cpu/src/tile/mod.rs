//! The tile interpreter: how programs run, except for what becomes machine code.
//!
//! A program is lowered once, when its kernel is prepared, to steps that each
//! are one tight loop over a tile: a few hundred consecutive points whose
//! values fit the innermost cache. Choosing the loop costs a call per tile,
//! not per point, and intermediate values never leave that cache.
//!
//! Operands are found through a table of places. A place is a piece of the
//! worker's own frame, or it slides along with the tile over an operand in
//! memory, so that most loads and stores need no step of their own.

mod chain;
mod formula;
mod functions;
mod lane;
mod lower;
mod narrow;
mod native;
mod operand;
mod reduce;
mod walk;

use std::mem::MaybeUninit;
use std::ops::Range;

use backprop_core::{DType, Scalar};

use crate::memory::Operands;
use crate::simd::fetch_first;
use formula::Formula;
use functions::ABREAST;
pub(crate) use functions::{Loop, Values, function};
pub(crate) use lane::{Lane, Load, cast, fill, is_native, load, store};
pub(crate) use lower::{Request, Results, lower};
use native::Native;
use operand::{Cycle, Loader, Slide, Source, Uniform, UniformValue};
pub(crate) use reduce::{CHUNK, Reducer, Total, combining};
pub(crate) use walk::Walk;

/// Points in a tile. Reductions sum blocks of this many points, so it is part
/// of what results depend on.
pub(crate) const TILE: usize = 256;

/// Frames up to this size live on the stack of the thread that runs.
const STACK: usize = 32 << 10;

/// Which register of a tile: an index into the table of places.
type Place = usize;

/// What a step reads: a place, and how far it moves from one point to the next (0 where all points
/// have the same value).
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    place: Place,
    step: usize,
}

/// How many elements a register has in a tile: one a point, or one a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Domain {
    Points,
    Rows,
}

/// An operand of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    Read(usize),
    Write(usize),
    /// Handed over with the range of points (the sums of a contraction).
    External,
}

/// What a step does.
#[derive(Debug)]
enum Action {
    Map {
        run: Loop,
        from: [Taken; 3],
        /// What the loop computes, where that can also be done by machine code.
        formula: Option<Formula>,
    },
    /// Several steps in machine code.
    Native(Native),
    Evaluate {
        function: (Scalar, Lane),
        from: [Taken; 3],
    },
    Load(Loader),
    /// One value a row becomes one a point.
    Spread {
        load: Load,
        size: usize,
        from: Place,
    },
    /// One value a point becomes one a row.
    Reduce {
        reducer: Reducer,
        dtype: DType,
        from: Place,
    },
}

#[derive(Debug)]
struct Step {
    action: Action,
    to: Place,
    domain: Domain,
}

/// A register that is copied to memory after the steps, or computed there.
#[derive(Debug)]
struct Stored {
    from: Place,
    base: usize,
    dtype: DType,
    domain: Domain,
    /// For a register that may be computed where it is stored: the bases of inputs that are read
    /// after it, none of which may lie there.
    rivals: Option<Box<[usize]>>,
}

/// A lowered program.
#[derive(Debug)]
pub(crate) struct Code {
    steps: Vec<Step>,
    slides: Vec<Slide>,
    cycles: Vec<Cycle>,
    uniforms: Vec<Uniform>,
    stored: Vec<Stored>,
    /// The places of reduced outputs: of their values, or of the sums to which these are added.
    reduced: Vec<Place>,
    /// Places that hold one value all over a tile.
    level: Vec<Place>,
    /// The operands that bases stand for.
    bases: Vec<Operand>,
    /// For each place, its bytes from the start of the tiles (0 for a slide).
    places: Vec<usize>,
    tile_bytes: usize,
    capacity: usize,
    /// Points of the whole space.
    points: usize,
}

/// The memory of a worker while it runs a program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    table: *mut *mut u8,
    bases: *mut *mut u8,
    tiles: *mut u8,
    /// Points of a row, where there are rows.
    width: usize,
    /// One bit for each of the first stored registers: whether it is computed where it is stored.
    direct: u64,
}

/// What a worker runs a program on.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) operands: &'a Operands<'a>,
    /// The program's first input among the launch's reads.
    pub(crate) first_read: usize,
    /// Where point 0 of the external input would be.
    pub(crate) external: *const u8,
    /// Memory for the frame, where it is too large for the stack.
    pub(crate) scratch: *mut u8,
    /// The most points of a tile that will be run.
    pub(crate) points: usize,
    /// Points of a row, where there are rows.
    pub(crate) width: usize,
}

/// A cache line, so that frames on the stack are aligned like others.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line {
    _bytes: [MaybeUninit<u8>; 64],
}

impl Code {
    /// Scratch memory that each worker needs.
    pub(crate) fn scratch(&self) -> usize {
        let bytes = self.frame_bytes();
        if bytes > STACK { bytes } else { 0 }
    }

    fn table_bytes(&self) -> usize {
        (self.places.len() + self.bases.len()) * size_of::<*mut u8>()
    }

    fn frame_bytes(&self) -> usize {
        self.table_bytes().next_multiple_of(64) + self.tile_bytes
    }

    /// The most points of a tile.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Calls `work` with a frame for [`Code::tile`].
    ///
    /// # Safety
    /// The operands are those of a checked launch of the primitive that was
    /// lowered, in its order, and `scratch` has the bytes asked for.
    #[inline]
    pub(crate) unsafe fn run(&self, entry: &Entry<'_>, work: impl FnOnce(&Frame)) {
        let mut stack = MaybeUninit::<[Line; STACK / 64]>::uninit();
        let memory = if self.frame_bytes() > STACK {
            entry.scratch
        } else {
            stack.as_mut_ptr().cast()
        };
        // SAFETY: the memory has room for the frame, and the caller vouches for
        // the operands.
        work(&unsafe { self.frame(entry, memory) });
    }

    unsafe fn frame(&self, entry: &Entry<'_>, memory: *mut u8) -> Frame {
        let table: *mut *mut u8 = memory.cast();
        // SAFETY: places, then bases, then tiles lie in the frame's bytes.
        let mut frame = unsafe {
            Frame {
                table,
                bases: table.add(self.places.len()),
                tiles: memory.add(self.table_bytes().next_multiple_of(64)),
                width: entry.width,
                direct: 0,
            }
        };
        for (i, base) in self.bases.iter().enumerate() {
            let start = match *base {
                Operand::Read(read) => entry.operands.read(entry.first_read + read).cast_mut(),
                Operand::Write(write) => entry.operands.write(write),
                Operand::External => entry.external.cast_mut(),
            };
            // SAFETY: as above.
            unsafe { frame.bases.add(i).write(start) };
        }
        for (place, &offset) in self.places.iter().enumerate() {
            // SAFETY: offsets are those of tiles.
            unsafe { table.add(place).write(frame.tiles.add(offset)) };
        }
        for uniform in &self.uniforms {
            let count = if uniform.whole { entry.points } else { ABREAST };
            // SAFETY: a tile has room for `points` elements, a narrow slot for those of a loop;
            // elements of operands lie inside of them (P1, P4).
            unsafe {
                let to = frame.place(uniform.place);
                match uniform.value {
                    UniformValue::Constant(dtype, bits) => {
                        fill(dtype, f64::from_bits(bits), to, count);
                    }
                    UniformValue::Element { base, load, at } => {
                        load(to, frame.base(base).add(at), 0, count);
                    }
                }
            }
        }
        for cycle in &self.cycles {
            // SAFETY: as above.
            unsafe { cycle.fill(&frame, entry.points + cycle.period) };
        }
        // SAFETY: as above.
        frame.direct = unsafe { self.direct(&frame) };
        frame
    }

    /// Which of the first 64 stored registers can be computed where they are stored: no input that is
    /// read after them lies there (by P3 it either does exactly or does not at all).
    ///
    /// # Safety
    /// The frame has its bases.
    unsafe fn direct(&self, frame: &Frame) -> u64 {
        let mut direct = 0;
        for (i, stored) in self.stored.iter().enumerate().take(64) {
            let Some(rivals) = &stored.rivals else {
                continue;
            };
            // SAFETY: handed on.
            let base = |base: usize| unsafe { frame.base(base) };
            let there = base(stored.base);
            let free = rivals.iter().all(|&rival| base(rival) != there);
            direct |= u64::from(free) << i;
        }
        direct
    }

    /// Runs the program on the points of a range, and on the rows they belong
    /// to: loads, steps, stores.
    ///
    /// # Safety
    /// The frame is one that [`Code::run`] made, the ranges lie in the space,
    /// and `points` is no longer than [`Code::capacity`] and what the entry
    /// said. No other worker runs on the same points.
    #[inline]
    pub(crate) unsafe fn tile(&self, frame: &Frame, points: Range<usize>, rows: Range<usize>) {
        let range = |domain| match domain {
            Domain::Points => points.clone(),
            Domain::Rows => rows.clone(),
        };
        for slide in &self.slides {
            let start = range(slide.domain).start + slide.offset;
            // SAFETY: the table has the place. The pointer is only used for
            // points of the range, which lie in the operand (P1, P4); before
            // its start where the external input begins later.
            unsafe {
                let at = frame.base(slide.base).wrapping_add(start * slide.size);
                frame.table.add(slide.place).write(at);
            }
        }
        for cycle in &self.cycles {
            let phase = points.start % cycle.period;
            let at = self.places[cycle.place] + phase * cycle.width;
            // SAFETY: the table has the place, and the frame elements for a tile from there on.
            unsafe { frame.table.add(cycle.place).write(frame.tiles.add(at)) };
        }
        let is_direct = |i: usize| i < 64 && frame.direct >> i & 1 == 1;
        let to = |stored: &Stored| {
            let start = range(stored.domain).start * stored.dtype.size();
            // SAFETY: stored points lie in the operand (P1, P4).
            unsafe { frame.base(stored.base).add(start) }
        };
        let direct = self.stored.iter().enumerate();
        for (_, stored) in direct.filter(|&(i, _)| is_direct(i)) {
            // SAFETY: the table has the place.
            unsafe { frame.table.add(stored.from).write(to(stored)) };
        }
        for step in &self.steps {
            // SAFETY: handed on.
            unsafe { step.run(frame, range(step.domain)) };
        }
        let copied = self.stored.iter().enumerate();
        for (_, stored) in copied.filter(|&(i, _)| !is_direct(i)) {
            let n = range(stored.domain).len();
            // SAFETY: the operand overlaps nothing but inputs that have been loaded (P3).
            unsafe { store(stored.dtype, to(stored), frame.place(stored.from), n) };
        }
    }

    /// Says where point 0 of the external input would be.
    #[inline]
    pub(crate) fn hand_over(&self, frame: &Frame, origin: *const u8) {
        if let Some(base) = self
            .bases
            .iter()
            .position(|&base| base == Operand::External)
        {
            // SAFETY: the frame has an entry for every base.
            unsafe { frame.bases.add(base).write(origin.cast_mut()) };
        }
    }

    /// Asks for the operands of a tile to come, which the hardware's own
    /// prefetching of many short streams leaves too late.
    ///
    /// # Safety
    /// The frame is one that [`Code::run`] made.
    #[inline]
    pub(crate) unsafe fn prefetch(&self, frame: &Frame, points: Range<usize>) {
        for slide in self
            .slides
            .iter()
            .filter(|slide| slide.domain == Domain::Points)
        {
            let bytes = points.len() * slide.size;
            // SAFETY: the frame has the base; nothing is read through the pointer.
            let start = unsafe { frame.base(slide.base) };
            let start = start.wrapping_add((points.start + slide.offset) * slide.size);
            for line in (0..bytes).step_by(64) {
                fetch_first(start.wrapping_add(line));
            }
        }
    }

    /// Says where the sums are to which the values of reduced output `i` are added, point by point.
    ///
    /// # Safety
    /// The frame is one that [`Code::run`] made; as many sums as a tile has points are writable.
    #[inline]
    pub(crate) unsafe fn add_to(&self, frame: &Frame, i: usize, sums: *mut u8) {
        // SAFETY: the table has all places.
        unsafe { frame.table.add(self.reduced[i]).write(sums) }
    }

    /// Where the values of reduced output `i` of the last tile are.
    pub(crate) fn reduced(&self, frame: &Frame, i: usize) -> *const u8 {
        // SAFETY: the table has all places.
        unsafe { frame.place(self.reduced[i]) }
    }
}

impl Frame {
    /// # Safety
    /// `place` must be one of the code that made the frame.
    #[inline(always)]
    unsafe fn place(&self, place: Place) -> *mut u8 {
        // SAFETY: the table has an entry for every place.
        unsafe { self.table.add(place).read() }
    }

    /// # Safety
    /// The place must be one of the code that made the frame.
    #[inline(always)]
    unsafe fn values(&self, taken: Taken) -> Values {
        // SAFETY: handed on.
        Values::new(unsafe { self.place(taken.place) }, taken.step)
    }

    /// # Safety
    /// `base` must be one of the code that made the frame.
    #[inline(always)]
    unsafe fn base(&self, base: usize) -> *mut u8 {
        // SAFETY: the table has an entry for every base.
        unsafe { self.bases.add(base).read() }
    }
}

impl Step {
    /// # Safety
    /// As for [`Code::tile`]; `range` is the step's own.
    #[inline(always)]
    unsafe fn run(&self, frame: &Frame, range: Range<usize>) {
        let n = range.len();
        // SAFETY: places hold `n` elements of the types that the loops were
        // chosen for, as lowering saw to.
        unsafe {
            let to = frame.place(self.to);
            match &self.action {
                Action::Map { run, from, .. } => {
                    run(to, from.map(|taken| frame.values(taken)), n);
                }
                Action::Native(native) => native.run(frame, n),
                Action::Evaluate { function, from } => {
                    functions::evaluate(*function, to, from.map(|taken| frame.values(taken)), n);
                }
                Action::Load(loader) => loader.run(frame, self.to, range),
                Action::Spread { load, size, from } => {
                    let from = frame.place(*from);
                    for row in 0..n / frame.width {
                        let to = to.add(row * frame.width * size);
                        load(to, from.add(row * size), 0, frame.width);
                    }
                }
                Action::Reduce {
                    reducer,
                    dtype,
                    from,
                } => {
                    reducer.rows(frame.place(*from), (frame.width, n), (*dtype, to));
                }
            }
        }
    }
}
