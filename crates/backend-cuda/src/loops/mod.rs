//! Loops of few, small launches as one launch: a block takes a row of the batch through all iterations.
//!
//! A step of a recurrent network computes so little that it takes as long as its launches. Where rows do
//! not depend on each other, no block has to wait for another: matrices stay in registers and shared
//! memory, and so does what an iteration leaves for the next one. The sums are those of the launches, bit
//! for bit.

mod access;
mod kernel;
mod layout;
mod stage;

use std::borrow::Cow;

use backprop_core::plan::{Command, Slot, Step};
use backprop_core::{Args, Body, Output, Piece, Plan, Primitive, Shape, Sink, Sweep, View};

use crate::contraction::{Options, Resident};
use crate::lowered::{Launch, MULTIPROCESSORS};
use access::{Extent, accesses, mirrors};
use kernel::{Cut, Kernel};
use layout::Layout;

/// Iterations from which on it pays to fetch matrices first.
const ENOUGH: usize = 4;

/// Threads of a block that are tried, the fastest ones first.
const THREADS: [usize; 3] = [256, 384, 512];

/// A loop as one launch.
#[derive(Debug)]
pub(crate) struct Fused {
    /// The plan's line of the first launch of the body.
    line: usize,
    pub(crate) launch: Launch,
    /// The memory of the launch's arguments, in the first iteration counted from 0.
    pub(crate) slots: Vec<Slot>,
    /// Launches that it saves in a step.
    pub(crate) saved: usize,
}

impl Fused {
    /// Whether it is the loop with this body.
    pub(crate) fn is_of(&self, body: &[Step<Command>]) -> bool {
        first_line(body) == Some(self.line)
    }
}

fn first_line(body: &[Step<Command>]) -> Option<usize> {
    match body.first()? {
        Step::Launch(command) => Some(command.line()),
        Step::Loop { .. } => None,
    }
}

/// All loops of a plan that become one launch.
pub(crate) fn fuse(plan: &Plan, options: Options) -> Vec<Fused> {
    let mut all = Vec::new();
    gather(plan, plan.steps(), (0, 1, options), &mut all);
    all
}

fn gather(
    plan: &Plan,
    steps: &[Step<Command>],
    (depth, runs, options): (usize, usize, Options),
    all: &mut Vec<Fused>,
) {
    for step in steps {
        let Step::Loop {
            times,
            count,
            reverse,
            body,
            ..
        } = step
        else {
            continue;
        };
        let of = Loop {
            primitives: plan.primitives(),
            body,
            depth,
            runs,
            times: *times,
            reverse: *reverse,
            options,
        };
        match of.fused().filter(|_| count.is_none()) {
            Some(fused) => all.push(fused),
            None => gather(plan, body, (depth + 1, runs * times, options), all),
        }
    }
}

/// A loop of a plan.
struct Loop<'a> {
    primitives: &'a [Primitive],
    body: &'a [Step<Command>],
    /// How many loops are around it, and how often these run it in a step.
    depth: usize,
    runs: usize,
    times: usize,
    reverse: bool,
    options: Options,
}

impl<'a> Loop<'a> {
    fn fused(&self) -> Option<Fused> {
        let launches = self.launches().filter(|_| self.times >= ENOUGH)?;
        let primitives = launches.iter().map(|(primitive, _)| &**primitive);
        let primitives: Vec<&Primitive> = primitives.collect();
        let rows = rows(&primitives)?;
        let mut all = Vec::new();
        for (stage, (primitive, args)) in launches.iter().enumerate() {
            let slots = (args.reads(), args.writes());
            all.extend(accesses((stage, primitive), slots, self.depth)?);
        }
        let extent = Extent {
            times: self.times,
            rows,
        };
        let kept = mirrors(&all, extent)?;
        let products = self.products(&primitives)?;
        let reaches = products.iter().map(|p| p.as_ref().map(Resident::reach));
        let kernel = Kernel {
            primitives,
            layout: Layout::new(all, kept, &reaches.collect::<Vec<_>>())?,
            products,
            times: self.times,
            reverse: self.reverse,
        };
        let cuts = THREADS
            .into_iter()
            .filter_map(|threads| kernel.cut(threads));
        let fits = |cut: &Cut| cut.shared <= self.options.shared;
        let cut = cuts.filter(fits).min_by_key(|cut| cut.idle)?;
        let slots = kernel.layout.pointers.iter().map(|p| p.slot.clone());
        Some(Fused {
            line: first_line(self.body)?,
            launch: kernel.launch(&cut, u32::try_from(rows).ok()?)?,
            slots: slots.collect(),
            saved: (launches.len() * self.times - 1) * self.runs,
        })
    }

    /// The launches of the body, if there is nothing else in it.
    fn launches(&self) -> Option<Vec<(Cow<'a, Primitive>, &'a Args)>> {
        let launch = |step: &'a Step<Command>| match step {
            Step::Launch(command) => {
                let primitive = &self.primitives[command.kernel()];
                let sweep = as_sweep(primitive).map(Cow::Owned);
                Some((sweep.unwrap_or(Cow::Borrowed(primitive)), command.args()))
            }
            Step::Loop { .. } => None,
        };
        self.body.iter().map(launch).collect()
    }

    /// Those launches that are products; `None` if one of them cannot be kept.
    fn products<'p>(&self, primitives: &[&'p Primitive]) -> Option<Vec<Option<Resident<'p>>>> {
        let product = |primitive: &&'p Primitive| match primitive {
            Primitive::MatMul(_) => Some(Some(Resident::new(primitive, self.options)?)),
            _ => Some(None),
        };
        primitives.iter().map(product).collect()
    }
}

/// A copy of one box as work at each point.
fn as_sweep(primitive: &Primitive) -> Option<Primitive> {
    let Primitive::Relocate(spec) = primitive else {
        return None;
    };
    let [Piece { from, into }] = spec.pieces.as_slice() else {
        return None;
    };
    let space = spec.output.shape;
    let whole = *into == View::dense(space) && from.tensor.dtype == spec.output.dtype;
    let body = Body {
        inputs: vec![from.clone()],
        ..Body::store(spec.output.clone())
    };
    whole.then_some(Primitive::Sweep(Sweep { space, body }))
}

/// Rows of the batch: what the first axis of every launch counts. No more than all multiprocessors can
/// take at a time.
fn rows(primitives: &[&Primitive]) -> Option<usize> {
    let spaces = primitives.iter().map(|primitive| Some(body(primitive)?.0));
    let spaces: Vec<Shape> = spaces.collect::<Option<_>>()?;
    let rows = spaces.first().filter(|space| space.rank() > 0)?.size(0);
    let alike = |space: &Shape| space.rank() > 0 && space.size(0) == rows && space.count() > 0;
    (spaces.iter().all(alike) && rows <= MULTIPROCESSORS).then_some(rows)
}

/// What a launch stores at each point of a space, if that is what it does in the end.
fn body(primitive: &Primitive) -> Option<(Shape, &Body)> {
    let (space, body) = match primitive {
        Primitive::Sweep(spec) => (spec.space, &spec.body),
        Primitive::MatMul(spec) if spec.space.sizes().first() == Some(&spec.m) => {
            (spec.space, &spec.epilogue)
        }
        _ => return None,
    };
    let stores = |output: &Output| !matches!(output.sink, Sink::Reduce(..));
    body.outputs.iter().all(stores).then_some((space, body))
}
