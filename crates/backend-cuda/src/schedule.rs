//! In what order values are reduced. It follows from the space and its reduced axes alone, so that
//! a row program and a sweep, fused or not, give the same bits.

use backprop_core::{Axes, Shape};

use crate::lowered::{MULTIPROCESSORS, THREADS};
use crate::source::index_type;

/// Blocks that keep a large device busy, and how many where there is [much](MUCH) to read: all do not
/// begin, nor end, at once.
const ENOUGH_BLOCKS: usize = 4 * MULTIPROCESSORS;
const MANY_BLOCKS: usize = 10 * MULTIPROCESSORS;

/// Points that are more than caches hold.
const MUCH: usize = 1 << 22;

/// Points that one block goes over sooner than a second launch could add up what several have.
const WHOLE: usize = 1 << 14;

/// How lanes share the points that become one value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Along {
    /// Lanes are neighbours among the reduced points: `lanes` of them take `width` points each in
    /// turn, then exchange their sums.
    Reduced { lanes: usize, width: usize },
    /// `columns` neighbours among the kept points are shared by `lanes` lanes each.
    Kept { columns: usize, lanes: usize },
}

/// Which threads of a warp are neighbours in [`Along::Kept`]. It decides how memory is visited, and
/// nothing about the order of sums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Facing {
    /// Those of neighbouring kept points.
    Kept,
    /// Those of neighbouring reduced points.
    Reduced,
}

/// The order of a reduction of `reduced` points to each of `kept` values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Schedule {
    pub(crate) kept: usize,
    pub(crate) reduced: usize,
    pub(crate) along: Along,
    /// Points of a chunk. Sums of chunks are added up like those of lanes.
    pub(crate) chunk: usize,
    facing: Facing,
}

impl Schedule {
    pub(crate) fn new(space: Shape, axes: Axes) -> Schedule {
        let kept = space.without(axes).count();
        let reduced = space.filter(|axis| axes.contains(axis)).count();
        let last = (0..space.rank()).rev().find(|&axis| space.size(axis) > 1);
        let along_reduced = last.is_none_or(|axis| axes.contains(axis));
        match along_reduced {
            true => {
                let even = last.is_some_and(|axis| space.size(axis).is_multiple_of(4));
                Schedule::along_reduced(kept, reduced, if even { 4 } else { 1 })
            }
            false => Schedule::along_kept(kept, reduced),
        }
    }

    fn along_reduced(kept: usize, reduced: usize, width: usize) -> Schedule {
        let lanes = if reduced <= 512 { 32 } else { THREADS };
        let wanted = ENOUGH_BLOCKS / kept.max(1);
        let chunk = match reduced > WHOLE && wanted > 1 {
            true => reduced
                .div_ceil(wanted)
                .max(2048)
                .next_multiple_of(4 * THREADS),
            false => reduced,
        };
        Schedule {
            kept,
            reduced,
            along: Along::Reduced { lanes, width },
            chunk,
            facing: Facing::Reduced,
        }
    }

    fn along_kept(kept: usize, reduced: usize) -> Schedule {
        // Few neighbours fill a sector of 32 bytes and leave many lanes to a column; where there is
        // much to read, memory has to be visited by longer runs.
        let (widest, enough) = match kept * reduced < MUCH {
            true => (8, ENOUGH_BLOCKS),
            false => (THREADS, MANY_BLOCKS),
        };
        let columns = kept.next_power_of_two().min(widest);
        let lanes = THREADS / columns;
        let wanted = enough / kept.div_ceil(columns);
        let chunk = match reduced > 64 * lanes && wanted > 1 {
            true => reduced.div_ceil(wanted).next_multiple_of(16 * lanes),
            false => reduced,
        };
        Schedule {
            kept,
            reduced,
            along: Along::Kept { columns, lanes },
            chunk,
            facing: Facing::Kept,
        }
    }

    /// The same with other neighbours in a warp.
    pub(crate) fn facing(mut self, facing: Facing) -> Schedule {
        self.facing = facing;
        self
    }

    pub(crate) fn chunks(&self) -> usize {
        self.reduced.div_ceil(self.chunk.max(1)).max(1)
    }

    /// Kept points of a block.
    pub(crate) fn rows(&self) -> usize {
        match self.along {
            Along::Reduced { lanes, .. } => THREADS / lanes,
            Along::Kept { columns, .. } => columns,
        }
    }

    /// Lanes that share a kept point.
    pub(crate) fn lanes(&self) -> usize {
        match self.along {
            Along::Reduced { lanes, .. } | Along::Kept { lanes, .. } => lanes,
        }
    }

