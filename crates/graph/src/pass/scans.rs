//! Scans without the sequences and outputs that nobody uses.

use std::collections::HashMap;

use super::Work;
use crate::ir::{Argument, Inputs, Node, NodeId, Op, RegionId, Scan};

/// The sequences and stacked outputs of each scan that are used, by number, in order.
pub(super) struct Kept(HashMap<RegionId, Used>);

#[derive(Default)]
struct Used {
    sequences: Vec<usize>,
    stacked: Vec<usize>,
}

impl Kept {
    pub(super) fn new(work: &Work, reachable: &[bool]) -> Kept {
        let mut kept: HashMap<RegionId, Used> = HashMap::new();
        for id in work.ir.ids().filter(|id| reachable[id.index()]) {
            let node = work.ir.node(id);
            match &node.op {
                Op::Argument(Argument::Element, k) => {
                    kept.entry(node.region)
                        .or_default()
                        .sequences
                        .push(*k as usize);
                }
                Op::Output(i) => {
                    if let Op::Scan(scan) = &work.ir.node(node.inputs[0]).op {
                        let stacked = (*i as usize).checked_sub(scan.carried);
                        kept.entry(scan.region).or_default().stacked.extend(stacked);
                    }
                }
                _ => {}
            }
        }
        for used in kept.values_mut() {
            used.sequences.sort_unstable();
            used.stacked.sort_unstable();
        }
        Kept(kept)
    }

    /// A node as it is when only what is used is kept.
    pub(super) fn narrowed(&self, work: &Work, id: NodeId) -> Node {
        let mut node = work.ir.node(id).clone();
        match &mut node.op {
            Op::Argument(Argument::Element, k) => {
                if let Some(used) = self.0.get(&node.region) {
                    *k = position(&used.sequences, *k as usize);
                }
            }
            Op::Output(i) => {
                if let Op::Scan(scan) = &work.ir.node(node.inputs[0]).op
                    && let Some(used) = self.0.get(&scan.region)
                    && let Some(stacked) = (*i as usize).checked_sub(scan.carried)
                {
                    *i = scan.carried as u32 + position(&used.stacked, stacked);
                }
            }
            Op::Scan(scan) => {
                let none = Used::default();
                let used = self.0.get(&scan.region).unwrap_or(&none);
                node.inputs = used.inputs(scan, &node.inputs);
                scan.sequences = used.sequences.len();
            }
            _ => {}
        }
        node
    }
}

/// The position of a number in a sorted list.
fn position(list: &[usize], number: usize) -> u32 {
    list.partition_point(|&other| other < number) as u32
}

impl Used {
    /// The operands of a scan that are used.
    fn inputs(&self, scan: &Scan, inputs: &[NodeId]) -> Inputs {
        let (initial, rest) = inputs.split_at(scan.carried);
        let (sequences, left) = rest.split_at(scan.sequences);
        let (handed, stacked) = left.split_at(scan.carried);
        let sequences = self.sequences.iter().map(|&k| sequences[k]);
        let stacked = self.stacked.iter().map(|&j| stacked[j]);
        let initial = initial.iter().copied().chain(sequences);
        initial
            .chain(handed.iter().copied())
            .chain(stacked)
            .collect()
    }
}
