//! Norms with a learned scale and shift.

use backprop_core::DType;
use backprop_graph::{Graph, Init, Param, RunningStatistics, Tensor, Updates};

use crate::{Layer, Owner};

/// PyTorch's, of all norms but RMS norm.
const EPS: f64 = 1e-5;

/// A layer's `weight` of ones and `bias` of zeros.
#[track_caller]
fn affine(owner: Owner<'_, '_>, channels: usize) -> [Param; 2] {
    [
        owner.parameter("weight", [channels], Init::Ones),
        owner.parameter("bias", [channels], Init::Zeros),
    ]
}

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis (arXiv:1607.06450): `[.., width]`
/// gives the same shape.
///
/// ```
/// # use backprop_core::DType::F32;
/// # use backprop_graph::Graph;
/// # use backprop_nn::{Layer, LayerNorm};
/// let g = Graph::new();
/// let norm = LayerNorm { eps: 1e-6, ..LayerNorm::new(&g, "norm", 64, F32) };
/// let y = norm.forward(g.input("x", [8, 5, 64], F32));
/// assert_eq!(y.shape().sizes(), [8, 5, 64]);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LayerNorm {
    /// `[width]`, at first 1.
    pub weight: Param,
    /// `[width]`, at first 0.
    pub bias: Param,
    /// Added to the variance: `1e-5` at first.
    pub eps: f64,
}

impl LayerNorm {
    /// The parameters `name.weight` and `name.bias`.
    #[track_caller]
    pub fn new(g: &Graph, name: &str, width: usize, dtype: DType) -> LayerNorm {
        let owner = Owner::new(g, name, dtype);
        let [weight, bias] = affine(owner, width);
        LayerNorm {
            weight,
            bias,
            eps: EPS,
        }
    }
}

impl Layer for LayerNorm {
    fn parameters(&self) -> Vec<Param> {
        vec![self.weight, self.bias]
    }

    #[track_caller]
    fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.layer_norm(-1, self.eps)
            .affine(self.weight, self.bias, -1)
    }
}

/// `x / sqrt(mean(x^2) + eps) * weight` over the last axis (arXiv:1910.07467): `[.., width]` gives the
/// same shape.
///
/// ```
/// # use backprop_core::DType::F32;
/// # use backprop_graph::Graph;
/// # use backprop_nn::{Layer, RmsNorm};
/// let g = Graph::new();
/// let norm = RmsNorm { eps: 1e-6, ..RmsNorm::new(&g, "norm", 64, F32) };
/// let y = norm.forward(g.input("x", [8, 5, 64], F32));
/// assert_eq!(y.shape().sizes(), [8, 5, 64]);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RmsNorm {
    /// `[width]`, at first 1.
    pub weight: Param,
    /// Added to the mean square: at first the spacing of numbers at 1 in the type computed in, which
    /// is `f32` for the 16-bit types.
    pub eps: f64,
}

impl RmsNorm {
    /// The parameter `name.weight`.
    #[track_caller]
    pub fn new(g: &Graph, name: &str, width: usize, dtype: DType) -> RmsNorm {
        let owner = Owner::new(g, name, dtype);
        RmsNorm {
            weight: owner.parameter("weight", [width], Init::Ones),
            eps: match dtype {
                DType::F64 => f64::EPSILON,
                _ => f64::from(f32::EPSILON),
            },
        }
    }
}

impl Layer for RmsNorm {
    fn parameters(&self) -> Vec<Param> {
        vec![self.weight]
    }

    #[track_caller]
    fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.rms_norm(-1, self.eps).gain(self.weight, -1)
    }
}

/// The sizes of a [`GroupNorm`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Groups {
    /// The number of groups; divides that of channels.
    pub groups: usize,
    /// The number of channels.
    pub channels: usize,
}

