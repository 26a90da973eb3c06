//! A transformer trains within a part of the bytes that its activations take, with the same bits.
#![allow(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use backprop::prelude::*;
use backprop::{CompileOptions, ErrorKind};
use backprop_benches::workload::{DEEP_GPT, SEED, Size, Training, Variant};

const STEPS: usize = 2;

struct Trained {
    bytes: usize,
    saved: usize,
    /// Of what a step takes without running anything again.
    again: f64,
    losses: Vec<f64>,
    parameters: Vec<Vec<u8>>,
}

fn train(size: Size, budget: Option<usize>) -> Result<Trained> {
    let variant = Variant {
        size,
        options: CompileOptions { budget },
        ..Variant::default()
    };
    let cpu = Cpu::builder().threads(2).build()?;
    let mut training: Training<Cpu> = DEEP_GPT.compile_as(variant, cpu)?;
    training.fill(|slot| Ok(slot.fill.draw(SEED, &slot.name, slot.shape)))?;
    let losses = training.losses(STEPS)?;
    let session = &training.session;
    let known = session.parameters().into_iter();
    let bytes = known.map(|p| session.parameter_bytes(p.parameter));
    Ok(Trained {
        bytes: session.memory_bytes(),
        saved: session.step_plan().saved_activations(),
        again: session.step_plan().recomputation().share,
        losses,
        parameters: bytes.collect::<Result<_>>()?,
    })
}

#[test]
fn twelve_blocks_train_with_half_and_a_quarter_of_their_activations() -> Result<()> {
    let free = train(Size::Full, None)?;
    assert_eq!(free.again, 0.0);
    for percent in [50, 25] {
        let saved = free.saved * percent / 100;
        let budget = free.bytes - (free.saved - saved);
        let bounded = train(Size::Full, Some(budget))?;
        assert!(bounded.bytes <= budget, "{percent}%: {}", bounded.bytes);
        assert!(bounded.saved <= saved, "{percent}%: {}", bounded.saved);
        assert!(bounded.again > 0.0 && bounded.again < 0.4, "{percent}%");
        assert_eq!(bounded.losses, free.losses, "{percent}%");
        assert!(bounded.parameters == free.parameters, "{percent}%");
    }
    Ok(())
}

#[test]
fn what_never_fits_is_an_error() {
    let error = train(Size::Small, Some(1)).err().unwrap();
    assert!(matches!(
        error.kind(),
        ErrorKind::OverBudget { budget: 1, .. }
    ));
}
