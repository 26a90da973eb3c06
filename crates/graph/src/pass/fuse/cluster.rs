//! Which stored values come from one launch.
//!
//! Clusters stand in a line, in an order in which they can run. Values are visited by depth (how
//! many heavy launches they wait for), and a value may only join a cluster behind which nothing
//! stands that it reads; so the line stays an order that works, and no search for cycles is needed.

use std::collections::HashMap;

use backprop_core::{Axes, Concat, Shape, View};

use super::stored::is_made;
use super::views::{Seen, Views};
use super::{Form, is_elementwise, is_resident, operands};
use crate::ir::{Node, NodeId, Op, RegionId};
use crate::pass::Work;

/// The most values that one launch reads, and that it writes.
const MOST_READS: usize = 96;
const MOST_MEMBERS: usize = 48;
/// How many clusters are asked, of those that read a value which a newcomer reads.
const MOST_SIBLINGS: usize = 4;

/// Values that one launch makes.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    /// The index space.
    pub(super) space: Shape,
    /// The axes over which members are reduced, if any are.
    pub(super) axes: Option<Axes>,
    /// In the order in which they are computed.
    pub(super) members: Vec<NodeId>,
    /// Whether a reduction is used again inside of the cluster.
    pub(super) by_rows: bool,
    /// Stored values of other clusters that are read.
    pub(super) reads: Vec<NodeId>,
}

#[derive(Debug)]
pub(super) struct Clusters {
    pub(super) list: Vec<Cluster>,
    /// The cluster that makes each stored value.
    pub(super) of: HashMap<NodeId, usize>,
}

impl Cluster {
    /// Whether an elementwise value may be computed here too, as far as its points go.
    pub(super) fn takes(&self, work: &Work, views: &Views, id: NodeId) -> bool {
        let first = self.members[0];
        let (node, other) = (work.ir.node(id), work.ir.node(first));
        kind(work, views, first) != Kind::Single
            && node.region == other.region
            && node.shape.count() == self.space.count()
    }
}

/// A stored value that a program reads, and how.
pub(super) type Read = Seen;

pub(super) fn cluster(work: &Work, views: &Views, stored: &[bool], forms: &[Form]) -> Clusters {
    let mut builder = Builder {
        work,
        views,
        forms,
        clusters: Clusters {
            list: Vec::new(),
            of: HashMap::new(),
        },
        readers: HashMap::new(),
        neighbours: HashMap::new(),
        launches: HashMap::new(),
    };
    let reads: HashMap<NodeId, Vec<NodeId>> = work
        .ir
        .ids()
        .filter(|&id| is_made(work, stored, id))
        .map(|id| (id, reads_of(work, views, stored, id)))
        .collect();
    for id in by_depth(work, views, &reads) {
        let reads = reads[&id].iter().map(|&read| read_by(views, id, read));
        builder.assign(id, &reads.collect::<Vec<Read>>());
    }
    builder.clusters
}

/// The stored values by how many heavy launches they wait for. Among equals single numbers come
/// first, so that what depends on a rate or a count finds it in place; then in order of building.
fn by_depth(work: &Work, views: &Views, reads: &HashMap<NodeId, Vec<NodeId>>) -> Vec<NodeId> {
    let mut ids: Vec<NodeId> = reads.keys().copied().collect();
    ids.sort_unstable();
    let mut rank: HashMap<NodeId, (usize, bool)> = HashMap::new();
    for &id in &ids {
        let waits = reads[&id].iter().filter_map(|&read| {
            let read = read_by(views, id, read);
            let heavy = !is_elementwise(work.ir.node(read.base));
            let (depth, many) = *rank.get(&read.base)?;
            Some(if heavy {
                (depth + 1, false)
            } else {
                (depth, many)
            })
        });
        let (depth, after_many) = waits.max().unwrap_or((0, false));
        rank.insert(
            id,
            (depth, after_many || work.ir.node(id).shape.count() > 1),
        );
    }
    ids.sort_by_key(|id| (rank[id], *id));
    ids
}

