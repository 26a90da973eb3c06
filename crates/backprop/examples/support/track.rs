//! What a training says after each of its steps.

use super::plot::{Curve, Stroke};

/// A number for each step, and their means over blocks of steps.
pub(crate) struct Track {
    unit: usize,
    block: usize,
    /// Steps before the first that is tracked.
    before: usize,
    each: Vec<(f64, f64)>,
    means: Vec<(f64, f64)>,
}

impl Track {
    /// `unit` steps are 1 on the horizontal axis. A step lies in the middle of the time that it takes,
    /// and a mean in the middle of its block.
    pub(crate) fn new(unit: usize, block: usize) -> Self {
        Self {
            unit,
            block,
            before: 0,
            each: Vec::new(),
            means: Vec::new(),
        }
    }

    /// A track of what comes after so many steps.
    pub(crate) fn after(self, before: usize) -> Self {
        Self { before, ..self }
    }

    pub(crate) fn push(&mut self, number: f64) {
        let time = |steps: f64| (self.before as f64 + steps) / self.unit as f64;
        self.each.push((time(self.each.len() as f64 + 0.5), number));
        let count = self.each.len();
        if count.is_multiple_of(self.block) {
            let last = &self.each[count - self.block..];
            let sum: f64 = last.iter().map(|&(_, number)| number).sum();
            let middle = time(count as f64 - self.block as f64 / 2.0);
            self.means.push((middle, sum / self.block as f64));
        }
    }

    /// Steps so far.
    pub(crate) fn len(&self) -> usize {
        self.each.len()
    }

    /// The mean of the last whole block.
    pub(crate) fn mean(&self) -> f64 {
        self.means.last().map_or(f64::NAN, |&(_, mean)| mean)
    }

    /// All numbers faintly, and the means on top.
    pub(crate) fn curves(self, label: &'static str) -> [Curve; 2] {
        [
            Curve::new(label, Stroke::Faint, self.each),
            Curve::new(label, Stroke::Strong, self.means),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_averaged_over_blocks() {
        let track = |unit, block| {
            let mut track = Track::new(unit, block);
            [4.0, 2.0, 3.0, 1.0, 9.0]
                .into_iter()
                .for_each(|loss| track.push(loss));
            track
        };
        assert_eq!(track(1, 2).means, [(1.0, 3.0), (3.0, 2.0)]);
        assert_eq!(track(1, 2).mean(), 2.0);
        assert_eq!(track(4, 4).means, [(0.5, 2.5)]);
        assert_eq!(track(4, 4).each[1], (0.375, 2.0));
        assert!(track(1, 6).mean().is_nan());
        let mut late = Track::new(2, 1).after(6);
        late.push(4.0);
        assert_eq!(
            (late.means, late.each),
            (vec![(3.25, 4.0)], vec![(3.25, 4.0)])
        );
    }
}
