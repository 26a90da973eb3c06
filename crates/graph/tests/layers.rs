//! Layers and losses whose values follow from what they mean: positions that turn, images that keep
//! their mean, alignments counted one by one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::{DType, Reference};
use backprop_graph::{
    Align, CrossEntropy, Ctc, Graph, GridSample, Interpolate, LocalResponse, Outside, Padding,
    Pairing, Patches, PerAxis, Reduce, Resample, Rotary, Session, Tensor, TripletMargin, Updates,
};

fn values(fetched: Tensor<'_>) -> Vec<f64> {
    let key = fetched.key();
    let mut session =
        Session::compile(fetched.graph(), Reference, &[key], Updates::none()).unwrap();
    session.step().unwrap();
    session.fetch::<f64>(key).unwrap()
}

#[track_caller]
fn assert_near(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{got:?}");
    for (g, e) in got.iter().zip(expected) {
        let near = g == e || (g - e).abs() <= 1e-13 * e.abs().max(1.0);
        assert!(near, "{got:?}, not {expected:?}");
    }
}

/// Numbers without a pattern, the same on every run.
fn some(count: usize) -> Vec<f64> {
    (0..count).map(|i| (i as f64 * 1.7 + 0.3).sin()).collect()
}

#[test]
fn windows_side_by_side_part_an_image() {
    let g = Graph::new();
    let pixels: Vec<f64> = (0..24).map(f64::from).collect();
    let x = g.data([1, 1, 4, 6], &pixels);
    let tiles = Patches {
        size: [2, 3].into(),
        stride: [2, 3].into(),
        ..Default::default()
    };
    let columns = x.im2col(tiles.clone());
    assert_eq!(values(columns.narrow(-1, 0, 1)), [0., 1., 2., 6., 7., 8.]);
    assert_eq!(values(columns.narrow(1, 0, 1)), [0., 3., 12., 15.]);
    assert_eq!(values(columns.col2im([4, 6], tiles)), pixels);
}

#[test]
fn a_turned_pair_is_a_complex_product() {
    let g = Graph::new();
    let x = g.data([2, 2], &[1., 0., 1., 0.]);
    let turned = values(x.rotary(Rotary::default()));
    assert_near(&turned, &[1., 0., 1f64.cos(), 1f64.sin()]);
    // The second of two pairs turns by 1 / sqrt(base).
    let positions = Some(g.data([1], &[3i64]));
    let row = || g.data([1, 4], &[1., 2., 3., 4.]);
    let (fast, slow) = (3.0, 0.03);
    let pair = |a: f64, b: f64, angle: f64| {
        [
            a * angle.cos() - b * angle.sin(),
            b * angle.cos() + a * angle.sin(),
        ]
    };
    let by = |pairing| {
        values(row().rotary(Rotary {
            pairing,
            positions,
            ..Rotary::default()
        }))
    };
    let ([a, c], [b, d]) = (pair(1., 3., fast), pair(2., 4., slow));
    assert_near(&by(Pairing::Halves), &[a, b, c, d]);
    let ([a, b], [c, d]) = (pair(1., 2., fast), pair(3., 4., slow));
    assert_near(&by(Pairing::Neighbours), &[a, b, c, d]);
}

/// What rotary embedding is for.
#[test]
fn products_of_turned_vectors_depend_on_the_distance() {
    for pairing in [Pairing::Halves, Pairing::Neighbours] {
        let g = Graph::new();
        let (q, k) = (g.data([1, 6], &some(6)), g.data([1, 6], &some(12)[6..]));
        let score = |from: i64, to: i64| {
            let at = |x: Tensor<'_>, position: i64| {
                let positions = Some(g.data([1], &[position]));
                let turned = x.rotary(Rotary {
                    pairing,
                    positions,
                    ..Rotary::default()
                });
                values(turned)
            };
            let pairs = at(q, from).into_iter().zip(at(k, to));
            pairs.map(|(a, b)| a * b).sum::<f64>()
        };
        assert_near(&[score(7, 3), score(1004, 1000)], &[score(4, 0); 2]);
        assert!((score(4, 0) - score(0, 4)).abs() > 1e-3);
    }
}

