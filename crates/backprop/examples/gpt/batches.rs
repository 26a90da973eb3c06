//! Pieces of a text for the steps of a training.

use crate::support::random::SplitMix;

/// Contexts with the characters that follow, one row for each context.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Batch {
    /// `[rows, context]`
    pub tokens: Vec<i32>,
    /// What comes after each token: `[rows, context]`.
    pub targets: Vec<i32>,
}

impl Batch {
    /// The contexts that start at these positions of a text, each with a token behind it.
    pub(crate) fn gather(text: &[i32], starts: &[usize], context: usize) -> Self {
        let rows = |shift: usize| {
            let row = |&start: &usize| &text[start + shift..][..context];
            starts.iter().flat_map(row).copied().collect()
        };
        Self {
            tokens: rows(0),
            targets: rows(1),
        }
    }
}

/// Goes over a text again and again, in contexts side by side and out of order. Each pass starts at
/// another position and so cuts the text in other places.
pub(crate) struct Passes<'a> {
    text: &'a [i32],
    context: usize,
    random: SplitMix,
    starts: Vec<usize>,
}

impl<'a> Passes<'a> {
    /// Passes over a text that is longer than a context.
    pub(crate) fn new(text: &'a [i32], context: usize, seed: u64) -> Self {
        Self {
            text,
            context,
            random: SplitMix::new(seed),
            starts: Vec::new(),
        }
    }

    /// The next contexts.
    pub(crate) fn next(&mut self, rows: usize) -> Batch {
        let starts: Vec<usize> = (0..rows).map(|_| self.start()).collect();
        Batch::gather(self.text, &starts, self.context)
    }

    fn start(&mut self) -> usize {
        loop {
            if let Some(start) = self.starts.pop() {
                return start;
            }
            let last = self.text.len() - self.context - 1;
            let first = self.random.below(self.context.min(last + 1));
            self.starts.extend((first..=last).step_by(self.context));
            self.random.shuffle(&mut self.starts);
        }
    }
}

/// The starts of contexts side by side in a text: at most `most`, spread over all of it.
pub(crate) fn spread(length: usize, context: usize, most: usize) -> Vec<usize> {
    let all = length.saturating_sub(1) / context;
    let count = all.min(most);
    (0..count).map(|i| i * all / count * context).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_one_further() {
        let batch = Batch::gather(&[5, 6, 7, 8, 9], &[0, 2], 2);
        assert_eq!(batch.tokens, [5, 6, 7, 8]);
        assert_eq!(batch.targets, [6, 7, 8, 9]);
    }

    #[test]
    fn a_pass_sees_everything_once_and_follows_the_seed() {
        let text: Vec<i32> = (0..103).collect();
        // 103 tokens hold 10 contexts of 10, or 9 where the first ones are left out.
        let first = Passes::new(&text, 10, 1).next(9);
        let mut seen = first.tokens.clone();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 90);
        assert_eq!(Passes::new(&text, 10, 1).next(9), first);
        assert_ne!(Passes::new(&text, 10, 2).next(9), first);
        let many = Passes::new(&text, 10, 1).next(100);
        assert_eq!(many.targets.len(), 1000);
    }

    #[test]
    fn the_shortest_text_has_one_context() {
        let text = [1, 2, 3];
        let batch = Passes::new(&text, 2, 1).next(3);
        assert_eq!(batch.tokens, [1, 2, 1, 2, 1, 2]);
        assert_eq!(spread(3, 2, 8), [0]);
    }

    #[test]
    fn contexts_are_spread_over_the_text() {
        assert_eq!(spread(41, 10, 8), [0, 10, 20, 30]);
        assert_eq!(spread(40, 10, 8), [0, 10, 20]);
        assert_eq!(spread(1001, 10, 4), [0, 250, 500, 750]);
    }
}
