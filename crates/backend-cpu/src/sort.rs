//! Positions in sorted order.
//!
//! A row is copied into scratch memory as words, each an element's key with its position below it,
//! so that the order of words is the stable order of elements, whatever the algorithm: words are
//! all different. A key is an unsigned integer in the order of the elements; keys of up to 32 bits
//! make words of 64 with their positions, which compare in one instruction.

use std::fmt::Debug;
use std::slice;

use backprop_core::{DType, Error, ErrorKind, Order, Primitive, Result, Sort as Spec};
use half::{bf16, f16};

use crate::memory::Operands;
use crate::pool::{Pool, Worker};
use crate::split::Split;

/// A prepared sort.
#[derive(Debug)]
pub(crate) struct Sort {
    /// The other axes: size, and elements to move per step in what is read and what is written.
    rows: Vec<(usize, [isize; 2])>,
    /// Elements of a row, and how many come out.
    len: usize,
    count: usize,
    /// Elements from one of a row to the next, in what is read and what is written.
    steps: [isize; 2],
    offset: usize,
    sorter: Box<dyn SortRow>,
    split: Split,
    threads: usize,
}

/// Whether a sort can be prepared.
pub(crate) fn supports(spec: &Spec) -> bool {
    let tensors = [&spec.input.tensor, &spec.positions];
    tensors.iter().all(|tensor| tensor.layout.is_dense())
}

impl Sort {
    pub(crate) fn new(spec: &Spec, threads: usize) -> Result<Sort> {
        if !supports(spec) {
            return Err(Error::new(ErrorKind::Unsupported {
                backend: "cpu".into(),
                primitive: Primitive::Sort(spec.clone()).to_string(),
            }));
        }
        let (axis, count) = (spec.axis, spec.count());
        let (from, into) = (
            spec.input.view.strides,
            spec.space.with(axis, count).strides(),
        );
        let others = (0..spec.space.rank()).filter(|&other| other != axis);
        let len = spec.space.size(axis);
        let steps = usize::BITS - len.leading_zeros();
        let work = spec.space.count().saturating_mul(8 * steps as usize);
        Ok(Sort {
            rows: others
                .map(|other| (spec.space.size(other), [from[other], into[other]]))
                .collect(),
            len,
            count,
            steps: [from[axis], into[axis]],
            offset: spec.input.view.offset,
            sorter: sorter(spec.input.tensor.dtype, len, spec.order),
            split: Split::of(work),
            threads,
        })
    }

    /// Bytes of scratch: a row of words for each worker.
    pub(crate) fn scratch(&self) -> usize {
        self.row_bytes() * self.threads
    }

    fn row_bytes(&self) -> usize {
        (self.len * self.sorter.word_bytes()).next_multiple_of(64)
    }

    /// # Safety
    /// The operands are those of a checked launch of the spec.
    pub(crate) unsafe fn run(&self, pool: &Pool, operands: &Operands<'_>) -> Result<()> {
        // SAFETY: handed on.
        self.split
            .run(pool, &|worker| unsafe { self.work(worker, operands) })
    }

    unsafe fn work(&self, worker: Worker<'_>, operands: &Operands<'_>) {
        if self.count == 0 {
            return;
        }
        let words = operands
            .scratch()
            .wrapping_add(self.row_bytes() * worker.id());
        let rows = self.rows.iter().map(|(size, _)| size).product();
        for row in worker.share(rows) {
            let [from, into] = self.starts(row);
            let row = Row {
                from: operands.read(0),
                start: from,
                step: self.steps[0],
                len: self.len,
                words,
                into: operands.write(0).cast::<i64>().wrapping_offset(into),
                along: self.steps[1],
                count: self.count,
            };
            // SAFETY: rows are shared out; by P4 the view of what is read stays inside of it, by P1
            // the positions and a row of words for each worker have room.
            unsafe { self.sorter.sort(&row) };
        }
    }

    /// The first element of a row, in what is read and what is written.
    fn starts(&self, row: usize) -> [isize; 2] {
        let (mut starts, mut rest) = ([self.offset as isize, 0], row);
        for (size, steps) in self.rows.iter().rev() {
            let at = (rest % size) as isize;
            rest /= size;
            starts = [starts[0] + at * steps[0], starts[1] + at * steps[1]];
        }
        starts
    }
}

/// One row. Steps count elements.
struct Row {
    from: *const u8,
    start: isize,
    step: isize,
    len: usize,
    words: *mut u8,
    into: *mut i64,
    along: isize,
    count: usize,
}

trait SortRow: Debug + Send + Sync {
    /// Bytes of an element's word.
    fn word_bytes(&self) -> usize;

    /// # Safety
    /// Elements of the row are readable, words and positions writable.
    unsafe fn sort(&self, row: &Row);
}

