//! Convolutions with a bias.

use backprop_core::DType;
use backprop_graph::{Convolution, Graph, Init, Param, PerAxis, Tensor};

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

impl<const AXES: usize> Filter<AXES> {
    /// The shape of a weight whose first two axes are given, and where it and the bias start: uniform
    /// within `1 / sqrt(fan_in)` of 0, where `fan_in` is what the second axis and the taps have
    /// together.
    fn weight(&self, channels: [usize; 2]) -> (Vec<usize>, Init) {
        let taps = self
            .taps
            .iter()
            .fold(channels[1], |n, &taps| n.saturating_mul(taps));
        ([&channels[..], &self.taps].concat(), scaled_by(taps))
    }

    /// The shape of a convolution's weight.
    fn forth(&self) -> (Vec<usize>, Init) {
        self.weight([self.output, self.input / self.how.groups.max(1)])
    }

    /// The shape of a transposed convolution's weight.
    fn back(&self) -> (Vec<usize>, Init) {
        self.weight([self.input, self.output / self.how.groups.max(1)])
    }
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
        let (channels, init) = (filter.output, filter.forth().1);
        let layer = Conv::without_bias(g, name, filter, dtype);
        let owner = Owner::new(g, name, dtype);
        Conv {
            bias: Some(owner.parameter("bias", [channels], init)),
            ..layer
        }
    }

    /// The parameter `name.weight` alone.
    #[track_caller]
    pub fn without_bias<const AXES: usize>(
        g: &Graph,
        name: &str,
        filter: Filter<AXES>,
        dtype: DType,
    ) -> Conv {
        let (shape, init) = filter.forth();
        Conv {
            weight: Owner::new(g, name, dtype).parameter("weight", shape, init),
            bias: None,
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
        let (channels, init) = (filter.output, filter.back().1);
        let layer = ConvTranspose::without_bias(g, name, filter, dtype);
        let owner = Owner::new(g, name, dtype);
        ConvTranspose {
            bias: Some(owner.parameter("bias", [channels], init)),
            ..layer
        }
    }

    /// The parameter `name.weight` alone.
    #[track_caller]
    pub fn without_bias<const AXES: usize>(
        g: &Graph,
        name: &str,
        filter: Filter<AXES>,
        dtype: DType,
    ) -> ConvTranspose {
        let (shape, init) = filter.back();
        ConvTranspose {
            weight: Owner::new(g, name, dtype).parameter("weight", shape, init),
            bias: None,
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
