//! Rows of a table by index, picked and added.
//!
//! Adding is shared out by the rows of the table: every worker looks at all
//! indices and adds what falls into its rows, so that the order of a sum is
//! that of the indices.

use std::ops::Range;

use backprop_core::{DType, Error, ErrorKind, Indexing as Spec, Primitive, Result, Scalar};

use crate::Level;
use crate::memory::Operands;
use crate::pool::{Pool, Worker};
use crate::split::Split;
use crate::tile::{Lane, Load, Loop, TILE, Values, function, is_native, load, store};

/// Where rows lie.
#[derive(Debug)]
struct Geometry {
    outer: usize,
    rows: usize,
    count: usize,
    inner: usize,
    dtype: DType,
    index: DType,
}

/// A prepared gather.
#[derive(Debug)]
pub(crate) struct Gather {
    geometry: Geometry,
    split: Split,
}

/// A prepared scatter-add.
#[derive(Debug)]
pub(crate) struct ScatterAdd {
    geometry: Geometry,
    split: Split,
    add: Loop,
    load: Load,
}

impl Geometry {
    fn new(spec: &Spec) -> Geometry {
        Geometry {
            outer: spec.outer,
            rows: spec.rows,
            count: spec.count(),
            inner: spec.inner,
            dtype: spec.table.dtype,
            index: spec.indices.dtype,
        }
    }

    /// The row that index `i` names, the nearest one inside of the table.
    ///
    /// # Safety
    /// `indices` must be those of a checked launch, and `i` below their count.
    unsafe fn row(&self, indices: *const u8, i: usize) -> usize {
        // SAFETY: handed on.
        let row = unsafe {
            match self.index {
                DType::I32 => i64::from(indices.cast::<i32>().add(i).read_unaligned()),
                _ => indices.cast::<i64>().add(i).read_unaligned(),
            }
        };
        row.clamp(0, self.rows as i64 - 1) as usize
    }
}

fn declined(primitive: &Primitive) -> Error {
    Error::new(ErrorKind::Unsupported {
        backend: "cpu".into(),
        primitive: primitive.to_string(),
    })
}

fn is_dense(spec: &Spec) -> bool {
    [&spec.table, &spec.indices, &spec.picked]
        .iter()
        .all(|tensor| tensor.layout.is_dense())
}

impl Gather {
    pub(crate) fn new(spec: &Spec) -> Result<Gather> {
        if !is_dense(spec) {
            return Err(declined(&Primitive::Gather(spec.clone())));
        }
        let cost = spec.picked.shape.count().saturating_mul(4);
        Ok(Gather {
            geometry: Geometry::new(spec),
            split: Split::of(cost),
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
        let g = &self.geometry;
        let bytes = g.inner * g.dtype.size();
        let (table, indices, picked) = (operands.read(0), operands.read(1), operands.write(0));
        for at in worker.share(g.outer * g.count) {
            // SAFETY: the row is inside of its table, picked rows are shared out.
            unsafe {
                let row = at / g.count * g.rows + g.row(indices, at % g.count);
                std::ptr::copy_nonoverlapping(
                    table.add(row * bytes),
                    picked.add(at * bytes),
                    bytes,
                );
            }
        }
    }
}

impl ScatterAdd {
    pub(crate) fn new(spec: &Spec, level: Level) -> Result<ScatterAdd> {
        let dtype = spec.table.dtype;
        let scalar = if dtype == DType::Bool {
            Scalar::Or
        } else {
            Scalar::Add
        };
        let add = function(scalar, Lane::of(dtype), level).filter(|_| is_dense(spec));
        let add = add.ok_or_else(|| declined(&Primitive::ScatterAdd(spec.clone())))?;
        let elements = spec.picked.shape.count() + spec.table.shape.count();
        Ok(ScatterAdd {
            geometry: Geometry::new(spec),
            split: Split::of(elements.saturating_mul(4)),
            add,
            load: load(dtype, level),
        })
    }

    /// 16-bit sums grow in f32.
    pub(crate) fn scratch(&self) -> usize {
        let g = &self.geometry;
        if is_native(g.dtype) {
            return 0;
        }
        g.outer * g.rows * g.inner * Lane::of(g.dtype).size()
    }

    /// # Safety
    /// The operands are those of a checked launch of the spec.
    pub(crate) unsafe fn run(&self, pool: &Pool, operands: &Operands<'_>) -> Result<()> {
        // SAFETY: handed on.
        self.split
            .run(pool, &|worker| unsafe { self.work(worker, operands) })
    }

    unsafe fn work(&self, worker: Worker<'_>, operands: &Operands<'_>) {
        let g = &self.geometry;
        let native = is_native(g.dtype);
        let sums = if native {
            operands.write(0)
        } else {
            operands.scratch()
        };
        let row_bytes = g.inner * Lane::of(g.dtype).size();
        let mine = worker.share(g.rows);
        for o in 0..g.outer {
            let first = o * g.rows + mine.start;
            // SAFETY: rows are shared out; the scratch memory has the size of
            // the table (P4).
            unsafe {
                sums.add(first * row_bytes)
                    .write_bytes(0, mine.len() * row_bytes);
                self.add_rows(operands, sums, o, &mine);
                if !native {
                    let (at, n) = (first * g.inner, mine.len() * g.inner);
                    let to = operands.write(0).add(at * g.dtype.size());
                    store(g.dtype, to, sums.add(first * row_bytes), n);
                }
            }
        }
    }

    /// Adds the picked rows of table `o` that fall into `mine`.
    unsafe fn add_rows(
        &self,
        operands: &Operands<'_>,
        sums: *mut u8,
        o: usize,
        mine: &Range<usize>,
    ) {
        let g = &self.geometry;
        let (picked, indices) = (operands.read(0), operands.read(1));
        let size = Lane::of(g.dtype).size();
        let mut tile = [0u64; TILE];
        let tile: *mut u8 = tile.as_mut_ptr().cast();
        for i in 0..g.count {
            // SAFETY: there are `count` indices.
            let row = unsafe { g.row(indices, i) };
            if !mine.contains(&row) {
                continue;
            }
            let (to, from) = ((o * g.rows + row) * g.inner, (o * g.count + i) * g.inner);
            for start in (0..g.inner).step_by(TILE) {
                let n = TILE.min(g.inner - start);
                // SAFETY: both rows lie inside of their tables; a tile holds
                // any lane.
                unsafe {
                    let to = sums.add((to + start) * size);
                    (self.load)(tile, picked.add((from + start) * g.dtype.size()), 1, n);
                    let operands = [to, tile, to].map(|from| Values::each(from));
                    (self.add)(to, operands, n);
                }
            }
        }
    }
}
