//! Attention, norms, losses, recurrent cells and random numbers.

use backprop::prelude::*;
use backprop::{
    Cell, Ctc, LocalResponse, Mask, NegativeLogLikelihood, Recurrence, Recurrent, Reduce, Rotary,
    TripletMargin, WeightDropout,
};

use crate::table::{Build, Row, check, row};
use crate::windows::image;

/// Attention in which weights are left out.
#[track_caller]
fn dropping<'g>(x: Tensor<'g>, p: f64) -> Tensor<'g> {
    let key = x.graph().random_key(1);
    x.attention_with_dropout(x, x, Mask::None, WeightDropout { p, key })
}

static ATTENTION: &[Row<Build>] = &[
    row("Shape", |_, x| x.attention(x.t(), x, Mask::None)),
    row("Shape", |_, x| x.attention(x, x.t(), Mask::None)),
    row("Shape", |_, x| x.sum(..).attention(x, x, Mask::None)),
    row("DType", |_, x| {
        x.attention(x, x, Mask::Where(x.matmul(x.t())))
    }),
    row("Shape", |g, x| {
        x.attention(x, x, Mask::Where(g.input("m", [3, 32], Bool)))
    }),
    row("DType", |_, x| x.attention(x.cast(F64), x, Mask::None)),
    row("Attribute", |_, x| dropping(x, 1.0)),
    row("Attribute", |_, x| dropping(x, -0.1)),
    row("Attribute", |_, x| dropping(x, f64::NAN)),
    row("Shape", |g, x| {
        let key = g.random_key(1);
        x.attention_with_dropout(x.t(), x, Mask::None, WeightDropout { p: 0.1, key })
    }),
    row("Shape", |_, x| x.narrow(1, 0, 63).rotary(Rotary::default())),
    row("Attribute", |_, x| {
        x.rotary(Rotary {
            base: 0.0,
            ..Default::default()
        })
    }),
    row("Attribute", |_, x| {
        x.rotary(Rotary {
            base: f64::NAN,
            ..Default::default()
        })
    }),
    row("Shape", |_, x| x.sum(..).rotary(Rotary::default())),
];

static NORMS: &[Row<Build>] = &[
    row("Axis", |_, x| x.layer_norm(2, 1e-5)),
    row("Axis", |_, x| x.rms_norm(-3, 1e-5)),
    row("Attribute", |_, x| x.layer_norm(1, f64::INFINITY)),
    row("Attribute", |_, x| x.layer_norm(1, f64::NAN)),
    row("Attribute", |_, x| x.rms_norm(1, f64::NAN)),
    row("Attribute", |_, x| x.batch_norm(f64::INFINITY)),
    row("Attribute", |_, x| x.instance_norm(f64::INFINITY)),
    row("DType", |_, x| x.cast(I32).layer_norm(1, 1e-5)),
    row("Shape", |_, x| x.sum(..).batch_norm(1e-5)),
    row("Shape", |_, x| x.batch_norm_by(x, x, 1e-5)),
    row("Attribute", |_, x| image(x).group_norm(3, 1e-5)),
    row("Attribute", |_, x| image(x).group_norm(0, 1e-5)),
    row("Attribute", |_, x| image(x).group_norm(2, f64::INFINITY)),
    row("Attribute", |_, x| {
        image(x).local_response_norm(LocalResponse {
            channels: 0,
            alpha: 1.0,
            beta: 1.0,
            k: 1.0,
        })
    }),
    row("Shape", |g, x| x.gain(g.full([5], 1.0, F32), 1)),
    row("Shape", |g, x| {
        x.affine(g.full([64], 1.0, F32), g.full([5], 1.0, F32), 1)
    }),
    row("Attribute", |_, x| x.dropout(1.5, x.graph().random_key(0))),
    row("Attribute", |_, x| {
        x.dropout(f64::NAN, x.graph().random_key(0))
    }),
    row("DType", |_, x| x.dropout(0.5, x)),
    row("DType", |g, x| x.dropout(0.5, g.data([3], &[1i64, 2, 3]))),
    row("Shape", |g, _| {
        g.uniform(g.random_key(0), [usize::MAX, 2], F32)
    }),
    row("Shape", |g, _| g.uniform(g.random_key(0), [1; 9], F32)),
    row("DType", |g, _| g.uniform(g.random_key(0), [2], F16)),
    row("DType", |g, _| g.standard_normal(g.random_key(0), [2], I32)),
    row("Shape", |g, _| {
        g.standard_normal(g.random_key(0), [usize::MAX, 2], F32)
    }),
    row("Attribute", |g, _| {
        g.uniform_between(g.random_key(0), 1.0, 0.0, [2], F32)
    }),
    row("Attribute", |g, _| {
        g.normal(g.random_key(0), 0.0, -1.0, [2], F32)
    }),
    row("Attribute", |g, _| {
        g.truncated_normal(g.random_key(0), (9.0, 9.1), [2], F32)
    }),
    row("Attribute", |g, _| {
        g.truncated_normal(g.random_key(0), (f64::NAN, 1.0), [2], F32)
    }),
    row("Attribute", |g, _| g.bernoulli(g.random_key(0), 1.5, [2])),
    row("Shape", |g, _| g.permutation(g.random_key(0), usize::MAX)),
    row("Axis", |g, x| x.categorical(2, g.random_key(0))),
    row("DType", |_, x| x.fold_in(1)),
    row("DType", |_, x| x.split_key::<2>()[0]),
];

