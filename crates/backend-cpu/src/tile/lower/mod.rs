//! From a program to steps over tiles.
//!
//! Registers get places in the order of the program, and give them back after
//! their last use. What need not be a step is none: a dense input is read where
//! it lies, a constant is filled once a worker, and a result is written
//! straight to its operand where nothing that could lie there is read later.

mod places;

use backprop_core::{
    Axes, Body, DType, Inst, Register, Rows, Scalar, Shape, Sink, Source as Input, View,
};

use super::chain::{Chains, Inner, Side, chained};
use super::{
    ABREAST, Action, Code, Cycle, Domain, Formula, Lane, Loader, Operand, Place, Reducer, Slide,
    Source, Step, Taken, Uniform, UniformValue, Walk, cast, function, is_native, lane, load,
};
use crate::Level;

/// A program to lower.
pub(crate) struct Request<'a> {
    pub(crate) body: &'a Body,
    pub(crate) space: Shape,
    /// Inputs that are handed over at the launch (the sums of a contraction).
    pub(crate) external: usize,
    /// The trailing axes that make a row.
    pub(crate) row_axes: Axes,
    /// The most points in a tile.
    pub(crate) capacity: usize,
    /// Points of the rows of the space, where no tile has points of two.
    pub(crate) within: Option<usize>,
    pub(crate) results: Results,
    pub(crate) level: Level,
}

/// What becomes of the values of reduced outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Results {
    /// They stay in the tile.
    Left,
    /// They are added, or what the reduction does instead, to sums elsewhere.
    Added,
}

/// Why a program cannot be lowered.
type Declined = String;

/// Where a register's value is, while the program is being lowered.
#[derive(Clone, Copy)]
struct Held {
    place: Place,
    domain: Domain,
    /// The slot to give back after the last use.
    slot: Option<usize>,
    uniform: bool,
}

struct Lowering<'a> {
    request: &'a Request<'a>,
    row_valued: Vec<bool>,
    /// The last instruction that reads each register; `usize::MAX` for ever.
    last_use: Vec<usize>,
    chains: Chains,
    held: Vec<Option<Held>>,
    free: Vec<usize>,
    /// The bytes of each slot.
    slots: Vec<usize>,
    /// For each place, its slot.
    places: Vec<Option<usize>>,
    code: Code,
}

/// Lowers a program.
///
/// # Errors
/// What it has that tiles have not.
pub(crate) fn lower(request: &Request<'_>) -> Result<Code, Declined> {
    let body = request.body;
    let tensors = body.inputs.iter().map(|input| &input.tensor);
    let mut tensors = tensors.chain(body.outputs.iter().map(|output| &output.tensor));
    if let Some(tensor) = tensors.find(|tensor| !tensor.layout.is_dense()) {
        return Err(format!("the layout of {tensor}"));
    }
    let mut lowering = Lowering::new(request);
    // What computes nothing comes first, so that steps that compute lie together.
    for computes in [false, true] {
        for (at, &(inst, dtype)) in body.program.code().iter().enumerate() {
            let is_wanted = lowering.last_use[at] > 0 && !lowering.chains.taken[at];
            if is_wanted && computes != inst.operands().is_empty() {
                lowering.instruction(at, inst, dtype)?;
            }
        }
    }
    lowering.outputs();
    Ok(lowering.finish())
}

/// For each register, the last instruction that reads it, 0 if none does.
fn last_uses(body: &Body) -> Vec<usize> {
    let code = body.program.code();
    let mut last = vec![0; code.len()];
    for output in &body.outputs {
        last[output.register.index()] = usize::MAX;
    }
    for (at, (inst, _)) in code.iter().enumerate().rev() {
        if last[at] > 0 {
            for operand in inst.operands() {
                let last = &mut last[operand.index()];
                *last = (*last).max(at);
            }
        }
    }
    last
}

