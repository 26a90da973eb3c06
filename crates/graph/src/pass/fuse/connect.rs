//! The values between launches, the loops around them, and where the host and parameters want theirs.

use std::collections::{HashMap, HashSet};

use backprop_core::{TensorType, View};

use super::cluster::Clusters;
use super::emit::Emitted;
use super::views::Views;
use crate::ir::{Argument, NodeId, Op, Origin, RegionId, Scan};
use crate::pass::Work;
use crate::pass::launches::{
    Home, Launch, Launches, Loop, Step, Value, add_value, copy, whole, zeros,
};

/// Gives every stored value its home, and copies what two homes want.
pub(super) fn connect(
    work: &Work,
    views: &Views,
    clusters: &Clusters,
    emitted: Vec<Emitted>,
) -> Launches {
    let mut by_region: HashMap<RegionId, Vec<(NodeId, Emitted)>> = HashMap::new();
    for (cluster, emitted) in clusters.list.iter().zip(emitted) {
        let first = cluster.members[0];
        let region = work.ir.node(first).region;
        by_region.entry(region).or_default().push((first, emitted));
    }
    let mut connector = Connector {
        work,
        views,
        by_region,
        all: Vec::new(),
        values: HashMap::new(),
    };
    let mut list = connector.region(RegionId::default());
    for &(parameter, id) in &work.updates {
        list.extend(connector.settle(id, Home::Update(parameter)));
    }
    for (k, &id) in work.fetches.iter().enumerate() {
        list.extend(connector.settle(id, Home::Result(k)));
    }
    Launches {
        values: connector.all,
        list,
        scopes: work.ir.scopes.clone(),
    }
}

struct Connector<'w> {
    work: &'w Work,
    views: &'w Views,
    /// What is launched in each region.
    by_region: HashMap<RegionId, Vec<(NodeId, Emitted)>>,
    all: Vec<Value>,
    /// The value of each stored node.
    values: HashMap<NodeId, usize>,
}