    /// Reduced points that a lane takes at once.
    pub(crate) fn width(&self) -> usize {
        match self.along {
            Along::Reduced { width, .. } => width,
            Along::Kept { .. } => 1,
        }
    }

    /// The integer that counts all points.
    pub(crate) fn index(&self) -> &'static str {
        index_type(self.kept * self.reduced)
    }

    /// Defines `row`, the kept point of a thread, `lane` among those that share it, and `own`:
    /// whether it is there at all. Threads without one go along for the barriers.
    pub(crate) fn place(&self) -> String {
        let (index, rows, lanes, kept) = (self.index(), self.rows(), self.lanes(), self.kept);
        match self.along {
            Along::Reduced { .. } => format!(
                "const int lane = threadIdx.x % {lanes};\n\
                 const {index} row = ({index})blockIdx.x * {rows} + threadIdx.x / {lanes};\n\
                 if (row >= {kept}) return;\nconst bool own = true;\n"
            ),
            Along::Kept { columns, .. } => {
                let (column, lane) = match self.facing {
                    _ if lanes == 1 => (String::new(), "* 0".to_owned()),
                    Facing::Kept => (format!("% {columns}"), format!("/ {columns}")),
                    Facing::Reduced => (format!("/ {lanes}"), format!("% {lanes}")),
                };
                format!(
                    "const int column = threadIdx.x {column}, lane = threadIdx.x {lane};\n\
                     const {index} asked = ({index})blockIdx.x * {columns} + column;\n\
                     const bool own = asked < {kept};\n\
                     const {index} row = own ? asked : {kept} - 1;\n"
                )
            }
        }
    }

    /// Adds a value up over the lanes of each kept point: inside of warps by halves, then one warp
    /// after the other. All lanes have the sum.
    pub(crate) fn exchange(
        &self,
        name: &str,
        of: &str,
        add: &dyn Fn(&str, &str) -> String,
    ) -> String {
        match (self.along, self.facing) {
            (Along::Reduced { lanes, .. }, _) => {
                let slots = Slots {
                    groups: lanes / 32,
                    columns: 1,
                    first: "threadIdx.x % 32 == 0".to_owned(),
                    group: "threadIdx.x / 32".to_owned(),
                    column: "0".to_owned(),
                };
                halves(name, of, (16, 1), add) + &slots.gather(name, of, add)
            }
            (Along::Kept { lanes: 1, .. }, _) => String::new(),
            (Along::Kept { columns, lanes }, facing) => {
                // Lanes of a column in each warp, and warps with lanes of it.
                let shared = (32 / columns).max(1);
                let slots = Slots {
                    groups: lanes / shared,
                    columns,
                    first: format!("lane % {shared} == 0"),
                    group: format!("lane / {shared}"),
                    column: "column".to_owned(),
                };
                let masks = match facing {
                    Facing::Kept => (16, columns.min(32)),
                    Facing::Reduced => (shared / 2, 1),
                };
                halves(name, of, masks, add) + &slots.gather(name, of, add)
            }
        }
    }
}

/// Where sums of groups of lanes meet: one place for each group and column.
struct Slots {
    groups: usize,
    columns: usize,
    /// Whether a thread speaks for its group.
    first: String,
    group: String,
    column: String,
}

impl Slots {
    /// Adds up the sums of all groups of a column, in order.
    fn gather(&self, name: &str, of: &str, add: &dyn Fn(&str, &str) -> String) -> String {
        let Slots {
            groups,
            columns,
            first,
            group,
            column,
        } = self;
        if *groups < 2 {
            return String::new();
        }
        let next = add(name, &format!("s{name}[group * {columns} + {column}]"));
        format!(
            "{{\n__shared__ {of} s{name}[{}];\n\
             if ({first}) s{name}[({group}) * {columns} + {column}] = {name};\n\
             __syncthreads();\n{name} = s{name}[{column}];\n\
             for (int group = 1; group < {groups}; ++group) {name} = {next};\n}}\n",
            groups * columns
        )
    }
}

/// Adds a value up over the threads of a warp whose numbers differ in the bits from `first`, the
/// highest, to `last`.
pub(crate) fn halves(
    name: &str,
    of: &str,
    (first, last): (usize, usize),
    add: &dyn Fn(&str, &str) -> String,
) -> String {
    if first < last || first == 0 {
        return String::new();
    }
    let next = add(name, &format!("o{name}"));
    format!(
        "#pragma unroll\nfor (int mask = {first}; mask >= {last}; mask /= 2) {{\n\
         const {of} o{name} = bp_across({name}, mask);\n{name} = {next};\n}}\n"
    )
}
