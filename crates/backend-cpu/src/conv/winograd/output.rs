//! The output, or the vjp by the input: both are sums over the channels that windows see.

use std::marker::PhantomData;
use std::ops::Range;

use super::grid::SIDE;
use super::*;
use crate::gemm::{Call, Left, Right, Sink, To, typed};
use crate::pool::Worker;
use kernels::Together;

/// Channels of the result that are computed together: a multiple of any kernel's panel.
const WIDE: usize = 32;
/// Bytes of the points of a block.
const POINT_BYTES: usize = 288 << 10;
/// Tiles that repay reading the filter's points.
const FEWEST: usize = 16;

/// A prepared convolution.
#[derive(Debug)]
struct Output {
    common: Common,
    /// What windows see.
    images: Images,
    channels: usize,
    taps: TapStrides,
}

/// The filter, as it is applied. Strides count elements.
#[derive(Debug, Clone, Copy)]
struct TapStrides {
    first: isize,
    group: isize,
    /// To the next channel of the result, and to the next one that is seen.
    to: isize,
    from: isize,
    taps: [isize; 2],
}

/// A worker's memory.
struct Room {
    rows: *mut f32,
    seen: Points,
    products: Points,
    /// Results that are to be handed over.
    results: *mut f32,
}

/// Where results go. Strides count elements.
struct Into {
    at: *mut f32,
    image: usize,
    channel: usize,
    row: usize,
}

pub(super) fn prepare(
    g: &Geometry,
    wanted: Wanted,
    common: impl FnOnce(Grid) -> Common,
) -> Box<dyn Product> {
    let places = [g.windows[0].places, g.windows[1].places];
    let positions = [g.windows[0].positions, g.windows[1].positions];
    let padding = [g.windows[0].padding, g.windows[1].padding].map(|padding| padding as isize);
    let (seen, sizes, pixels, origin, from, to) = match wanted {
        Wanted::Input => (
            &g.y,
            places,
            positions,
            padding.map(|p| p - 2),
            g.out,
            g.channels,
        ),
        _ => (
            &g.x,
            positions,
            places,
            padding.map(|p| -p),
            g.channels,
            g.out,
        ),
    };
    let images = Images {
        sizes,
        origin,
        channels: from,
        image: seen[0],
        group: from as isize * seen[1],
        channel: seen[1],
        row: seen[2],
    };
    let tile_bytes = PLANES * from.next_multiple_of(GROUP) * size_of::<f32>();
    let tiles = (POINT_BYTES / tile_bytes).max(FEWEST);
    Box::new(Output {
        common: common(Grid::new(g.images, pixels, tiles)),
        images,
        channels: to,
        taps: TapStrides::of(g, wanted),
    })
}

impl TapStrides {
    fn of(g: &Geometry, wanted: Wanted) -> Self {
        let group = g.out as isize * g.w[0];
        match wanted {
            // Positions see taps backwards.
            Wanted::Input => Self {
                first: 2 * (g.w[2] + g.w[3]),
                group,
                to: g.w[1],
                from: g.w[0],
                taps: [-g.w[2], -g.w[3]],
            },
            _ => Self {
                first: 0,
                group,
                to: g.w[0],
                from: g.w[1],
                taps: [g.w[2], g.w[3]],
            },
        }
    }
}

impl Product for Output {
    fn scratch(&self) -> usize {
        let slots = self.common.threads * self.room_elements();
        (self.filter_elements() + slots) * size_of::<f32>()
    }

    fn workers(&self) -> usize {
        self.common.workers
    }

    unsafe fn run(&self, worker: Worker<'_>, call: &Call<'_, u8, u8>) {
        // SAFETY: the same contract.
        unsafe { typed(call, |call| self.share(worker, call)) }
    }
}

impl Output {
    /// Runs of channels of the result in a group.
    fn runs(&self) -> usize {
        self.channels.div_ceil(WIDE)
    }

    /// Elements of a point of the filter, for a run.
    fn run_elements(&self) -> usize {
        self.images.channels * WIDE
    }

    fn filter_elements(&self) -> usize {
        self.common.groups * self.runs() * PLANES * self.run_elements()
    }

