//! Strided copies.
//!
//! The axes of a piece are merged for both sides at once. The last one runs
//! along the output; before it goes the one that runs along the input, so that
//! a transpose is copied in square blocks that use whole cache lines of both.
//! The last three make boxes that are copied in one call, as the last axes may
//! be very short.

use backprop_core::{DType, Error, ErrorKind, Piece, Primitive, Relocate as Spec, Result};

use crate::Level;
use crate::memory::Operands;
use crate::pool::{Pool, Worker};
use crate::split::Split;
use crate::tile::{Lane, Load, Loop, TILE, Values, cast, fill, load, store};

/// Rows and columns of a box that are one worker's at a time.
const STRIP: usize = 128;
const REACH: usize = 16 << 10;
/// Elements of a box, about.
const BOX: usize = 4 << 10;

/// A prepared copy.
#[derive(Debug)]
pub(crate) struct Relocate {
    moves: Vec<Move>,
    fill: Option<(f64, DType, usize)>,
    split: Split,
}

/// One piece.
#[derive(Debug)]
struct Move {
    /// Slowest first; at least three.
    axes: Vec<Axis>,
    from: usize,
    into: usize,
    copy: Copying,
    sizes: [usize; 2],
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    size: usize,
    from: isize,
    into: isize,
}

impl Axis {
    /// A single place.
    const POINT: Axis = Axis {
        size: 1,
        from: 0,
        into: 0,
    };

    /// At most `most` places of the axis, from `start` on.
    fn part(self, start: usize, most: usize) -> Axis {
        Axis {
            size: most.min(self.size - start),
            ..self
        }
    }
}

/// How elements are carried over.
#[derive(Debug)]
enum Copying {
    /// As bytes.
    Same(unsafe fn(*mut u8, *const u8, [Axis; 3])),
    /// Through a tile.
    Cast {
        load: Load,
        convert: Loop,
        dtype: DType,
    },
}

impl Relocate {
    pub(crate) fn new(spec: &Spec, level: Level) -> Result<Relocate> {
        let tensors = spec.pieces.iter().map(|piece| &piece.from.tensor);
        if !tensors
            .chain([&spec.output])
            .all(|tensor| tensor.layout.is_dense())
        {
            return Err(Error::new(ErrorKind::Unsupported {
                backend: "cpu".into(),
                primitive: Primitive::Relocate(spec.clone()).to_string(),
            }));
        }
        let dtype = spec.output.dtype;
        let covered: usize = spec
            .pieces
            .iter()
            .map(|piece| piece.into.shape.count())
            .sum();
        let count = spec.output.shape.count();
        let needed = spec.fill.filter(|_| covered < count);
        Ok(Relocate {
            moves: spec
                .pieces
                .iter()
                .map(|piece| Move::new(piece, dtype, level))
                .collect(),
            fill: needed.map(|bits| (f64::from_bits(bits), dtype, count)),
            split: Split::of(count.saturating_mul(4)),
        })
    }

    /// # Safety
    /// The operands are those of a checked launch of the spec.
    pub(crate) unsafe fn run(&self, pool: &Pool, operands: &Operands<'_>) -> Result<()> {
        // SAFETY: handed on.
        self.split
            .run(pool, &|worker| unsafe { self.work(worker, operands) })
    }

    unsafe fn work(&self, worker: Worker<'_>, operands: &Operands<'_>) {
        let to = operands.write(0);
        if let Some((value, dtype, count)) = self.fill {
            // SAFETY: the output is shared out.
            unsafe { fill_memory(value, dtype, to, worker.share(count)) };
            worker.barrier();
        }
        for (read, piece) in self.moves.iter().enumerate() {
            let from = operands.read(read);
            for number in worker.share(piece.count()) {
                // SAFETY: parts are shared out, and boxes do not overlap.
                unsafe { piece.part(to, from, number) };
            }
        }
    }
}

