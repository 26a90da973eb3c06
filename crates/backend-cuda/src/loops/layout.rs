//! Where a fused loop finds what its stages read and write: pointers of the launch, and rows in shared
//! memory.

use std::fmt::Write;

use backprop_core::DType;
use backprop_core::plan::Slot;

use super::access::{Access, Mirror, first};
use crate::lowered::{Arg, MAX_ARGS};
use crate::source::storage;

/// Bytes that four neighbours take, to which rows in shared memory are aligned.
const ALIGNMENT: usize = 16;

/// An argument of the launch.
#[derive(Clone, Debug)]
pub(super) struct Pointer {
    pub(super) slot: Slot,
    dtype: DType,
    is_written: bool,
}

/// The accesses of all stages with what they go through.
pub(super) struct Layout<'a> {
    pub(super) accesses: Vec<Access<'a>>,
    mirrors: Vec<Mirror>,
    /// For each access, the mirror and the pointer.
    kept: Vec<Option<usize>>,
    through: Vec<usize>,
    pub(super) pointers: Vec<Pointer>,
    /// The bytes in shared memory that each mirror has, and where they begin.
    rooms: Vec<usize>,
    starts: Vec<usize>,
}

/// A row that a product reads.
pub(super) struct Row {
    /// An expression for its first element.
    pub(super) text: String,
    /// Neighbours that can be read at once.
    pub(super) width: usize,
}

