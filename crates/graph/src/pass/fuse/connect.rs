//! The values between launches, and where the host and parameters want theirs.

use std::collections::HashMap;

use backprop_core::{TensorType, View};

use super::cluster::Clusters;
use super::emit::Emitted;
use super::views::Views;
use crate::ir::{NodeId, Op};
use crate::pass::Work;
use crate::pass::launches::{Home, Launch, Launches, Value};

/// Gives every stored value its home, and copies what two homes want.
pub(super) fn connect(
    work: &Work,
    views: &Views,
    clusters: &Clusters,
    emitted: Vec<Emitted>,
) -> Launches {
    let mut connector = Connector {
        work,
        launches: Launches {
            scopes: work.ir.scopes.clone(),
            ..Launches::default()
        },
        values: HashMap::new(),
    };
    for (cluster, emitted) in clusters.list.iter().zip(emitted) {
        if emitted.writes.is_empty() {
            continue;
        }
        let reads = emitted
            .reads
            .iter()
            .map(|&id| connector.value(id))
            .collect();
        let tensors = emitted.primitive.writes().into_iter().zip(&emitted.writes);
        let writes = tensors.map(|(tensor, id)| match id {
            Some(id) => connector.value(*id),
            None => connector.unneeded(tensor),
        });
        let writes = writes.collect();
        let origin = work.ir.origins[cluster.members[0].index()];
        connector.launches.list.push(Launch {
            primitive: emitted.primitive,
            reads,
            writes,
            origin: Some(origin),
        });
    }
    for &(parameter, id) in &work.updates {
        connector.settle(views.of(id).base, id, Home::Update(parameter));
    }
    for (k, &id) in work.fetches.iter().enumerate() {
        connector.settle(views.of(id).base, id, Home::Result(k));
    }
    connector.launches
}

struct Connector<'w> {
    work: &'w Work,
    launches: Launches,
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
        let value = self.launches.add_value(Value { tensor, home, name });
        self.values.insert(id, value);
        value
    }

    /// Room for a result that nobody needs.
    fn unneeded(&mut self, tensor: &TensorType) -> usize {
        self.launches.add_value(Value {
            tensor: tensor.clone(),
            home: Home::Temporary,
            name: "unneeded".to_owned(),
        })
    }

    /// Puts a value where the host or a parameter wants it: it is computed there if nobody else
    /// wants it elsewhere, and copied otherwise.
    fn settle(&mut self, base: NodeId, id: NodeId, home: Home) {
        let node = self.work.ir.node(id);
        if node.shape.count() == 0 {
            return;
        }
        let name = match home {
            Home::Update(i) => self.work.ir.parameters[i as usize].name.clone(),
            _ => self.work.ir.label(id),
        };
        let value = self.value(base);
        let tensor = node.tensor();
        if self.launches.values[value].home == Home::Temporary {
            self.launches.values[value] = Value { tensor, home, name };
            return;
        }
        let origin = self.work.ir.origins[id.index()];
        let view = View::dense(node.shape);
        self.launches
            .add_copy(value, view, Value { tensor, home, name }, Some(origin));
    }
}