/// What is read where the computation of `id` takes a node for an operand. A copy takes itself, for
/// what it is a copy of.
fn read_by(views: &Views, id: NodeId, operand: NodeId) -> Read {
    let copied = views.copy(id).filter(|_| operand == id);
    copied.unwrap_or_else(|| views.of(operand))
}

/// The nodes as which stored values are read to compute `id`, with everything inline looked through.
fn reads_of(work: &Work, views: &Views, stored: &[bool], id: NodeId) -> Vec<NodeId> {
    if views.copy(id).is_some() {
        return vec![id];
    }
    let mut reads: Vec<NodeId> = Vec::new();
    let mut open: Vec<NodeId> = operands(&work.ir, id).to_vec();
    let mut seen: Vec<NodeId> = Vec::new();
    while let Some(input) = open.pop() {
        if seen.contains(&input) {
            continue;
        }
        seen.push(input);
        let read = views.of(input);
        let base = work.ir.node(read.base);
        if !stored[read.base.index()] && is_elementwise(base) {
            open.extend(&base.inputs);
        } else if base.shape.count() > 0 {
            reads.push(input);
            if let Op::Argument(..) = base.op {
                // It is there once what it is an element of, or begins as, is.
                open.extend(&base.inputs);
            }
        }
    }
    reads
}

/// What a cluster's launch is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Points of a space, perhaps reduced.
    Points,
    /// A matrix product or a convolution with its epilogue.
    Contraction,
    /// Something that takes nobody in.
    Single,
}

fn kind(work: &Work, views: &Views, id: NodeId) -> Kind {
    let node = work.ir.node(id);
    match node.op {
        _ if views.copy(id).is_some() => Kind::Single,
        Op::MatMul => Kind::Contraction,
        Op::Output(_) => match &work.ir.node(node.inputs[0]).op {
            Op::Fused(primitive) if primitive.accumulator().is_some() => Kind::Contraction,
            _ => Kind::Single,
        },
        Op::Reduce(..) => Kind::Points,
        _ if is_elementwise(node) => Kind::Points,
        _ => Kind::Single,
    }
}

struct Builder<'w> {
    work: &'w Work,
    views: &'w Views,
    forms: &'w [Form],
    clusters: Clusters,
    /// The clusters that read a stored value in order, over the points of a space.
    readers: HashMap<(NodeId, Shape), Vec<usize>>,
    /// In the body of a loop, where a launch costs as much as what it computes: the last cluster over
    /// the same points, which a value may join though they have nothing else in common.
    neighbours: HashMap<(RegionId, Shape), usize>,
    /// The cluster of each fused primitive.
    launches: HashMap<NodeId, usize>,
}

