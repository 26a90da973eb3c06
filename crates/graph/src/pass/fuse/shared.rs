//! What is cheaper to store than to compute again.
//!
//! A value without memory is computed inside of every launch that needs it. That costs the reading
//! of its operands each time, where a stored value is written once and read once by each. The
//! clusters say who computes what: values are visited in order, and one is stored if that moves
//! fewer bytes (arithmetic counts little), seeing what was decided for those below it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::cluster::Clusters;
use super::stored::cost;
use super::views::Views;
use super::{is_elementwise, is_resident, operands};
use crate::ir::NodeId;
use crate::pass::Work;

/// Additions that take as long as moving a byte.
const BYTE: u64 = 4;
/// What a value has to save besides, in bytes: it may become a launch of its own.
const LAUNCH: u64 = 4096;

/// Values that are not stored, and should be.
pub(super) fn cheaper_stored(
    work: &Work,
    views: &Views,
    stored: &[bool],
    clusters: &Clusters,
) -> Vec<NodeId> {
    let mut ledger = Ledger::new(work, views, stored, clusters);
    let candidates: Vec<NodeId> = ledger.users.keys().copied().collect();
    let is_worth = |&id: &NodeId| ledger.settle(id);
    candidates.into_iter().filter(is_worth).collect()
}

/// What one cluster reads and computes inline.
#[derive(Debug, Default)]
struct Account {
    reads: BTreeSet<NodeId>,
    inline: BTreeSet<NodeId>,
}

struct Ledger<'w> {
    work: &'w Work,
    views: &'w Views,
    stored: Vec<bool>,
    clusters: &'w Clusters,
    /// The cluster that makes each stored value.
    maker: HashMap<NodeId, usize>,
    accounts: Vec<Account>,
    /// The clusters that compute a value inline, for values that several nodes use.
    users: BTreeMap<NodeId, BTreeSet<usize>>,
    /// How many clusters read a stored value; the host and parameters count as one.
    readers: HashMap<NodeId, usize>,
}

impl<'w> Ledger<'w> {
    fn new(work: &'w Work, views: &'w Views, stored: &[bool], clusters: &'w Clusters) -> Self {
        let mut ledger = Ledger {
            work,
            views,
            stored: stored.to_vec(),
            clusters,
            maker: clusters.of.clone(),
            accounts: Vec::new(),
            users: BTreeMap::new(),
            readers: HashMap::new(),
        };
        let branches = ledger.branches();
        for root in work.roots() {
            *ledger.readers.entry(views.of(root).base).or_default() += 1;
        }
        for c in 0..clusters.list.len() {
            let account = ledger.account(&clusters.list[c].members, Some(c));
            for &read in &account.reads {
                *ledger.readers.entry(read).or_default() += 1;
            }
            for &id in account.inline.iter().filter(|id| branches.contains(id)) {
                ledger.users.entry(id).or_default().insert(c);
            }
            ledger.accounts.push(account);
        }
        ledger.users.retain(|_, users| users.len() > 1);
        ledger
    }

    /// Values that several nodes use. Another one is part of its only user: storing that is better.
    fn branches(&self) -> HashSet<NodeId> {
        let (mut once, mut several) = (HashSet::new(), HashSet::new());
        let reachable = self.work.reachable();
        for id in self.work.ir.ids().filter(|id| reachable[id.index()]) {
            let node = self.work.ir.node(id);
            // A rearrangement that is a view passes on what it sees.
            if self.views.of(id).base != id {
                continue;
            }
            for &input in &node.inputs {
                let base = self.views.of(input).base;
                let is_computed = !self.work.ir.node(base).inputs.is_empty();
                if is_computed && !once.insert(base) {
                    several.insert(base);
                }
            }
        }
        several
    }

