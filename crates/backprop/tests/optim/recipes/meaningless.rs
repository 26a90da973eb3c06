//! Options without a meaning.

use backprop::optim::{
    Adadelta, Adagrad, Adam, AdamW, DynamicScale, Lamb, Lion, LossScale, MicroBatches, Muon, NAdam,
    OneCycle, Phases, Rate, RmsProp, Sgd, WarmRestarts, accumulate, adadelta, adagrad, adam, adamw,
    clip_by_norm, clip_by_value, ema, lamb, lion, muon, nadam, rmsprop, sgd,
};
use backprop::{Graph, Param, Tensor, Updates};

use super::{Recipe, rates::at};

/// Options without a meaning, and what the error says of them.
pub(crate) const MEANINGLESS: &[(&str, Recipe)] = &[
    ("the rate is -0.1", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                lr: (-0.1).into(),
                ..Sgd::default()
            },
        )
    }),
    ("momentum is 1", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                momentum: 1.0,
                ..Sgd::default()
            },
        )
    }),
    ("weight_decay is -1", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                weight_decay: -1.0,
                ..Sgd::default()
            },
        )
    }),
    ("the rate is NaN", |g, p, d| {
        adam(
            g,
            &p,
            &d,
            Adam {
                lr: f64::NAN.into(),
                ..Adam::default()
            },
        )
    }),
    ("the first of betas is -0.5", |g, p, d| {
        adam(
            g,
            &p,
            &d,
            Adam {
                betas: (-0.5, 0.9),
                ..Adam::default()
            },
        )
    }),
    ("the second of betas is 1", |g, p, d| {
        adamw(
            g,
            &p,
            &d,
            AdamW {
                betas: (0.9, 1.0),
                ..AdamW::default()
            },
        )
    }),
    ("eps is -1", |g, p, d| {
        lamb(
            g,
            &p,
            &d,
            Lamb {
                eps: -1.0,
                ..Lamb::default()
            },
        )
    }),
    ("alpha is 2", |g, p, d| {
        rmsprop(
            g,
            &p,
            &d,
            RmsProp {
                alpha: 2.0,
                ..RmsProp::default()
            },
        )
    }),
    ("initial is -1", |g, p, d| {
        adagrad(
            g,
            &p,
            &d,
            Adagrad {
                initial: -1.0,
                ..Adagrad::default()
            },
        )
    }),
    ("rho is 1", |g, p, d| {
        adadelta(
            g,
            &p,
            &d,
            Adadelta {
                rho: 1.0,
                ..Adadelta::default()
            },
        )
    }),
    ("the first of betas is 1", |g, p, d| {
        lion(
            g,
            &p,
            &d,
            Lion {
                betas: (1.0, 0.9),
                ..Lion::default()
            },
        )
    }),
    ("momentum_decay is -1", |g, p, d| {
        nadam(
            g,
            &p,
            &d,
            NAdam {
                momentum_decay: -1.0,
                ..NAdam::default()
            },
        )
    }),
    ("`b` is [2], and not a matrix", |g, p, d| {
        muon(g, &p, &d, Muon::default())
    }),
    ("momentum is -0.1", |g, p, d| {
        muon(
            g,
            &p,
            &d,
            Muon {
                momentum: -0.1,
                ..Muon::default()
            },
        )
    }),
    ("the rate is -1", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                lr: Rate::one_cycle(-1.0, 10),
                ..Sgd::default()
            },
        )
    }),
    ("the bound is -1", |g, p, d| {
        sgd(g, &p, &clip_by_norm(g, &d, -1.0).gradients, Sgd::default())
    }),
    ("the bound is NaN", |g, p, d| {
        sgd(g, &p, &clip_by_value(g, &d, f64::NAN), Sgd::default())
    }),
    ("2 parameters and 1 gradients", |g, p, d| {
        sgd(g, &p, &d[..1], Sgd::default())
    }),
    ("`w` is f64[3, 2], its gradient f64[2]", |g, p, d| {
        lion(g, &p, &[d[1], d[0]], Lion::default())
    }),
    ("decay is 1", |g, p, d| {
        ema(g, &p, sgd(g, &p, &d, Sgd::default()), 1.0).updates
    }),
    ("the rate is -1", |g, p, d| {
        at(g, p, d, Rate::constant(-1.0).after_warm_up(3))
    }),
    ("the factor of the rate is -2", |g, p, d| {
        at(g, p, d, Rate::multi_step(0.1, -2.0, &[3]))
    }),
    ("milestone 3 comes after 3", |g, p, d| {
        at(g, p, d, Rate::multi_step(0.1, 0.5, &[1, 3, 3]))
    }),
    ("9 milestones; there are 8 at most", |g, p, d| {
        at(
            g,
            p,
            d,
            Rate::multi_step(0.1, 0.5, &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
        )
    }),
    ("the power of the rate is NaN", |g, p, d| {
        at(g, p, d, Rate::polynomial(0.1, f64::NAN, 3))
    }),
    ("floor is -0.1", |g, p, d| {
        let restarts = WarmRestarts::new(0.1, 3);
        at(
            g,
            p,
            d,
            WarmRestarts {
                floor: -0.1,
                ..restarts
            },
        )
    }),
    ("stretch is 0", |g, p, d| {
        let restarts = WarmRestarts::new(0.1, 3);
        at(
            g,
            p,
            d,
            WarmRestarts {
                stretch: 0,
                ..restarts
            },
        )
    }),
    ("a rate over 0 steps", |g, p, d| {
        at(g, p, d, WarmRestarts::new(0.1, 0))
    }),
    ("a rate over 0 steps", |g, p, d| {
        at(g, p, d, OneCycle::new(0.1, 0))
    }),
    ("rise is 1.5", |g, p, d| {
        at(
            g,
            p,
            d,
            OneCycle {
                rise: 1.5,
                ..OneCycle::new(0.1, 10)
            },
        )
    }),
    ("rise is 0.6; it must be from 0 to 0.5", |g, p, d| {
        let phases = Phases::Three;
        at(
            g,
            p,
            d,
            OneCycle {
                rise: 0.6,
                phases,
                ..OneCycle::new(0.1, 10)
            },
        )
    }),
    ("last is 0", |g, p, d| {
        at(
            g,
            p,
            d,
            OneCycle {
                last: 0.0,
                ..OneCycle::new(0.1, 10)
            },
        )
    }),
    ("0 micro-batches", |g, p, d| {
        accumulate(g, &p, &d, MicroBatches::mean(0), |d| {
            at(g, p, [d[0], d[1]], 0.1)
        })
    }),
    ("the scale is 0", |g, p, d| {
        scaled(
            g,
            p,
            d,
            LossScale {
                initial: 0.0,
                ..LossScale::default()
            },
        )
    }),
    ("the scale is inf", |g, p, d| {
        let initial = f64::INFINITY;
        scaled(
            g,
            p,
            d,
            LossScale {
                initial,
                ..LossScale::default()
            },
        )
    }),
    ("growth is 1", |g, p, d| {
        scaled(
            g,
            p,
            d,
            LossScale {
                growth: 1.0,
                ..LossScale::default()
            },
        )
    }),
    ("backoff is 1", |g, p, d| {
        scaled(
            g,
            p,
            d,
            LossScale {
                backoff: 1.0,
                ..LossScale::default()
            },
        )
    }),
    ("interval is 0", |g, p, d| {
        scaled(
            g,
            p,
            d,
            LossScale {
                interval: 0,
                ..LossScale::default()
            },
        )
    }),
];

fn scaled<'g>(g: &'g Graph, p: [Param; 2], d: [Tensor<'g>; 2], options: LossScale) -> Updates {
    let scale = DynamicScale::new(g, "scaler", options);
    scale.updates(&d, |d| at(g, p, [d[0], d[1]], 0.1))
}
