//! Row programs: softmax, norms, cross-entropy and their vjps.
//!
//! A row program runs on tiles like a sweep, only that a tile is made of whole
//! rows: several short ones, or a single long one, which stays in cache while
//! it is reduced and used again. A row is summed in the blocks in which a sweep
//! sums it.

use backprop_core::{Error, ErrorKind, Inst, Primitive, Result, Rows as Spec};

use crate::Level;
use crate::memory::Operands;
use crate::pool::{Pool, Worker};
use crate::split::Split;
use crate::sweep::cost;
use crate::tile::{Code, Entry, Request, Results, lower};

/// A prepared row program.
#[derive(Debug)]
pub(crate) struct Rows {
    code: Code,
    count: usize,
    width: usize,
    /// Rows in a tile.
    group: usize,
    split: Split,
    threads: usize,
}

/// Points of the rows in a tile, where these are shorter: their values stay in the first-level cache,
/// and a step costs little beside them.
const GROUP: usize = 1024;
/// Groups that are worth being handed out apart.
const PIECE: usize = 4;

/// The longest rows. What is computed along a row is kept until its reductions
/// are known: longer ones would not stay in cache, and take memory without bound.
const LONGEST: usize = 1 << 16;

/// The longest row that is alone, which one thread works on.
const LONGEST_ALONE: usize = 1 << 12;

/// Whether a row program can be prepared: rows lie together, and what is
/// reduced is not the same all along a row.
pub(crate) fn supports(spec: &Spec) -> bool {
    let longest = match spec.count() {
        1 => LONGEST_ALONE,
        _ => LONGEST,
    };
    if spec.len() > longest {
        return false;
    }
    let valued = spec.row_valued();
    let reduced = |inst: &Inst| match inst {
        Inst::Reduce(_, operand) => valued.get(operand.index()) == Some(&true),
        _ => true,
    };
    spec.axes.is_trailing(spec.space.rank())
        && !spec.axes.is_empty()
        && spec
            .body
            .program
            .code()
            .iter()
            .all(|(inst, _)| reduced(inst))
}

impl Rows {
    pub(crate) fn new(spec: &Spec, level: Level, threads: usize) -> Result<Rows> {
        let declined = |what: String| {
            Error::new(ErrorKind::Unsupported {
                backend: format!("cpu ({what})"),
                primitive: Primitive::Rows(spec.clone()).to_string(),
            })
        };
        if !supports(spec) {
            return Err(declined(
                "rows that are too long, or not the last axes".into(),
            ));
        }
        let (count, width) = (spec.count(), spec.len());
        let group = (GROUP / width).clamp(1, count);
        let code = lower(&Request {
            body: &spec.body,
            space: spec.space,
            external: 0,
            row_axes: spec.axes,
            capacity: group * width,
            within: None,
            results: Results::Left,
            level,
        });
        let split = Split::of(spec.space.count().saturating_mul(cost(&spec.body, level)));
        Ok(Rows {
            code: code.map_err(declined)?,
            count,
            width,
            group,
            split,
            threads,
        })
    }

    /// The program of a row.
    pub(crate) fn program(&mut self) -> &mut Code {
        &mut self.code
    }

    pub(crate) fn scratch(&self) -> usize {
        self.code.scratch() * self.threads
    }

    /// # Safety
    /// The operands are those of a checked launch of the spec.
    pub(crate) unsafe fn run(&self, pool: &Pool, operands: &Operands<'_>) -> Result<()> {
        // SAFETY: handed on.
        self.split
            .run(pool, &|worker| unsafe { self.work(worker, operands) })
    }

    unsafe fn work(&self, worker: Worker<'_>, operands: &Operands<'_>) {
        let entry = Entry {
            operands,
            first_read: 0,
            external: std::ptr::null(),
            scratch: operands
                .scratch()
                .wrapping_add(self.code.scratch() * worker.id()),
            points: self.code.capacity(),
            width: self.width,
        };
        // SAFETY: groups of rows are shared out.
        unsafe {
            self.code.run(&entry, |frame| {
                for group in worker
                    .pieces(self.count.div_ceil(self.group), PIECE)
                    .flatten()
                {
                    let rows = group * self.group..self.count.min((group + 1) * self.group);
                    let points = rows.start * self.width..rows.end * self.width;
                    self.code.tile(frame, points, rows);
                }
            });
        }
    }
}