    /// What `ids` need, given that they are computed together (in a cluster, if there is one already).
    fn account(&self, ids: &[NodeId], cluster: Option<usize>) -> Account {
        let ir = &self.work.ir;
        let mut account = Account::default();
        let mut open: Vec<NodeId> = Vec::new();
        for &id in ids {
            match self.views.copy(id) {
                Some(seen) => open.push(seen.base),
                None => open.extend(operands(ir, id)),
            }
        }
        while let Some(input) = open.pop() {
            let base = self.views.of(input).base;
            let node = ir.node(base);
            if !self.stored[base.index()] && is_elementwise(node) {
                if account.inline.insert(base) {
                    open.extend(&node.inputs);
                }
            } else if is_resident(node) || self.maker.get(&base).copied() != cluster {
                account.reads.insert(base);
            }
        }
        account
    }

    fn bytes(&self, id: NodeId) -> u64 {
        self.work.ir.node(id).tensor().bytes() as u64
    }

    /// What an account costs, in additions.
    fn cost(&self, account: &Account) -> u64 {
        let ir = &self.work.ir;
        let reads = account.reads.iter().map(|&id| BYTE * self.bytes(id));
        let inline = account.inline.iter().map(|&id| ir.node(id));
        let inline = inline.map(|node| (node.shape.count() * cost(node)) as u64);
        reads.chain(inline).sum()
    }

    /// Stores a value if that is worth it.
    fn settle(&mut self, id: NodeId) -> bool {
        let users: Vec<usize> = self.users[&id].iter().copied().collect();
        if users.len() < 2 {
            return false;
        }
        let own = self.account(&[id], None);
        let maker = self.future_maker(id, &own).unwrap_or(users[0]);
        let mut changed: Vec<(usize, Account)> = Vec::new();
        self.stored[id.index()] = true;
        self.maker.insert(id, maker);
        for &c in users.iter().filter(|&&c| c != maker) {
            changed.push((c, self.account(&self.clusters.list[c].members, Some(c))));
        }
        if !users.contains(&maker) {
            let mut members = self.clusters.list[maker].members.clone();
            members.push(id);
            changed.push((maker, self.account(&members, Some(maker))));
        }
        let before: u64 = changed
            .iter()
            .map(|&(c, _)| self.cost(&self.accounts[c]))
            .sum();
        let after: u64 = changed.iter().map(|(_, account)| self.cost(account)).sum();
        let released = own
            .reads
            .iter()
            .filter(|read| self.is_released(**read, maker, &changed));
        let unwritten: u64 = released.map(|&read| self.bytes(read)).sum();
        let written = BYTE * (self.bytes(id) + LAUNCH);
        if after + written < before + BYTE * unwritten {
            for (c, account) in changed {
                self.replace(c, account);
            }
            return true;
        }
        self.stored[id.index()] = false;
        self.maker.remove(&id);
        false
    }

    /// The cluster that a value will join: the last one that makes something which it is made from,
    /// if that has room for values at the same points.
    fn future_maker(&self, id: NodeId, own: &Account) -> Option<usize> {
        let latest = own
            .reads
            .iter()
            .filter_map(|read| self.maker.get(read))
            .max();
        let takes = |c: usize| self.clusters.list[c].takes(self.work, self.views, id);
        latest.copied().filter(|&c| takes(c))
    }

    /// Whether nobody but its maker needs a value any more.
    fn is_released(&self, read: NodeId, maker: usize, changed: &[(usize, Account)]) -> bool {
        let reads = |account: &Account| account.reads.contains(&read);
        let gone = |(c, after): &&(usize, Account)| reads(&self.accounts[*c]) && !reads(after);
        let gone = changed.iter().filter(gone).count();
        self.maker.get(&read) == Some(&maker) && self.readers.get(&read) == Some(&gone)
    }

    fn replace(&mut self, c: usize, account: Account) {
        let old = std::mem::replace(&mut self.accounts[c], account);
        let new = &self.accounts[c];
        for &read in old.reads.difference(&new.reads) {
            self.readers.entry(read).and_modify(|readers| *readers -= 1);
        }
        for &read in new.reads.difference(&old.reads) {
            *self.readers.entry(read).or_default() += 1;
        }
        for id in old.inline.difference(&new.inline) {
            self.users.entry(*id).and_modify(|users| {
                users.remove(&c);
            });
        }
    }
}
