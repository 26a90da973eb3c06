//! Schedules.

use backprop::optim::{Anneal, OneCycle, Phases, Rate, Sgd, WarmRestarts, sgd};
use backprop::{Graph, Param, Tensor, Updates};

use super::Recipe;

/// Plain descent at a rate.
#[track_caller]
pub(super) fn at<'g>(
    g: &'g Graph,
    p: [Param; 2],
    d: [Tensor<'g>; 2],
    lr: impl Into<Rate>,
) -> Updates {
    let options = Sgd {
        lr: lr.into(),
        ..Sgd::default()
    };
    sgd(g, &p, &d, options)
}

/// As long as a case, and a step more.
const CYCLE: usize = 15;

/// Two of the options that differ from their defaults.
fn wide(cycle: OneCycle) -> OneCycle {
    OneCycle {
        initial: 4.0,
        last: 10.0,
        ..cycle
    }
}

pub(super) const RATES: &[(&str, Recipe)] = &[
    ("rate_step", |g, p, d| at(g, p, d, Rate::decay(0.2, 0.3, 4))),
    ("rate_exponential", |g, p, d| {
        at(g, p, d, Rate::exponential(0.2, 0.9))
    }),
    ("rate_linear", |g, p, d| {
        at(g, p, d, Rate::linear(0.05, 0.2, 5))
    }),
    ("rate_cosine", |g, p, d| {
        at(g, p, d, Rate::cosine(0.2, 0, 14))
    }),
    ("rate_warm_cosine", |g, p, d| {
        at(g, p, d, Rate::cosine(0.2, 4, 14))
    }),
    ("rate_one_cycle", |g, p, d| {
        at(g, p, d, Rate::one_cycle(0.3, CYCLE))
    }),
    ("rate_warm_constant", |g, p, d| {
        at(g, p, d, Rate::constant(0.2).after_warm_up(5))
    }),
    ("rate_multi_step", |g, p, d| {
        at(g, p, d, Rate::multi_step(0.2, 0.4, &[2, 5, 6, 11]))
    }),
    ("rate_polynomial", |g, p, d| {
        at(g, p, d, Rate::polynomial(0.2, 2.5, 10))
    }),
    ("rate_warm_multi_step", |g, p, d| {
        at(
            g,
            p,
            d,
            Rate::multi_step(0.2, 0.3, &[2, 7]).after_warm_up(3),
        )
    }),
    ("rate_restarts", |g, p, d| {
        let restarts = WarmRestarts::new(0.2, 4);
        at(
            g,
            p,
            d,
            WarmRestarts {
                floor: 0.01,
                ..restarts
            },
        )
    }),
    ("rate_restarts_stretched", |g, p, d| {
        let restarts = WarmRestarts::new(0.2, 2);
        at(
            g,
            p,
            d,
            WarmRestarts {
                stretch: 2,
                ..restarts
            },
        )
    }),
    ("rate_restarts_stretched_by_3", |g, p, d| {
        let restarts = WarmRestarts::new(0.2, 1);
        at(
            g,
            p,
            d,
            WarmRestarts {
                stretch: 3,
                ..restarts
            },
        )
    }),
    ("rate_one_cycle_linear", |g, p, d| {
        let cycle = wide(OneCycle::new(0.3, CYCLE));
        at(
            g,
            p,
            d,
            OneCycle {
                rise: 0.5,
                anneal: Anneal::Linear,
                ..cycle
            },
        )
    }),
    ("rate_one_cycle_three", |g, p, d| {
        let cycle = wide(OneCycle::new(0.3, CYCLE));
        at(
            g,
            p,
            d,
            OneCycle {
                rise: 0.4,
                phases: Phases::Three,
                ..cycle
            },
        )
    }),
    ("rate_one_cycle_three_linear", |g, p, d| {
        let cycle = OneCycle::new(0.3, CYCLE);
        at(
            g,
            p,
            d,
            OneCycle {
                phases: Phases::Three,
                anneal: Anneal::Linear,
                ..cycle
            },
        )
    }),
    ("rate_one_cycle_falling", |g, p, d| {
        let cycle = OneCycle::new(0.3, CYCLE);
        at(g, p, d, OneCycle { rise: 0.0, ..cycle })
    }),
];
