//! Tensors of a body mentioned elsewhere: in the body of the reverse scan they are residuals, which
//! the forward scan stacks on demand; anywhere else they have leaked.

use std::collections::HashMap;

use backprop_core::{ErrorKind, MAX_RANK, Place};
use smallvec::smallvec;

use super::stack;
use crate::graph::Graph;
use crate::ir::{Argument, Inputs, Ir, Node, NodeId, Op, RegionId, Turn};
use crate::tensor::Tensor;

/// The cost of functions whose values are kept for the way back, in additions.
const EXPENSIVE: usize = 10;
/// The most functions that are computed again for one value.
const MOST_AGAIN: usize = 12;

/// Whether a rearrangement costs nothing to do again.
fn is_free(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape | Op::Broadcast | Op::Permute(_) | Op::Slice(_) | Op::Stop
    )
}

/// A region that is being built.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) region: RegionId,
    pub(super) times: usize,
    /// The carried value that says how often the body runs.
    pub(super) count: Option<usize>,
    pub(super) turn: Turn,
    /// What carried values begin as.
    pub(super) initial: Vec<NodeId>,
    /// What is gone through, element by element.
    pub(super) sequences: Vec<NodeId>,
    /// The first node that may belong to it.
    pub(super) start: NodeId,
    /// What stands for tensors of the region of which this is the reverse.
    residuals: HashMap<NodeId, NodeId>,
}

impl Open {
    pub(super) fn new(
        (region, start): (RegionId, NodeId),
        (times, count): (usize, Option<usize>),
        turn: Turn,
    ) -> Open {
        Open {
            region,
            times,
            count,
            turn,
            initial: Vec::new(),
            sequences: Vec::new(),
            start,
            residuals: HashMap::new(),
        }
    }
}

impl Graph {
    /// The node to use for `id` where building is at: itself, or what stands for it in a reverse
    /// scan. `None` if it has leaked out of its scan.
    pub(crate) fn localize(&self, id: NodeId) -> Option<NodeId> {
        let region = self.ir.borrow().node(id).region;
        let depth = self.build.borrow().open.len();
        self.localize_below(id, region, depth)
    }

    /// The same with only the outer `depth` regions open.
    fn localize_below(&self, id: NodeId, region: RegionId, depth: usize) -> Option<NodeId> {
        if region == RegionId::default() {
            return Some(id);
        }
        let (visible, twin) = {
            let (build, ir) = (self.build.borrow(), self.ir.borrow());
            let open = &build.open[..depth];
            let visible = open.iter().any(|open| open.region == region);
            let is_twin = |open: &Open| ir.regions[open.region.0 as usize].forward == Some(region);
            (visible, open.iter().rposition(is_twin))
        };
        match twin {
            _ if visible => Some(id),
            Some(at) => self.residual(id, at),
            None => None,
        }
    }

    /// What stands, in open region number `at`, for a tensor of the body that it reverses.
    fn residual(&self, id: NodeId, at: usize) -> Option<NodeId> {
        let known = self.build.borrow().open[at].residuals.get(&id).copied();
        if known.is_some() {
            return known;
        }
        let node = self.node(id);
        let local = match &node.op {
            Op::Argument(Argument::Element, _) => self.element(node.inputs[0], at)?,
            _ if is_free(&node.op) || self.is_cheap(id, at) => {
                let mut inputs = Inputs::with_capacity(node.inputs.len());
                for &input in &node.inputs {
                    let region = self.ir.borrow().node(input).region;
                    inputs.push(self.localize_below(input, region, at + 1)?);
                }
                let region = self.ir.borrow().innermost(&inputs);
                let again = Node {
                    inputs,
                    region,
                    ..node
                };
                let again = self.kept_below(again, at + 1);
                let origin = self.origin_of_node(id);
                self.ir.borrow_mut().push(again, origin)
            }
            _ => {
                let stacked = self.ir.borrow_mut().stacked(id)?;
                self.element(stacked, at)?
            }
        };
        self.build.borrow_mut().open[at].residuals.insert(id, local);
        Some(local)
    }

    /// A node where it is computed: as far out as its operands are, since there it is computed once. A
    /// body that runs once or not at all keeps what is built in it.
    pub(crate) fn kept_inside(&self, node: Node) -> Node {
        let depth = self.build.borrow().open.len();
        self.kept_below(node, depth)
    }

