//! The workers of one job: their shares, their barriers, and what happens when one panics.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Padded;

/// How long a thread spins for its teammates before it gives its processor away between looks.
/// On a crowded machine the teammate may be waiting for that very processor.
const PATIENCE: Duration = Duration::from_micros(20);
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
    let (base, longer) = (len / parts, len % parts);
    let start = index * base + index.min(longer);
    start..start + base + usize::from(index < longer)
}

impl Team {
    pub(super) fn new() -> Self {
        Self {
            arrived: Padded(AtomicUsize::new(0)),
            passed: Padded(AtomicUsize::new(0)),
            broken: AtomicBool::new(false),
            payload: Mutex::new(None),
        }
    }

    /// Gets ready for the next job, once nobody works on the one before.
    pub(super) fn reset(&self) {
        self.arrived.0.store(0, Ordering::Relaxed);
        self.broken.store(false, Ordering::Relaxed);
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
