//! The derivative of a scan: a scan that runs the other way.
//!
//! Its body is the vjp of the forward body, built by the same walker and rules. Cotangents of carried
//! values are carried, those of sequences are stacked, and those of outer tensors add up (see
//! `sums.rs`). What a rule mentions of the forward body becomes a residual (see `localize.rs`), so rules
//! know nothing of scans.

use std::collections::BTreeSet;

use super::Left;
use super::sums::Sums;
use crate::grad::Walk;
use crate::graph::Graph;
use crate::ir::{Argument, Ir, NodeId, Op, Scan};
use crate::tensor::Tensor;

/// A forward scan, as its derivative sees it.
struct Forward {
    initial: Vec<NodeId>,
    sequences: Vec<NodeId>,
    /// What an iteration hands on, then what it stacks.
    left: Vec<NodeId>,
    carried: Vec<Option<NodeId>>,
    elements: Vec<Option<NodeId>>,
    /// Outer tensors that the body uses.
    captured: Vec<NodeId>,
}

impl Graph {
    fn forward(&self, marker: NodeId, scan: &Scan) -> Forward {
        let ir = self.ir.borrow();
        let inputs = &ir.node(marker).inputs;
        let (initial, rest) = inputs.split_at(scan.carried);
        let (sequences, left) = rest.split_at(scan.sequences);
        let mut forward = Forward {
            initial: initial.to_vec(),
            sequences: sequences.to_vec(),
            left: left.to_vec(),
            carried: vec![None; initial.len()],
            elements: vec![None; sequences.len()],
            captured: Vec::new(),
        };
        let mut captured = BTreeSet::new();
        let outside = |id: NodeId| !ir.is_within(ir.node(id).region, scan.region);
        for id in ir.ids().take(marker.index()) {
            let node = ir.node(id);
            if !ir.is_within(node.region, scan.region) {
                continue;
            }
            match node.op {
                Op::Argument(Argument::Carried, i) if node.region == scan.region => {
                    forward.carried[i as usize] = Some(id);
                }
                Op::Argument(Argument::Element, k) if node.region == scan.region => {
                    forward.elements[k as usize] = Some(id);
                }
                _ => captured.extend(node.inputs.iter().copied().filter(|&x| outside(x))),
            }
        }
        captured.extend(left.iter().copied().filter(|&x| outside(x)));
        forward.captured = captured.into_iter().collect();
        forward
    }

    /// The cotangents of what a scan depends on, given those of its outputs.
    pub(crate) fn scan_vjp<'g>(
        &'g self,
        marker: NodeId,
        scan: &Scan,
        cotangents: &[Option<Tensor<'g>>],
        needs: &[bool],
    ) -> Vec<(NodeId, Tensor<'g>)> {
        let forward = self.forward(marker, scan);
        let needed = |id: &Option<NodeId>| id.filter(|id| needs[id.index()]);
        let carried: Vec<usize> = (0..scan.carried)
            .filter(|&i| needed(&forward.carried[i]).is_some())
            .collect();
        let captured: Vec<NodeId> = forward
            .captured
            .iter()
            .copied()
            .filter(|c| needs[c.index()])
            .collect();
        let region = scan.region;
        // It runs as often as the forward scan did.
        let output = |i: usize| NodeId(marker.0 + 1 + i as u32);
        let count = scan.count.and_then(|i| self.localize(output(i)));
        let number = count.map(|_| carried.len());
        self.open((scan.times, number), scan.turn.back(), Some(region));
        let zeros = |id: NodeId| self.tensor(id).number(0.0);
        let enter = |x: Tensor<'g>| self.argument(Argument::Carried, x);
        let starts = carried
            .iter()
            .map(|&i| cotangents[i].unwrap_or_else(|| zeros(forward.initial[i])));
        let mut initial: Vec<Tensor<'g>> = starts.collect();
        let mut outputs: Vec<(Tensor<'g>, Tensor<'g>)> = Vec::new();
        for (&i, &start) in carried.iter().zip(&initial) {
            outputs.push((self.tensor(forward.left[i]), enter(start)));
        }
        let count = count.map(|id| (self.tensor(id), enter(self.tensor(id))));
        for (j, &left) in forward.left.iter().enumerate().skip(scan.carried) {
            let cotangent = cotangents.get(j).copied().flatten();
            if let Some(g) = cotangent.filter(|_| needs[left.index()]) {
                outputs.push((self.tensor(left), self.argument(Argument::Element, g)));
            }
        }
        let arguments = forward.carried.iter().chain(&forward.elements).flatten();
        let wrt: Vec<NodeId> = arguments.copied().chain(captured.iter().copied()).collect();
        let mut walk = Walk::within(self, region, needs, (&outputs, &wrt));
        walk.run();
        let mut left = Left::default();
        for &i in &carried {
            let total = forward.carried[i].and_then(|id| walk.total(id));
            left.carried
                .push(total.unwrap_or_else(|| zeros(forward.initial[i])));
        }
        if let Some((count, handed)) = count {
            initial.push(count);
            left.carried.push(handed);
        }
        let mut gone: Vec<NodeId> = Vec::new();
        for (k, element) in forward.elements.iter().enumerate() {
            let total = needed(element).and_then(|id| walk.total(id));
            if let Some(total) = total {
                left.stacked.push(total);
                gone.push(forward.sequences[k]);
            }
        }
        let mut sums = Sums::new(self, scan);
        for &c in &captured {
            sums.add(c, walk.arrived(c));
        }
        let sums = sums.leave(&mut initial, &mut left);
        let origin = self.origin_of_node(marker);
        let scanned = self.close(&initial, left, origin.place);
        let outer = carried.iter().map(|&i| forward.initial[i]);
        outer
            .zip(scanned.carried.iter().copied())
            .chain(gone.into_iter().zip(scanned.stacked.iter().copied()))
            .chain(sums.totals(&scanned))
            .collect()
    }
}

/// Marks as needing a gradient what an iteration hands to the next one, until nothing changes.
pub(crate) fn spread_needs(
    ir: &Ir,
    (marker, scan): (NodeId, &Scan),
    needs: &mut [bool],
    update: &dyn Fn(NodeId, &mut [bool]),
) {
    let first = scan.carried + scan.sequences;
    let body: Vec<NodeId> = ir
        .ids()
        .take(marker.index())
        .filter(|&id| ir.is_within(ir.node(id).region, scan.region))
        .collect();
    loop {
        let mut changed = false;
        for &id in &body {
            let node = ir.node(id);
            if let Op::Argument(Argument::Carried, i) = node.op
                && node.region == scan.region
                && node.dtype.is_float()
            {
                let left = ir.node(marker).inputs[first + i as usize];
                changed |= needs[left.index()] && !needs[id.index()];
                needs[id.index()] |= needs[left.index()];
            }
        }
        if !changed {
            return;
        }
        for &id in &body {
            update(id, needs);
        }
    }
}