impl<'a> Lowering<'a> {
    fn new(request: &'a Request<'a>) -> Lowering<'a> {
        let rows = Rows {
            space: request.space,
            axes: request.row_axes,
            body: request.body.clone(),
        };
        // Without rows every register has one value a point.
        let count = request.body.program.len();
        let row_valued = if request.row_axes.is_empty() {
            vec![true; count]
        } else {
            rows.row_valued()
        };
        let mut last_use = last_uses(request.body);
        let chains = Chains::find(request.body, &row_valued, &mut last_use);
        Lowering {
            request,
            row_valued,
            last_use,
            chains,
            held: vec![None; count],
            free: Vec::new(),
            slots: Vec::new(),
            places: Vec::new(),
            code: Code {
                steps: Vec::new(),
                slides: Vec::new(),
                cycles: Vec::new(),
                uniforms: Vec::new(),
                stored: Vec::new(),
                reduced: Vec::new(),
                level: Vec::new(),
                bases: Vec::new(),
                places: Vec::new(),
                tile_bytes: 0,
                capacity: request.capacity,
                points: request.space.count(),
            },
        }
    }

    fn instruction(&mut self, at: usize, inst: Inst, dtype: DType) -> Result<(), Declined> {
        let level = self.request.level;
        match inst {
            Inst::Constant(bits) => self.uniform(at, UniformValue::Constant(dtype, bits)),
            Inst::Input(input) => self.input(at, usize::from(input), dtype),
            Inst::Coordinate(axis) => {
                let mut view = View::splat(self.request.space);
                view.strides[usize::from(axis)] = 1;
                self.loaded(at, &view, Source::Coordinates);
            }
            Inst::Cast(operand) => {
                let source = self.dtype(operand)?;
                let run = cast(Lane::of(source), dtype, level);
                let formula = Some(Formula::Cast(source, dtype));
                let action = |from| Action::Map { run, from, formula };
                self.computed(at, &[operand], action);
            }
            Inst::Apply(scalar, _) => match self.chains.inner[at] {
                Some(inner) => self.chain(at, scalar, inner)?,
                None => self.apply(at, scalar, (inst.operands(), dtype))?,
            },
            Inst::Reduce(reduction, operand) => {
                let reducer = Reducer::new(reduction, self.lane(operand)?, level);
                self.reduce(at, operand, reducer, dtype)?;
            }
        }
        self.release(at, inst.operands());
        Ok(())
    }

    fn apply(
        &mut self,
        at: usize,
        scalar: Scalar,
        (operands, dtype): (&[Register], DType),
    ) -> Result<(), Declined> {
        let level = self.request.level;
        let last = operands.last().copied().unwrap_or(Register(0));
        let operand = self.dtype(last)?;
        let lane = Lane::of(operand);
        let run = function(scalar, lane, level);
        let formula = Some(Formula::Apply(scalar, operand));
        self.computed(at, operands, |from| match run {
            Some(run) => Action::Map { run, from, formula },
            None => Action::Evaluate {
                function: (scalar, lane),
                from,
            },
        });
        if let Some(run) = lane::rounding(dtype, level).filter(|_| !is_exact(scalar)) {
            self.round(at, run);
        }
        Ok(())
    }

    /// Two instructions as one step.
    fn chain(&mut self, at: usize, outer: Scalar, inner: Inner) -> Result<(), Declined> {
        let code = self.request.body.program.code();
        let (first, second) = (&code[inner.register.index()].0, &code[at].0);
        let Inst::Apply(scalar, [a, ..]) = *first else {
            return Err(format!("{} is no function", inner.register));
        };
        let mut operands = first.operands().to_vec();
        if scalar == Scalar::Square {
            operands.push(a);
        }
        let other = match inner.side {
            Side::Left => second.operands().get(1),
            Side::Right => second.operands().first(),
        };
        operands.extend(other);
        let dtype = self.dtype(a)?;
        let (pair, lane) = ((scalar, outer), Lane::of(dtype));
        let run = chained(pair, inner.side, (lane, self.request.level));
        let run = run.ok_or_else(|| format!("{scalar:?} in {outer:?}"))?;
        let formula = Some(Formula::Pair(pair, inner.side, dtype));
        self.computed(at, &operands, |from| Action::Map { run, from, formula });
        self.release(at, first.operands());
        Ok(())
    }

    fn lane(&self, register: Register) -> Result<Lane, Declined> {
        self.dtype(register).map(Lane::of)
    }

    fn dtype(&self, register: Register) -> Result<DType, Declined> {
        let dtype = self.request.body.program.dtype(register);
        dtype.ok_or_else(|| format!("{register} is not defined"))
    }

    /// The lane of the register that an instruction defines.
    fn lane_of(&self, at: usize) -> Lane {
        Lane::of(self.request.body.program.code()[at].1)
    }

    fn domain(&self, at: usize) -> Domain {
        if self.row_valued[at] {
            Domain::Points
        } else {
            Domain::Rows
        }
    }

    /// Uniform values stay for good, in slots that no step ever uses.
    fn uniform(&mut self, at: usize, value: UniformValue) {
        // Results are stored or reduced from whole tiles.
        let whole = self.last_use[at] == usize::MAX;
        let place = self.uniform_place(self.lane_of(at), whole);
        let uniform = Uniform {
            place,
            whole,
            value,
        };
        self.code.uniforms.push(uniform);
        self.held[at] = Some(Held {
            place,
            domain: Domain::Points,
            slot: None,
            uniform: true,
        });
    }

    fn input(&mut self, at: usize, input: usize, dtype: DType) {
        if input < self.request.external {
            let base = self.base(Operand::External);
            return self.slide(at, base, 0, dtype);
        }
        let read = input - self.request.external;
        let source: &Input = &self.request.body.inputs[read];
        let base = self.base(Operand::Read(read));
        let view = self.own_view(at, &source.view);
        let walk = Walk::new(&view);
        if let Some(element) = walk.single() {
            let at_byte = element * dtype.size();
            let value = UniformValue::Element {
                base,
                load: load(dtype, self.request.level),
                at: at_byte,
            };
            return self.uniform(at, value);
        }
        if self.is_level(at, &walk) {
            return self.level(at, walk, (base, dtype));
        }
        if let Some(cycle) = walk
            .cycle()
            .filter(|&cycle| self.is_worth_filling(at, cycle))
        {
            return self.cycle(at, cycle, (base, dtype));
        }
        match walk.consecutive() {
            Some(offset) if is_native(dtype) && !self.is_read_after_stores(at) => {
                self.slide(at, base, offset, dtype);
            }
            _ => {
                let (load, size, native) = (
                    load(dtype, self.request.level),
                    dtype.size(),
                    is_native(dtype),
                );
                self.loaded(
                    at,
                    &source.view,
                    Source::Memory {
                        base,
                        load,
                        size,
                        native,
                        borrowed: native && !self.is_read_after_stores(at),
                    },
                );
            }
        }
    }

    /// Whether an input has one value all over each tile; results are stored or reduced from whole
    /// tiles.
    fn is_level(&self, at: usize, walk: &Walk) -> bool {
        let within = self.request.within;
        within.is_some_and(|row| walk.is_constant_along(row)) && self.last_use[at] != usize::MAX
    }

    fn level(&mut self, at: usize, walk: Walk, (base, dtype): (usize, DType)) {
        let slot = self.new_slot(ABREAST * self.lane_of(at).size());
        let to = self.place(Some(slot));
        let source = Source::Element {
            base,
            load: load(dtype, self.request.level),
            size: dtype.size(),
        };
        self.code.steps.push(Step {
            action: Action::Load(Loader { walk, slot, source }),
            to,
            domain: Domain::Points,
        });
        self.code.level.push(to);
        self.held[at] = Some(Held {
            place: to,
            domain: Domain::Points,
            slot: None,
            uniform: true,
        });
    }

    /// Whether points of several tiles visit few enough elements.
    fn is_worth_filling(&self, at: usize, (_, period, _): (usize, usize, isize)) -> bool {
        let capacity = self.request.capacity;
        let is_long = self.request.space.count() > capacity;
        is_long && period <= capacity && self.domain(at) == Domain::Points
    }

    fn cycle(
        &mut self,
        at: usize,
        (offset, period, stride): (usize, usize, isize),
        (base, dtype): (usize, DType),
    ) {
        let width = self.lane_of(at).size();
        let slot = self.new_slot((self.request.capacity + period) * width);
        let place = self.place(Some(slot));
        self.code.cycles.push(Cycle {
            place,
            base,
            load: load(dtype, self.request.level),
            size: dtype.size(),
            width,
            offset,
            period,
            stride,
        });
        self.hold(at, place, None);
    }

    /// Whether an input is a result as it is, while another result may take its place: it has to be
    /// loaded before anything is stored (P3).
    fn is_read_after_stores(&self, at: usize) -> bool {
        let outputs = &self.request.body.outputs;
        let stored = outputs.iter().any(|output| output.sink == Sink::Store);
        let is_result = outputs.iter().any(|output| output.register.index() == at);
        is_result && stored && outputs.len() > 1
    }

    /// The view from the points or the rows, whichever the register goes by.
    fn own_view(&self, at: usize, view: &View) -> View {
        if self.domain(at) == Domain::Points {
            return *view;
        }
        let axes = self.request.row_axes;
        View {
            shape: view.shape.without(axes),
            ..*view
        }
    }

    fn slide(&mut self, at: usize, base: usize, offset: usize, dtype: DType) {
        let place = self.place(None);
        let (domain, size) = (self.domain(at), dtype.size());
        self.code.slides.push(Slide {
            place,
            base,
            size,
            offset,
            domain,
        });
        self.hold(at, place, None);
    }

    fn loaded(&mut self, at: usize, view: &View, source: Source) {
        let walk = Walk::new(&self.own_view(at, view));
        let (place, slot) = self.slot(self.lane_of(at));
        let loader = Loader { walk, slot, source };
        let (action, domain) = (Action::Load(loader), self.domain(at));
        self.code.steps.push(Step {
            action,
            to: place,
            domain,
        });
        self.hold(at, place, Some(slot));
    }

    /// A step over operands that are brought to the register's own domain.
    fn computed(
        &mut self,
        at: usize,
        operands: &[Register],
        action: impl Fn([Taken; 3]) -> Action,
    ) {
        let domain = self.domain(at);
        let mut from = [Taken::default(); 3];
        for (k, operand) in operands.iter().enumerate() {
            let Some(held) = self.held[operand.index()] else {
                continue;
            };
            from[k] = Taken {
                place: held.place,
                step: usize::from(!held.uniform),
            };
            if held.domain != domain && !held.uniform {
                from[k].place = self.spread(held.place, *operand);
            }
        }
        for k in operands.len()..3 {
            from[k] = from[0];
        }
        let (to, slot) = self.target(at);
        self.code.steps.push(Step {
            action: action(from),
            to,
            domain,
        });
        self.hold(at, to, slot);
    }

    /// A place of its own, which no other step writes to: so the step can be moved forward.
    fn spread(&mut self, from: Place, register: Register) -> Place {
        let known = self.code.steps.iter().find(
            |step| matches!(step.action, Action::Spread { from: known, .. } if known == from),
        );
        if let Some(step) = known {
            return step.to;
        }
        let slot = self.new_slot(self.request.capacity * self.lane_of(register.index()).size());
        let to = self.place(Some(slot));
        let dtype = self
            .request
            .body
            .program
            .dtype(register)
            .unwrap_or(DType::F32);
        let lane = Lane::of(dtype);
        let action = Action::Spread {
            load: load(lane.dtype(), self.request.level),
            size: lane.size(),
            from,
        };
        self.code.steps.push(Step {
            action,
            to,
            domain: Domain::Points,
        });
        to
    }

    /// Rounds a register where it is.
    fn round(&mut self, at: usize, run: super::Loop) {
        if let Some(held) = self.held[at] {
            let action = Action::Map {
                run,
                from: [Taken {
                    place: held.place,
                    step: 1,
                }; 3],
                formula: None,
            };
            let (to, domain) = (held.place, held.domain);
            self.code.steps.push(Step { action, to, domain });
        }
    }

    fn reduce(
        &mut self,
        at: usize,
        operand: Register,
        reducer: Reducer,
        dtype: DType,
    ) -> Result<(), Declined> {
        let held = self.held[operand.index()].filter(|held| !held.uniform);
        let from = held.ok_or("the reduction of a constant row")?.place;
        let (to, slot) = self.slot(self.lane_of(at));
        let action = Action::Reduce {
            reducer,
            dtype,
            from,
        };
        self.code.steps.push(Step {
            action,
            to,
            domain: Domain::Rows,
        });
        self.hold(at, to, Some(slot));
        Ok(())
    }
}

/// Whether a function of 16-bit values needs no rounding.
fn is_exact(function: Scalar) -> bool {
    use Scalar::{Abs, Max, Min, Neg, Relu, Where};
    matches!(function, Abs | Max | Min | Neg | Relu | Where)
}
