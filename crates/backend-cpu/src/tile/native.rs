//! Runs of steps that become one step of machine code.
//!
//! The steps of a run keep their order at each point, loads and stores included; only from point to
//! point they no longer wait for each other. What lies in one place for an input and a result lies
//! there element for element (P3), so that makes no difference. What only the run itself reads is
//! written nowhere.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::formula::{Formula, Kind};
use super::{Action, Code, Domain, Frame, Place, Step, Taken, UniformValue, fill};
use crate::jit::{Encoding, Executable, Op, STREAMS, Tape, Value, Width, compile};

/// Points of a space for which code is worth making.
const WORTH: usize = 64;

/// A step in machine code.
#[derive(Debug)]
pub(super) struct Native {
    code: Executable,
    lanes: usize,
    streams: Box<[Stream]>,
}

/// A place that the code reads or writes.
#[derive(Debug, Clone, Copy)]
struct Stream {
    place: Place,
    /// Bytes of an element; 0 where all points have the same value.
    size: usize,
    is_written: bool,
}

/// A register's worth of elements.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Elements([u8; 64]);

impl Native {
    /// # Safety
    /// As for [`Code::tile`](super::Code::tile), for `n` points.
    #[inline]
    pub(super) unsafe fn run(&self, frame: &Frame, n: usize) {
        let mut table = [const { MaybeUninit::uninit() }; STREAMS];
        for (start, stream) in table.iter_mut().zip(&self.streams) {
            // SAFETY: the places are the code's.
            start.write(unsafe { frame.place(stream.place) });
        }
        let rest = n % self.lanes;
        // SAFETY: places hold `n` elements of the sizes recorded, or equal ones; code is only made
        // where its instructions are available.
        unsafe {
            if n > rest {
                self.code.run(table.as_ptr().cast(), n - rest);
            }
            if rest > 0 {
                self.tail(frame, (n - rest, rest));
            }
        }
    }

    /// The last points, too few for a register: on copies that have room for one.
    ///
    /// # Safety
    /// As for [`Native::run`]; there are elements for `start + rest` points.
    #[cold]
    unsafe fn tail(&self, frame: &Frame, (start, rest): (usize, usize)) {
        let mut copies = [const { MaybeUninit::<Elements>::uninit() }; STREAMS];
        let mut elements = [std::ptr::null_mut(); STREAMS];
        for (start, stream) in elements.iter_mut().zip(&self.streams) {
            // SAFETY: the places are the code's.
            *start = unsafe { frame.place(stream.place) };
        }
        let mut table = elements;
        let sized = |stream: &Stream| (start * stream.size, rest * stream.size);
        for (i, stream) in self.streams.iter().enumerate().filter(|(_, s)| s.size > 0) {
            let (at, bytes) = sized(stream);
            elements[i] = elements[i].wrapping_add(at);
            table[i] = copies[i].write(Elements([0; 64])).0.as_mut_ptr();
            // SAFETY: the elements exist, and are less than a register.
            unsafe { table[i].copy_from_nonoverlapping(elements[i], bytes) };
        }
        // SAFETY: each copy has room for a register's worth of points.
        unsafe { self.code.run(table.as_ptr(), self.lanes) };
        for (i, stream) in self
            .streams
            .iter()
            .enumerate()
            .filter(|(_, s)| s.is_written)
        {
            // SAFETY: as above.
            unsafe { elements[i].copy_from_nonoverlapping(table[i], sized(stream).1) };
        }
    }
}

impl Code {
    /// Turns runs of steps into machine code, where this machine executes it. That it has the
    /// instructions is the caller's promise.
    pub(crate) fn compile(&mut self, encoding: Encoding) {
        if self.points < WORTH {
            return;
        }
        self.spread_early();
        let mut at = 0;
        while at < self.steps.len() {
            let mut run = Run::new(self, Tape::new(encoding, self.width_from(at)));
            let steps = self.steps[at..].iter();
            let end = at + steps.take_while(|step| run.extend(step)).count();
            if end - at > 1
                && let Some(native) = run.finish(|place| self.is_read(place, at..end))
            {
                let step = Step {
                    action: Action::Native(native),
                    to: self.steps[at].to,
                    domain: Domain::Points,
                };
                self.steps.splice(at..end, [step]);
                at += 1;
            } else {
                at = end.max(at + 1);
            }
        }
    }

