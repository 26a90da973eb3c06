//! Attention: the weights of a block of queries, and with them the sums of values.
//!
//! A worker holds the keys and values of an element of the batch in the order in which the kernels
//! read them, and goes through its blocks of queries.

use backprop_core::Attention as Spec;

use super::heads::{Heads, QUERIES, Region, Scores};
use super::rows::{self, Block, Transcendental};
use super::{Share, fill, pieces};
use crate::Level;
use crate::gemm::{self, Left, Right, To};
use crate::memory::Operands;
use crate::pool::Worker;
use crate::sweep::{Elementwise, Running};

#[derive(Debug)]
pub(super) struct Forward<T, E> {
    heads: Heads<T, E>,
    epilogue: Elementwise,
    /// The operand to which log-sum-exps are written.
    lse: usize,
}

/// A worker's scratch memory.
#[derive(Clone, Copy)]
struct Room<T> {
    keys: *mut T,
    values: *mut T,
    queries: *mut T,
    scores: Scores<T>,
    out: *mut T,
    peaks: *mut T,
    sums: *mut T,
}

impl<T: Transcendental, E: gemm::Source<T>> Forward<T, E> {
    pub(super) fn new(spec: &Spec, level: Level) -> Result<Self, String> {
        Ok(Forward {
            heads: Heads::new(&spec.heads, level).ok_or("a prologue")?,
            epilogue: Elementwise::new(&spec.epilogue, spec.space, 1, level)?,
            lse: spec.epilogue.outputs.len(),
        })
    }

    fn pieces(&self) -> ([usize; 8], usize) {
        let heads = &self.heads;
        let rows = QUERIES.min(heads.queries);
        pieces([
            heads.panels(heads.depth),
            heads.keys * heads.padded(heads.width),
            rows * heads.padded(heads.depth),
            rows * heads.pitch(),
            heads.pitch(),
            rows * heads.width,
            rows,
            rows,
        ])
    }

    fn room(&self, scratch: *mut u8) -> Room<T> {
        let (starts, _) = self.pieces();
        let at = |piece: usize| scratch.cast::<T>().wrapping_add(starts[piece]);
        Room {
            keys: at(0),
            values: at(1),
            queries: at(2),
            scores: Scores {
                at: at(3),
                pitch: self.heads.pitch(),
                mask: at(4),
            },
            out: at(5),
            peaks: at(6),
            sums: at(7),
        }
    }

    /// Copies keys and values.
    unsafe fn hold(&self, operands: &Operands<'_>, element: usize, room: &Room<T>) {
        let heads = &self.heads;
        let (keys, values) = ((&heads.key, element), (&heads.value, element));
        // SAFETY: by P4 operands are as the spec says; the room was made for them.
        unsafe {
            heads.copy_panels(operands, keys, heads.depth, room.keys);
            heads.copy_rows(operands, values, (0..heads.keys, heads.width), room.values);
        }
    }

    /// Leaves the results of a block of queries in the room, their log-sum-exps at `lse`.
    unsafe fn block(
        &self,
        operands: &Operands<'_>,
        (element, block): (usize, usize),
        room: &Room<T>,
        lse: *mut T,
    ) {
        let heads = &self.heads;
        let queries = heads.query_block(block);
        let rows = queries.len();
        let mut block = Block {
            rows,
            scores: room.scores.at,
            pitch: room.scores.pitch,
            columns: 0,
            peaks: room.peaks,
            sums: room.sums,
            out: room.out,
            width: heads.width,
        };
        // SAFETY: the room was made for as many queries; the operands are those of the spec.
        unsafe {
            fill(room.out, rows * heads.width, T::ZERO);
            fill(room.peaks, rows, T::LOWEST);
            fill(room.sums, rows, T::ZERO);
            heads.copy_queries(operands, element, queries.clone(), room.queries);
            for keys in (0..heads.key_blocks()).map(|block| heads.key_block(block, &queries)) {
                if keys.is_empty() {
                    continue;
                }
                let region = Region {
                    element,
                    queries: queries.clone(),
                    keys,
                };
                let from = (room.queries.cast_const(), room.keys.cast_const());
                heads.scores(operands, &region, from, &room.scores);
                block.columns = heads.padded(region.keys.len());
                rows::soften(heads.level)(&block);
                self.gather(&region, room);
            }
            rows::finish(heads.level)(&block, lse);
        }
    }

    /// Adds values by their weights.
    unsafe fn gather(&self, region: &Region, room: &Room<T>) {
        let heads = &self.heads;
        let pitch = heads.padded(heads.width);
        let sizes = [region.queries.len(), region.keys.len(), heads.width];
        let weights = Left {
            at: room.scores.at.cast_const(),
            row: room.scores.pitch,
            step: 1,
        };
        let values = Right {
            at: room
                .values
                .wrapping_add(region.keys.start * pitch)
                .cast_const(),
            step: pitch,
            panel: heads.inner.panel(),
        };
        let to = To {
            at: room.out,
            row: heads.width,
        };
        // SAFETY: all three lie in this worker's room.
        unsafe { heads.inner.add(sizes, weights, values, to) };
    }
}

impl<T: Transcendental, E: gemm::Source<T>> Share for Forward<T, E> {
    fn scratch(&self) -> usize {
        self.pieces().1 * size_of::<T>()
    }

    unsafe fn share(&self, worker: Worker<'_>, operands: &Operands<'_>, scratch: *mut u8) {
        let heads = &self.heads;
        let (room, blocks) = (self.room(scratch), heads.query_blocks());
        let lse = operands.write(self.lse).cast::<T>();
        let mut held = None;
        let points = heads.units * heads.queries * heads.width;
        let work = |running: &Running<'_>| {
            for task in worker.items(heads.units * blocks) {
                let (element, block) = (task / blocks, task % blocks);
                // Heads that share their keys hold them once.
                let wanted = [&heads.key, &heads.value].map(|stack| stack.start(element));
                let queries = heads.query_block(block);
                let first = element * heads.queries + queries.start;
                // SAFETY: blocks of queries are shared out, and with them the results; each worker
                // has scratch memory of its own.
                unsafe {
                    if held != Some(wanted) {
                        self.hold(operands, element, &room);
                        held = Some(wanted);
                    }
                    let lse = lse.wrapping_add(first);
                    self.block(operands, (element, block), &room, lse);
                    if heads.width > 0 {
                        let range = first * heads.width..(first + queries.len()) * heads.width;
                        running.run(range, Some((room.out.cast(), T::DTYPE)));
                    }
                }
            }
        };
        // SAFETY: the operands are those of the epilogue's primitive.
        unsafe { self.epilogue.enter(operands, (heads.reads(), points), work) };
    }
}
