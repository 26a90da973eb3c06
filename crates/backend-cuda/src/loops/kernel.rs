//! The kernel of a fused loop.

use std::fmt::Write;

use backprop_core::Primitive;

use super::body;
use super::layout::Layout;
use super::stage::{Multiplying, Stage};
use crate::contraction::{Resident, Share};
use crate::lowered::{Arg, Launch, Source};
use crate::pack::Pack;
use crate::source::head;

/// Registers of a multiprocessor, those that a thread can have, and those that it needs beside elements.
const REGISTERS: usize = 64 << 10;
const MOST: usize = 255;
const BESIDE: usize = 80;

/// Points of a row that a thread takes at most: where there are more, launches have more blocks for them.
const EACH: usize = 8;

/// Bytes of a factor or a sum.
const SIZE: usize = size_of::<f32>();

/// What a kernel is written from.
pub(super) struct Kernel<'a> {
    pub(super) primitives: Vec<&'a Primitive>,
    /// The products among the stages.
    pub(super) products: Vec<Option<Resident<'a>>>,
    pub(super) layout: Layout<'a>,
    pub(super) times: usize,
    pub(super) reverse: bool,
}

/// How a block goes about it.
pub(super) struct Cut {
    threads: usize,
    /// For each product, how it is shared, and the elements of a thread that lie in registers.
    shares: Vec<Option<(Share, usize)>>,
    /// Bytes of shared memory.
    pub(super) shared: usize,
    /// Elements that threads have room for beyond those of matrices.
    pub(super) idle: usize,
}

/// The inputs of a stage that lie in memory, those of them that move with the iteration, and those that
/// lie in shared memory.
struct Inputs {
    far: Vec<usize>,
    moving: Vec<usize>,
    near: Vec<usize>,
}

/// Operands that come before those of the body.
fn before(primitive: &Primitive) -> usize {
    match primitive {
        Primitive::MatMul(_) => 2,
        _ => 0,
    }
}

impl<'a> Kernel<'a> {
    /// The work of a block of so many threads.
    pub(super) fn cut(&self, threads: usize) -> Option<Cut> {
        let share = |product: &Option<Resident<'a>>| product.as_ref().map(|p| p.share(threads));
        let shares: Vec<Option<Share>> = self.products.iter().map(share).collect();
        let totals = shares.iter().flatten().map(Share::totals).max();
        let fetched = |stage| {
            let each = self.points(stage)?.div_ceil(threads);
            let fetched = self.inputs(stage)?.far.len() * each;
            (each <= EACH).then_some(fetched)
        };
        let stages = 0..self.primitives.len();
        let fetched = stages.map(fetched).sum::<Option<usize>>()?;
        let used = BESIDE + totals.unwrap_or(0) + fetched;
        let mut left = MOST.min(REGISTERS / threads).saturating_sub(used) / 4 * 4;
        let mut more = 0;
        let mut idle = 0;
        let mut cut = |(share, product): (Option<Share>, &Option<Resident<'a>>)| {
            let (share, product) = share.zip(product.as_ref())?;
            let registers = share.elements().min(left);
            left -= registers;
            more += (share.elements() - registers) * threads * SIZE;
            idle += share.elements() * threads - product.spec().n * product.spec().k;
            Some((share, registers))
        };
        let shares = shares.into_iter().zip(&self.products);
        Some(Cut {
            threads,
            shares: shares.map(&mut cut).collect(),
            shared: self.layout.bytes() + self.sums() * SIZE + more,
            idle,
        })
    }

    /// Sums that a product leaves to be added up.
    fn sums(&self) -> usize {
        let sums = self.products.iter().flatten().map(Resident::sums);
        sums.max().unwrap_or(0).next_multiple_of(4)
    }

    /// Points of a row of a stage.
    fn points(&self, stage: usize) -> Option<usize> {
        let (space, _) = body(self.primitives[stage])?;
        Some(space.filter(|axis| axis > 0).count())
    }

