//! What the launches of a loop's body read and write, seen from a row: whether rows can be followed
//! through the loop each for itself, and what of a row is worth keeping beside the threads.

use backprop_core::plan::{Iteration, Slot};
use backprop_core::{Body, DType, MAX_RANK, MatMul, Primitive, Shape, TensorType, View};

use crate::lowered::Arg;

/// An operand of a launch of the body. Places are bytes of row 0 at iteration 0.
#[derive(Clone, Debug)]
pub(super) struct Access<'a> {
    /// Which launch of the body.
    pub(super) stage: usize,
    pub(super) operand: Arg,
    pub(super) slot: &'a Slot,
    pub(super) dtype: DType,
    /// Bytes from one iteration to the next.
    pub(super) stride: isize,
    /// Bytes from one row to the next.
    pub(super) pitch: isize,
    /// Where the bytes of the row lie in the buffer.
    pub(super) begin: isize,
    pub(super) end: isize,
    /// Whether all bytes between are meant.
    dense: bool,
}

/// The iterations and the rows of a loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) times: usize,
    pub(super) rows: usize,
}

/// A part of a row that is kept in shared memory, since the body reads what it has written.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    pub(super) dtype: DType,
    /// As of an [`Access`].
    pub(super) begin: isize,
    pub(super) end: isize,
    pub(super) pitch: isize,
    /// Whether it goes from one iteration to the next, and has a value before the first.
    pub(super) is_carried: bool,
}

/// Bytes from one iteration of the loop at `depth` to the next.
pub(super) fn stride(slot: &Slot, depth: usize) -> isize {
    let mut second = Iteration::default();
    second.0[depth] = 1;
    slot.offset(second) as isize - first(slot)
}

/// The first byte in the first iteration.
pub(super) fn first(slot: &Slot) -> isize {
    slot.offset(Iteration::default()) as isize
}

/// Where the elements of a row lie, seen from a space whose first axis counts rows: bytes from the
/// slot's beginning for row 0, bytes to the next row, and whether there are no gaps.
fn row(space: Shape, view: &View, size: usize) -> ([isize; 2], isize, bool) {
    let size = size as isize;
    let mut ends = [view.offset as isize; 2];
    for axis in 1..space.rank() {
        let reached = view.strides[axis] * (space.size(axis) as isize - 1);
        ends[usize::from(reached > 0)] += reached;
    }
    ends[1] += 1;
    let points = space.filter(|axis| axis > 0).count() as isize;
    let dense = points == ends[1] - ends[0];
    (ends.map(|end| end * size), view.strides[0] * size, dense)
}

/// The operands of a launch, as `(operand, tensor, space, views)`.
type Listed<'p> = (Arg, &'p TensorType, Shape, Vec<View>);

fn of_body(space: Shape, body: &Body, reads: usize) -> impl Iterator<Item = Listed<'_>> {
    let inputs = body.inputs.iter().enumerate();
    let read = inputs.map(move |(i, s)| (Arg::Read(reads + i), &s.tensor, space, vec![s.view]));
    let outputs = body.outputs.iter().enumerate();
    let written = outputs.map(move |(i, output)| {
        let pieces = 0..output.registers().count();
        let views = pieces.map(|piece| output.place(space, piece)).collect();
        (Arg::Write(i), &output.tensor, space, views)
    });
    read.chain(written)
}

/// All rows need the whole right operand, as if it were one row of theirs.
fn of_product(spec: &MatMul) -> Option<impl Iterator<Item = Listed<'_>>> {
    let (left, right) = spec.plain_operands()?;
    let rows = Shape::new(&[spec.m, spec.k])?;
    let whole = Shape::new(&[1, spec.k, spec.n])?;
    let mut strides = [0; MAX_RANK];
    strides[1..3].copy_from_slice(&right.view.strides[..2]);
    let all = View {
        shape: whole,
        strides,
        ..right.view
    };
    let sides = [
        (Arg::Read(0), &left.tensor, rows, vec![left.view]),
        (Arg::Read(1), &right.tensor, whole, vec![all]),
    ];
    let listed = sides.into_iter();
    Some(listed.chain(of_body(spec.space, &spec.epilogue, 2)))
}