#[test]
fn padding_from_within() {
    let g = Graph::new();
    let x = || g.data([3], &[1., 2., 3.]);
    let padded = |low, high, padding: Padding| values(x().pad([low], [high], padding));
    assert_eq!(padded(2, 1, Padding::Reflect), [3., 2., 1., 2., 3., 2.]);
    assert_eq!(padded(1, 2, Padding::Replicate), [1., 1., 2., 3., 3., 3.]);
    assert_eq!(
        padded(3, 1, Padding::Circular),
        [1., 2., 3., 1., 2., 3., 1.]
    );
    assert_eq!(padded(0, 1, Padding::Constant(9.)), [1., 2., 3., 9.]);
    g.check().unwrap();
    let _ = x().pad([3], [0], Padding::Reflect);
    assert!(g.check().is_err());
}

#[test]
fn resampling_keeps_what_it_should() {
    let g = Graph::new();
    let ramp: Vec<f64> = (0..8).map(f64::from).collect();
    let line = || g.data([8], &ramp);
    let corners = |by| {
        let align = Align::Corners;
        values(line().interpolate(
            [15],
            Interpolate {
                by,
                align,
                ..Interpolate::default()
            },
        ))
    };
    let halves: Vec<f64> = (0..15).map(|i| f64::from(i) / 2.0).collect();
    assert_near(&corners(Resample::Linear), &halves);
    // The cubic kernel gives linear functions back away from the border.
    let inside = 3..12;
    assert_near(&corners(Resample::Cubic)[inside.clone()], &halves[inside]);
    let area = |count: usize| values(line().interpolate([count], Resample::Area));
    assert_near(&area(4), &[0.5, 2.5, 4.5, 6.5]);
    assert_near(&area(3), &[1.0, 3.5, 6.0]);
    assert_near(&area(16)[..4], &[0., 0., 1., 1.]);
    let nearest = |by| values(g.data([3], &[1., 2., 3.]).interpolate([2], by));
    assert_eq!(nearest(Resample::Nearest), [1., 2.]);
    assert_eq!(nearest(Resample::NearestCentre), [1., 3.]);
}

/// An infinite pixel is nobody else's business.
#[test]
fn means_of_windows_are_local() {
    let g = Graph::new();
    let x = g.data([1, 1, 5], &[f64::INFINITY, 1., 2., 3., 4.]);
    assert_eq!(values(x.adaptive_avg_pool(2))[1], 3.0);
}

#[test]
fn a_grid_of_centres_gives_the_image_back() {
    let g = Graph::new();
    let image = some(12);
    let centre = |i: usize, size: usize| (2 * i + 1) as f64 / size as f64 - 1.0;
    let points = (0..12).flat_map(|i| [centre(i % 4, 4), centre(i / 4, 3)]);
    let grid = g.data([1, 3, 4, 2], &points.collect::<Vec<_>>());
    for by in [Resample::NearestCentre, Resample::Linear, Resample::Cubic] {
        for outside in [Outside::Zeros, Outside::Border, Outside::Reflect] {
            let how = GridSample {
                by,
                outside,
                ..GridSample::default()
            };
            let x = g.data([1, 1, 3, 4], &image);
            assert_near(&values(x.grid_sample(grid, how)), &image);
        }
    }
    let far = g.data([1, 1, 1, 2], &[-9.0, 0.0]);
    let outside = |outside| {
        let how = GridSample {
            outside,
            ..GridSample::default()
        };
        values(g.data([1, 1, 3, 4], &image).grid_sample(far, how))[0]
    };
    assert_eq!(outside(Outside::Zeros), 0.0);
    assert_near(&[outside(Outside::Border)], &image[4..5]);
    // 16 pixels beyond the left edge: there and back twice.
    assert_near(&[outside(Outside::Reflect)], &image[4..5]);
}

