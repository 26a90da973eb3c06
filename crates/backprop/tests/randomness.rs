//! Random numbers in a graph: known values, moments, the same on every backend, fresh in every step.
//! Every seed is fixed; bounds are about five standard errors.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics is a test that fails"
)]

use backprop::core::random::{philox_block, uniform_f32, uniform_f64};
use backprop::prelude::*;
use backprop::{ErrorKind, Left, Reference};

const N: usize = 100_000;

fn cpu(threads: usize) -> Cpu {
    Cpu::builder().threads(threads).build().unwrap()
}

fn draw<T: backprop::Element>(x: Tensor<'_>, backend: impl Backend) -> Vec<T> {
    let mut session = Session::compile(x.graph(), backend, &[x.key()], Updates::none()).unwrap();
    session.step().unwrap();
    session.fetch::<T>(x.key()).unwrap()
}

fn numbers(build: impl for<'g> Fn(&'g Graph, Tensor<'g>) -> Tensor<'g>) -> Vec<f64> {
    let g = Graph::new();
    draw(build(&g, g.random_key(42)).cast(F64), cpu(2))
}

fn moments(x: &[f64]) -> [f64; 4] {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let central = |k| x.iter().map(|v| (v - mean).powi(k)).sum::<f64>() / n;
    let var = central(2);
    [
        mean,
        var,
        central(3) / var.powf(1.5),
        central(4) / (var * var),
    ]
}

/// Pearson's statistic of the numbers in bins of equal probability, by the distribution function.
fn chi_square(x: &[f64], bins: usize, cdf: impl Fn(f64) -> f64) -> f64 {
    let mut counts = vec![0.0; bins];
    for &v in x {
        counts[((cdf(v) * bins as f64) as usize).min(bins - 1)] += 1.0;
    }
    let expected = x.len() as f64 / bins as f64;
    let square = |count: &f64| (count - expected).powi(2) / expected;
    counts.iter().map(square).sum()
}

fn phi(x: f64) -> f64 {
    0.5 * backprop::Scalar::Erfc.eval(&[-x / 2f64.sqrt()])
}

#[test]
fn draws_are_words_of_philox() {
    for (seed, stream) in [(0i64, 0i64), (-3, 5), (i64::MAX, i64::MIN)] {
        let g = Graph::new();
        let key = g.data([2], &[seed, stream]);
        let words = |i: usize| philox_block(seed, stream, i as u64);
        let f32s: Vec<f32> = draw(g.uniform(key, [7], F32), cpu(1));
        let f64s: Vec<f64> = draw(g.uniform(key, [7], F64), cpu(1));
        for i in 0..7 {
            assert_eq!(f32s[i], uniform_f32(words(i / 4)[i % 4]));
            let [a, b, c, d] = words(i / 2);
            let pair = [uniform_f64(a, b), uniform_f64(c, d)];
            assert_eq!(f64s[i], pair[i % 2]);
        }
    }
}

/// The 53-bit halves of a block, as a derived key is made of.
fn derived(seed: i64, stream: i64, block: u64) -> [i64; 2] {
    let [a, b, c, d] = philox_block(seed, stream, block).map(u64::from);
    [(b << 32 | a) >> 11, (d << 32 | c) >> 11].map(|bits| bits as i64)
}

