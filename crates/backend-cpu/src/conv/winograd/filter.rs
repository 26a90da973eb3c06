//! The vjp by the filter: sums over all tiles.
//!
//! Tiles are summed in a number of parts that depends on sizes alone, whose sums are added in order.

use std::marker::PhantomData;
use std::ops::Range;

use super::grid::SIDE;
use super::*;
use crate::gemm::{Call, Left, Right, Sink, To, typed};
use crate::pool::{Worker, share};
use kernels::Together;

/// Bytes of the points of a block.
const POINT_BYTES: usize = 448 << 10;
/// Tiles that repay adding to the sums.
const FEWEST: usize = 32;
/// Bytes of sums in all parts, and parts at most.
const SUM_BYTES: usize = 8 << 20;
const PARTS: usize = 2;

/// A prepared vjp.
#[derive(Debug)]
struct Filter {
    common: Common,
    /// The input, and the cotangents.
    seen: Images,
    cotangents: Images,
    parts: usize,
    /// Runs of output channels that different workers may have.
    cells: usize,
}

/// A worker's memory.
struct Room {
    rows: *mut f32,
    seen: Points,
    cotangents: Points,
}

pub(super) fn prepare(
    g: &Geometry,
    [places, positions]: [[usize; 2]; 2],
    common: impl FnOnce(Grid) -> Common,
) -> Box<dyn Product> {
    let images = |strides: &[isize], sizes, origin, channels: usize| Images {
        sizes,
        origin,
        channels,
        image: strides[0],
        group: channels as isize * strides[1],
        channel: strides[1],
        row: strides[2],
    };
    let padding = [g.windows[0].padding, g.windows[1].padding].map(|padding| padding as isize);
    let wide = |channels: usize| channels.next_multiple_of(GROUP);
    let (seen, out) = (wide(g.channels), wide(g.out));
    let tiles = POINT_BYTES / (PLANES * (seen + out) * size_of::<f32>());
    let common = common(Grid::new(g.images, places, tiles.max(FEWEST)));
    let sums = PLANES * g.out * seen * size_of::<f32>();
    let parts = (SUM_BYTES / sums).clamp(1, PARTS.min(common.grid.blocks()));
    let cells = common.threads.div_ceil(parts * common.groups);
    Box::new(Filter {
        seen: images(&g.x, positions, padding.map(|p| -p), g.channels),
        cotangents: images(&g.y, places, [0; 2], g.out),
        parts,
        cells: cells.clamp(1, g.out.div_ceil(GROUP)),
        common,
    })
}

impl Product for Filter {
    fn scratch(&self) -> usize {
        let sums = self.common.groups * self.parts * self.sum_elements();
        (sums + self.common.threads * self.room_elements()) * size_of::<f32>()
    }

    fn workers(&self) -> usize {
        self.common.workers
    }

    unsafe fn run(&self, worker: Worker<'_>, call: &Call<'_, u8, u8>) {
        // SAFETY: the same contract.
        unsafe { typed(call, |call| self.share(worker, call)) }
    }
}

impl Filter {
    /// Elements of a row of the sums at a point.
    fn row(&self) -> usize {
        self.seen.channels.next_multiple_of(GROUP)
    }

    /// Elements of the sums of a part of a group at one point.
    fn point(&self) -> usize {
        self.cotangents.channels * self.row() + STAGGER
    }

    fn sum_elements(&self) -> usize {
        PLANES * self.point()
    }

    /// The parts of a worker's memory.
    fn room_sizes(&self) -> [usize; 3] {
        let [tiles, columns, _] = self.common.grid.most();
        let cell = self.cotangents.channels.div_ceil(self.cells);
        [
            row_elements(columns).max(9 * self.row()),
            Points::elements(self.seen.channels, tiles),
            Points::elements(cell, tiles),
        ]
        .map(|elements| elements.next_multiple_of(GROUP))
    }

    fn room_elements(&self) -> usize {
        self.room_sizes().iter().sum()
    }

    /// The sums of a part of a group.
    fn sums(&self, call: &Call<'_, f32, f32>, group: usize, part: usize) -> *mut f32 {
        let at = (group * self.parts + part) * self.sum_elements();
        call.scratch.cast::<f32>().wrapping_add(at)
    }

    /// A worker's memory, for a block of so many tiles and so many output channels.
    fn room(
        &self,
        call: &Call<'_, f32, f32>,
        worker: usize,
        (tiles, channels): (usize, usize),
    ) -> Room {
        let [rows, seen, _] = self.room_sizes();
        let own = worker * self.room_elements();
        let at = |elements| {
            let sums = self.sums(call, self.common.groups, 0);
            sums.wrapping_add(own + elements)
        };
        Room {
            rows: at(0),
            seen: Points::new(at(rows), self.seen.channels, tiles),
            cotangents: Points::new(at(rows + seen), channels, tiles),
        }
    }

