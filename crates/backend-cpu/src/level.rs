//! Which vector instructions kernels use.
//!
//! The level is chosen once, when the backend is made. It is part of what a
//! result depends on (the order of a sum follows the width of a register), so
//! it can be forced down to reproduce the bits of a smaller machine.

use std::fmt;

/// A set of vector instructions, smallest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// Portable Rust, one lane at a time.
    Scalar,
    /// 128-bit registers of aarch64.
    Neon,
    /// 256-bit registers with fused multiply-add (x86-64).
    Avx2,
    /// 512-bit registers: the F, DQ, VL and BW groups (x86-64).
    Avx512,
}

impl Level {
    /// Every level, smallest first.
    pub const ALL: [Level; 4] = [Level::Scalar, Level::Neon, Level::Avx2, Level::Avx512];

    /// The largest level of this machine.
    pub fn detect() -> Level {
        Level::ALL
            .into_iter()
            .rev()
            .find(|level| level.is_available())
            .unwrap_or(Level::Scalar)
    }

    /// Whether this machine has the instructions of the level.
    pub fn is_available(self) -> bool {
        match self {
            Level::Scalar => true,
            Level::Neon => cfg!(all(target_arch = "aarch64", not(miri))),
            Level::Avx2 => has_avx2(),
            Level::Avx512 => has_avx512(),
        }
    }

    /// Bytes of a register, one element's at most where there are none.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Level::Scalar => 1,
            Level::Neon => 16,
            Level::Avx2 => 32,
            Level::Avx512 => 64,
        }
    }

    /// The level called `name`, as [`Display`](fmt::Display) writes it.
    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL
            .into_iter()
            .find(|level| level.to_string() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Scalar => "scalar",
            Level::Neon => "neon",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        })
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn has_avx2() -> bool {
    false
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn has_avx512() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::Level;

    #[test]
    fn names_round_trip_and_something_is_available() {
        for level in Level::ALL {
            assert_eq!(Level::from_name(&level.to_string()), Some(level));
        }
        assert_eq!(Level::from_name("mmx"), None);
        assert!(Level::detect().is_available());
    }
}