fn labels(g: &Graph) -> Tensor<'_> {
    g.input("labels", [32], I64)
}

static LOSSES: &[Row<Build>] = &[
    row("Shape", |_, x| {
        x.cross_entropy(x.sum(1), CrossEntropy::default())
    }),
    row("Shape", |g, x| {
        x.t().cross_entropy(labels(g), CrossEntropy::default())
    }),
    row("Axis", |_, x| {
        x.sum(..)
            .cross_entropy(x.sum(..).cast(I64), CrossEntropy::default())
    }),
    row("Attribute", |g, x| {
        x.cross_entropy(
            labels(g),
            CrossEntropy {
                label_smoothing: 1.5,
                ..Default::default()
            },
        )
    }),
    row("Attribute", |g, x| {
        x.cross_entropy(
            labels(g),
            CrossEntropy {
                label_smoothing: f64::NAN,
                ..Default::default()
            },
        )
    }),
    row("Axis", |g, x| {
        x.cross_entropy(
            labels(g),
            CrossEntropy {
                axis: 2,
                ..Default::default()
            },
        )
    }),
    row("Shape", |g, x| {
        x.cross_entropy(
            labels(g),
            CrossEntropy {
                weights: Some(g.full([3], 1.0, F32)),
                ..Default::default()
            },
        )
    }),
    row("Shape", |g, x| {
        x.t().nll_loss(labels(g), NegativeLogLikelihood::default())
    }),
    row("Shape", |_, x| x.mse_loss(x.t(), Reduce::Mean)),
    row("Attribute", |_, x| x.huber_loss(x, 0.0, Reduce::Mean)),
    row("Attribute", |_, x| x.huber_loss(x, f64::NAN, Reduce::Mean)),
    row("Attribute", |_, x| x.smooth_l1_loss(x, -1.0, Reduce::Mean)),
    row("Shape", |_, x| x.kl_div(x.t(), Reduce::Sum)),
    row("Shape", |_, x| x.bce_with_logits(x.t(), Reduce::Sum)),
    row("Shape", |_, x| {
        x.triplet_margin_loss(x, x.t(), TripletMargin::default())
    }),
    row("Attribute", |_, x| {
        x.triplet_margin_loss(
            x,
            x,
            TripletMargin {
                p: f64::NAN,
                ..Default::default()
            },
        )
    }),
    row("Shape", |g, x| {
        x.ctc_loss(
            labels(g),
            Ctc {
                blank: 0,
                reduce: Reduce::Mean,
                impossible: 0.0,
                input_lengths: None,
                target_lengths: None,
            },
        )
    }),
    row("Attribute", |g, x| {
        x.reshape([4, 8, 64]).ctc_loss(
            g.input("t", [8, 2], I64),
            Ctc {
                blank: 64,
                reduce: Reduce::Mean,
                impossible: 0.0,
                input_lengths: None,
                target_lengths: None,
            },
        )
    }),
];

/// A recurrent layer of eight features for inputs of 64.
#[track_caller]
fn recurred<'g>(x: Tensor<'g>, cell: Cell, how: Recurrence<'g>) -> Tensor<'g> {
    let g = x.graph();
    let size = cell.gates() * 8;
    let weights = |shape: &[usize]| g.full(shape, 0.1, F32);
    let layer = Recurrent {
        weight_ih: weights(&[size, 64]),
        weight_hh: weights(&[size, 8]),
        bias_ih: weights(&[size]),
        bias_hh: weights(&[size]),
    };
    layer.run(cell, x, how).outputs
}

static RECURRENT: &[Row<Build>] = &[
    row("Shape", |_, x| {
        recurred(x, Cell::Lstm, Recurrence::default())
    }),
    row("Shape", |_, x| {
        recurred(x.reshape([4, 16, 32]), Cell::Gru, Recurrence::default())
    }),
    row("DType", |_, x| {
        recurred(
            x.reshape([4, 8, 64]).cast(F64),
            Cell::RnnTanh,
            Recurrence::default(),
        )
    }),
    row("Shape", |_, x| {
        let hidden = Some(x.narrow(1, 0, 8));
        recurred(
            x.reshape([4, 8, 64]),
            Cell::Gru,
            Recurrence {
                hidden,
                ..Default::default()
            },
        )
    }),
    row("DType", |_, x| {
        let lengths = Some(x.narrow(0, 0, 8).sum(1));
        recurred(
            x.reshape([4, 8, 64]),
            Cell::Gru,
            Recurrence {
                lengths,
                ..Default::default()
            },
        )
    }),
    row("Shape", |g, x| {
        let lengths = Some(g.input("lengths", [7], I64));
        recurred(
            x.reshape([4, 8, 64]),
            Cell::Gru,
            Recurrence {
                lengths,
                ..Default::default()
            },
        )
    }),
    row("Attribute", |g, x| {
        let cell = Some(g.full([8, 8], 0.0, F32));
        recurred(
            x.reshape([4, 8, 64]),
            Cell::Gru,
            Recurrence {
                cell,
                ..Default::default()
            },
        )
    }),
];

#[test]
fn attention_that_makes_no_sense() {
    check(ATTENTION);
}

#[test]
fn norms_that_make_no_sense() {
    check(NORMS);
}

#[test]
fn losses_that_make_no_sense() {
    check(LOSSES);
}

#[test]
fn recurrent_layers_that_make_no_sense() {
    check(RECURRENT);
}
