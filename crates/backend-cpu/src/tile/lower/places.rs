//! Where registers are: slots of the frame, or operands themselves.

use backprop_core::{Inst, Output, Register, Scalar, Sink};

use super::super::{
    ABREAST, Action, Code, Domain, Formula, Lane, Operand, Place, Slide, Step, Stored, Taken,
    combining, function, is_native,
};
use super::{Held, Lowering, Results};

impl Lowering<'_> {
    /// A place in the frame for values of a lane. Slots are shared among lanes of one size only, so
    /// that a few wide values do not make a frame of narrow ones outgrow the innermost cache.
    pub(super) fn slot(&mut self, lane: Lane) -> (Place, usize) {
        let bytes = self.request.capacity * lane.size();
        let fits = |&slot: &usize| self.slots[slot] == bytes;
        let slot = match self.free.iter().rposition(fits) {
            Some(at) => self.free.remove(at),
            None => self.new_slot(bytes),
        };
        (self.place(Some(slot)), slot)
    }

    /// A slot of so many bytes that nobody had before.
    pub(super) fn new_slot(&mut self, bytes: usize) -> usize {
        self.slots.push(bytes);
        self.slots.len() - 1
    }

    /// A place that no step ever writes to, for one value everywhere.
    pub(super) fn uniform_place(&mut self, lane: Lane, whole: bool) -> Place {
        let points = if whole { self.request.capacity } else { 0 };
        let slot = self.new_slot(points.max(ABREAST) * lane.size());
        self.place(Some(slot))
    }

    pub(super) fn place(&mut self, slot: Option<usize>) -> Place {
        self.places.push(slot);
        self.places.len() - 1
    }

    pub(super) fn base(&mut self, operand: Operand) -> usize {
        let bases = &mut self.code.bases;
        bases
            .iter()
            .position(|&known| known == operand)
            .unwrap_or_else(|| {
                bases.push(operand);
                bases.len() - 1
            })
    }

    pub(super) fn hold(&mut self, at: usize, place: Place, slot: Option<usize>) {
        let domain = self.domain(at);
        self.held[at] = Some(Held {
            place,
            domain,
            slot,
            uniform: false,
        });
    }

    /// Where an instruction writes: to the operand itself where that is sound.
    pub(super) fn target(&mut self, at: usize) -> (Place, Option<usize>) {
        let Some(write) = self.direct_output(at) else {
            let (place, slot) = self.slot(self.lane_of(at));
            return (place, Some(slot));
        };
        let base = self.base(Operand::Write(write));
        let place = self.place(None);
        let size = self.request.body.outputs[write].tensor.dtype.size();
        let domain = self.domain(at);
        self.code.slides.push(Slide {
            place,
            base,
            size,
            offset: 0,
            domain,
        });
        (place, None)
    }

    /// The output that a register may be written to at once: no input that
    /// could lie in the same place is read after it (P3 keeps others apart).
    pub(super) fn direct_output(&self, at: usize) -> Option<usize> {
        let body = self.request.body;
        let stored = |o: &Output| {
            o.register.index() == at && o.sink == Sink::Store && is_native(o.tensor.dtype)
        };
        let write = body.outputs.iter().position(stored)?;
        self.rivals(at, write).is_empty().then_some(write)
    }

    /// The inputs that are read after instruction `at` and could lie where output `write` does.
    fn rivals(&self, at: usize, write: usize) -> Vec<usize> {
        let (body, external) = (self.request.body, self.request.external);
        let dtype = body.outputs[write].tensor.dtype;
        let later = body.program.code().iter().zip(&self.last_use);
        let rivals = later.filter_map(|(inst, &last)| match *inst {
            (Inst::Input(i), d) if d == dtype && last > at => usize::from(i).checked_sub(external),
            _ => None,
        });
        rivals.collect()
    }

    /// The bases of the rivals of a result that is copied to its operand, where it could be computed
    /// there but for them.
    fn rivalry(&mut self, write: usize) -> Option<Box<[usize]>> {
        let body = self.request.body;
        let at = body.outputs[write].register.index();
        let (inst, dtype) = body.program.code()[at];
        let is_computed = matches!(inst, Inst::Apply(..) | Inst::Cast(_));
        let first = body.outputs.iter().position(|o| o.register.index() == at);
        if !is_computed || first != Some(write) || !is_native(dtype) {
            return None;
        }
        let rivals = self.rivals(at, write);
        let bases = rivals.iter().map(|&read| self.base(Operand::Read(read)));
        Some(bases.collect())
    }

    /// Gives back the slots of those operands that instruction `at` reads last.
    pub(super) fn release(&mut self, at: usize, operands: &[Register]) {
        for operand in operands {
            if self.last_use[operand.index()] == at
                && let Some(held) = &mut self.held[operand.index()]
            {
                self.free.extend(held.slot.take());
            }
        }
    }

    /// Adds values to sums, in a place of their own.
    fn added(&mut self, held: Held, (scalar, lane): (Scalar, Lane)) -> Place {
        let to = self.place(None);
        let [sums, values] = [(to, 1), (held.place, usize::from(!held.uniform))]
            .map(|(place, step)| Taken { place, step });
        let from = [sums, values, sums];
        let action = match function(scalar, lane, self.request.level) {
            Some(run) => Action::Map {
                run,
                from,
                formula: Some(Formula::Apply(scalar, lane.dtype())),
            },
            None => Action::Evaluate {
                function: (scalar, lane),
                from,
            },
        };
        self.code.steps.push(Step {
            action,
            to,
            domain: Domain::Points,
        });
        to
    }

    /// Stores what no instruction has written to its operand.
    pub(super) fn outputs(&mut self) {
        for (write, output) in self.request.body.outputs.iter().enumerate() {
            let Some(held) = self.held[output.register.index()] else {
                continue;
            };
            if let Sink::Reduce(reduction, _) = output.sink {
                let place = match self.request.results {
                    Results::Left => held.place,
                    Results::Added => self.added(held, combining(reduction, output.tensor.dtype)),
                };
                self.code.reduced.push(place);
                continue;
            }
            let base = self.base(Operand::Write(write));
            let slides = &mut self.code.slides.iter();
            if slides.any(|slide| slide.place == held.place && slide.base == base) {
                continue;
            }
            let domain = self.domain(output.register.index());
            let (from, dtype) = (held.place, output.tensor.dtype);
            let rivals = self.rivalry(write);
            self.code.stored.push(Stored {
                from,
                base,
                dtype,
                domain,
                rivals,
            });
        }
    }

    /// Slots get their bytes.
    pub(super) fn finish(mut self) -> Code {
        let mut end = 0;
        let mut starts = Vec::with_capacity(self.slots.len());
        for bytes in &self.slots {
            starts.push(end);
            end += bytes.next_multiple_of(64);
        }
        let offset = |slot: &Option<usize>| slot.map_or(0, |slot| starts[slot]);
        self.code.places = self.places.iter().map(offset).collect();
        self.code.tile_bytes = end;
        for step in &mut self.code.steps {
            if let Action::Load(loader) = &mut step.action {
                loader.slot = starts[loader.slot];
            }
        }
        self.code
    }
}
