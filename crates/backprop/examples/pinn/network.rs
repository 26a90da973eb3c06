//! A network that is a function of space and time.

use backprop::nn::{Features, Layer, Linear};
use backprop::prelude::*;

use crate::burgers::{Points, exact};

/// What the network computes in.
pub(crate) const PRECISION: DType = F32;

const WIDTH: usize = 32;
const HIDDEN: usize = 3;

/// Fully connected layers of hyperbolic tangents, which have all derivatives.
pub(crate) struct Network(Vec<Linear>);

impl Network {
    pub(crate) fn new(g: &Graph) -> Self {
        let widths = [&[2], [WIDTH; HIDDEN].as_slice(), &[1]].concat();
        let layer = |(i, pair): (usize, &[usize])| {
            let features = Features {
                input: pair[0],
                output: pair[1],
            };
            Linear::new(g, &format!("layer{}", i + 1), features, PRECISION)
        };
        Self(widths.windows(2).enumerate().map(layer).collect())
    }

    pub(crate) fn parameters(&self) -> Vec<Param> {
        self.0.iter().flat_map(Layer::parameters).collect()
    }

    /// `u` at points, `[points, 1]`. It is what is known at the beginning, plus what the layers say
    /// times something that vanishes there and at the walls: the equation is all that is left to
    /// satisfy (Lagaris et al., arXiv:physics/9705023).
    pub(crate) fn u<'g>(&self, points: Points<'g>) -> Tensor<'g> {
        let Points { x, t } = points;
        let beginning = exact(Points { x, t: t * 0.0 });
        beginning + t * x * (-x + 1.0) * self.layers(points)
    }

    fn layers<'g>(&self, Points { x, t }: Points<'g>) -> Tensor<'g> {
        let input = x.graph().concat(&[x, t], -1) * 2.0 - 1.0;
        let last = self.0.len() - 1;
        let layers = self.0.iter().enumerate();
        layers.fold(input, |x, (i, layer)| {
            let y = layer.forward(x);
            if i < last { y.tanh() } else { y }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_to_the_beginning_and_to_the_walls() {
        let g = Graph::with_seed(3);
        let x = g.data([4, 1], &[0.3f32, 0.8, 0.0, 1.0]);
        let t = g.data([4, 1], &[0.0f32, 0.0, 0.4, 0.9]);
        let points = Points { x, t };
        let off = Network::new(&g).u(points) - exact(points);
        let mut session =
            Session::compile(&g, Cpu::new().unwrap(), &[off.key()], Updates::none()).unwrap();
        session.step().unwrap();
        let off: Vec<f32> = session.fetch(off).unwrap();
        assert!(off.iter().all(|off| off.abs() < 1e-6), "{off:?}");
    }
}