impl Connector<'_> {
    fn value(&mut self, id: NodeId) -> usize {
        let ir = &self.work.ir;
        let node = ir.node(id);
        if let Some(&value) = self.values.get(&id) {
            return value;
        }
        let (home, name) = match &node.op {
            Op::Parameter(i) => (Home::Parameter(*i), ir.parameters[*i as usize].name.clone()),
            Op::Input(i) => (Home::Input(*i), ir.inputs[*i as usize].name.clone()),
            Op::Data(bytes) => (Home::Data(bytes.clone()), "data".to_owned()),
            op => (Home::Temporary, op.name()),
        };
        let tensor = node.tensor();
        let value = add_value(&mut self.all, Value { tensor, home, name });
        self.values.insert(id, value);
        value
    }

    /// A new value of a home for what has the type of a node.
    fn home(&mut self, id: NodeId, home: Home) -> Value {
        Value {
            tensor: self.work.ir.node(id).tensor(),
            home,
            name: self.work.ir.label(id),
        }
    }

    /// Room for a result that nobody needs.
    fn unneeded(&mut self, tensor: &TensorType) -> usize {
        let value = Value {
            tensor: tensor.clone(),
            home: Home::Temporary,
            name: "unneeded".to_owned(),
        };
        add_value(&mut self.all, value)
    }

    /// The steps of a region.
    fn region(&mut self, region: RegionId) -> Vec<Step> {
        let mut steps = Vec::new();
        for (first, emitted) in self.by_region.remove(&region).unwrap_or_default() {
            match emitted {
                Emitted::Nothing => {}
                Emitted::Scan(marker) => self.scan(marker, &mut steps),
                Emitted::Launch {
                    primitive,
                    reads,
                    writes,
                } => {
                    let reads = reads.iter().map(|&id| self.value(id)).collect();
                    let tensors = primitive.writes().into_iter().zip(&writes);
                    let writes = tensors.map(|(tensor, id)| match id {
                        Some(id) => self.value(*id),
                        None => self.unneeded(tensor),
                    });
                    let writes = writes.collect();
                    let origin = Some(self.work.ir.origins[first.index()]);
                    steps.push(Step::Launch(Box::new(Launch {
                        primitive: *primitive,
                        reads,
                        writes,
                        origin,
                    })));
                }
            }
        }
        steps
    }

    /// The loop of a scan, after what its carried values begin as.
    fn scan(&mut self, marker: NodeId, steps: &mut Vec<Step>) {
        let node = self.work.ir.node(marker);
        let Op::Scan(scan) = &node.op else {
            return;
        };
        let origin = self.work.ir.origins[marker.index()];
        let (initial, rest) = node.inputs.split_at(scan.carried);
        let (sequences, left) = rest.split_at(scan.sequences);
        let arguments = self.arguments(scan);
        let depth = self.work.ir.region(scan.region).depth as usize - 1;
        let passed = |i: usize| arguments.carried[i] == Some(self.views.of(left[i]).base);
        let passed: Vec<bool> = (0..scan.carried).map(passed).collect();
        let mut entering = Vec::with_capacity(scan.carried);
        for (i, &id) in initial.iter().enumerate() {
            let home = if passed[i] {
                Home::Temporary
            } else {
                Home::Enter
            };
            let seen = self.views.of(id);
            let there = self.value(seen.base);
            let moves = matches!(self.all[there].home, Home::Slice { .. });
            let enter = match passed[i] && seen.view.is_dense() && !moves {
                // Nothing changes it: iterations read it where it is.
                true => there,
                false => {
                    let to = self.home(id, home);
                    self.copied(id, to, origin, steps)
                }
            };
            entering.push(enter);
            if let Some(argument) = arguments.carried[i] {
                self.values.insert(argument, enter);
            }
        }
        for (&id, &sequence) in arguments.elements.iter().zip(sequences) {
            if let Some(id) = id {
                let of = self.value(self.views.of(sequence).base);
                let slice = self.home(id, Home::Slice { of, depth });
                let slice = add_value(&mut self.all, slice);
                self.values.insert(id, slice);
            }
        }
        let outputs = self.outputs(marker, left.len());
        let mut late = Vec::new();
        let mut carries = Vec::new();
        for (i, &enter) in entering.iter().enumerate() {
            let leave = match passed[i] {
                true => enter,
                false => self.left(left[i], scan.region, Home::Leave(enter), &mut late),
            };
            if !passed[i] {
                carries.push((enter, leave));
            }
            if let Some(id) = outputs[i] {
                self.values.insert(id, leave);
            }
        }
        let mut before = Vec::new();
        for (&id, &output) in left.iter().zip(&outputs).skip(scan.carried) {
            if let Some(output) = output {
                let of = self.value(output);
                if scan.count.is_some() {
                    before.push(zeros(&self.all, of, Some(origin)));
                }
                self.left(id, scan.region, Home::Slice { of, depth }, &mut late);
            }
        }
        let mut body = self.region(scan.region);
        for (id, value) in late {
            let from = self.views.of(id);
            let from = (self.value(from.base), from.view);
            body.push(copy(&self.all, from, value, Some(origin)));
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

    /// Where what an iteration leaves is to lie: it is computed there if the body makes it and
    /// nobody else wants it elsewhere, and copied `late` otherwise.
    fn left(
        &mut self,
        id: NodeId,
        region: RegionId,
        home: Home,
        late: &mut Vec<(NodeId, usize)>,
    ) -> usize {
        let base = self.views.of(id).base;
        let node = self.work.ir.node(base);
        let made = node.region == region
            && !matches!(node.op, Op::Argument(..) | Op::Constant(_))
            && !self.is_scanned(base)
            && self.views.of(id).view.is_dense();
        let value = self.home(id, home);
        let value = add_value(&mut self.all, value);
        if made && !self.values.contains_key(&base) {
            self.values.insert(base, value);
        } else {
            late.push((id, value));
        }
        value
    }

    /// Whether a node is an output of a scan, which says itself where it lies.
    fn is_scanned(&self, id: NodeId) -> bool {
        self.scan_of(id).is_some()
    }

    /// The scan of which a node is an output.
    fn scan_of(&self, id: NodeId) -> Option<&Scan> {
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

    /// A copy of what a node is seen as, in a value of its own.
    fn copied(&mut self, id: NodeId, to: Value, origin: Origin, steps: &mut Vec<Step>) -> usize {
        let seen = self.views.of(id);
        let from = (self.value(seen.base), seen.view);
        let to = add_value(&mut self.all, to);
        steps.push(copy(&self.all, from, to, Some(origin)));
        to
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

    /// Puts a value where the host or a parameter wants it: it is computed there if nobody else
    /// wants it elsewhere, and copied otherwise.
    fn settle(&mut self, id: NodeId, home: Home) -> Option<Step> {
        let node = self.work.ir.node(id);
        if node.shape.count() == 0 {
            return None;
        }
        let name = match home {
            Home::Update(i) => self.work.ir.parameters[i as usize].name.clone(),
            _ => self.work.ir.label(id),
        };
        let value = self.value(self.views.of(id).base);
        let tensor = node.tensor();
        // What a loop may leave out is written before it and in it; an update is written once.
        let is_free = match (&home, self.scan_of(self.views.of(id).base)) {
            (Home::Update(_), Some(scan)) => scan.count.is_none(),
            _ => true,
        };
        if is_free && self.all[value].home == Home::Temporary {
            self.all[value] = Value { tensor, home, name };
            return None;
        }
        let origin = self.work.ir.origins[id.index()];
        let from = (value, View::dense(node.shape));
        let to = add_value(&mut self.all, Value { tensor, home, name });
        Some(copy(&self.all, from, to, Some(origin)))
    }
}

/// The arguments of a region by number.
struct Arguments {
    carried: Vec<Option<NodeId>>,
    elements: Vec<Option<NodeId>>,
}
