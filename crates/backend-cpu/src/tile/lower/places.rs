//! Where registers are: slots of the frame, or operands themselves.

use backprop_core::{Inst, Output, Register, Sink};

use super::super::{Action, Code, Lane, Operand, Place, Slide, Stored, is_native};
use super::{Held, Lowering};

impl Lowering<'_> {
    /// A place in the frame.
    pub(super) fn slot(&mut self) -> (Place, usize) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        (self.place(Some(slot)), slot)
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
            let (place, slot) = self.slot();
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
        let dtype = body.outputs[write].tensor.dtype;
        let read_later = body.program.code().iter().zip(&self.last_use).any(|(inst, &last)| {
            matches!(*inst, (Inst::Input(i), d) if usize::from(i) >= self.request.external && d == dtype)
                && last > at
        });
        (!read_later).then_some(write)
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

    /// Stores what no instruction has written to its operand.
    pub(super) fn outputs(&mut self) {
        for (write, output) in self.request.body.outputs.iter().enumerate() {
            let Some(held) = self.held[output.register.index()] else {
                continue;
            };
            if output.sink != Sink::Store {
                self.code.reduced.push(held.place);
                continue;
            }
            let base = self.base(Operand::Write(write));
            let slides = &mut self.code.slides.iter();
            if slides.any(|slide| slide.place == held.place && slide.base == base) {
                continue;
            }
            let domain = self.domain(output.register.index());
            let (from, dtype) = (held.place, output.tensor.dtype);
            self.code.stored.push(Stored {
                from,
                base,
                dtype,
                domain,
            });
        }
    }

    /// Slots get their bytes, now that the widest element is known.
    pub(super) fn finish(mut self) -> Code {
        let types = self.request.body.program.code().iter();
        let widest = types
            .map(|&(_, dtype)| Lane::of(dtype).size())
            .max()
            .unwrap_or(1);
        let bytes = (self.request.capacity * widest).next_multiple_of(64);
        let offset = |slot: &Option<usize>| slot.map_or(0, |slot| slot * bytes);
        self.code.places = self.places.iter().map(offset).collect();
        self.code.tile_bytes = self.slots * bytes;
        for step in &mut self.code.steps {
            if let Action::Load(loader) = &mut step.action {
                loader.slot *= bytes;
            }
        }
        self.code
    }
}
