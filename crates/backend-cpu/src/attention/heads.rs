//! What attention and its vjp have in common: operands, and the scores of some queries and keys.

use std::ops::Range;

use backprop_core::{DType, Heads as Spec, KeyMask, Shape, Source};

use super::rows::{self, Transcendental};
use crate::Level;
use crate::gemm::{self, Inner, Left, PackFn, Panel, Right, To, packer};
use crate::memory::Operands;
use crate::tile::{self, Lane, Load};

/// Queries and keys whose scores are computed together. Sums over either are cut here, so results
/// depend on it. The scores fit the first-level cache, and few queries are computed in vain where
/// attention is causal.
pub(super) const QUERIES: usize = 32;
pub(super) const KEYS: usize = 128;

/// A tensor as matrices, one for each element of the batch. Strides count elements.
#[derive(Debug)]
pub(super) struct Stack {
    /// Its place among what is read.
    pub(super) operand: usize,
    offset: usize,
    batch: Vec<(usize, isize)>,
    pub(super) row: isize,
    pub(super) column: isize,
}

impl Stack {
    pub(super) fn new(operand: usize, source: &Source, batch: Shape) -> Stack {
        let (rank, view) = (batch.rank(), &source.view);
        let axes = batch.sizes().iter().copied().zip(view.strides);
        let stride = |axis: usize| {
            let there = axis < view.shape.rank();
            if there { view.strides[axis] } else { 0 }
        };
        Stack {
            operand,
            offset: view.offset,
            batch: axes.collect(),
            row: stride(rank),
            column: stride(rank + 1),
        }
    }

    /// The first element of the matrix of an element of the batch.
    pub(super) fn start(&self, element: usize) -> isize {
        let (mut start, mut rest) = (self.offset as isize, element);
        for (size, stride) in self.batch.iter().rev() {
            start += (rest % size) as isize * stride;
            rest /= size;
        }
        start
    }
}

#[derive(Debug)]
enum Mask {
    None,
    Causal,
    Where(Given),
    Add(Given),
}

/// A mask in memory.
#[derive(Debug)]
struct Given {
    stack: Stack,
    load: Load,
    dtype: DType,
}

/// The operands, and how they are brought into cache.
#[derive(Debug)]
pub(super) struct Heads<T, E> {
    /// Elements of the batch.
    pub(super) units: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) depth: usize,
    pub(super) width: usize,
    pub(super) query: Stack,
    pub(super) key: Stack,
    pub(super) value: Stack,
    mask: Mask,
    scale: T,
    pub(super) level: Level,
    pub(super) inner: Inner<T>,
    pack: PackFn<E, T>,
}

/// Some queries and keys of an element of the batch.
#[derive(Debug, Clone)]
pub(super) struct Region {
    pub(super) element: usize,
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
}

/// Where scores are computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scores<T> {
    pub(super) at: *mut T,
    /// From a query to the next.
    pub(super) pitch: usize,
    /// Room for a row of the mask, as long as the pitch.
    pub(super) mask: *mut T,
}

impl<T: Transcendental, E: gemm::Source<T>> Heads<T, E> {
    /// `None` for operands with prologues.
    pub(super) fn new(spec: &Spec, level: Level) -> Option<Self> {
        let stack = |operand, source: &Source| Stack::new(operand, source, spec.batch);
        let [query, key, value] = spec.as_plain()?;
        let given = |source: &Source| Given {
            stack: stack(3, source),
            load: tile::load(source.tensor.dtype, level),
            dtype: source.tensor.dtype,
        };
        Some(Heads {
            units: spec.batch.count(),
            queries: spec.queries,
            keys: spec.keys,
            depth: spec.depth,
            width: spec.width,
            query: stack(0, query),
            key: stack(1, key),
            value: stack(2, value),
            mask: match &spec.mask {
                KeyMask::None => Mask::None,
                KeyMask::Causal => Mask::Causal,
                KeyMask::Where(source) => Mask::Where(given(source)),
                KeyMask::Add(source) => Mask::Add(given(source)),
            },
            scale: T::from_f64(spec.scale()),
            level,
            inner: Inner::new(level),
            pack: packer(level),
        })
    }

