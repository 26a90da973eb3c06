//! Learning rates as data.

use backprop_core::DType;

use super::at_least_zero;
use super::schedule::{Milestones, OneCycle, WarmRestarts, anneal};
use crate::graph::Graph;
use crate::tensor::{Key, Tensor};

/// A learning rate: a number, an input, or a schedule, perhaps after a warm-up. Evaluated in each step
/// from the step count, so that a schedule needs no new plan.
///
/// [`OneCycle`] and [`WarmRestarts`] are schedules with options, and become rates by `into()`.
///
/// ```
/// use backprop_graph::optim::{Anneal, OneCycle, Rate};
///
/// let dropping = Rate::multi_step(0.1, 0.1, &[3000, 6000]).after_warm_up(500);
/// let cycle: Rate = OneCycle { anneal: Anneal::Linear, ..OneCycle::new(0.3, 9000) }.into();
/// # let _ = (dropping, cycle);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    kind: Kind,
    warm_up: usize,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Constant(f64),
    Fed(Key),
    OneCycle(OneCycle),
    /// Half a cosine down to 0.
    Cosine {
        peak: f64,
        steps: usize,
    },
    Decay {
        start: f64,
        factor: f64,
        every: usize,
    },
    MultiStep {
        start: f64,
        factor: f64,
        milestones: Milestones,
    },
    Linear {
        from: f64,
        to: f64,
        steps: usize,
    },
    Polynomial {
        start: f64,
        power: f64,
        steps: usize,
    },
    WarmRestarts(WarmRestarts),
}

impl From<f64> for Rate {
    fn from(rate: f64) -> Rate {
        Kind::Constant(rate).into()
    }
}

impl From<OneCycle> for Rate {
    fn from(cycle: OneCycle) -> Rate {
        Kind::OneCycle(cycle).into()
    }
}

impl From<WarmRestarts> for Rate {
    fn from(restarts: WarmRestarts) -> Rate {
        Kind::WarmRestarts(restarts).into()
    }
}

impl From<Kind> for Rate {
    fn from(kind: Kind) -> Rate {
        Rate { kind, warm_up: 0 }
    }
}

impl Rate {
    /// How many milestones a [`multi_step`](Rate::multi_step) rate has at most.
    pub const MILESTONES: usize = Milestones::MOST;

    /// The same rate in every step.
    #[must_use]
    pub fn constant(rate: f64) -> Rate {
        rate.into()
    }

    /// The value of a scalar tensor: an input that the host feeds, or a schedule of one's own.
    #[must_use]
    pub fn fed(key: impl Into<Key>) -> Rate {
        Kind::Fed(key.into()).into()
    }

    /// Half a cosine up from `peak / 25` over the first 30% of `steps`, and half a cosine down to
    /// `peak / 250,000` over the rest: [`OneCycle`] with its defaults.
    #[must_use]
    pub fn one_cycle(peak: f64, steps: usize) -> Rate {
        OneCycle::new(peak, steps).into()
    }

    /// A line up from 0 over `warm_up` steps, then half a cosine down to 0 at `steps` (Loshchilov and
    /// Hutter, 2016, arXiv:1608.03983).
    #[must_use]
    pub fn cosine(peak: f64, warm_up: usize, steps: usize) -> Rate {
        let steps = steps.saturating_sub(warm_up).max(1);
        Rate::from(Kind::Cosine { peak, steps }).after_warm_up(warm_up)
    }

    /// `start`, multiplied by `factor` after `every` steps, again and again.
    #[must_use]
    pub fn decay(start: f64, factor: f64, every: usize) -> Rate {
        let every = every.max(1);
        let kind = Kind::Decay {
            start,
            factor,
            every,
        };
        kind.into()
    }

    /// `start`, multiplied by `factor` after every step.
    #[must_use]
    pub fn exponential(start: f64, factor: f64) -> Rate {
        Rate::decay(start, factor, 1)
    }

