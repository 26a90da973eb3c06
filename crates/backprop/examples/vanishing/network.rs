//! Deep networks that differ in what their layers are made of.

use std::fmt;

use backprop::Left;
use backprop::prelude::*;

/// Layers between the pixels and the output.
pub(crate) const DEPTH: usize = 50;
/// Units of a layer: as many as an image has pixels, so that all layers are alike.
pub(crate) const WIDTH: usize = 64;

/// What bends the output of a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Activation {
    Sigmoid,
    Tanh,
    Relu,
}

/// What stands round the activation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Structure {
    Plain,
    /// A layer norm before each activation (arXiv:1607.06450).
    Normalised,
    /// A connection past each layer (He et al., 2015, arXiv:1512.03385).
    Residual,
    NormalisedResidual,
}

/// A kind of network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Variant {
    pub activation: Activation,
    pub structure: Structure,
}

/// The parameters of a network: the layers' along a first axis of [`DEPTH`], and the output's.
pub(crate) struct Network {
    variant: Variant,
    pub weights: Param,
    biases: Param,
    output: [Param; 2],
}

impl Network {
    /// Weights as is usual for the activation: of variance `2 / fan_in` for ReLU (He et al., 2015,
    /// arXiv:1502.01852), and `2 / (fan_in + fan_out)` for the others (Glorot and Bengio, 2010).
    pub(crate) fn new(
        g: &Graph,
        variant: Variant,
        [classes, depth]: [usize; 2],
        dtype: DType,
    ) -> Network {
        let fan = WIDTH as f64;
        let variance = match variant.activation {
            Activation::Relu => 2.0 / fan,
            Activation::Sigmoid | Activation::Tanh => 2.0 / (fan + fan),
        };
        let start = Init::Normal {
            mean: 0.0,
            std: variance.sqrt(),
        };
        Network {
            variant,
            weights: g.parameter("layers.weight", [depth, WIDTH, WIDTH], dtype, start),
            biases: g.parameter("layers.bias", [depth, WIDTH], dtype, Init::Zeros),
            output: [
                g.parameter("output.weight", [WIDTH, classes], dtype, Init::Xavier),
                g.parameter("output.bias", [classes], dtype, Init::Zeros),
            ],
        }
    }

    pub(crate) fn parameters(&self) -> [Param; 4] {
        let [weight, bias] = self.output;
        [self.weights, self.biases, weight, bias]
    }

    /// The logits of images `[batch, pixels]`. The layers are one scan over their weights: the plan
    /// is as long for fifty of them as for two.
    pub(crate) fn read<'g>(&self, pixels: Tensor<'g>) -> Tensor<'g> {
        let g = pixels.graph();
        let layers = [self.weights, self.biases].map(|parameter| g.read(parameter));
        let depth = layers[0].shape().size(0);
        let deep = g.scan(depth, &[pixels], &layers, |at| {
            let (x, weight, bias) = (at.carried[0], at.elements[0], at.elements[1]);
            let y = self.variant.layer(x, x.matmul(weight) + bias);
            Left {
                carried: vec![y],
                stacked: vec![],
            }
        });
        let [weight, bias] = self.output;
        deep.carried[0].matmul(weight) + bias
    }
}

impl Variant {
    /// Every activation in every structure.
    pub(crate) fn all() -> impl Iterator<Item = Variant> {
        Structure::ALL.into_iter().flat_map(|structure| {
            Activation::ALL.map(|activation| Variant {
                activation,
                structure,
            })
        })
    }

    /// What a layer makes of its input and of the sum that its weights make of it.
    fn layer<'g>(self, input: Tensor<'g>, sum: Tensor<'g>) -> Tensor<'g> {
        use Structure::{Normalised, NormalisedResidual, Plain, Residual};
        let sum = match self.structure {
            Plain | Residual => sum,
            Normalised | NormalisedResidual => sum.layer_norm(-1, 1e-5),
        };
        let bent = match self.activation {
            Activation::Sigmoid => sum.sigmoid(),
            Activation::Tanh => sum.tanh(),
            Activation::Relu => sum.relu(),
        };
        match self.structure {
            Plain | Normalised => bent,
            Residual | NormalisedResidual => input + bent,
        }
    }
}

impl Activation {
    pub(crate) const ALL: [Activation; 3] =
        [Activation::Sigmoid, Activation::Tanh, Activation::Relu];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Activation::Sigmoid => "sigmoid",
            Activation::Tanh => "tanh",
            Activation::Relu => "ReLU",
        }
    }
}

impl Structure {
    pub(crate) const ALL: [Structure; 4] = [
        Structure::Plain,
        Structure::Normalised,
        Structure::Residual,
        Structure::NormalisedResidual,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Structure::Plain => "plain",
            Structure::Normalised => "layer norm",
            Structure::Residual => "residual",
            Structure::NormalisedResidual => "residual, layer norm",
        }
    }

    /// Of a panel that shows gradients.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Structure::Plain => "plain: norm of the gradient by layer (log scale)",
            Structure::Normalised => "with layer norm",
            Structure::Residual => "with residual connections",
            Structure::NormalisedResidual => "with residual connections and layer norm",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.activation.name(), self.structure.name())
    }
}
