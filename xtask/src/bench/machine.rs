//! Where and when something was measured.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::output;
use crate::root;

/// Instructions that decide how fast arithmetic is.
const FEATURES: [&str; 8] = [
    "avx2",
    "fma",
    "avx512f",
    "avx512_bf16",
    "amx_tile",
    "asimd",
    "bf16",
    "sve",
];

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Machine {
    /// In UTC.
    pub(super) date: String,
    pub(super) processor: String,
    pub(super) features: Vec<&'static str>,
    pub(super) cores: usize,
    pub(super) memory_bytes: Option<u64>,
    pub(super) system: String,
    /// Programs that wanted to run, over the last 1, 5 and 15 minutes.
    pub(super) load: String,
    pub(super) compiler: String,
    pub(super) commit: String,
}

pub(super) fn describe() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = processor.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map(|(_, value)| value.trim().to_owned())
    };
    let flags = field("flags")
        .or_else(|| field("Features"))
        .unwrap_or_default();
    let has = |feature: &&str| flags.split(' ').any(|flag| flag == *feature);
    let memory = read("/proc/meminfo");
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = memory.and_then(|line| {
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .ok()
    });
    let tell = |program: &str, words: &[&str]| {
        let text = output(Command::new(program).args(words).current_dir(root()));
        text.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
    };
    let changed = match tell("git", &["status", "--porcelain", "--untracked-files=no"]) {
        text if text.is_empty() => "",
        _ => ", changed",
    };
    let load = read("/proc/loadavg");
    Machine {
        date: date(SystemTime::now()),
        processor: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        features: FEATURES.into_iter().filter(has).collect(),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_bytes: kib.map(|kib| kib * 1024),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        load: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        compiler: tell("rustc", &["--version"]),
        commit: tell("git", &["rev-parse", "--short=12", "HEAD"]) + changed,
    }
}

impl Machine {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "date": self.date, "processor": self.processor, "features": self.features,
            "cores": self.cores, "memory_bytes": self.memory_bytes, "system": self.system,
            "load": self.load, "compiler": self.compiler, "commit": self.commit,
        })
    }
}

/// As in `2026-11-24T09:05:00Z`.
fn date(at: SystemTime) -> String {
    let seconds = at
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let [year, month, day] = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z",
        second % 60
    )
}

/// Year, month and day of a number of days after 1 January 1970: H. Hinnant's algorithm, which counts
/// years from March so that leap days come last.
fn civil(days: u64) -> [u64; 3] {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    [era * 400 + year + u64::from(month <= 2), month, day]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn this_machine_is_described() {
        let machine = describe();
        assert!(!machine.processor.is_empty() && machine.cores > 0);
        assert!(machine.compiler.starts_with("rustc"), "{machine:?}");
    }
}