    /// `start`, multiplied by `factor` after as many steps as each of `milestones` says. They increase,
    /// and are at most [`MILESTONES`](Rate::MILESTONES); otherwise an optimizer says so.
    #[must_use]
    pub fn multi_step(start: f64, factor: f64, milestones: &[usize]) -> Rate {
        let milestones = Milestones::new(milestones);
        let kind = Kind::MultiStep {
            start,
            factor,
            milestones,
        };
        kind.into()
    }

    /// A line from `from` in the first step to `to` after `steps` more; `to` from then on.
    #[must_use]
    pub fn linear(from: f64, to: f64, steps: usize) -> Rate {
        Kind::Linear { from, to, steps }.into()
    }

    /// `start (1 - t / steps)^power` after `t` steps, and 0 from `steps` on.
    #[must_use]
    pub fn polynomial(start: f64, power: f64, steps: usize) -> Rate {
        let kind = Kind::Polynomial {
            start,
            power,
            steps,
        };
        kind.into()
    }

    /// This rate after a warm-up of `steps` steps: a line from 0 (which no step has) to the rate's first
    /// value, which the last of them has, and then the rate from its beginning. Takes the place of a
    /// warm-up that it has.
    #[must_use]
    pub fn after_warm_up(self, steps: usize) -> Rate {
        let warm_up = steps;
        Rate { warm_up, ..self }
    }

    /// An error for a rate that would climb, and for options without a meaning.
    pub(super) fn check(self) -> Result<(), String> {
        let rate = match self.kind {
            Kind::Constant(rate) => rate,
            Kind::Cosine { peak, .. } => peak,
            Kind::Decay { start, factor, .. } => {
                at_least_zero([("the factor of the rate", factor)])?;
                start
            }
            Kind::MultiStep {
                start,
                factor,
                milestones,
            } => {
                milestones.check()?;
                at_least_zero([("the factor of the rate", factor)])?;
                start
            }
            Kind::Polynomial { start, power, .. } => {
                at_least_zero([("the power of the rate", power)])?;
                start
            }
            Kind::Linear { from, to, .. } => from.min(to),
            Kind::OneCycle(cycle) => return cycle.check(),
            Kind::WarmRestarts(restarts) => return restarts.check(),
            Kind::Fed(_) => return Ok(()),
        };
        at_least_zero([("the rate", rate)])
    }

    /// Whether the rate depends on the number of the step.
    pub(super) fn is_scheduled(self) -> bool {
        self.warm_up > 0 || !matches!(self.kind, Kind::Constant(_) | Kind::Fed(_))
    }

    /// The rate in the step with number `step` (counted from 1), both of them one `f64`.
    pub(super) fn at<'g>(self, graph: &'g Graph, step: Tensor<'g>) -> Tensor<'g> {
        if self.warm_up == 0 {
            return self.kind.at(graph, step - 1.0);
        }
        let warm = self.warm_up as f64;
        let rising = (step / warm).minimum(1.0);
        let rate = self.kind.at(graph, (step - (warm + 1.0)).maximum(0.0));
        rate * rising
    }
}

impl Kind {
    /// The rate after `t` steps.
    fn at<'g>(self, graph: &'g Graph, t: Tensor<'g>) -> Tensor<'g> {
        let share = |steps: usize| (t / steps.max(1) as f64).minimum(1.0);
        match self {
            Kind::Constant(rate) => graph.full([], rate, DType::F64),
            Kind::Fed(key) => match graph.lookup(key) {
                // Refuses more than one number.
                Some(rate) => rate.cast(DType::F64).reshape([]),
                None => graph.foreign("learning rate"),
            },
            Kind::OneCycle(cycle) => cycle.at(t),
            Kind::Cosine { peak, steps } => anneal((peak, 0.0), share(steps)),
            Kind::Decay {
                start,
                factor,
                every,
            } => {
                let times = (t / every as f64).floor();
                t.number(factor).pow(times) * start
            }
            Kind::MultiStep {
                start,
                factor,
                milestones,
            } => t.number(factor).pow(milestones.passed(t)) * start,
            Kind::Linear { from, to, steps } => share(steps) * (to - from) + from,
            Kind::Polynomial {
                start,
                power,
                steps,
            } => (-share(steps) + 1.0).pow(power) * start,
            Kind::WarmRestarts(restarts) => restarts.at(t),
        }
    }
}
