//! What becomes of each result of attention.

use std::fmt::Write;

use backprop_core::{Attention, Sink};

use crate::source::{Fold, Operand, Point, coordinates, load, statements, store};

/// Whether every output is stored where it is computed.
pub(super) fn supports(spec: &Attention) -> bool {
    let points = spec.space.count();
    let mut outputs = spec.epilogue.outputs.iter();
    outputs.all(|output| output.sink == Sink::Store && output.tensor.shape.count() == points)
}

/// Statements for the result `x` at point `number`; inputs of the epilogue are read from number
/// `first` on.
pub(super) fn print(spec: &Attention, first: usize, index: &str) -> String {
    let body = &spec.epilogue;
    let inputs = body.inputs.iter().enumerate();
    let mut operands: Vec<Operand> = inputs.map(|(i, s)| Operand::read(first + i, s)).collect();
    let outputs = body.outputs.iter().enumerate();
    operands.extend(outputs.map(|(i, output)| Operand::write(i, &output.tensor, spec.space)));
    let fold = Fold::new(spec.space, operands, &coordinates(body), &|_| false);
    let mut text = fold.unravel("number", false, index);
    text += &statements(&body.program, &Result { fold: &fold }, &|_| true);
    for (i, output) in body.outputs.iter().enumerate() {
        let element = fold.address(body.inputs.len() + i).element();
        let value = store(output.tensor.dtype, &format!("v{}", output.register.0));
        let _ = writeln!(text, "{element} = {value};");
    }
    text
}

struct Result<'a> {
    fold: &'a Fold,
}

impl Point for Result<'_> {
    fn input(&self, input: usize) -> String {
        match input.checked_sub(1) {
            None => "x".to_owned(),
            Some(i) => load(
                self.fold.operands[i].dtype(),
                &self.fold.address(i).element(),
            ),
        }
    }

    fn coordinate(&self, axis: usize) -> String {
        self.fold.original(axis)
    }
}
