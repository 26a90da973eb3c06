//! The same loss and gradient without the engine: what an expert would write for this model alone.
//!
//! Sequence by sequence, so that a card's whole history stays in the innermost cache: forwards, keeping
//! what the way back needs, then backwards. Each review takes its own branch, sequences end where they
//! end, and logarithms and exponentials are computed once.

use super::{PARAMETERS, Reviews};

/// The parameters, or the gradient by them.
pub type Parameters = [f32; PARAMETERS];

/// One review of a card.
#[derive(Clone, Copy, Debug)]
struct Review {
    /// Days since the review before.
    interval: f32,
    /// 1 to 4.
    grade: f32,
}

/// Computes losses and gradients on a log of reviews.
#[derive(Clone, Debug)]
pub struct ByHand {
    /// All reviews, those of a sequence one after the other.
    reviews: Vec<Review>,
    /// Where each sequence ends among them.
    ends: Vec<usize>,
    /// The weight of a review in the mean.
    weight: f32,
    /// Room for the steps of the longest sequence.
    steps: Vec<Step>,
}

/// What is known of a card between two reviews.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) stability: f32,
    pub(super) difficulty: f32,
}

/// A review as the way back needs it.
#[derive(Clone, Copy, Debug)]
struct Step {
    review: Review,
    before: Memory,
    after: Memory,
    /// `log(1 + p19 t / s)` and its argument without the 1.
    log: f32,
    ratio: f32,
    /// `1 - r`.
    forgotten: f32,
    /// The difficulty before it was limited.
    difficulty: f32,
    outcome: Outcome,
}

/// What only reviews with this outcome compute.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Recalled {
        log_stability: f32,
        /// `exp(p8 - p9 log s) (11 - d') g`.
        room: f32,
        /// `exp((1 - r) p10)`.
        rise: f32,
    },
    Forgotten {
        /// `log(s + 1)` and its power.
        log_stability: f32,
        held: f32,
        /// `exp((1 - r) p14 - p12 log d')` and the logarithm.
        log_difficulty: f32,
        left: f32,
    },
}

impl ByHand {
    /// Arranges a log sequence by sequence.
    #[must_use]
    pub fn new(log: &Reviews) -> ByHand {
        let (mut reviews, mut ends) = (Vec::new(), Vec::new());
        for (sequence, &length) in log.lengths.iter().enumerate() {
            reviews.push(Review {
                interval: 0.0,
                grade: log.first[sequence],
            });
            let places = (0..length as usize - 1).map(|later| later * log.size.count + sequence);
            reviews.extend(places.map(|at| Review {
                interval: log.intervals[at],
                grade: log.grades[at],
            }));
            ends.push(reviews.len());
        }
        ByHand {
            reviews,
            ends,
            weight: 1.0 / log.scored() as f32,
            steps: Vec::with_capacity(log.size.reviews),
        }
    }

    /// The mean cross-entropy and its gradient. Allocates nothing.
    pub fn gradient(&mut self, p: &Parameters) -> (f32, Parameters) {
        let (mut total, mut gradient) = (0.0, [0.0; PARAMETERS]);
        let mut start = 0;
        for &end in &self.ends {
            let sequence = &self.reviews[start..end];
            start = end;
            let [first, later @ ..] = sequence else {
                continue;
            };
            let mut memory = Memory::first(p, first.grade);
            let mut loss = 0.0;
            self.steps.clear();
            for &review in later {
                let step = memory.step(p, review);
                loss += step.loss(p);
                memory = step.after;
                self.steps.push(step);
            }
            total += loss;
            let mut of_sequence = [0.0; PARAMETERS];
            let mut cotangent = Memory {
                stability: 0.0,
                difficulty: 0.0,
            };
            for step in self.steps.iter().rev() {
                cotangent = step.back(p, cotangent, &mut of_sequence);
            }
            Memory::first_back(p, first.grade, cotangent, &mut of_sequence);
            for (sum, part) in gradient.iter_mut().zip(of_sequence) {
                *sum += part;
            }
        }
        (total * self.weight, gradient.map(|sum| sum * self.weight))
    }
}

impl Memory {
    /// After the first review.
    pub(super) fn first(p: &Parameters, grade: f32) -> Memory {
        Memory {
            stability: p[grade as usize - 1],
            difficulty: (p[4] + p[5] * (3.0 - grade)).clamp(1.0, 10.0),
        }
    }

    fn first_back(p: &Parameters, grade: f32, cotangent: Memory, gradient: &mut Parameters) {
        gradient[grade as usize - 1] += cotangent.stability;
        let difficulty = p[4] + p[5] * (3.0 - grade);
        if (1.0..=10.0).contains(&difficulty) {
            gradient[4] += cotangent.difficulty;
            gradient[5] += cotangent.difficulty * (3.0 - grade);
        }
    }

    /// The probability of recall after some days.
    pub(super) fn retrievability(self, p: &Parameters, interval: f32) -> f32 {
        (1.0 + p[19] * interval / self.stability).powf(-p[20])
    }

    /// What is known after another review.
    pub(super) fn reviewed(self, p: &Parameters, interval: f32, grade: f32) -> Memory {
        self.step(p, Review { interval, grade }).after
    }

