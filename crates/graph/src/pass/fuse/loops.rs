//! The loops of scans: what enters, what moves, what is left and where it lies.

use std::collections::HashSet;
use std::sync::Arc;

use backprop_core::{Inst, Output, Primitive, Register, Sink, Source, Sweep, View};

use super::connect::Connector;
use crate::ir::{Argument, NodeId, Op, Origin, Scan};
use crate::pass::launches::{Home, Launch, Loop, Step, add_value, copy, whole, zeros};

/// The arguments of a region by number.
struct Arguments {
    carried: Vec<Option<NodeId>>,
    elements: Vec<Option<NodeId>>,
}

/// A scan that is becoming a loop.
struct Turned<'w> {
    scan: &'w Scan,
    origin: Origin,
    /// How many loops are around its body.
    depth: usize,
    arguments: Arguments,
    /// Which carried values every iteration hands on as they are.
    passed: Vec<bool>,
    /// What an iteration leaves that has to be copied to its place at its end.
    late: Vec<(NodeId, usize)>,
}

impl Connector<'_> {
    /// The loop of a scan, after what its carried values begin as.
    pub(super) fn scan(&mut self, marker: NodeId, steps: &mut Vec<Step>) {
        let work = self.work;
        let node = work.ir.node(marker);
        let Op::Scan(scan) = &node.op else {
            return;
        };
        let (initial, rest) = node.inputs.split_at(scan.carried);
        let (sequences, left) = rest.split_at(scan.sequences);
        let arguments = self.arguments(scan);
        let passed = |i: usize| arguments.carried[i] == Some(self.views.of(left[i]).base);
        let passed = (0..scan.carried).map(passed).collect();
        let mut turned = Turned {
            scan,
            origin: work.ir.origins[marker.index()],
            depth: work.ir.region(scan.region).depth as usize - 1,
            arguments,
            passed,
            late: Vec::new(),
        };
        let entering: Vec<usize> = (0..scan.carried)
            .map(|i| self.enter(&turned, (i, initial[i]), steps))
            .collect();
        self.move_along(&turned, sequences);
        let outputs = self.outputs(marker, left.len());
        let (handed, stacked) = left.split_at(scan.carried);
        let (last, whole) = outputs.split_at(scan.carried);
        let carries = self.hand_on(&mut turned, &entering, (handed, last));
        let before = self.stack(&mut turned, (stacked, whole));
        let mut body = self.region(scan.region);
        for (id, value) in turned.late {
            let seen = self.views.of(id);
            let from = self.value(seen.base);
            let is_stacked = matches!(self.all[value].home, Home::Slice { .. });
            if !(is_stacked && seen.view.is_dense() && self.write_along(&mut body, from, value)) {
                let from = (from, seen.view);
                body.push(copy(&self.all, from, value, Some(turned.origin)));
            }
        }
        let count = scan.count.map(|i| entering[i]);
        let inner = Loop {
            times: scan.times,
            count,
            turn: scan.turn,
            carries,
            before,
            body,
            reads: count.into_iter().collect(),
            writes: Vec::new(),
        };
        steps.push(Step::Loop(self.around(inner)));
    }

    /// The value in which carried value number `i` enters: a copy of what it begins as, or that itself
    /// where nothing changes it.
    fn enter(
        &mut self,
        turned: &Turned<'_>,
        (i, initial): (usize, NodeId),
        steps: &mut Vec<Step>,
    ) -> usize {
        let seen = self.views.of(initial);
        let there = self.value(seen.base);
        let moves = matches!(self.all[there].home, Home::Slice { .. });
        let home = match turned.passed[i] {
            true => Home::Temporary,
            false => Home::Enter,
        };
        let enter = match turned.passed[i] && seen.view.is_dense() && !moves {
            true => there,
            false => {
                let to = self.home(initial, home);
                self.copied(initial, to, turned.origin, steps)
            }
        };
        if let Some(argument) = turned.arguments.carried[i] {
            self.values.insert(argument, enter);
        }
        enter
    }

    /// Makes arguments the moving slices of sequences.
    fn move_along(&mut self, turned: &Turned<'_>, sequences: &[NodeId]) {
        let depth = turned.depth;
        for (&id, &sequence) in turned.arguments.elements.iter().zip(sequences) {
            if let Some(id) = id {
                let of = self.value(self.views.of(sequence).base);
                let slice = self.home(id, Home::Slice { of, depth });
                let slice = add_value(&mut self.all, slice);
                self.values.insert(id, slice);
            }
        }
    }

    /// What enters and what leaves in its place, where that is something else.
    fn hand_on(
        &mut self,
        turned: &mut Turned<'_>,
        entering: &[usize],
        (handed, last): (&[NodeId], &[Option<NodeId>]),
    ) -> Vec<(usize, usize)> {
        let mut carries = Vec::new();
        for (i, &enter) in entering.iter().enumerate() {
            let leave = match turned.passed[i] {
                true => enter,
                false => self.left(handed[i], Home::Leave(enter), turned),
            };
            if !turned.passed[i] {
                carries.push((enter, leave));
            }
            if let Some(id) = last[i] {
                self.values.insert(id, leave);
            }
        }
        carries
    }

    /// Places what iterations stack; gives what has to be there before, since they may not run.
    fn stack(
        &mut self,
        turned: &mut Turned<'_>,
        (stacked, whole): (&[NodeId], &[Option<NodeId>]),
    ) -> Vec<Launch> {
        let (mut before, depth) = (Vec::new(), turned.depth);
        for (&id, &output) in stacked.iter().zip(whole) {
            if let Some(output) = output {
                let of = self.value(output);
                if turned.scan.count.is_some() {
                    before.push(zeros(&self.all, of, Some(turned.origin)));
                }
                self.left(id, Home::Slice { of, depth }, turned);
            }
        }
        before
    }

    /// Where what an iteration leaves is to lie: it is computed there if the body makes it and
    /// nobody else wants it elsewhere, and copied `late` otherwise.
    fn left(&mut self, id: NodeId, home: Home, turned: &mut Turned<'_>) -> usize {
        let base = self.views.of(id).base;
        let node = self.work.ir.node(base);
        let made = node.region == turned.scan.region
            && !matches!(node.op, Op::Argument(..) | Op::Constant(_))
            && !self.is_scanned(base)
            && self.views.of(id).view.is_dense();
        let value = self.home(id, home);
        let value = add_value(&mut self.all, value);
        if made && !self.values.contains_key(&base) {
            self.values.insert(base, value);
        } else {
            turned.late.push((id, value));
        }
        value
    }

    /// Makes a sweep of a body write a value once more: the one that makes it, or any over as many
    /// points if it enters the iteration (one that reads it, if there is one).
    fn write_along(&self, body: &mut [Step], from: usize, to: usize) -> bool {
        let tensor = &self.all[to].tensor;
        let is_made = body.iter().any(|step| step.writes().contains(&from));
        let mut sweeps: Vec<&mut Launch> = body
            .iter_mut()
            .filter_map(|step| match step {
                Step::Launch(launch) => Some(&mut **launch),
                Step::Loop(_) => None,
            })
            .filter(|launch| stores_points(launch, tensor.shape.count()))
            .collect();
        let known = sweeps.iter().position(|launch| match is_made {
            true => launch.writes.contains(&from),
            false => launch.reads.contains(&from),
        });
        let Some(launch) = sweeps.get_mut(known.unwrap_or(0)) else {
            return false;
        };
        if is_made && known.is_none() {
            return false;
        }
        let Some(register) = self.register(launch, from) else {
            return false;
        };
        if let Primitive::Sweep(Sweep { body, .. }) = Arc::make_mut(&mut launch.primitive) {
            body.outputs.push(Output {
                register,
                sink: Sink::Store,
                tensor: (**tensor).clone(),
            });
            launch.writes.push(to);
        }
        true
    }

    /// The register of a sweep in which a value is that it makes or may read.
    fn register(&self, launch: &mut Launch, value: usize) -> Option<Register> {
        let Primitive::Sweep(Sweep { space, body }) = Arc::make_mut(&mut launch.primitive) else {
            return None;
        };
        if let Some(write) = launch.writes.iter().position(|&write| write == value) {
            return Some(body.outputs[write].register);
        }
        let source = Source {
            tensor: (*self.all[value].tensor).clone(),
            view: View::dense(*space),
        };
        let mut read = launch.reads.iter().zip(&body.inputs);
        let known = read.position(|(&read, input)| read == value && *input == source);
        let input = known.unwrap_or(body.inputs.len());
        let dtype = source.tensor.dtype;
        let register = body.program.push(Inst::Input(input as u16), dtype)?;
        if known.is_none() {
            body.inputs.push(source);
            launch.reads.push(value);
        }
        Some(register)
    }

    /// Whether a node is an output of a scan, which says itself where it lies.
    fn is_scanned(&self, id: NodeId) -> bool {
        self.scan_of(id).is_some()
    }

    /// The scan of which a node is an output.
    pub(super) fn scan_of(&self, id: NodeId) -> Option<&Scan> {
        let node = self.work.ir.node(id);
        let marker = node
            .inputs
            .first()
            .filter(|_| matches!(node.op, Op::Output(_)))?;
        match &self.work.ir.node(*marker).op {
            Op::Scan(scan) => Some(scan),
            _ => None,
        }
    }

    /// The arguments of a region that are used.
    fn arguments(&self, scan: &Scan) -> Arguments {
        let mut found = Arguments {
            carried: vec![None; scan.carried],
            elements: vec![None; scan.sequences],
        };
        let ir = &self.work.ir;
        for id in ir.ids().filter(|&id| ir.node(id).region == scan.region) {
            match ir.node(id).op {
                Op::Argument(Argument::Carried, i) => found.carried[i as usize] = Some(id),
                Op::Argument(Argument::Element, k) => found.elements[k as usize] = Some(id),
                _ => {}
            }
        }
        found
    }

    /// The outputs of a scan that are used.
    fn outputs(&self, marker: NodeId, count: usize) -> Vec<Option<NodeId>> {
        let ir = &self.work.ir;
        let mut outputs = vec![None; count];
        for id in ir.ids().skip(marker.index()) {
            let node = ir.node(id);
            if let (Op::Output(i), true) = (&node.op, node.inputs.first() == Some(&marker)) {
                outputs[*i as usize] = Some(id);
            }
        }
        outputs
    }

    /// A loop with all that it reads from outside and leaves there.
    fn around(&self, mut inner: Loop) -> Loop {
        let mut local: HashSet<usize> = HashSet::new();
        let Loop {
            carries,
            body,
            reads,
            writes,
            ..
        } = &mut inner;
        for step in &*body {
            for &v in step.writes() {
                match self.all[v].home {
                    Home::Slice { .. } => writes.push(whole(&self.all, v)),
                    _ => drop(local.insert(v)),
                }
            }
        }
        writes.extend(carries.iter().map(|&(_, leave)| leave));
        reads.extend(carries.iter().map(|&(enter, _)| enter));
        for step in &*body {
            let read = step.reads().iter().map(|&v| whole(&self.all, v));
            reads.extend(read.filter(|v| !local.contains(v)));
        }
        for list in [&mut *reads, &mut *writes] {
            list.sort_unstable();
            list.dedup();
        }
        reads.retain(|v| !writes.contains(v));
        inner
    }
}

/// Whether a launch is a sweep over so many points that stores all its results.
fn stores_points(launch: &Launch, points: usize) -> bool {
    match &*launch.primitive {
        Primitive::Sweep(Sweep { space, body }) => {
            let stores = |output: &Output| !matches!(output.sink, Sink::Reduce(..));
            space.count() == points && body.outputs.iter().all(stores)
        }
        _ => false,
    }
}
