//! Differentiation: a transformation of the graph into a larger graph.
//!
//! One descending loop over the nodes, from the loss to the leaves. A node's cotangents have all
//! arrived when the loop reaches it, because its users have larger ids; they are added up, the
//! node's rule turns the sum into cotangents of its operands, and these wait at the operands. A node
//! that no cotangent reaches costs nothing. Every new node inherits the place and scope of the node
//! it belongs to.

use std::collections::{HashMap, HashSet};
use std::panic::Location;

use backprop_core::plan::{Phase, Purpose};
use backprop_core::{Error, ErrorKind, Place, Result};

use crate::composite::Vjp;
use crate::graph::{Graph, bad_dtype, bad_shape};
use crate::ir::{Ir, Node, NodeId, Op, Origin, RegionId};
use crate::op;
use crate::operand::Operand;
use crate::scan;
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
        self.grad_at(loss, wrt, Location::caller())
    }

    pub(crate) fn grad_at<'g, W: Operand<'g> + Copy>(
        &'g self,
        loss: Tensor<'g>,
        wrt: &[W],
        place: Place,
    ) -> Result<Vec<Tensor<'g>>> {
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

    pub(crate) fn vjp_at<'g, W: Operand<'g> + Copy>(
        &'g self,
        outputs: &[(Tensor<'g>, Tensor<'g>)],
        wrt: &[W],
        place: Place,
    ) -> Result<Vec<Tensor<'g>>> {
        let wrt: Vec<NodeId> = wrt.iter().map(|w| w.on(self, None, place).id).collect();
        for (output, cotangent) in outputs {
            let types = [output, cotangent].map(|x| (x.dtype(), x.shape()));
            let foreign = [output, cotangent]
                .iter()
                .any(|x| !std::ptr::eq(x.graph, self));
            if foreign || types[0] != types[1] || !types[0].0.is_float() {
                let [y, ct] = types.map(|(dtype, shape)| format!("{dtype}{shape}"));
                let what = format!("of {y} with a cotangent of {ct}");
                let problem = match types[0].1 == types[1].1 {
                    true => bad_dtype("grad", what),
                    false => bad_shape("grad", what),
                };
                self.refuse("grad", &[*output, *cotangent], place, problem);
            }
        }
        self.check()?;
        let mut walk = Walk::new(self, outputs, &wrt);
        walk.run();
        self.count_gradients(&walk, &wrt);
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
        let good: Vec<Tensor<'g>> = good.into_iter().flatten().collect();
        let gradients = wrt.iter().zip(&good).map(|(&x, gradient)| (x, gradient.id));
        self.ir.borrow_mut().gradients.extend(gradients);
        Ok(good)
    }

    /// Says of the gradients of parameters that this is what they are.
    fn count_gradients(&self, walk: &Walk<'_>, wrt: &[NodeId]) {
        let mut ir = self.ir.borrow_mut();
        let is_parameter = |id: &&NodeId| matches!(ir.node(**id).op, Op::Parameter(_));
        let parameters: Vec<NodeId> = wrt.iter().filter(is_parameter).copied().collect();
        for total in parameters.into_iter().filter_map(|id| walk.total(id)) {
            let origin = ir.origins[total.id.index()];
            if origin.phase == Phase::Backward {
                let purpose = Purpose::Gradient;
                let origin = Origin { purpose, ..origin };
                ir.origins.replace(total.id.index(), origin);
            }
        }
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
    // The outputs of scans that are wanted: only what these are made from is.
    let mut taken: HashSet<(NodeId, usize)> = HashSet::new();
    let mut stopped = None;
    for id in (0..end as u32).rev().map(NodeId) {
        let node = ir.node(id);
        if !wanted[id.index()] || !depends[id.index()] {
            continue;
        }
        if let Op::Output(i) = node.op {
            taken.insert((node.inputs[0], i as usize));
        }
        let inputs = node.inputs.iter().enumerate();
        for (k, input) in inputs.filter(|(_, input)| depends[input.index()]) {
            if carries(node) && op::is_differentiable(&node.op, k) {
                wanted[input.index()] |= match &node.op {
                    Op::Scan(scan) => scan.uses(k, |output| taken.contains(&(id, output))),
                    _ => true,
                };
                continue;
            }
            let stop = [id, *input]
                .into_iter()
                .find(|&x| ir.node(x).op == Op::Stop);
            match stop {
                Some(_) => stopped = stopped.or(stop),
                None => return Some(id),
            }
        }
    }
    stopped
}

/// Whether cotangents can go through a node: it is a real number, or stands for several values.
fn carries(node: &Node) -> bool {
    node.dtype.is_float() || matches!(node.op, Op::Custom(_) | Op::Scan(_))
}

