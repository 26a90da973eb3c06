//! Regions while they are built: arguments, what they leave, and room for what derivatives will need.

use backprop_core::{DType, Place, Shape};
use smallvec::smallvec;

use super::{Left, Open, Scanned};
use crate::graph::{Graph, bad_attribute, bad_shape};
use crate::ir::{Argument, Inputs, Ir, Node, NodeId, Op, Origin, RegionId, Scan, Turn};
use crate::tensor::Tensor;

impl Graph {
    /// Opens a region: what is built from its arguments belongs to it until it is closed.
    /// It runs `times` times, or at most so many if a carried value, given by its number, says how often.
    pub(crate) fn open(
        &self,
        (times, count): (usize, Option<usize>),
        turn: Turn,
        forward: Option<RegionId>,
    ) -> RegionId {
        let mut build = self.build.borrow_mut();
        let parent = build
            .open
            .last()
            .map(|open| open.region)
            .unwrap_or_default();
        let start = NodeId(self.len() as u32);
        let region = self.ir.borrow_mut().add_region(parent, forward);
        build
            .open
            .push(Open::new((region, start), (times, count), turn));
        region
    }

    /// A new argument of the innermost open region: a carried value that begins as `x`, or the
    /// elements of `x`.
    pub(crate) fn argument<'g>(&'g self, kind: Argument, x: Tensor<'g>) -> Tensor<'g> {
        let origin = self.origin_of_node(x.id);
        let mut build = self.build.borrow_mut();
        let Some(open) = build.open.last_mut() else {
            return x;
        };
        let mut ir = self.ir.borrow_mut();
        let (dtype, shape) = (ir.node(x.id).dtype, *ir.node(x.id).shape);
        let (list, shape) = match kind {
            Argument::Carried => (&mut open.initial, shape),
            Argument::Element => (&mut open.sequences, shape.filter(|axis| axis > 0)),
        };
        let number = list.len();
        list.push(x.id);
        let node = Node {
            op: Op::Argument(kind, number as u32),
            inputs: smallvec![x.id],
            dtype,
            shape: shape.into(),
            region: open.region,
        };
        let id = ir.push(node, origin);
        drop(ir);
        drop(build);
        self.tensor(id)
    }

    pub(crate) fn origin_of_node(&self, id: NodeId) -> Origin {
        self.ir.borrow().origins[id.index()]
    }

    /// Closes the innermost open region, making it a scan that leaves behind `left`.
    pub(crate) fn close<'g>(
        &'g self,
        initial: &[Tensor<'g>],
        left: Left<'g>,
        place: Place,
    ) -> Scanned<'g> {
        // What an iteration leaves may be a value from outside, which every iteration sees.
        let all: Vec<Tensor<'g>> = left.carried.iter().chain(&left.stacked).copied().collect();
        let sound = |x: &&Tensor<'g>| self.is_sound(**x);
        let leaked = all
            .iter()
            .filter(sound)
            .find(|x| self.localize(x.id).is_none())
            .copied();
        let Some(open) = self.build.borrow_mut().open.pop() else {
            return Scanned {
                carried: initial.to_vec(),
                stacked: Vec::new(),
            };
        };
        let failed = leaked.is_some() || !all.iter().all(|x| self.is_sound(*x));
        if failed || left.carried.len() != initial.len() {
            if let Some(x) = leaked {
                self.leak("scan", &[x], place);
            }
            // Says so if a tensor belongs to another graph, and is silent of what failed before.
            let problem = bad_attribute("scan", "a result of its body failed to build");
            let silent = match failed && leaked.is_none() {
                true => self.refuse("scan", &all, place, problem),
                false => self.poison(self.origin(place)),
            };
            return Scanned {
                carried: vec![silent; initial.len()],
                stacked: vec![silent; left.stacked.len()],
            };
        }
        let outputs = outputs(&self.ir.borrow(), &open, &left);
        let Some(outputs) = outputs else {
            let problem = bad_shape("scan", "stacking makes more axes than there can be");
            let failed = self.refuse("scan", &left.stacked, place, problem);
            return Scanned {
                carried: vec![failed; initial.len()],
                stacked: vec![failed; left.stacked.len()],
            };
        };
        let origin = self.origin(place);
        let scan = Scan {
            region: open.region,
            times: open.times,
            count: open.count,
            turn: open.turn,
            carried: left.carried.len(),
            sequences: open.sequences.len(),
        };
        let operands = open.initial.iter().chain(&open.sequences);
        let inputs: Inputs = operands.copied().chain(all.iter().map(|x| x.id)).collect();
        let mut ir = self.ir.borrow_mut();
        let region = ir.region(open.region).parent;
        let node = Node {
            op: Op::Scan(scan.into()),
            inputs,
            dtype: DType::Bool,
            shape: Shape::SCALAR.into(),
            region,
        };
        let marker = ir.push(node, origin);
        ir.regions[open.region.0 as usize].scan = Some(marker);
        let ids: Vec<NodeId> = (0..outputs.len())
            .map(|i| ir.push_output(marker, i, outputs[i], origin))
            .collect();
        stack_inspections(&mut ir, open.region);
        reserve(&mut ir, &open, marker, origin);
        drop(ir);
        let mut tensors = ids.into_iter().map(|id| self.tensor(id));
        Scanned {
            carried: tensors.by_ref().take(left.carried.len()).collect(),
            stacked: tensors.collect(),
        }
    }
}

/// Stacks what the user wants to see of a body.
fn stack_inspections(ir: &mut Ir, region: RegionId) {
    for k in 0..ir.inspections.len() {
        let seen = ir.inspections[k].outside;
        if ir.node(seen).region == region
            && let Some(stacked) = ir.stacked(seen)
        {
            ir.inspections[k].outside = stacked;
        }
    }
}

/// Makes room for stacking whatever the body of a scan inside of a scan computes.
fn reserve(ir: &mut Ir, open: &Open, marker: NodeId, origin: Origin) {
    if ir.node(marker).region == RegionId::default() {
        return;
    }
    for id in (open.start.index()..marker.index()).map(|index| NodeId(index as u32)) {
        let node = ir.node(id);
        let is_value = !matches!(node.op, Op::Custom(_) | Op::Scan(_));
        let stacked = stack(open.times, *node.shape);
        let Some(shape) = stacked.filter(|_| node.region == open.region && is_value) else {
            continue;
        };
        let room = Node {
            op: Op::Reserved(id.0),
            inputs: Inputs::new(),
            dtype: node.dtype,
            shape: shape.into(),
            region: ir.node(marker).region,
        };
        let room = ir.push(room, origin);
        ir.reserved.insert(id, room);
    }
}

/// The types of a scan's outputs.
fn outputs(ir: &Ir, open: &Open, left: &Left<'_>) -> Option<Vec<(DType, Shape)>> {
    let ty = |x: &Tensor<'_>| (ir.node(x.id).dtype, *ir.node(x.id).shape);
    let stacked = |x: &Tensor<'_>| {
        let (dtype, shape) = ty(x);
        Some((dtype, stack(open.times, shape)?))
    };
    let carried = left.carried.iter().map(|x| Some(ty(x)));
    carried.chain(left.stacked.iter().map(stacked)).collect()
}

/// A shape with a new first axis, if there can be one.
pub(crate) fn stack(times: usize, shape: Shape) -> Option<Shape> {
    let stacked = Shape::new(&[&[times], shape.sizes()].concat());
    stacked.filter(|shape| shape.checked_count().is_some())
}
