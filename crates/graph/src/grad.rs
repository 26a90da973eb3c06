//! Differentiation: a transformation of the graph into a larger graph.
//!
//! One descending loop over the nodes, from the loss to the leaves. A node's cotangents have all
//! arrived when the loop reaches it, because its users have larger ids; they are added up, the
//! node's rule turns the sum into cotangents of its operands, and these wait at the operands. A node
//! that no cotangent reaches costs nothing. Every new node inherits the place and scope of the node
//! it belongs to.

use std::collections::HashMap;
use std::panic::Location;

use backprop_core::{Error, ErrorKind, Place, Result};

use crate::composite::Vjp;
use crate::graph::{Graph, bad_shape};
use crate::ir::{Ir, Node, NodeId, Op};
use crate::op;
use crate::operand::Operand;
use crate::tensor::Tensor;

impl Graph {
    /// The gradient of a scalar `loss` with respect to each of `wrt`: tensors or parameters. The
    /// result is part of the graph, and can be differentiated again.
    ///
    /// # Errors
    /// Everything recorded while building; a loss that is no single floating-point number; a `wrt`
    /// that the loss does not depend on, or only through an operation without a derivative.
    #[track_caller]
    pub fn grad<'g, W: Operand<'g> + Copy>(
        &'g self,
        loss: Tensor<'g>,
        wrt: &[W],
    ) -> Result<Vec<Tensor<'g>>> {
        let place = Location::caller();
        if self.check().is_ok() && loss.shape().count() != 1 {
            let what = format!("the loss has shape {}", loss.shape());
            let problem = bad_shape("grad", what);
            let help = "reduce it first, as with `.sum(..)`, or use `vjp`";
            return Err(Error::new(problem.kind).at(place).help(help));
        }
        let one = loss.number(1.0);
        self.vjp_at(&[(loss, one)], wrt, place)
    }

    /// The sum of the gradients of several tensors, each weighted by a cotangent of its shape.
    ///
    /// # Errors
    /// As [`grad`](Graph::grad).
    #[track_caller]
    pub fn vjp<'g, W: Operand<'g> + Copy>(
        &'g self,
        outputs: &[(Tensor<'g>, Tensor<'g>)],
        wrt: &[W],
    ) -> Result<Vec<Tensor<'g>>> {
        self.vjp_at(outputs, wrt, Location::caller())
    }

    fn vjp_at<'g, W: Operand<'g> + Copy>(
        &'g self,
        outputs: &[(Tensor<'g>, Tensor<'g>)],
        wrt: &[W],
        place: Place,
    ) -> Result<Vec<Tensor<'g>>> {
        let wrt: Vec<NodeId> = wrt.iter().map(|w| w.on(self, None, place).id).collect();
        for (output, cotangent) in outputs {
            let types = [output, cotangent].map(|x| (x.dtype(), x.shape()));
            if types[0] != types[1] || !types[0].0.is_float() {
                let [y, ct] = types.map(|(dtype, shape)| format!("{dtype}{shape}"));
                let problem = bad_shape("grad", format!("of {y} with a cotangent of {ct}"));
                self.apply("grad", &[*output, *cotangent], place, |_| Err(problem));
            }
        }
        self.check()?;
        let mut walk = Walk::new(self, outputs, &wrt);
        walk.run();
        let found = wrt.iter().map(|&id| walk.total(id));
        let results = found.zip(&wrt).map(|(total, &id)| match total {
            Some(total) => Ok(total),
            None => self.missing(outputs, id, place),
        });
        let (good, bad): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
        if let Some(error) = Error::gather(bad.into_iter().filter_map(Result::err)) {
            return Err(error);
        }
        self.check()?;
        Ok(good.into_iter().flatten().collect())
    }

    /// What to say of a tensor that no cotangent reached: zero where `stop_gradient` cut it off on
    /// purpose, an error otherwise.
    fn missing<'g>(
        &'g self,
        outputs: &[(Tensor<'g>, Tensor<'g>)],
        wrt: NodeId,
        place: Place,
    ) -> Result<Tensor<'g>> {
        let ir = self.ir.borrow();
        let name = ir.label(wrt);
        let name = name
            .split_once(' ')
            .map_or(name.as_str(), |(_, name)| name)
            .to_owned();
        let born = ir.origins[wrt.index()].place;
        let node = ir.node(wrt);
        let text = format!("{}{}", node.dtype, node.shape);
        match cut(&ir, outputs, wrt) {
            None => Err(Error::new(ErrorKind::Unreachable { name }).at(place).note(
                "with respect to",
                text,
                Some(born),
            )),
            Some(id) if ir.node(id).op == Op::Stop => {
                drop(ir);
                Ok(self.tensor(wrt).number(0.0))
            }
            Some(id) => {
                let operation = ir.label(id);
                let at = ir.origins[id.index()].place;
                Err(Error::new(ErrorKind::NotDifferentiable { name, operation })
                    .at(place)
                    .note("with respect to", text, Some(born))
                    .note("operation", ir.label(id), Some(at))
                    .help("`stop_gradient` says that this is meant, and gives zeros"))
            }
        }
    }
}

