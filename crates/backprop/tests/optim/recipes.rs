//! How each case makes its updates, with the options that `tests/data/optim/generate.py` gives PyTorch.

use backprop::optim::{
    Adadelta, Adagrad, Adam, AdamW, Denominator, Lamb, Lion, Momentum, Muon, NAdam, Orthogonal,
    Rate, RmsProp, Sgd, Stride, adadelta, adagrad, adam, adamw, clip_by_norm, clip_by_value, ema,
    lamb, lion, muon, nadam, rmsprop, sgd,
};
use backprop::{Graph, Param, Tensor, Updates};

/// Updates of a matrix and a vector by their gradients.
pub(crate) type Recipe = for<'g> fn(&'g Graph, [Param; 2], [Tensor<'g>; 2]) -> Updates;

/// The cases by name, in the order in which they were written.
pub(crate) const RECIPES: &[(&str, Recipe)] = &[
    ("sgd", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                lr: 0.05.into(),
                ..Sgd::default()
            },
        )
    }),
    ("sgd_decay", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                lr: 0.05.into(),
                weight_decay: 0.1,
                ..Sgd::default()
            },
        )
    }),
    ("sgd_momentum", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                lr: 0.05.into(),
                momentum: 0.9,
                ..Sgd::default()
            },
        )
    }),
    ("sgd_dampening", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                lr: 0.05.into(),
                momentum: 0.9,
                dampening: 0.3,
                weight_decay: 0.05,
                ..Sgd::default()
            },
        )
    }),
    ("sgd_nesterov", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                lr: 0.05.into(),
                momentum: 0.8,
                style: Momentum::Nesterov,
                weight_decay: 0.05,
                ..Sgd::default()
            },
        )
    }),
    ("adam_amsgrad", |g, p, d| {
        adam(
            g,
            &p,
            &d,
            Adam {
                lr: 0.1.into(),
                betas: (0.8, 0.9),
                weight_decay: 0.05,
                denominator: Denominator::Largest,
                ..Adam::default()
            },
        )
    }),
    ("adamw_amsgrad", |g, p, d| {
        adamw(
            g,
            &p,
            &d,
            AdamW {
                lr: 0.1.into(),
                betas: (0.8, 0.9),
                weight_decay: 0.05,
                denominator: Denominator::Largest,
                ..AdamW::default()
            },
        )
    }),
    ("adadelta", |g, p, d| {
        adadelta(g, &p, &d, Adadelta::default())
    }),
    ("adadelta_decay", |g, p, d| {
        adadelta(
            g,
            &p,
            &d,
            Adadelta {
                lr: 0.5.into(),
                rho: 0.8,
                eps: 1e-3,
                weight_decay: 0.1,
            },
        )
    }),
    ("nadam", |g, p, d| nadam(g, &p, &d, NAdam::default())),
    ("nadam_decay", |g, p, d| {
        nadam(
            g,
            &p,
            &d,
            NAdam {
                lr: 0.05.into(),
                betas: (0.8, 0.9),
                eps: 1e-6,
                weight_decay: 0.1,
                momentum_decay: 0.02,
            },
        )
    }),
    ("lion", |g, p, d| {
        lion(
            g,
            &p,
            &d,
            Lion {
                lr: 0.02.into(),
                ..Lion::default()
            },
        )
    }),
    ("lion_decay", |g, p, d| {
        lion(
            g,
            &p,
            &d,
            Lion {
                lr: 0.05.into(),
                betas: (0.7, 0.9),
                weight_decay: 0.1,
            },
        )
    }),
    ("lamb", |g, p, d| {
        lamb(
            g,
            &p,
            &d,
            Lamb {
                lr: 0.02.into(),
                ..Lamb::default()
            },
        )
    }),
    ("lamb_plain", |g, p, d| {
        lamb(
            g,
            &p,
            &d,
            Lamb {
                lr: 0.05.into(),
                betas: (0.8, 0.9),
                eps: 1e-4,
                weight_decay: 0.0,
            },
        )
    }),
    ("muon", |g, p, d| {
        let w = muon(
            g,
            &p[..1],
            &d[..1],
            Muon {
                lr: 0.05.into(),
                ..Muon::default()
            },
        );
        w.and(sgd(
            g,
            &p[1..],
            &d[1..],
            Sgd {
                lr: 0.05.into(),
                ..Sgd::default()
            },
        ))
    }),
    ("muon_heavy", |g, p, d| {
        let w = muon(
            g,
            &p[..1],
            &d[..1],
            Muon {
                lr: 0.1.into(),
                weight_decay: 0.0,
                momentum: 0.8,
                style: Momentum::Heavy,
                orthogonal: Orthogonal {
                    steps: 3,
                    ..Orthogonal::default()
                },
                stride: Stride::LikeAdamW,
            },
        );
        w.and(sgd(
            g,
            &p[1..],
            &d[1..],
            Sgd {
                lr: 0.05.into(),
                ..Sgd::default()
            },
        ))
    }),
    ("frozen_b", |g, p, d| {
        muon(
            g,
            &p[..1],
            &d[..1],
            Muon {
                lr: 0.05.into(),
                ..Muon::default()
            },
        )
    }),
    ("groups", |g, p, d| {
        let w = adamw(
            g,
            &p[..1],
            &d[..1],
            AdamW {
                lr: 0.1.into(),
                weight_decay: 0.2,
                ..AdamW::default()
            },
        );
        w.and(adamw(
            g,
            &p[1..],
            &d[1..],
            AdamW {
                lr: 0.05.into(),
                weight_decay: 0.0,
                ..AdamW::default()
            },
        ))
    }),
    ("clip_norm", |g, p, d| {
        sgd(
            g,
            &p,
            &clip_by_norm(g, &d, 0.7).gradients,
            Sgd {
                lr: 0.05.into(),
                momentum: 0.9,
                ..Sgd::default()
            },
        )
    }),
    ("clip_norm_loose", |g, p, d| {
        sgd(
            g,
            &p,
            &clip_by_norm(g, &d, 1e3).gradients,
            Sgd {
                lr: 0.05.into(),
                momentum: 0.9,
                ..Sgd::default()
            },
        )
    }),
    ("clip_value", |g, p, d| {
        sgd(
            g,
            &p,
            &clip_by_value(g, &d, 0.2),
            Sgd {
                lr: 0.05.into(),
                momentum: 0.9,
                ..Sgd::default()
            },
        )
    }),
    ("rate_step", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                lr: Rate::decay(0.2, 0.3, 4),
                ..Sgd::default()
            },
        )
    }),
    ("rate_exponential", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                lr: Rate::exponential(0.2, 0.9),
                ..Sgd::default()
            },
        )
    }),
    ("rate_linear", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                lr: Rate::linear(0.05, 0.2, 5),
                ..Sgd::default()
            },
        )
    }),
    ("rate_cosine", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                lr: Rate::cosine(0.2, 0, 14),
                ..Sgd::default()
            },
        )
    }),
    ("rate_warm_cosine", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                lr: Rate::cosine(0.2, 4, 14),
                ..Sgd::default()
            },
        )
    }),
    ("rate_one_cycle", |g, p, d| {
        sgd(
            g,
            &p,
            &d,
            Sgd {
                lr: Rate::one_cycle(0.3, 15),
                ..Sgd::default()
            },
        )
    }),
];

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
];
