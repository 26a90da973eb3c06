//! The workers of one job: their shares, their barriers, and what happens when one panics.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Padded;

/// How long a thread spins for its teammates before it gives its processor away between looks.
/// On a crowded machine the teammate may be waiting for that very processor.
const PATIENCE: Duration = Duration::from_micros(20);
/// Pieces into which a worker's share is cut where the others may take over what it has not begun.
const EACH: usize = 8;
/// Pieces of which is known whether they have been begun: a bit each.
const PIECES: usize = 4 * WORD;
/// Bits of a word.
const WORD: usize = u64::BITS as usize;
/// Looks at an atomic between two readings of the clock.
pub(super) const LOOKS: u32 = 64;

pub(super) type Job<'a> = dyn Fn(Worker<'_>) + Sync + 'a;
type Payload = Box<dyn Any + Send>;

/// One participant of a running job.
#[derive(Clone, Copy)]
pub(crate) struct Worker<'a> {
    pub(super) id: usize,
    pub(super) count: usize,
    team: Option<&'a Team>,
}

/// What the workers of a job see of each other.
pub(super) struct Team {
    /// Workers that have reached the current barrier.
    arrived: Padded<AtomicUsize>,
    /// Number of barriers passed so far.
    passed: Padded<AtomicUsize>,
    /// A bit for each piece of the current phase that somebody has begun.
    begun: Padded<[AtomicU64; PIECES / WORD]>,
    /// Workers that have asked for pieces in this phase, counted where that is checked.
    asked: AtomicUsize,
    /// A worker of the current job has panicked; barriers must not wait for it.
    broken: AtomicBool,
    payload: Mutex<Option<Payload>>,
}

impl Worker<'_> {
    /// The only worker of a job.
    pub(crate) fn alone() -> Self {
        Self {
            id: 0,
            count: 1,
            team: None,
        }
    }

    /// This worker's number, below the number of workers of the job.
    pub(crate) fn id(&self) -> usize {
        self.id
    }

    /// This worker's contiguous share of `len` items; shares differ by at most one item.
    pub(crate) fn share(&self, len: usize) -> Range<usize> {
        share(len, self.id, self.count)
    }

    /// Pieces of `len` items, each of at least so many: first those of this worker's share, then what the
    /// others have not begun yet. So a worker that the machine holds up does not hold up the rest, and one
    /// that is not held up works where it always does.
    ///
    /// All workers ask for the same, and only once before each barrier.
    pub(crate) fn pieces(&self, len: usize, least: usize) -> impl Iterator<Item = Range<usize>> {
        let most = match self.team {
            Some(_) => (self.count * EACH).min(PIECES).max(self.count),
            None => 1,
        };
        let pieces = (len / least.max(1)).clamp(self.count.min(len).max(1), most);
        let teammates = match pieces <= PIECES {
            true => self.count - 1,
            false => 0,
        };
        debug_assert!(
            self.team.is_none_or(|team| team.ask() < self.count),
            "pieces are asked for once in a phase"
        );
        let own = move |id: usize| share(pieces, id % self.count, self.count);
        let others = (1..=teammates).flat_map(move |next| own(self.id + next).rev());
        let is_mine = move |&piece: &usize| self.team.is_none_or(|team| team.begin(piece));
        let range = move |piece: usize| share(len, piece, pieces);
        own(self.id).chain(others).filter(is_mine).map(range)
    }

    /// The items of such pieces, each of which is worth it.
    pub(crate) fn items(&self, len: usize) -> impl Iterator<Item = usize> {
        self.pieces(len, 1).flatten()
    }

    /// Waits until every worker of the job has come here. What they wrote before is visible
    /// afterwards.
    ///
    /// Every worker must make the same number of calls. If one of them has panicked, the others
    /// unwind from here.
    pub(crate) fn barrier(&self) {
        if let Some(team) = self.team {
            team.barrier(self.count);
        }
    }
}

impl fmt::Debug for Worker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker {} of {}", self.id, self.count)
    }
}

/// Part `index` of `len` items cut into `parts` contiguous parts whose lengths differ by at most
/// one.
pub(crate) fn share(len: usize, index: usize, parts: usize) -> Range<usize> {
    Shares::new(len, parts).part(index)
}

