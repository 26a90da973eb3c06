use super::*;

fn epoch(loader: &mut Loader) -> Vec<Vec<usize>> {
    let batches = 0..loader.batches();
    batches
        .map(|_| loader.next_batch().indices().to_vec())
        .collect()
}

fn loader(samples: usize, size: usize, partial: Partial) -> Loader {
    let batches = Batches {
        partial,
        ..Batches::shuffled(size, 5)
    };
    Loader::new(samples, batches).unwrap()
}

#[test]
fn an_epoch_has_every_sample_once_in_an_order_of_its_own() {
    let mut loader = loader(97, 10, Partial::Keep);
    let [first, second] = [epoch(&mut loader), epoch(&mut loader)];
    assert_ne!(first, second);
    for epoch in [first, second] {
        assert_eq!((epoch.len(), epoch[9].len()), (10, 7));
        let mut all = epoch.concat();
        assert_ne!(all, (0..97).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..97).collect::<Vec<_>>());
    }
    let orders = [0, 1, 2]
        .map(|seed| epoch(&mut Loader::new(97, Batches::shuffled(97, seed)).unwrap()).concat());
    assert!(orders[0] != orders[1] && orders[1] != orders[2]);
}

#[test]
fn what_fills_no_batch_is_dropped_or_kept_or_filled_up() {
    let all = epoch(&mut loader(10, 10, Partial::Drop)).concat();
    let cut = |partial| epoch(&mut loader(10, 4, partial));
    let full = [&all[..4], &all[4..8]];
    assert_eq!(cut(Partial::Drop), full);
    assert_eq!(cut(Partial::Keep), [full[0], full[1], &all[8..]]);
    let filled = [&all[8..], &all[..2]].concat();
    assert_eq!(cut(Partial::Wrap), [full[0], full[1], &filled]);
    // A batch that takes all samples more than once.
    let many = epoch(&mut loader(10, 25, Partial::Wrap)).concat();
    assert_eq!(many, [&all[..], &all, &all[..5]].concat());
    assert_eq!(epoch(&mut loader(10, 25, Partial::Keep)), [all]);
    let mut in_order = Loader::new(5, Batches::in_order(2)).unwrap();
    for _ in 0..2 {
        assert_eq!(epoch(&mut in_order), [[0, 1], [2, 3]]);
    }
}

#[test]
fn a_loader_goes_on_from_any_position_it_had() {
    for partial in [Partial::Drop, Partial::Keep, Partial::Wrap] {
        let mut whole = loader(23, 5, partial);
        let mut seen = Vec::new();
        for _ in 0..3 * whole.batches() {
            seen.push((whole.position(), whole.next_batch().indices().to_vec()));
        }
        for (step, (position, _)) in seen.iter().enumerate().rev() {
            let mut resumed = loader(23, 5, partial);
            let printed = position.to_string();
            resumed.seek(printed.parse().unwrap()).unwrap();
            assert_eq!(resumed.steps(), step as u64);
            for (position, indices) in &seen[step..] {
                assert_eq!(resumed.position(), *position);
                assert_eq!(resumed.next_batch().indices(), indices);
            }
        }
    }
}

/// Over 2400 epochs: of each of the 24 orders of four samples, 100 are expected. Pearson's statistic
/// has 23 degrees of freedom: mean 23, standard deviation 6.8.
#[test]
fn all_orders_are_equally_likely() {
    let mut loader = Loader::new(4, Batches::shuffled(4, 1)).unwrap();
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..2400 {
        let order = loader.next_batch().indices().to_vec();
        *counts.entry(order).or_insert(0.0) += 1.0;
    }
    let square = |count: &f64| (count - 100.0).powi(2) / 100.0;
    let statistic: f64 = counts.values().map(square).sum();
    assert!(counts.len() == 24 && statistic < 57.0, "{statistic}");
}

/// Runs of earlier versions are repeated by later ones.
#[test]
fn the_order_of_a_seed_never_changes() {
    let orders = epoch(&mut loader(10, 5, Partial::Drop));
    expect_test::expect!["[[3, 8, 9, 1, 4], [5, 0, 2, 7, 6]]"].assert_eq(&format!("{orders:?}"));
    let position = loader(10, 5, Partial::Wrap).position().to_string();
    expect_test::expect!["epoch=0 batch=0 samples=10 size=5 seed=5 partial=wrap"]
        .assert_eq(&position);
}

#[test]
fn rows_are_gathered_in_the_order_of_the_batch() {
    let mut loader = loader(4, 3, Partial::Keep);
    let data: Vec<usize> = (0..4).flat_map(|i| [i, 10 * i]).collect();
    let mut rows = vec![7];
    let batch = loader.next_batch();
    batch.gather(&data, &mut rows).unwrap();
    let expected: Vec<usize> = batch.indices().iter().flat_map(|&i| [i, 10 * i]).collect();
    assert_eq!(rows, expected);
    let error = batch.gather(&data[1..], &mut rows).unwrap_err();
    assert!(error.to_string().contains("rows of 4 samples"), "{error}");
    assert_eq!(rows, expected);
}

#[test]
fn loaders_that_make_no_sense_are_errors() {
    #[track_caller]
    fn check(samples: usize, batches: Batches, said: &str) {
        let error = Loader::new(samples, batches).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Attribute { .. }));
        assert!(error.to_string().contains(said), "{error}");
    }
    check(0, Batches::in_order(1), "batches of 1 of 0 samples");
    check(3, Batches::in_order(0), "batches of 0 of 3 samples");
    check(3, Batches::shuffled(4, 1), "3 samples fill no batch of 4");
    let kept = Batches {
        partial: Partial::Keep,
        ..Batches::in_order(usize::MAX)
    };
    check(3, kept, "no position");
}

#[test]
fn a_position_of_another_loader_is_refused() {
    let mut at = loader(23, 5, Partial::Drop);
    at.next_batch();
    let before = at.position();
    for other in [
        loader(24, 5, Partial::Drop),
        loader(23, 6, Partial::Drop),
        loader(23, 5, Partial::Keep),
    ] {
        let error = at.seek(other.position()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Mismatch { .. }));
        assert_eq!(at.position(), before);
    }
    let beyond = Position { batch: 4, ..before };
    assert!(at.seek(beyond).is_err() && at.position() == before);
    let good = before.to_string();
    for (from, to) in [
        ("batch=1", "batch=4"),
        ("batch=1", "batch=-1"),
        ("epoch", "epo"),
        ("size=5", "size=0"),
        ("drop", "skip"),
        ("seed=5", "seed="),
        (" size=5", ""),
        ("samples=23", "samples=18446744073709551616"),
    ] {
        let bad = good.replace(from, to);
        assert!(bad != good && bad.parse::<Position>().is_err(), "{bad}");
    }
    for bad in ["", "epoch=1", &format!("{good} more=1")] {
        assert!(bad.parse::<Position>().is_err(), "{bad}");
    }
}
