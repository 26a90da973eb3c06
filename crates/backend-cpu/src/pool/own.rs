//! The engine's own threads: a fixed set that runs one job at a time.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use backprop_core::{Error, ErrorKind, Result};
use once_cell::sync::OnceCell;

use super::Padded;
use super::team::{Job, LOOKS, Team, Worker, wait_until};

/// How long an idle thread spins before it parks: longer than the serial gaps within a step.
const LINGER: Duration = Duration::from_micros(100);

/// A persistent pool of threads. Dropping it stops and joins them.
pub(super) struct Own {
    threads: usize,
    shared: Arc<Shared>,
    helpers: OnceCell<Vec<JoinHandle<()>>>,
    busy: AtomicBool,
}

/// What the threads of a pool see of each other.
struct Shared {
    /// Number of jobs published so far; a change is the signal to start.
    epoch: Padded<AtomicUsize>,
    /// Workers of the current job that are not done, worker 0 aside.
    running: Padded<AtomicUsize>,
    /// Of each worker, the last job that somebody began to run it in.
    begun: Box<[Padded<AtomicUsize>]>,
    parked: Box<[AtomicBool]>,
    stop: AtomicBool,
    team: Team,
    job: UnsafeCell<Option<*const Job<'static>>>,
}

// SAFETY: every field but `job` is Sync by itself. `job` is written only by the thread that holds
// `Own::busy` while no worker runs (`running == 0`), and read only by who has begun a worker of
// that job.
unsafe impl Sync for Shared {}
// SAFETY: the pointee of `job` is `Sync`, so it may be used from any thread.
unsafe impl Send for Shared {}

impl Own {
    /// At least 2 threads, the caller included. They start on first use.
    pub(super) fn new(threads: usize) -> Self {
        Self {
            threads,
            shared: Arc::new(Shared::new(threads)),
            helpers: OnceCell::new(),
            busy: AtomicBool::new(false),
        }
    }

    /// As [`Pool::run`](super::Pool::run).
    pub(super) fn run(&self, job: &Job<'_>) -> Result<()> {
        let helpers = self.helpers.get_or_try_init(|| self.spawn())?;
        let Some(_turn) = Turn::take(&self.busy) else {
            job(Worker::alone());
            return Ok(());
        };
        let shared = &*self.shared;
        let epoch = shared.publish(job, helpers);
        let passed = shared.team.passed();
        shared.work(0);
        if shared.team.passed() == passed {
            shared.take_over(epoch);
        }
        wait_until(|| shared.running.0.load(Ordering::Acquire) == 0);
        shared.team.finish();
        Ok(())
    }

    fn spawn(&self) -> Result<Vec<JoinHandle<()>>> {
        let mut helpers = Vec::with_capacity(self.threads - 1);
        for id in 1..self.threads {
            let shared = Arc::clone(&self.shared);
            let epoch = shared.epoch.0.load(Ordering::Acquire);
            shared.begun[id].0.store(epoch, Ordering::Relaxed);
            let started = thread::Builder::new()
                .name(format!("backprop-{id}"))
                .spawn(move || shared.serve(id, epoch));
            match started {
                Ok(helper) => helpers.push(helper),
                Err(error) => {
                    self.shared.dismiss(helpers);
                    return Err(Error::new(ErrorKind::Device {
                        what: format!("thread {id} of {} did not start: {error}", self.threads),
                    }));
                }
            }
        }
        Ok(helpers)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(helpers) = self.helpers.take() {
            self.shared.dismiss(helpers);
        }
    }
}

impl Shared {
    fn new(threads: usize) -> Self {
        Self {
            epoch: Padded(AtomicUsize::new(0)),
            running: Padded(AtomicUsize::new(0)),
            begun: (0..threads).map(|_| Padded(AtomicUsize::new(0))).collect(),
            parked: (0..threads).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            team: Team::new(),
            job: UnsafeCell::new(None),
        }
    }