/// Every pixel comes back as often as a window sees it.
#[test]
fn patches_and_back() {
    let g = Graph::new();
    let x = g.data([1, 1, 3, 3], &some(9));
    let patches = || Patches {
        size: PerAxis::from(2),
        ..Patches::default()
    };
    let columns = x.im2col(patches());
    assert_eq!(columns.shape().sizes(), [1, 4, 4]);
    let back = columns.col2im([3, 3], patches());
    let counts = [1., 2., 1., 2., 4., 2., 1., 2., 1.];
    let expected: Vec<f64> = some(9).iter().zip(counts).map(|(x, n)| x * n).collect();
    assert_near(&values(back), &expected);
}

/// The likelihood of `target`, summed over all sequences of classes that mean it.
fn likelihood(logs: &[f64], classes: usize, target: &[i64]) -> f64 {
    let time = logs.len() / classes;
    let paths = (0..classes.pow(time as u32)).map(|path| {
        (0..time)
            .map(move |t| path / classes.pow(t as u32) % classes)
            .collect::<Vec<_>>()
    });
    let means = |path: &Vec<usize>| {
        let mut labels = path.clone();
        labels.dedup();
        labels.retain(|&label| label != 0);
        labels
            .iter()
            .map(|&label| label as i64)
            .eq(target.iter().copied())
    };
    let log = |path: &Vec<usize>| -> f64 {
        path.iter()
            .enumerate()
            .map(|(t, &label)| logs[t * classes + label])
            .sum()
    };
    paths.filter(means).map(|path| log(&path).exp()).sum()
}

#[test]
fn alignments_one_by_one() {
    let logs = some(15);
    for target in [&[1i64, 2][..], &[1, 1], &[2], &[]] {
        let g = Graph::new();
        let x = g.data([5, 1, 3], &logs);
        let padded: Vec<i64> = target.iter().copied().chain([0, 0]).take(2).collect();
        let how = Ctc {
            target_lengths: Some(g.data([1], &[target.len() as i64])),
            reduce: Reduce::Sum,
            ..Ctc::default()
        };
        let loss = values(x.ctc_loss(g.data([1, 2], &padded), how));
        assert_near(&loss, &[-likelihood(&logs, 3, target).ln()]);
    }
}

#[test]
fn what_cannot_be_aligned_has_no_gradient() {
    let g = Graph::new();
    // The second has time for one label of two; the third meets a class that is ruled out.
    let mut logs = some(18);
    logs[8] = f64::NEG_INFINITY;
    let x = g.data([2, 3, 3], &logs);
    let targets = g.data([3, 2], &[1i64, 2, 1, 1, 1, 2]);
    let how = Ctc {
        reduce: Reduce::None,
        ..Ctc::default()
    };
    let losses = x.ctc_loss(targets, how);
    let gradient = g.grad(losses.sum(..), &[x]).unwrap()[0];
    let got = values(losses);
    assert!(got[0].is_finite() && got[1] == f64::INFINITY && got[2].is_finite());
    let gradient = values(gradient);
    assert!(
        gradient.iter().all(|slope| slope.is_finite()),
        "{gradient:?}"
    );
    assert!(
        gradient[3..6]
            .iter()
            .chain(&gradient[12..15])
            .all(|&slope| slope == 0.0)
    );
    let left_out = Ctc {
        reduce: Reduce::None,
        impossible: 0.0,
        ..Ctc::default()
    };
    assert_eq!(values(x.ctc_loss(targets, left_out))[1], 0.0);
}

#[test]
fn empty_axes() {
    let g = Graph::new();
    let x = || g.full([2, 0], 0.0, DType::F64);
    assert!(values(x().softmax(1)).is_empty());
    assert!(values(x().log_softmax(1)).is_empty());
    assert_eq!(values(x().logsumexp(1)), [f64::NEG_INFINITY; 2]);
}