impl Builder<'_> {
    fn node(&self, id: NodeId) -> &Node {
        self.work.ir.node(id)
    }

    fn kind(&self, id: NodeId) -> Kind {
        kind(self.work, self.views, id)
    }

    /// The index space in which a value is computed.
    fn space(&self, id: NodeId) -> Shape {
        match self.node(id).op {
            Op::Reduce(..) => *self.node(self.node(id).inputs[0]).shape,
            _ => *self.node(id).shape,
        }
    }

    fn assign(&mut self, id: NodeId, reads: &[Read]) {
        let made = reads
            .iter()
            .filter_map(|read| self.clusters.of.get(&read.base));
        let latest = made.max().copied();
        let space = self.space(id);
        let points = points(space);
        let siblings = reads.iter().filter(|read| read.view.is_dense());
        let siblings = siblings.filter_map(|read| self.readers.get(&(read.base, points)));
        let siblings = siblings.flat_map(|all| all.iter().rev().take(MOST_SIBLINGS));
        let behind = |c: &usize| latest.is_none_or(|latest| *c >= latest);
        let region = self.node(id).region;
        let neighbour = self.neighbours.get(&(region, points));
        let others = siblings.chain(neighbour).copied().filter(behind);
        let candidates = latest.into_iter().chain(others);
        let candidates: Vec<usize> = candidates.collect();
        let joined = match self.node(id).op {
            Op::Output(_) => self.launches.get(&self.node(id).inputs[0]).copied(),
            _ => candidates.into_iter().find(|&c| self.joins(c, id, reads)),
        };
        let c = joined.unwrap_or_else(|| {
            self.clusters.list.push(Cluster {
                space,
                axes: None,
                members: Vec::new(),
                by_rows: false,
                reads: Vec::new(),
            });
            self.clusters.list.len() - 1
        });
        if let Op::Output(_) = self.node(id).op {
            self.launches.insert(self.node(id).inputs[0], c);
        }
        let (axes, kind) = (self.reduced_axes(id), self.kind(id));
        if kind == Kind::Points && region != RegionId::default() {
            self.neighbours.insert((region, points), c);
        }
        let reduction = |read: &Read| {
            let reduced = matches!(self.node(read.base).op, Op::Reduce(..));
            reduced && self.clusters.of.get(&read.base) == Some(&c)
        };
        let by_rows = reads.iter().any(reduction);
        let first = self.clusters.list[c].members.first();
        let follows_product = first.is_some_and(|&first| self.kind(first) == Kind::Contraction);
        let cluster = &mut self.clusters.list[c];
        cluster.members.push(id);
        cluster.axes = cluster.axes.or(axes);
        cluster.by_rows |=
            by_rows || (kind == Kind::Points && space.count() != cluster.space.count());
        if cluster.members.len() == 2 && follows_product {
            // A matrix product's space is that of its first companion, which has as many points.
            cluster.space = space;
        }
        for read in reads {
            let of_other = self.clusters.of.get(&read.base) != Some(&c);
            if of_other && !cluster.reads.contains(&read.base) {
                cluster.reads.push(read.base);
            }
            if kind == Kind::Points && read.view.is_dense() {
                let readers = self.readers.entry((read.base, points)).or_default();
                if !readers.contains(&c) {
                    readers.push(c);
                }
            }
        }
        self.clusters.of.insert(id, c);
    }

    fn reduced_axes(&self, id: NodeId) -> Option<Axes> {
        match self.node(id).op {
            Op::Reduce(_, axes) => Some(axes),
            _ => None,
        }
    }

    fn joins(&self, c: usize, id: NodeId, reads: &[Read]) -> bool {
        let cluster = &self.clusters.list[c];
        let first = cluster.members[0];
        if self.node(first).region != self.node(id).region {
            return false;
        }
        let more = reads
            .iter()
            .filter(|r| !cluster.reads.contains(&r.base))
            .count();
        if cluster.members.len() >= MOST_MEMBERS || cluster.reads.len() + more > MOST_READS {
            return false;
        }
        let form = self.forms[id.index()].max(self.forms[first.index()]);
        if form == Form::Plain {
            return self.joins_plainly(cluster, id, reads, c);
        }
        match (self.kind(first), self.kind(id)) {
            (Kind::Contraction, Kind::Points) => self.joins_product(cluster, id, reads, c),
            (Kind::Points, Kind::Points) => self.joins_points((cluster, form), id, reads, c),
            (Kind::Points, Kind::Single) => self.joins_pieces(cluster, id, c),
            _ => false,
        }
    }

    /// A concatenation of values that one launch makes, each at all of its points.
    fn joins_pieces(&self, cluster: &Cluster, id: NodeId, c: usize) -> bool {
        let node = self.node(id);
        let is_piece = |&input: &NodeId| {
            let seen = self.views.of(input);
            let made = self.clusters.of.get(&seen.base) == Some(&c);
            made && seen.view.is_dense()
                && seen.view.shape == cluster.space
                && *self.node(seen.base).shape == cluster.space
                && is_elementwise(self.node(seen.base))
        };
        matches!(node.op, Op::Concat(_))
            && cluster.axes.is_none()
            && (2..=Concat::MOST).contains(&node.inputs.len())
            && node.inputs.iter().all(is_piece)
    }

    /// Only stored results of one space, read from each other in order: what every backend does.
    fn joins_plainly(&self, cluster: &Cluster, id: NodeId, reads: &[Read], c: usize) -> bool {
        let both = [cluster.members[0], id];
        let elementwise = both
            .iter()
            .all(|&m| is_elementwise(self.node(m)) && self.views.copy(m).is_none());
        elementwise
            && cluster.axes.is_none()
            && cluster.space == *self.node(id).shape
            && self
                .inner(reads, c)
                .all(|read| self.in_order(read, cluster.space))
    }

    /// An elementwise value in the epilogue of a product.
    fn joins_product(&self, cluster: &Cluster, id: NodeId, reads: &[Read], c: usize) -> bool {
        let space = *self.node(id).shape;
        let alone = cluster.members.len() == 1;
        let same = same_points(space, cluster.space);
        let fits = same || (alone && space.count() == cluster.space.count());
        is_elementwise(self.node(id))
            && fits
            && self
                .inner(reads, c)
                .all(|read| read.view.is_dense() && same_points(read.view.shape, space))
    }

    fn joins_points(
        &self,
        (cluster, form): (&Cluster, Form),
        id: NodeId,
        reads: &[Read],
        c: usize,
    ) -> bool {
        if let Some(axes) = self.reduced_axes(id)
            && cluster.axes.is_some_and(|others| others != axes)
        {
            return false;
        }
        let axes = self.reduced_axes(id).or(cluster.axes);
        // Axes of reductions are counted in one space.
        let same_space = self.space(id) == cluster.space;
        if same_space || is_elementwise(self.node(id)) && self.is_at_points(cluster, id) {
            return self
                .inner(reads, c)
                .all(|read| match self.is_per_row(cluster, read.base) {
                    true => {
                        let repeated =
                            axes.is_some_and(|axes| is_repeated(&read.view, axes, cluster.space));
                        form == Form::Any && repeated
                    }
                    false => self.in_order(read, cluster.space),
                });
        }
        // A value for each row, made from reductions of this cluster.
        let per_row = cluster
            .axes
            .is_some_and(|axes| same_points(*self.node(id).shape, cluster.space.without(axes)));
        per_row
            && form == Form::Any
            && is_elementwise(self.node(id))
            && self
                .inner(reads, c)
                .all(|read| self.is_per_row(cluster, read.base) && read.view.is_dense())
    }

    /// The reads of values that the cluster itself makes.
    fn inner<'r>(&'r self, reads: &'r [Read], c: usize) -> impl Iterator<Item = &'r Read> {
        reads.iter().filter(move |read| {
            !is_resident(self.node(read.base)) && self.clusters.of.get(&read.base) == Some(&c)
        })
    }

    fn in_order(&self, read: &Read, space: Shape) -> bool {
        read.view.is_dense()
            && same_points(read.view.shape, space)
            && same_points(*self.node(read.base).shape, space)
    }

    fn is_at_points(&self, cluster: &Cluster, id: NodeId) -> bool {
        same_points(*self.node(id).shape, cluster.space)
    }

    fn is_per_row(&self, cluster: &Cluster, id: NodeId) -> bool {
        matches!(self.node(id).op, Op::Reduce(..)) || !self.is_at_points(cluster, id)
    }
}

