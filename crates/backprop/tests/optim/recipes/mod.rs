//! How each case makes its updates, with the options that `tests/data/optim/generate.py` gives PyTorch.

mod meaningless;
mod optimizers;
mod parts;
mod rates;

use backprop::{Graph, Param, Tensor, Updates};

pub(crate) use meaningless::MEANINGLESS;

/// Updates of a matrix and a vector by their gradients.
pub(crate) type Recipe = for<'g> fn(&'g Graph, [Param; 2], [Tensor<'g>; 2]) -> Updates;

/// The cases by name, in the order in which they were written.
pub(crate) fn recipes() -> impl Iterator<Item = (&'static str, Recipe)> {
    let all = [optimizers::OPTIMIZERS, rates::RATES, parts::PARTS];
    all.into_iter().flatten().copied()
}