    /// Moves the steps that spread a value over its row to where that is known, out of the way of
    /// runs. Nothing else is ever in the place that they write to.
    fn spread_early(&mut self) {
        for at in 0..self.steps.len() {
            let Action::Spread { from, .. } = self.steps[at].action else {
                continue;
            };
            let known = self.steps[..at].iter().rposition(|step| step.to == from);
            let first = known.map_or(0, |known| known + 1);
            self.steps[first..=at].rotate_right(1);
        }
    }

    /// The lanes of the run that begins with step `at`: those of the first step that is not for any.
    fn width_from(&self, at: usize) -> Width {
        let formulas = self.steps[at..].iter().map_while(|step| match step.action {
            Action::Map { formula, .. } => formula,
            _ => None,
        });
        let mut widths = formulas.map_while(Formula::width);
        widths.find_map(|width| width).unwrap_or(Width::Single)
    }

    /// Whether anything but the steps of a run reads a place.
    fn is_read(&self, place: Place, run: Range<usize>) -> bool {
        let steps = self.steps.iter().enumerate();
        let mut others = steps.filter(|(at, _)| !run.contains(at));
        self.stored.iter().any(|stored| stored.from == place)
            || self.slides.iter().any(|slide| slide.place == place)
            || self.reduced.contains(&place)
            || others.any(|(_, step)| step.action.reads(place))
    }
}

impl Action {
    fn reads(&self, place: Place) -> bool {
        match self {
            Action::Map { from, .. } | Action::Evaluate { from, .. } => {
                from.iter().any(|taken| taken.place == place)
            }
            Action::Spread { from, .. } | Action::Reduce { from, .. } => *from == place,
            Action::Native(native) => native.streams.iter().any(|s| s.place == place),
            Action::Load(_) => false,
        }
    }
}

/// A run of steps that is being recorded.
struct Run<'a> {
    code: &'a Code,
    tape: Tape,
    /// The places that have been read or written, with what they hold.
    held: HashMap<Place, (Value, Kind)>,
}

impl<'a> Run<'a> {
    fn new(code: &'a Code, tape: Tape) -> Self {
        Run {
            code,
            tape,
            held: HashMap::new(),
        }
    }

    /// Adds a step, or says that it cannot be one of this run.
    fn extend(&mut self, step: &Step) -> bool {
        let (Action::Map { formula, from, .. }, Domain::Points) = (&step.action, step.domain)
        else {
            return false;
        };
        let width = formula.and_then(Formula::width);
        if !width.is_some_and(|width| width.is_none_or(|width| width == self.tape.width())) {
            return false;
        }
        let before = self.tape.len();
        let recorded = formula.and_then(|formula| self.record(step.to, formula, from));
        if recorded.is_none() {
            self.tape.truncate(before);
            self.held.retain(|_, (value, _)| value.index() < before);
        }
        recorded.is_some()
    }

    fn record(&mut self, to: Place, formula: Formula, from: &[Taken; 3]) -> Option<()> {
        let (kinds, count) = formula.operands();
        let mut operands = [self.operand(from[0], kinds[0])?; 3];
        for k in 1..count {
            operands[k] = self.operand(from[k], kinds[k])?;
        }
        let (value, kind) = (formula.record(&self.tape, operands)?, formula.result());
        self.held.insert(to, (value, kind));
        let place = to as u32;
        self.tape.push(match kind {
            Kind::Number => Op::Store(place, value),
            Kind::Truth => Op::StoreTruths(place, value),
        });
        Some(())
    }

    fn operand(&mut self, taken: Taken, kind: Kind) -> Option<Value> {
        if let Some(&(value, held)) = self.held.get(&taken.place) {
            return (held == kind).then_some(value);
        }
        let place = taken.place as u32;
        let value = match (taken.step, kind) {
            (0, _) => self.uniform(taken.place, kind)?,
            (_, Kind::Number) => self.tape.push(Op::Load(place)),
            (_, Kind::Truth) => self.tape.push(Op::LoadTruths(place)),
        };
        self.held.insert(taken.place, (value, kind));
        Some(value)
    }

    /// What is the same for all points, with its value where that is known.
    fn uniform(&self, place: Place, kind: Kind) -> Option<Value> {
        if self.code.level.contains(&place) {
            let is_number = kind == Kind::Number;
            return is_number.then(|| self.tape.push(Op::Uniform(place as u32)));
        }
        let mut uniforms = self.code.uniforms.iter();
        let uniform = uniforms.find(|uniform| uniform.place == place)?;
        match (&uniform.value, kind) {
            (UniformValue::Constant(dtype, bits), Kind::Number) => {
                let mut lane = [0; 8];
                // SAFETY: no element has more than eight bytes.
                unsafe { fill(*dtype, f64::from_bits(*bits), lane.as_mut_ptr(), 1) };
                Some(self.tape.push(Op::Constant(u64::from_le_bytes(lane))))
            }
            (UniformValue::Constant(_, bits), Kind::Truth) => {
                Some(self.tape.truth(f64::from_bits(*bits) != 0.0))
            }
            (UniformValue::Element { .. }, Kind::Number) => {
                Some(self.tape.push(Op::Uniform(place as u32)))
            }
            (UniformValue::Element { .. }, Kind::Truth) => None,
        }
    }

