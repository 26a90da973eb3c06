//! Random graphs through every pass: the values and three training steps of the compiled plan on two
//! backends, against the plan without fused forms and against the reference.

use backprop::{Cpu, DType, Reference};
use backprop_testkit::RandomGraph;
use backprop_testkit::fuzz::{Choices, Target};

pub(crate) fn with(tried: &mut dyn FnMut(&Target<'_>)) {
    let cpu = Cpu::new();
    let run = |input: &[u8]| {
        let mut choices = Choices::new(input);
        let graph = RandomGraph {
            dtype: *choices.of(&[DType::F64, DType::F32]),
            operations: 1 + choices.below(50),
            seed: choices.rest().iter().fold(0, |seed: u64, &byte| {
                seed.wrapping_mul(257).wrapping_add(u64::from(byte))
            }),
        };
        let cpu = cpu.clone().map_err(|error| error.to_string())?;
        graph
            .check_values(Reference)
            .map_err(|error| error.to_string())?;
        graph
            .check_values(cpu.clone())
            .map_err(|error| error.to_string())?;
        graph
            .check_training(cpu)
            .map_err(|error| error.to_string())?;
        Ok(format!("{} {}", graph.dtype, graph.operations))
    };
    tried(&Target {
        name: "graphs",
        corpus: vec![
            b"\0\x19a".to_vec(),
            b"\x01\x19b".to_vec(),
            // A reduction of rows, repeated along what was the row once the shape had an axis more.
            b"\xb8.\xff\x00,".to_vec(),
            // A comparison of equal numbers with their mean, which rounding decides.
            b"a]\x05 \x01\x01\x1b\xe9\x1b\x01\x01\x1bi\x1b".to_vec(),
        ],
        run: &run,
    });
}