/// How elements of type `dtype` are sorted in rows of so many.
fn sorter(dtype: DType, len: usize, order: Order) -> Box<dyn SortRow> {
    fn of<E: Key>(len: usize, order: Order) -> Box<dyn SortRow> {
        if E::BITS <= 32 && u32::try_from(len).is_ok() {
            Box::new(Sorter::<E, u64>::new(order))
        } else {
            Box::new(Sorter::<E, u128>::new(order))
        }
    }
    match dtype {
        DType::F32 => of::<f32>(len, order),
        DType::F64 => of::<f64>(len, order),
        DType::F16 => of::<f16>(len, order),
        DType::BF16 => of::<bf16>(len, order),
        DType::I32 => of::<i32>(len, order),
        DType::I64 => of::<i64>(len, order),
        DType::U8 => of::<u8>(len, order),
        _ => of::<Truth>(len, order),
    }
}

#[derive(Debug)]
struct Sorter<E, W> {
    /// What keys are combined with by exclusive or.
    flip: u64,
    types: std::marker::PhantomData<fn(E) -> W>,
}

impl<E: Key, W> Sorter<E, W> {
    fn new(order: Order) -> Self {
        Sorter {
            flip: match order {
                Order::Ascending => 0,
                Order::Descending => u64::MAX >> (64 - E::BITS),
            },
            types: std::marker::PhantomData,
        }
    }
}

impl<E: Key, W: Word> SortRow for Sorter<E, W> {
    fn word_bytes(&self) -> usize {
        size_of::<W>()
    }

    unsafe fn sort(&self, row: &Row) {
        let words: *mut W = row.words.cast();
        let mut from = row.from.cast::<E>().wrapping_offset(row.start);
        for position in 0..row.len {
            // SAFETY: the caller promises `len` elements and as many words, which are aligned as
            // scratch memory is.
            unsafe {
                let key = from.read_unaligned().key() ^ self.flip;
                words.add(position).write(W::new(key, position));
            }
            from = from.wrapping_offset(row.step);
        }
        // SAFETY: all words have just been written.
        let words = unsafe { slice::from_raw_parts_mut(words, row.len) };
        let first = match row.count.checked_sub(1) {
            Some(last) if row.count < row.len => {
                words.select_nth_unstable(last);
                &mut words[..row.count]
            }
            _ => words,
        };
        first.sort_unstable();
        let mut into = row.into;
        for word in first {
            // SAFETY: there is room for `count` positions.
            unsafe { into.write_unaligned(word.position()) };
            into = into.wrapping_offset(row.along);
        }
    }
}

/// A key with a position below it.
trait Word: Ord + Copy + Debug + 'static {
    fn new(key: u64, position: usize) -> Self;
    fn position(self) -> i64;
}

impl Word for u64 {
    fn new(key: u64, position: usize) -> u64 {
        key << 32 | position as u64
    }

    fn position(self) -> i64 {
        i64::from(self as u32)
    }
}

impl Word for u128 {
    fn new(key: u64, position: usize) -> u128 {
        u128::from(key) << 64 | position as u128
    }

    fn position(self) -> i64 {
        self as i64
    }
}

/// An element whose order is that of unsigned integers.
trait Key: Copy + Debug + 'static {
    /// Bits of the largest key.
    const BITS: u32;

    /// Larger for larger elements, the same for equal ones; the largest of all for NaN.
    fn key(self) -> u64;
}

impl Key for f64 {
    const BITS: u32 = 64;

    fn key(self) -> u64 {
        if self.is_nan() {
            return u64::MAX;
        }
        // Adding 0 makes -0 one.
        let bits = (self + 0.0).to_bits();
        bits ^ if bits >> 63 == 0 { 1 << 63 } else { u64::MAX }
    }
}

impl Key for f32 {
    const BITS: u32 = 32;

    fn key(self) -> u64 {
        if self.is_nan() {
            return u64::from(u32::MAX);
        }
        let bits = (self + 0.0).to_bits();
        u64::from(bits ^ if bits >> 31 == 0 { 1 << 31 } else { u32::MAX })
    }
}

impl Key for f16 {
    const BITS: u32 = 32;

    fn key(self) -> u64 {
        self.to_f32().key()
    }
}

impl Key for bf16 {
    const BITS: u32 = 32;

    fn key(self) -> u64 {
        self.to_f32().key()
    }
}

impl Key for i64 {
    const BITS: u32 = 64;

    fn key(self) -> u64 {
        self as u64 ^ 1 << 63
    }
}

impl Key for i32 {
    const BITS: u32 = 32;

    fn key(self) -> u64 {
        u64::from(self as u32 ^ 1 << 31)
    }
}

impl Key for u8 {
    const BITS: u32 = 32;

    fn key(self) -> u64 {
        u64::from(self)
    }
}

/// The byte of a truth value.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
struct Truth(u8);

impl Key for Truth {
    const BITS: u32 = 32;

    fn key(self) -> u64 {
        u64::from(self.0 != 0)
    }
}
