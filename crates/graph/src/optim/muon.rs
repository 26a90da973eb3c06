//! Muon.

use std::panic::Location;

use super::{Group, Momentum, Rate, at_least_zero, shares, updates};
use crate::graph::Graph;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// What [`muon`] goes by; PyTorch's meanings and defaults.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Muon {
    /// The learning rate.
    pub lr: Rate,
    /// How much of the running mean of the gradient stays.
    pub momentum: f64,
    /// How momentum is applied.
    pub style: Momentum,
    /// Taken off the parameter, times the learning rate and the parameter.
    pub weight_decay: f64,
    /// How a direction is made orthogonal.
    pub orthogonal: Orthogonal,
    /// How the rate depends on the shape of a parameter.
    pub stride: Stride,
}

impl Default for Muon {
    fn default() -> Muon {
        Muon {
            lr: 1e-3.into(),
            momentum: 0.95,
            style: Momentum::Nesterov,
            weight_decay: 0.1,
            orthogonal: Orthogonal::default(),
            stride: Stride::Tall,
        }
    }
}

/// The iteration of Newton and Schulz that moves all singular values of a matrix towards 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Orthogonal {
    /// The number of iterations.
    pub steps: usize,
    /// Of the first, third and fifth power.
    pub coefficients: [f64; 3],
    /// The least norm by which the matrix is divided at first.
    pub eps: f64,
}

impl Default for Orthogonal {
    fn default() -> Orthogonal {
        Orthogonal {
            steps: 5,
            coefficients: [3.4445, -4.775, 2.0315],
            eps: 1e-7,
        }
    }
}

/// By what the rate of a matrix is multiplied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stride {
    /// `sqrt(max(1, rows / columns))`.
    #[default]
    Tall,
    /// `0.2 sqrt(max(rows, columns))`, after which the rate and decay of AdamW fit (Liu et al., 2025,
    /// arXiv:2502.16982).
    LikeAdamW,
}

/// For matrices: `p <- (1 - lr * decay) p - lr * s * o`, where `o` is the running mean of the gradient
/// made nearly orthogonal, and `s` the [`Stride`] (Jordan et al., 2024, <https://kellerjordan.github.io/posts/muon>).
/// The iteration runs in the type of the parameter (`f32` for 16 bits), where PyTorch rounds to `bf16`.
///
/// It is an error if a parameter has not two axes: vectors want another optimizer, as `adamw`, and its
/// updates joined by [`Updates::and`].
#[track_caller]
pub fn muon<'g>(
    graph: &'g Graph,
    parameters: &[Param],
    gradients: &[Tensor<'g>],
    options: Muon,
) -> Updates {
    let pairs = (parameters, gradients);
    updates(graph, "muon", pairs, Location::caller(), |group| {
        build(group, options)
    })
}

fn build(group: &Group<'_>, options: Muon) -> Result<Updates, String> {
    options.lr.check()?;
    shares([("momentum", options.momentum)])?;
    at_least_zero([
        ("weight_decay", options.weight_decay),
        ("eps", options.orthogonal.eps),
    ])?;
    for (parameter, gradient) in &group.pairs {
        if gradient.shape().rank() != 2 {
            let (name, shape) = (group.graph.name(*parameter), gradient.shape());
            return Err(format!(
                "`{name}` is {shape}, and not a matrix; give it to another optimizer"
            ));
        }
    }
    let (rate, counted) = group.rate(options.lr);
    let shrink = -(rate * options.weight_decay) + 1.0;
    let keep = options.momentum;
    Ok(group.each(counted, |slot, updates| {
        let (state, mean) = group.state(slot, "m", 0.0);
        let mean = mean * keep + slot.gradient * (1.0 - keep);
        let direction = match options.style {
            Momentum::Heavy => mean,
            Momentum::Nesterov => slot.gradient * (1.0 - keep) + mean * keep,
        };
        let direction = options.orthogonal.of(direction);
        let rate = rate * options.stride.at(slot.value);
        let value = slot.value * shrink.cast(slot.value.dtype());
        let next = value - direction * rate.cast(value.dtype());
        (next, updates.with(state, mean))
    }))
}

impl Orthogonal {
    /// `x <- a x + (b x x^T + c (x x^T)^2) x`, from a matrix of norm 1 that is not taller than wide.
    fn of(self, matrix: Tensor<'_>) -> Tensor<'_> {
        let [a, b, c] = self.coefficients;
        let tall = matrix.shape().size(0) > matrix.shape().size(1);
        let mut x = if tall { matrix.t() } else { matrix };
        x = x / x.square().sum(..).sqrt().maximum(self.eps);
        for _ in 0..self.steps {
            let gram = x.matmul(x.t());
            x = x * a + (gram * b + gram.matmul(gram) * c).matmul(x);
        }
        if tall { x.t() } else { x }
    }
}

impl Stride {
    fn at(self, matrix: Tensor<'_>) -> f64 {
        let [rows, columns] = [0, 1].map(|axis| matrix.shape().size(axis).max(1) as f64);
        match self {
            Stride::Tall => (rows / columns).max(1.0).sqrt(),
            Stride::LikeAdamW => 0.2 * rows.max(columns).sqrt(),
        }
    }
}