    /// The parts of a worker's memory.
    fn room_sizes(&self) -> [usize; 4] {
        let [tiles, columns, images] = self.common.grid.most();
        let [height, width] = self.common.grid.pixels;
        let pixels = (tiles * SIDE * SIDE).min(images * height * width);
        [
            row_elements(columns),
            Points::elements(self.images.channels, tiles),
            Points::elements(WIDE, tiles),
            pixels * GROUP,
        ]
        .map(|elements| elements.next_multiple_of(GROUP))
    }

    fn room_elements(&self) -> usize {
        self.room_sizes().iter().sum()
    }

    fn room(&self, call: &Call<'_, f32, f32>, worker: usize, tiles: usize) -> Room {
        let [rows, seen, products, _] = self.room_sizes();
        let own = self.filter_elements() + worker * self.room_elements();
        let at = |elements| call.scratch.cast::<f32>().wrapping_add(own + elements);
        Room {
            rows: at(0),
            seen: Points::new(at(rows), self.images.channels, tiles),
            products: Points::new(at(rows + seen), WIDE, tiles),
            results: at(rows + seen + products),
        }
    }

    unsafe fn share(&self, worker: Worker<'_>, call: &Call<'_, f32, f32>) {
        let common = &self.common;
        let [most, ..] = common.grid.most();
        let filters = common.groups * self.runs() * self.images.channels;
        // SAFETY: filters and blocks are shared out, and each worker has memory of its own.
        unsafe {
            let room = self.room(call, worker.id(), most);
            for index in worker.share(filters) {
                self.filter(call, index, room.rows);
            }
            worker.barrier();
            for task in worker.items(common.grid.blocks() * common.groups) {
                let (block, group) = (task / common.groups, task % common.groups);
                let block = common.grid.block(block);
                let room = self.room(call, worker.id(), block.tiles());
                self.block(call, (&block, group), &room);
            }
        }
    }

    /// Brings the taps of a run of channels to their points, for one channel that is seen.
    unsafe fn filter(&self, call: &Call<'_, f32, f32>, index: usize, rows: *mut f32) {
        let (run, channel) = (index / self.images.channels, index % self.images.channels);
        let (group, first) = (run / self.runs(), run % self.runs() * WIDE);
        let points = call.scratch.cast::<f32>();
        let points = points.wrapping_add(run * PLANES * self.run_elements() + channel * WIDE);
        let start =
            self.taps.first + group as isize * self.taps.group + channel as isize * self.taps.from;
        for channels in groups(first..self.channels.min(first + WIDE)) {
            // SAFETY: the filter has these taps, and there is room for three rows of three.
            unsafe {
                for tap in 0..9 {
                    let at = (tap / 3) as isize * self.taps.taps[0]
                        + (tap % 3) as isize * self.taps.taps[1];
                    for (i, channel) in channels.clone().enumerate() {
                        let from = start + at + channel as isize * self.taps.to;
                        let x = call.left.offset(from).read();
                        rows.add(tap * GROUP + i).write(x);
                    }
                }
                (self.common.kernels.taps)(&Apart {
                    rows,
                    pixels: 3,
                    tiles: 1,
                    step: 3,
                    to: points.wrapping_add(channels.start - first),
                    tile: 0,
                    point: self.run_elements(),
                    line: PhantomData,
                });
            }
        }
    }