unsafe fn fill_memory(value: f64, dtype: DType, to: *mut u8, range: std::ops::Range<usize>) {
    let mut tile = [0u64; TILE];
    let tile: *mut u8 = tile.as_mut_ptr().cast();
    // SAFETY: the tile holds any lane, and the range lies in the output.
    unsafe {
        fill(dtype, value, tile, TILE);
        for start in range.clone().step_by(TILE) {
            let n = TILE.min(range.end - start);
            store(dtype, to.add(start * dtype.size()), tile, n);
        }
    }
}

impl Move {
    fn new(piece: &Piece, dtype: DType, level: Level) -> Move {
        let source = piece.from.tensor.dtype;
        let copy = if source == dtype {
            Copying::Same(match dtype.size() {
                1 => copy_box::<u8>,
                2 => copy_box::<u16>,
                4 => copy_box::<u32>,
                _ => copy_box::<u64>,
            })
        } else {
            let lane = Lane::of(source);
            Copying::Cast {
                load: load(source, level),
                convert: cast(lane, dtype, level),
                dtype,
            }
        };
        Move {
            axes: axes(piece),
            from: piece.from.view.offset,
            into: piece.into.offset,
            copy,
            sizes: [source.size(), dtype.size()],
        }
    }

    /// Parts that may be copied by different workers.
    fn count(&self) -> usize {
        let (outer, parts) = self.parts();
        outer * parts.iter().product::<usize>()
    }

    /// The outer axes, and the last three.
    fn split(&self) -> (&[Axis], [Axis; 3]) {
        match self.axes.as_slice() {
            [outer @ .., slices, rows, columns] => (outer, [*slices, *rows, *columns]),
            _ => (&[], [Axis::POINT; 3]),
        }
    }

    /// The most places of a part along the last three axes.
    fn most(&self) -> [usize; 3] {
        let (_, [_, rows, columns]) = self.split();
        let reach = columns.size.clamp(1, REACH);
        let strip = STRIP.max(BOX / reach);
        let block = rows.size.clamp(1, strip) * reach;
        [(BOX / block).max(1), strip, reach]
    }

    /// How many places the outer axes have, and how many parts the last three are cut into.
    fn parts(&self) -> (usize, [usize; 3]) {
        let ((outer, last), most) = (self.split(), self.most());
        let outer = outer.iter().map(|axis| axis.size).product();
        let parts = std::array::from_fn(|i| last[i].size.div_ceil(most[i]));
        (outer, parts)
    }

    /// # Safety
    /// The operands are those of a checked launch.
    unsafe fn part(&self, to: *mut u8, from: *const u8, number: usize) {
        let (_, parts) = self.parts();
        let ((outer, mut last), most) = (self.split(), self.most());
        let (mut source, mut target) = (self.from as isize, self.into as isize);
        let mut rest = number;
        let mut go = |axis: &Axis, at: usize| {
            source += at as isize * axis.from;
            target += at as isize * axis.into;
        };
        for i in (0..3).rev() {
            let at = rest % parts[i] * most[i];
            go(&last[i], at);
            last[i] = last[i].part(at, most[i]);
            rest /= parts[i];
        }
        for axis in outer.iter().rev() {
            go(axis, rest % axis.size);
            rest /= axis.size;
        }
        let from = from.wrapping_offset(source * self.sizes[0] as isize);
        let to = to.wrapping_offset(target * self.sizes[1] as isize);
        // SAFETY: both views lie inside of their tensors (P4).
        unsafe {
            match &self.copy {
                Copying::Same(copy) => copy(to, from, last),
                Copying::Cast { .. } => self.cast_box(to, from, last),
            }
        }
    }

    unsafe fn cast_box(&self, to: *mut u8, from: *const u8, [slices, rows, columns]: [Axis; 3]) {
        for slice in 0..slices.size as isize {
            let from = from.wrapping_offset(slice * slices.from * self.sizes[0] as isize);
            let to = to.wrapping_offset(slice * slices.into * self.sizes[1] as isize);
            // SAFETY: handed on.
            unsafe { self.cast_block(to, from, [rows, columns]) };
        }
    }