#[test]
fn derived_keys_are_blocks_of_philox() {
    for (seed, stream) in [(7i64, 0i64), (-1, 1 << 60), (i64::MIN, -9)] {
        let g = Graph::new();
        // Known now, and computed in the step.
        let known = g.data([2], &[seed, stream]);
        for key in [known, known + 0] {
            let children: [Tensor<'_>; 3] = key.split_key();
            for (i, child) in children.into_iter().enumerate() {
                let expected = derived(seed, !stream, i as u64);
                assert_eq!(draw::<i64>(child, Reference), expected);
                assert_eq!(draw::<i64>(child, cpu(1)), expected);
            }
            let [a, b] = derived(seed, !stream, 0);
            for number in [0i64, 1, -1, 1 << 40, i64::MAX] {
                let expected = derived(!a, b.wrapping_add(number), 0);
                let folded = key.fold_in(g.data([], &[number]));
                assert_eq!(draw::<i64>(folded, Reference), expected);
                assert_eq!(draw::<i64>(folded, cpu(1)), expected);
            }
        }
    }
}

#[test]
fn derived_keys_differ() {
    let g = Graph::new();
    let key = g.random_key(1);
    let mut all: Vec<Vec<i64>> = (0..200)
        .map(|i| draw(key.fold_in(i), Reference))
        .chain(key.split_key::<20>().map(|child| draw(child, Reference)))
        .chain([draw(key, Reference), draw(g.random_key(2), Reference)])
        .collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
}

/// Numbers of neighbouring keys are uncorrelated.
#[test]
fn streams_are_uncorrelated() {
    let g = Graph::new();
    let key = g.random_key(0);
    let [a, b] = key.split_key();
    let keys = [key, a, b, key.fold_in(0), key.fold_in(1), g.random_key(1)];
    let drawn = keys.map(|key| draw::<f64>(g.uniform(key, [10_000], F64), cpu(1)));
    for (i, x) in drawn.iter().enumerate() {
        for y in &drawn[..i] {
            let products = x.iter().zip(y).map(|(x, y)| (x - 0.5) * (y - 0.5));
            let correlation = 12.0 * products.sum::<f64>() / 1e4;
            assert!(correlation.abs() < 0.05, "{correlation}");
        }
    }
}

#[test]
fn uniform_numbers_fill_their_interval() {
    for dtype in [F32, F64] {
        let x = numbers(|g, key| g.uniform_between(key, -1.0, 3.0, [N], dtype));
        assert!(x.iter().all(|v| (-1.0..3.0).contains(v)));
        let [mean, var, _, kurtosis] = moments(&x);
        assert!((mean - 1.0).abs() < 0.02 && (var - 4.0 / 3.0).abs() < 0.02);
        assert!((kurtosis - 1.8).abs() < 0.02);
        // 99 degrees of freedom: mean 99, standard deviation 14.
        assert!(chi_square(&x, 100, |v| (v + 1.0) / 4.0) < 170.0);
    }
    // One step above the lower end: rounding must not reach the upper one.
    let (low, high) = (1.0, 1.0 + f64::from(f32::EPSILON));
    let narrow = numbers(|g, key| g.uniform_between(key, low, high, [1000], F32));
    assert!(narrow.iter().all(|&v| v == low));
}

#[test]
fn normal_numbers_are_normal() {
    for (dtype, largest) in [(F32, 5.8), (F64, 8.6)] {
        let x = numbers(|g, key| g.standard_normal(key, [N], dtype));
        let [mean, var, skew, kurtosis] = moments(&x);
        assert!(
            mean.abs() < 0.016 && (var - 1.0).abs() < 0.023,
            "{mean} {var}"
        );
        assert!(
            skew.abs() < 0.04 && (kurtosis - 3.0).abs() < 0.08,
            "{skew} {kurtosis}"
        );
        assert!(chi_square(&x, 100, phi) < 170.0);
        assert!(x.iter().all(|v| v.abs() < largest));
        // Of 100,000, 6.3 are expected beyond 4 standard deviations.
        let far = x.iter().filter(|v| v.abs() > 4.0).count();
        assert!((1..20).contains(&far), "{far}");
        let moved = numbers(|g, key| g.normal(key, 5.0, 2.0, [N], dtype));
        let [mean, var, ..] = moments(&moved);
        assert!((mean - 5.0).abs() < 0.032 && (var - 4.0).abs() < 0.1);
    }
}

#[test]
fn truncated_normal_numbers_keep_inside() {
    for dtype in [F32, F64] {
        for (low, high) in [(-2.0, 2.0), (0.5, 0.6), (2.5, f64::INFINITY)] {
            let x = numbers(|g, key| g.truncated_normal(key, (low, high), [N], dtype));
            // The ends are numbers of `dtype`.
            let slack = 1e-6;
            assert!(
                x.iter()
                    .all(|&v| v >= low - slack && v <= high + slack && v.is_finite())
            );
            let (start, end) = (phi(low), phi(high));
            let statistic = chi_square(&x, 100, |v| (phi(v) - start) / (end - start));
            assert!(statistic < 170.0, "{low} {high} {statistic}");
        }
        let whole = (f64::NEG_INFINITY, f64::INFINITY);
        let x = numbers(|g, key| g.truncated_normal(key, whole, [N], dtype));
        assert!(chi_square(&x, 100, phi) < 170.0);
        assert!(x.iter().all(|v| v.is_finite()));
    }
}

#[test]
fn exponential_and_gumbel_numbers_follow_their_distributions() {
    for dtype in [F32, F64] {
        let x = numbers(|g, key| g.standard_exponential(key, [N], dtype));
        assert!(x.iter().all(|&v| v >= 0.0 && v.is_finite()));
        assert!(chi_square(&x, 100, |v| 1.0 - (-v).exp()) < 170.0);
        let x = numbers(|g, key| g.standard_gumbel(key, [N], dtype));
        assert!(x.iter().all(|v| v.is_finite()));
        assert!(chi_square(&x, 100, |v| (-(-v).exp()).exp()) < 170.0);
        // Euler's constant, and pi^2 / 6.
        let [mean, var, ..] = moments(&x);
        assert!((mean - 0.577_215_664_9).abs() < 0.021 && (var - 1.644_934).abs() < 0.06);
    }
}

#[test]
fn truth_values_hold_as_often_as_asked() {
    for p in [0.0, 0.1, 0.5, 0.999, 1.0] {
        let held = numbers(|g, key| g.bernoulli(key, p, [N]));
        let tolerance = 5.0 * (p * (1.0 - p) / N as f64).sqrt();
        assert!((moments(&held)[0] - p).abs() <= tolerance, "{p}");
    }
    // Probabilities that broadcast.
    let held = numbers(|g, key| g.bernoulli(key, g.data([3], &[0.0, 0.25, 1.0]), [N / 4, 3]));
    let rate = |i: usize| held.iter().skip(i).step_by(3).sum::<f64>() / (N / 4) as f64;
    assert_eq!((rate(0), rate(2)), (0.0, 1.0));
    assert!((rate(1) - 0.25).abs() < 0.014);
}

#[test]
fn categories_come_as_often_as_softmax_says() {
    let logits = [1.0f64, -0.5, f64::NEG_INFINITY, 2.0, 0.0];
    let drawn = numbers(|g, key| {
        let rows = g.data([1, 5], &logits).broadcast_to([N, 5]);
        rows.categorical(-1, key)
    });
    let total: f64 = logits.iter().map(|x| x.exp()).sum();
    for (i, logit) in logits.iter().enumerate() {
        let p = logit.exp() / total;
        let count = drawn.iter().filter(|&&v| v == i as f64).count();
        let tolerance = 5.0 * (p * (1.0 - p) / N as f64).sqrt();
        assert!((count as f64 / N as f64 - p).abs() <= tolerance, "{i}");
    }
}

#[test]
fn permutations_permute_and_are_equally_likely() {
    let mut long = numbers(|g, key| g.permutation(key, 1000));
    assert_ne!(long[..5], [0.0, 1.0, 2.0, 3.0, 4.0]);
    long.sort_by(f64::total_cmp);
    assert!(long.iter().enumerate().all(|(i, &v)| v == i as f64));
    // Each of the six of three elements, over 1200 keys: 200 expected, standard deviation 13.
    let g = Graph::new();
    let key = g.random_key(3);
    let all: Vec<Tensor<'_>> = (0..1200)
        .map(|i| g.permutation(key.fold_in(i), 3))
        .collect();
    let drawn: Vec<i64> = draw(g.stack(&all, 0), Reference);
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let count = drawn.chunks(3).filter(|drawn| *drawn == order).count();
        assert!((135..265).contains(&count), "{order:?} {count}");
    }
    assert!(numbers(|g, key| g.permutation(key, 0)).is_empty());
}