    /// The same with only the outer `depth` regions open.
    fn kept_below(&self, node: Node, depth: usize) -> Node {
        let (build, ir) = (self.build.borrow(), self.ir.borrow());
        let conditional = build.open[..depth].iter().rfind(|open| open.times == 1);
        match conditional {
            Some(open) if ir.is_inside(open.region, node.region) && ir.find(&node).is_none() => {
                let region = open.region;
                Node { region, ..node }
            }
            _ => node,
        }
    }

    /// Whether a value of a body costs less to compute again in the reverse of it (open region number
    /// `at`) than to write, keep and read: a few cheap functions of what is there anyway, or is stacked
    /// in its place.
    fn is_cheap(&self, id: NodeId, at: usize) -> bool {
        let (ir, build) = (self.ir.borrow(), self.build.borrow());
        let region = ir.node(id).region;
        let known = &build.open[at].residuals;
        let mut open = vec![id];
        let mut again = 0;
        while let Some(next) = open.pop() {
            let node = ir.node(next);
            let is_there = node.region != region
                || known.contains_key(&next)
                || matches!(node.op, Op::Argument(..));
            if is_there && next != id {
                continue;
            }
            match node.op {
                Op::Scalar(function) if function.cost() < EXPENSIVE => again += 1,
                Op::Scalar(_) if next != id => continue,
                _ if is_free(&node.op) => {}
                _ => return false,
            }
            if again > MOST_AGAIN {
                return false;
            }
            open.extend(&node.inputs);
        }
        true
    }

    /// The elements of an outer tensor as an argument of open region number `at`.
    fn element(&self, outer: NodeId, at: usize) -> Option<NodeId> {
        let region = self.ir.borrow().node(outer).region;
        let outer = self.localize_below(outer, region, at)?;
        let above = self.build.borrow_mut().open.split_off(at + 1);
        let argument = self.argument(Argument::Element, self.tensor(outer)).id;
        self.build.borrow_mut().open.extend(above);
        Some(argument)
    }

    /// Whether a region is being built.
    pub(crate) fn is_open(&self, region: RegionId) -> bool {
        self.build
            .borrow()
            .open
            .iter()
            .any(|open| open.region == region)
    }

    /// Whether a node belongs to the innermost region that is being built.
    pub(crate) fn is_innermost(&self, id: NodeId) -> bool {
        let build = self.build.borrow();
        let region = build.open.last().map(|open| open.region);
        region == Some(self.ir.borrow().node(id).region)
    }

    /// Records that tensors of a body were used outside of it.
    pub(crate) fn leak(&self, operation: &str, tensors: &[Tensor<'_>], place: Place) {
        let deepest = |x: &Tensor<'_>| x.rank() == MAX_RANK;
        let what = match tensors.iter().any(deepest) {
            true => "a derivative would stack a tensor that has as many axes as there can be",
            false => "a tensor of a scan's body is used outside of it",
        };
        let what = what.to_owned();
        let operation = operation.to_owned();
        let kind = ErrorKind::Region { operation, what };
        let error = self.show(backprop_core::Error::new(kind), tensors);
        let help = "hand it on or stack it, and use what the scan gives";
        self.fail(error.help(help), self.origin(place));
    }
}

impl Ir {
    /// Makes the scan to whose body a node belongs stack it; gives the stacked one. `None` where there
    /// is no such scan, or where a stack of it would have more axes than there can be.
    pub(crate) fn stacked(&mut self, id: NodeId) -> Option<NodeId> {
        let (dtype, shape, region) = {
            let node = self.node(id);
            (node.dtype, *node.shape, self.region(node.region))
        };
        let marker = region.scan?;
        let Op::Scan(scan) = self.node(marker).op.clone() else {
            return None;
        };
        let whole = stack(scan.times, shape)?;
        let left = &self.node(marker).inputs[scan.carried + scan.sequences..];
        let known = left
            .iter()
            .skip(scan.carried)
            .position(|&other| other == id);
        let number = known.map_or(left.len(), |position| scan.carried + position);
        if known.is_none() {
            self.nodes[marker.index()].inputs.push(id);
        }
        if let Some(&room) = self.reserved.get(&id) {
            let node = &mut self.nodes[room.index()];
            (node.op, node.inputs) = (Op::Output(number as u32), smallvec![marker]);
            return Some(room);
        }
        let origin = self.origins[marker.index()];
        Some(self.push_output(marker, number, (dtype, whole), origin))
    }
}
