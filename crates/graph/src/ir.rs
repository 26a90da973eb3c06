//! The nodes of a graph: an append-only array in which inputs have smaller ids than their users.

mod origin;

use std::cell::{Ref, RefCell, RefMut};
use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use backprop_core::plan::Purpose;
use backprop_core::{Axes, DType, Primitive, Reduction, Scalar, Shape, TensorType};
use smallvec::{SmallVec, smallvec};

pub(crate) use origin::{Origin, Origins};

use crate::composite::Rule;
use crate::distinct::Distinct;
use crate::init::Init;
use crate::unit::Units;

/// The position of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u32);

impl NodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The body that a node belongs to: the graph itself, or that of a scan or a conditional.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct RegionId(pub(crate) u32);

/// A body: that of a scan, inside of another one or of the graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Region {
    pub(crate) parent: RegionId,
    /// How many regions are around it.
    pub(crate) depth: u32,
    /// The region of which this is the reverse.
    pub(crate) forward: Option<RegionId>,
    /// The scan, once it is built.
    pub(crate) scan: Option<NodeId>,
}

/// What a body is given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Argument {
    /// A value that iterations hand on; operand 0 is what it begins as.
    Carried,
    /// An element of operand 0, which is gone through along its first axis.
    Element,
}

/// In which order iterations run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Turn {
    Forward,
    Backward,
}

impl Turn {
    /// The other one.
    pub(crate) fn back(self) -> Turn {
        match self {
            Turn::Forward => Turn::Backward,
            Turn::Backward => Turn::Forward,
        }
    }
}

/// A body that runs several times.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Scan {
    pub(crate) region: RegionId,
    /// How often it runs; how often at most, if there is a `count`.
    pub(crate) times: usize,
    /// The carried value that says how often it runs.
    pub(crate) count: Option<usize>,
    pub(crate) turn: Turn,
    /// The number of carried values.
    pub(crate) carried: usize,
    /// The number of sequences.
    pub(crate) sequences: usize,
}

impl Scan {
    /// Whether operand number `k` matters beyond the body, given which outputs are taken. What the
    /// body goes through is used by its arguments alone.
    pub(crate) fn uses(&self, k: usize, is_taken: impl Fn(usize) -> bool) -> bool {
        match k.checked_sub(self.carried + self.sequences) {
            Some(left) => left < self.carried || is_taken(left),
            None => k < self.carried,
        }
    }
}

/// What a node computes. Shapes of results stand in the node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Op {
    /// Fed by the host; the position in [`Ir::inputs`].
    Input(u32),
    /// A parameter's value before the step; the position in [`Ir::parameters`].
    Parameter(u32),
    /// One number everywhere, as the bits of an `f64`.
    Constant(u64),
    /// An array known when the graph is built, as bytes.
    Data(Arc<[u8]>),
    /// The coordinate along an axis, as `i64`.
    Coordinate(u8),
    /// A function of the scalar table, of operands of the node's shape.
    Scalar(Scalar),
    /// Conversion to the node's type.
    Cast,
    /// Reduction over axes, which vanish.
    Reduce(Reduction, Axes),
    /// Repetition along new or size-1 axes, up to the node's shape.
    Broadcast,
    /// The same elements in the same order.
    Reshape,
    /// Axis `i` of the result is axis `order[i]` of the operand.
    Permute(Box<[u8]>),
    /// Element `i` of the result is element `start + i * step` of the operand.
    Slice(Box<Stride>),
    /// Element `start + i * step` of the result is element `i` of the operand; others hold `fill`.
    Pad(Box<Stride>, u64),
    /// Operands one after the other along an axis.
    Concat(u8),
    /// Batched matrix product of operands of equal rank and batch axes.
    MatMul,
    /// Slices of operand 0 along an axis, picked by operand 1, whose shape replaces the axis.
    Gather(u8),
    /// The transpose of [`Op::Gather`]: slices of operand 0 added into zeros by operand 1.
    ScatterAdd(u8),
    /// Uniform random numbers in [0, 1) under the key in operand 0.
    Random,
    /// The operand, cut off from differentiation.
    Stop,
    /// Marks `outputs` of nodes built from `inputs`, with a gradient of their own. Operands: inputs,
    /// then outputs. It has no value; [`Op::Output`] takes one.
    Custom(Box<Custom>),
    /// Output number `i` of the [`Op::Custom`], [`Op::Fused`] or [`Op::Scan`] in operand 0.
    Output(u32),
    /// A primitive that computes a composite in one launch. Only in compiled graphs; it has no value,
    /// [`Op::Output`] takes one.
    Fused(Arc<Primitive>),
    /// Argument number `i` of its kind of the node's region.
    Argument(Argument, u32),
    /// Runs a body. Operands: what carried values begin as, the sequences, what an iteration hands on,
    /// and what it stacks. It has no value; [`Op::Output`] takes one: the last carried values, then the
    /// stacked ones.
    Scan(Box<Scan>),
    /// A cotangent that nothing has chosen: what a jvp is the derivative by. Nothing that is computed
    /// depends on it.
    Unchosen(u32),
    /// Room for an output of a scan inside of a scan, should a derivative need it: the outer scan
    /// could not stack what is built after it. Holds the body's node that would be stacked.
    Reserved(u32),
    /// The value of operand 0, whose use is an error at run time if the truth value in operand 1
    /// holds.
    Require(Arc<str>),
    /// The result of an operation that failed to build.
    Poison,
}