    unsafe fn share(&self, worker: Worker<'_>, call: &Call<'_, f32, f32>) {
        let (groups, out) = (self.common.groups, self.cotangents.channels);
        for task in worker.items(groups * self.parts * self.cells) {
            let (task, cell) = (task / self.cells, task % self.cells);
            let (group, part) = (task / self.parts, task % self.parts);
            let channels = share(out, cell, self.cells);
            // SAFETY: each task has sums of its own, and each worker memory of its own.
            unsafe { self.part(call, (group, part), channels, worker.id()) };
        }
        worker.barrier();
        for row in worker.share(groups * out) {
            // SAFETY: all sums are there, and rows are shared out.
            unsafe { self.taps(call, row, worker.id()) };
        }
    }

    /// The sums of a part, for some output channels.
    unsafe fn part(
        &self,
        call: &Call<'_, f32, f32>,
        (group, part): (usize, usize),
        out: Range<usize>,
        worker: usize,
    ) {
        let common = &self.common;
        let sums = self.sums(call, group, part);
        let blocks = share(common.grid.blocks(), part, self.parts);
        for number in blocks.clone() {
            let block = common.grid.block(number);
            let room = self.room(call, worker, (block.tiles(), out.len()));
            // SAFETY: the room was made for this.
            unsafe { self.points(call, (&block, group), &out, &room) };
            for point in 0..PLANES {
                let left = Left {
                    at: room.cotangents.matrix(point, [0, 0]),
                    row: 1,
                    step: room.cotangents.tile,
                };
                let right = Right {
                    at: room.seen.matrix(point, [0, 0]),
                    step: room.seen.tile,
                    panel: common.inner.panel(),
                };
                let at = point * self.point() + out.start * self.row();
                let to = To {
                    at: sums.wrapping_add(at),
                    row: self.row(),
                };
                let sizes = [out.len(), block.tiles(), self.seen.channels];
                // SAFETY: the points have these sizes, and rows are a multiple of all registers.
                unsafe {
                    if number == blocks.start {
                        common.inner.set(sizes, left, right, to);
                    } else {
                        common.inner.add(sizes, left, right, to);
                    }
                }
            }
        }
    }

    /// Brings a block of both tensors to its points.
    unsafe fn points(
        &self,
        call: &Call<'_, f32, f32>,
        (block, group): (&Block, usize),
        out: &Range<usize>,
        room: &Room,
    ) {
        let (common, pixels) = (&self.common, block.columns.len() * SIDE);
        let of = |images: &Images, from: *const f32, channel: usize| {
            let before = group as isize * images.group + channel as isize * images.channel;
            from.wrapping_offset(before)
        };
        let seen = Staged {
            rows: room.rows,
            pixels: pixels + 2,
            apart: common.kernels.seen,
            images: &self.seen,
            from: of(&self.seen, call.right, 0),
        };
        let cotangents = Staged {
            rows: room.rows,
            pixels,
            apart: common.kernels.cotangents,
            images: &self.cotangents,
            from: of(&self.cotangents, call.left, out.start),
        };
        // SAFETY: handed on.
        unsafe {
            common.apart(&seen, (block, self.seen.channels), &room.seen);
            common.apart(&cotangents, (block, out.len()), &room.cotangents);
        }
    }

    /// The taps of an output channel.
    unsafe fn taps(&self, call: &Call<'_, f32, f32>, row: usize, worker: usize) {
        let (group, out) = (
            row / self.cotangents.channels,
            row % self.cotangents.channels,
        );
        let all = self.seen.channels;
        let room = self.room(call, worker, (0, 0));
        let first = row * all * 9;
        // The transformed taps of a group of channels, then all in order.
        let (rows, taps) = (room.rows, room.seen.at);
        for some in groups(0..all) {
            let at = out * self.row() + some.start;
            let sums = |part: usize| self.sums(call, group, part).wrapping_add(at);
            // SAFETY: this row of the sums is this worker's, and there is room for its taps.
            unsafe {
                for part in 1..self.parts {
                    for point in 0..PLANES {
                        let at = point * self.point();
                        let sum = sums(0).add(at).cast::<[f32; GROUP]>();
                        let new = sums(part).add(at).cast::<[f32; GROUP]>();
                        let (old, new) = (sum.read(), new.read());
                        sum.write(std::array::from_fn(|lane| old[lane] + new[lane]));
                    }
                }
                (self.common.kernels.tap_sums)(&Together {
                    from: sums(0),
                    tile: 0,
                    point: self.point(),
                    tiles: 1,
                    rows,
                    pixels: 3,
                    line: PhantomData,
                });
                let to = taps.wrapping_add(some.start * 9);
                for lane in 0..some.len() {
                    for tap in 0..9 {
                        to.add(lane * 9 + tap)
                            .write(rows.add(tap * GROUP + lane).read());
                    }
                }
            }
        }
        match call.sink {
            Sink::Hand(hand) => hand(first..first + all * 9, taps),
            // SAFETY: as above.
            Sink::Store(c) => unsafe {
                c.add(first).copy_from_nonoverlapping(taps, all * 9);
            },
        }
    }
}
