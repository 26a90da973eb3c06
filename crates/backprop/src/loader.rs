//! The order in which a training sees its samples.

use std::fmt;
use std::str::{FromStr, SplitWhitespace};

use backprop_core::random::philox_block;
use backprop_core::{Error, ErrorKind, Result};

/// Keeps the order of samples apart from everything else that is drawn from the same seed.
const STREAM: i64 = i64::from_be_bytes(*b"sampling");

/// How samples are cut into batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batches {
    /// Samples in a batch.
    pub size: usize,
    /// What decides the order of each epoch; `None` for the order in which the samples lie.
    pub seed: Option<u64>,
    /// What becomes of the samples at the end of an epoch that fill no batch.
    pub partial: Partial,
}

/// What becomes of the samples at the end of an epoch that fill no batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Partial {
    /// They are left out, others in each epoch.
    #[default]
    Drop,
    /// They are a smaller batch.
    Keep,
    /// Samples from the beginning of the epoch come again to fill the batch.
    Wrap,
}

impl Batches {
    /// Batches of so many samples, in another order in each epoch.
    #[must_use]
    pub fn shuffled(size: usize, seed: u64) -> Batches {
        let seed = Some(seed);
        Batches {
            seed,
            ..Batches::in_order(size)
        }
    }

    /// Batches of so many samples, as they lie.
    #[must_use]
    pub fn in_order(size: usize) -> Batches {
        Batches {
            size,
            seed: None,
            partial: Partial::Drop,
        }
    }
}

/// Goes over samples again and again, in batches, and can start anywhere.
///
/// The order of an epoch is drawn from the seed and the number of the epoch alone (Philox, as all random
/// numbers here; the shuffle is Fisher and Yates's): it is the same on every machine, whatever was done
/// before, so that a [position](Loader::position) of a few words is all that a
/// [`Checkpoint`](crate::Checkpoint) needs of it.
///
/// ```
/// use backprop::prelude::*;
/// use backprop::{Batches, Loader};
///
/// let (pixels, labels) = (vec![0.5f32; 100 * 64], vec![3i32; 100]);
/// let mut loader = Loader::new(labels.len(), Batches::shuffled(32, 1))?;
/// let (mut xs, mut ys) = (Vec::new(), Vec::new());
/// while loader.position().epoch < 2 {
///     let batch = loader.next_batch();
///     batch.gather(&pixels, &mut xs)?;
///     batch.gather(&labels, &mut ys)?;
///     assert_eq!((xs.len(), ys.len()), (32 * 64, 32));
/// }
/// assert_eq!(loader.steps(), 6);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Loader {
    /// Of the batch that comes next.
    position: Position,
    /// The samples of an epoch in their order.
    order: Vec<usize>,
    /// Which epoch that is.
    ordered: Option<u64>,
    batch: Vec<usize>,
}

/// Where a [`Loader`] stands. Prints as a line of text, and is read from one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Position {
    /// How many times all batches were handed out.
    pub epoch: u64,
    /// How many batches were handed out since.
    pub batch: usize,
    samples: usize,
    batches: Batches,
}

impl Loader {
    /// A loader at the beginning, for samples with the numbers from 0 to `samples`.
    ///
    /// # Errors
    /// [`ErrorKind::Attribute`] without samples or with batches of 0, and if no batch is full and those
    /// that are not are dropped.
    pub fn new(samples: usize, batches: Batches) -> Result<Loader> {
        let position = Position {
            epoch: 0,
            batch: 0,
            samples,
            batches,
        };
        position.check()?;
        Ok(Loader {
            position,
            order: Vec::new(),
            ordered: None,
            batch: Vec::with_capacity(batches.size.min(samples)),
        })
    }

    /// The next batch. The one after the last of an epoch is the first of the next.
    pub fn next_batch(&mut self) -> Batch<'_> {
        let Position {
            epoch,
            batch,
            samples,
            batches,
        } = self.position;
        self.put_in_order(epoch);
        let start = batch * batches.size;
        let end = match batches.partial {
            Partial::Keep => samples.min(start + batches.size),
            Partial::Drop | Partial::Wrap => start + batches.size,
        };
        self.batch.clear();
        let taken = (start..end).map(|i| self.order[i % samples]);
        self.batch.extend(taken);
        self.position = self.position.following();
        Batch {
            indices: &self.batch,
            samples,
        }
    }

    fn put_in_order(&mut self, epoch: u64) {
        if self.ordered == Some(epoch) {
            return;
        }
        let Position {
            samples, batches, ..
        } = self.position;
        self.order.clear();
        self.order.extend(0..samples);
        if let Some(seed) = batches.seed {
            shuffle(&mut self.order, seed, epoch);
        }
        self.ordered = Some(epoch);
    }

    /// The batches of an epoch.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.position.batches_an_epoch()
    }

    /// The batches handed out since the beginning of the first epoch.
    #[must_use]
    pub fn steps(&self) -> u64 {
        let Position { epoch, batch, .. } = self.position;
        epoch
            .saturating_mul(self.batches() as u64)
            .saturating_add(batch as u64)
    }

    /// Where the loader stands.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes to a position of a loader over as many samples in the same batches.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] for that of another, [`ErrorKind::Attribute`] for a batch that an epoch
    /// does not have; the loader stays where it is.
    pub fn seek(&mut self, position: Position) -> Result<()> {
        let source = |position: &Position| (position.samples, position.batches);
        if source(&position) != source(&self.position) {
            let [expected, found] = [self.position, position].map(|position| position.source());
            let found = format!("the position of one over {found}");
            let (name, expected) = ("loader".to_owned(), format!("over {expected}"));
            return Err(Error::new(ErrorKind::Mismatch {
                name,
                expected,
                found,
            }));
        }
        position.check()?;
        self.position = position;
        Ok(())
    }
}