/// Start and step along each axis.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Stride {
    pub(crate) start: Box<[usize]>,
    pub(crate) step: Box<[isize]>,
}

/// A rule of differentiation attached to nodes.
#[derive(Clone)]
pub(crate) struct Custom {
    pub(crate) rule: Arc<dyn Rule>,
    pub(crate) inputs: usize,
}

impl PartialEq for Custom {
    fn eq(&self, other: &Custom) -> bool {
        Arc::ptr_eq(&self.rule, &other.rule)
    }
}
impl Eq for Custom {}
impl Hash for Custom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.rule).cast::<()>().hash(state);
    }
}
impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rule.name())
    }
}

/// The operands of a node. There may be very many nodes, and few have more than four.
pub(crate) type Inputs = SmallVec<[NodeId; 4]>;

/// A node: what it computes, from what, and the type of the result.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Node {
    pub(crate) op: Op,
    pub(crate) inputs: Inputs,
    pub(crate) dtype: DType,
    /// Nodes of one shape share it, once they are in a graph.
    pub(crate) shape: Arc<Shape>,
    pub(crate) region: RegionId,
}

impl Node {
    pub(crate) fn tensor(&self) -> TensorType {
        TensorType::dense(self.dtype, *self.shape)
    }

    /// How many outputs a mark or a scan has.
    pub(crate) fn outputs(&self) -> usize {
        let operands = match &self.op {
            Op::Custom(custom) => custom.inputs,
            Op::Scan(scan) => scan.carried + scan.sequences,
            _ => self.inputs.len(),
        };
        self.inputs.len() - operands
    }

