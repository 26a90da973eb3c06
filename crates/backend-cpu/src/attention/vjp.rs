//! The vjp of attention: weights again from the log-sum-exp, and their cotangents.
//!
//! Where there are enough elements of the batch, a worker takes whole ones and computes each region
//! of scores once. Where there are not, gradients of queries and of keys are shared out by blocks,
//! for which regions are computed twice. Either way a gradient is summed over the same regions in
//! the same order.

use std::ops::Range;

use backprop_core::{AttentionVjp as Spec, DType};

use super::heads::{Heads, QUERIES, Region, Scores, Stack};
use super::rows::{self, Pair, Transcendental};
use super::{Share, fill, pieces};
use crate::Level;
use crate::gemm::{self, Left, Right, To};
use crate::memory::Operands;
use crate::pool::Worker;
use crate::tile;

#[derive(Debug)]
pub(super) struct Vjp<T, E> {
    heads: Heads<T, E>,
    out: Stack,
    lse: Stack,
    cotangent: Stack,
    /// The types of the gradients of queries, keys and values.
    results: [DType; 3],
    cut: Cut,
}

/// What is shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Elements of the batch.
    Elements,
    /// Blocks of queries, then blocks of keys, of each element.
    Blocks,
}

/// Gradients to compute: of some blocks of queries from some blocks of keys, or the other way round.
#[derive(Debug, Clone)]
struct Task {
    element: usize,
    queries: Range<usize>,
    keys: Range<usize>,
    wanted: Wanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    OfQueries,
    OfKeys,
}

/// A worker's scratch memory: what it holds of an element of the batch, then what it works with.
#[derive(Clone, Copy)]
struct Room<T> {
    queries: *mut T,
    cotangents: *mut T,
    keys: *mut T,
    key_panels: *mut T,
    value_panels: *mut T,
    lse: *mut T,
    /// The products of results and cotangents.
    along: *mut T,
    /// A block of results.
    out: *mut T,
    scores: Scores<T>,
    products: *mut T,
    /// Gradients: of all queries, of a block of keys and of its values.
    by: [*mut T; 3],
}

impl<T: Transcendental, E: gemm::Source<T>> Vjp<T, E> {
    /// `None` for operands with prologues.
    pub(super) fn new(spec: &Spec, level: Level, threads: usize) -> Option<Self> {
        let heads = Heads::new(&spec.heads, level)?;
        let first = heads.reads();
        let stack = |i: usize, source| Stack::new(first + i, source, spec.heads.batch);
        let (units, even) = (heads.units, heads.units.is_multiple_of(threads));
        Some(Vjp {
            out: stack(0, &spec.out),
            lse: stack(1, &spec.lse),
            cotangent: stack(2, &spec.cotangent),
            results: [0, 1, 2].map(|i: usize| spec.results[i].dtype),
            cut: if even || units >= 4 * threads {
                Cut::Elements
            } else {
                Cut::Blocks
            },
            heads,
        })
    }

    fn pieces(&self) -> ([usize; 14], usize) {
        let heads = &self.heads;
        let (queries, keys) = (heads.queries, heads.keys);
        let rows = QUERIES.min(queries);
        let [depth, width] = [heads.depth, heads.width].map(|columns| heads.padded(columns));
        pieces([
            queries * depth,
            queries * width,
            keys * depth,
            heads.panels(heads.depth),
            heads.panels(heads.width),
            queries,
            queries,
            rows * width,
            rows * heads.pitch(),
            heads.pitch(),
            rows * heads.pitch(),
            queries * heads.depth,
            heads.pitch() * heads.depth,
            heads.pitch() * heads.width,
        ])
    }

    fn room(&self, scratch: *mut u8) -> Room<T> {
        let (starts, _) = self.pieces();
        let at = |piece: usize| scratch.cast::<T>().wrapping_add(starts[piece]);
        Room {
            queries: at(0),
            cotangents: at(1),
            keys: at(2),
            key_panels: at(3),
            value_panels: at(4),
            lse: at(5),
            along: at(6),
            out: at(7),
            scores: Scores {
                at: at(8),
                pitch: self.heads.pitch(),
                mask: at(9),
            },
            products: at(10),
            by: [at(11), at(12), at(13)],
        }
    }