    unsafe fn block(
        &self,
        call: &Call<'_, f32, f32>,
        (block, group): (&Block, usize),
        room: &Room,
    ) {
        let (common, channels) = (&self.common, self.images.channels);
        let staged = Staged {
            rows: room.rows,
            pixels: block.columns.len() * SIDE + 2,
            apart: common.kernels.seen,
            images: &self.images,
            from: call
                .right
                .wrapping_offset(group as isize * self.images.group),
        };
        // SAFETY: the room was made for this.
        unsafe { common.apart(&staged, (block, channels), &room.seen) };
        for run in 0..self.runs() {
            let all = run * WIDE..self.channels.min((run + 1) * WIDE);
            let filter = (group * self.runs() + run) * PLANES * self.run_elements();
            for point in 0..PLANES {
                let at = filter + point * self.run_elements();
                let right = Right {
                    at: call.scratch.cast::<f32>().wrapping_add(at),
                    step: WIDE,
                    panel: common.inner.panel(),
                };
                let left = Left {
                    at: room.seen.matrix(point, [0, 0]),
                    row: room.seen.tile,
                    step: 1,
                };
                let to = To {
                    at: room.products.matrix(point, [0, 0]),
                    row: WIDE,
                };
                let sizes = [block.tiles(), channels, all.len()];
                // SAFETY: the points of the block and of the run have these sizes; rows of both
                // are a multiple of all registers.
                unsafe { common.inner.set(sizes, left, right, to) };
            }
            for some in groups(all.clone()) {
                let lane = some.start - all.start;
                // SAFETY: the results of the block are this worker's.
                unsafe { self.results(call.sink, (block, group), (some, lane), room) };
            }
        }
    }

    /// The results of a group of channels, `lane` channels after the first products.
    unsafe fn results(
        &self,
        sink: Sink<'_, f32>,
        (block, group): (&Block, usize),
        (channels, lane): (Range<usize>, usize),
        room: &Room,
    ) {
        let grid = &self.common.grid;
        let [height, width] = grid.pixels;
        let rows = grid.pixels(0, &block.rows);
        let columns = grid.pixels(1, &block.columns);
        let plane = |image: usize| (image * self.common.groups + group) * self.channels;
        let first = (plane(block.images.start) + channels.start) * height * width;
        let into = match sink {
            Sink::Store(c) => Into {
                at: c.wrapping_add(first + rows.start * width + columns.start),
                image: self.common.groups * self.channels * height * width,
                channel: height * width,
                row: width,
            },
            Sink::Hand(_) => Into {
                at: room.results,
                image: channels.len() * rows.len() * columns.len(),
                channel: rows.len() * columns.len(),
                row: columns.len(),
            },
        };
        // SAFETY: handed on.
        unsafe { self.put(block, (channels.len(), lane), room, &into) };
        let Sink::Hand(hand) = sink else { return };
        let (mut from, count) = (room.results.cast_const(), channels.len());
        for image in block.images.clone() {
            // As few pieces as are contiguous.
            let (pieces, size, step) = if into.channel == height * width {
                (1, count * into.channel, 0)
            } else if columns.len() == width {
                (count, into.channel, 0)
            } else {
                (count * rows.len(), columns.len(), width)
            };
            let start = (plane(image) + channels.start) * height * width;
            for piece in 0..pieces {
                let (channel, row) = match step {
                    0 => (piece, 0),
                    _ => (piece / rows.len(), piece % rows.len()),
                };
                let at = (rows.start + row) * width + columns.start;
                let at = start + channel * height * width + at;
                hand(at..at + size, from);
                from = from.wrapping_add(size);
            }
        }
    }

    /// Transforms the products of a group of channels back.
    unsafe fn put(
        &self,
        block: &Block,
        (channels, lane): (usize, usize),
        room: &Room,
        into: &Into,
    ) {
        let grid = &self.common.grid;
        let columns = grid.pixels(1, &block.columns).len();
        let (pixels, first) = (block.columns.len() * SIDE, block.rows.start * SIDE);
        for strip in block.strips() {
            // SAFETY: the rows have room for the tiles of a strip, and only pixels of the image
            // are stored.
            unsafe {
                (self.common.kernels.sums)(&Together {
                    from: room.products.matrix(0, [strip.first, lane]),
                    tile: room.products.tile,
                    point: room.products.point,
                    tiles: block.columns.len(),
                    rows: room.rows,
                    pixels,
                    line: PhantomData,
                });
                let rows = grid.pixels(0, &(strip.row..strip.row + 1));
                for row in rows.clone() {
                    let to =
                        (strip.image - block.images.start) * into.image + (row - first) * into.row;
                    (self.common.kernels.put)(&Row {
                        from: room.rows.wrapping_add((row - rows.start) * pixels * GROUP),
                        pixels: columns,
                        channels,
                        to: into.at.wrapping_add(to),
                        channel: into.channel,
                    });
                }
            }
        }
    }
}