/// The numbers of some samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch<'a> {
    indices: &'a [usize],
    samples: usize,
}

impl<'a> Batch<'a> {
    /// The numbers of the samples.
    #[must_use]
    pub fn indices(self) -> &'a [usize] {
        self.indices
    }

    /// Puts the rows of these samples, one after the other, in place of what is in `rows`. `data` are
    /// the rows of all samples, each of the same length.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] if it cannot be cut into as many rows as there are samples; `rows` is
    /// unchanged then.
    pub fn gather<T: Copy>(self, data: &[T], rows: &mut Vec<T>) -> Result<()> {
        let width = data.len() / self.samples;
        if width * self.samples != data.len() {
            return Err(Error::new(ErrorKind::Mismatch {
                name: "data".to_owned(),
                expected: format!("rows of {} samples", self.samples),
                found: format!("{} elements, which are not as many rows", data.len()),
            }));
        }
        rows.clear();
        for index in self.indices {
            rows.extend_from_slice(&data[index * width..][..width]);
        }
        Ok(())
    }
}

impl Position {
    fn batches_an_epoch(&self) -> usize {
        match self.batches.partial {
            Partial::Drop => self.samples / self.batches.size,
            Partial::Keep | Partial::Wrap => self.samples.div_ceil(self.batches.size),
        }
    }

    fn following(self) -> Position {
        let batch = self.batch + 1;
        match batch < self.batches_an_epoch() {
            true => Position { batch, ..self },
            false => Position {
                epoch: self.epoch.wrapping_add(1),
                batch: 0,
                ..self
            },
        }
    }

    fn check(&self) -> Result<()> {
        let refused = |what: String| {
            let operation = "loader".to_owned();
            Error::new(ErrorKind::Attribute { operation, what })
        };
        let Position {
            samples, batches, ..
        } = *self;
        if samples == 0 || batches.size == 0 {
            let what = format!("batches of {} of {samples} samples", batches.size);
            return Err(refused(what));
        }
        if self.batches_an_epoch() == 0 {
            let what = format!("{samples} samples fill no batch of {}", batches.size);
            return Err(refused(what).help("make batches smaller, or partial ones `Partial::Keep`"));
        }
        if self.batch >= self.batches_an_epoch() || batches.size.checked_add(samples).is_none() {
            return Err(refused(format!("no position: `{self}`")));
        }
        Ok(())
    }

    fn source(&self) -> String {
        let Position {
            samples, batches, ..
        } = self;
        let Batches { size, partial, .. } = batches;
        let seed = self.seed();
        format!("samples={samples} size={size} seed={seed} partial={partial}")
    }

    fn seed(&self) -> String {
        let seed = self.batches.seed;
        seed.map_or_else(|| "none".to_owned(), |seed| seed.to_string())
    }
}

impl fmt::Display for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Partial::Drop => "drop",
            Partial::Keep => "keep",
            Partial::Wrap => "wrap",
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (epoch, batch) = (self.epoch, self.batch);
        write!(f, "epoch={epoch} batch={batch} {}", self.source())
    }
}

impl FromStr for Position {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::Attribute`] for anything that no position prints.
    fn from_str(text: &str) -> Result<Position> {
        let position = parse(&mut text.split_whitespace()).ok_or_else(|| {
            let operation = "loader".to_owned();
            let what = format!("no position: `{text}`");
            Error::new(ErrorKind::Attribute { operation, what })
        })?;
        position.check().map(|()| position)
    }
}

fn parse(words: &mut SplitWhitespace<'_>) -> Option<Position> {
    let mut word = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
    let position = Position {
        epoch: word("epoch")?.parse().ok()?,
        batch: word("batch")?.parse().ok()?,
        samples: word("samples")?.parse().ok()?,
        batches: Batches {
            size: word("size")?.parse().ok()?,
            seed: match word("seed")? {
                "none" => None,
                seed => Some(seed.parse().ok()?),
            },
            partial: match word("partial")? {
                "drop" => Partial::Drop,
                "keep" => Partial::Keep,
                "wrap" => Partial::Wrap,
                _ => return None,
            },
        },
    };
    words.next().is_none().then_some(position)
}

/// Fisher and Yates's shuffle, by numbers of 64 bits scaled to the range: no order is likelier than
/// another by more than a part in 2^64 for each sample.
fn shuffle(order: &mut [usize], seed: u64, epoch: u64) {
    let pair = |[a, b, c, d]: [u32; 4]| {
        [(a, b), (c, d)].map(|(low, high)| u64::from(high) << 32 | u64::from(low))
    };
    let [seed, stream] = pair(philox_block(seed as i64, STREAM, epoch)).map(|half| half as i64);
    let mut drawn = (0..).flat_map(|block| pair(philox_block(seed, stream, block)));
    for last in (1..order.len()).rev() {
        let number = u128::from(drawn.next().unwrap_or_default());
        let scaled = (number * (last as u128 + 1)) >> 64;
        order.swap(last, scaled as usize);
    }
}

#[cfg(test)]
mod tests {
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
        expect_test::expect!["[[3, 8, 9, 1, 4], [5, 0, 2, 7, 6]]"]
            .assert_eq(&format!("{orders:?}"));
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
}