    /// The value, if it is one number everywhere.
    pub(crate) fn constant(&self) -> Option<f64> {
        match self.op {
            Op::Constant(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: Arc<str>,
    pub(crate) node: NodeId,
    pub(crate) init: Init,
    pub(crate) purpose: Purpose,
}

#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: Arc<str>,
    pub(crate) node: NodeId,
    /// The range `low..high` that the graph relies on, if it uses the input as indices or labels.
    pub(crate) range: Option<(i64, i64)>,
    /// A value that the range leaves out (an ignored label).
    pub(crate) except: Option<i64>,
}

/// Nodes by their hashes: the positions alone, because there may be very many nodes.
#[derive(Clone, Debug, Default)]
struct Interned(HashMap<u32, NodeId>);

impl Interned {
    /// The node that is equal to this one, or the key for it.
    fn find(&self, nodes: &[Node], node: &Node) -> Result<NodeId, u32> {
        let mut hasher = DefaultHasher::new();
        node.hash(&mut hasher);
        let mut key = hasher.finish() as u32;
        // Nodes of one hash have keys that follow each other.
        while let Some(&id) = self.0.get(&key) {
            if nodes[id.index()] == *node {
                return Ok(id);
            }
            key = key.wrapping_add(1);
        }
        Err(key)
    }
}

/// A value that the user wants to look at after a step.
#[derive(Clone, Debug)]
pub(crate) struct Inspection {
    pub(crate) name: String,
    pub(crate) node: NodeId,
    /// The node by which it is seen outside of all scans.
    pub(crate) outside: NodeId,
}

/// All nodes of a graph with what belongs to them.
#[derive(Clone, Debug)]
pub(crate) struct Ir {
    pub(crate) nodes: Vec<Node>,
    pub(crate) origins: Origins,
    pub(crate) scopes: Vec<Arc<str>>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) inputs: Vec<Input>,
    /// The graph itself comes first.
    pub(crate) regions: Vec<Region>,
    /// The room for each node of a body that a derivative may need stacked.
    pub(crate) reserved: HashMap<NodeId, NodeId>,
    /// Which operation of the user's each node belongs to.
    pub(crate) units: Units,
    pub(crate) inspections: Vec<Inspection>,
    /// Parameters and their gradients.
    pub(crate) gradients: Vec<(NodeId, NodeId)>,
    /// The parameters that count random keys: what reads one has to move it.
    pub(crate) counters: Vec<u32>,
    interned: Interned,
    /// The shapes of nodes.
    shapes: Distinct<Shape>,
}

/// The nodes of a graph under construction. Sessions share them as they were when compiled: a graph is
/// held once, however many there are, unless it grows afterwards.
#[derive(Debug, Default)]
pub(crate) struct Shared(RefCell<Arc<Ir>>);

impl Shared {
    pub(crate) fn borrow(&self) -> Ref<'_, Ir> {
        Ref::map(self.0.borrow(), |ir| &**ir)
    }

    pub(crate) fn borrow_mut(&self) -> RefMut<'_, Ir> {
        RefMut::map(self.0.borrow_mut(), Arc::make_mut)
    }

    /// The nodes as they are now.
    pub(crate) fn snapshot(&self) -> Arc<Ir> {
        Arc::clone(&self.0.borrow())
    }
}

impl Default for Ir {
    fn default() -> Ir {
        Ir {
            nodes: Vec::new(),
            origins: Origins::default(),
            scopes: vec!["".into()],
            parameters: Vec::new(),
            inputs: Vec::new(),
            regions: vec![Region::default()],
            reserved: HashMap::new(),
            units: Units::default(),
            inspections: Vec::new(),
            gradients: Vec::new(),
            counters: Vec::new(),
            interned: Interned::default(),
            shapes: Distinct::default(),
        }
    }
}

impl Ir {
    /// An empty graph with the same names, parameters and inputs: what a pass fills anew.
    pub(crate) fn successor(&self) -> Ir {
        Ir {
            scopes: self.scopes.clone(),
            parameters: self.parameters.clone(),
            inputs: self.inputs.clone(),
            regions: self.regions.clone(),
            ..Ir::default()
        }
    }

