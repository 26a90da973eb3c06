//! Row programs: a row is shared by a warp, a block or some lanes of one, and stays in registers where
//! it is short enough.

use std::fmt::Write;

use backprop_core::{DType, Inst, Primitive, Register, Rows};

use crate::lowered::{Launch, Lowered, THREADS, arguments, blocks};
use crate::pack::Pack;
use crate::reduction::{Reducing, Total};
use crate::schedule::{Along, Schedule};
use crate::source::{Point, head, load, parameters, position, rounded, statements, store, value};

/// Points of a row that a lane keeps in registers at most.
const KEPT: usize = 32;

/// Points that are read from memory again in each phase at most, where registers do not hold a row.
const REREAD: usize = 1 << 20;

/// Rows that one block can go over in good time, or that are gone over once.
pub(crate) fn supports(spec: &Rows) -> bool {
    let schedule = Schedule::new(spec.space, spec.axes);
    let kernel = Kernel::new(spec, schedule);
    if schedule.chunks() > 1 {
        return kernel.is_reduction();
    }
    let loops = (0..=kernel.last_phase()).filter(|&phase| kernel.has_loop(phase));
    kernel.packs.is_some() || loops.count() < 2 || schedule.kept * schedule.reduced <= REREAD
}

pub(crate) fn lower(spec: &Rows) -> Lowered {
    let primitive = Primitive::Rows(spec.clone());
    let schedule = Schedule::new(spec.space, spec.axes);
    let kernel = Kernel::new(spec, schedule);
    if schedule.chunks() > 1 {
        let each = |register: Register| kernel.valued[register.index()];
        let reducing = kernel.reducing(&each);
        return reducing.lower(parameters(&primitive), arguments(&primitive));
    }
    Lowered::one(Launch::of(
        &kernel.text(&parameters(&primitive)),
        [blocks(schedule.kept, schedule.rows()), 1, 1],
        arguments(&primitive),
    ))
}

/// A row program is run in phases, between which values are reduced.
struct Kernel<'a> {
    spec: &'a Rows,
    schedule: Schedule,
    pack: Pack<'a>,
    /// Whether a register has a value at each point of a row.
    valued: Vec<bool>,
    /// The phase in which a register is defined: as many reductions lie before it.
    phase: Vec<usize>,
    /// Packs of a row that a lane keeps in registers; without, it loads them in each phase.
    packs: Option<usize>,
}

