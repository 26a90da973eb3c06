//! Random numbers for the host: enough to put examples in order.

/// What the state moves by.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Steele, Lea and Flood's generator ("Fast splittable pseudorandom number generators", 2014).
pub(crate) struct SplitMix(u64);

impl SplitMix {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// What a step of a training draws from: the same, whatever was drawn before it.
    pub(crate) fn of_step(seed: u64, step: u64) -> Self {
        let mut steps = Self(seed.wrapping_add(step.wrapping_mul(GAMMA)));
        Self(steps.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Fisher and Yates's shuffle.
    pub(crate) fn shuffle(&mut self, order: &mut [usize]) {
        for last in (1..order.len()).rev() {
            order.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_draw_numbers_of_their_own() {
        let mut whole = SplitMix::new(3);
        for step in 0..5 {
            let mut expected = SplitMix::new(whole.next());
            assert_eq!(SplitMix::of_step(3, step).next(), expected.next());
        }
    }

    #[test]
    fn a_shuffle_keeps_everything_and_follows_the_seed() {
        let shuffled = |seed| {
            let mut order: Vec<usize> = (0..100).collect();
            SplitMix::new(seed).shuffle(&mut order);
            order
        };
        let mut sorted = shuffled(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
    }
}