    /// Makes room for so many nodes at once.
    pub(crate) fn reserve(&mut self, nodes: usize) {
        self.nodes.reserve_exact(nodes);
        self.origins.reserve(nodes);
        self.interned.0.reserve(nodes);
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    pub(crate) fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// Appends a node, or finds the equal one that is there: equal pure nodes are computed once.
    pub(crate) fn push(&mut self, mut node: Node, origin: Origin) -> NodeId {
        let free = match self.interned.find(&self.nodes, &node) {
            Ok(id) => return id,
            Err(free) => free,
        };
        let id = NodeId(self.nodes.len() as u32);
        self.interned.0.insert(free, id);
        node.shape = self.shapes.one(node.shape);
        self.nodes.push(node);
        self.origins.push(origin);
        id
    }

    /// Appends an output of a mark, a fused primitive or a scan.
    pub(crate) fn push_output(
        &mut self,
        marker: NodeId,
        number: usize,
        (dtype, shape): (DType, Shape),
        origin: Origin,
    ) -> NodeId {
        let node = Node {
            op: Op::Output(number as u32),
            inputs: smallvec![marker],
            dtype,
            shape: shape.into(),
            region: self.node(marker).region,
        };
        self.push(node, origin)
    }

    pub(crate) fn region(&self, id: RegionId) -> &Region {
        &self.regions[id.0 as usize]
    }

    pub(crate) fn add_region(&mut self, parent: RegionId, forward: Option<RegionId>) -> RegionId {
        let depth = self.region(parent).depth + 1;
        self.regions.push(Region {
            parent,
            depth,
            forward,
            scan: None,
        });
        RegionId(self.regions.len() as u32 - 1)
    }

    /// Whether a region is another one or inside of it.
    pub(crate) fn is_within(&self, mut region: RegionId, of: RegionId) -> bool {
        while self.region(region).depth > self.region(of).depth {
            region = self.region(region).parent;
        }
        region == of
    }

    /// Whether a region is inside of another one.
    pub(crate) fn is_inside(&self, region: RegionId, of: RegionId) -> bool {
        region != of && self.is_within(region, of)
    }

    /// The innermost region among those of nodes.
    pub(crate) fn innermost(&self, nodes: &[NodeId]) -> RegionId {
        let regions = nodes.iter().map(|&id| self.node(id).region);
        let innermost = regions.max_by_key(|&region| self.region(region).depth);
        innermost.unwrap_or_default()
    }

    /// The node that is there already and equal to this one.
    pub(crate) fn find(&self, node: &Node) -> Option<NodeId> {
        self.interned.find(&self.nodes, node).ok()
    }

    /// A short name for messages and printing: an operation, or a parameter or input by name.
    pub(crate) fn label(&self, id: NodeId) -> String {
        match &self.node(id).op {
            Op::Input(i) => format!("input {}", self.inputs[*i as usize].name),
            Op::Parameter(i) => format!("parameter {}", self.parameters[*i as usize].name),
            Op::Output(_) => self.label(self.node(id).inputs[0]),
            op => op.name(),
        }
    }
}

impl Op {
    /// The name of the operation.
    pub(crate) fn name(&self) -> String {
        match self {
            Op::Input(_) => "input".into(),
            Op::Parameter(_) => "parameter".into(),
            Op::Constant(bits) => format!("{}", f64::from_bits(*bits)),
            Op::Data(_) => "data".into(),
            Op::Coordinate(axis) => format!("coordinate {axis}"),
            Op::Scalar(function) => function.name(),
            Op::Cast => "cast".into(),
            Op::Reduce(reduction, axes) => format!("{reduction} over {axes}"),
            Op::Broadcast => "broadcast".into(),
            Op::Reshape => "reshape".into(),
            Op::Permute(order) => format!("permute {order:?}"),
            Op::Slice(_) => "slice".into(),
            Op::Pad(..) => "pad".into(),
            Op::Concat(axis) => format!("concat {axis}"),
            Op::MatMul => "matmul".into(),
            Op::Gather(axis) => format!("gather {axis}"),
            Op::ScatterAdd(axis) => format!("scatter_add {axis}"),
            Op::Random => "random".into(),
            Op::Stop => "stop_gradient".into(),
            Op::Custom(custom) => custom.rule.name().to_owned(),
            Op::Output(i) => format!("output {i}"),
            Op::Fused(primitive) => primitive.name().into(),
            Op::Require(_) => "require".into(),
            Op::Reserved(_) => "reserved".into(),
            Op::Unchosen(_) => "unchosen".into(),
            Op::Argument(Argument::Carried, i) => format!("carried {i}"),
            Op::Argument(Argument::Element, i) => format!("element {i}"),
            Op::Scan(scan) => match scan.count {
                Some(_) => format!("scan up to {}", scan.times),
                None => format!("scan {}", scan.times),
            },
            Op::Poison => "poison".into(),
        }
    }
}
