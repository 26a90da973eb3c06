//! Gradients added up over steps, and under a loss scale.

use backprop::optim::{
    AdamW, DynamicScale, LossScale, MicroBatches, Rate, Sgd, accumulate, adamw, clip_by_norm, sgd,
};
use backprop::{DType, Graph, Init, Param, Tensor, Updates};

use super::Recipe;

/// What the cases have in common: the loss of step `t`, counted from 0, is multiplied by `1 + t % 3`, and
/// by infinity in some. Gives the gradients, and the updates that count.
fn weighted<'g>(g: &'g Graph, d: [Tensor<'g>; 2], broken: &[i32]) -> ([Tensor<'g>; 2], Updates) {
    let clock = g.parameter("clock", [], DType::I64, Init::Zeros);
    let t = g.read(clock);
    let weight = (t % 3 + 1).cast(DType::F64);
    let weight = broken.iter().fold(weight, |weight, &step| {
        t.eq(step).select(f64::INFINITY, weight)
    });
    (d.map(|d| d * weight), Updates::set(clock, t + 1))
}

fn heavy<'g>(g: &'g Graph, p: [Param; 2], d: &[Tensor<'g>]) -> Updates {
    let options = Sgd {
        lr: 0.02.into(),
        momentum: 0.9,
        ..Sgd::default()
    };
    sgd(g, &p, d, options)
}

fn adaptive<'g>(g: &'g Graph, p: [Param; 2], d: &[Tensor<'g>], lr: impl Into<Rate>) -> Updates {
    let options = AdamW {
        lr: lr.into(),
        weight_decay: 0.1,
        ..AdamW::default()
    };
    adamw(g, &p, d, options)
}

fn scale(g: &Graph, [initial, growth, backoff]: [f64; 3], interval: usize) -> DynamicScale<'_> {
    let options = LossScale {
        initial,
        growth,
        backoff,
        interval,
    };
    DynamicScale::new(g, "scaler", options)
}

pub(super) const PARTS: &[(&str, Recipe)] = &[
    ("accumulate_sgd", |g, p, d| {
        let (d, counted) = weighted(g, d, &[]);
        accumulate(g, &p, &d, MicroBatches::mean(3), |d| heavy(g, p, d)).and(counted)
    }),
    ("accumulate_adamw", |g, p, d| {
        let (d, counted) = weighted(g, d, &[]);
        let falling = Rate::exponential(0.1, 0.9);
        let apply = |d: &[_]| adaptive(g, p, d, falling);
        accumulate(g, &p, &d, MicroBatches::sum(2), apply).and(counted)
    }),
    ("accumulate_one", |g, p, d| {
        let (d, counted) = weighted(g, d, &[]);
        let apply = |d: &[_]| adaptive(g, p, d, 0.1);
        accumulate(g, &p, &d, MicroBatches::mean(1), apply).and(counted)
    }),
    ("scaled_sgd", |g, p, d| {
        let (d, counted) = weighted(g, d, &[3, 4, 9]);
        let scale = scale(g, [1024.0, 2.0, 0.5], 3);
        scaled(scale, d, |d| heavy(g, p, d)).and(counted)
    }),
    ("scaled_adamw", |g, p, d| {
        let (d, counted) = weighted(g, d, &[0, 7]);
        let scale = scale(g, [65_536.0, 4.0, 0.125], 2);
        scaled(scale, d, |d| adaptive(g, p, d, 0.1)).and(counted)
    }),
    ("scaled_oddly", |g, p, d| {
        let (d, counted) = weighted(g, d, &[5, 6]);
        let scale = scale(g, [1000.0, 1.7, 0.3], 2);
        scaled(scale, d, |d| heavy(g, p, d)).and(counted)
    }),
    ("scaled_to_the_end", |g, p, d| {
        let (d, counted) = weighted(g, d, &[]);
        let scale = scale(g, [125f64.exp2(), 2.0, 0.5], 1);
        scaled(scale, d, |d| heavy(g, p, d)).and(counted)
    }),
    ("accumulate_scaled", |g, p, d| {
        let (d, counted) = weighted(g, d, &[5, 14]);
        let scale = scale(g, [512.0, 2.0, 0.5], 2);
        let apply = |d: &[_]| adaptive(g, p, &clip_by_norm(g, d, 0.5).gradients, 0.1);
        let d = d.map(|d| d * scale.of(d.graph().full([], 1.0, DType::F64)));
        let parts = MicroBatches::mean(2);
        accumulate(g, &p, &d, parts, |d| scale.updates(d, apply)).and(counted)
    }),
];

/// Updates by the gradients of a scaled loss.
fn scaled<'g>(
    scale: DynamicScale<'g>,
    d: [Tensor<'g>; 2],
    apply: impl FnOnce(&[Tensor<'g>]) -> Updates,
) -> Updates {
    let one = d[0].graph().full([], 1.0, DType::F64);
    scale.updates(&d.map(|d| d * scale.of(one)), apply)
}