/// What is made of uniform numbers by exact operations is the same bits everywhere; logarithms and
/// cosines are rounded by each backend in its own way, the same for any number of threads.
#[test]
fn the_same_numbers_on_every_backend_and_for_any_number_of_threads() {
    type Build = for<'g> fn(&'g Graph, Tensor<'g>) -> Tensor<'g>;
    const SHAPE: [usize; 2] = [311, 97];
    let exact: &[(&str, Build)] = &[
        ("uniform", |g, key| g.uniform(key, SHAPE, F32)),
        ("uniform f64", |g, key| g.uniform(key, SHAPE, F64)),
        ("bernoulli", |g, key| g.bernoulli(key, 0.3, SHAPE)),
        ("permutation", |g, key| g.permutation(key, 997)),
        ("dropout", |g, key| {
            g.full(SHAPE, 3.0, F32).dropout(0.3, key)
        }),
        ("between", |g, key| {
            g.uniform_between(key, -2.0, 2.0, SHAPE, F32)
        }),
    ];
    let rounded: &[(&str, Build)] = &[
        ("normal", |g, key| g.standard_normal(key, SHAPE, F32)),
        ("normal f64", |g, key| g.standard_normal(key, SHAPE, F64)),
        ("gumbel", |g, key| g.standard_gumbel(key, SHAPE, F32)),
        ("exponential", |g, key| {
            g.standard_exponential(key, SHAPE, F32)
        }),
        ("truncated", |g, key| {
            g.truncated_normal(key, (-2.0, 2.0), SHAPE, F32)
        }),
    ];
    for (i, (name, build)) in exact.iter().chain(rounded).enumerate() {
        let g = Graph::new();
        let x = build(&g, g.random_key(5).fold_in(9)).cast(F64);
        let oracle: Vec<f64> = draw(x, Reference);
        let one: Vec<f64> = draw(x, cpu(1));
        for threads in 2..=4 {
            assert!(draw::<f64>(x, cpu(threads)) == one, "{name}, {threads}");
        }
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 2e-6 * a.abs().max(1.0);
        assert!(oracle.iter().zip(&one).all(near), "{name}");
        assert!(oracle == one || i >= exact.len(), "{name}");
    }
}