impl<'a> Kernel<'a> {
    fn new(spec: &'a Rows, schedule: Schedule) -> Kernel<'a> {
        let (lanes, width) = (schedule.lanes(), schedule.width());
        let valued = spec.row_valued();
        let mut phase: Vec<usize> = Vec::new();
        for (inst, _) in spec.body.program.code() {
            let operands = inst.operands().iter();
            let before = operands.map(|r| phase[r.index()]).max().unwrap_or(0);
            phase.push(before + usize::from(matches!(inst, Inst::Reduce(..))));
        }
        let code = spec.body.program.code().iter().zip(&valued);
        let mut loaded: Vec<usize> = code
            .filter_map(|((inst, _), &valued)| match inst {
                Inst::Input(i) if valued => Some(usize::from(*i)),
                _ => None,
            })
            .collect();
        loaded.sort_unstable();
        loaded.dedup();
        let packs = schedule.reduced.div_ceil(lanes * width);
        let keeps = packs * width <= KEPT;
        let pack = Pack::new(spec.space, &spec.body, &|axis| spec.axes.contains(axis))
            .of_width(width)
            .loading(loaded);
        Kernel {
            spec,
            schedule: schedule.facing(pack.facing()),
            pack,
            valued,
            phase,
            packs: keeps.then_some(packs),
        }
    }

    /// Whether a row is gone over once: all that reductions are needed for is one value a row.
    fn is_reduction(&self) -> bool {
        let phases = self.phase.iter().zip(&self.valued);
        self.last_phase() == 1
            && phases
                .into_iter()
                .all(|(&phase, &valued)| phase == 0 || !valued)
    }

    /// The rows as a reduction, after which there is one value a row.
    fn reducing<'k>(&'k self, each: &'k dyn Fn(Register) -> bool) -> Reducing<'k> {
        let totals = self.reductions(0);
        let reduced: String = totals.iter().map(defined).collect();
        Reducing {
            schedule: self.schedule,
            totals,
            pack: self.pack.clone(),
            before: self.scalars(0),
            each,
            results: reduced + &self.scalars(1) + &self.stores(),
        }
    }

    fn code(&self) -> impl Iterator<Item = (Register, Inst, DType)> {
        let code = self.spec.body.program.code().iter().enumerate();
        code.map(|(i, &(inst, dtype))| (Register(i as u16), inst, dtype))
    }

    fn last_phase(&self) -> usize {
        self.phase.iter().copied().max().unwrap_or(0)
    }

    fn text(&self, parameters: &[String]) -> String {
        let mut text = head(parameters, THREADS);
        text += &self.schedule.place();
        text += &self.pack.fold.unravel("row", false, self.schedule.index());
        text += &self.pack.alignment();
        if let Some(packs) = self.packs {
            text += &self.pack.room(&format!("[{packs}]"));
            text += &self.walk_registers(&self.pack.loads("[u]"));
            text += &self.room();
        }
        for phase in 0..=self.last_phase() {
            text += &self.scalars(phase);
            text += &self.phase(phase);
        }
        text + &self.finish() + "}\n"
    }

    /// Goes over the packs of this lane that are kept in registers.
    fn walk_registers(&self, body: &str) -> String {
        let Schedule { reduced, .. } = self.schedule;
        let (index, lanes, width) = (
            self.schedule.index(),
            self.schedule.lanes(),
            self.pack.width,
        );
        let packs = self.packs.unwrap_or(1);
        let unravel = self.pack.fold.unravel("at", true, index);
        format!(
            "#pragma unroll\nfor (int u = 0; u < {packs}; ++u) {{\n\
             const {index} at = (u * {lanes} + lane) * {width};\n\
             if (own && at < {reduced}) {{\n{unravel}{body}}}\n}}\n"
        )
    }

    /// The same, loading them again.
    fn walk_memory(&self, body: &str) -> String {
        let Schedule { reduced, .. } = self.schedule;
        let (index, lanes, width) = (
            self.schedule.index(),
            self.schedule.lanes(),
            self.pack.width,
        );
        let unravel = self.pack.fold.unravel("at", true, index);
        let (room, loads) = (self.pack.room(""), self.pack.loads(""));
        format!(
            "for ({index} at = own ? lane * {width} : {reduced}; at < {reduced}; at += {}) {{\n\
             {unravel}{room}{loads}{body}}}\n",
            lanes * width
        )
    }

    /// Registers with one value a row, which are no reductions.
    fn scalars(&self, phase: usize) -> String {
        let wanted = |r: Register| {
            let reduces = matches!(self.spec.body.program.code()[r.index()].0, Inst::Reduce(..));
            !self.valued[r.index()] && !reduces && self.phase[r.index()] == phase
        };
        statements(&self.spec.body.program, &OnceARow(self), &wanted)
    }

    /// Whether a register is kept for phases after its own.
    fn is_kept(&self, register: Register) -> bool {
        let phase = self.phase[register.index()];
        let later = |(user, inst, _): (Register, Inst, DType)| {
            inst.operands().contains(&register) && self.needed_in(user) > phase
        };
        let outputs = self.spec.body.outputs.iter();
        let stored = outputs
            .into_iter()
            .any(|output| output.register == register && phase < self.last_phase());
        let inst = self.spec.body.program.code()[register.index()].0;
        let computed = matches!(inst, Inst::Apply(..) | Inst::Cast(_));
        self.packs.is_some()
            && self.valued[register.index()]
            && computed
            && (stored || self.code().any(later))
    }

    /// The phase in whose loop a register's operands are used.
    fn needed_in(&self, user: Register) -> usize {
        let phase = self.phase[user.index()];
        match self.spec.body.program.code()[user.index()].0 {
            Inst::Reduce(..) => phase - 1,
            _ => phase,
        }
    }

    /// Where kept registers are kept.
    fn room(&self) -> String {
        let points = self.packs.unwrap_or(0) * self.pack.width;
        let kept = self.code().filter(|(register, ..)| self.is_kept(*register));
        kept.map(|(register, _, dtype)| format!("{} a{}[{points}];\n", value(dtype), register.0))
            .collect()
    }

    /// The reductions whose operands are there in a phase.
    fn reductions(&self, phase: usize) -> Vec<Total> {
        self.code()
            .filter_map(|(register, inst, dtype)| match inst {
                Inst::Reduce(reduction, operand) if self.phase[register.index()] == phase + 1 => {
                    Some(Total {
                        number: register.index(),
                        register: operand,
                        reduction,
                        dtype,
                    })
                }
                _ => None,
            })
            .collect()
    }

    /// The registers that the loop of a phase computes: what is reduced in it, kept in it or, in
    /// the last one, stored, and what these need that is not kept from before.
    fn needed(&self, phase: usize) -> Vec<bool> {
        let mut needed = vec![false; self.valued.len()];
        for total in self.reductions(phase) {
            needed[total.register.index()] = true;
        }
        if phase == self.last_phase() {
            for output in &self.spec.body.outputs {
                needed[output.register.index()] = true;
            }
        }
        for (register, ..) in self.code() {
            let here = self.phase[register.index()] == phase;
            needed[register.index()] |= here && self.is_kept(register);
        }
        let code: Vec<_> = self.code().collect();
        for &(register, inst, _) in code.iter().rev() {
            let ready = self.is_kept(register) && self.phase[register.index()] < phase;
            if needed[register.index()] && !ready && self.valued[register.index()] {
                for operand in inst.operands() {
                    needed[operand.index()] = true;
                }
            }
        }
        needed
    }

    /// What is done at each point in a phase.
    fn each(&self, phase: usize, suffix: &str) -> String {
        let needed = self.needed(phase);
        let mut text = String::new();
        let place = match self.packs {
            Some(_) => format!("[u * {} + i]", self.pack.width),
            None => String::new(),
        };
        for (register, _, dtype) in self.code() {
            if !needed[register.index()] || !self.valued[register.index()] {
                continue;
            }
            let name = format!("v{}", register.0);
            let kept = format!("a{}{place}", register.0);
            if self.is_kept(register) && self.phase[register.index()] < phase {
                let _ = writeln!(text, "const {} {name} = {kept};", value(dtype));
                continue;
            }
            let only = |r: Register| r == register;
            text += &statements(&self.spec.body.program, &self.pack.here(suffix), &only);
            if self.is_kept(register) {
                let _ = writeln!(text, "{kept} = {name};");
            }
        }
        for total in self.reductions(phase) {
            text += &total.taken();
        }
        text
    }

    /// Whether anything is to be done at the points of a row in a phase.
    fn has_loop(&self, phase: usize) -> bool {
        let last = phase == self.last_phase();
        let mut stored = 0..self.spec.body.outputs.len();
        let mut kept = self.code().map(|(register, ..)| register);
        !self.reductions(phase).is_empty()
            || (last && stored.any(|output| self.is_stored_at_points(output)))
            || kept.any(|r| self.is_kept(r) && self.phase[r.index()] == phase)
    }

    /// One phase: its loop, and its reductions over the lanes.
    fn phase(&self, phase: usize) -> String {
        if !self.has_loop(phase) {
            return String::new();
        }
        let reductions = self.reductions(phase);
        let last = phase == self.last_phase();
        let suffix = if self.packs.is_some() { "[u]" } else { "" };
        let each = self.each(phase, suffix);
        let body = match last {
            true => self.pack.store(&each),
            false => self.pack.each(&format!("\n{each}")) + "\n",
        };
        let walk = match self.packs {
            Some(_) => self.walk_registers(&body),
            None => self.walk_memory(&body),
        };
        let declared: String = reductions.iter().map(Total::declared).collect();
        let exchanged = reductions
            .iter()
            .map(|total| total.exchanged(&self.schedule) + &defined(total));
        declared + &walk + &exchanged.collect::<String>()
    }

    /// Stores what has one value a row.
    fn stores(&self) -> String {
        let mut stores = String::new();
        for (i, output) in self.spec.body.outputs.iter().enumerate() {
            if !self.is_stored_at_points(i) {
                let at = position(&output.tensor, "row");
                let value = store(output.tensor.dtype, &format!("v{}", output.register.0));
                let _ = writeln!(stores, "w{i}[{at}] = {value};");
            }
        }
        stores
    }

    /// The same, after everybody has read what it may take the place of.
    fn finish(&self) -> String {
        let stores = self.stores();
        let barrier = match self.schedule.along {
            Along::Reduced { lanes: 32, .. } => "__syncwarp",
            _ => "__syncthreads",
        };
        match stores.is_empty() {
            true => String::new(),
            false => format!("{barrier}();\nif (lane == 0 && own) {{\n{stores}}}\n"),
        }
    }

    fn is_stored_at_points(&self, output: usize) -> bool {
        self.valued[self.spec.body.outputs[output].register.index()]
    }
}

/// Defines the register that a total is for.
fn defined(total: &Total) -> String {
    let (of, sum) = (value(total.dtype), rounded(total.dtype, &total.name()));
    format!("const {of} v{} = {sum};\n", total.number)
}

/// What registers with one value a row find.
struct OnceARow<'k, 'a>(&'k Kernel<'a>);

impl Point for OnceARow<'_, '_> {
    fn input(&self, input: usize) -> String {
        let fold = &self.0.pack.fold;
        load(fold.operands[input].dtype(), &fold.address(input).element())
    }

    fn coordinate(&self, axis: usize) -> String {
        self.0.pack.fold.original(axis)
    }
}
