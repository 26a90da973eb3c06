//! The network that all methods train, and its loss for one set of weights or for many at once.

use backprop::prelude::*;

use crate::pupil::Batch;

/// Pixels of an image, hidden units, classes.
pub(crate) const WIDTHS: [usize; 3] = [64, 32, 10];

/// A hidden layer of rectified linear units and an output layer.
pub(crate) struct Network([Param; 4]);

/// Two weights and two biases: one set, or a stack of copies along a first axis.
pub(crate) type Weights<'g> = [Tensor<'g>; 4];

impl Network {
    pub(crate) fn new(g: &Graph) -> Network {
        let [pixels, hidden, classes] = WIDTHS;
        Network([
            g.parameter("hidden.weight", [pixels, hidden], F32, Init::Kaiming),
            g.parameter("hidden.bias", [1, hidden], F32, Init::Zeros),
            g.parameter("output.weight", [hidden, classes], F32, Init::Kaiming),
            g.parameter("output.bias", [1, classes], F32, Init::Zeros),
        ])
    }

    pub(crate) fn parameters(&self) -> [Param; 4] {
        self.0
    }

    pub(crate) fn weights<'g>(&self, g: &'g Graph) -> Weights<'g> {
        self.0.map(|parameter| g.read(parameter))
    }

    /// Copies of the weights, each moved by a row of `nudges`, `[copies, count]`, which holds a
    /// number for every weight.
    pub(crate) fn nudged<'g>(&self, nudges: Tensor<'g>) -> Weights<'g> {
        let weights = self.weights(nudges.graph());
        let nudges = split(nudges);
        std::array::from_fn(|i| weights[i] + nudges[i])
    }
}

/// How many numbers the network learns.
pub(crate) fn count() -> usize {
    shapes().iter().map(|[rows, columns]| rows * columns).sum()
}

/// Numbers for every weight, `[.., count]`, in the shapes of the weights.
pub(crate) fn split(flat: Tensor<'_>) -> Weights<'_> {
    let shape = flat.shape();
    let copies = &shape.sizes()[..flat.rank() - 1];
    let mut start = 0;
    shapes().map(|[rows, columns]| {
        let part = flat.narrow(-1, start, start + rows * columns);
        start += rows * columns;
        let sizes = [copies, &[rows, columns]].concat();
        part.reshape(
            sizes
                .into_iter()
                .map(|size| size as isize)
                .collect::<Vec<_>>(),
        )
    })
}

/// One forward pass: the scores of the classes, `[.., batch, classes]`.
pub(crate) fn scores<'g>(pixels: Tensor<'g>, weights: Weights<'g>) -> Tensor<'g> {
    let [hidden, hidden_bias, output, output_bias] = weights;
    let hidden = (pixels.matmul(hidden) + hidden_bias).relu();
    hidden.matmul(output) + output_bias
}

/// The mean cross-entropy of a batch: a number for each copy of the weights.
pub(crate) fn loss<'g>(batch: Batch<'g>, weights: Weights<'g>) -> Tensor<'g> {
    let surprise = -scores(batch.pixels, weights).log_softmax(-1);
    (surprise * batch.targets).sum(-1).mean(-1)
}

fn shapes() -> [[usize; 2]; 4] {
    let [pixels, hidden, classes] = WIDTHS;
    [
        [pixels, hidden],
        [1, hidden],
        [hidden, classes],
        [1, classes],
    ]
}

/// What the tests of methods need: a batch without data, and a measure of what is alike.
#[cfg(test)]
pub(crate) mod trial {
    use super::*;

    /// A few images of noise.
    pub(crate) fn batch(g: &Graph) -> Batch<'_> {
        let [pixels, _, classes] = WIDTHS;
        Batch {
            pixels: g.uniform(g.random_key(5), [6, pixels], F32),
            targets: g.data([6], &[3i32, 1, 4, 1, 5, 9]).one_hot(classes, F32),
        }
    }

    /// The cosine of the angle between two directions in the space of all weights.
    pub(crate) fn cosine<'g>(a: &[Tensor<'g>], b: &[Tensor<'g>]) -> Option<Tensor<'g>> {
        let dot = |a: &[Tensor<'g>], b: &[Tensor<'g>]| {
            let products = a.iter().zip(b).map(|(&a, &b)| (a * b).sum(..));
            products.reduce(|sum, product| sum + product)
        };
        Some(dot(a, b)? / (dot(a, a)? * dot(b, b)?).sqrt())
    }

    /// The numbers of tensors without axes.
    pub(crate) fn numbers<const N: usize>(g: &Graph, tensors: [Tensor<'_>; N]) -> Result<[f64; N]> {
        let keys = tensors.map(Tensor::key);
        let mut session = Session::compile(g, Cpu::new()?, &keys, Updates::none())?;
        session.step()?;
        let mut numbers = [0.0; N];
        for (number, key) in numbers.iter_mut().zip(keys) {
            *number = session.scalar(key)?;
        }
        Ok(numbers)
    }
}
