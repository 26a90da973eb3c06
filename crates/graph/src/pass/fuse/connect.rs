//! The values between launches, the loops around them, and where the host and parameters want theirs.

use std::collections::{HashMap, HashSet};

use backprop_core::plan::Purpose;
use backprop_core::{TensorType, View};

use super::cluster::Clusters;
use super::emit::Emitted;
use super::views::Views;
use crate::distinct::Distinct;
use crate::ir::{NodeId, Op, Origin, RegionId};
use crate::pass::Work;
use crate::pass::launches::{Home, Launch, Launches, Step, Value, add_value, copy};

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
        gradients: gradients(work, views),
        tensors: Distinct::default(),
        names: Distinct::default(),
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

/// The stored nodes behind the gradients of parameters.
fn gradients(work: &Work, views: &Views) -> HashSet<NodeId> {
    let ids = work.ir.ids();
    let gradients = ids.filter(|id| work.ir.origins[id.index()].purpose == Purpose::Gradient);
    gradients.map(|id| views.of(id).base).collect()
}

pub(super) struct Connector<'w> {
    pub(super) work: &'w Work,
    pub(super) views: &'w Views,
    /// What is launched in each region.
    by_region: HashMap<RegionId, Vec<(NodeId, Emitted)>>,
    /// The stored nodes that are gradients of parameters.
    gradients: HashSet<NodeId>,
    /// The types and names of values.
    tensors: Distinct<TensorType>,
    names: Distinct<str>,
    pub(super) all: Vec<Value>,
    /// The value of each stored node.
    pub(super) values: HashMap<NodeId, usize>,
}

impl Connector<'_> {
    pub(super) fn value(&mut self, id: NodeId) -> usize {
        let ir = &self.work.ir;
        let node = ir.node(id);
        if let Some(&value) = self.values.get(&id) {
            return value;
        }
        let (home, name) = match &node.op {
            Op::Parameter(i) => (Home::Parameter(*i), ir.parameters[*i as usize].name.clone()),
            Op::Input(i) => (Home::Input(*i), ir.inputs[*i as usize].name.clone()),
            Op::Data(bytes) => (Home::Data(bytes.clone()), self.names.one("data")),
            op => (Home::Temporary, self.names.one(op.name())),
        };
        let purpose = match (&node.op, self.gradients.contains(&id)) {
            (Op::Parameter(i), _) => ir.parameters[*i as usize].purpose,
            (_, true) => Purpose::Gradient,
            (_, false) => Purpose::Plain,
        };
        let value = Value {
            tensor: self.tensors.one(node.tensor()),
            home,
            purpose,
            name,
        };
        let value = add_value(&mut self.all, value);
        self.values.insert(id, value);
        value
    }

    /// A new value of a home for what has the type of a node.
    pub(super) fn home(&mut self, id: NodeId, home: Home) -> Value {
        Value {
            tensor: self.tensors.one(self.work.ir.node(id).tensor()),
            home,
            purpose: Purpose::Plain,
            name: self.names.one(self.work.ir.label(id)),
        }
    }

    /// Room for a result that nobody needs.
    fn unneeded(&mut self, tensor: &TensorType) -> usize {
        let value = Value {
            tensor: self.tensors.one(tensor.clone()),
            home: Home::Temporary,
            purpose: Purpose::Plain,
            name: self.names.one("unneeded"),
        };
        add_value(&mut self.all, value)
    }

    /// The steps of a region.
    pub(super) fn region(&mut self, region: RegionId) -> Vec<Step> {
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
                        primitive,
                        reads,
                        writes,
                        origin,
                    })));
                }
            }
        }
        steps
    }

    /// A copy of what a node is seen as, in a value of its own.
    pub(super) fn copied(
        &mut self,
        id: NodeId,
        to: Value,
        origin: Origin,
        steps: &mut Vec<Step>,
    ) -> usize {
        let seen = self.views.of(id);
        let from = (self.value(seen.base), seen.view);
        let to = add_value(&mut self.all, to);
        steps.push(copy(&self.all, from, to, Some(origin)));
        to
    }

    /// Puts a value where the host or a parameter wants it: it is computed there if nobody else
    /// wants it elsewhere, and copied otherwise.
    fn settle(&mut self, id: NodeId, home: Home) -> Option<Step> {
        let node = self.work.ir.node(id);
        if node.shape.count() == 0 {
            return None;
        }
        let (name, purpose) = match home {
            Home::Update(i) => {
                let parameter = &self.work.ir.parameters[i as usize];
                (parameter.name.clone(), parameter.purpose)
            }
            _ => (self.names.one(self.work.ir.label(id)), Purpose::Plain),
        };
        let value = self.value(self.views.of(id).base);
        let settled = Value {
            tensor: self.tensors.one(node.tensor()),
            home,
            purpose,
            name,
        };
        // What a loop may leave out is written before it and in it; an update is written once.
        let is_free = match (&settled.home, self.scan_of(self.views.of(id).base)) {
            (Home::Update(_), Some(scan)) => scan.count.is_none(),
            _ => true,
        };
        if is_free && self.all[value].home == Home::Temporary {
            self.all[value] = settled;
            return None;
        }
        let origin = self.work.ir.origins[id.index()];
        let from = (value, View::dense(*node.shape));
        let to = add_value(&mut self.all, settled);
        Some(copy(&self.all, from, to, Some(origin)))
    }
}
