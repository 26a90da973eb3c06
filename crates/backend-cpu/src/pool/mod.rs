//! The threads that kernels run on: a pool of the engine's own, or what the caller lends.
//!
//! Kernels take microseconds, so waking a parked thread (about 25 us) would cost more than most of
//! them. Idle threads of the own pool therefore spin for a moment after each job, long enough to
//! bridge the gaps within a training step, and park only then. The calling thread takes part as worker
//! 0, so a pool of one thread owns none.
//!
//! Work is divided by the jobs themselves: every worker computes its own share from its id, the same one
//! in every launch, so that it finds in its caches what it left there. Where shares are cut into pieces,
//! one that is done takes over what others have not begun: on a machine that has other work too, workers
//! are rarely equally fast.
//!
//! Whoever comes first runs a worker: normally a thread of its own, but if that thread is still waking
//! up, or the machine is busy with other things, the caller does its share too rather than wait (unless
//! the job has barriers, where workers need each other). As no result of a kernel depends on the number
//! of workers, a caller that finds the pool busy (another session, or a job that starts a job) simply
//! runs its own job alone instead of waiting.

mod executor;
mod own;
mod team;

use std::fmt;
use std::sync::Arc;

use backprop_core::Result;

pub use executor::Executor;
pub(crate) use team::{Shares, Worker, share};

use own::Own;
use team::Job;

/// Threads that run one job at a time together.
pub(crate) struct Pool {
    threads: usize,
    source: Source,
}

enum Source {
    Own(Own),
    Lent(Arc<dyn Executor>),
}

/// Keeps atomics written by different threads on different cache lines (pairs of lines are fetched
/// together).
#[repr(align(128))]
struct Padded<T>(T);

impl Pool {
    /// A pool of `threads` threads, the caller included; 0 counts as 1. Threads start on first use.
    pub(crate) fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        Self {
            threads,
            source: Source::Own(Own::new(threads)),
        }
    }

    /// At most `threads` workers on the threads of an executor; 0 counts as 1.
    pub(crate) fn lent(executor: Arc<dyn Executor>, threads: usize) -> Self {
        Self {
            threads: threads.max(1),
            source: Source::Lent(executor),
        }
    }

    /// The most workers a job can have.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `job` once for each worker, on all threads at the same time, and returns when all are
    /// done. (A thread that comes late finds its worker run by the caller, or finds none.)
    ///
    /// A job that starts while the own threads are at another one has the calling thread as its only
    /// worker. A panic in a worker is raised again here, after all workers have stopped.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](backprop_core::ErrorKind::Device) when the system refuses to start a
    /// thread on first use.
    pub(crate) fn run(&self, job: &Job<'_>) -> Result<()> {
        match &self.source {
            _ if self.threads == 1 => job(Worker::alone()),
            Source::Own(own) => return own.run(job),
            Source::Lent(executor) => executor::run(&**executor, self.threads, job),
        }
        Ok(())
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
