//! Rotary position embedding.

use std::panic::Location;

use crate::graph::{Problem, bad_attribute, bad_dtype, bad_shape};
use crate::op::catalogue::{Entry, entries, labelled, reals};
use crate::tensor::Tensor;

/// Which features turn together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Pairing {
    /// Each of the first half with its counterpart in the second, as GPT-NeoX and Llama do.
    #[default]
    Halves,
    /// Neighbours, 0 with 1, 2 with 3, as the paper has it.
    Neighbours,
}

/// How [`rotary`](Tensor::rotary) turns.
#[derive(Clone, Copy, Debug)]
pub struct Rotary<'g> {
    /// Which features turn together.
    pub pairing: Pairing,
    /// Pair `i` of `n` turns by `base^(-i / n)` a position.
    pub base: f64,
    /// The position of each time step, broadcast to `[.., time]`; 0, 1, .. if there is none.
    pub positions: Option<Tensor<'g>>,
}

impl Default for Rotary<'_> {
    /// Halves, base 10000, positions 0, 1, ..
    fn default() -> Self {
        Rotary {
            pairing: Pairing::Halves,
            base: 10_000.0,
            positions: None,
        }
    }
}

impl<'g> Tensor<'g> {
    /// Queries or keys `[.., time, features]`, each pair of features turned in its plane by an angle
    /// in proportion to the position: products of queries and keys then depend on the difference of
    /// their positions alone (arXiv:2104.09864). 16-bit types are computed in `f32`.
    #[track_caller]
    #[must_use]
    pub fn rotary(self, how: Rotary<'g>) -> Tensor<'g> {
        let place = Location::caller();
        let operands: Vec<Tensor<'g>> = [self].into_iter().chain(how.positions).collect();
        self.graph.compose("rotary", &operands, place, || {
            let turned = self.widened().turned(how.angles(self)?, how.pairing);
            Ok(turned.cast(self.dtype()))
        })
    }

    #[track_caller]
    fn turned(self, angles: Tensor<'g>, pairing: Pairing) -> Tensor<'g> {
        let (shape, rank) = (self.shape(), self.rank());
        let pairs = shape.size(rank - 1) / 2;
        let grid = match pairing {
            Pairing::Halves => [2, pairs],
            Pairing::Neighbours => [pairs, 2],
        };
        // The axis of the two members of a pair.
        let member = (rank - 1 + usize::from(pairing == Pairing::Neighbours)) as i32;
        let split = [&shape.sizes()[..rank - 1], &grid].concat();
        let both = self.reshape_to(split.into_iter().collect());
        let part = |k: usize| both.narrow(member, k, k + 1).squeeze(member);
        let (a, b, cos, sin) = (part(0), part(1), angles.cos(), angles.sin());
        let turned = [a * cos - b * sin, b * cos + a * sin];
        self.graph.stack(&turned, member).reshape_to(shape)
    }
}

impl<'g> Rotary<'g> {
    /// Of each position and pair.
    fn angles(&self, x: Tensor<'g>) -> Result<Tensor<'g>, Problem> {
        let (name, dtype) = ("rotary", x.dtype().accumulator());
        let [.., time, features] = *x.shape().sizes() else {
            let problem = bad_shape(name, format!("{} has no axis of time", x.shape()));
            return Err(problem.help("the axes are [.., time, features]"));
        };
        if !x.dtype().is_float() {
            return Err(bad_dtype(name, format!("of {}", x.dtype())));
        }
        if !features.is_multiple_of(2) {
            return Err(bad_shape(
                name,
                format!("{features} features make no pairs"),
            ));
        }
        if !(self.base.is_finite() && self.base > 0.0) {
            return Err(bad_attribute(name, format!("base {}", self.base)));
        }
        let positions = match self.positions {
            Some(positions) => positions,
            None => x.graph.coordinate([time], 0),
        };
        let steps: backprop_core::Shape = x.shape().filter(|axis| axis + 1 < x.rank());
        if positions.shape().broadcast(&steps) != Some(steps) {
            let what = format!("positions {} for steps {steps}", positions.shape());
            return Err(bad_shape(name, what));
        }
        let pairs = features / 2;
        let speed = |pair: usize| libm::pow(self.base, -(pair as f64) / pairs as f64);
        let speeds: Vec<f64> = (0..pairs).map(speed).collect();
        let speeds = x.graph.data([pairs], &speeds).cast(dtype);
        Ok(positions.unsqueeze(-1).cast(dtype) * speeds)
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        rotary reals(&[&[2, 3, 4]]) => |x| x[0].rotary(Rotary::default());
        rotary_neighbours labelled(&[&[2, 3, 4]], &[3], 9) => |x| {
            let pairing = Pairing::Neighbours;
            let how = Rotary { pairing, positions: Some(x[1]), ..Rotary::default() };
            x[0].rotary(how)
        };
    }
}
