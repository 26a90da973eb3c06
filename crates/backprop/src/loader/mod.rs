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
mod tests;
