//! What a [`Cpu`](crate::Cpu) runs with.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;

use backprop_core::{Error, ErrorKind, Result};

use crate::pool::Pool;
use crate::{Cpu, Executor, Level};

/// The environment variable that forces a level.
const LEVEL: &str = "BACKPROP_CPU_LEVEL";

/// More threads than any machine is likely to have processors. Starting so many that the system runs
/// out of room for them would end the process.
const MOST_THREADS: usize = 1024;

/// How elementwise programs run. Their results are the same bits either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Programs {
    /// As machine code made for each program, where the processor (x86-64 with AVX2) and the system
    /// allow it, and interpreted elsewhere.
    #[default]
    Compiled,
    /// Step by step, a tile at a time.
    Interpreted,
}

/// Chooses threads and instructions for a [`Cpu`].
#[derive(Debug, Clone, Default)]
pub struct Builder {
    threads: Option<usize>,
    level: Option<Level>,
    programs: Programs,
    executor: Option<Lent>,
}

#[derive(Clone)]
struct Lent(Arc<dyn Executor>);

impl Builder {
    /// Runs kernels on `threads` threads, the calling one included (0 counts as 1). By default as
    /// many as there are processors for this program, or in its [executor](Builder::executor); at
    /// most 1024. One thread makes no pool: everything runs on the thread that calls.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Builder {
        self.threads = Some(threads);
        self
    }

    /// Runs kernels on the threads of an executor, instead of on threads of the backend's own.
    #[must_use]
    pub fn executor(mut self, executor: impl Executor + 'static) -> Builder {
        self.executor = Some(Lent(Arc::new(executor)));
        self
    }

    /// Uses these vector instructions. By default those that the environment variable
    /// `BACKPROP_CPU_LEVEL` names (`scalar`, `neon`, `avx2` or `avx512`), or the largest level. Another
    /// level gives results that differ in their last bits, and those of a smaller machine.
    #[must_use]
    pub fn level(mut self, level: Level) -> Builder {
        self.level = Some(level);
        self
    }

    /// Runs elementwise programs this way.
    #[must_use]
    pub fn programs(mut self, programs: Programs) -> Builder {
        self.programs = programs;
        self
    }

    /// Makes the backend. Threads start with the first kernel that needs them.
    ///
    /// # Errors
    /// If this machine has not the level asked for, or more threads are asked for than 1024.
    pub fn build(self) -> Result<Cpu> {
        let level = match self.level {
            Some(level) => level,
            None => named(std::env::var(LEVEL).ok())?,
        };
        if !level.is_available() {
            return Err(refused(format!("this machine has no {level} instructions")));
        }
        let there_are = match &self.executor {
            Some(Lent(executor)) => executor.threads(),
            None => std::thread::available_parallelism().map_or(1, NonZero::get),
        };
        let threads = self.threads.unwrap_or(there_are.min(MOST_THREADS));
        if threads > MOST_THREADS {
            return Err(refused(format!(
                "{threads} threads are more than {MOST_THREADS}"
            )));
        }
        Ok(Cpu {
            pool: Arc::new(match self.executor {
                // More than it has would never come.
                Some(Lent(executor)) => Pool::lent(executor, threads.min(there_are)),
                None => Pool::new(threads),
            }),
            level,
            programs: self.programs,
        })
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executor of {} threads", self.0.threads())
    }
}

/// The level that the environment asks for.
fn named(name: Option<String>) -> Result<Level> {
    match name {
        Some(name) => Level::from_name(&name).ok_or_else(|| {
            let known = Level::ALL.map(|level| level.to_string()).join(", ");
            refused(format!("{LEVEL} is `{name}`, which is none of {known}"))
        }),
        None => Ok(Level::detect()),
    }
}

fn refused(what: String) -> Error {
    Error::new(ErrorKind::Device { what })
}

#[cfg(test)]
mod tests {
    use super::{Builder, MOST_THREADS, named};
    use crate::{Executor, Level};

    #[test]
    fn levels_are_taken_or_refused() {
        assert_eq!(named(Some("scalar".into())), Ok(Level::Scalar));
        assert_eq!(named(None), Ok(Level::detect()));
        let error = named(Some("sse".into())).unwrap_err().to_string();
        assert!(error.contains("BACKPROP_CPU_LEVEL is `sse`"), "{error}");
        for level in Level::ALL {
            let built = Builder::default().level(level).threads(1).build();
            assert_eq!(built.is_ok(), level.is_available(), "{level}");
        }
    }

    #[test]
    fn an_executor_has_as_many_threads_as_it_says_or_fewer() {
        struct Says(usize);
        impl Executor for Says {
            fn threads(&self) -> usize {
                self.0
            }
            fn run(&self, _: &(dyn Fn() + Sync)) {}
        }
        for (says, asked, has) in [
            (3, None, 3),
            (0, None, 1),
            (3, Some(2), 2),
            (2, Some(3), 2),
            (usize::MAX, None, MOST_THREADS),
        ] {
            let mut builder = Builder::default().executor(Says(says));
            builder.threads = asked;
            assert_eq!(builder.build().unwrap().threads(), has);
        }
    }

    #[test]
    fn so_many_threads_and_no_more() {
        let most = Builder::default().threads(MOST_THREADS).build().unwrap();
        assert_eq!(most.threads(), MOST_THREADS);
        for more in [MOST_THREADS + 1, usize::MAX] {
            let error = Builder::default().threads(more).build().unwrap_err();
            let text = error.to_string();
            assert!(text.contains("threads are more than 1024"), "{text}");
        }
    }
}
