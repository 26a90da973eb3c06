//! Threads that the caller lends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::team::{Job, Team, Worker, wait_until};

/// A caller's own threads, for [`Builder::executor`](crate::Builder::executor).
///
/// Workers of a job wait for each other, so they have to run at the same time. An executor cannot do
/// wrong, only slowly: workers are counted as they come, and a job begins with those that came within
/// a millisecond of the first (all results are the same bits for any number of workers). Whoever comes
/// later finds nothing to do.
///
/// ```
/// use backprop_cpu::{Cpu, Executor};
///
/// /// Threads that live as long as a job.
/// struct Scoped(usize);
///
/// impl Executor for Scoped {
///     fn threads(&self) -> usize {
///         self.0
///     }
///
///     fn run(&self, job: &(dyn Fn() + Sync)) {
///         std::thread::scope(|scope| {
///             (1..self.0).for_each(|_| drop(scope.spawn(job)));
///             job();
///         });
///     }
/// }
///
/// let cpu = Cpu::builder().executor(Scoped(2)).build()?;
/// assert_eq!(cpu.threads(), 2);
/// # Ok::<(), backprop_core::Error>(())
/// ```
///
/// A pool of rayon needs no more than `self.0.current_num_threads()` and
/// `self.0.broadcast(|_| job())`.
pub trait Executor: Send + Sync {
    /// The number of threads that call a job.
    fn threads(&self) -> usize;

    /// Calls `job` once on each thread, on all at the same time, and returns when all calls have. The
    /// calling thread may be one of them.
    ///
    /// Only kernels that are worth more than one thread come here; the others stay on the thread that
    /// runs the step. Sessions that step at the same time call at the same time.
    fn run(&self, job: &(dyn Fn() + Sync));
}

/// How long workers wait for the others to come before they begin without them: much longer than it
/// takes to wake a thread.
const GATHERING: Duration = Duration::from_millis(1);

/// Set in the count of [`Muster`] when nobody can join any more.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// Workers as they come.
struct Muster {
    /// The most that there may be.
    most: usize,
    joined: AtomicUsize,
}

/// Runs a job with as many workers of an executor as come, at most so many.
pub(super) fn run(executor: &dyn Executor, most: usize, job: &Job<'_>) {
    let (team, muster) = (Team::new(), Muster::new(most));
    let work = || {
        if let Some((id, count)) = muster.join() {
            team.work(job, id, count);
        }
    };
    executor.run(&work);
    team.finish();
    // One that has called nobody leaves it to this thread.
    if muster.is_empty() {
        job(Worker::alone());
    }
}

impl Muster {
    fn new(most: usize) -> Self {
        Self {
            most,
            joined: AtomicUsize::new(0),
        }
    }

    /// The number of a worker that comes in time, and how many there are in the end.
    fn join(&self) -> Option<(usize, usize)> {
        let next = |joined: usize| match joined + 1 {
            // The last one closes behind itself.
            all if all == self.most => Some(all | CLOSED),
            more => (joined & CLOSED == 0).then_some(more),
        };
        let taken = self
            .joined
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        let id = taken.ok()?;
        let start = Instant::now();
        wait_until(|| self.is_closed() || start.elapsed() > GATHERING);
        let all = self.joined.fetch_or(CLOSED, Ordering::AcqRel);
        Some((id, all & !CLOSED))
    }

    fn is_closed(&self) -> bool {
        self.joined.load(Ordering::Acquire) & CLOSED != 0
    }

    fn is_empty(&self) -> bool {
        self.joined.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::thread;

    use super::super::Pool;
    use super::*;

    /// Calls a job as often as it likes, at the same time or one after the other.
    enum Odd {
        Together(usize),
        InTurn(usize),
        Late(usize),
        Twice,
        Never,
    }

    impl Executor for Odd {
        fn threads(&self) -> usize {
            3
        }

        fn run(&self, job: &(dyn Fn() + Sync)) {
            match *self {
                Odd::Together(threads) => thread::scope(|scope| {
                    (0..threads).for_each(|_| drop(scope.spawn(job)));
                }),
                Odd::InTurn(times) => (0..times).for_each(|_| job()),
                Odd::Late(threads) => thread::scope(|scope| {
                    for _ in 1..threads {
                        scope.spawn(|| {
                            thread::sleep(5 * GATHERING);
                            job();
                        });
                    }
                    job();
                }),
                Odd::Twice => (0..2).for_each(|_| Odd::Together(3).run(job)),
                Odd::Never => {}
            }
        }
    }

    const ALL: [Odd; 8] = [
        Odd::Together(3),
        Odd::Together(2),
        Odd::Together(5),
        Odd::InTurn(3),
        Odd::InTurn(1),
        Odd::Late(3),
        Odd::Twice,
        Odd::Never,
    ];

    const ITEMS: usize = if cfg!(miri) { 7 } else { 100 };
    const PHASES: usize = if cfg!(miri) { 3 } else { 20 };

    /// A job whose workers need each other, and share out their work.
    fn check(pool: &Pool) {
        let done: Vec<AtomicUsize> = (0..ITEMS).map(|_| AtomicUsize::new(0)).collect();
        pool.run(&|worker: Worker<'_>| {
            for phase in 1..PHASES {
                for item in worker.pieces(ITEMS, phase % 4).flatten() {
                    let before = done[item].swap(phase, Ordering::Relaxed);
                    assert_eq!(before, phase - 1);
                }
                worker.barrier();
                let behind = done.iter().filter(|x| x.load(Ordering::Relaxed) < phase);
                assert_eq!(behind.count(), 0);
                worker.barrier();
            }
        })
        .unwrap();
    }

    #[test]
    fn a_job_is_done_once_however_workers_come() {
        for executor in ALL {
            let pool = Pool::lent(std::sync::Arc::new(executor), 3);
            (0..3).for_each(|_| check(&pool));
        }
    }

    #[test]
    fn no_more_workers_than_asked_for() {
        for most in 2..5 {
            let pool = Pool::lent(std::sync::Arc::new(Odd::Together(6)), most);
            let ids = AtomicUsize::new(0);
            let note = |worker: Worker<'_>| {
                ids.fetch_or(1 << worker.id(), Ordering::Relaxed);
            };
            pool.run(&note).unwrap();
            assert!(ids.into_inner() < 1 << most);
        }
    }

    #[test]
    fn one_thread_needs_no_executor() {
        let pool = Pool::lent(std::sync::Arc::new(Odd::Never), 1);
        let here = thread::current().id();
        pool.run(&|worker| assert_eq!((worker.id(), thread::current().id()), (0, here)))
            .unwrap();
    }

    #[test]
    fn a_panic_reaches_the_caller_whatever_the_executor() {
        for executor in ALL {
            let pool = Pool::lent(std::sync::Arc::new(executor), 3);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|worker| {
                    if worker.id() == 0 {
                        resume_unwind(Box::new(7_usize));
                    }
                    worker.barrier();
                })
            }));
            let payload = outcome.unwrap_err();
            assert_eq!(payload.downcast_ref::<usize>(), Some(&7));
            check(&pool);
        }
    }

    #[test]
    fn callers_at_the_same_time_have_teams_of_their_own() {
        let pool = Pool::lent(std::sync::Arc::new(Odd::Together(2)), 2);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (1..PHASES).for_each(|_| check(&pool)));
            }
        });
    }
}