    /// Copies everything of an element of the batch.
    unsafe fn hold(&self, operands: &Operands<'_>, element: usize, room: &Room<T>) {
        let heads = &self.heads;
        let (queries, keys) = (heads.queries, heads.keys);
        let (depth, width) = (heads.depth, heads.width);
        let (key, value) = ((&heads.key, element), (&heads.value, element));
        let (out, cotangent) = ((&self.out, element), (&self.cotangent, element));
        let pitch = heads.padded(width);
        // SAFETY: by P4 operands are as the spec says; the room was made for them.
        unsafe {
            heads.copy_queries(operands, element, 0..queries, room.queries);
            heads.copy_rows(operands, cotangent, (0..queries, width), room.cotangents);
            heads.copy_rows(operands, key, (0..keys, depth), room.keys);
            heads.copy_panels(operands, key, depth, room.key_panels);
            heads.copy_panels(operands, value, width, room.value_panels);
            let lse = operands.read(self.lse.operand).cast::<T>();
            let lse = lse.wrapping_offset(self.lse.start(element));
            for i in 0..queries {
                let from = lse.wrapping_offset(i as isize * self.lse.row);
                room.lse.add(i).write(from.read_unaligned());
            }
            for block in (0..heads.query_blocks()).map(|block| heads.query_block(block)) {
                heads.copy_rows(operands, out, (block.clone(), width), room.out);
                for (i, query) in block.enumerate() {
                    let (x, y) = (room.out.add(i * pitch), room.cotangents.add(query * pitch));
                    let along = rows::dot(heads.level)(x, y, width);
                    room.along.add(query).write(along);
                }
            }
        }
    }

    fn tasks(&self) -> usize {
        let heads = &self.heads;
        match self.cut {
            Cut::Elements => heads.units,
            Cut::Blocks => heads.units * (heads.query_blocks() + heads.key_blocks()),
        }
    }

    fn task(&self, number: usize) -> Task {
        let (queries, keys) = (self.heads.query_blocks(), self.heads.key_blocks());
        let all = |element| Task {
            element,
            queries: 0..queries,
            keys: 0..keys,
            wanted: Wanted::All,
        };
        if self.cut == Cut::Elements {
            return all(number);
        }
        let (all, block) = (all(number / (queries + keys)), number % (queries + keys));
        match block.checked_sub(queries) {
            None => Task {
                queries: block..block + 1,
                wanted: Wanted::OfQueries,
                ..all
            },
            Some(block) => Task {
                keys: block..block + 1,
                wanted: Wanted::OfKeys,
                ..all
            },
        }
    }

    unsafe fn run(&self, operands: &Operands<'_>, task: &Task, room: &Room<T>) {
        let heads = &self.heads;
        let Task {
            element, wanted, ..
        } = *task;
        let [of_queries, of_keys, of_values] = room.by;
        let queries = self.rows_of(&task.queries);
        let (first, count) = (queries.start * heads.depth, queries.len() * heads.depth);
        // SAFETY: the room was made for these gradients, and they are this worker's to write.
        unsafe {
            fill(of_queries.add(first), count, T::ZERO);
            for block in task.keys.clone() {
                let keys = heads.key_block(block, &(0..usize::MAX));
                fill(of_keys, keys.len() * heads.depth, T::ZERO);
                fill(of_values, keys.len() * heads.width, T::ZERO);
                for queries in task.queries.clone().map(|block| heads.query_block(block)) {
                    let keys = heads.key_block(block, &queries);
                    if keys.is_empty() {
                        continue;
                    }
                    let region = Region {
                        element,
                        queries,
                        keys,
                    };
                    self.weigh(operands, &region, room);
                    if wanted != Wanted::OfKeys {
                        self.add_to_queries(&region, room);
                    }
                    if wanted != Wanted::OfQueries {
                        self.add_to_keys(&region, room);
                    }
                }
                if wanted != Wanted::OfQueries {
                    let row = element * heads.keys + keys.start;
                    self.store(
                        operands,
                        1,
                        (row * heads.depth, keys.len() * heads.depth),
                        of_keys,
                    );
                    self.store(
                        operands,
                        2,
                        (row * heads.width, keys.len() * heads.width),
                        of_values,
                    );
                }
            }
            if wanted != Wanted::OfKeys {
                heads.scale(of_queries.add(first), count);
                let at = element * heads.queries * heads.depth + first;
                self.store(operands, 0, (at, count), of_queries.add(first));
            }
        }
    }

