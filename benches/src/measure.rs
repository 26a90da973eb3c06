//! How a workload is timed: after warm-up, step by step, or in batches where a step is too short for
//! the clock.

use std::time::{Duration, Instant};

use backprop::core::Error;
use serde_json::{Value, json};

/// How long something is timed.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Before anything is noted.
    pub warm_up: Duration,
    /// While times are noted.
    pub measure: Duration,
    /// At least so many times, however long that takes.
    pub least: usize,
}

impl Effort {
    /// An effort of so many seconds, with a fourth of them before.
    #[must_use]
    pub fn seconds(seconds: f64) -> Effort {
        let measure = Duration::from_secs_f64(seconds.clamp(0.0, 3600.0));
        Effort {
            warm_up: measure / 4,
            measure,
            least: 5,
        }
    }
}

/// Times of one run, in seconds.
#[derive(Clone, PartialEq, Debug)]
pub struct Times {
    sorted: Vec<f64>,
    /// What the process spent on a run on all processors together, where the system says. Unlike the
    /// time that passes, it hardly depends on what else the machine does.
    processor: Option<f64>,
}

/// Steps shorter than this are timed in batches: reading the clock takes some 25 ns.
const SHORT: Duration = Duration::from_micros(20);
const BATCH: u32 = 1000;

impl Times {
    /// Times of `run`, again and again.
    ///
    /// # Errors
    /// The first error of `run`.
    pub fn of(effort: Effort, mut run: impl FnMut() -> Result<(), Error>) -> Result<Times, Error> {
        let start = Instant::now();
        let mut shortest = Duration::MAX;
        let mut warmed = 0;
        while warmed < 3 || start.elapsed() < effort.warm_up {
            let begin = Instant::now();
            run()?;
            shortest = shortest.min(begin.elapsed());
            warmed += 1;
        }
        let batch = if shortest < SHORT { BATCH } else { 1 };
        let mut times = Vec::new();
        let spent = processor_time();
        let start = Instant::now();
        let mut last = start;
        while times.len() < effort.least || start.elapsed() < effort.measure {
            for _ in 0..batch {
                run()?;
            }
            let now = Instant::now();
            times.push((now - last).as_secs_f64() / f64::from(batch));
            last = now;
        }
        let runs = times.len() as f64 * f64::from(batch);
        Ok(Times::gathered(times, processor_time().zip(spent), runs))
    }

    /// Times of runs on a device that works on its own: `run` starts as many as it is told, then
    /// waits for all of them.
    ///
    /// # Errors
    /// The first error of `run`.
    pub fn together(
        effort: Effort,
        mut run: impl FnMut(u32) -> Result<(), Error>,
    ) -> Result<Times, Error> {
        let start = Instant::now();
        let mut batch = 1;
        let mut timed = |batch: u32| {
            let begin = Instant::now();
            run(batch).map(|()| begin.elapsed())
        };
        while start.elapsed() < effort.warm_up || batch == 1 {
            if timed(batch)? < effort.measure / 20 && batch < 1 << 20 {
                batch *= 2;
            }
        }
        let mut times = Vec::new();
        let spent = processor_time();
        let start = Instant::now();
        while times.len() < effort.least || start.elapsed() < effort.measure {
            times.push(timed(batch)?.as_secs_f64() / f64::from(batch));
        }
        let runs = times.len() as f64 * f64::from(batch);
        Ok(Times::gathered(times, processor_time().zip(spent), runs))
    }

    fn gathered(mut times: Vec<f64>, spent: Option<(f64, f64)>, runs: f64) -> Times {
        times.sort_by(f64::total_cmp);
        Times {
            sorted: times,
            processor: spent.map(|(after, before)| (after - before) / runs),
        }
    }

    /// The time that this share of the times is at most: 0 for the shortest, 0.5 for the median.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.sorted.len().saturating_sub(1);
        let position = (share * last as f64).round() as usize;
        self.sorted.get(position).copied().unwrap_or(f64::NAN)
    }

    /// Median, minimum, deciles and the processor's time, in seconds.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "median": self.quantile(0.5), "min": self.quantile(0.0),
            "p10": self.quantile(0.1), "p90": self.quantile(0.9), "count": self.sorted.len(), "processor": self.processor,
        })
    }
}

/// The seconds that this process has spent on all processors together.
fn processor_time() -> Option<f64> {
    let line = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before it may have spaces and parentheses of its own.
    let mut fields = line.rsplit(')').next()?.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    // Linux tells programs of 100 ticks a second, whatever its own are.
    Some((ticks()? + ticks()?) / 100.0)
}

/// The most memory that this process has had in use so far, in bytes, where the system says.
#[must_use]
pub fn peak_memory() -> Option<u64> {
    status("VmHWM:")
}

/// The memory that this process has in use now, in bytes, where the system says.
#[must_use]
pub fn memory() -> Option<u64> {
    status("VmRSS:")
}

/// The part of the memory in use now that holds files, in bytes, where the system says: the program
/// and its libraries, as far as they have run. The system takes it back whenever it likes.
#[must_use]
pub fn file_memory() -> Option<u64> {
    status("RssFile:")
}

/// A figure of memory that the system keeps about this process, in bytes.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_sorted_times() {
        let times = |sorted| Times {
            sorted,
            processor: None,
        };
        let empty = times(Vec::new());
        let times = times(vec![1.0, 2.0, 3.0, 4.0, 50.0]);
        let quantiles = [0.0, 0.5, 0.9, 1.0].map(|share| times.quantile(share));
        assert_eq!(quantiles, [1.0, 3.0, 50.0, 50.0]);
        assert!(empty.quantile(0.5).is_nan());
    }

    #[test]
    fn short_runs_are_timed_in_batches() {
        let mut runs = 0;
        let effort = Effort {
            warm_up: Duration::ZERO,
            measure: Duration::ZERO,
            least: 2,
        };
        Times::of(effort, || {
            runs += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(runs, 3 + 2 * 1000);
    }

    #[test]
    fn a_busy_process_spends_time() {
        let Some(before) = processor_time() else {
            return;
        };
        let mut sum = 0_u64;
        while processor_time().is_some_and(|now| now < before + 0.05) {
            sum = (0..100_000).fold(sum, |sum, x| std::hint::black_box(sum ^ x));
        }
        assert!(processor_time() >= Some(before + 0.05), "{sum}");
    }

    #[test]
    fn memory_is_in_use() {
        let peak = peak_memory();
        assert!(peak.is_none_or(|bytes| bytes > 100_000), "{peak:?}");
    }
}