/// Such parts, where dividing for each of them would show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    pub(crate) base: usize,
    /// How many parts have one item more: the first ones.
    pub(crate) longer: usize,
}

impl Shares {
    pub(crate) fn new(len: usize, parts: usize) -> Self {
        Self {
            base: len / parts,
            longer: len % parts,
        }
    }

    /// As few parts as there can be, none of more than `most` items.
    pub(crate) fn of_at_most(len: usize, most: usize) -> Self {
        Self::new(len, len.div_ceil(most).max(1))
    }

    #[inline]
    pub(crate) fn part(self, index: usize) -> Range<usize> {
        let start = index * self.base + index.min(self.longer);
        start..start + self.base + usize::from(index < self.longer)
    }
}

impl Team {
    pub(super) fn new() -> Self {
        Self {
            arrived: Padded(AtomicUsize::new(0)),
            passed: Padded(AtomicUsize::new(0)),
            begun: Padded([const { AtomicU64::new(0) }; PIECES / WORD]),
            asked: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            payload: Mutex::new(None),
        }
    }

    /// Gets ready for the next job, once nobody works on the one before.
    pub(super) fn reset(&self) {
        self.arrived.0.store(0, Ordering::Relaxed);
        self.broken.store(false, Ordering::Relaxed);
        self.begin_phase();
    }

    /// Gives all pieces back, once nobody asks for any.
    fn begin_phase(&self) {
        for word in &self.begun.0 {
            word.store(0, Ordering::Relaxed);
        }
        self.asked.store(0, Ordering::Relaxed);
    }

    /// How many workers have asked for pieces before.
    fn ask(&self) -> usize {
        self.asked.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the caller is the first to begin a piece, which nobody else does if it has no bit.
    fn begin(&self, piece: usize) -> bool {
        let Some(word) = self.begun.0.get(piece / WORD) else {
            return true;
        };
        let bit = 1 << (piece % WORD);
        word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Number of barriers passed so far.
    pub(super) fn passed(&self) -> usize {
        self.passed.0.load(Ordering::Relaxed)
    }

    /// Worker `id` of `count` does its part of a job. Never unwinds.
    pub(super) fn work(&self, job: &Job<'_>, id: usize, count: usize) {
        let worker = Worker {
            id,
            count,
            team: Some(self),
        };
        // Shared state a panic leaves half done is the business of whoever catches it where the job
        // was started.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| job(worker))) {
            let mut kept = self.payload.lock().unwrap_or_else(PoisonError::into_inner);
            kept.get_or_insert(payload);
            self.broken.store(true, Ordering::Release);
        }
    }

    /// Goes on with the first panic of the job, if there was one, once nobody works on it.
    pub(super) fn finish(&self) {
        if self.broken.load(Ordering::Acquire) {
            let mut kept = self.payload.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(payload) = kept.take() {
                drop(kept);
                resume_unwind(payload);
            }
        }
    }

    fn barrier(&self, count: usize) {
        let passed = self.passed();
        if self.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == count {
            self.arrived.0.store(0, Ordering::Relaxed);
            self.begin_phase();
            self.passed.0.fetch_add(1, Ordering::Release);
            return;
        }
        let open = || self.passed.0.load(Ordering::Acquire) != passed;
        wait_until(|| open() || self.broken.load(Ordering::Acquire));
        if !open() {
            resume_unwind(Box::new("a teammate panicked"));
        }
    }
}

/// Spins for [`PATIENCE`], then yields between looks, until `done`.
pub(super) fn wait_until(done: impl Fn() -> bool) {
    let start = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if done() {
                return;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > PATIENCE {
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for (len, parts) in [(0, 1), (0, 3), (1, 3), (7, 3), (9, 3), (100, 7), (5, 5)] {
            let joined: Vec<usize> = (0..parts).flat_map(|i| share(len, i, parts)).collect();
            assert_eq!(joined, (0..len).collect::<Vec<_>>(), "{len} in {parts}");
            let longest = (0..parts).map(|i| share(len, i, parts).len()).max();
            assert_eq!(longest, Some(len.div_ceil(parts)));
        }
    }
}
