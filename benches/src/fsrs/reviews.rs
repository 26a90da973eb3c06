//! Review logs drawn from the model itself.

use backprop::core::random::{philox_block, uniform_f64};

use super::{INITIAL, by_hand::Memory};

/// How many sequences there are, and how many reviews the longest can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sequences {
    /// Sequences.
    pub count: usize,
    /// Reviews of a sequence, at most; at least 2.
    pub reviews: usize,
}

/// Reviews of several cards, as a graph takes them.
#[derive(Clone, PartialEq, Debug)]
pub struct Reviews {
    /// The size of what follows.
    pub size: Sequences,
    /// The grades of first reviews, 1 to 4.
    pub first: Vec<f32>,
    /// Days since the review before of second reviews, of third ones and so on; 1 after the end of a
    /// sequence.
    pub intervals: Vec<f32>,
    /// The grades of these reviews; 3 after the end of a sequence.
    pub grades: Vec<f32>,
    /// Reviews of each sequence.
    pub lengths: Vec<i64>,
}

/// The longest interval, in days.
const LONGEST: f32 = 365.0;

impl Reviews {
    /// Logs of learners who follow the model with [`INITIAL`], and whose scheduler aims at a recall of
    /// 0.9 but is off by up to a factor of two either way. The same for the same seed.
    #[must_use]
    pub fn synthetic(size: Sequences, seed: i64) -> Reviews {
        let Sequences { count, reviews } = size;
        let mut log = Reviews {
            size,
            first: vec![3.0; count],
            intervals: vec![1.0; count * (reviews - 1)],
            grades: vec![3.0; count * (reviews - 1)],
            lengths: vec![0; count],
        };
        let p = INITIAL.map(|value| value as f32);
        for sequence in 0..count {
            let unit = |review: usize, what: i64| {
                let words = philox_block(seed, what, (sequence * reviews + review) as u64);
                uniform_f64(words[0], words[1]) as f32
            };
            let first = (unit(0, 2) * 4.0).floor() + 1.0;
            log.first[sequence] = first;
            let mut memory = Memory::first(&p, first);
            let length = 2 + (unit(0, 0) * (reviews - 1) as f32) as usize;
            log.lengths[sequence] = length as i64;
            for review in 1..length {
                let error = (unit(review, 3) * 2.0 - 1.0).exp2();
                let days = (memory.stability * error).round().clamp(1.0, LONGEST);
                let ease = unit(review, 1);
                let grade = match unit(review, 2) < memory.retrievability(&p, days) {
                    true => 2.0 + f32::from(ease > 0.15) + f32::from(ease > 0.9),
                    false => 1.0,
                };
                memory = memory.reviewed(&p, days, grade);
                let at = (review - 1) * count + sequence;
                (log.intervals[at], log.grades[at]) = (days, grade);
            }
        }
        log
    }

    /// Reviews that count towards the loss: all but the first of each sequence.
    #[must_use]
    pub fn scored(&self) -> usize {
        self.lengths.iter().map(|&length| length as usize - 1).sum()
    }
}
