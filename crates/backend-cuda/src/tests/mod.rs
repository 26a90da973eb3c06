//! Every kernel that the conformance suite asks for compiles, for several generations of devices,
//! without a device.

use backprop_core::Primitive;
use backprop_testkit::conformance::Kind;

use crate::device::compiles;
use crate::lowered::Source;
use crate::lower;

/// The distinct kernels of a kind.
fn sources(kind: Kind) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    let primitives = kind.primitives();
    for primitive in primitives.iter().filter(|p| crate::supports(p)) {
        let lowered = lower(primitive, crate::contraction::Options::default());
        for launch in lowered.unwrap_or_default().launches() {
            if !sources.contains(&launch.source) {
                sources.push(launch.source.clone());
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
        eprintln!("{kind:?}: {} primitives, {} kernels, {} KB, {:?}", kind.primitives().len(), s.len(), bytes / 1024, start.elapsed());
        let refs: Vec<&Source> = s.iter().collect();
        let start = std::time::Instant::now();
        if let Err(e) = compiles(90, &refs) { eprintln!("{}", e.to_string().chars().take(3000).collect::<String>()); }
        eprintln!("   compiled in {:?}", start.elapsed());
    }
}
