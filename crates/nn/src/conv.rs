//! Convolutions with a bias.

use backprop_core::DType;
use backprop_graph::{Convolution, Graph, Param, PerAxis, Tensor};

use crate::{Layer, Owner, scaled_by};

/// The filter of a convolution over `AXES` spatial axes, and how it moves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter<const AXES: usize> {
    /// Channels of the input.
    pub input: usize,
    /// Channels of the output.
    pub output: usize,
    /// The size of the filter along each spatial axis.
    pub taps: [usize; AXES],
    /// Stride, padding, dilation and groups.
    pub how: Convolution,
}

/// A layer's `weight`, whose first two axes are given, and its `bias`. Both start uniform within
/// `1 / sqrt(fan_in)` of 0, where `fan_in` is what the second axis and the taps have together.
#[track_caller]
fn parameters<const AXES: usize>(
    owner: Owner<'_, '_>,
    channels: [usize; 2],
    filter: &Filter<AXES>,
) -> (Param, Option<Param>) {
    let shape = [&channels[..], &filter.taps].concat();
    let fan_in = shape[1..]
        .iter()
        .fold(1, |n: usize, &s| n.saturating_mul(s));
    let weight = owner.parameter("weight", shape, scaled_by(fan_in));
    let bias = owner.parameter("bias", [filter.output], scaled_by(fan_in));
    (weight, Some(bias))
}

#[track_caller]
fn add<'g>(y: Tensor<'g>, bias: Option<Param>) -> Tensor<'g> {
    match bias {
        Some(bias) => y.bias(bias, 1),
        None => y,
    }
}

/// A [convolution](Tensor::conv) plus a number for each channel: `[batch, input, ..axes]` gives
/// `[batch, output, ..places]`.
///
/// ```
/// # use backprop_core::DType::F32;
/// # use backprop_graph::{Convolution, Graph};
/// # use backprop_nn::{Conv, Filter, Layer};
/// let g = Graph::new();
/// let same = Convolution { padding: 1.into(), ..Default::default() };
/// let filter = Filter { input: 3, output: 16, taps: [3, 3], how: same };
/// let conv = Conv::new(&g, "conv", filter, F32);
/// let y = conv.forward(g.input("x", [8, 3, 32, 32], F32));
/// assert_eq!(y.shape().sizes(), [8, 16, 32, 32]);
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Conv {
    /// `[output, input / groups, ..taps]`.
    pub weight: Param,
    /// `[output]`, if any.
    pub bias: Option<Param>,
    /// Stride, padding, dilation and groups.
    pub how: Convolution,
}

impl Conv {
    /// The parameters `name.weight` and `name.bias`, at first uniform within `1 / sqrt(fan_in)` of 0,
    /// with `fan_in` the number of inputs of an output.
    #[track_caller]
    pub fn new<const AXES: usize>(
        g: &Graph,
        name: &str,
        filter: Filter<AXES>,
        dtype: DType,
    ) -> Conv {
        let owner = Owner::new(g, name, dtype);
        let channels = [filter.output, filter.input / filter.how.groups.max(1)];
        let (weight, bias) = parameters(owner, channels, &filter);
        Conv {
            weight,
            bias,
            how: filter.how,
        }
    }
}

impl Layer for Conv {
    fn parameters(&self) -> Vec<Param> {
        [self.weight].into_iter().chain(self.bias).collect()
    }

    #[track_caller]
    fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        add(x.conv(self.weight, self.how.clone()), self.bias)
    }
}

/// A [transposed convolution](Tensor::conv_transpose) plus a number for each channel:
/// `[batch, input, ..places]` gives `[batch, output, ..axes]`.
///
/// ```
/// # use backprop_core::DType::F32;
/// # use backprop_graph::{Convolution, Graph};
/// # use backprop_nn::{ConvTranspose, Filter, Layer};
/// let g = Graph::new();
/// let twice = Convolution { stride: 2.into(), ..Default::default() };
/// let filter = Filter { input: 16, output: 8, taps: [2, 2], how: twice };
/// let up = ConvTranspose::new(&g, "up", filter, F32);
/// let y = up.forward(g.input("x", [4, 16, 7, 7], F32));
/// assert_eq!(y.shape().sizes(), [4, 8, 14, 14]);
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct ConvTranspose {
    /// `[input, output / groups, ..taps]`.
    pub weight: Param,
    /// `[output]`, if any.
    pub bias: Option<Param>,
    /// Stride, padding, dilation and groups of the convolution that this is the transpose of.
    pub how: Convolution,
    /// Elements beyond the smallest size that fits (PyTorch's `output_padding`); 0 at first.
    pub further: PerAxis,
}

impl ConvTranspose {
    /// The parameters `name.weight` and `name.bias`, at first uniform within `1 / sqrt(fan_in)` of 0,
    /// where PyTorch takes the weight's second axis and its taps for `fan_in`.
    #[track_caller]
    pub fn new<const AXES: usize>(
        g: &Graph,
        name: &str,
        filter: Filter<AXES>,
        dtype: DType,
    ) -> ConvTranspose {
        let owner = Owner::new(g, name, dtype);
        let channels = [filter.input, filter.output / filter.how.groups.max(1)];
        let (weight, bias) = parameters(owner, channels, &filter);
        ConvTranspose {
            weight,
            bias,
            how: filter.how,
            further: 0.into(),
        }
    }
}

impl Layer for ConvTranspose {
    fn parameters(&self) -> Vec<Param> {
        [self.weight].into_iter().chain(self.bias).collect()
    }

    #[track_caller]
    fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let y = x.conv_transpose(self.weight, self.how.clone(), self.further.clone());
        add(y, self.bias)
    }
}
