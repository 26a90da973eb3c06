//! The operations of a graph as its user called them: what pages and drawings show.

use std::collections::{BTreeSet, HashMap};

use backprop_core::Place;

use crate::ir::{Ir, Node, NodeId, Op};
use crate::unit::{Unit, UnitId};

/// What an item is, for its colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Input,
    Parameter,
    Forward,
    Backward,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Input => "input",
            Kind::Parameter => "parameter",
            Kind::Forward => "forward",
            Kind::Backward => "backward",
        }
    }
}

/// An operation with all nodes that it was built of, or all that one vjp was built of.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// The type of its (last) result, and the bytes of that.
    pub(super) tensor: String,
    pub(super) bytes: usize,
    pub(super) place: Place,
    /// The scope that it was called in.
    pub(super) scope: String,
    /// The scope as launches have it, with the operation's name.
    pub(super) path: String,
    /// The item whose vjp it is.
    pub(super) of: Option<usize>,
    /// What its operands belong to.
    pub(super) inputs: BTreeSet<usize>,
    pub(super) nodes: usize,
    /// Whether its name is that of a rearrangement, for want of a better one.
    is_called_by_node: bool,
}

/// What a node is shown in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Owner {
    Unit(UnitId),
    /// The gradient of an item.
    Gradient(usize),
    Node(NodeId),
}

/// What a node is shown in, given the items of earlier nodes.
fn owner(ir: &Ir, id: NodeId, item_of: &[Option<usize>]) -> Owner {
    let of = ir.units.vjp_of(id).and_then(|of| item_of[of.index()]);
    match (of, ir.units.owner(id), &ir.node(id).op) {
        (Some(of), ..) => Owner::Gradient(of),
        (None, Some(unit), _) => Owner::Unit(unit),
        (None, None, Op::Output(_)) => Owner::Node(ir.node(id).inputs[0]),
        (None, None, _) => Owner::Node(id),
    }
}

/// Whether a node only rearranges: an operation that has no name is called by another one.
fn rearranges(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape | Op::Broadcast | Op::Permute(_) | Op::Slice(_) | Op::Cast
    )
}

/// Whether a node is shown: numbers that are written down are not, nor room that nothing uses.
fn is_shown(node: &Node) -> bool {
    let is_number = matches!(node.op, Op::Constant(_) | Op::Coordinate(_));
    !is_number && !matches!(node.op, Op::Poison | Op::Reserved(_) | Op::Unchosen(_))
}

/// The items of a graph in the order of their first nodes.
pub(super) fn items(ir: &Ir) -> Vec<Item> {
    let mut numbers: HashMap<Owner, usize> = HashMap::new();
    let mut items: Vec<Item> = Vec::new();
    let mut item_of: Vec<Option<usize>> = vec![None; ir.nodes.len()];
    for id in ir.ids().filter(|id| is_shown(ir.node(*id))) {
        let number = *numbers.entry(owner(ir, id, &item_of)).or_insert_with(|| {
            items.push(item(ir, id));
            items.len() - 1
        });
        item_of[id.index()] = Some(number);
        let node = ir.node(id);
        let item = &mut items[number];
        item.nodes += 1;
        if item.is_called_by_node && !rearranges(&node.op) {
            (item.name, item.is_called_by_node) = (ir.operation(id), false);
        }
        let inputs = node.inputs.iter().filter_map(|x| item_of[x.index()]);
        item.inputs.extend(inputs.filter(|&other| other != number));
        describe(item, node);
        let of = ir.units.vjp_of(id).and_then(|of| item_of[of.index()]);
        if let Some(of) = of.filter(|&of| of != number) {
            // A gradient is shown where its operation is.
            let scope = items[of].scope.clone();
            (items[number].of, items[number].scope) = (Some(of), scope);
        }
    }
    for id in results(ir, &item_of, &items) {
        if let Some(number) = item_of[id.index()] {
            describe(&mut items[number], ir.node(id));
        }
    }
    items
}

/// Takes the type of a node for that of its item.
fn describe(item: &mut Item, node: &Node) {
    if !matches!(node.op, Op::Custom(_) | Op::Scan(_)) {
        item.tensor = format!("{}{}", node.dtype, node.shape);
        item.bytes = node.tensor().bytes();
    }
}

/// The nodes that other operations use, besides gradients, in order.
fn results(ir: &Ir, item_of: &[Option<usize>], items: &[Item]) -> BTreeSet<NodeId> {
    let mut results = BTreeSet::new();
    for id in ir.ids() {
        let user = item_of[id.index()];
        if user.is_some_and(|user| items[user].kind == Kind::Backward) {
            continue;
        }
        let inputs = ir.node(id).inputs.iter().copied();
        results.extend(inputs.filter(|x| item_of[x.index()] != user));
    }
    results
}

fn item(ir: &Ir, id: NodeId) -> Item {
    let origin = ir.origins[id.index()];
    let path = ir.scopes[origin.scope as usize].to_string();
    let unit = ir.units.owner(id).map(|unit| ir.units.unit(unit));
    let kind = match (&ir.node(id).op, unit) {
        (_, Some(Unit::Vjp(_))) => Kind::Backward,
        (Op::Input(_), _) => Kind::Input,
        (Op::Parameter(_), _) => Kind::Parameter,
        _ => Kind::Forward,
    };
    let outer = |path: &str| {
        path.rsplit_once('.')
            .map_or("", |(outer, _)| outer)
            .to_owned()
    };
    let scope = match (&ir.node(id).op, unit) {
        (Op::Input(i), _) => outer(&ir.inputs[*i as usize].name),
        (Op::Parameter(i), _) => outer(&ir.parameters[*i as usize].name),
        (_, Some(Unit::Operation(Some(_)))) => outer(&path),
        _ => path.clone(),
    };
    Item {
        kind,
        name: ir.operation(id),
        tensor: String::new(),
        bytes: 0,
        place: origin.place,
        scope,
        path,
        of: None,
        inputs: BTreeSet::new(),
        nodes: 0,
        is_called_by_node: rearranges(&ir.node(id).op) && kind == Kind::Forward,
    }
}