    /// The queries of some blocks.
    fn rows_of(&self, blocks: &Range<usize>) -> Range<usize> {
        let end = self.heads.queries;
        end.min(blocks.start * QUERIES)..end.min(blocks.end * QUERIES)
    }

    /// Leaves the weights of a region and the cotangents of its scores in the room.
    unsafe fn weigh(&self, operands: &Operands<'_>, region: &Region, room: &Room<T>) {
        let heads = &self.heads;
        let first = region.queries.start;
        let queries = room.queries.wrapping_add(first * heads.padded(heads.depth));
        let cotangents = room
            .cotangents
            .wrapping_add(first * heads.padded(heads.width));
        let products = To {
            at: room.products,
            row: room.scores.pitch,
        };
        let pair = Pair {
            rows: region.queries.len(),
            scores: room.scores.at,
            products: room.products,
            pitch: room.scores.pitch,
            columns: heads.padded(region.keys.len()),
            lse: room.lse.wrapping_add(first),
            along: room.along.wrapping_add(first),
        };
        // SAFETY: all that is read was copied, and the room was made for a region.
        unsafe {
            let from = (queries.cast_const(), room.key_panels.cast_const());
            heads.scores(operands, region, from, &room.scores);
            heads.by_keys(
                (region, heads.width),
                cotangents,
                room.value_panels,
                products,
            );
            rows::weigh(heads.level)(&pair);
        }
    }

    /// Adds keys to the gradients of queries.
    unsafe fn add_to_queries(&self, region: &Region, room: &Room<T>) {
        let heads = &self.heads;
        let sizes = [region.queries.len(), region.keys.len(), heads.depth];
        let left = Left {
            at: room.products.cast_const(),
            row: room.scores.pitch,
            step: 1,
        };
        let right = self.rows(room.keys, region.keys.start, heads.depth);
        let to = To {
            at: room.by[0].wrapping_add(region.queries.start * heads.depth),
            row: heads.depth,
        };
        // SAFETY: all three lie in this worker's room.
        unsafe { heads.inner.add(sizes, left, right, to) };
    }

    /// Adds queries to the gradients of keys, and cotangents to those of values.
    unsafe fn add_to_keys(&self, region: &Region, room: &Room<T>) {
        let heads = &self.heads;
        let (keys, first) = (region.keys.len(), region.queries.start);
        for (weights, rows, columns, to) in [
            (room.products, room.queries, heads.depth, room.by[1]),
            (room.scores.at, room.cotangents, heads.width, room.by[2]),
        ] {
            let left = Left {
                at: weights.cast_const(),
                row: 1,
                step: room.scores.pitch,
            };
            let to = To {
                at: to,
                row: columns,
            };
            let right = self.rows(rows, first, columns);
            // SAFETY: all three lie in this worker's room.
            unsafe {
                let sizes = [keys, region.queries.len(), columns];
                heads.inner.add(sizes, left, right, to);
            }
        }
    }

    /// Copied rows, from `first` on, as a right matrix.
    fn rows(&self, rows: *mut T, first: usize, columns: usize) -> Right<T> {
        let step = self.heads.padded(columns);
        Right {
            at: rows.wrapping_add(first * step).cast_const(),
            step,
            panel: self.heads.inner.panel(),
        }
    }

    /// Stores `count` elements of a gradient from element `at` on.
    unsafe fn store(
        &self,
        operands: &Operands<'_>,
        gradient: usize,
        (at, count): (usize, usize),
        from: *const T,
    ) {
        let dtype = self.results[gradient];
        let to = operands.write(gradient).wrapping_add(at * dtype.size());
        // SAFETY: by P4 the gradient has these elements, which are this worker's.
        unsafe { tile::store(dtype, to, from.cast(), count) };
    }
}

impl<T: Transcendental, E: gemm::Source<T>> Share for Vjp<T, E> {
    fn scratch(&self) -> usize {
        self.pieces().1 * size_of::<T>()
    }

    unsafe fn share(&self, worker: Worker<'_>, operands: &Operands<'_>, scratch: *mut u8) {
        let room = self.room(scratch);
        let mut held = None;
        for number in worker.items(self.tasks()) {
            let task = self.task(number);
            // SAFETY: tasks are shared out, and with them the gradients; each worker has scratch
            // memory of its own.
            unsafe {
                if held != Some(task.element) {
                    self.hold(operands, task.element, &room);
                    held = Some(task.element);
                }
                self.run(operands, &task, &room);
            }
        }
    }
}
