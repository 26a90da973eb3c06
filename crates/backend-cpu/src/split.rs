//! Whether a kernel is worth the other threads.

use backprop_core::Result;

use crate::pool::{Pool, Worker};

/// How a kernel's launches are spread over threads. Results do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    Alone,
    Pool,
}

/// Additions that take about as long as the handing over to other threads pays for.
const WORTHWHILE: usize = 1 << 16;

impl Split {
    /// For a launch that costs as much as so many vectorised additions.
    pub(crate) fn of(cost: usize) -> Split {
        if cost < WORTHWHILE {
            Split::Alone
        } else {
            Split::Pool
        }
    }

    /// Runs `job` on every worker there is to be.
    pub(crate) fn run(self, pool: &Pool, job: &(dyn Fn(Worker<'_>) + Sync)) -> Result<()> {
        match self {
            Split::Alone => {
                job(Worker::alone());
                Ok(())
            }
            Split::Pool => pool.run(job),
        }
    }
}
