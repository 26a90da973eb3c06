//! Strided copies.
//!
//! The axes of a piece are merged for both sides at once. The last one runs
//! along the output; before it goes the one that runs along the input, so that
//! a transpose is copied in square blocks that use whole cache lines of both.

use backprop_core::{DType, Error, ErrorKind, Piece, Primitive, Relocate as Spec, Result};

use crate::Level;
use crate::memory::Operands;
use crate::pool::{Pool, Worker};
use crate::split::Split;
use crate::tile::{Lane, Load, Loop, TILE, Values, cast, fill, load, store};

/// Rows and columns of a block that are one worker's at a time.
const STRIP: usize = 128;
const REACH: usize = 16 << 10;

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
    /// Slowest first; at least two.
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
    Same(unsafe fn(*mut u8, *const u8, [Axis; 2])),
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
                1 => copy_block::<u8>,
                2 => copy_block::<u16>,
                4 => copy_block::<u32>,
                _ => copy_block::<u64>,
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
        let (outer, [strips, reaches]) = self.parts();
        outer * strips * reaches
    }

    /// Blocks of the last two axes, and the parts of a block either way.
    fn parts(&self) -> (usize, [usize; 2]) {
        let (outer, block) = self.axes.split_at(self.axes.len() - 2);
        let outer = outer.iter().map(|axis| axis.size).product();
        (
            outer,
            [block[0].size.div_ceil(STRIP), block[1].size.div_ceil(REACH)],
        )
    }

    /// # Safety
    /// The operands are those of a checked launch.
    unsafe fn part(&self, to: *mut u8, from: *const u8, number: usize) {
        let (_, [strips, reaches]) = self.parts();
        let (outer, block) = self.axes.split_at(self.axes.len() - 2);
        let (row, column) = (number / reaches % strips * STRIP, number % reaches * REACH);
        let (rows, columns) = (block[0].part(row, STRIP), block[1].part(column, REACH));
        let (row, column) = (row as isize, column as isize);
        let mut source = self.from as isize + row * rows.from + column * columns.from;
        let mut target = self.into as isize + row * rows.into + column * columns.into;
        let mut rest = number / reaches / strips;
        for axis in outer.iter().rev() {
            let at = (rest % axis.size) as isize;
            source += at * axis.from;
            target += at * axis.into;
            rest /= axis.size;
        }
        let from = from.wrapping_offset(source * self.sizes[0] as isize);
        let to = to.wrapping_offset(target * self.sizes[1] as isize);
        // SAFETY: both views lie inside of their tensors (P4).
        unsafe {
            match &self.copy {
                Copying::Same(copy) => copy(to, from, [rows, columns]),
                Copying::Cast { .. } => self.cast_block(to, from, [rows, columns]),
            }
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
    while axes.len() < 2 {
        axes.insert(
            0,
            Axis {
                size: 1,
                from: 0,
                into: 0,
            },
        );
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
/// Both sides must hold the block.
unsafe fn copy_block<T: Copy + Default>(to: *mut u8, from: *const u8, [rows, columns]: [Axis; 2]) {
    let (to, from): (*mut T, *const T) = (to.cast(), from.cast());
    let source = |row: usize, column: usize| {
        from.wrapping_offset(row as isize * rows.from + column as isize * columns.from)
    };
    let target = |row: usize, column: usize| {
        to.wrapping_offset(row as isize * rows.into + column as isize * columns.into)
    };
    // SAFETY: handed on.
    unsafe {
        if columns.from == 1 && columns.into == 1 {
            for row in 0..rows.size {
                let (x, y) = (source(row, 0).cast::<u8>(), target(row, 0).cast::<u8>());
                std::ptr::copy_nonoverlapping(x, y, columns.size * size_of::<T>());
            }
            return;
        }
        let is_transpose = rows.from == 1 && columns.into == 1;
        for left in (0..columns.size).step_by(SQUARE) {
            let right = columns.size.min(left + SQUARE);
            for top in (0..rows.size).step_by(SQUARE) {
                let bottom = rows.size.min(top + SQUARE);
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