/// A step that adds dropped-out noise to a weight.
fn noisy(g: &Graph) -> (Param, Updates) {
    let random = g.random_state("random", 11);
    let w = g.parameter("w", [64], F32, Init::Zeros);
    let noise = g.standard_normal(random.next_key(), [64], F32);
    let moved = g.read(w) + noise.dropout(0.5, random.next_key());
    (w, Updates::set(w, moved).and(random.updates()))
}

#[test]
fn steps_differ_and_a_resumed_run_goes_on_as_the_other() {
    let g = Graph::new();
    let (w, updates) = noisy(&g);
    let new = || Session::compile(&g, cpu(2), &[], updates.clone()).unwrap();
    let mut whole = new();
    let mut seen = Vec::new();
    for _ in 0..6 {
        whole.step().unwrap();
        seen.push(whole.parameter::<f32>(w).unwrap());
    }
    let step = |i: usize| -> Vec<f32> {
        let pairs = seen[i].iter().zip(&seen[i - 1]);
        pairs.map(|(a, b)| a - b).collect()
    };
    assert!((2..6).all(|i| step(i) != step(i - 1)));
    let counter = g.parameters()[0];
    assert_eq!(whole.parameter::<i64>(counter).unwrap(), [12]);

    let mut before = new();
    (0..3).for_each(|_| before.step().unwrap());
    let name = format!("backprop-randomness-{}.safetensors", std::process::id());
    let path = std::env::temp_dir().join(name);
    before.save(&path).unwrap();
    let mut after = new();
    after.load(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    (0..3).for_each(|_| after.step().unwrap());
    assert!(after.parameter::<f32>(w).unwrap() == seen[5]);
}

#[test]
fn a_state_that_is_not_moved_is_an_error() {
    let g = Graph::new();
    let random = g.random_state("random", 1);
    let line = line!() - 1;
    let y = g.uniform(random.next_key(), [3], F32);
    let error = Session::compile(&g, Reference, &[y.key()], Updates::none()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unknown { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("random state `random`"), "{text}");
    assert!(text.contains(&format!("randomness.rs:{line}")), "{text}");
    // A plan that does not draw need not move it.
    let mut session = Session::compile(&g, Reference, &[y.key()], random.updates()).unwrap();
    assert!(session.plan(&[y.key()], Updates::none()).is_err());
    assert!(session.plan(&[], Updates::none()).is_ok());
}

/// In a scan, a key of each iteration comes of its index.
#[test]
fn iterations_of_a_scan_draw_numbers_of_their_own() {
    let g = Graph::new();
    let key = g.random_key(4);
    let scanned = g.scan(5, &[g.full([3], 0.0, F32)], &[], |at| {
        let drawn = g.uniform(key.fold_in(at.index), [3], F32);
        Left {
            carried: vec![at.carried[0] + drawn],
            stacked: vec![drawn],
        }
    });
    let each = (0..5).map(|i| g.uniform(key.fold_in(i), [3], F32));
    let expected = draw::<f32>(g.stack(&each.collect::<Vec<_>>(), 0), Reference);
    for threads in 1..=3 {
        assert_eq!(draw::<f32>(scanned.stacked[0], cpu(threads)), expected);
    }
    assert_eq!(draw::<f32>(scanned.stacked[0], Reference), expected);
}

#[test]
fn dropout_keeps_the_mean_and_gives_its_mask_to_the_gradient() {
    let g = Graph::new();
    let x = g.input("x", [N], F32);
    let y = x.dropout(0.2, g.random_key(6));
    let dx = g.grad(y.sum(..), &[x]).unwrap()[0];
    let mut session = Session::compile(&g, cpu(2), &[y.key(), dx.key()], Updates::none()).unwrap();
    session.feed(x, &vec![2.0f32; N]).unwrap().step().unwrap();
    let (y, dx) = (
        session.fetch::<f32>(y.key()).unwrap(),
        session.fetch::<f32>(dx.key()).unwrap(),
    );
    assert!(y.iter().all(|&v| v == 0.0 || v == 2.5));
    assert!(y.iter().zip(&dx).all(|(y, dx)| *dx == y / 2.0));
    let dropped = y.iter().filter(|&&v| v == 0.0).count() as f64 / N as f64;
    assert!((dropped - 0.2).abs() < 0.0064, "{dropped}");
}

#[test]
fn gradients_flow_through_location_and_scale() {
    let g = Graph::new();
    let (loc, scale) = (g.input("loc", [3], F64), g.input("scale", [], F64));
    let key = g.random_key(8);
    let z = g.normal(key, loc, scale, [4, 3], F64);
    let grads = g.grad(z.sum(..), &[loc, scale]).unwrap();
    let noise = g.standard_normal(key, [4, 3], F64).sum(..);
    let fetches = [grads[0].key(), grads[1].key(), noise.key()];
    let mut session = Session::compile(&g, Reference, &fetches, Updates::none()).unwrap();
    session.feed(loc, &[1.0, 2.0, 3.0]).unwrap();
    session.feed(scale, &[0.5]).unwrap().step().unwrap();
    assert_eq!(session.fetch::<f64>(fetches[0]).unwrap(), [4.0; 3]);
    let (by_scale, noise) = (
        session.scalar(fetches[1]).unwrap(),
        session.scalar(fetches[2]).unwrap(),
    );
    assert!((by_scale - noise).abs() < 1e-12);
}

#[test]
fn parameters_that_make_no_sense_are_errors_with_a_place() {
    type Build = for<'g> fn(&'g Graph, Tensor<'g>) -> Tensor<'g>;
    let rows: &[(&str, Build)] = &[
        ("a probability of 1.5", |g, key| g.bernoulli(key, 1.5, [3])),
        ("a probability of -0.1", |g, key| {
            g.bernoulli(key, -0.1, [3])
        }),
        ("a probability of NaN", |g, key| {
            g.bernoulli(key, f64::NAN, [3])
        }),
        ("a probability of 1", |g, key| {
            g.full([3], 1.0, F32).dropout(1.0, key)
        }),
        ("dropout: of i32", |g, key| {
            g.full([3], 1.0, I32).dropout(0.5, key)
        }),
        ("numbers from 2 to 1", |g, key| {
            g.uniform_between(key, 2.0, 1.0, [3], F32)
        }),
        ("numbers from 7 to 8", |g, key| {
            g.truncated_normal(key, (7.0, 8.0), [3], F32)
        }),
        ("a standard deviation of -1", |g, key| {
            g.normal(key, 0.0, -1.0, [3], F32)
        }),
        ("numbers of type i32", |g, key| g.uniform(key, [3], I32)),
        ("the key is not i64[2]", |g, _| {
            g.uniform(g.full([3], 0.0, I64), [3], F32)
        }),
        ("the key is not i64[2]", |g, _| {
            g.full([2], 0.0, F32).split_key::<2>()[0]
        }),
        ("fold_in: the number f64", |g, key| {
            key.fold_in(g.full([], 1.0, F64))
        }),
        ("axis 2 is out of range", |g, key| {
            g.full([3, 4], 0.0, F32).categorical(2, key)
        }),
        ("too many numbers", |g, key| {
            g.standard_normal(key, [usize::MAX, 3], F32)
        }),
    ];
    for (expected, build) in rows {
        let g = Graph::new();
        let _ = build(&g, g.random_key(1));
        let error = g.check().unwrap_err();
        assert_eq!(error.all().count(), 1, "{error}");
        let text = error.to_string();
        assert!(text.contains(expected), "{expected}: {text}");
        assert!(text.contains("randomness.rs"), "{text}");
    }
}

#[test]
fn a_computed_probability_outside_is_an_error_of_the_step() {
    let g = Graph::new();
    let p = g.input("p", [2], F32);
    let y = g.bernoulli(g.random_key(1), p, [2]);
    let mut session = Session::compile(&g, cpu(1), &[y.key()], Updates::none()).unwrap();
    session.feed(p, &[0.5f32, 1.0]).unwrap().step().unwrap();
    for bad in [-0.5, 1.5, f32::NAN] {
        session.feed(p, &[0.5, bad]).unwrap();
        let error = session.step().unwrap_err();
        assert!(error.to_string().contains("bernoulli"), "{error}");
    }
}