    unsafe fn cast_block(&self, to: *mut u8, from: *const u8, [rows, columns]: [Axis; 2]) {
        let Copying::Cast {
            load,
            convert,
            dtype,
        } = &self.copy
        else {
            return;
        };
        let mut tiles = [[0u64; TILE]; 2];
        let [loaded, converted] = tiles.each_mut().map(|tile| tile.as_mut_ptr().cast::<u8>());
        let [source, target] = self.sizes.map(|size| size as isize);
        for row in 0..rows.size as isize {
            for start in (0..columns.size).step_by(TILE) {
                let n = TILE.min(columns.size - start);
                let at = start as isize;
                let from = from.wrapping_offset((row * rows.from + at * columns.from) * source);
                let to = to.wrapping_offset((row * rows.into + at * columns.into) * target);
                // SAFETY: as in `strip`; tiles hold any lane.
                unsafe {
                    load(loaded, from, columns.from, n);
                    convert(converted, [Values::each(loaded); 3], n);
                    if columns.into == 1 {
                        store(*dtype, to, converted, n);
                        continue;
                    }
                    let size = Lane::of(*dtype).size();
                    for i in 0..n {
                        let to = to.wrapping_offset(i as isize * columns.into * target);
                        store(*dtype, to, converted.add(i * size), 1);
                    }
                }
            }
        }
    }
}

/// The axes of a piece, merged where both sides allow it, in the order in which
/// they are walked.
fn axes(piece: &Piece) -> Vec<Axis> {
    let shape = piece.into.shape;
    let mut axes: Vec<Axis> = Vec::new();
    for axis in (0..shape.rank()).filter(|&axis| shape.size(axis) != 1) {
        let size = shape.size(axis);
        let (from, into) = (piece.from.view.strides[axis], piece.into.strides[axis]);
        match axes.last_mut() {
            Some(outer)
                if outer.from == from * size as isize && outer.into == into * size as isize =>
            {
                *outer = Axis {
                    size: outer.size * size,
                    from,
                    into,
                };
            }
            _ => axes.push(Axis { size, from, into }),
        }
    }
    axes.sort_by_key(|axis| std::cmp::Reverse(axis.into.unsigned_abs()));
    while axes.len() < 3 {
        axes.insert(0, Axis::POINT);
    }
    let last = axes.len() - 1;
    if let Some(along) = axes[..last].iter().position(|axis| axis.from == 1) {
        axes[along..last].rotate_left(1);
    }
    axes
}

/// Elements on a side of a square that is transposed at a time.
const SQUARE: usize = 16;

/// # Safety
/// Both sides must hold the box.
unsafe fn copy_box<T: Copy + Default>(
    to: *mut u8,
    from: *const u8,
    [slices, rows, columns]: [Axis; 3],
) {
    let copy = match (columns.from, columns.into) {
        (1, 1) => copy_rows::<T>,
        (0, 1) if (rows.from, rows.into) == (1, columns.size as isize) => match columns.size {
            2 => repeat_each::<T, 2>,
            3 => repeat_each::<T, 3>,
            4 => repeat_each::<T, 4>,
            _ => repeat_rows::<T>,
        },
        (0, 1) => repeat_rows::<T>,
        _ => copy_block::<T>,
    };
    for slice in 0..slices.size as isize {
        let from = from.cast::<T>().wrapping_offset(slice * slices.from);
        let to = to.cast::<T>().wrapping_offset(slice * slices.into);
        // SAFETY: handed on.
        unsafe { copy(to, from, [rows, columns]) };
    }
}

