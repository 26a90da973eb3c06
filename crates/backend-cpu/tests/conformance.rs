//! The processor against the reference, and with every number of threads against itself.

use backprop_core::DType;
use backprop_cpu::{Cpu, Level};
use backprop_testkit::RandomGraph;
use backprop_testkit::conformance::{Kind, Report, check, same_bits};

backprop_testkit::conformance!(widest: Cpu::new()?);
backprop_testkit::conformance!(scalar: Cpu::builder().level(Level::Scalar).threads(2).build()?);

#[test]
fn any_number_of_threads_gives_the_same_bits() -> Result<(), Box<dyn std::error::Error>> {
    let alone = Cpu::builder().threads(1).build()?;
    for threads in [2, 3] {
        let more = Cpu::builder().threads(threads).build()?;
        same_bits(&alone, &more).result().map(|_: Report| ())?;
    }
    Ok(())
}

/// Only prologues of attention are left to launches of their own, one for each type.
#[test]
fn attention_and_sorting_are_launches_of_their_own() -> Result<(), Box<dyn std::error::Error>> {
    let cpu = Cpu::builder().threads(2).build()?;
    for (kind, declined) in [
        (Kind::Attention, 4),
        (Kind::AttentionVjp, 0),
        (Kind::Sort, 0),
    ] {
        let report = check(&cpu, kind);
        assert_eq!(report.declined().len(), declined, "{report}");
    }
    Ok(())
}

#[test]
fn fusion_changes_no_bit_of_random_graphs() -> Result<(), Box<dyn std::error::Error>> {
    let cpu = Cpu::builder().threads(2).build()?;
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        for seed in 0..100 {
            let graph = RandomGraph {
                seed,
                dtype,
                operations: 5 + seed as usize % 30,
            };
            graph.check_values(cpu.clone())?;
            graph.check_training(cpu.clone())?;
        }
    }
    Ok(())
}
