//! Optimizers and clipping.

use backprop::optim::{
    Adadelta, Adam, AdamW, Denominator, Lamb, Lion, Momentum, Muon, NAdam, Orthogonal, Sgd, Stride,
    adadelta, adam, adamw, clip_by_norm, clip_by_value, lamb, lion, muon, nadam, sgd,
};

use super::Recipe;

pub(crate) const OPTIMIZERS: &[(&str, Recipe)] = &[
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
];