    /// Operands read before those of the primitive's own.
    pub(super) fn reads(&self) -> usize {
        match self.mask {
            Mask::None | Mask::Causal => 3,
            Mask::Where(_) | Mask::Add(_) => 4,
        }
    }

    /// Elements from a score to the one of the next query: not a power of two, which would make
    /// columns of scores fall on each other in the first-level cache.
    pub(super) fn pitch(&self) -> usize {
        KEYS.min(self.keys.next_multiple_of(self.inner.panel())) + self.inner.lanes()
    }

    /// Elements from a packed row of so many to the next.
    pub(super) fn padded(&self, columns: usize) -> usize {
        columns.next_multiple_of(self.inner.lanes())
    }

    /// Elements of so many packed columns of so many keys.
    pub(super) fn panels(&self, columns: usize) -> usize {
        self.keys.next_multiple_of(self.inner.panel()) * columns
    }

    /// The blocks of queries.
    pub(super) fn query_blocks(&self) -> usize {
        self.queries.div_ceil(QUERIES)
    }

    pub(super) fn query_block(&self, block: usize) -> Range<usize> {
        block * QUERIES..self.queries.min((block + 1) * QUERIES)
    }

    /// The blocks of keys.
    pub(super) fn key_blocks(&self) -> usize {
        self.keys.div_ceil(KEYS)
    }

    /// The keys of a block that any of these queries sees.
    pub(super) fn key_block(&self, block: usize, queries: &Range<usize>) -> Range<usize> {
        let end = self.keys.min((block + 1) * KEYS);
        let end = match self.mask {
            Mask::Causal => end.min(queries.end),
            _ => end,
        };
        (block * KEYS).min(end)..end
    }

    /// Copies some rows of a matrix, padded to whole registers.
    ///
    /// # Safety
    /// The stack is one of `E` in a checked launch; there is room for the rows.
    pub(super) unsafe fn copy_rows(
        &self,
        operands: &Operands<'_>,
        (stack, element): (&Stack, usize),
        (rows, columns): (Range<usize>, usize),
        to: *mut T,
    ) {
        let start = stack.start(element) + rows.start as isize * stack.row;
        let panel = Panel {
            from: operands
                .read(stack.operand)
                .cast::<E>()
                .wrapping_offset(start),
            across: stack.column,
            along: stack.row,
            lines: columns,
            depth: rows.len(),
            to,
            pitch: self.padded(columns),
        };
        if columns > 0 {
            // SAFETY: by P4 the view stays inside of its tensor.
            unsafe { (self.pack)(&panel) };
        }
    }

    /// Copies the queries in `rows`, scaled.
    ///
    /// # Safety
    /// As for [`Heads::copy_rows`].
    pub(super) unsafe fn copy_queries(
        &self,
        operands: &Operands<'_>,
        element: usize,
        rows: Range<usize>,
        to: *mut T,
    ) {
        let count = rows.len() * self.padded(self.depth);
        // SAFETY: the same contract.
        unsafe {
            self.copy_rows(operands, (&self.query, element), (rows, self.depth), to);
            rows::scale(self.level)(to, count, self.scale);
        }
    }

    /// Multiplies the gradient of queries by the factor of the products.
    ///
    /// # Safety
    /// There are `count` elements.
    pub(super) unsafe fn scale(&self, x: *mut T, count: usize) {
        // SAFETY: the same contract; the level is available.
        unsafe { rows::scale(self.level)(x, count, self.scale) };
    }

    /// Copies all keys or values as the columns of a right matrix.
    ///
    /// # Safety
    /// As for [`Heads::copy_rows`], with room for [`Heads::panels`].
    pub(super) unsafe fn copy_panels(
        &self,
        operands: &Operands<'_>,
        (stack, element): (&Stack, usize),
        columns: usize,
        to: *mut T,
    ) {
        let start = stack.start(element);
        let panel = Panel {
            from: operands
                .read(stack.operand)
                .cast::<E>()
                .wrapping_offset(start),
            across: stack.row,
            along: stack.column,
            lines: self.keys,
            depth: columns,
            to,
            pitch: self.inner.panel(),
        };
        if columns > 0 {
            // SAFETY: by P4 the view stays inside of its tensor.
            unsafe { (self.pack)(&panel) };
        }
    }