impl<'a> Layout<'a> {
    /// `reaches` are the elements that each product reads of its row.
    pub(super) fn new(
        accesses: Vec<Access<'a>>,
        (mirrors, kept): (Vec<Mirror>, Vec<Option<usize>>),
        reaches: &[Option<usize>],
    ) -> Option<Layout<'a>> {
        let mut pointers: Vec<Pointer> = Vec::new();
        let mut through = Vec::new();
        for access in &accesses {
            let known = |p: &Pointer| p.slot == *access.slot && p.dtype == access.dtype;
            let at = pointers.iter().position(known).unwrap_or_else(|| {
                pointers.push(Pointer {
                    slot: access.slot.clone(),
                    dtype: access.dtype,
                    is_written: false,
                });
                pointers.len() - 1
            });
            pointers[at].is_written |= access.is_write();
            through.push(at);
        }
        let widths = mirrors.iter().map(|m| (m.end - m.begin) as usize);
        let mut layout = Layout {
            rooms: widths.collect(),
            starts: Vec::new(),
            accesses,
            mirrors,
            kept,
            through,
            pointers,
        };
        for (stage, reach) in reaches.iter().enumerate() {
            if let Some(reach) = reach {
                layout.reach(stage, *reach)?;
            }
        }
        let mut start = 0;
        for room in &layout.rooms {
            layout.starts.push(start);
            start += room.next_multiple_of(ALIGNMENT);
        }
        (layout.pointers.len() <= MAX_ARGS).then_some(layout)
    }

    /// Makes room for what a product reads of its row: zeros come after the row where that is longer. The
    /// matrix has to stay the same.
    fn reach(&mut self, stage: usize, reach: usize) -> Option<()> {
        let (left, right) = (
            self.find(stage, Arg::Read(0))?,
            self.find(stage, Arg::Read(1))?,
        );
        if self.accesses[right].stride != 0 || self.is_near(right) {
            return None;
        }
        let (left, kept) = (&self.accesses[left], self.kept[left]?);
        let mirror = &self.mirrors[kept];
        let bytes = reach * left.dtype.size();
        let longer = bytes as isize > left.end - left.begin;
        let room = (left.begin - mirror.begin) as usize + bytes;
        self.rooms[kept] = self.rooms[kept].max(room);
        let sound = left.is_dense() && (!longer || left.end == mirror.end);
        sound.then_some(())
    }

    pub(super) fn find(&self, stage: usize, operand: Arg) -> Option<usize> {
        let found = |a: &Access<'_>| a.stage == stage && a.operand == operand;
        self.accesses.iter().position(found)
    }

    pub(super) fn is_near(&self, access: usize) -> bool {
        self.kept[access].is_some()
    }

    /// Bytes of shared memory that all mirrors take.
    pub(super) fn bytes(&self) -> usize {
        let rooms = self.rooms.iter();
        rooms.map(|room| room.next_multiple_of(ALIGNMENT)).sum()
    }

    /// The parameters of the kernel.
    pub(super) fn parameters(&self) -> Vec<String> {
        let parameter = |(i, p): (usize, &Pointer)| {
            let constant = if p.is_written { "" } else { "const " };
            format!("{constant}{}* p{i}", storage(p.dtype))
        };
        self.pointers.iter().enumerate().map(parameter).collect()
    }

    /// Declares and fills the rows in shared memory.
    pub(super) fn fill(&self, threads: usize) -> String {
        let mut text = String::new();
        for (i, mirror) in self.mirrors.iter().enumerate() {
            let (of, size) = (storage(mirror.dtype), mirror.dtype.size());
            let (start, width) = (self.starts[i], (mirror.end - mirror.begin) as usize);
            let each = |from: usize, to: usize| {
                format!("for (int i = threadIdx.x + {from}; i < {to}; i += {threads})")
            };
            let _ = writeln!(
                text,
                "{of}* const m{i} = ({of}*)((unsigned char*)shared + {start});"
            );
            let member = self.kept.iter().position(|&kept| kept == Some(i));
            if let Some(member) = member.filter(|_| mirror.is_carried) {
                let from = (mirror.begin - first(self.accesses[member].slot)) / size as isize;
                let pitch = mirror.pitch / size as isize;
                let _ = writeln!(
                    text,
                    "{} m{i}[i] = p{}[{from} + row * {pitch} + i];",
                    each(0, width / size),
                    self.through[member]
                );
            }
            if self.rooms[i] > width {
                let padding = each(width / size, self.rooms[i] / size);
                let _ = writeln!(text, "{padding} m{i}[i] = 0;");
            }
        }
        text
    }

    /// Where an access finds its tensor at iteration `it`, in memory.
    fn far(&self, access: usize) -> String {
        let Access { stride, dtype, .. } = self.accesses[access];
        match stride / dtype.size() as isize {
            0 => format!("p{}", self.through[access]),
            step => format!("p{} + (long long)it * {step}", self.through[access]),
        }
    }

    /// The same as if the row in shared memory were a row of it.
    fn near(&self, access: usize) -> Option<String> {
        let (kept, access) = (self.kept[access]?, &self.accesses[access]);
        let (mirror, size) = (&self.mirrors[kept], access.dtype.size() as isize);
        let from = (first(access.slot) - mirror.begin) / size;
        Some(format!(
            "m{kept} + ({from}) - row * {}",
            access.pitch / size
        ))
    }

    /// Defines the name that a stage has for an operand. What is kept is written to both places.
    pub(super) fn pointer(&self, access: usize) -> String {
        let Access {
            operand,
            dtype,
            stride,
            ..
        } = self.accesses[access];
        let (of, far, near) = (storage(dtype), self.far(access), self.near(access));
        match (operand, near) {
            (Arg::Write(i), Some(near)) => {
                // Of what lies in the same place in all iterations, the last one counts.
                let due = if stride == 0 { "last" } else { "true" };
                format!("const bp_both<{of}> w{i} = {{{near}, {far}, {due}}};\n")
            }
            (Arg::Write(i), None) => format!("{of}* const w{i} = {far};\n"),
            (Arg::Read(i), near) => {
                format!("const {of}* const r{i} = {};\n", near.unwrap_or(far))
            }
            (Arg::Scratch(_), _) => String::new(),
        }
    }

    /// The row that the product of a stage reads.
    pub(super) fn row(&self, stage: usize) -> Option<Row> {
        let left = self.find(stage, Arg::Read(0))?;
        let kept = self.kept[left]?;
        let from = (self.accesses[left].begin - self.mirrors[kept].begin) as usize;
        let size = self.accesses[left].dtype.size();
        Some(Row {
            text: format!("m{kept} + {}", from / size),
            width: if from.is_multiple_of(ALIGNMENT) { 4 } else { 1 },
        })
    }
}