    /// Hands `job` to the helpers. The caller must hold the turn and wait for `running == 0` before
    /// it returns. Returns the job's number.
    fn publish(&self, job: &Job<'_>, helpers: &[JoinHandle<()>]) -> usize {
        // SAFETY: only the lifetime changes. `Own::run` does not return, by unwinding either,
        // before `running == 0`, after which no helper touches the job; so the borrow outlives
        // every use.
        let job = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) };
        // SAFETY: the caller holds the turn and `running == 0`, so nobody reads the cell now.
        unsafe { *self.job.get() = Some(job) };
        self.team.reset();
        self.running.0.store(helpers.len(), Ordering::Relaxed);
        let before = self.epoch.0.fetch_add(1, Ordering::SeqCst);
        self.wake(helpers);
        before.wrapping_add(1)
    }

    /// Runs the workers that no helper has begun yet, in a job without barriers.
    fn take_over(&self, epoch: usize) {
        for id in 1..self.begun.len() {
            if self.begin(id, epoch) {
                self.work(id);
                self.running.0.fetch_sub(1, Ordering::Release);
            }
        }
    }

    /// Whether the caller is the one to run this worker in this job, which then waits for it to be
    /// done.
    fn begin(&self, id: usize, epoch: usize) -> bool {
        let before = epoch.wrapping_sub(1);
        let begun = &self.begun[id].0;
        begun
            .compare_exchange(before, epoch, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Wakes helpers that have parked. A helper announces that before its last look at `epoch`, and
    /// both sides are sequentially consistent: either it sees the new epoch, or it is seen here.
    fn wake(&self, helpers: &[JoinHandle<()>]) {
        for (helper, parked) in helpers.iter().zip(&self.parked[1..]) {
            if parked.load(Ordering::SeqCst) {
                helper.thread().unpark();
            }
        }
    }

    fn dismiss(&self, helpers: Vec<JoinHandle<()>>) {
        self.stop.store(true, Ordering::SeqCst);
        self.epoch.0.fetch_add(1, Ordering::SeqCst);
        self.wake(&helpers);
        for helper in helpers {
            // A helper catches the panics of jobs, so it has nothing to report.
            let _ = helper.join();
        }
        self.stop.store(false, Ordering::SeqCst);
    }

    /// The life of a helper thread that starts after job `epoch`.
    fn serve(&self, id: usize, mut epoch: usize) {
        loop {
            epoch = self.await_change(id, epoch);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            if self.begin(id, epoch) {
                self.work(id);
                self.running.0.fetch_sub(1, Ordering::Release);
            }
        }
    }

    /// Spins, then parks, until another job than `epoch` is the current one, and returns that.
    fn await_change(&self, id: usize, epoch: usize) -> usize {
        let start = Instant::now();
        while start.elapsed() < LINGER {
            for _ in 0..LOOKS {
                let now = self.epoch.0.load(Ordering::Acquire);
                if now != epoch {
                    return now;
                }
                std::hint::spin_loop();
            }
        }
        self.parked[id].store(true, Ordering::SeqCst);
        let mut now = self.epoch.0.load(Ordering::SeqCst);
        while now == epoch {
            thread::park();
            now = self.epoch.0.load(Ordering::SeqCst);
        }
        self.parked[id].store(false, Ordering::SeqCst);
        now
    }

    /// One worker's part of the current job. Never unwinds.
    fn work(&self, id: usize) {
        // SAFETY: whoever comes here wrote `job`, or has begun a worker of it, which only the
        // number of this very job allows; the next write waits for `running == 0`, hence for this
        // worker.
        let job = unsafe { *self.job.get() };
        let Some(job) = job else { return };
        // SAFETY: `Own::run` keeps the job borrowed until all workers are done with it.
        let job = unsafe { &*job };
        self.team.work(job, id, self.parked.len());
    }
}

/// The exclusive right to use the helpers.
struct Turn<'a>(&'a AtomicBool);