    /// The products of some rows of `columns` elements and those of keys or values in panels.
    ///
    /// # Safety
    /// Rows and panels were copied, and there is room for the products.
    pub(super) unsafe fn by_keys(
        &self,
        (region, columns): (&Region, usize),
        rows: *const T,
        panels: *const T,
        to: To<T>,
    ) {
        let sizes = [region.queries.len(), columns, region.keys.len()];
        let left = Left {
            at: rows,
            row: self.padded(columns),
            step: 1,
        };
        // Blocks of keys begin with a panel.
        let right = Right {
            at: panels.wrapping_add(region.keys.start * columns),
            step: self.inner.panel(),
            panel: self.inner.panel() * columns,
        };
        // SAFETY: the same contract.
        unsafe { self.inner.set(sizes, left, right, to) };
    }

    /// The scores of a region, minus infinity from the last key to a whole register. `queries`
    /// begins with those of the region, `keys` with the first of all.
    ///
    /// # Safety
    /// The operands are those of a checked launch, queries and keys were copied from them.
    pub(super) unsafe fn scores(
        &self,
        operands: &Operands<'_>,
        region: &Region,
        (queries, keys): (*const T, *const T),
        to: &Scores<T>,
    ) {
        let (at, row) = (to.at, to.pitch);
        // SAFETY: the same contract; a score has its place at query and key, a row is a multiple of
        // a register.
        unsafe {
            self.by_keys((region, self.depth), queries, keys, To { at, row });
            self.mask(operands, region, to);
            let len = region.keys.len();
            for i in 0..region.queries.len() {
                let row = at.add(i * row);
                (len..self.padded(len)).for_each(|j| row.add(j).write(T::LOWEST));
            }
        }
    }

    /// Hides or shifts the scores of a region.
    unsafe fn mask(&self, operands: &Operands<'_>, region: &Region, to: &Scores<T>) {
        let len = region.keys.len();
        let each = |given: &Given, apply: &dyn Fn(*mut T)| {
            let Given { stack, load, dtype } = given;
            let start = stack.start(region.element) + region.keys.start as isize * stack.column;
            for (i, query) in region.queries.clone().enumerate() {
                let start = start + query as isize * stack.row;
                let from = operands.read(stack.operand);
                let from = from.wrapping_offset(start * dtype.size() as isize);
                // SAFETY: by P4 the mask's view stays inside of its tensor; there is room for a row
                // of it.
                unsafe { load(to.mask.cast(), from, stack.column, len) };
                apply(to.at.wrapping_add(i * to.pitch));
            }
        };
        match &self.mask {
            Mask::None => {}
            Mask::Causal => {
                for (i, query) in region.queries.clone().enumerate() {
                    let row = to.at.wrapping_add(i * to.pitch);
                    let seen = (query + 1).saturating_sub(region.keys.start);
                    // SAFETY: a row has so many scores.
                    (seen..len).for_each(|j| unsafe { row.add(j).write(T::LOWEST) });
                }
            }
            Mask::Where(given) => {
                let hide = rows::hide(self.level);
                // SAFETY: rows of scores and of the mask have whole registers.
                each(given, &|row| unsafe { hide(row, to.mask.cast(), len) });
            }
            Mask::Add(given) => {
                let add = rows::add(self.level);
                // SAFETY: rows of scores and of the mask have whole registers.
                each(given, &|row| unsafe { add(row, to.mask, len) });
            }
        }
    }
}

/// Whether operands are plain ones of one type that is summed in `accumulator`, with a mask that
/// can be read.
pub(super) fn supports(spec: &Spec, accumulator: DType) -> bool {
    let Some(plain) = spec.as_plain() else {
        return false;
    };
    let dtype = plain[0].tensor.dtype;
    let operands = plain
        .iter()
        .all(|source| source.tensor.dtype == dtype && source.tensor.layout.is_dense());
    let mask = match &spec.mask {
        KeyMask::None | KeyMask::Causal => true,
        KeyMask::Where(mask) => mask.tensor.layout.is_dense(),
        KeyMask::Add(mask) => {
            mask.tensor.layout.is_dense() && Lane::of(mask.tensor.dtype) == Lane::of(accumulator)
        }
    };
    dtype.is_float() && dtype.accumulator() == accumulator && operands && mask
}
