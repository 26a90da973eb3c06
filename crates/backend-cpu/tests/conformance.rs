//! The processor against the reference, at every level of vector instructions, and against itself with
//! other threads.

use backprop_core::DType;
use backprop_cpu::{Cpu, Executor, Level};
use backprop_testkit::RandomGraph;
use backprop_testkit::conformance::{Kind, Report, check, same_bits};

backprop_testkit::conformance!(widest: Cpu::new()?);
backprop_testkit::conformance!(scalar: Cpu::builder().level(Level::Scalar).threads(2).build()?);

/// The variable that forces a level.
const LEVEL: &str = "BACKPROP_CPU_LEVEL";

/// Levels that neither of the suites above runs at: on a processor with AVX-512, AVX2.
#[test]
fn levels_between_conform() -> Result<(), Box<dyn std::error::Error>> {
    let between = |level: &Level| *level > Level::Scalar && *level < Level::detect();
    for level in Level::ALL.into_iter().filter(between) {
        if level.is_available() {
            let cpu = Cpu::builder().level(level).threads(2).build()?;
            for kind in Kind::ALL {
                check(&cpu, kind).result().map(|_: Report| ())?;
            }
        }
    }
    Ok(())
}

/// Runs itself once for each level, with the variable set.
#[test]
fn the_environment_forces_a_level() -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(name) = std::env::var(LEVEL) {
        assert_eq!(Cpu::new()?.level().to_string(), name);
        return Ok(());
    }
    for level in Level::ALL {
        let mut again = std::process::Command::new(std::env::current_exe()?);
        again.args(["--exact", "the_environment_forces_a_level"]);
        let ran = again.env(LEVEL, level.to_string()).output()?;
        assert_eq!(ran.status.success(), level.is_available(), "{level}");
    }
    Ok(())
}

/// Threads that live as long as a job.
struct Scoped(usize);

impl Executor for Scoped {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, job: &(dyn Fn() + Sync)) {
        std::thread::scope(|scope| {
            (1..self.0).for_each(|_| drop(scope.spawn(job)));
            job();
        });
    }
}

#[test]
fn threads_of_the_caller_give_the_same_bits() -> Result<(), Box<dyn std::error::Error>> {
    let own = Cpu::builder().threads(2).build()?;
    let lent = Cpu::builder().executor(Scoped(2)).build()?;
    assert_eq!(lent.threads(), 2);
    same_bits(&own, &lent).result().map(|_: Report| ())?;
    Ok(())
}

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