/// Each of these is refused, by the name of the operation and at the caller's place.
#[test]
fn refusals() {
    type Build = for<'g> fn(Tensor<'g>) -> Tensor<'g>;
    let cases: &[(&str, Build)] = &[
        ("ctc_loss", |x| x.ctc_loss(x, Ctc::default())),
        ("ctc_loss", |x| {
            let blank = 9;
            let log_probs = x.unsqueeze(1);
            log_probs.ctc_loss(
                x.argmax(0).narrow(0, 0, 1).unsqueeze(0),
                Ctc {
                    blank,
                    ..Ctc::default()
                },
            )
        }),
        ("grid_sample", |x| x.grid_sample(x, GridSample::default())),
        ("im2col", |x| {
            x.unsqueeze(0).im2col(Patches {
                size: 4.into(),
                ..Patches::default()
            })
        }),
        ("col2im", |x| {
            x.unsqueeze(0).col2im([3, 3], Patches::default())
        }),
        ("interpolate", |x| {
            x.interpolate([usize::MAX, 2], Resample::Nearest)
        }),
        ("interpolate", |x| {
            let align = Align::Corners;
            x.interpolate(
                [2],
                Interpolate {
                    align,
                    ..Interpolate::default()
                },
            )
        }),
        ("channel_shuffle", |x| x.channel_shuffle(2)),
        ("pixel_unshuffle", |x| x.unsqueeze(0).pixel_unshuffle(2)),
        ("local_response_norm", |x| {
            x.local_response_norm(LocalResponse {
                channels: 0,
                alpha: 1.0,
                beta: 1.0,
                k: 1.0,
            })
        }),
        ("cosine_similarity", |x| x.cosine_similarity(x.t(), 0, 1e-8)),
        ("pairwise_distance", |x| {
            x.pairwise_distance(x.t(), 2.0, 0.0)
        }),
        ("cosine_similarity", |x| x.cosine_similarity(x, 2, 1e-8)),
        ("normalize", |x| x.normalize(2.0, 2, 1e-8)),
        ("multi_margin_loss", |x| {
            x.multi_margin_loss(x.argmax(0), 1, 1.0, Reduce::Sum)
        }),
        ("multi_margin_loss", |x| {
            x.multi_margin_loss(x.argmax(1), 3, 1.0, Reduce::Sum)
        }),
        ("gaussian_nll_loss", |x| {
            x.gaussian_nll_loss(x, x, 0.0, Reduce::Sum)
        }),
        ("margin_ranking_loss", |x| {
            x.margin_ranking_loss(x.t(), x, 0.0, Reduce::Sum)
        }),
        ("cosine_embedding_loss", |x| {
            x.cosine_embedding_loss(x, x, 0.0, Reduce::Sum)
        }),
        ("triplet_margin_loss", |x| {
            x.triplet_margin_loss(x, x.t(), TripletMargin::default())
        }),
        ("bce_with_logits_weighted", |x| {
            x.bce_with_logits_weighted(x, x.t(), Reduce::Sum)
        }),
        ("cross_entropy", |x| {
            x.cross_entropy(x.t(), CrossEntropy::default())
        }),
        ("cross_entropy", |x| {
            let ignore_index = Some(1);
            x.cross_entropy(
                x,
                CrossEntropy {
                    ignore_index,
                    ..CrossEntropy::default()
                },
            )
        }),
        ("cross_entropy", |x| {
            let weights = Some(x);
            x.cross_entropy(
                x.argmax(1),
                CrossEntropy {
                    weights,
                    ..CrossEntropy::default()
                },
            )
        }),
    ];
    for (operation, build) in cases {
        let g = Graph::new();
        let _ = build(g.input("x", [2, 3], DType::F64));
        let error = g.check().unwrap_err();
        let text = error.kind().to_string();
        assert!(
            text.starts_with(&format!("{operation}: ")),
            "{operation} says {text}"
        );
        assert_eq!(error.all().count(), 1, "{error}");
        assert_eq!(error.place().unwrap().file(), file!(), "{error}");
    }
}
