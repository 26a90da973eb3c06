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

    /// The weights, and beside them copies that differ by `nudges`, `[copies, count]`, of which each
    /// row holds a number for every weight.
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