impl<'a> Turn<'a> {
    fn take(busy: &'a AtomicBool) -> Option<Self> {
        let taken = busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok().then(|| Self(busy))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::super::Pool;
    use super::*;

    /// The ids that took part in one run.
    #[track_caller]
    fn check_run(pool: &Pool) {
        let sum = AtomicUsize::new(0);
        let count = AtomicUsize::new(0);
        pool.run(&|worker| {
            sum.fetch_add(worker.id(), Ordering::Relaxed);
            count.store(worker.count, Ordering::Relaxed);
        })
        .unwrap();
        let count = count.into_inner();
        assert_eq!(sum.into_inner(), count * (count - 1) / 2);
    }

    #[test]
    fn every_worker_runs_every_job_once() {
        for threads in [0, 1, 2, 3, 5] {
            let pool = Pool::new(threads);
            for _ in 0..if cfg!(miri) { 10 } else { 500 } {
                check_run(&pool);
            }
        }
    }

    #[test]
    fn jobs_after_a_pause_wake_the_parked() {
        let pool = Pool::new(3);
        for _ in 0..5 {
            check_run(&pool);
            thread::sleep(LINGER * 5);
        }
    }

    #[test]
    fn barriers_separate_phases() {
        let pool = Pool::new(3);
        let cells: Vec<AtomicUsize> = (0..3).map(|_| AtomicUsize::new(0)).collect();
        pool.run(&|worker| {
            for phase in 1..if cfg!(miri) { 5 } else { 200 } {
                cells[worker.id()].store(phase, Ordering::Relaxed);
                worker.barrier();
                for cell in &cells[..worker.count] {
                    assert_eq!(cell.load(Ordering::Relaxed), phase);
                }
                worker.barrier();
            }
        })
        .unwrap();
    }

    #[test]
    fn a_job_inside_a_job_runs_alone() {
        let pool = Pool::new(2);
        let inner = AtomicUsize::new(0);
        pool.run(&|_| {
            pool.run(&|worker| {
                assert_eq!((worker.id(), worker.count), (0, 1));
                worker.barrier();
                inner.fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();
        })
        .unwrap();
        assert_eq!(inner.into_inner(), 2);
    }

    #[test]
    fn concurrent_callers_all_finish() {
        let pool = Pool::new(2);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..if cfg!(miri) { 10 } else { 200 } {
                        check_run(&pool);
                    }
                });
            }
        });
    }

    /// A job in which worker `culprit` panics while the others wait at a barrier.
    #[track_caller]
    fn check_panic(pool: &Pool, culprit: usize) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|worker| {
                if worker.id() == culprit {
                    resume_unwind(Box::new(culprit));
                }
                worker.barrier();
            })
        }));
        let payload = outcome.unwrap_err();
        assert_eq!(payload.downcast_ref::<usize>(), Some(&culprit));
        check_run(pool);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        for culprit in [0, 1, 2, 0, 2] {
            check_panic(&pool, culprit);
        }
    }

    /// Wastes time in one way or another, or none, as `salt` says.
    fn dawdle(salt: usize) {
        let mixed = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59;
        match mixed {
            0..=3 => thread::yield_now(),
            4..=6 => (0..200 * mixed).for_each(|_| std::hint::spin_loop()),
            7 => thread::sleep(LINGER / 2),
            8 => thread::sleep(LINGER * 2),
            _ => {}
        }
    }

    /// A job of some phases, after which all are together, in which every worker dawdles as it likes;
    /// worker 0 panics in the end if `fails`.
    fn check_dawdling(pool: &Pool, (salt, phases, fails): (usize, usize, bool)) {
        const ITEMS: usize = 37;
        let done: Vec<AtomicUsize> = (0..ITEMS).map(|_| AtomicUsize::new(0)).collect();
        let count = |times: usize| {
            done.iter()
                .filter(|x| x.load(Ordering::Relaxed) == times)
                .count()
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|worker| {
                for phase in 0..phases.max(1) {
                    dawdle(salt + 16 * phase + worker.id());
                    for item in worker.pieces(ITEMS, 1 + salt % 5).flatten() {
                        done[item].fetch_add(1, Ordering::Relaxed);
                    }
                    // A job without phases has no barrier.
                    if phases > 0 {
                        worker.barrier();
                        assert_eq!(count(phase + 1), ITEMS);
                        worker.barrier();
                    }
                }
                if fails && worker.id() == 0 {
                    resume_unwind(Box::new(salt));
                }
                dawdle(salt + 7 * worker.id());
            })
        }));
        assert_eq!(count(phases.max(1)), ITEMS);
        match outcome {
            Ok(ran) => assert!(ran.is_ok() && !fails),
            Err(payload) => assert_eq!(payload.downcast_ref::<usize>(), Some(&salt)),
        }
    }

    #[test]
    fn jobs_are_whole_whatever_the_timing() {
        let jobs = if cfg!(miri) { 6 } else { 150 };
        for threads in [2, 3, 5] {
            let pool = Pool::new(threads);
            thread::scope(|scope| {
                for caller in 0..2 {
                    let pool = &pool;
                    scope.spawn(move || {
                        for job in 0..jobs {
                            let salt = 1000 * job + 500 * caller + threads;
                            check_dawdling(pool, (salt, job % 3, job % 5 == 0));
                            dawdle(salt + 3);
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn dropping_stops_threads_that_spin_parked_or_never_started() {
        drop(Pool::new(3));
        let pool = Pool::new(3);
        check_run(&pool);
        drop(pool);
        let pool = Pool::new(3);
        check_run(&pool);
        thread::sleep(LINGER * 10);
        drop(pool);
    }
}
