//! Labels on byte ranges: what the plan checker executes a plan on.

use std::collections::BTreeMap;

use super::{Span, ValueId};

/// Which value each byte of the buffers holds: start -> (end, value).
#[derive(Clone, Default, PartialEq)]
pub(super) struct Labels([BTreeMap<usize, (usize, ValueId)>; 3]);

impl Labels {
    pub(super) fn holds(&self, span: Span, value: ValueId) -> bool {
        let labels = &self.0[span.buffer as usize];
        let (mut at, end) = (span.offset, span.offset + span.bytes);
        while at < end {
            match labels.range(..=at).next_back() {
                Some((_, &(until, label))) if label == value && until > at => at = until,
                _ => return false,
            }
        }
        true
    }

    pub(super) fn write(&mut self, span: Span, value: Option<ValueId>) {
        let labels = &mut self.0[span.buffer as usize];
        let (start, end) = (span.offset, span.offset + span.bytes);
        if let Some((&before, &(until, label))) = labels.range(..start).next_back()
            && until > start
        {
            labels.insert(before, (start, label));
            if until > end {
                labels.insert(end, (until, label));
            }
        }
        let inside: Vec<usize> = labels.range(start..end).map(|(&at, _)| at).collect();
        for at in inside {
            if let Some((until, label)) = labels.remove(&at)
                && until > end
            {
                labels.insert(end, (until, label));
            }
        }
        if let Some(value) = value
            && start < end
        {
            let (start, end) = join(labels, (start, end), value);
            labels.insert(start, (end, value));
        }
    }

    /// Keeps what both hold.
    pub(super) fn meet(&mut self, other: &Labels) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.retain(|at, label| theirs.get(at) == Some(label));
        }
    }
}

/// Takes out the neighbours of a range that hold the same value, and gives the range with them: a
/// value written slice by slice ends up as one entry.
fn join(
    labels: &mut BTreeMap<usize, (usize, ValueId)>,
    (mut start, mut end): (usize, usize),
    value: ValueId,
) -> (usize, usize) {
    if let Some((&before, &(until, label))) = labels.range(..start).next_back()
        && (until, label) == (start, value)
    {
        labels.remove(&before);
        start = before;
    }
    if let Some(&(until, label)) = labels.get(&end)
        && label == value
    {
        labels.remove(&end);
        end = until;
    }
    (start, end)
}