/// The norm of each example over groups of channels, then `weight` times each channel plus `bias`
/// (arXiv:1803.08494): `[batch, channels, ..]` gives the same shape.
///
/// ```
/// # use backprop_core::DType::F32;
/// # use backprop_graph::Graph;
/// # use backprop_nn::{GroupNorm, Groups, Layer};
/// let g = Graph::new();
/// let norm = GroupNorm::new(&g, "norm", Groups { groups: 4, channels: 16 }, F32);
/// let y = norm.forward(g.input("x", [8, 16, 7, 7], F32));
/// assert_eq!(y.shape().sizes(), [8, 16, 7, 7]);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GroupNorm {
    /// `[channels]`, at first 1.
    pub weight: Param,
    /// `[channels]`, at first 0.
    pub bias: Param,
    /// The number of groups.
    pub groups: usize,
    /// Added to the variance: `1e-5` at first.
    pub eps: f64,
}

impl GroupNorm {
    /// The parameters `name.weight` and `name.bias`.
    #[track_caller]
    pub fn new(g: &Graph, name: &str, groups: Groups, dtype: DType) -> GroupNorm {
        let owner = Owner::new(g, name, dtype);
        let [weight, bias] = affine(owner, groups.channels);
        GroupNorm {
            weight,
            bias,
            groups: groups.groups,
            eps: EPS,
        }
    }
}

impl Layer for GroupNorm {
    fn parameters(&self) -> Vec<Param> {
        vec![self.weight, self.bias]
    }

    #[track_caller]
    fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.group_norm(self.groups, self.eps)
            .affine(self.weight, self.bias, 1)
    }
}

/// The norm of each channel over a batch, then `weight` times each channel plus `bias`
/// (arXiv:1502.03167): `[batch, channels, ..]` gives the same shape. A plan that trains takes the
/// statistics of its batch and moves the running ones, by which a plan that evaluates normalises.
///
/// ```
/// # use backprop_core::{DType::F32, Reference};
/// # use backprop_graph::{Graph, Session, Updates};
/// # use backprop_nn::BatchNorm;
/// let g = Graph::new();
/// let norm = BatchNorm::new(&g, "norm", 2, F32);
/// let x = g.input("x", [3, 2], F32);
/// let (y, moved) = norm.train(x); // `moved` goes with an optimizer's updates: `updates.and(moved)`
/// let eval = norm.eval(x);
///
/// let mut session = Session::compile(&g, Reference, &[y.key()], moved)?;
/// let evaluation = session.plan(&[eval.key()], Updates::none())?;
/// session.feed(x, &[1f32, 10.0, 2.0, 20.0, 3.0, 30.0])?.step()?;
/// session.run(evaluation)?;
/// # Ok::<(), backprop_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BatchNorm {
    /// `[channels]`, at first 1.
    pub weight: Param,
    /// `[channels]`, at first 0.
    pub bias: Param,
    /// What evaluation normalises by, and how fast training moves it.
    pub statistics: RunningStatistics,
    /// How many batches have moved the statistics, as `i64`. Nothing here reads it; files have it.
    pub batches: Param,
    /// Added to the variance: `1e-5` at first.
    pub eps: f64,
}

impl BatchNorm {
    /// The parameters `name.weight` and `name.bias`, and the state `name.running_mean`,
    /// `name.running_var` and `name.num_batches_tracked`.
    #[track_caller]
    pub fn new(g: &Graph, name: &str, channels: usize, dtype: DType) -> BatchNorm {
        let owner = Owner::new(g, name, dtype);
        let [weight, bias] = affine(owner, channels);
        let count = Owner {
            dtype: DType::I64,
            ..owner
        };
        BatchNorm {
            weight,
            bias,
            statistics: g.running_statistics(name, channels, dtype),
            batches: count.parameter("num_batches_tracked", [], Init::Zeros),
            eps: EPS,
        }
    }

    /// What a gradient step moves: not the running statistics.
    #[must_use]
    pub fn parameters(&self) -> Vec<Param> {
        vec![self.weight, self.bias]
    }

    /// The output in training, and what the step does to the running statistics.
    #[track_caller]
    pub fn train<'g>(&self, x: Tensor<'g>) -> (Tensor<'g>, Updates) {
        let y = x.batch_norm(self.eps).affine(self.weight, self.bias, 1);
        let counted = x.graph().read(self.batches) + 1;
        let moved = self.statistics.follow(x).with(self.batches, counted);
        (y, moved)
    }

    /// The output in evaluation.
    #[track_caller]
    #[must_use]
    pub fn eval<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        self.statistics
            .normalize(x, self.eps)
            .affine(self.weight, self.bias, 1)
    }
}