    /// The code of the run, which writes only what is read afterwards.
    fn finish(mut self, is_read: impl Fn(Place) -> bool) -> Option<Native> {
        let width = self.tape.width();
        let mut streams: Vec<Stream> = Vec::new();
        for op in self.tape.ops_mut() {
            let (size, is_written) = match *op {
                Op::Store(place, _) | Op::StoreTruths(place, _) if !is_read(place as usize) => {
                    *op = Op::Nothing;
                    continue;
                }
                Op::Uniform(_) => (0, false),
                Op::Load(_) => (width.size(), false),
                Op::LoadTruths(_) => (1, false),
                Op::Store(..) => (width.size(), true),
                Op::StoreTruths(..) => (1, true),
                _ => continue,
            };
            if let Some(number) = op.stream_mut() {
                let place = *number as usize;
                *number = streams.len() as u32;
                streams.push(Stream {
                    place,
                    size,
                    is_written,
                });
            }
        }
        if streams.len() > STREAMS {
            return None;
        }
        Some(Native {
            code: compile(&self.tape)?,
            lanes: self.tape.lanes(),
            streams: streams.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use backprop_core::{Axes, Body, DType, Inst, Output, Program, Register, Scalar, Shape};
    use backprop_core::{Sink, Source, TensorType};

    use crate::Level;
    use crate::jit::Encoding;
    use crate::tile::{Action, Code, Request, Results, lower};

    /// Lowers and compiles a program of so many inputs over 1,000 points, which stores its last
    /// register.
    fn compiled(inputs: usize, program: Program) -> Code {
        let space = Shape::new(&[1000]).unwrap();
        let tensor = |dtype| TensorType::dense(dtype, space);
        let register = Register(program.len() as u16 - 1);
        let body = Body {
            inputs: vec![Source::dense(tensor(DType::F32)); inputs],
            outputs: vec![Output {
                register,
                sink: Sink::Store,
                tensor: tensor(program.dtype(register).unwrap()),
            }],
            program,
        };
        let mut code = lower(&Request {
            body: &body,
            space,
            external: 0,
            row_axes: Axes::NONE,
            capacity: super::super::TILE,
            within: None,
            results: Results::Left,
            level: Level::detect(),
        })
        .unwrap();
        if let Some(encoding) = Encoding::of(Level::detect()) {
            code.compile(encoding);
        }
        code
    }

    /// The program of `x0 * x1 + x2`, then functions of one operand each.
    fn chain(functions: &[Scalar]) -> Program {
        let mut program = Program::default();
        let mut push = |inst, dtype| program.push(inst, dtype).unwrap();
        let [a, b, c] = [0, 1, 2].map(|i| push(Inst::Input(i), DType::F32));
        let product = push(Inst::Apply(Scalar::Mul, [a, b, a]), DType::F32);
        let mut last = push(Inst::Apply(Scalar::Add, [product, c, product]), DType::F32);
        for &function in functions {
            last = push(Inst::Apply(function, [last; 3]), DType::F32);
        }
        program
    }

    /// Streams of the machine code among the steps.
    fn streams(code: &Code) -> Vec<usize> {
        let native = code.steps.iter().filter_map(|step| match &step.action {
            Action::Native(native) => Some(native.streams.len()),
            _ => None,
        });
        native.collect()
    }

    #[test]
    fn a_run_is_one_step_that_touches_only_operands() {
        if Level::detect() < Level::Avx2 || !cfg!(unix) {
            return;
        }
        use Scalar::{Exp, Neg, Relu, Sin, Tanh};
        let code = compiled(3, chain(&[Tanh, Relu, Exp]));
        assert_eq!((code.steps.len(), streams(&code)), (1, vec![4]));
        // A sine is interpreted; what it reads and gives lies in the frame.
        let code = compiled(3, chain(&[Tanh, Relu, Sin, Neg, Exp, Neg]));
        assert_eq!((code.steps.len(), streams(&code)), (3, vec![4, 2]));
        // One step is none the faster.
        let code = compiled(3, chain(&[]));
        assert_eq!((code.steps.len(), streams(&code)), (1, vec![]));
    }
}