/// A shape without its axes of size 1.
fn points(shape: Shape) -> Shape {
    shape.filter(|axis| shape.size(axis) != 1)
}

/// Whether two shapes are the same but for axes of size 1.
pub(super) fn same_points(a: Shape, b: Shape) -> bool {
    points(a) == points(b)
}

/// The axes of `shape` that are `axes` of `space`, where the two differ by axes of size 1.
fn counterparts(axes: Axes, space: Shape, shape: Shape) -> Axes {
    let wide = |shape: Shape| (0..shape.rank()).filter(move |&axis| shape.size(axis) != 1);
    let pairs = wide(shape).zip(wide(space));
    let chosen = pairs.filter(|&(_, own)| axes.contains(own));
    chosen.map(|(axis, _)| axis).collect()
}

/// Whether a view of a value with one element a row repeats it along the row's `axes`, which are
/// those of `space`.
fn is_repeated(view: &View, axes: Axes, space: Shape) -> bool {
    let axes = match same_points(view.shape, space) {
        true => counterparts(axes, space, view.shape),
        false => axes,
    };
    let kept = view.shape.without(axes);
    let mut dense = kept.strides().into_iter();
    view.offset == 0
        && (0..view.shape.rank()).all(|axis| {
            let expected = if axes.contains(axis) {
                0
            } else {
                dense.next().unwrap_or(0)
            };
            view.shape.size(axis) == 1 || view.strides[axis] == expected
        })
}
