//! One computation for every element of a batch, as a computation on the whole batch.
//!
//! The body is built once, for one element, in a region of its own. Its nodes are then built again in
//! order, each with a new first axis if it depends on an element (`rules.rs`), so that nothing of the
//! body is left: what comes out are ordinary nodes, which differentiate as all others do.

mod rules;
mod scan;

use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use backprop_core::{Place, Result, Shape};

use crate::composite::{Rule, Vjp};
use crate::graph::{Graph, Problem, Type, bad_attribute, bad_shape};
use crate::ir::{Argument, Custom, Ir, Node, NodeId, Op, RegionId, Turn};
use crate::operand::Operand;
use crate::tensor::Tensor;

impl Graph {
    /// Applies a body to every element along the first axes of `batches` (which have the same size),
    /// all at once: each result gets a new first axis of that size. The body sees elements, and may
    /// use any tensor from outside, which is the same for all of them.
    ///
    /// ```
    /// use backprop_core::{DType::F64, Reference};
    /// use backprop_graph::{Graph, Session, Updates};
    ///
    /// let g = Graph::new();
    /// let (x, y) = (g.input("x", [2], F64), g.data([3], &[1.0, 2.0, 3.0]));
    /// let table = g.vmap(&[x], |a| g.vmap(&[y], |b| vec![a[0] * b[0]]))[0];
    /// let mut session = Session::compile(&g, Reference, &[table.key()], Updates::none())?;
    /// session.feed(x, &[1.0, 10.0])?.step()?;
    /// assert_eq!(session.fetch::<f64>(table)?, [1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    ///
    /// A gradient taken in the body is that of one example, see
    /// [`grad_of_each`](Graph::grad_of_each).
    #[track_caller]
    pub fn vmap<'g>(
        &'g self,
        batches: &[Tensor<'g>],
        body: impl FnOnce(&[Tensor<'g>]) -> Vec<Tensor<'g>>,
    ) -> Vec<Tensor<'g>> {
        let place = Location::caller();
        let Some((size, local)) = self.prepare(batches, place) else {
            let failed = self.poison(self.origin(place));
            return vec![failed; body(&vec![failed; batches.len()]).len()];
        };
        let region = self.open((size, None), Turn::Forward, None);
        let elements: Vec<Tensor<'g>> = local
            .iter()
            .map(|&batch| self.argument(Argument::Element, batch))
            .collect();
        let results = body(&elements);
        let sound = results.iter().all(|x| self.is_sound(*x));
        let left = results.iter().filter(|_| sound);
        let left: Option<Vec<NodeId>> = left.map(|x| self.localize(x.id)).collect();
        self.build.borrow_mut().open.pop();
        let Some(left) = left.filter(|_| sound) else {
            let problem = bad_attribute("vmap", "a result of its body failed to build");
            if sound {
                self.leak("vmap", &results, place);
            }
            let failed = self.refuse("vmap", &results, place, problem);
            return vec![failed; results.len()];
        };
        let mut batch = Batch {
            graph: self,
            size,
            place,
            needed: needed(&self.ir.borrow(), region, &left),
            lanes: HashMap::new(),
            outputs: HashMap::new(),
        };
        for (element, &whole) in elements.iter().zip(&local) {
            batch.lanes.insert(element.id, Lane::Each(whole));
        }
        batch.run(region);
        left.iter().map(|&id| batch.each(batch.lane(id))).collect()
    }

    /// The loss of every example of a batch, `[examples]`, and the gradient of each of these with
    /// respect to tensors or parameters from outside, `[examples, ..]`.
    ///
    /// ```
    /// use backprop_core::{DType::F64, Reference};
    /// use backprop_graph::{Graph, Init, Session, Updates};
    ///
    /// let g = Graph::new();
    /// let (x, w) = (g.input("x", [3, 2], F64), g.parameter("w", [2], F64, Init::Ones));
    /// let (_, grads) = g.grad_of_each(&[x], &[w], |x| x[0].matmul(w).square())?;
    /// let norms = grads[0].square().sum(1).sqrt();
    /// let mut session = Session::compile(&g, Reference, &[norms.key()], Updates::none())?;
    /// session.feed(x, &[3.0, 4.0, 0.0, 1.0, 1.0, 0.0])?.step()?;
    /// assert_eq!(session.fetch::<f64>(norms)?, [70.0, 2.0, 2.0]);
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`grad`](Graph::grad) for the loss of an example, and those of [`vmap`](Graph::vmap).
    #[track_caller]
    pub fn grad_of_each<'g, W: Operand<'g> + Copy>(
        &'g self,
        batches: &[Tensor<'g>],
        wrt: &[W],
        loss: impl FnOnce(&[Tensor<'g>]) -> Tensor<'g>,
    ) -> Result<(Tensor<'g>, Vec<Tensor<'g>>)> {
        let place = Location::caller();
        let mut outcome = Ok(());
        let mut of_each = self.vmap(batches, |x| {
            let loss = loss(x);
            let grads = self.grad_at(loss, wrt, place).unwrap_or_else(|error| {
                outcome = Err(error);
                Vec::new()
            });
            [&[loss], grads.as_slice()].concat()
        });
        self.check()?;
        outcome?;
        let gradients = of_each.split_off(1);
        Ok((of_each[0], gradients))
    }

    /// The size of the batch, and the batches as they are known where building is at.
    fn prepare<'g>(
        &'g self,
        batches: &[Tensor<'g>],
        place: Place,
    ) -> Option<(usize, Vec<Tensor<'g>>)> {
        let size = match self.batch_size(batches) {
            Ok(size) => size,
            Err(problem) => {
                self.refuse("vmap", batches, place, problem);
                return None;
            }
        };
        let local = batches.iter().map(|x| self.localize(x.id));
        match local.collect::<Option<Vec<NodeId>>>() {
            Some(local) => Some((size, local.into_iter().map(|id| self.tensor(id)).collect())),
            None => {
                self.leak("vmap", batches, place);
                None
            }
        }
    }

    fn batch_size(&self, batches: &[Tensor<'_>]) -> std::result::Result<usize, Problem> {
        if !batches.iter().all(|x| self.is_sound(*x)) {
            return Err(bad_attribute("vmap", "an operand failed to build"));
        }
        let first = |x: &Tensor<'_>| x.shape().sizes().first().copied();
        let Some(first_batch) = batches.first() else {
            return Err(bad_attribute("vmap", "no batch to go over"));
        };
        match (
            first(first_batch),
            batches.iter().find(|x| first(x) != first(first_batch)),
        ) {
            (Some(size), None) => Ok(size),
            (_, other) => {
                let shapes = [*first_batch, *other.unwrap_or(first_batch)].map(Tensor::shape);
                let what = format!("over the first axes of {} and {}", shapes[0], shapes[1]);
                Err(bad_shape("vmap", what).help("all batches have the same size, along axis 0"))
            }
        }
    }
}

/// What a node of the body becomes: the same for every element, or one for each along a new first
/// axis.
#[derive(Clone, Copy)]
enum Lane<'g> {
    Same(Tensor<'g>),
    Each(Tensor<'g>),
}

impl<'g> Lane<'g> {
    fn tensor(self) -> Tensor<'g> {
        match self {
            Lane::Same(x) | Lane::Each(x) => x,
        }
    }

    fn is_same(self) -> bool {
        matches!(self, Lane::Same(_))
    }

    /// Another tensor of the same kind.
    fn map(self, f: impl FnOnce(Tensor<'g>) -> Tensor<'g>) -> Lane<'g> {
        match self {
            Lane::Same(x) => Lane::Same(f(x)),
            Lane::Each(x) => Lane::Each(f(x)),
        }
    }

    /// With an axis before all others, if there is one for each element.
    fn at_front(self, axis: usize) -> Lane<'g> {
        match self {
            Lane::Same(x) => Lane::Same(x),
            Lane::Each(x) => Lane::Each(rules::front(x, axis)),
        }
    }
}

/// A body on its way to being a computation on batches.
struct Batch<'g> {
    graph: &'g Graph,
    size: usize,
    place: Place,
    /// Which nodes the results depend on.
    needed: Vec<bool>,
    /// What nodes of the body became.
    lanes: HashMap<NodeId, Lane<'g>>,
    /// What the outputs of marks and scans became.
    outputs: HashMap<NodeId, Vec<Lane<'g>>>,
}

/// Which nodes of a region results depend on.
fn needed(ir: &Ir, region: RegionId, results: &[NodeId]) -> Vec<bool> {
    let mut needed = vec![false; ir.nodes.len()];
    for id in results {
        needed[id.index()] = true;
    }
    for id in ir.ids().rev() {
        let node = ir.node(id);
        if needed[id.index()] && ir.is_within(node.region, region) {
            for input in &node.inputs {
                needed[input.index()] = true;
            }
        }
    }
    needed
}

impl<'g> Batch<'g> {
    /// Builds again the nodes of a region (not those of regions inside of it), in order.
    fn run(&mut self, region: RegionId) {
        let graph = self.graph;
        for id in (0..self.needed.len() as u32).map(NodeId) {
            if !self.needed[id.index()] || graph.ir.borrow().node(id).region != region {
                continue;
            }
            let origin = graph.origin_of_node(id);
            graph.bearing(origin, || self.visit(id));
        }
    }

    fn visit(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        match &node.op {
            Op::Argument(..) => {}
            Op::Custom(custom) => {
                let outputs = self.mark(custom, &node);
                self.outputs.insert(id, outputs);
            }
            Op::Scan(scan) => {
                let outputs = self.scan(scan, &node);
                self.outputs.insert(id, outputs);
            }
            Op::Output(i) if self.outputs.contains_key(&node.inputs[0]) => {
                let lane = self.outputs[&node.inputs[0]][*i as usize];
                self.lanes.insert(id, lane);
            }
            _ => {
                let x: Vec<Lane<'g>> = node.inputs.iter().map(|&x| self.lane(x)).collect();
                let lane = match x.iter().all(|x| x.is_same()) {
                    true => {
                        let x: Vec<Tensor<'g>> = x.into_iter().map(Lane::tensor).collect();
                        Lane::Same(self.build(node.op, &x, (node.dtype, *node.shape)))
                    }
                    false => Lane::Each(self.batched(&node, &x)),
                };
                self.lanes.insert(id, lane);
            }
        }
    }

    /// What a node became; itself if it does not belong to the body.
    fn lane(&self, id: NodeId) -> Lane<'g> {
        let known = self.lanes.get(&id).copied();
        known.unwrap_or_else(|| Lane::Same(self.graph.tensor(id)))
    }

    /// One for each element.
    fn each(&self, x: Lane<'g>) -> Tensor<'g> {
        match x {
            Lane::Each(x) => x,
            Lane::Same(x) => match self.shape(x.shape()) {
                Some(shape) => self.build(Op::Broadcast, &[x], (x.dtype(), shape)),
                None => x.failed("vmap", None),
            },
        }
    }

    /// A shape with the batch as its first axis.
    fn shape(&self, shape: Shape) -> Option<Shape> {
        Shape::new(&[&[self.size], shape.sizes()].concat())
    }

    fn build(&self, op: Op, x: &[Tensor<'g>], ty: Type) -> Tensor<'g> {
        self.graph.apply("vmap", x, self.place, |_| Ok((op, ty)))
    }

    /// A composite keeps its rule, which is applied to every element in turn.
    fn mark(&mut self, custom: &Custom, node: &Node) -> Vec<Lane<'g>> {
        let lanes: Vec<Lane<'g>> = node.inputs.iter().map(|&x| self.lane(x)).collect();
        let rule = Arc::clone(&custom.rule);
        let marked = |rule, tensors: Vec<Tensor<'g>>| {
            let (inputs, outputs) = tensors.split_at(custom.inputs);
            self.graph
                .mark(rule, inputs, outputs, self.place)
                .into_iter()
        };
        if lanes.iter().all(|x| x.is_same()) {
            let same = lanes.into_iter().map(Lane::tensor).collect();
            return marked(rule, same).map(Lane::Same).collect();
        }
        let each = lanes.into_iter().map(|x| self.each(x)).collect();
        marked(Arc::new(Batched(rule)), each)
            .map(Lane::Each)
            .collect()
    }
}

/// A rule for every element of a batch.
struct Batched(Arc<dyn Rule>);

impl Rule for Batched {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn vjp<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let present = cx.cotangents.iter().flatten().copied();
        let all: Vec<Tensor<'g>> = [cx.inputs, cx.outputs]
            .concat()
            .into_iter()
            .chain(present)
            .collect();
        let graph = all.first()?.graph;
        // Which inputs have a cotangent, if the rule gives any.
        let mut given: Option<Vec<bool>> = None;
        let parts = graph.vmap(&all, |x| {
            let (inputs, rest) = x.split_at(cx.inputs.len());
            let (outputs, present) = rest.split_at(cx.outputs.len());
            let mut present = present.iter().copied();
            let cotangents = cx.cotangents.iter();
            let cotangents = cotangents.map(|g| g.and_then(|_| present.next()));
            let parts = self.0.vjp(&Vjp {
                inputs,
                outputs,
                cotangents: &cotangents.collect::<Vec<_>>(),
            });
            given = parts
                .as_ref()
                .map(|parts| parts.iter().map(Option::is_some).collect());
            parts.into_iter().flatten().flatten().collect()
        });
        let mut parts = parts.into_iter();
        let next = |there: bool| there.then(|| parts.next()).flatten();
        given.map(|given| given.into_iter().map(next).collect())
    }
}