    #[inline]
    fn step(self, p: &Parameters, review: Review) -> Step {
        let Memory {
            stability: s,
            difficulty: d,
        } = self;
        let ratio = p[19] * review.interval / s;
        let log = (1.0 + ratio).ln();
        let forgotten = 1.0 - (-p[20] * log).exp();
        let change = p[5] * (3.0 - review.grade) * (1.0 / 9.0);
        let unlimited = d + change * (10.0 - d);
        let difficulty = unlimited.clamp(1.0, 10.0);
        let (stability, outcome) = if review.grade > 1.0 {
            let log_stability = s.ln();
            let room = (p[8] - p[9] * log_stability).exp() * (11.0 - difficulty);
            let room = room * bonus(p, review.grade);
            let rise = (forgotten * p[10]).exp();
            let outcome = Outcome::Recalled {
                log_stability,
                room,
                rise,
            };
            (s * (1.0 + room * (rise - 1.0)), outcome)
        } else {
            let (log_stability, log_difficulty) = ((s + 1.0).ln(), difficulty.ln());
            let held = (p[13] * log_stability).exp();
            let left = (forgotten * p[14] - p[12] * log_difficulty).exp();
            let outcome = Outcome::Forgotten {
                log_stability,
                held,
                log_difficulty,
                left,
            };
            (p[11] * (held - 1.0) * left, outcome)
        };
        Step {
            review,
            before: self,
            after: Memory {
                stability,
                difficulty,
            },
            log,
            ratio,
            forgotten,
            difficulty: unlimited,
            outcome,
        }
    }
}

/// What a hard or an easy review gains.
#[inline]
fn bonus(p: &Parameters, grade: f32) -> f32 {
    if grade == 2.0 {
        p[15]
    } else if grade == 4.0 {
        p[16]
    } else {
        1.0
    }
}

impl Step {
    #[inline]
    fn loss(&self, p: &Parameters) -> f32 {
        match self.outcome {
            Outcome::Recalled { .. } => p[20] * self.log,
            Outcome::Forgotten { .. } => -self.forgotten.ln(),
        }
    }

    /// Adds to the gradient; gives the cotangent of what was known before from that of what was
    /// known after.
    #[inline]
    fn back(&self, p: &Parameters, after: Memory, gradient: &mut Parameters) -> Memory {
        let Memory {
            stability: s,
            difficulty: d,
        } = self.before;
        let mut by = match self.outcome {
            Outcome::Recalled {
                log_stability,
                room,
                rise,
            } => self.recalled_back(p, after, (log_stability, room, rise), gradient),
            Outcome::Forgotten {
                log_stability,
                held,
                log_difficulty,
                left,
            } => {
                let known = (log_stability, held, log_difficulty, left);
                self.forgotten_back(p, after, known, gradient)
            }
        };
        let by_power = by.forgotten * (1.0 - self.forgotten);
        gradient[20] += by_power * self.log;
        by.log += by_power * p[20];
        let by_ratio = by.log / (1.0 + self.ratio);
        gradient[19] += by_ratio * self.review.interval / s;
        let inside = (1.0..=10.0).contains(&self.difficulty);
        let by_difficulty = if inside { by.difficulty } else { 0.0 };
        let harder = (3.0 - self.review.grade) * (1.0 / 9.0);
        gradient[5] += by_difficulty * harder * (10.0 - d);
        Memory {
            stability: by.stability - by_ratio * self.ratio / s,
            difficulty: by_difficulty * (1.0 - p[5] * harder),
        }
    }

    #[inline]
    fn recalled_back(
        &self,
        p: &Parameters,
        after: Memory,
        (log_stability, room, rise): (f32, f32, f32),
        gradient: &mut Parameters,
    ) -> Cotangents {
        let (s, growth) = (self.before.stability, room * (rise - 1.0));
        let by_growth = after.stability * s;
        let by_room = by_growth * growth;
        gradient[8] += by_room;
        gradient[9] -= by_room * log_stability;
        match self.review.grade {
            2.0 => gradient[15] += by_room / p[15],
            4.0 => gradient[16] += by_room / p[16],
            _ => {}
        }
        let by_rise = by_growth * room * rise;
        gradient[10] += by_rise * self.forgotten;
        gradient[20] += self.log;
        Cotangents {
            stability: after.stability * (1.0 + growth) - by_room * p[9] / s,
            difficulty: after.difficulty - by_room / (11.0 - self.after.difficulty),
            forgotten: by_rise * p[10],
            log: p[20],
        }
    }

    #[inline]
    fn forgotten_back(
        &self,
        p: &Parameters,
        after: Memory,
        (log_stability, held, log_difficulty, left): (f32, f32, f32, f32),
        gradient: &mut Parameters,
    ) -> Cotangents {
        let g = after.stability;
        gradient[11] += g * (held - 1.0) * left;
        let by_held = g * p[11] * left * held;
        gradient[13] += by_held * log_stability;
        let by_left = g * self.after.stability;
        gradient[14] += by_left * self.forgotten;
        gradient[12] -= by_left * log_difficulty;
        Cotangents {
            stability: by_held * p[13] / (self.before.stability + 1.0),
            difficulty: after.difficulty - by_left * p[12] / self.after.difficulty,
            forgotten: by_left * p[14] - 1.0 / self.forgotten,
            log: 0.0,
        }
    }
}

/// Cotangents within a step: what the outcome leaves to what all reviews share.
#[derive(Clone, Copy)]
struct Cotangents {
    stability: f32,
    /// Of the limited difficulty.
    difficulty: f32,
    forgotten: f32,
    log: f32,
}