    fn inputs(&self, stage: usize) -> Option<Inputs> {
        let primitive = self.primitives[stage];
        let (_, body) = body(primitive)?;
        let of = |i: usize| self.layout.find(stage, Arg::Read(before(primitive) + i));
        let mut inputs = Inputs {
            far: Vec::new(),
            moving: Vec::new(),
            near: Vec::new(),
        };
        for i in 0..body.inputs.len() {
            let access = of(i)?;
            if self.layout.is_near(access) {
                inputs.near.push(i);
                continue;
            }
            inputs.far.push(i);
            if self.layout.accesses[access].stride != 0 {
                inputs.moving.push(i);
            }
        }
        Some(inputs)
    }

    /// The launch, without its grid.
    pub(super) fn launch(&self, cut: &Cut, rows: u32) -> Option<Launch> {
        let threads = cut.threads;
        let stages = 0..self.primitives.len();
        let stages: Vec<Stage<'_>> = stages.map(|i| self.stage(i, cut)).collect::<Option<_>>()?;
        let (first, step) = match self.reverse {
            true => (self.times - 1, -1),
            false => (0, 1),
        };
        let mut text = head(&self.layout.parameters(), format!("{threads}, 1"));
        text += "BP_DYN_SHARED(float, shared);\nconst int row = blockIdx.x;\n";
        text += &self.layout.fill(threads);
        text += &self.places(cut);
        let _ = writeln!(text, "int it = {first};");
        text.extend(stages.iter().map(|stage| stage.before(threads)));
        let _ = writeln!(
            text,
            "__syncthreads();\n#pragma unroll 1\nfor (int round = 0; round < {times}; ++round) {{\n\
             const int next = it + ({step});\nconst bool last = round + 1 == {times};",
            times = self.times,
        );
        text.extend(stages.iter().map(|stage| stage.text(threads)));
        text += "it = next;\n}\n}\n";
        Some(Launch {
            source: Source::new(&text),
            grid: [rows, 1, 1],
            block: threads as u32,
            shared: u32::try_from(cut.shared).ok()?,
            args: (0..self.layout.pointers.len()).map(Arg::Read).collect(),
            early: None,
        })
    }

    /// Declares where sums and elements of matrices lie in shared memory.
    fn places(&self, cut: &Cut) -> String {
        let mut at = self.layout.bytes() / SIZE;
        let mut text = format!("float* const parts = shared + {at};\n");
        at += self.sums();
        for (stage, share) in cut.shares.iter().enumerate() {
            if let Some((share, registers)) = share {
                let _ = writeln!(text, "float* const more{stage} = shared + {at};");
                at += (share.elements() - registers) * cut.threads;
            }
        }
        text
    }

    fn stage(&self, stage: usize, cut: &Cut) -> Option<Stage<'_>> {
        let primitive = self.primitives[stage];
        let (space, body) = body(primitive)?;
        let Inputs { far, moving, near } = self.inputs(stage)?;
        let given = usize::from(self.products[stage].is_some());
        let pack = Pack::new(space, body, &|_| false).after(given, before(primitive));
        let mut pointers = [String::new(), String::new()];
        for (i, access) in self.layout.accesses.iter().enumerate() {
            let is_row = access.operand == Arg::Read(0) && given == 1;
            if access.stage == stage && !is_row {
                let near = access.is_write() || self.layout.is_near(i);
                pointers[usize::from(near)] += &self.layout.pointer(i);
            }
        }
        let [far_pointers, near_pointers] = pointers;
        let product = match (&self.products[stage], cut.shares[stage]) {
            (Some(resident), Some((share, registers))) => Some(Multiplying {
                resident,
                share,
                registers,
                row: self.layout.row(stage)?,
            }),
            _ => None,
        };
        Some(Stage {
            number: stage,
            pack: pack.of_width(1),
            points: self.points(stage)?,
            product,
            far,
            moving,
            near,
            far_pointers,
            near_pointers,
        })
    }
}
