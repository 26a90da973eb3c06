//! Learning rates as data.

use std::f64::consts::PI;

use backprop_core::DType;

use super::at_least_zero;
use crate::graph::Graph;
use crate::tensor::{Key, Tensor};

/// A learning rate: a number, an input, or a schedule. Evaluated in each step from the step count,
/// so that a schedule needs no new plan.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate(Kind);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Constant(f64),
    Fed(Key),
    OneCycle {
        peak: f64,
        steps: usize,
    },
    Cosine {
        peak: f64,
        warm_up: usize,
        steps: usize,
    },
    Decay {
        start: f64,
        factor: f64,
        every: usize,
    },
    Linear {
        from: f64,
        to: f64,
        steps: usize,
    },
}

impl From<f64> for Rate {
    fn from(rate: f64) -> Rate {
        Rate(Kind::Constant(rate))
    }
}

impl Rate {
    /// The same rate in every step.
    #[must_use]
    pub fn constant(rate: f64) -> Rate {
        rate.into()
    }

    /// The value of a scalar tensor, as an input that the host feeds.
    #[must_use]
    pub fn fed(key: impl Into<Key>) -> Rate {
        Rate(Kind::Fed(key.into()))
    }

    /// Half a cosine up from `peak / 25` over the first 30% of `steps`, and half a cosine down to
    /// `peak / 250,000` over the rest (Smith and Topin, 2017, arXiv:1708.07120, as PyTorch has it).
    #[must_use]
    pub fn one_cycle(peak: f64, steps: usize) -> Rate {
        Rate(Kind::OneCycle { peak, steps })
    }

    /// A line up from 0 over `warm_up` steps, then half a cosine down to 0 at `steps` (Loshchilov and
    /// Hutter, 2016, arXiv:1608.03983).
    #[must_use]
    pub fn cosine(peak: f64, warm_up: usize, steps: usize) -> Rate {
        Rate(Kind::Cosine {
            peak,
            warm_up,
            steps,
        })
    }

    /// `start`, multiplied by `factor` after `every` steps, again and again.
    #[must_use]
    pub fn decay(start: f64, factor: f64, every: usize) -> Rate {
        Rate(Kind::Decay {
            start,
            factor,
            every,
        })
    }

    /// `start`, multiplied by `factor` after every step.
    #[must_use]
    pub fn exponential(start: f64, factor: f64) -> Rate {
        Rate::decay(start, factor, 1)
    }

    /// A line from `from` in the first step to `to` after `steps` more; `to` from then on.
    #[must_use]
    pub fn linear(from: f64, to: f64, steps: usize) -> Rate {
        Rate(Kind::Linear { from, to, steps })
    }

    /// An error for a rate that would climb.
    pub(super) fn check(self) -> Result<(), String> {
        let rate = match self.0 {
            Kind::Constant(rate) => rate,
            Kind::OneCycle { peak, .. } | Kind::Cosine { peak, .. } => peak,
            Kind::Decay { start, factor, .. } => {
                at_least_zero([("the factor of the rate", factor)])?;
                start
            }
            Kind::Linear { from, to, .. } => from.min(to),
            Kind::Fed(_) => return Ok(()),
        };
        at_least_zero([("the rate", rate)])
    }

    /// Whether the rate depends on the number of the step.
    pub(super) fn is_scheduled(self) -> bool {
        !matches!(self.0, Kind::Constant(_) | Kind::Fed(_))
    }

    /// The rate in the step with number `step` (counted from 1), both of them one `f64`.
    pub(super) fn at<'g>(self, graph: &'g Graph, step: Tensor<'g>) -> Tensor<'g> {
        let t = step - 1.0;
        match self.0 {
            Kind::Constant(rate) => graph.full([], rate, DType::F64),
            Kind::Fed(key) => match graph.lookup(key) {
                // Refuses more than one number.
                Some(rate) => rate.cast(DType::F64).reshape([]),
                None => graph.foreign("learning rate"),
            },
            Kind::OneCycle { peak, steps } => one_cycle(t, peak, steps),
            Kind::Cosine {
                peak,
                warm_up,
                steps,
            } => cosine(t, peak, warm_up, steps),
            Kind::Decay {
                start,
                factor,
                every,
            } => {
                let times = (t / every.max(1) as f64).floor();
                t.number(factor).pow(times) * start
            }
            Kind::Linear { from, to, steps } => {
                let share = (t / steps.max(1) as f64).minimum(1.0);
                share * (to - from) + from
            }
        }
    }
}

/// From `start` to `end` along half a cosine, as `share` goes from 0 to 1.
fn anneal<'g>(start: f64, end: f64, share: Tensor<'g>) -> Tensor<'g> {
    ((share * PI).cos() + 1.0) * ((start - end) / 2.0) + end
}

fn one_cycle(t: Tensor<'_>, peak: f64, steps: usize) -> Tensor<'_> {
    let steps = steps.max(2) as f64;
    let top = (0.3 * steps - 1.0).max(f64::MIN_POSITIVE);
    let up = anneal(peak / 25.0, peak, t / top);
    let down = anneal(peak, peak / 25.0 / 1e4, (t - top) / (steps - 1.0 - top));
    let rising = t.le(top).select(up, down);
    // After the last step the rate stays where it is.
    t.le(steps - 1.0)
        .select(rising, t.number(peak / 25.0 / 1e4))
}

fn cosine(t: Tensor<'_>, peak: f64, warm_up: usize, steps: usize) -> Tensor<'_> {
    let (warm, steps) = (warm_up as f64, steps.max(warm_up + 1) as f64);
    let up = (t + 1.0) * (peak / warm.max(1.0));
    let share = ((t - warm) / (steps - warm)).minimum(1.0);
    t.lt(warm).select(up, anneal(peak, 0.0, share))
}
