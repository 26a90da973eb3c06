//! Every kernel that the conformance suite asks for compiles, for several generations of devices,
//! without a device.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail by panics, and print what they measure"
)]

mod tune;

use backprop_core::Primitive;
use backprop_testkit::conformance::Kind;

use crate::device::compiles;
use crate::lower;
use crate::lowered::Source;

/// The distinct kernels of a kind.
fn sources(kind: Kind) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    let primitives = kind.primitives();
    for primitive in primitives.iter().filter(|p| crate::supports(p)) {
        for launch in lower(primitive, crate::contraction::Options::default())
            .map(|l| l.launches)
            .unwrap_or_default()
        {
            if !sources.contains(&launch.source) {
                sources.push(launch.source);
            }
        }
    }
    sources
}

#[test]
#[ignore]
fn count() {
    for kind in [Kind::Gather, Kind::Casts] {
        let start = std::time::Instant::now();
        let s = sources(kind);
        let bytes: usize = s.iter().map(|s| s.text.len()).sum();
        eprintln!(
            "{kind:?}: {} primitives, {} kernels, {} KB, {:?}",
            kind.primitives().len(),
            s.len(),
            bytes / 1024,
            start.elapsed()
        );
        let refs: Vec<&Source> = s.iter().collect();
        let start = std::time::Instant::now();
        if let Err(e) = compiles(90, &refs) {
            eprintln!("{}", e.to_string().chars().take(3000).collect::<String>());
        }
        eprintln!("   compiled in {:?}", start.elapsed());
    }
}