/// The operands of a launch of the body at `depth`; `None` where one is not followed.
pub(super) fn accesses<'a>(
    (stage, primitive): (usize, &Primitive),
    (reads, writes): (&'a [Slot], &'a [Slot]),
    depth: usize,
) -> Option<Vec<Access<'a>>> {
    let listed: Vec<Listed<'_>> = match primitive {
        Primitive::Sweep(spec) => of_body(spec.space, &spec.body, 0).collect(),
        Primitive::MatMul(spec) => of_product(spec)?.collect(),
        _ => return None,
    };
    let access = |(operand, tensor, space, views): Listed<'_>| {
        let slot = match operand {
            Arg::Read(i) => reads.get(i)?,
            Arg::Write(i) => writes.get(i)?,
            Arg::Scratch(_) => return None,
        };
        let rows = views.iter().map(|v| row(space, v, tensor.dtype.size()));
        let rows: Vec<_> = rows.collect();
        let [low, high] = [
            rows.iter().map(|([low, _], ..)| *low).min()?,
            rows.iter().map(|([_, high], ..)| *high).max()?,
        ];
        let (_, pitch, _) = *rows.first()?;
        let covered: isize = rows.iter().map(|([low, high], ..)| high - low).sum();
        let start = first(slot);
        tensor.layout.is_dense().then_some(Access {
            stage,
            operand,
            slot,
            dtype: tensor.dtype,
            stride: stride(slot, depth),
            pitch,
            begin: start + low,
            end: start + high,
            dense: rows.iter().all(|&(.., dense)| dense) && covered == high - low,
        })
    };
    listed.into_iter().map(access).collect()
}

impl Access<'_> {
    /// Whether all bytes of its row are meant.
    pub(super) fn is_dense(&self) -> bool {
        self.dense
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(self.operand, Arg::Write(_))
    }

    /// Bytes that are touched by any row in any iteration.
    fn reach(&self, extent: Extent) -> [isize; 2] {
        let moved = [
            self.pitch * (extent.rows as isize - 1),
            self.stride * (extent.times as isize - 1),
        ];
        let low: isize = moved.iter().map(|m| m.min(&0)).sum();
        let high: isize = moved.iter().map(|m| m.max(&0)).sum();
        [self.begin + low, self.end + high]
    }

    fn meets(&self, other: &Access<'_>, extent: Extent) -> bool {
        let ([a, b], [c, d]) = (self.reach(extent), other.reach(extent));
        self.slot.buffer() == other.slot.buffer() && a < d && c < b
    }
}

/// What is kept of a row, and for each access which of it, if any. `None` where rows depend on each
/// other, or iterations on others than the last one.
pub(super) fn mirrors(
    accesses: &[Access<'_>],
    extent: Extent,
) -> Option<(Vec<Mirror>, Vec<Option<usize>>)> {
    let mut kept = Vec::new();
    let mut of = vec![None; accesses.len()];
    for group in groups(accesses, extent) {
        let members: Vec<&Access<'_>> = group.iter().map(|&i| &accesses[i]).collect();
        let mirror = mirror(&members, extent)?;
        if members.iter().all(|access| access.is_write()) {
            continue;
        }
        for &i in &group {
            of[i] = Some(kept.len());
        }
        kept.push(mirror);
    }
    Some((kept, of))
}

/// Accesses that share memory with something written, together.
fn groups(accesses: &[Access<'_>], extent: Extent) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let writes = (0..accesses.len()).filter(|&i| accesses[i].is_write());
    for write in writes {
        let meets = |&i: &usize| accesses[write].meets(&accesses[i], extent);
        let mut group: Vec<usize> = (0..accesses.len()).filter(meets).collect();
        let (joined, apart): (Vec<_>, Vec<_>) = std::mem::take(&mut groups)
            .into_iter()
            .partition(|other| other.iter().any(|i| group.contains(i)));
        group.extend(joined.into_iter().flatten());
        group.sort_unstable();
        group.dedup();
        groups = apart;
        groups.push(group);
    }
    groups
}

/// What is kept for accesses that share memory: a row of them, which no other row touches.
fn mirror(members: &[&Access<'_>], Extent { rows, .. }: Extent) -> Option<Mirror> {
    let first = members.first()?;
    let alike =
        |a: &&Access<'_>| (a.stride, a.pitch, a.dtype) == (first.stride, first.pitch, first.dtype);
    let begin = members.iter().map(|a| a.begin).min()?;
    let end = members.iter().map(|a| a.end).max()?;
    let apart = rows == 1 || end - begin <= first.pitch;
    let whole = first.pitch * (rows as isize - 1) + end - begin;
    let is_carried = first.stride == 0;
    let follows = is_carried || (first.stride >= whole && is_written_first(members));
    let sound = members.iter().all(alike) && apart && follows;
    sound.then_some(Mirror {
        dtype: first.dtype,
        begin,
        end,
        pitch: first.pitch,
        is_carried,
    })
}

/// Whether whatever is read has been written before in the same iteration.
fn is_written_first(members: &[&Access<'_>]) -> bool {
    let covers = |read: &Access<'_>| {
        members.iter().any(|write| {
            let before = write.is_write() && write.dense && write.stage < read.stage;
            before && write.begin <= read.begin && read.end <= write.end
        })
    };
    let mut reads = members.iter().filter(|access| !access.is_write());
    reads.all(|read| covers(read))
}
