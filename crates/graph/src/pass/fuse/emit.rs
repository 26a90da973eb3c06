//! Clusters as primitives, and their values.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use backprop_core::{
    Axes, Body, Concat, DType, Indexing, Inst, MatMul, Operand, Output, Piece, Primitive, Program,
    Random, Register, Relocate, Rows, Shape, Sink, Source, Sweep, View,
};

use super::cluster::{Cluster, Clusters, same_points};
use super::is_resident;
use super::views::{Seen, Views};
use crate::distinct::Distinct;
use crate::ir::{Node, NodeId, Op};
use crate::pass::Work;

/// What a cluster becomes, on nodes.
#[derive(Debug)]
pub(super) enum Emitted {
    /// Nobody needs it.
    Nothing,
    /// The loop of a scan.
    Scan(NodeId),
    Launch {
        /// Equal launches share it.
        primitive: Arc<Primitive>,
        reads: Vec<NodeId>,
        /// `None` for a result that nobody needs.
        writes: Vec<Option<NodeId>>,
    },
}

impl Emitted {
    fn launch(primitive: Primitive, reads: Vec<NodeId>, writes: Vec<Option<NodeId>>) -> Emitted {
        match writes.is_empty() {
            true => Emitted::Nothing,
            false => Emitted::Launch {
                primitive: Arc::new(primitive),
                reads,
                writes,
            },
        }
    }

    /// With the primitive that is known already, if an equal one is.
    fn shared(mut self, known: &mut Distinct<Primitive>) -> Emitted {
        if let Emitted::Launch { primitive, .. } = &mut self {
            *primitive = known.one(Arc::clone(primitive));
        }
        self
    }

    /// The primitive, if it is a launch.
    pub(super) fn primitive(&self) -> Option<&Primitive> {
        match self {
            Emitted::Launch { primitive, .. } => Some(primitive),
            Emitted::Nothing | Emitted::Scan(_) => None,
        }
    }
}

pub(super) fn emit(work: &Work, views: &Views, clusters: &Clusters) -> Vec<Emitted> {
    let mut needed: HashSet<NodeId> = work.roots().map(|root| views.of(root).base).collect();
    needed.extend(clusters.list.iter().flat_map(|cluster| &cluster.reads));
    let mut known = Distinct::default();
    let one = |(c, cluster)| {
        let emitter = Emitter::new(work, views, clusters, c, cluster);
        emitter.emit(&needed).shared(&mut known)
    };
    clusters.list.iter().enumerate().map(one).collect()
}

struct Emitter<'w> {
    work: &'w Work,
    views: &'w Views,
    clusters: &'w Clusters,
    c: usize,
    cluster: &'w Cluster,
    program: Program,
    /// The program's number of the first entry of `inputs`.
    external: usize,
    inputs: Vec<Source>,
    reads: Vec<NodeId>,
    computed: HashMap<NodeId, Register>,
    loaded: HashMap<(NodeId, View), Register>,
    constants: HashMap<(u64, DType), Register>,
}

