//! Scans of which every element of a batch has its own: a scan over batches.

use backprop_core::{DType, Reduction};

use super::{Batch, Lane};
use crate::ir::{Argument, Node, NodeId, Op, RegionId, Scan};
use crate::scan::Left;
use crate::tensor::Tensor;

/// A scan that has begun again, on batches.
struct Begun<'g> {
    /// What carried values begin as, and what the body sees of them.
    initial: Vec<Lane<'g>>,
    carried: Vec<Lane<'g>>,
    /// Which of them every iteration hands on as they are.
    passed: Vec<bool>,
    uneven: Option<Uneven<'g>>,
}

/// Elements run for different numbers of iterations: the scan runs for the longest, and what others
/// hand on stays as it is.
struct Uneven<'g> {
    /// The carried value that counts each element's iterations.
    count: usize,
    /// Which elements still run.
    runs: Tensor<'g>,
    /// How long the longest one runs: at first, and as the body sees it.
    longest: [Tensor<'g>; 2],
}

impl<'g> Batch<'g> {
    /// Builds a scan again; gives what its outputs became.
    pub(super) fn scan(&mut self, scan: &Scan, node: &Node) -> Vec<Lane<'g>> {
        let (before, left) = node.inputs.split_at(scan.carried + scan.sequences);
        let (handed, stacked) = left.split_at(scan.carried);
        let begun = self.begin(scan, before.split_at(scan.carried), handed);
        self.run(scan.region);

        let stacked: Vec<Lane<'g>> = stacked
            .iter()
            .map(|&id| match begun.uneven {
                None => self.lane(id),
                Some(_) => Lane::Each(self.kept(&begun, self.each(self.lane(id)), None)),
            })
            .collect();
        let left = Left {
            carried: self.handed(&begun, handed),
            stacked: stacked.iter().map(|x| x.tensor()).collect(),
        };
        let longest = begun.uneven.as_ref().map(|uneven| uneven.longest[0]);
        let initial = begun.initial.iter().map(|x| x.tensor()).chain(longest);
        let scanned = self
            .graph
            .close(&initial.collect::<Vec<_>>(), left, self.place);
        let last = begun.initial.iter().zip(scanned.carried);
        let rows = stacked.iter().zip(scanned.stacked);
        last.map(|(kind, x)| kind.map(|_| x))
            .chain(rows.map(|(kind, x)| kind.map(|_| x).at_front(1)))
            .collect()
    }

    /// Opens a region for the body, and makes its arguments stand for the old ones.
    fn begin(
        &mut self,
        scan: &Scan,
        (initial, sequences): (&[NodeId], &[NodeId]),
        handed: &[NodeId],
    ) -> Begun<'g> {
        let old = self.arguments(scan.region);
        let passed: Vec<bool> = (0..scan.carried)
            .map(|i| old.contains(&((Argument::Carried, i), handed[i])))
            .collect();
        let mut initial: Vec<Lane<'g>> = initial.iter().map(|&id| self.lane(id)).collect();
        let uneven = scan.count.filter(|&i| !passed[i] || !initial[i].is_same());
        for (i, lane) in initial.iter_mut().enumerate() {
            if !passed[i] || uneven == Some(i) {
                *lane = Lane::Each(self.each(*lane));
            }
        }
        let sequences: Vec<Lane<'g>> = sequences
            .iter()
            .map(|&id| self.lane(id).at_front(1))
            .collect();
        let longest = uneven.map(|i| self.over_batch(Reduction::Max, initial[i].tensor()));
        let numbers = self.graph.coordinate([scan.times], 0);

        let count = scan.count.map(|i| uneven.map_or(i, |_| scan.carried));
        self.graph.open((scan.times, count), scan.turn, None);
        let enter = |kind, all: &[Lane<'g>]| -> Vec<Lane<'g>> {
            let argument = |x| self.graph.argument(kind, x);
            all.iter().map(|lane| lane.map(argument)).collect()
        };
        let carried = enter(Argument::Carried, &initial);
        let elements = enter(Argument::Element, &sequences);
        let uneven = longest.zip(uneven).map(|(longest, count)| {
            let at = self.graph.argument(Argument::Element, numbers);
            let inside = self.graph.argument(Argument::Carried, longest);
            Uneven {
                count,
                runs: self.each(Lane::Same(at)).lt(carried[count].tensor()),
                longest: [longest, inside],
            }
        });
        for ((kind, i), id) in old {
            let lanes = match kind {
                Argument::Carried => &carried,
                Argument::Element => &elements,
            };
            self.lanes.insert(id, lanes[i]);
        }
        Begun {
            initial,
            carried,
            passed,
            uneven,
        }
    }

    /// What an iteration hands on.
    fn handed(&self, begun: &Begun<'g>, handed: &[NodeId]) -> Vec<Tensor<'g>> {
        let one = |(i, &id): (usize, &NodeId)| {
            let old = begun.carried[i].tensor();
            match begun.passed[i] {
                true => old,
                false => self.kept(begun, self.each(self.lane(id)), Some(old)),
            }
        };
        let mut all: Vec<Tensor<'g>> = handed.iter().enumerate().map(one).collect();
        if let Some(Uneven { count, longest, .. }) = begun.uneven {
            all.push(match begun.passed[count] {
                true => longest[1],
                false => self.over_batch(Reduction::Max, all[count]),
            });
        }
        all
    }

    /// What an element hands on, or 0 if it stacks it: as it was, if it does not run any more.
    fn kept(&self, begun: &Begun<'g>, next: Tensor<'g>, old: Option<Tensor<'g>>) -> Tensor<'g> {
        let Some(Uneven { runs, .. }) = begun.uneven else {
            return next;
        };
        let shape = next.shape();
        let runs = self.aligned(Lane::Each(runs), shape.filter(|axis| axis > 0));
        let runs = self.build(Op::Broadcast, &[runs], (DType::Bool, shape));
        runs.select(next, old.unwrap_or_else(|| next.number(0.0)))
    }

    /// The arguments of a region, with their numbers.
    fn arguments(&self, region: RegionId) -> Vec<((Argument, usize), NodeId)> {
        let ir = self.graph.ir.borrow();
        let nodes = ir.ids().map(|id| (ir.node(id), id));
        let own = nodes.filter(|(node, _)| node.region == region);
        own.filter_map(|(node, id)| match node.op {
            Op::Argument(kind, i) => Some(((kind, i as usize), id)),
            _ => None,
        })
        .collect()
    }
}