/// Rows of neighbours on both sides.
unsafe fn copy_rows<T: Copy>(to: *mut T, from: *const T, [rows, columns]: [Axis; 2]) {
    /// Elements that are copied without a call.
    const FEW: usize = 8;
    let whole = columns.size / FEW * FEW;
    for row in 0..rows.size as isize {
        let (from, to) = (
            from.wrapping_offset(row * rows.from),
            to.wrapping_offset(row * rows.into),
        );
        // SAFETY: handed on.
        unsafe {
            if columns.size > 4 * FEW {
                let bytes = columns.size * size_of::<T>();
                std::ptr::copy_nonoverlapping(from.cast::<u8>(), to.cast::<u8>(), bytes);
                continue;
            }
            for i in (0..whole).step_by(FEW) {
                let few = from.add(i).cast::<[T; FEW]>().read_unaligned();
                to.add(i).cast::<[T; FEW]>().write_unaligned(few);
            }
            for i in whole..columns.size {
                to.add(i).write_unaligned(from.add(i).read_unaligned());
            }
        }
    }
}

/// Rows of one element each, over and over.
unsafe fn repeat_rows<T: Copy>(to: *mut T, from: *const T, [rows, columns]: [Axis; 2]) {
    for row in 0..rows.size as isize {
        let to = to.wrapping_offset(row * rows.into);
        // SAFETY: handed on.
        unsafe {
            let x = from.offset(row * rows.from).read_unaligned();
            for i in 0..columns.size {
                to.add(i).write_unaligned(x);
            }
        }
    }
}

/// Neighbours, each of them so many times.
unsafe fn repeat_each<T: Copy, const TIMES: usize>(
    to: *mut T,
    from: *const T,
    [rows, _]: [Axis; 2],
) {
    let to = to.cast::<[T; TIMES]>();
    for i in 0..rows.size {
        // SAFETY: handed on.
        unsafe {
            let x = from.add(i).read_unaligned();
            to.add(i).write_unaligned([x; TIMES]);
        }
    }
}

/// Any rows and columns.
unsafe fn copy_block<T: Copy + Default>(to: *mut T, from: *const T, [rows, columns]: [Axis; 2]) {
    let source = |row: usize, column: usize| {
        from.wrapping_offset(row as isize * rows.from + column as isize * columns.from)
    };
    let target = |row: usize, column: usize| {
        to.wrapping_offset(row as isize * rows.into + column as isize * columns.into)
    };
    let is_transpose = rows.from == 1 && columns.into == 1;
    for left in (0..columns.size).step_by(SQUARE) {
        let right = columns.size.min(left + SQUARE);
        for top in (0..rows.size).step_by(SQUARE) {
            let bottom = rows.size.min(top + SQUARE);
            // SAFETY: handed on.
            unsafe {
                if is_transpose && right - left == SQUARE && bottom - top == SQUARE {
                    let (x, y) = (source(top, left), target(top, left));
                    transpose(y, rows.into, x, columns.from);
                    continue;
                }
                for row in top..bottom {
                    for column in left..right {
                        target(row, column).write_unaligned(source(row, column).read_unaligned());
                    }
                }
            }
        }
    }
}

/// Transposes a square by way of the stack, so that both sides are touched in
/// whole cache lines, however unlucky the strides.
///
/// # Safety
/// Both sides must hold the square.
unsafe fn transpose<T: Copy + Default>(to: *mut T, rows: isize, from: *const T, columns: isize) {
    let mut square = [[T::default(); SQUARE]; SQUARE];
    for (i, line) in square.iter_mut().enumerate() {
        let line: *mut u8 = line.as_mut_ptr().cast();
        let source: *const u8 = from.wrapping_offset(i as isize * columns).cast();
        // SAFETY: handed on.
        unsafe { std::ptr::copy_nonoverlapping(source, line, SQUARE * size_of::<T>()) };
    }
    for (i, row) in (0..SQUARE).zip(0isize..) {
        let line: [T; SQUARE] = std::array::from_fn(|j| square[j][i]);
        let target = to.wrapping_offset(row * rows).cast::<[T; SQUARE]>();
        // SAFETY: handed on.
        unsafe { target.write_unaligned(line) };
    }
}