/// Which of the first `end` nodes have a differentiable path from one of `wrt`.
fn needs(ir: &Ir, wrt: &[NodeId], end: usize) -> Vec<bool> {
    let mut needs = vec![false; end];
    for id in wrt.iter().filter(|id| id.index() < end) {
        needs[id.index()] = ir.node(*id).dtype.is_float();
    }
    let update = |id: NodeId, needs: &mut [bool]| {
        let node = ir.node(id);
        let flows = |(k, input): (usize, &NodeId)| {
            needs[input.index()] && op::is_differentiable(&node.op, k)
        };
        needs[id.index()] |= carries(node) && node.inputs.iter().enumerate().any(flows);
    };
    for id in ir.ids().take(end) {
        if let Op::Scan(scan) = &ir.node(id).op {
            scan::spread_needs(ir, (id, scan), &mut needs, &update);
        }
        update(id, &mut needs);
    }
    needs
}

pub(crate) struct Walk<'g> {
    graph: &'g Graph,
    /// The regions whose nodes are visited; `None` for all that are around what is being built.
    region: Option<RegionId>,
    /// Which nodes have a differentiable path from a `wrt`.
    needs: Vec<bool>,
    /// Cotangents that have arrived.
    pending: Vec<Vec<Tensor<'g>>>,
    /// Cotangents of the outputs of nodes with a rule of their own.
    parts: HashMap<NodeId, Vec<Option<Tensor<'g>>>>,
    /// The sums for `wrt`, as far as reached.
    totals: HashMap<NodeId, Option<Tensor<'g>>>,
    /// What arrived at those of `wrt` that are not visited.
    arrived: HashMap<NodeId, Vec<Tensor<'g>>>,
}

impl<'g> Walk<'g> {
    pub(crate) fn new(
        graph: &'g Graph,
        outputs: &[(Tensor<'g>, Tensor<'g>)],
        wrt: &[NodeId],
    ) -> Walk<'g> {
        let end = outputs.iter().map(|(y, _)| y.id.index() + 1).max();
        let needs = needs(&graph.ir.borrow(), wrt, end.unwrap_or(0));
        Walk::over(graph, None, needs, (outputs, wrt))
    }

    /// A walk over the body of a scan, given what needs a gradient.
    pub(crate) fn within(
        graph: &'g Graph,
        region: RegionId,
        needs: &[bool],
        ends: (&[(Tensor<'g>, Tensor<'g>)], &[NodeId]),
    ) -> Walk<'g> {
        Walk::over(graph, Some(region), needs.to_vec(), ends)
    }

    fn over(
        graph: &'g Graph,
        region: Option<RegionId>,
        needs: Vec<bool>,
        (outputs, wrt): (&[(Tensor<'g>, Tensor<'g>)], &[NodeId]),
    ) -> Walk<'g> {
        let mut pending = vec![Vec::new(); needs.len()];
        for (y, cotangent) in outputs {
            pending[y.id.index()].push(*cotangent);
        }
        Walk {
            graph,
            region,
            needs,
            pending,
            parts: HashMap::new(),
            totals: wrt.iter().map(|&id| (id, None)).collect(),
            arrived: HashMap::new(),
        }
    }

    /// The sum of the cotangents of one of `wrt`, if any arrived.
    pub(crate) fn total(&self, id: NodeId) -> Option<Tensor<'g>> {
        self.totals.get(&id).copied().flatten()
    }

    /// The cotangents that arrived at one of `wrt` that lies outside of the body.
    pub(crate) fn arrived(&mut self, id: NodeId) -> Vec<Tensor<'g>> {
        self.arrived.remove(&id).unwrap_or_default()
    }

    /// Visits all nodes that need it, from the last one on.
    pub(crate) fn run(&mut self) {
        for id in (0..self.needs.len() as u32).rev().map(NodeId) {
            if !self.needs[id.index()] {
                continue;
            }
            let graph = self.graph;
            match self.is_visited(id) {
                true => graph.deriving(id, || self.visit(id)),
                false => self.leave(id),
            }
        }
    }

    fn is_visited(&self, id: NodeId) -> bool {
        let region = self.graph.ir.borrow().node(id).region;
        match self.region {
            Some(walked) => region == walked,
            None => region == RegionId::default() || self.graph.is_open(region),
        }
    }

    /// Keeps what has arrived at a node that is not visited, because it is outside of the body.
    fn leave(&mut self, id: NodeId) {
        if self.totals.contains_key(&id) {
            let arrived = std::mem::take(&mut self.pending[id.index()]);
            self.arrived.insert(id, arrived);
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
        if let Op::Scan(scan) = &node.op {
            if let Some(cotangents) = self.parts.remove(&id) {
                let parts = self.graph.scan_vjp(id, scan, &cotangents, &self.needs);
                let (inputs, parts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
                self.deliver(&inputs, parts.into_iter().map(Some).collect());
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
            let outputs = self.graph.node(marker).outputs();
            let parts = self
                .parts
                .entry(marker)
                .or_insert_with(|| vec![None; outputs]);
            // An output may have two nodes: what the user stacked, and what a derivative needed.
            let part = &mut parts[i as usize];
            *part = Some(part.map_or(g, |other| op::mask::sum(other, g)));
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