impl<'w> Emitter<'w> {
    fn new(
        work: &'w Work,
        views: &'w Views,
        clusters: &'w Clusters,
        c: usize,
        cluster: &'w Cluster,
    ) -> Emitter<'w> {
        Emitter {
            work,
            views,
            clusters,
            c,
            cluster,
            program: Program::default(),
            external: 0,
            inputs: Vec::new(),
            reads: Vec::new(),
            computed: HashMap::new(),
            loaded: HashMap::new(),
            constants: HashMap::new(),
        }
    }

    fn source(&self, seen: Seen) -> Source {
        Source {
            tensor: self.work.ir.node(seen.base).tensor(),
            view: seen.view,
        }
    }

    fn emit(self, needed: &HashSet<NodeId>) -> Emitted {
        let first = self.cluster.members[0];
        let node = self.work.ir.node(first);
        if let Some(seen) = self.views.copy(first) {
            return self.relocate(first, &[(seen, View::dense(*node.shape))], None);
        }
        let operand = |k: usize| self.views.of(node.inputs[k]);
        match &node.op {
            Op::Pad(stride, fill) => {
                let shape = *self.work.ir.node(node.inputs[0]).shape;
                let into = View::dense(*node.shape).slice(&stride.start, &stride.step, shape);
                let pieces = if shape.count() == 0 {
                    vec![]
                } else {
                    vec![(operand(0), into)]
                };
                self.relocate(first, &pieces, Some(*fill))
            }
            Op::Concat(axis) => {
                let pieces = self.boxes(first, usize::from(*axis));
                self.relocate(first, &pieces, None)
            }
            Op::Gather(axis) | Op::ScatterAdd(axis) => self.indexing(first, usize::from(*axis)),
            Op::Random => {
                let spec = Random {
                    key: self.source(operand(0)).tensor,
                    output: node.tensor(),
                };
                self.single(first, Primitive::Random(spec), vec![operand(0).base])
            }
            Op::Output(_) => self.output(needed),
            Op::MatMul => self.matmul(first, needed),
            _ => self.points(needed),
        }
    }

    fn single(self, write: NodeId, primitive: Primitive, reads: Vec<NodeId>) -> Emitted {
        Emitted::launch(primitive, reads, vec![Some(write)])
    }

    /// The loop of a scan, or a primitive that stands for a composite, with those of its outputs
    /// that are needed.
    fn output(self, needed: &HashSet<NodeId>) -> Emitted {
        let (ir, members) = (&self.work.ir, &self.cluster.members);
        let marker = ir.node(members[0]).inputs[0];
        let Node {
            op: Op::Fused(primitive),
            inputs,
            ..
        } = ir.node(marker)
        else {
            return Emitted::Scan(marker);
        };
        let primitive = self.views.through(self.work, primitive, inputs);
        let reads = inputs.iter().map(|&x| self.views.of(x).base).collect();
        if primitive.accumulator().is_some() {
            return self.contraction(primitive, reads, needed);
        }
        let output = |k: usize| {
            let mut members = members.iter().copied();
            members.find(|&id| ir.node(id).op == Op::Output(k as u32))
        };
        let writes = (0..primitive.writes().len()).map(output).collect();
        Emitted::launch(primitive, reads, writes)
    }

    fn relocate(self, id: NodeId, pieces: &[(Seen, View)], fill: Option<u64>) -> Emitted {
        let boxes = pieces.iter().map(|&(seen, into)| Piece {
            from: self.source(seen),
            into,
        });
        let spec = Relocate {
            pieces: boxes.collect(),
            fill,
            output: self.work.ir.node(id).tensor(),
        };
        let reads = pieces.iter().map(|(seen, _)| seen.base).collect();
        self.single(id, Primitive::Relocate(spec), reads)
    }

    /// The boxes of a concatenation.
    fn boxes(&self, id: NodeId, axis: usize) -> Vec<(Seen, View)> {
        let node = self.work.ir.node(id);
        let mut start = vec![0; node.shape.rank()];
        let step = vec![1; node.shape.rank()];
        let mut boxes = Vec::new();
        for &input in &node.inputs {
            let shape = *self.work.ir.node(input).shape;
            if shape.count() > 0 {
                let into = View::dense(*node.shape).slice(&start, &step, shape);
                boxes.push((self.views.of(input), into));
            }
            start[axis] += shape.size(axis);
        }
        boxes
    }

    fn indexing(self, id: NodeId, axis: usize) -> Emitted {
        let node = self.work.ir.node(id);
        let [x, indices] = [node.inputs[0], node.inputs[1]];
        let gathers = matches!(node.op, Op::Gather(_));
        let (table, picked) = if gathers { (x, id) } else { (id, x) };
        let shape = *self.work.ir.node(table).shape;
        let spec = Indexing {
            table: self.work.ir.node(table).tensor(),
            indices: self.work.ir.node(indices).tensor(),
            picked: self.work.ir.node(picked).tensor(),
            outer: shape.filter(|a| a < axis).count(),
            rows: shape.size(axis),
            inner: shape.filter(|a| a > axis).count(),
        };
        let reads = vec![self.views.of(x).base, self.views.of(indices).base];
        let kind = if gathers {
            Primitive::Gather
        } else {
            Primitive::ScatterAdd
        };
        self.single(id, kind(spec), reads)
    }

    fn matmul(self, id: NodeId, needed: &HashSet<NodeId>) -> Emitted {
        let node = self.work.ir.node(id);
        let seen = [self.views.of(node.inputs[0]), self.views.of(node.inputs[1])];
        let [left, right] = seen.map(|seen| Operand::plain(self.source(seen)));
        let shape = *node.shape;
        let rank = shape.rank();
        let accumulator = node.dtype.accumulator();
        let spec = MatMul {
            batch: shape.filter(|axis| axis + 2 < rank),
            m: shape.size(rank - 2),
            k: seen[0].view.shape.size(rank - 1),
            n: shape.size(rank - 1),
            left,
            right,
            accumulator,
            space: shape,
            epilogue: Body::store_rounded(accumulator, node.tensor()),
        };
        let reads = seen.iter().map(|seen| seen.base).collect();
        self.contraction(Primitive::MatMul(spec), reads, needed)
    }

    /// A contraction, which is the cluster's first member, with the others in its epilogue.
    fn contraction(
        mut self,
        primitive: Primitive,
        mut reads: Vec<NodeId>,
        needed: &HashSet<NodeId>,
    ) -> Emitted {
        let first = self.cluster.members[0];
        let dtype = self.work.ir.node(first).dtype;
        let accumulator = primitive.accumulator().unwrap_or(dtype);
        self.external = 1;
        let sums = self.push(Inst::Input(0), accumulator);
        let value = match accumulator == dtype {
            true => sums,
            false => self.push(Inst::Cast(sums), dtype),
        };
        self.computed.insert(first, value);
        let (outputs, writes) = self.members(needed);
        let epilogue = self.body(outputs);
        reads.extend(self.reads);
        Emitted::launch(primitive.then(self.cluster.space, epilogue), reads, writes)
    }

    fn points(mut self, needed: &HashSet<NodeId>) -> Emitted {
        let (outputs, writes) = self.members(needed);
        let (space, reads) = (self.cluster.space, std::mem::take(&mut self.reads));
        let axes = self.cluster.axes.filter(|_| self.cluster.by_rows);
        let body = self.body(outputs);
        let primitive = match axes {
            Some(axes) => Primitive::Rows(Rows { space, axes, body }),
            None => Primitive::Sweep(Sweep { space, body }),
        };
        Emitted::launch(primitive, reads, writes)
    }

    fn body(&mut self, outputs: Vec<Output>) -> Body {
        Body {
            inputs: std::mem::take(&mut self.inputs),
            program: std::mem::take(&mut self.program),
            outputs,
        }
    }

    /// Computes all members; the outputs are those that somebody else needs.
    fn members(&mut self, needed: &HashSet<NodeId>) -> (Vec<Output>, Vec<Option<NodeId>>) {
        let (mut outputs, mut writes) = (Vec::new(), Vec::new());
        for &id in &self.cluster.members {
            let node = self.work.ir.node(id);
            let mut sink = Sink::Store;
            let register = match node.op {
                Op::MatMul | Op::Output(_) => self.computed[&id],
                Op::Reduce(reduction, axes) => {
                    let operand = self.operand(node.inputs[0], node.inputs[0]);
                    if self.cluster.by_rows {
                        let row = self.push(Inst::Reduce(reduction, operand), node.dtype);
                        self.computed.insert(id, row);
                        row
                    } else {
                        sink = Sink::Reduce(reduction, axes);
                        operand
                    }
                }
                Op::Concat(axis) => {
                    let pieces = node.inputs.iter();
                    let pieces: Vec<Register> = pieces.map(|&x| self.operand(x, x)).collect();
                    let beside = Concat::new(usize::from(axis), &pieces[1..]);
                    sink = beside.map_or(sink, Sink::Concat);
                    pieces[0]
                }
                _ => self.compute(id),
            };
            if needed.contains(&id) {
                let tensor = node.tensor();
                outputs.push(Output {
                    register,
                    sink,
                    tensor,
                });
                writes.push(Some(id));
            }
        }
        (outputs, writes)
    }

    fn push(&mut self, inst: Inst, dtype: DType) -> Register {
        // Programs are limited in length and well typed by construction.
        self.program.push(inst, dtype).unwrap_or(Register(0))
    }

    /// The register of an operand of `user`, computing what is inline.
    fn operand(&mut self, input: NodeId, user: NodeId) -> Register {
        let seen = self.views.of(input);
        if let Some(register) = self.ready(seen, user) {
            return register;
        }
        self.compute(seen.base)
    }

    /// The register of what `user` sees, unless it has to be computed first.
    fn ready(&mut self, seen: Seen, user: NodeId) -> Option<Register> {
        let node = self.work.ir.node(seen.base);
        if let Some(&register) = self.computed.get(&seen.base) {
            return Some(register);
        }
        if let Op::Constant(bits) = node.op
            && !self.is_elsewhere(seen.base)
        {
            if let Some(&register) = self.constants.get(&(bits, node.dtype)) {
                return Some(register);
            }
            let register = self.push(Inst::Constant(bits), node.dtype);
            self.constants.insert((bits, node.dtype), register);
            return Some(register);
        }
        if !is_resident(node) && !self.is_elsewhere(seen.base) {
            return None;
        }
        let view = self.in_space(seen.view, *self.work.ir.node(user).shape);
        if let Some(&register) = self.loaded.get(&(seen.base, view)) {
            return Some(register);
        }
        let number = (self.external + self.inputs.len()) as u16;
        self.inputs.push(self.source(Seen {
            base: seen.base,
            view,
        }));
        self.reads.push(seen.base);
        let register = self.push(Inst::Input(number), node.dtype);
        self.loaded.insert((seen.base, view), register);
        Some(register)
    }

    /// Whether another cluster stores a value.
    fn is_elsewhere(&self, id: NodeId) -> bool {
        self.clusters.of.get(&id).is_some_and(|&c| c != self.c)
    }

    /// Computes an elementwise value with everything inline below it, without recursion.
    fn compute(&mut self, id: NodeId) -> Register {
        let mut open = vec![id];
        while let Some(&top) = open.last() {
            if self.computed.contains_key(&top) {
                open.pop();
                continue;
            }
            let node = self.work.ir.node(top);
            let mut operands = [Register(0); 3];
            let mut missing = None;
            for (slot, &input) in operands.iter_mut().zip(&node.inputs) {
                let seen = self.views.of(input);
                match self.ready(seen, top) {
                    Some(register) => *slot = register,
                    None => missing = Some(seen.base),
                }
            }
            if let Some(base) = missing {
                open.push(base);
                continue;
            }
            let inst = match node.op {
                Op::Scalar(function) => Inst::Apply(function, operands),
                Op::Coordinate(axis) => match self.axis(*node.shape, axis) {
                    Some(axis) => Inst::Coordinate(axis),
                    None => Inst::Constant(0.0f64.to_bits()),
                },
                Op::Constant(bits) => Inst::Constant(bits),
                _ => Inst::Cast(operands[0]),
            };
            let register = self.push(inst, node.dtype);
            self.computed.insert(top, register);
            open.pop();
        }
        self.computed[&id]
    }

    /// A view from a value's own shape as a view from the cluster's space: values with one element a
    /// row do not move along it.
    fn in_space(&self, view: View, shape: Shape) -> View {
        let space = self.cluster.space;
        if shape == space || view.shape == space {
            return view;
        }
        let mut moved = View {
            shape: space,
            offset: view.offset,
            strides: [0; backprop_core::MAX_RANK],
        };
        for (axis, own) in self.matching_axes(view.shape) {
            moved.strides[axis] = view.strides[own];
        }
        moved
    }

    /// The cluster's axis that an axis of a value with one element a row stands for; none for an axis
    /// of size 1, along which nothing moves.
    fn axis(&self, shape: Shape, axis: u8) -> Option<u8> {
        if shape == self.cluster.space {
            return Some(axis);
        }
        let mut pairs = self.matching_axes(shape);
        let found = pairs.find(|&(_, own)| own == usize::from(axis));
        found.map(|(axis, _)| axis as u8)
    }

    /// Pairs of an axis of the space and an axis of `shape`, which has as many points or lacks the
    /// row's axes.
    fn matching_axes(&self, shape: Shape) -> impl Iterator<Item = (usize, usize)> + use<> {
        let space = self.cluster.space;
        let row = match same_points(shape, space) {
            true => Axes::NONE,
            false => self.cluster.axes.unwrap_or(Axes::NONE),
        };
        debug_assert!(same_points(shape, space.without(row)));
        let wide = move |axis: &usize| space.size(*axis) != 1 && !row.contains(*axis);
        let own = (0..shape.rank()).filter(move |&axis| shape.size(axis) != 1);
        (0..space.rank()).filter(wide).zip(own)
    }
}
