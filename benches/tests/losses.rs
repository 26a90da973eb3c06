//! Every workload learns what arithmetic in `f64` learns, at every level of vector instructions that
//! this machine has, and the same to the last bit with any number of threads.
#![allow(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use backprop::core::Reference;
use backprop::prelude::*;
use backprop::{DType, Level, Programs};
use backprop_benches::workload::{ALL, SEED, Size, Training, Variant, Workload};

/// As many as tables are made of.
const STEPS: usize = 20;

/// How far losses may lie from those of the reference backend in `f64`, relative to their size.
const TOLERANCES: [(DType, f64); 2] = [(F32, 2e-6), (F64, 1e-13)];

/// Steps on the values that all engines share.
fn losses(mut training: Training<impl Backend>, steps: usize) -> Vec<f64> {
    training
        .fill(|slot| Ok(slot.fill.draw(SEED, &slot.name, slot.shape)))
        .unwrap();
    training.losses(steps).unwrap()
}

fn small(dtype: DType) -> Variant {
    Variant {
        dtype,
        size: Size::Small,
        ..Variant::default()
    }
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

fn agree(expected: &[f64], found: &[f64], tolerance: f64) -> bool {
    let mut pairs = expected.iter().zip(found);
    pairs.all(|(a, b)| (a - b).abs() <= tolerance * a.abs())
}

#[test]
fn every_level_learns_what_f64_learns() {
    // The huge one is W9 with larger numbers.
    for workload in ALL.iter().filter(|workload| workload.id != "W9-3163") {
        let training = workload.compile_as(small(F64), Reference).unwrap();
        let expected = losses(training, STEPS);
        assert!(expected[STEPS - 1] < expected[0], "{}", workload.id);
        for level in levels() {
            for (dtype, tolerance) in TOLERANCES {
                let cpu = Cpu::builder().level(level).threads(2).build().unwrap();
                let training = workload.compile_as(small(dtype), cpu).unwrap();
                let found = losses(training, STEPS);
                assert!(
                    agree(&expected, &found, tolerance),
                    "{} {level} {dtype}: {found:?} instead of {expected:?}",
                    workload.id
                );
            }
        }
    }
}

#[test]
fn machine_code_changes_no_bit() {
    for workload in ALL.iter().filter(|workload| workload.id != "W9-3163") {
        let [compiled, interpreted] = [Programs::Compiled, Programs::Interpreted].map(|programs| {
            let cpu = Cpu::builder()
                .programs(programs)
                .threads(1)
                .build()
                .unwrap();
            losses(workload.compile_as(small(F32), cpu).unwrap(), STEPS)
        });
        assert_eq!(compiled, interpreted, "{}", workload.id);
    }
}

/// At sizes at which threads have something to do: products, attention, convolutions and norms.
#[test]
fn threads_change_no_bit() {
    for id in ["W1", "W6", "W8"] {
        let workload = Workload::named(id).unwrap();
        let with = |threads| {
            let cpu = Cpu::builder().threads(threads).build().unwrap();
            losses(workload.compile(cpu).unwrap(), 2)
        };
        let alone = with(1);
        for threads in 2..=4 {
            assert_eq!(with(threads), alone, "{id}, {threads} threads");
        }
    }
}