/// The first node on the way back from `outputs` through which `wrt` is reached but no gradient
/// flows: a [`Op::Stop`] if all ways are stopped on purpose. `None` where `wrt` is not reached.
fn cut(ir: &Ir, outputs: &[(Tensor<'_>, Tensor<'_>)], wrt: NodeId) -> Option<NodeId> {
    let end = outputs.iter().map(|(y, _)| y.id.index() + 1).max()?;
    let mut depends = vec![false; end.max(wrt.index() + 1)];
    depends[wrt.index()] = true;
    for id in wrt.index() + 1..end {
        let inputs = &ir.nodes[id].inputs;
        depends[id] = inputs.iter().any(|input| depends[input.index()]);
    }
    let mut wanted = vec![false; end];
    for (y, _) in outputs {
        wanted[y.id.index()] = true;
    }
    let mut stopped = None;
    for id in (0..end).rev() {
        if !wanted[id] || !depends[id] {
            continue;
        }
        let node = &ir.nodes[id];
        let inputs = node.inputs.iter().enumerate();
        for (k, input) in inputs.filter(|(_, input)| depends[input.index()]) {
            let carries = node.dtype.is_float() || matches!(node.op, Op::Custom(_));
            if carries && op::is_differentiable(&node.op, k) {
                wanted[input.index()] = true;
                continue;
            }
            let stop = [NodeId(id as u32), *input]
                .into_iter()
                .find(|&x| ir.node(x).op == Op::Stop);
            match stop {
                Some(_) => stopped = stopped.or(stop),
                None => return Some(NodeId(id as u32)),
            }
        }
    }
    stopped
}

struct Walk<'g> {
    graph: &'g Graph,
    /// Which nodes have a differentiable path from a `wrt`.
    needs: Vec<bool>,
    /// Cotangents that have arrived.
    pending: Vec<Vec<Tensor<'g>>>,
    /// Cotangents of the outputs of nodes with a rule of their own.
    parts: HashMap<NodeId, Vec<Option<Tensor<'g>>>>,
    /// The sums for `wrt`, as far as reached.
    totals: HashMap<NodeId, Option<Tensor<'g>>>,
}

impl<'g> Walk<'g> {
    fn new(graph: &'g Graph, outputs: &[(Tensor<'g>, Tensor<'g>)], wrt: &[NodeId]) -> Walk<'g> {
        let end = outputs
            .iter()
            .map(|(y, _)| y.id.index() + 1)
            .max()
            .unwrap_or(0);
        let ir = graph.ir.borrow();
        let mut needs = vec![false; end];
        for id in wrt.iter().filter(|id| id.index() < end) {
            needs[id.index()] = ir.node(*id).dtype.is_float();
        }
        for id in 0..end {
            let node = &ir.nodes[id];
            let carries = node.dtype.is_float() || matches!(node.op, Op::Custom(_));
            let flows = |(k, input): (usize, &NodeId)| {
                needs[input.index()] && op::is_differentiable(&node.op, k)
            };
            needs[id] |= carries && node.inputs.iter().enumerate().any(flows);
        }
        let mut pending = vec![Vec::new(); end];
        for (y, cotangent) in outputs {
            pending[y.id.index()].push(*cotangent);
        }
        Walk {
            graph,
            needs,
            pending,
            parts: HashMap::new(),
            totals: wrt.iter().map(|&id| (id, None)).collect(),
        }
    }

    fn total(&self, id: NodeId) -> Option<Tensor<'g>> {
        self.totals.get(&id).copied().flatten()
    }

    fn run(&mut self) {
        for id in (0..self.needs.len())
            .rev()
            .filter(|&id| self.needs[id])
            .collect::<Vec<_>>()
        {
            let id = NodeId(id as u32);
            let origin = self.graph.ir.borrow().origins[id.index()];
            let graph = self.graph;
            graph.within(origin, || self.visit(id));
        }
    }

    fn visit(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        if let Op::Custom(custom) = &node.op {
            let Some(cotangents) = self.parts.remove(&id) else {
                return;
            };
            let (inputs, outputs) = node.inputs.split_at(custom.inputs);
            let tensor = |&x: &NodeId| self.graph.tensor(x);
            // The marked outputs, which follow the marker, so that their own derivative is by the rule.
            let marked = |i: usize| self.graph.tensor(NodeId(id.0 + 1 + i as u32));
            let cx = Vjp {
                inputs: &inputs.iter().map(tensor).collect::<Vec<_>>(),
                outputs: &(0..outputs.len()).map(marked).collect::<Vec<_>>(),
                cotangents: &cotangents,
            };
            match custom.rule.vjp(&cx) {
                Some(parts) => self.deliver(&node.inputs[..custom.inputs], parts),
                None => self.deliver(&node.inputs[custom.inputs..], cotangents),
            }
            return;
        }
        let arrived = std::mem::take(&mut self.pending[id.index()]);
        let Some(g) = arrived.into_iter().reduce(op::mask::sum) else {
            return;
        };
        if let Some(total) = self.totals.get_mut(&id) {
            *total = Some(g);
        }
        if let Op::Output(i) = node.op {
            let marker = node.inputs[0];
            let outputs = match self.graph.node(marker) {
                Node {
                    op: Op::Custom(custom),
                    inputs,
                    ..
                } => inputs.len() - custom.inputs,
                _ => 0,
            };
            let parts = self
                .parts
                .entry(marker)
                .or_insert_with(|| vec![None; outputs]);
            parts[i as usize] = Some(g);
            return;
        }
        let x: Vec<Tensor<'g>> = node.inputs.iter().map(|&x| self.graph.tensor(x)).collect();
        let parts = op::vjp(&node, &x, self.graph.tensor(id), g);
        self.deliver(&node.inputs, parts);
    }

    fn deliver(&mut self, inputs: &[NodeId], parts: Vec<Option<Tensor<'g>>>) {
        for (input, part) in inputs.iter().zip(parts) {
            if let Some(part) = part.filter(|_| self.needs[input.index()]) {
                self.pending[input.index()].push(part);
            }
        }
    }
}
