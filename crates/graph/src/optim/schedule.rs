//! Schedules with options: what a rate is made of.

use std::f64::consts::PI;

use super::at_least_zero;
use crate::tensor::Tensor;

/// The one-cycle policy (Smith and Topin, 2017, arXiv:1708.07120): up from `peak / initial` to `peak`
/// over a share `rise` of the steps, and down to `peak / initial / last` over the rest. PyTorch's
/// meanings and defaults; the momentum does not cycle. From the last step on the rate stays.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct OneCycle {
    /// The highest rate.
    pub peak: f64,
    /// The number of all steps.
    pub steps: usize,
    /// The share of the steps in which the rate rises, from 0 to 1 (to 1/2 with three phases).
    pub rise: f64,
    /// By what the peak is divided in the first step.
    pub initial: f64,
    /// By what the first rate is divided in the last step.
    pub last: f64,
    /// How the rate goes from one value to the next.
    pub anneal: Anneal,
    /// What it goes through.
    pub phases: Phases,
}

/// How a rate goes from one value to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Anneal {
    /// Along half a cosine.
    #[default]
    Cosine,
    /// Along a line.
    Linear,
}

/// The phases of [`OneCycle`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phases {
    /// Up, and down to the last rate.
    #[default]
    Two,
    /// Up, down to the first rate in as many steps, and down to the last.
    Three,
}

impl OneCycle {
    /// A cosine up from a 25th of `peak` over 30% of `steps`, and one down to a 250,000th.
    #[must_use]
    pub fn new(peak: f64, steps: usize) -> OneCycle {
        OneCycle {
            peak,
            steps,
            rise: 0.3,
            initial: 25.0,
            last: 1e4,
            anneal: Anneal::Cosine,
            phases: Phases::Two,
        }
    }

    pub(super) fn check(self) -> Result<(), String> {
        at_least_zero([("the rate", self.peak)])?;
        let (rise, most) = match self.phases {
            Phases::Two => (self.rise, 1.0),
            Phases::Three => (self.rise, 0.5),
        };
        if !(0.0..=most).contains(&rise) {
            return Err(format!("rise is {rise}; it must be from 0 to {most}"));
        }
        for (name, divisor) in [("initial", self.initial), ("last", self.last)] {
            if !(divisor > 0.0 && divisor.is_finite()) {
                return Err(format!("{name} is {divisor}; it must be more than 0"));
            }
        }
        has_steps(self.steps)
    }

    /// The rate after `t` steps.
    pub(super) fn at(self, t: Tensor<'_>) -> Tensor<'_> {
        let (peak, first) = (self.peak, self.peak / self.initial);
        let (top, end) = (self.rise * self.steps as f64 - 1.0, self.steps as f64 - 1.0);
        let t = t.minimum(end);
        let along = |values, (begin, end): (f64, f64)| {
            // A phase of no length ends where it begins.
            let length = (end - begin).max(f64::MIN_POSITIVE);
            let share = ((t - begin) / length).maximum(0.0).minimum(1.0);
            match self.anneal {
                Anneal::Cosine => anneal(values, share),
                Anneal::Linear => share * (values.1 - values.0) + values.0,
            }
        };
        let (rising, last) = (along((first, peak), (0.0, top)), first / self.last);
        let falling = match self.phases {
            Phases::Two => along((peak, last), (top, end)),
            Phases::Three => {
                let back = 2.0 * top;
                let falling = along((peak, first), (top, back));
                t.le(back)
                    .select(falling, along((first, last), (back, end)))
            }
        };
        t.le(top).select(rising, falling)
    }
}

/// Half cosines down from `peak` to `floor`, one after the other: the first over `first` steps, each
/// of the others over `stretch` times as many as the one before (Loshchilov and Hutter, 2016,
/// arXiv:1608.03983, SGDR).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct WarmRestarts {
    /// The highest rate, after each restart.
    pub peak: f64,
    /// The lowest rate, which is not quite reached.
    pub floor: f64,
    /// The steps to the first restart.
    pub first: usize,
    /// How much longer each period is than the one before: 1 or more.
    pub stretch: usize,
}

impl WarmRestarts {
    /// Periods of one length, down to 0.
    #[must_use]
    pub fn new(peak: f64, first: usize) -> WarmRestarts {
        WarmRestarts {
            peak,
            floor: 0.0,
            first,
            stretch: 1,
        }
    }

    pub(super) fn check(self) -> Result<(), String> {
        at_least_zero([("the rate", self.peak), ("floor", self.floor)])?;
        if self.stretch == 0 {
            return Err("stretch is 0; it must be at least 1".to_owned());
        }
        has_steps(self.first)
    }

    /// The rate after `t` steps.
    pub(super) fn at(self, t: Tensor<'_>) -> Tensor<'_> {
        let (first, stretch) = (self.first as f64, self.stretch as f64);
        let share = match self.stretch {
            1 => {
                let begun = (t / first).floor();
                t / first - begun
            }
            // `n` periods take `first (stretch^n - 1) / (stretch - 1)` steps. Half a step more keeps
            // the logarithm of a restart from being rounded to the period before.
            _ => {
                let grown = (t + 0.5) * ((stretch - 1.0) / first) + 1.0;
                let begun = (grown.log() * libm::log(stretch).recip()).floor();
                let length = t.number(stretch).pow(begun).round();
                let begin = (length - 1.0) * (first / (stretch - 1.0));
                (t - begin) / (length * first)
            }
        };
        anneal((self.peak, self.floor), share)
    }
}

/// Numbers of steps after which something changes, in order.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Milestones {
    at: [usize; Milestones::MOST],
    count: usize,
}

impl Milestones {
    pub(super) const MOST: usize = 8;

    /// Keeps the first of too many.
    pub(super) fn new(all: &[usize]) -> Milestones {
        let mut at = [usize::MAX; Milestones::MOST];
        for (kept, milestone) in at.iter_mut().zip(all) {
            *kept = *milestone;
        }
        let count = all.len();
        Milestones { at, count }
    }

    fn all(&self) -> &[usize] {
        &self.at[..self.count.min(Milestones::MOST)]
    }

    pub(super) fn check(self) -> Result<(), String> {
        if self.count > Milestones::MOST {
            let (count, most) = (self.count, Milestones::MOST);
            return Err(format!("{count} milestones; there are {most} at most"));
        }
        match self.all().windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(format!(
                "milestone {} comes after {}; they must increase",
                pair[1], pair[0]
            )),
            None => Ok(()),
        }
    }

    /// How many are passed after `t` steps.
    pub(super) fn passed<'g>(&self, t: Tensor<'g>) -> Tensor<'g> {
        let passed = |&at: &usize| t.ge(at as f64).cast(t.dtype());
        let each = self.all().iter().map(passed);
        each.reduce(|a, b| a + b).unwrap_or_else(|| t.number(0.0))
    }
}

/// From the first value to the second along half a cosine, as `share` goes from 0 to 1.
pub(super) fn anneal((from, to): (f64, f64), share: Tensor<'_>) -> Tensor<'_> {
    ((share * PI).cos() + 1.0) * ((from - to) / 2.0) + to
}

fn has_steps(steps: usize) -> Result<(), String> {
    match steps {
        0 => Err("a rate over 0 steps".to_owned()),
        _ => Ok(()),
    }
}
